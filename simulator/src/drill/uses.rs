//! A client's use of permits: consume, and report what became of it.

use std::time::Instant;

use hyper::Method;
use serde_json::json;
use tokio::time::sleep;

use super::PATIENCE;
use super::client::{Caller, Client, PAUSE};
use super::history::Record;
use crate::agent::Agent;

/// The result of an attempt to use a permit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Used {
    /// This attempt has used it: 200.
    Yes {
        /// And had used it before it was asked.
        repeated: bool,
        /// The service's time of the use.
        at: String,
    },
    /// It may not use it: the code of a 409.
    No(String),
    /// No answer that counts.
    Unknown,
}

impl Used {
    /// Whether this is a refusal with that code.
    pub fn is_refused(&self, code: &str) -> bool {
        matches!(self, Self::No(said) if said == code)
    }
}

/// The result of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    /// It is on record: 200.
    Yes {
        /// And was before it was asked.
        repeated: bool,
    },
    /// Something else is, or it is none to report: the code of a 409.
    No(String),
    /// No answer that counts.
    Unknown,
}

impl Reported {
    /// Whether this is a refusal with that code.
    pub fn is_refused(&self, code: &str) -> bool {
        matches!(self, Self::No(said) if said == code)
    }
}

/// Refusals that are an answer to a consume (contract, "Consume").
const CONSUME_REFUSALS: [&str; 6] =
    ["not-approved", "already-consumed", "action-mismatch", "permit-revoked", "frozen", "permit-expired"];
/// And to a report (contract, "Report").
const REPORT_REFUSALS: [&str; 2] = ["outcome-conflict", "not-consumed"];

/// Names an attempt: fresh and random for each.
pub fn fresh_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

impl Client {
    /// Tries once to use a permit.
    pub async fn consume(&mut self, agent: &Agent, request_id: &str, key: &str, action_digest: &str) -> Used {
        let path = format!("/v1/agents/{}/requests/{request_id}/consume", agent.id);
        let body = json!({"consume_key": key, "action_digest": action_digest});
        let Some(reply) = self.call(Caller::Agent(agent), Method::POST, &path, Some(&body)).await else {
            return Used::Unknown;
        };
        let code = reply.text("code");
        match reply.status.as_u16() {
            200 => {
                let repeated = reply.body["repeated"] == true;
                self.history().add(Record::Consumed {
                    request_id: request_id.to_owned(),
                    consume_key: key.to_owned(),
                    action_digest: reply.text("action_digest"),
                    repeated,
                });
                self.history().finish_delivery(&agent.id, request_id);
                Used::Yes { repeated, at: reply.text("consumed_at") }
            }
            409 if CONSUME_REFUSALS.contains(&&*code) => {
                self.history().add(Record::Refused { call: "consume".to_owned(), status: 409, code: code.clone() });
                Used::No(code)
            }
            _ => {
                self.refused("consume", &reply);
                Used::Unknown
            }
        }
    }

    /// Tries until it is answered, with some patience: the same attempt may be repeated.
    pub async fn consume_until_answered(
        &mut self,
        agent: &Agent,
        request_id: &str,
        key: &str,
        action_digest: &str,
    ) -> Used {
        let begun = Instant::now();
        loop {
            let used = self.consume(agent, request_id, key, action_digest).await;
            if used != Used::Unknown || begun.elapsed() > PATIENCE {
                return used;
            }
            sleep(PAUSE).await;
        }
    }

    /// Reports once what became of a use.
    pub async fn report(&mut self, agent: &Agent, request_id: &str, state: &str) -> Reported {
        let path = format!("/v1/agents/{}/requests/{request_id}/outcome", agent.id);
        let body = json!({"state": state});
        let Some(reply) = self.call(Caller::Agent(agent), Method::POST, &path, Some(&body)).await else {
            return Reported::Unknown;
        };
        let code = reply.text("code");
        match reply.status.as_u16() {
            200 => {
                self.history().add(Record::Reported { request_id: request_id.to_owned(), state: state.to_owned() });
                Reported::Yes { repeated: reply.body["repeated"] == true }
            }
            409 if REPORT_REFUSALS.contains(&&*code) => {
                self.history().add(Record::Refused { call: "report".to_owned(), status: 409, code: code.clone() });
                Reported::No(code)
            }
            _ => {
                self.refused("report", &reply);
                Reported::Unknown
            }
        }
    }

    /// Reports until it is answered, with some patience.
    pub async fn report_until_answered(&mut self, agent: &Agent, request_id: &str, state: &str) -> Reported {
        let begun = Instant::now();
        loop {
            let reported = self.report(agent, request_id, state).await;
            if reported != Reported::Unknown || begun.elapsed() > PATIENCE {
                return reported;
            }
            sleep(PAUSE).await;
        }
    }
}
