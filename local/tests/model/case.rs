//! One history: each command is sent to the real functions, and its answer and the state after it compared.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use chrono::DateTime;
use relaytrace::config::{DeliveryRules, TimeoutRules};
use relaytrace::domain::Timestamp;
use relaytrace::testing::{Answer, TestAgent, TestApp};
use relaytrace_verify::verify_chain;
use serde_json::{Value, json};
use sqlx::PgPool;
use timeout_sweep::SweepReport;
use utoipa_axum::router::OpenApiRouter;

use crate::commands::{Advance, Change, Command, Disposition, Fault, Flavour, Named, Saw, Scope};
use crate::model::{AGENTS, CAPS, Expected, LEASE, MAX_ATTEMPTS, Micros, Model, SECOND};
use crate::observed::{self, event_id, same};

fn routes() -> OpenApiRouter<relaytrace::AppState> {
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
        let mut app = TestApp::new(owner, routes());
        app.state.timeouts = TimeoutRules { allow_auto_approve: true };
        app.state.delivery = Arc::new(DeliveryRules { max_attempts: MAX_ATTEMPTS, ..DeliveryRules::default() });
        app.router = relaytrace::http::service(routes(), app.state.clone());
        let agents = [app.agent(AGENTS[0]).await, app.agent(AGENTS[1]).await];
        let of = |agent: usize, action_type: &str, priority: &str, seconds: i64| {
            json!({"agent_id": AGENTS[agent], "action_type": action_type, "priority": priority,
                "respond_within_seconds": seconds})
        };
        let with = |mut policy: Value, changes: Value| {
            policy.as_object_mut().expect("an object").extend(changes.as_object().expect("an object").clone());
            policy
        };
        for policy in [
            with(of(0, "raised", "P3", 3_600), json!({"on_timeout": "raise", "escalate_after_percent": 50})),
            with(of(0, "raised", "P2", 1_800), json!({"on_timeout": "raise", "escalate_after_percent": 30})),
            with(of(0, "approved", "P3", 2_400), json!({"on_timeout": "auto_approve"})),
            with(of(0, "approved", "P2", 1_200), json!({"on_timeout": "auto_approve"})),
            with(of(1, "bounded", "P3", 86_400), json!({"lowest_priority": "P2"})),
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
    Swept(relaytrace::Result<SweepReport>),
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
            Got::Swept(Err(relaytrace::Error::Unavailable(_))) => {
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

    async fn send(&mut self, command: &Command) -> Result<Got> {
        let before = self.model.clone();
        self.send_as(&before, command).await
    }

    /// Sends a command as it is meant in the state `before` it.
    async fn send_as(&mut self, before: &Model, command: &Command) -> Result<Got> {
        let app = self.app;
        let (of, letters) = (before.requests.len(), before.letters.len());
        let root = app.person("root", &["admin"]);
        let nth = |number: u8, of: usize| usize::from(number).checked_rem(of);
        let id = |request: usize| before.requests[request].id.clone().unwrap_or_default();
        let answer = match command {
            Command::Advance(Advance::Seconds(_) | Advance::ToMoment(..)) => {
                app.clock.set(DateTime::from_timestamp_micros(self.model.now).context("a time")?);
                return Ok(Got::Nothing);
            }
            Command::Sweep => return Ok(Got::Swept(timeout_sweep::run_once(app.state.clone()).await)),
            Command::Publish { dies } => return self.publish(*dies).await.map(Got::Claimed),
            Command::Submit { agent, key, flavour, priority, minutes } => {
                let respond_by = minutes.map(|minutes| before.now + i64::from(minutes) * 60 * SECOND);
                let envelope = self.envelope(*agent, *key, *flavour, *priority, respond_by);
                app.post("/v1/hitl/requests", &self.agents[*agent].token(), &envelope).await
            }
            Command::Poll { agent, limit, only } => {
                let name = AGENTS[*agent];
                let only = only.and_then(|only| nth(only, of));
                let only = only.map_or_else(String::new, |only| format!("&request_id={}", id(only)));
                let path = format!("/v1/agents/{name}/decisions/poll?limit={limit}{only}");
                app.get(&path, &self.agents[*agent].token()).await
            }
            Command::Retry { letter, who } => {
                let Some(letter) = nth(*letter, letters) else { return Ok(Got::Nothing) };
                let id = before.letters[letter].id.as_deref().unwrap_or_default();
                let path = format!("/v1/admin/dead-letters/{id}/retry");
                app.post(&path, &app.person(who, &["admin"]), &json!({})).await
            }
            Command::Discard { letter, who, reason } => {
                let Some(letter) = nth(*letter, letters) else { return Ok(Got::Nothing) };
                let id = before.letters[letter].id.as_deref().unwrap_or_default();
                let path = format!("/v1/admin/dead-letters/{id}/discard");
                app.post(&path, &app.person(who, &["admin"]), &json!({"reason": reason})).await
            }
            Command::Replay { key, of_events, scope, reason, is_dry_run } => {
                let scope = match (scope, before.scope(scope)) {
                    (Scope::Requests(_), (named, _)) if named.is_empty() => return Ok(Got::Nothing),
                    (_, (_, Some((from, to, agent)))) => {
                        let mut scope = json!({"from": timestamp(from), "to": timestamp(to)});
                        if let Some(agent) = agent {
                            scope["agent_id"] = AGENTS[agent].into();
                        }
                        scope
                    }
                    (Scope::Requests(_), (named, _)) => {
                        json!({"request_ids": named.into_iter().map(id).collect::<Vec<_>>()})
                    }
                    _ => json!({"dead_letters": true}),
                };
                let target = if *of_events { "events" } else { "deliveries" };
                let body = json!({"replay_key": format!("r{key}"), "target": target, "scope": scope,
                    "reason": reason, "dry_run": is_dry_run});
                app.post("/v1/admin/replay", &root, &body).await
            }
            Command::Resubmit { request, .. }
            | Command::Decide { request, .. }
            | Command::Cancel { request, .. }
            | Command::Dispose { request, .. }
            | Command::Ack { request, .. } => {
                let Some(request) = nth(*request, of) else { return Ok(Got::Nothing) };
                self.send_about(before, request, command).await
            }
        };
        Ok(Got::Answer(answer))
    }

    async fn send_about(&self, before: &Model, request: usize, command: &Command) -> Answer {
        let app = self.app;
        let of = &before.requests[request];
        let id = of.id.as_deref().unwrap_or_default();
        let agent = |is_own: bool| &self.agents[if is_own { of.agent } else { 1 - of.agent }];
        match command {
            Command::Resubmit { change, .. } => {
                let mut envelope =
                    self.envelope(of.agent, of.key, of.flavour, of.asked_priority, of.requested_respond_by);
                envelope["title"] = title(of.title_after(*change)).into();
                let mut text = envelope.to_string();
                if *change == Change::MemberOrder {
                    let first = envelope.as_object_mut().and_then(|members| members.remove("title"));
                    text = format!("{{\"title\":{},{}", first.unwrap_or_default(), &envelope.to_string()[1..]);
                }
                let request = http::Request::post("/v1/hitl/requests")
                    .header("authorization", format!("Bearer {}", agent(true).token()))
                    .header("content-type", "application/json");
                app.send(request.body(text.into()).expect("a request")).await
            }
            Command::Decide { who, approves, reason, saw, .. } => {
                let mut body = json!({"decision": if *approves { "approve" } else { "reject" }});
                if let Some(reason) = reason {
                    body["reason"] = (*reason).into();
                }
                match saw {
                    Saw::This => body["action_digest"] = self.digest(of.agent, id).await,
                    Saw::Another => body["action_digest"] = format!("sha256:{}", "0".repeat(64)).into(),
                    Saw::Unsaid => {}
                }
                app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator(who), &body).await
            }
            Command::Cancel { is_own, reason, .. } => {
                let agent = agent(*is_own);
                let body = reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
                app.post(&format!("/v1/agents/{}/requests/{id}/cancel", agent.agent_id), &agent.token(), &body).await
            }
            Command::Dispose { who, what, reason, .. } => {
                let mut body = json!({"reason": reason});
                body["action"] = match what {
                    Disposition::Cancel => "cancel",
                    Disposition::Reject => "reject",
                    Disposition::Extend(_) => "extend",
                    Disposition::Reprioritise(_) => "reprioritise",
                    Disposition::Requeue => "requeue",
                }
                .into();
                match what {
                    Disposition::Extend(minutes) => {
                        body["respond_by"] = timestamp(of.extended_until(*minutes)).into();
                    }
                    Disposition::Reprioritise(to) => body["priority"] = format!("P{to}").into(),
                    _ => {}
                }
                let path = format!("/v1/admin/requests/{id}/disposition");
                app.post(&path, &app.person(who, &["admin"]), &body).await
            }
            Command::Ack { is_own, delivery, result, .. } => {
                let ids = of.delivery.as_ref().map(|delivery| delivery.ids.as_slice()).unwrap_or_default();
                let delivery_id = match delivery {
                    Named::Latest => ids.last(),
                    Named::Earlier => ids.len().checked_sub(2).and_then(|index| ids.get(index)),
                    Named::Unknown => None,
                };
                let unknown = "00000000-0000-4000-8000-000000000000".to_owned();
                let body = json!({"delivery_id": delivery_id.unwrap_or(&unknown), "result": result.as_str()});
                let agent = agent(*is_own);
                app.post(&format!("/v1/agents/{}/decisions/{id}/ack", agent.agent_id), &agent.token(), &body).await
            }
            _ => unreachable!("not about one request"),
        }
    }

    fn envelope(&self, agent: usize, key: u8, flavour: Flavour, priority: i16, respond_by: Option<Micros>) -> Value {
        let mut envelope = self.agents[agent].envelope(&format!("key-{key}"));
        envelope["priority"] = format!("P{priority}").into();
        envelope["title"] = title(0).into();
        envelope["action"]["type"] = match flavour {
            Flavour::Plain => "plain",
            Flavour::Raised => "raised",
            Flavour::Approved => "approved",
            Flavour::Bounded => "bounded",
        }
        .into();
        if let Some(respond_by) = respond_by {
            envelope["respond_by"] = timestamp(respond_by).into();
        }
        envelope
    }

    /// The digest of a request's action, as its agent sees it.
    async fn digest(&self, agent: usize, id: &str) -> Value {
        let path = format!("/v1/agents/{}/requests/{id}", AGENTS[agent]);
        self.app.get(&path, &self.agents[agent].token()).await.json()["action_digest"].clone()
    }

    /// Publishes what is left over: claims it, puts it on the stream, and forgets it, unless it dies before that.
    async fn publish(&mut self, dies: bool) -> Result<Vec<String>> {
        let claimed = self.app.state.store.claim_events(1_000).await?;
        for event in &claimed {
            let known = self.stream.entry(event.id()).or_insert_with(|| event.payload.clone());
            ensure!(*known == event.payload, "the event {} has other bytes than before", event.id());
        }
        if !dies && !claimed.is_empty() {
            let keys: Vec<_> = claimed.iter().map(|event| (event.request_id, event.seq)).collect();
            self.app.state.store.forget_events(&keys).await?;
        }
        Ok(claimed.iter().map(relaytrace::store::OutboxEvent::id).collect())
    }

    async fn check(&mut self, before: &Model, expected: Expected, got: Got) -> Result<()> {
        match (expected, got) {
            (Expected::Nothing, Got::Nothing) => {}
            (Expected::Swept(swept), Got::Swept(report)) => {
                let expected = SweepReport {
                    raised: swept.raised,
                    expired: swept.expired,
                    escalated: swept.escalated,
                    dead_lettered: swept.dead_lettered,
                    dedupe_dropped: swept.dedupe_dropped,
                    ..SweepReport::default()
                };
                same("the report", &report.context("a sweep")?, &expected)?;
            }
            (Expected::Published(events), Got::Claimed(mut ids)) => {
                let mut expected: Vec<_> = events.iter().map(|(r, seq)| event_id(&self.model, *r, *seq)).collect();
                expected.sort();
                ids.sort();
                same("what is left over", &ids, &expected)?;
            }
            (Expected::Polled { due, limit }, Got::Answer(answer)) => {
                self.check_polled(before, &due, limit, &answer).await?;
            }
            (expected, Got::Answer(answer)) => self.check_answer(&expected, &answer)?,
            (expected, _) => bail!("it should have answered {expected:?}"),
        }
        self.compare().await
    }

    async fn check_polled(&mut self, before: &Model, due: &[usize], limit: usize, answer: &Answer) -> Result<()> {
        same("status", &answer.status.as_u16(), &200)?;
        let leased = self.take_over_leases(due).await?;
        same("how many were leased", &leased.len(), &due.len().min(limit))?;
        let left = due.iter().filter(|request| !leased.contains(request));
        let longest_left = left.map(|request| before.visible_since(*request)).min().unwrap_or(Micros::MAX);
        ensure!(leased.iter().all(|r| before.visible_since(*r) <= longest_left), "it leased what became due later");
        // The ids of the new attempts.
        self.compare().await?;
        let body = answer.json();
        same("has_more", &body["has_more"], &json!(due.len() > leased.len()))?;
        let items = body["decisions"].as_array().context("a list")?;
        same("items", &items.len(), &leased.len())?;
        for request in leased {
            let of = &self.model.requests[request];
            let item = items.iter().find(|item| item["request_id"].as_str() == of.id.as_deref());
            let item = item.context("a leased decision is not in the answer")?;
            let (Some(decision), Some(delivery)) = (&of.decision, &of.delivery) else { bail!("nothing to lease") };
            same("outcome", &item["outcome"], &json!(decision.outcome))?;
            same("cause", &item["cause"], &json!(decision.cause))?;
            same("decided_at", &item["decided_at"], &json!(timestamp(decision.at)))?;
            same("chain length", &item["chain"]["length"], &json!(decision.seq))?;
            same("attempt", &item["attempt"], &json!(delivery.attempt))?;
            same("replayed", &item["replayed"], &json!(delivery.is_replayed))?;
            same("delivery_id", &item["delivery_id"], &json!(delivery.ids.last()))?;
            same("lease_expires_at", &item["lease_expires_at"], &json!(timestamp(self.model.now + LEASE)))?;
        }
        Ok(())
    }

    fn check_answer(&mut self, expected: &Expected, answer: &Answer) -> Result<()> {
        let status = |should_be: u16| {
            same("status", &answer.status.as_u16(), &should_be)
                .with_context(|| String::from_utf8_lossy(&answer.bytes).into_owned())
        };
        match *expected {
            Expected::Problem(should_be, code) => check_problem(answer, should_be, code)?,
            Expected::Request(should_be, request) => {
                status(should_be)?;
                let body = answer.json();
                let of = &mut self.model.requests[request];
                if of.id.is_none() {
                    of.id = body["request_id"].as_str().map(str::to_owned);
                }
                same("request_id", &body["request_id"], &json!(of.id))?;
                same("duplicate", &body["duplicate"], &json!(should_be == 200))?;
                same("status", &body["status"], &json!(if of.is_decided { "decided" } else { "pending" }))?;
                same("priority", &body["priority"], &json!(format!("P{}", of.priority)))?;
                same("respond_by", &body["respond_by"], &json!(timestamp(of.respond_by)))?;
            }
            Expected::Decision(should_be, request) => {
                status(should_be)?;
                let body = answer.json();
                if should_be == 409 {
                    same("code", &body["code"], &json!("already-decided"))?;
                }
                self.check_decision(request, if should_be == 409 { &body["decision"] } else { &body })?;
            }
            Expected::Disposed(request) => {
                status(200)?;
                let (body, of) = (answer.json(), &self.model.requests[request]);
                same("priority", &body["priority"], &json!(format!("P{}", of.priority)))?;
                same("respond_by", &body["respond_by"], &json!(timestamp(of.respond_by)))?;
                same("decided", &body["decision"].is_object(), &of.is_decided)?;
                if of.is_decided {
                    self.check_decision(request, &body["decision"])?;
                }
                let state = of.delivery.as_ref().map(|delivery| delivery.state);
                same("delivery", &body["delivery"]["state"], &json!(state))?;
            }
            Expected::Acked(request) => {
                status(200)?;
                let (body, delivery) = (answer.json(), self.model.requests[request].delivery.as_ref());
                same("state", &body["state"], &json!(delivery.map(|delivery| delivery.state)))?;
                same("attempt", &body["attempt"], &json!(delivery.map(|delivery| delivery.attempt)))?;
            }
            Expected::Letter(letter) => {
                status(200)?;
                let resolution = self.model.letters[letter].resolution.as_ref().map(|(how, ..)| *how);
                same("resolution", &answer.json()["resolution"], &json!(resolution))?;
            }
            Expected::Replayed { matched, done } => {
                status(202)?;
                let body = answer.json();
                same("state", &body["state"], &json!("finished"))?;
                same("matched", &body["matched"], &json!(matched))?;
                same("done", &body["done"], &json!(done))?;
            }
            _ => bail!("{expected:?} has no answer"),
        }
        Ok(())
    }

    fn check_decision(&self, request: usize, is: &Value) -> Result<()> {
        let decision = self.model.requests[request].decision.as_ref().context("it is not decided")?;
        same("outcome", &is["outcome"], &json!(decision.outcome))?;
        same("cause", &is["cause"], &json!(decision.cause))?;
        same("decided_by", &is["decided_by"]["id"], &json!(decision.by.1))?;
        same("reason", &is["reason"], &json!(decision.reason))?;
        same("decided_at", &is["decided_at"], &json!(timestamp(decision.at)))
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
        for request in &self.model.requests {
            let id = request.id.as_deref().unwrap_or_default();
            let path = format!("/v1/admin/requests/{id}/chain");
            let chain = self.app.get(&path, &self.app.person("root", &["admin"])).await.json();
            same("what does not verify", &verify_chain(&chain), &Vec::new())?;
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

fn check_problem(answer: &Answer, status: u16, code: &str) -> Result<()> {
    let body = answer.json();
    let is = (answer.status.as_u16(), body["code"].as_str().unwrap_or_default());
    same("the problem", &is, &(status, code)).with_context(|| body.to_string())?;
    same("retryable", &body["retryable"], &json!(matches!(code, "unavailable" | "rate-limited")))
}
