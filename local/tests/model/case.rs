//! One history: each command is sent to the real functions, and its answer and the state after it compared.

mod checking;
pub mod sending;

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail, ensure};
use chrono::DateTime;
use relaytrace_domain::Timestamp;
use relaytrace_service::config::TimeoutRules;
use relaytrace_service::http::Routes;
use relaytrace_testing::{Answer, TestAgent, TestApp, until};
use relaytrace_verify::{attestation_keys, verify_attestations, verify_chain};
use serde_json::{Value, json};
use sqlx::PgPool;
use timeout_sweep::SweepReport;

use self::checking::check_problem;
use crate::commands::{Advance, Command, Fault};
use crate::model::{AGENTS, CAPS, Expected, MAX_ATTEMPTS, Micros, Model};
use crate::observed::{self, event_id, same};

fn routes() -> Routes {
    ingest::router()
        .merge(decide::router())
        .merge(poll::router())
        .merge(admin::router())
        .merge(replay::router())
        .merge(timeout_sweep::router())
}

/// The real thing, for all cases.
pub struct Real {
    app: TestApp,
    agents: [TestAgent; 2],
}

impl Real {
    /// With the policies that the model knows.
    pub async fn new(owner: &PgPool) -> Result<Self> {
        observed::prepare(owner).await?;
        let delivery = relaytrace_domain::DeliveryRules { max_attempts: MAX_ATTEMPTS, ..Default::default() };
        let mut app = TestApp::delivering(owner, routes(), delivery);
        app.state.timeouts = TimeoutRules { allow_auto_approve: true };
        app.router = relaytrace_service::http::service(routes(), app.state.clone());
        let agents = [app.agent(AGENTS[0]).await, app.agent(AGENTS[1]).await];
        let of = |agent: usize, action_type: &str, priority: &str, seconds: i64| {
            json!({"agent_id": AGENTS[agent], "action_type": action_type, "priority": priority,
                "respond_within_seconds": seconds})
        };
        let raised = json!({"on_timeout": "raise", "permit_seconds": 60, "consume": "required", "approvals": 2});
        let approved = json!({"on_timeout": "auto_approve", "permit_seconds": 600});
        let with = |mut policy: Value, changes: &Value| {
            policy.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
            policy
        };
        let escalated = |policy, percent: u8| with(policy, &json!({"escalate_after_percent": percent}));
        for policy in [
            escalated(with(of(0, "raised", "P3", 3_600), &raised), 50),
            escalated(with(of(0, "raised", "P2", 1_800), &raised), 30),
            with(of(0, "approved", "P3", 2_400), &approved),
            with(of(0, "approved", "P2", 1_200), &approved),
            with(of(1, "bounded", "P3", 86_400), &json!({"lowest_priority": "P2"})),
            escalated(with(of(1, "plain", "P2", 14_400), &json!({"approvals": 3})), 50),
        ] {
            let answer = app.call("PUT", "/v1/admin/timeout-policies", &app.person("root", &["admin"]), &policy).await;
            ensure!(answer.status == 200, "{policy}: {}", String::from_utf8_lossy(&answer.bytes));
        }
        let caps = json!({"max_pending": CAPS.0, "max_pending_p1": CAPS.1});
        let path = format!("/v1/admin/agents/{}", AGENTS[1]);
        let capped = app.call("PATCH", &path, &app.person("root", &["admin"]), &caps).await;
        same("status", &capped.status.as_u16(), &200)?;
        Ok(Self { app, agents })
    }

    /// Runs a history; the first difference ends it.
    pub async fn run(&self, history: &[(Command, Fault)]) -> Result<()> {
        observed::empty(&self.app.owner).await?;
        let model = Model::starting_at(self.app.now().timestamp_micros());
        let mut case = Case { app: &self.app, agents: &self.agents, model, stream: HashMap::new() };
        for (number, (command, fault)) in history.iter().enumerate() {
            let done = case.step(command, *fault).await;
            done.with_context(|| format!("command {number}, {command:?} with {fault:?}"))?;
        }
        case.finish().await.context("at the end")
    }
}

struct Case<'a> {
    app: &'a TestApp,
    agents: &'a [TestAgent; 2],
    model: Model,
    /// What was published, by id.
    stream: HashMap<String, Vec<u8>>,
}

/// What a command gave.
enum Got {
    Nothing,
    Answer(Answer),
    Swept(relaytrace_domain::Result<SweepReport>),
    Claimed(Vec<String>),
}

fn timestamp(at: Micros) -> String {
    Timestamp(DateTime::from_timestamp_micros(at).expect("a time")).to_string()
}

fn title(number: usize) -> String {
    format!("Refund 12.40 EUR, take {number}")
}

