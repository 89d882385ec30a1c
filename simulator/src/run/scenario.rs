//! Scenarios: small TOML files that say who comes, how often, what breaks, and what has to be measured.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

/// A scenario.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One line: what it plays.
    pub title: String,
    /// How long agents come, in seconds.
    pub seconds: f64,
    /// Longest time after that until everything is decided, delivered and acknowledged, in seconds.
    pub drain_seconds: f64,
    /// Criteria that it must measure; one of these without a measurement is not met. The others are judged where they
    /// happen to be measured, except 4 and 9, which mean something only without faults.
    pub criteria: Vec<u8>,
    /// How often agents submit, and how they behave.
    pub load: Load,
    /// How many in a hundred agents behave how.
    pub agents: BTreeMap<Behaviour, u32>,
    /// Behaviour of operators.
    pub operators: Operators,
    /// The stack that it needs, if not any will do.
    #[serde(default)]
    pub stack: Stack,
    /// The faults.
    #[serde(default)]
    pub faults: Vec<Fault>,
}

/// How often agents submit, and how they behave. Arrivals are open-loop: none waits for another.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Load {
    /// Registered agents.
    pub agents: usize,
    /// Keys of each, used in turn.
    pub keys: usize,
    /// Handoffs in a second, on average (a Poisson process).
    pub rate: f64,
    /// So many more at the same moment …
    #[serde(default)]
    pub burst: usize,
    /// … each time so many seconds are over.
    #[serde(default)]
    pub burst_every_seconds: f64,
}

/// How an agent behaves in one handoff.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "snake_case")]
pub enum Behaviour {
    /// Submits, waits, verifies, acknowledges.
    Patient,
    /// Loses its memory after the submission, submits again, goes on.
    Forgetful,
    /// Loses its memory when it has the decision and before it says so; starts again.
    Crashing,
    /// Asks for the decision again later, once.
    Deferring,
    /// Can never act on the decision: a dead letter.
    Failing,
    /// Withdraws its question, perhaps too late.
    Cancelling,
    /// Looks only now and then, without waiting.
    Slow,
    /// Asks, waits and acknowledges several times at once.
    Greedy,
    /// Repeats its submission again and again, before and after the decision.
    Stormy,
    /// Sends what the contract refuses: broken bodies, changed envelopes, acknowledgements too late.
    Buggy,
    /// Wrong tokens, other agents' paths, broken nonces; and an honest handoff in between.
    Hostile,
}

/// Behaviour of operators.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Operators {
    /// How many there are, at most 50 on a stack of its own.
    pub people: usize,
    /// Shortest and longest time to think, in milliseconds.
    pub think_ms: [u64; 2],
    /// In a hundred: approved.
    pub approve: u32,
    /// In a hundred: rejected.
    pub reject: u32,
    /// In a hundred: approved by one and rejected by another at the same moment.
    #[serde(default)]
    pub race: u32,
    /// In a hundred: nobody answers.
    #[serde(default)]
    pub never: u32,
    /// In a hundred: answered right after the deadline.
    #[serde(default)]
    pub late: u32,
    /// How long agents give for what will not be answered in time, in seconds.
    #[serde(default = "five")]
    pub respond_within_seconds: f64,
}

fn five() -> f64 {
    5.0
}

/// The stack that a scenario needs.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Stack {
    /// Every function a process of its own, behind one address.
    pub separate_functions: bool,
    /// Variables of the functions that differ from the defaults.
    pub environment: BTreeMap<String, String>,
}

/// Something that breaks.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When, in seconds after the first arrival.
    pub at: f64,
    /// What breaks.
    pub what: Break,
    /// How long until it is started again, in seconds.
    #[serde(default)]
    pub for_seconds: f64,
}

/// The kinds of faults.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// SIGKILL to NATS.
    NatsKilled,
    /// `pg_ctl stop -m immediate`.
    PostgresStopped,
    /// SIGKILL to all of Postgres.
    PostgresKilled,
    /// SIGTERM to one function after the other, each started again.
    FunctionsRestarted,
    /// SIGKILL to one function after the other, each started again.
    FunctionsKilled,
}

/// The scenarios that come with the simulator, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("baseline", include_str!("../../scenarios/baseline.toml")),
    ("burst", include_str!("../../scenarios/burst.toml")),
    ("retry-storm", include_str!("../../scenarios/retry-storm.toml")),
    ("operator-absence", include_str!("../../scenarios/operator-absence.toml")),
    ("nats-outage", include_str!("../../scenarios/nats-outage.toml")),
    ("database-restart", include_str!("../../scenarios/database-restart.toml")),
    ("rolling-restart", include_str!("../../scenarios/rolling-restart.toml")),
    ("hostile-agents", include_str!("../../scenarios/hostile-agents.toml")),
    ("soak", include_str!("../../scenarios/soak.toml")),
    ("smoke", include_str!("../../scenarios/smoke.toml")),
];

