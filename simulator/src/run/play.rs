//! Plays a scenario: agents come, operators answer, servers break; then everything is read back and judged.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, TimeDelta, Utc};
use relaytrace_client::{Client, Error, Patience};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, sleep_until, timeout};

use super::audit::{self, Audit};
use super::cohort;
use super::criteria::{self, Evidence};
use super::environment::Environment;
use super::ledger::{Book, Ledger, Timed, now};
use super::plan;
use super::proofs::{self, Offline, Tampered};
use super::report::{Latency, Report};
use super::scenario::Scenario;
use super::stage::{Happened, Stage};
use super::stop::Stop;
use super::target::Target;
use super::world::{Witness, World};
use super::{attendants, handoff, operators, progress};

/// How far the clock of a service that runs elsewhere may be off without our noticing.
const CLOCKS_ELSEWHERE: TimeDelta = TimeDelta::milliseconds(1_500);
/// Violations that a report tells in full.
const TOLD: usize = 20;

/// What to play.
pub struct Play {
    /// Name of the scenario.
    pub name: String,
    /// What is in it.
    pub scenario: Scenario,
    /// What the plan is drawn from.
    pub seed: u64,
    /// Everything is read back and judged; else it is only timed.
    pub is_judged: bool,
}

/// How far a run came.
#[derive(Default)]
struct Course {
    happened: Vec<Happened>,
    interrupted: Option<String>,
    began: DateTime<Utc>,
    seconds: f64,
}

impl Play {
    /// Plays it to its end, or until it is stopped.
    pub async fn run(&self, target: Target, stage: Option<&mut Stage<'_>>, stop: &Stop) -> Result<Report> {
        let environment = Environment::read(stage.as_deref());
        target.check().await?;
        let (world, questions) = self.prepare(target).await?;
        let is_own = stage.is_some();
        let mut course = match first_response(&world).await? {
            Some(why) => Course { interrupted: Some(why), began: now(), ..Course::default() },
            None => self.course(&world, questions, stage, stop).await?,
        };
        let mut findings = Findings::default();
        if self.is_judged && course.interrupted.is_none() {
            let found = stop.or(findings_of(&world, self.seed)).await;
            match found {
                Some(found) => findings = found?,
                None => course.interrupted = Some("it was stopped while it read everything back".to_owned()),
            }
        }
        let mut report = self.report(&world, course, &findings, environment, is_own);
        if !self.is_judged {
            report.verdicts.clear();
        }
        Ok(report)
    }

    async fn prepare(&self, target: Target) -> Result<(Arc<World>, mpsc::UnboundedReceiver<super::world::Question>)> {
        let Self { name, scenario, seed, .. } = self;
        let plan = plan::draw(scenario, *seed);
        let prefix = format!("sim-{name}");
        let cohort = cohort::register(&target, &prefix, scenario.load.agents, scenario.load.keys).await?;
        let some = cohort.first().and_then(|agent| agent.keys.first()).context("a scenario has agents")?;
        let receipt_keys = some.client.receipt_keys().await.context("the receipt keys cannot be read")?;
        let (sender, questions) = mpsc::unbounded_channel();
        let ledger = Arc::new(Ledger::new(plan.len()));
        let questions_to = Mutex::new(Some(sender));
        let scenario = scenario.clone();
        Ok((
            Arc::new(World { target, scenario, plan, cohort, ledger, receipt_keys, questions: questions_to }),
            questions,
        ))
    }

    /// From the first arrival until everybody is through, or nobody waits any longer.
    async fn course(
        &self,
        world: &Arc<World>,
        questions: mpsc::UnboundedReceiver<super::world::Question>,
        stage: Option<&mut Stage<'_>>,
        stop: &Stop,
    ) -> Result<Course> {
        let began = now();
        world.ledger.begin();
        let begun = world.ledger.begun();
        let mut others = JoinSet::new();
        others.spawn(attendants::sweep(world.clone()));
        others.spawn(attendants::watch(world.clone()));
        others.spawn(progress::show(self.name.clone(), world.ledger.clone(), world.plan.len()));
        let people = Aborted(tokio::spawn(operators::attend(world.clone(), questions)));
        let agents = Aborted(tokio::spawn(arrive(world.clone())));

        let mut happened = Vec::new();
        let played = stop.or(async {
            if let Some(stage) = stage {
                happened = stage.break_all(&self.scenario.faults, begun).await?;
            }
            let patience = Duration::from_secs_f64(self.scenario.drain_seconds);
            sleep_until(begun + self.scenario.duration()).await;
            // What has not happened after that, the audit finds.
            drop(timeout(patience, through(world)).await);
            world.close();
            drop(timeout(patience, people.ended()).await);
            anyhow::Ok(())
        });
        let interrupted = match played.await {
            Some(played) => played.map(|()| None)?,
            None => Some("it was stopped before its end".to_owned()),
        };
        drop(agents);
        others.shutdown().await;
        Ok(Course { happened, interrupted, began, seconds: begun.elapsed().as_secs_f64() })
    }

