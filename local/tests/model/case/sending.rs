//! Commands as calls to the functions.

use anyhow::{Context as _, Result, ensure};
use chrono::DateTime;
use relaytrace_domain::Digest;
use relaytrace_testing::Answer;
use serde_json::{Value, json};

use super::{Case, Got, timestamp, title};
use crate::commands::{Advance, Change, Command, Disposition, Flavour, Named, Saw, Scope, Verdict};
use crate::model::{AGENTS, ASKED, Micros, Model, SECOND, action};

impl Case<'_> {
    pub(super) async fn send(&mut self, command: &Command) -> Result<Got> {
        let before = self.model.clone();
        self.send_as(&before, command).await
    }

    /// Sends a command as it is meant in the state `before` it.
    pub(super) async fn send_as(&mut self, before: &Model, command: &Command) -> Result<Got> {
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
            | Command::Ack { request, .. }
            | Command::Consume { request, .. }
            | Command::Report { request, .. } => {
                let Some(request) = nth(*request, of) else { return Ok(Got::Nothing) };
                self.send_about(before, request, command).await
            }
        };
        Ok(Got::Answer(answer))
    }

    pub(super) async fn send_about(&self, before: &Model, request: usize, command: &Command) -> Answer {
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
            Command::Decide { who, verdict, reason, saw, .. } => {
                let mut body = json!({"decision": verdict.as_str()});
                match verdict {
                    Verdict::Approve | Verdict::Reject => {}
                    Verdict::Edit(arguments) => {
                        let action: Value = serde_json::from_str(&action(of.flavour, *arguments)).expect("an action");
                        body["arguments"] = action["arguments"].clone();
                        body["edited_action_digest"] = digest(of.flavour, Some(*arguments)).into();
                    }
                    Verdict::Respond(text) => body["response"] = response(*text).into(),
                }
                if let Some(reason) = reason {
                    body["reason"] = (*reason).into();
                }
                match saw {
                    Saw::This => body["action_digest"] = digest(of.flavour, Some(ASKED)).into(),
                    Saw::Another => body["action_digest"] = digest(of.flavour, None).into(),
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
            Command::Consume { is_own, key, runs, .. } => {
                let body =
                    json!({"consume_key": consume_key(*key), "action_digest": digest(of.flavour, of.runs(*runs))});
                let agent = agent(*is_own);
                app.post(&format!("/v1/agents/{}/requests/{id}/consume", agent.agent_id), &agent.token(), &body).await
            }
            Command::Report { is_own, succeeded, note, .. } => {
                let mut body = json!({"state": if *succeeded { "succeeded" } else { "failed" }});
                if let Some(note) = note {
                    body["note"] = (*note).into();
                }
                let agent = agent(*is_own);
                app.post(&format!("/v1/agents/{}/requests/{id}/outcome", agent.agent_id), &agent.token(), &body).await
            }
            _ => unreachable!("not about one request"),
        }
    }

    pub(super) fn envelope(
        &self,
        agent: usize,
        key: u8,
        flavour: Flavour,
        priority: i16,
        respond_by: Option<Micros>,
    ) -> Value {
        let mut envelope = self.agents[agent].envelope(&format!("key-{key}"));
        envelope["priority"] = format!("P{priority}").into();
        envelope["title"] = title(0).into();
        envelope["action"] = serde_json::from_str(&action(flavour, ASKED)).expect("an action");
        if let Some(answers) = flavour.answers() {
            envelope["answers"] = json!(answers);
        }
        if let Some(respond_by) = respond_by {
            envelope["respond_by"] = timestamp(respond_by).into();
        }
        envelope
    }

    /// Publishes what is left over: claims it, puts it on the stream, and forgets it, unless it dies before that.
    pub(super) async fn publish(&mut self, dies: bool) -> Result<Vec<String>> {
        let claimed = self.app.state.store.claim_events(1_000).await?;
        for event in &claimed {
            let known = self.stream.entry(event.id()).or_insert_with(|| event.payload.clone());
            ensure!(*known == event.payload, "the event {} has other bytes than before", event.id());
        }
        if !dies && !claimed.is_empty() {
            let keys: Vec<_> = claimed.iter().map(|event| (event.request_id, event.seq)).collect();
            self.app.state.store.forget_events(&keys).await?;
        }
        Ok(claimed.iter().map(relaytrace_store::OutboxEvent::id).collect())
    }
}

/// The digest of an action with these arguments; `None`: of no action that there is.
pub fn digest(flavour: Flavour, arguments: Option<u8>) -> String {
    let none = || format!("sha256:{}", "0".repeat(64));
    arguments.map_or_else(none, |arguments| Digest::of(action(flavour, arguments).as_bytes()).to_string())
}

/// A text that an operator responds with.
pub fn response(text: u8) -> &'static str {
    ["In May", "Ask \"Ivan\""][usize::from(text)]
}

/// The name of an attempt.
pub fn consume_key(key: u8) -> String {
    format!("attempt-number-{key}")
}
