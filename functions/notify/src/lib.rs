//! `notify`: tells people by channels and in their browsers, and agents by push, what has happened.
//!
//! Its queue is filled by the statement that deletes events from the outbox, so that NATS loses nothing of it. Each listener
//! is told at least once, and knows a repetition by its id. Any number of notifiers may run: what one has taken, others
//! leave alone until its lease ends.

mod teller;

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use relaytrace_domain::{Error, Result};
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Problem, Routes};
use relaytrace_service::{AppState, DatabaseAuthority};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use teller::Teller;

/// Pause between two looks at an empty queue.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A run on demand takes nothing new after so long; the next one goes on.
const RUN: Duration = Duration::from_secs(15);

/// The counts of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct NotifyReport {
    /// Events that were dealt out to those who listen.
    pub dealt_out: u64,
    /// Messages that were taken.
    pub told: u64,
    /// Tries that failed and are repeated.
    pub failed: u64,
    /// Messages that became dead letters.
    pub dead_lettered: u64,
}

impl NotifyReport {
    fn add(&mut self, other: Self) {
        self.dealt_out += other.dealt_out;
        self.told += other.told;
        self.failed += other.failed;
        self.dead_lettered += other.dead_lettered;
    }

    fn log(&self) {
        tracing::info!(
            dealt_out = self.dealt_out,
            told = self.told,
            failed = self.failed,
            dead_lettered = self.dead_lettered,
            "notified"
        );
    }
}

/// The routes of this function.
pub fn router() -> Routes {
    relaytrace_service::routes!(notify).needing(DatabaseAuthority::Ops, |needs| needs.channels().mail().web_push())
}

/// Tell what is due
///
/// Of all tenants: for administrators of the deployment's own, which is `default` unless `DEFAULT_TENANT` says otherwise.
#[utoipa::path(
    post, path = "/internal/notify", tag = "notify", security(("admin" = [])),
    responses(
        (status = 200, description = "What it did", body = NotifyReport),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
async fn notify(Admin(scope): Admin, State(state): State<AppState>) -> Result<Json<NotifyReport>> {
    state.admit_to_deployment(&scope)?;
    // A caller that hangs up must not leave tries without their result.
    let run = tokio::spawn(run_once(state));
    run.await.unwrap_or_else(|panic| Err(Error::internal(panic))).map(Json)
}

/// One run: until nothing is due, or its time is over. Logs only if something happened.
///
/// # Errors
/// Postgres is away: what was tried and could not be noted is tried again.
pub async fn run_once(state: AppState) -> Result<NotifyReport> {
    let working = state.working.clone();
    let _working = working.read().await;
    let until = Instant::now() + RUN;
    let mut teller = Teller::new(state);
    let mut report = NotifyReport::default();
    loop {
        let (step, has_more) = teller.step(Instant::now() < until).await?;
        report.add(step);
        if !has_more {
            break;
        }
        teller.wait(LOOK_EVERY).await;
    }
    if report != NotifyReport::default() {
        report.log();
    }
    Ok(report)
}

/// Tells what is due as long as the process runs.
pub async fn work(state: AppState) {
    let working = state.working.clone();
    let _working = working.read().await;
    let mut teller = Teller::new(state.clone());
    loop {
        let is_stopping = state.events.is_stopping();
        let has_more = match teller.step(!is_stopping).await {
            Ok((report, has_more)) => {
                if report != NotifyReport::default() {
                    report.log();
                }
                has_more
            }
            Err(error) => {
                tracing::warn!(error = %error, "a look at what is to be told failed; the next goes on");
                !is_stopping
            }
        };
        if is_stopping && !has_more {
            return;
        }
        teller.wait(LOOK_EVERY).await;
    }
}