    fn report(
        &self,
        world: &World,
        course: Course,
        findings: &Findings,
        environment: Environment,
        is_own: bool,
    ) -> Report {
        let Self { name, scenario, seed, .. } = self;
        let book = world.ledger.open();
        let verdicts = criteria::judge(&Evidence {
            scenario,
            plan: &world.plan,
            book: &book,
            audit: findings.audit.as_ref(),
            tampered: &findings.tampered,
            offline: &findings.offline,
            clocks: if is_own { TimeDelta::zero() } else { CLOCKS_ELSEWHERE },
            is_cut_short: course.interrupted.is_some(),
        });
        Report {
            scenario: name.clone(),
            title: scenario.title.clone(),
            seed: *seed,
            plan: plan::digest_of(&world.plan),
            target: if is_own { "a stack of its own".to_owned() } else { world.target.base_url.clone() },
            began: course.began.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            seconds: course.seconds,
            interrupted: course.interrupted,
            environment,
            verdicts,
            faults: course.happened,
            handoffs: plan::by_behaviour(&world.plan),
            counts: book.counts.iter().map(|(what, count)| ((*what).to_owned(), *count)).collect(),
            latencies: latencies(&book),
            timeline: book.seconds.clone(),
            queue: book.depths.clone(),
            violations: book.violations.iter().take(TOLD).cloned().collect(),
            processes: Vec::new(),
        }
    }
}

/// What was found when everything was read back.
#[derive(Default)]
struct Findings {
    audit: Option<Audit>,
    tampered: Tampered,
    offline: Offline,
}

async fn findings_of(world: &Arc<World>, seed: u64) -> Result<Findings> {
    let audit = audit::read(world).await.context("not everything could be read back")?;
    let world = world.clone();
    let judged = tokio::task::spawn_blocking(move || {
        let folder = TempDir::new()?;
        let samples = world.ledger.open().samples.clone();
        let tampered = proofs::tamper(&world.cohort, &samples, seed);
        let offline = proofs::verify_offline(&audit, folder.path()).context("the offline verifier could not be run")?;
        anyhow::Ok(Findings { audit: Some(audit), tampered, offline })
    });
    judged.await?
}

/// Whether agents can tell that responses are the service's own: why not, if the first one cannot be verified.
async fn first_response(world: &World) -> Result<Option<String>> {
    let first = world.cohort.first().and_then(|agent| agent.keys.first()).context("a scenario has agents")?;
    let once = Patience { in_all: Duration::ZERO, ..Patience::default() };
    let client = Client::with_patience(&world.target.base_url, first.credentials.clone(), once)?;
    let client = client.observed(Arc::new(Witness::new(world.ledger.clone(), (0, 0), None)));
    match client.poll(Duration::ZERO, 1, &[]).await {
        Ok(_) => Ok(None),
        Err(Error::NoAnswer { last, .. }) if world.ledger.open().violations.iter().any(|seen| seen.criterion == 7) => {
            Ok(Some(format!("an agent cannot tell that responses are the service's own: {last}")))
        }
        Err(error) => Err(error).context("an agent that was registered a moment ago cannot poll"),
    }
}

/// Everybody comes when it is planned, whatever became of those before: an open loop.
async fn arrive(world: Arc<World>) {
    let begun = world.ledger.begun();
    let mut agents = JoinSet::new();
    for (index, planned) in world.plan.iter().enumerate() {
        sleep_until(begun + planned.at).await;
        agents.spawn(handoff::play(world.clone(), index));
        while agents.try_join_next().is_some() {}
    }
    while agents.join_next().await.is_some() {}
}

/// Until every handoff is over.
async fn through(world: &World) {
    while world.ledger.open().over < world.plan.len() {
        sleep(Duration::from_millis(50)).await;
    }
}

fn latencies(book: &Book) -> std::collections::BTreeMap<String, Latency> {
    let name = |what: Timed| match what {
        Timed::Submit => "submission to answer",
        Timed::Decide => "decision to answer",
        Timed::DecisionToAgent => "decision to waiting agent",
        Timed::Acknowledge => "acknowledgement to answer",
    };
    let mut all: std::collections::BTreeMap<_, _> =
        book.times.iter().map(|(what, times)| (name(*what).to_owned(), Latency::of(times))).collect();
    if let Some(times) = criteria::decision_times(book) {
        all.insert(name(Timed::DecisionToAgent).to_owned(), Latency::of(&times));
    }
    all
}

/// A task that ends with the run.
struct Aborted<T>(JoinHandle<T>);

impl<T> Aborted<T> {
    async fn ended(&self) {
        while !self.0.is_finished() {
            sleep(Duration::from_millis(20)).await;
        }
    }
}

impl<T> Drop for Aborted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