impl Case<'_> {
    async fn step(&mut self, command: &Command, fault: Fault) -> Result<()> {
        let owner = &self.app.owner;
        // A session that dies holds its rows a moment longer than its client hears of it, and the sweep's next part, like any
        // poll, passes over rows that are held. What an interrupted sweep leaves, the drills look at.
        let fault =
            if matches!((command, fault), (Command::Sweep, Fault::ConnectionLost)) { Fault::Aborted } else { fault };
        match fault {
            Fault::None => {}
            // The scheduler and whoever publishes wait for no answer.
            Fault::AnswerLost if matches!(command, Command::Publish { .. }) => {}
            Fault::AnswerLost => self.lose_answer(command).await?,
            // Where nothing is written nothing can fail.
            _ if !self.writes(command) => {}
            _ if is_hidden(command, fault) => observed::arm(owner, fault).await?,
            _ => {
                observed::arm(owner, fault).await?;
                let refused = self.send(command).await;
                observed::disarm(owner).await?;
                until(async || observed::is_at_rest(owner).await.expect("an answer")).await;
                self.check_refused(command, fault, refused?)?;
                self.compare().await.context("after it failed")?;
            }
        }
        let before = self.model.clone();
        let expected = self.model.perform(command);
        let got = self.send_as(&before, command).await?;
        observed::disarm(&self.app.owner).await?;
        self.check(&before, expected, got).await
    }

    fn writes(&self, command: &Command) -> bool {
        let mut after = self.model.clone();
        match after.perform(command) {
            Expected::Polled { due, .. } => !due.is_empty(),
            _ => after.requests != self.model.requests,
        }
    }

    fn check_refused(&mut self, command: &Command, fault: Fault, got: Got) -> Result<()> {
        let (status, code) = if fault == Fault::Broken { (500, "internal") } else { (503, "unavailable") };
        match got {
            // The order is stored; what it orders is done when it is said again, or by a sweep.
            Got::Answer(answer) if matches!(command, Command::Replay { .. }) => {
                same("status", &answer.status.as_u16(), &202)?;
                same("state", &answer.json()["state"], &json!("running"))
            }
            Got::Answer(answer) => check_problem(&answer, status, code),
            Got::Swept(Err(relaytrace_domain::Error::Unavailable(_))) => {
                self.model.sweep_without_first();
                Ok(())
            }
            Got::Swept(report) => bail!("a sweep that met {fault:?} said {report:?}"),
            Got::Nothing | Got::Claimed(_) => bail!("{command:?} writes nothing"),
        }
    }

    /// Done, and nobody heard of it.
    async fn lose_answer(&mut self, command: &Command) -> Result<()> {
        let before = self.model.clone();
        let expected = self.model.perform(command);
        let got = self.send_as(&before, command).await?;
        // A new request is known to its agent by its key alone; here its id is needed to compare.
        if let (Expected::Request(201, request), Got::Answer(answer)) = (&expected, &got) {
            ensure!(answer.status == 201, "{}", String::from_utf8_lossy(&answer.bytes));
            self.model.requests[*request].id = answer.json()["request_id"].as_str().map(str::to_owned);
        }
        if let Expected::Polled { due, .. } = &expected {
            self.take_over_leases(due).await?;
        }
        self.compare().await.context("after an answer was lost")
    }

    async fn compare(&mut self) -> Result<()> {
        observed::observe(&self.app.owner).await?.compare(&mut self.model)
    }

    /// What a poll has leased, by what the database says. Which of those that became due at the same moment, is not
    /// for the model to say.
    async fn take_over_leases(&mut self, due: &[usize]) -> Result<Vec<usize>> {
        let state = observed::observe(&self.app.owner).await?;
        let mut leased = Vec::new();
        for request in due {
            let of = &self.model.requests[*request];
            let row = of.id.as_ref().and_then(|id| state.requests.get(id)).and_then(|row| row.delivery.as_ref());
            if row.map(|row| row.attempt) != of.delivery.as_ref().map(|delivery| delivery.attempt) {
                leased.push(*request);
            }
        }
        for request in &leased {
            self.model.lease(*request);
        }
        Ok(leased)
    }

    /// Everything that was to be told is told, and says what happened; every chain verifies.
    async fn finish(&mut self) -> Result<()> {
        self.step(&Command::Advance(Advance::Seconds(31)), Fault::None).await?;
        self.step(&Command::Publish { dies: false }, Fault::None).await?;
        same("the number of events", &self.stream.len(), &self.model.all_events().len())?;
        for (request, seq) in self.model.all_events() {
            let (id, of) = (event_id(&self.model, request, seq), &self.model.requests[request]);
            let event: Value = serde_json::from_slice(self.stream.get(&id).context("an event was never told")?)?;
            let (entry, decision) = (&of.chain[seq - 1], of.decision.as_ref().filter(|decision| decision.seq <= seq));
            let kind = if entry.kind == "submitted" { "requested" } else { entry.kind };
            same("type", &event["type"], &json!(format!("handoff.{kind}")))?;
            same("sequence", &event["sequence"], &json!(seq))?;
            same("time", &event["time"], &json!(timestamp(entry.at)))?;
            same("priority", &event["data"]["priority"], &json!(format!("P{}", entry.priority)))?;
            same("outcome", &event["data"]["outcome"], &json!(decision.map(|decision| decision.outcome)))?;
        }
        let keys = attestation_keys(self.app.state.receipt_keys.jwks()).map_err(anyhow::Error::msg)?;
        for request in &self.model.requests {
            let id = request.id.as_deref().unwrap_or_default();
            let path = format!("/v1/admin/requests/{id}/chain");
            let chain = self.app.get(&path, &self.app.person("root", &["admin"])).await.json();
            same("what does not verify", &verify_chain(&chain), &Vec::new())?;
            same("what is not attested", &verify_attestations(&chain, &keys), &Vec::new())?;
        }
        Ok(())
    }
}

/// Whether whoever gave a command notices nothing: tries are repeated inside, and a sweep goes on row by row.
fn is_hidden(command: &Command, fault: Fault) -> bool {
    match fault {
        Fault::None | Fault::AnswerLost => true,
        Fault::Conflicts(tries) => tries <= 3,
        Fault::Broken => matches!(command, Command::Sweep),
        Fault::Aborted | Fault::ConnectionLost => false,
    }
}
