//! The plan of a run, drawn from the seed before anything happens: the same seed makes the same plan.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use aws_lc_rs::digest;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use relaytrace_client::{Action, Envelope, Priority};
use serde_json::json;

use super::scenario::{Behaviour, Operators, Scenario};
use crate::drill::client::hex;

/// One handoff to come.
#[derive(Clone, Debug)]
pub struct Planned {
    /// When it is to be submitted, after the start.
    pub at: Duration,
    /// Its agent.
    pub agent: usize,
    /// Which of its keys it is submitted with.
    pub key: usize,
    /// How urgent it is.
    pub priority: Priority,
    /// How the agent behaves.
    pub behaviour: Behaviour,
    /// Behaviour of operators.
    pub answer: Answer,
    /// Which operator; the next one races.
    pub operator: usize,
    /// How long that one thinks.
    pub thinks: Duration,
    /// The pause where the agent makes one.
    pub pause: Duration,
    /// How often it is repeated where it is.
    pub repeats: usize,
    /// Bytes of text for the operator.
    pub size: usize,
}

/// An operator's behaviour towards a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One approves.
    Approve,
    /// One rejects.
    Reject,
    /// One approves and another one rejects.
    Race,
    /// Nobody answers.
    Never,
    /// One approves right after the deadline.
    Late,
}

impl Answer {
    /// Whether the question's time will be over.
    pub fn is_too_late(self) -> bool {
        matches!(self, Self::Never | Self::Late)
    }
}

/// The whole plan, in the order of time.
pub fn draw(scenario: &Scenario, seed: u64) -> Vec<Planned> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    arrivals(scenario, &mut random).into_iter().map(|at| handoff(scenario, at, &mut random)).collect()
}

fn arrivals(scenario: &Scenario, random: &mut ChaCha8Rng) -> Vec<Duration> {
    let (mut arrivals, mut at) = (Vec::new(), 0.0);
    loop {
        // The gaps of a Poisson process.
        at -= (1.0 - random.random::<f64>()).ln() / scenario.load.rate;
        if at >= scenario.seconds {
            break;
        }
        arrivals.push(Duration::from_secs_f64(at));
    }
    let period = scenario.load.burst_every_seconds;
    if scenario.load.burst > 0 {
        let bursts =
            std::iter::successors(Some(period), |at| Some(at + period)).take_while(|at| *at < scenario.seconds);
        arrivals.extend(bursts.flat_map(|at| vec![Duration::from_secs_f64(at); scenario.load.burst]));
    }
    arrivals.sort();
    arrivals
}

fn handoff(scenario: &Scenario, at: Duration, random: &mut ChaCha8Rng) -> Planned {
    let Operators { people, think_ms, approve, reject, race, never, late, .. } = scenario.operators;
    let behaviours: Vec<_> = scenario.agents.iter().map(|(behaviour, share)| (*behaviour, *share)).collect();
    let answers = [
        (Answer::Approve, approve),
        (Answer::Reject, reject),
        (Answer::Race, race),
        (Answer::Never, never),
        (Answer::Late, late),
    ];
    let priorities = [(Priority::P1, 10), (Priority::P2, 70), (Priority::P3, 20)];
    Planned {
        at,
        agent: random.random_range(0..scenario.load.agents),
        key: random.random_range(0..scenario.load.keys),
        priority: one_of(&priorities, random.random_range(0..100), Priority::P2),
        behaviour: one_of(&behaviours, random.random_range(0..100), Behaviour::Patient),
        answer: one_of(&answers, random.random_range(0..100), Answer::Approve),
        operator: random.random_range(0..people),
        thinks: Duration::from_millis(random.random_range(think_ms[0]..=think_ms[1])),
        pause: Duration::from_millis(random.random_range(20..500)),
        repeats: random.random_range(3..10),
        size: random.random_range(0..2_000),
    }
}

/// The one whose share holds the drawn number.
fn one_of<T: Copy>(shares: &[(T, u32)], drawn: u32, otherwise: T) -> T {
    let mut below = 0;
    let found = shares.iter().find(|(_, share)| {
        below += share;
        drawn < below
    });
    found.map_or(otherwise, |(one, _)| *one)
}

/// How many there are of each behaviour.
pub fn by_behaviour(plan: &[Planned]) -> BTreeMap<Behaviour, u64> {
    let mut handoffs = BTreeMap::new();
    for planned in plan {
        *handoffs.entry(planned.behaviour).or_default() += 1;
    }
    handoffs
}

/// Says which plan it is.
pub fn digest_of(plan: &[Planned]) -> String {
    let mut text = String::new();
    for planned in plan {
        let _ = writeln!(text, "{planned:?}");
    }
    hex(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..8])
}

impl Planned {
    /// The envelope.
    pub fn envelope(&self, client_request_key: &str) -> Envelope {
        let cents = self.size * 7 + 100;
        let action = Action::new(
            "refund.create",
            json!({"order": client_request_key, "amount": format!("{}.{:02}", cents / 100, cents % 100), "currency": "EUR"}),
        );
        Envelope {
            summary: Some("The parcel came back **unopened**. ".repeat(self.size / 36)).filter(|text| !text.is_empty()),
            context: Some(json!({"customer": {"since": 2019, "tier": "business"}, "charges": self.repeats})),
            resume: Some(json!({"ticket": client_request_key, "step": self.repeats})),
            ..Envelope::new(client_request_key, self.priority, &format!("Refund of order {client_request_key}"), action)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline() -> Scenario {
        Scenario::find("baseline").unwrap().1
    }

    #[test]
    fn the_same_seed_is_the_same_plan_and_another_is_not() {
        let digests = [1, 1, 2].map(|seed| digest_of(&draw(&baseline(), seed)));
        assert_eq!(digests[0], digests[1]);
        assert_ne!(digests[1], digests[2]);
    }

    #[test]
    fn arrivals_have_the_asked_rate_and_every_share_is_drawn() {
        let scenario = Scenario { seconds: 1_000.0, ..baseline() };
        let plan = draw(&scenario, 3);
        let expected = scenario.load.rate * 1_000.0;
        #[expect(clippy::cast_precision_loss, reason = "thousands")]
        let ratio = plan.len() as f64 / expected;
        assert!((0.95..1.05).contains(&ratio), "{ratio}");
        assert!(plan.is_sorted_by_key(|planned| planned.at));
        for behaviour in scenario.agents.keys() {
            assert!(plan.iter().any(|planned| planned.behaviour == *behaviour), "{behaviour:?}");
        }
    }
}
