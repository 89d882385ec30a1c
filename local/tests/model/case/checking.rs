//! Answers against what the model expects.

use anyhow::{Context as _, Result, bail, ensure};
use relaytrace_testing::Answer;
use serde_json::{Value, json};
use timeout_sweep::SweepReport;

use super::sending::{digest, response};
use super::{Case, Got, timestamp};
use crate::model::{ASKED, Expected, LEASE, Micros, Model, Request};
use crate::observed::{event_id, same};

impl Case<'_> {
    pub(super) async fn check(&mut self, before: &Model, expected: Expected, got: Got) -> Result<()> {
        match (expected, got) {
            (Expected::Nothing, Got::Nothing) => {}
            (Expected::Swept(swept), Got::Swept(report)) => {
                let expected = SweepReport {
                    raised: swept.raised,
                    expired: swept.expired,
                    escalated: swept.escalated,
                    dead_lettered: swept.dead_lettered,
                    outcomes_unknown: swept.outcomes_unknown,
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

    pub(super) async fn check_polled(
        &mut self,
        before: &Model,
        due: &[usize],
        limit: usize,
        answer: &Answer,
    ) -> Result<()> {
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
            same("permit", &item["permit"], &permit(of))?;
            same("action_digest", &item["action_digest"], &json!(digest(of.flavour, Some(of.decided_arguments()))))?;
            same("response", &item["response"], &json!(decision.response.map(response)))?;
            same("delivery_id", &item["delivery_id"], &json!(delivery.ids.last()))?;
            same("lease_expires_at", &item["lease_expires_at"], &json!(timestamp(self.model.now + LEASE)))?;
        }
        Ok(())
    }

    pub(super) fn check_answer(&mut self, expected: &Expected, answer: &Answer) -> Result<()> {
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
                same("permit", &body["permit"], &permit(of))?;
                same("execution", &body["execution"], &json!(of.execution(self.model.now)))?;
                same("approvals", &body["approvals"], &approvals(of))?;
            }
            Expected::Decision(should_be, request) => {
                status(should_be)?;
                let body = answer.json();
                if should_be == 409 {
                    same("code", &body["code"], &json!("already-decided"))?;
                }
                self.check_decision(request, if should_be == 409 { &body["decision"] } else { &body })?;
            }
            Expected::Voted(should_be, request) => {
                status(should_be)?;
                let (body, of) = (answer.json(), &self.model.requests[request]);
                same("status", &body["status"], &json!("pending"))?;
                same("approvals", &body["approvals"], &approvals(of))?;
                same("action_digest", &body["action_digest"], &json!(digest(of.flavour, Some(ASKED))))?;
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
            Expected::Used { request, repeated } => {
                status(200)?;
                let (body, of) = (answer.json(), &self.model.requests[request]);
                let used = of.used.as_ref().context("it is not used")?;
                same("repeated", &body["repeated"], &json!(repeated))?;
                same("consumed_at", &body["consumed_at"], &json!(timestamp(used.at)))?;
                same(
                    "action_digest",
                    &body["action_digest"],
                    &json!(digest(of.flavour, Some(of.decided_arguments()))),
                )?;
            }
            Expected::Noted { request, repeated } => {
                status(200)?;
                let (body, of) = (answer.json(), &self.model.requests[request]);
                let noted = of.noted.as_ref().context("nothing is on record")?;
                same("repeated", &body["repeated"], &json!(repeated))?;
                same("state", &body["state"], &json!(noted.state))?;
                same("note", &body["note"], &json!(noted.note))?;
                let at = of.chain.iter().rfind(|entry| entry.kind == "outcome").map(|entry| timestamp(entry.at));
                same("reported_at", &body["reported_at"], &json!(at))?;
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

    pub(super) fn check_decision(&self, request: usize, is: &Value) -> Result<()> {
        let decision = self.model.requests[request].decision.as_ref().context("it is not decided")?;
        same("outcome", &is["outcome"], &json!(decision.outcome))?;
        same("cause", &is["cause"], &json!(decision.cause))?;
        same("decided_by", &is["decided_by"]["id"], &json!(decision.by.1))?;
        same("reason", &is["reason"], &json!(decision.reason))?;
        same("decided_at", &is["decided_at"], &json!(timestamp(decision.at)))
    }
}

/// The approvals of a request, as answers have them.
fn approvals(of: &Request) -> Value {
    json!({"required": of.approvals, "given": of.given()})
}

/// The permit of a request, as answers have it.
fn permit(of: &Request) -> Value {
    of.permit_expires_at.map_or(Value::Null, |end| json!({"expires_at": timestamp(end)}))
}

pub(super) fn check_problem(answer: &Answer, status: u16, code: &str) -> Result<()> {
    let body = answer.json();
    let is = (answer.status.as_u16(), body["code"].as_str().unwrap_or_default());
    same("the problem", &is, &(status, code)).with_context(|| body.to_string())?;
    same("retryable", &body["retryable"], &json!(matches!(code, "unavailable" | "rate-limited")))
}