impl Scenario {
    /// The scenario of this name, or in this file; and what to call it.
    pub fn find(name: &str) -> Result<(String, Self)> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Ok(((*name).to_owned(), Self::parse(text).with_context(|| format!("scenario {name}"))?));
        }
        let path = Path::new(name);
        ensure!(path.extension().is_some(), "there is no scenario {name}; there are: {}", names());
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read the scenario {name}"))?;
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
        // It names a database and agents.
        let plain: String = stem.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(30).collect();
        Ok((format!("own-{plain}"), Self::parse(&text).with_context(|| format!("{name} is no scenario"))?))
    }

    /// Reads a scenario, and refuses one that cannot be played.
    pub fn parse(text: &str) -> Result<Self> {
        let scenario: Self = toml::from_str(text)?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<()> {
        let Self { seconds, drain_seconds, load, operators, agents, criteria, faults, .. } = self;
        ensure!((0.1..=86_400.0).contains(seconds), "seconds: {seconds} is not between 0.1 and 86400");
        ensure!((0.0..=3_600.0).contains(drain_seconds), "drain_seconds: {drain_seconds} is not between 0 and 3600");
        ensure!((1..=1_000).contains(&load.agents), "load.agents: {} is not between 1 and 1000", load.agents);
        ensure!((1..=10).contains(&load.keys), "load.keys: {} is not between 1 and 10", load.keys);
        ensure!((0.01..=10_000.0).contains(&load.rate), "load.rate: {} is not between 0.01 and 10000", load.rate);
        let has_period = (0.1..=86_400.0).contains(&load.burst_every_seconds);
        ensure!(load.burst == 0 || has_period, "load.burst needs a load.burst_every_seconds of 0.1 at the least");
        ensure!(load.burst <= 10_000, "load.burst: {} is more than 10000", load.burst);
        ensure!(agents.values().sum::<u32>() == 100, "agents: the shares must be 100 together");
        let Operators { approve, reject, race, never, late, .. } = operators;
        let answers: u64 = [approve, reject, race, never, late].into_iter().map(|share| u64::from(*share)).sum();
        ensure!(answers == 100, "operators: approve, reject, race, never and late must be 100 together");
        ensure!((2..=50).contains(&operators.people), "operators.people: {} is not between 2 and 50", operators.people);
        let [shortest, longest] = operators.think_ms;
        ensure!(
            shortest <= longest && longest <= 600_000,
            "operators.think_ms must be [shortest, longest], up to 600000"
        );
        let within = operators.respond_within_seconds;
        ensure!(
            (0.5..=3_600.0).contains(&within),
            "operators.respond_within_seconds: {within} is not between 0.5 and 3600"
        );
        ensure!(criteria.iter().all(|number| (1..=9).contains(number)), "criteria: there are 1 to 9");
        for Fault { at, for_seconds, what } in faults {
            let ends = at + for_seconds;
            ensure!(*at >= 0.0 && *for_seconds >= 0.0 && ends.is_finite(), "faults: {what:?} has no possible time");
            ensure!(
                ends <= *seconds,
                "faults: {what:?} at {at} for {for_seconds} s ends after the {seconds} s of the run"
            );
        }
        Ok(())
    }

    /// Changes how long agents come, and how often.
    pub fn shorten(&mut self, seconds: Option<f64>, rate: Option<f64>) -> Result<()> {
        self.seconds = seconds.unwrap_or(self.seconds);
        self.load.rate = rate.unwrap_or(self.load.rate);
        self.check()
    }

    /// How long agents come.
    pub fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    /// Why it can be played only on a stack of its own, if that is so.
    pub fn needs_own_stack(&self) -> Option<&'static str> {
        if !self.faults.is_empty() {
            Some("it breaks servers")
        } else if self.stack.separate_functions {
            Some("it says how the functions run")
        } else {
            None
        }
    }
}

/// The names of all scenarios, in a line.
fn names() -> String {
    BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ")
}

/// Prints the list.
pub fn list() -> Result<()> {
    for (name, text) in BUILT_IN {
        let scenario = Scenario::parse(text).with_context(|| format!("scenario {name}"))?;
        let own = if scenario.needs_own_stack().is_some() { "; on a stack of its own only" } else { "" };
        println!("{name:<18} {} ({} s{own})", scenario.title, scenario.seconds);
    }
    Ok(())
}

/// A name for people where the program's own would need explaining.
pub fn described(what: Break) -> &'static str {
    match what {
        Break::NatsKilled => "kill -9 of NATS",
        Break::PostgresStopped => "Postgres stopped at once",
        Break::PostgresKilled => "kill -9 of Postgres",
        Break::FunctionsRestarted => "functions restarted one by one",
        Break::FunctionsKilled => "kill -9 of the functions one by one",
    }
}

/// Refuses a scenario for a service that is not ours to break.
pub fn check_reach(name: &str, scenario: &Scenario) -> Result<()> {
    if let Some(why) = scenario.needs_own_stack() {
        bail!("{name} cannot be played against a service that runs elsewhere: {why}. Leave --url out.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scenarios_that_come_along_can_be_played() {
        for (name, text) in BUILT_IN {
            Scenario::parse(text).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        }
    }

    #[test]
    fn an_impossible_scenario_says_what_is_impossible() {
        let smoke = include_str!("../../scenarios/smoke.toml");
        let changes = [
            ("seconds = 4", "seconds = -4", "seconds: -4"),
            ("patient = ", "patient = 7", "together"),
            ("agents = 6", "agents = 0", "load.agents: 0"),
            ("rate = ", "rate = nan #", "load.rate: NaN"),
            ("rate = ", "speed = ", "unknown field `speed`"),
            ("criteria = [", "criteria = [10, ", "1 to 9"),
            ("think_ms = [", "think_ms = [9999999, ", "think_ms"),
        ];
        for (from, to, said) in changes {
            let changed = smoke.replacen(from, to, 1);
            assert_ne!(smoke, changed, "{from}");
            let error = format!("{:#}", Scenario::parse(&changed).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
    }
}
