//! kill -9 of the service while its statements hold many callers' rows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::agent::Agent;
use crate::drill::history::Record;
use crate::drill::judge::judge;
use crate::drill::load::{Load, lost_calls};
use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::{Inconclusive, Verdict, enough};

/// Whole handoffs beside the submissions: agents, and how many of each hand over at the same time.
const AGENTS: usize = 8;
const WIDTH: usize = 4;
/// Those that only submit, at the same time: twice what a statement takes.
const SUBMITTERS: usize = 128;
/// Submissions that are answered between two kills, at the least.
const BETWEEN: u64 = 64;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    scene.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")?;
    // Short leases: what was handed to nobody is handed out again soon.
    let mut service = scene.start_service(&[("LEASE_SECONDS", "1")]).await?;
    let agents = scene.agents(&service, AGENTS).await?;
    scene.sql("SELECT pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = current_database()")?;
    let load = Load::start(scene, &service, agents, WIDTH);
    let crowd = Crowd::start(scene, &service, &load.agents());
    for _ in 0..scene.count {
        crowd.wait_for_more(BETWEEN).await?;
        let moment = rand::rng().random_range(0..30);
        sleep(Duration::from_millis(moment)).await;
        service.kill()?;
        service.spawn()?;
    }
    crowd.finish().await;
    load.finish(scene, Duration::from_mins(2)).await?;
    let rows = rows_of_statements(scene)?;
    judge_wholeness(scene)?;
    let findings = judge(scene).await?;
    let lost = lost_calls(&scene.history);
    // Written, and killed before the answer: the same bytes again found them.
    let unanswered = scene.history.count(|record| matches!(record, Record::Submitted { duplicate: true, .. }));
    let verdict = findings.verdict(&format!(
        "{} kills, {rows:.1} submissions a statement, {lost} calls cut off, {unanswered} submissions stored without an \
         answer",
        scene.count
    ))?;
    enough(findings.submitted, BETWEEN * scene.count, "submissions")?;
    enough(lost, scene.count * 10, "calls cut off")?;
    ensure!(rows >= 4.0, Inconclusive(format!("{rows:.1} submissions a statement, at least 4 are needed")));
    Ok(verdict)
}

/// Submitters that nobody answers.
struct Crowd {
    submitters: JoinSet<()>,
    submitting: Arc<AtomicBool>,
    submitted: Arc<AtomicU64>,
}

impl Crowd {
    fn start(scene: &Scene<'_>, service: &Service, agents: &Arc<Vec<Agent>>) -> Self {
        let mut submitters = JoinSet::new();
        let (submitting, submitted) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
        for number in 0..SUBMITTERS {
            let (agents, mut client) = (agents.clone(), scene.client(service));
            let (submitting, submitted) = (submitting.clone(), submitted.clone());
            submitters.spawn(async move {
                for turn in 0_u64.. {
                    if !submitting.load(Ordering::Relaxed) {
                        return;
                    }
                    let agent = &agents[number % agents.len()];
                    client.submit_until_answered(agent, &format!("crowd-{number}-{turn}")).await;
                    submitted.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Self { submitters, submitting, submitted }
    }

    async fn wait_for_more(&self, more: u64) -> Result<()> {
        const LONGEST: Duration = Duration::from_mins(1);
        let (begun, enough) = (Instant::now(), self.submitted.load(Ordering::Relaxed) + more);
        while self.submitted.load(Ordering::Relaxed) < enough {
            ensure!(begun.elapsed() < LONGEST, "{more} submissions were not answered within {LONGEST:?}");
            sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn finish(mut self) {
        self.submitting.store(false, Ordering::Relaxed);
        while self.submitters.join_next().await.is_some() {}
    }
}

/// Rows that statements of submissions had, on average, also those that a key or a kill left with fewer.
fn rows_of_statements(scene: &Scene<'_>) -> Result<f64> {
    let rows = "SELECT COALESCE(sum(s.rows) * 10 / NULLIF(sum(s.calls), 0), 0)::bigint FROM pg_stat_statements s
        WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND s.query LIKE '/* relaytrace: submit */%'";
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    Ok(scene.number(rows)? as f64 / 10.0)
}

/// Every request has all that is written with it, and nothing is there without its request.
fn judge_wholeness(scene: &Scene<'_>) -> Result<()> {
    let halves = "SELECT count(*) FROM hitl_requests r
        FULL JOIN request_envelopes e USING (request_id)
        FULL JOIN request_dedupe d USING (request_id)
        FULL JOIN (SELECT request_id FROM approval_chain WHERE seq = 1) c USING (request_id)
        FULL JOIN (SELECT request_id FROM hitl_decisions) h USING (request_id)
        FULL JOIN (SELECT request_id FROM deliveries) v USING (request_id)
        WHERE r.request_id IS NULL OR e.request_id IS NULL OR d.request_id IS NULL OR c.request_id IS NULL
            OR (r.status = 'decided') <> (h.request_id IS NOT NULL) OR (h.request_id IS NULL) <> (v.request_id IS NULL)";
    let halves = scene.number(halves)?;
    ensure!(halves == 0, "{halves} requests are written in part");
    Ok(())
}
