//! State that agents and operators of a run share, and the witness of every call.

use std::sync::{Arc, Mutex, PoisonError};

use relaytrace_client::{Client, Observer, ReceiptKeys, Response, Try};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::cohort::{Agent, Key};
use super::ledger::{Ledger, Mark, Sample, now};
use super::plan::Planned;
use super::scenario::Scenario;
use super::target::Target;

/// A question that operators may now see.
#[derive(Clone, Debug)]
pub struct Question {
    /// Its place in the plan.
    pub index: usize,
    /// The request's id.
    pub request_id: Uuid,
}

/// The shared state.
pub struct World {
    /// The service.
    pub target: Target,
    /// The scenario.
    pub scenario: Scenario,
    /// The plan.
    pub plan: Vec<Planned>,
    /// The agents.
    pub cohort: Vec<Agent>,
    /// The ledger.
    pub ledger: Arc<Ledger>,
    /// The receipt keys of the deployment.
    pub receipt_keys: ReceiptKeys,
    /// Where questions go, until the operators may go home.
    pub questions: Mutex<Option<mpsc::UnboundedSender<Question>>>,
}

impl World {
    /// Hands a question to the operators.
    pub fn ask(&self, question: Question) {
        if let Some(questions) = &*self.questions.lock().unwrap_or_else(PoisonError::into_inner) {
            // Nobody listens any more where the run was interrupted.
            drop(questions.send(question));
        }
    }

    /// No more questions will come.
    pub fn close(&self) {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The key that a handoff is made with.
    pub fn key(&self, index: usize) -> &Key {
        let Planned { agent, key, .. } = self.plan[index];
        &self.cohort[agent].keys[key]
    }

    /// Its client, with a witness.
    pub fn client(&self, index: usize) -> Client {
        let Planned { agent, key, .. } = self.plan[index];
        self.key(index).client.observed(Arc::new(Witness::new(self.ledger.clone(), (agent, key), Some(index))))
    }
}

/// Writes down every try of an agent's calls.
#[derive(Debug)]
pub struct Witness {
    ledger: Arc<Ledger>,
    agent: (usize, usize),
    index: Option<usize>,
}

impl Witness {
    /// Of this agent's key, in this handoff if it is one.
    pub fn new(ledger: Arc<Ledger>, agent: (usize, usize), index: Option<usize>) -> Self {
        Self { ledger, agent, index }
    }

    fn count_of_handoff(&self, tried: &Try<'_>) {
        let Some(index) = self.index else { return };
        let mut book = self.ledger.open();
        let handoff = &mut book.handoffs[index];
        if tried.path.contains("/decisions/poll") {
            handoff.polls += 1;
        } else if tried.path.ends_with("/ack") {
            handoff.acknowledgements += 1;
        } else if tried.path == "/v1/hitl/requests" {
            handoff.submissions += 1;
        }
    }

    fn answered(&self, tried: &Try<'_>, response: Response<'_>) {
        let Response { status, headers, body, verified } = response;
        if status == 409 && tried.path.ends_with("/ack") {
            self.ledger.count("acknowledgements refused as not of the latest delivery");
        }
        match verified {
            Ok(()) => self.ledger.keep(|| Sample {
                agent: self.agent,
                method: tried.method.to_owned(),
                nonce: tried.nonce.to_owned(),
                status,
                headers: headers.clone(),
                body: body.to_vec(),
                at: now().timestamp(),
            }),
            // Nobody could know whose answer it is: the token's key could not be looked up, or it comes from a gateway.
            Err(_) if matches!(status, 401 | 502..=504) && !headers.contains_key("signature") => {
                self.ledger.count("unsigned 401, 502, 503 or 504 (caller not known)");
                self.ledger.mark(Mark::Lost);
            }
            Err(unverified) => {
                let Try { method, path, .. } = tried;
                self.ledger.violation(7, format!("{status} to {method} {path}: {unverified}"));
            }
        }
    }
}

impl Observer for Witness {
    fn tried(&self, tried: &Try<'_>) {
        self.count_of_handoff(tried);
        if let Ok(response) = tried.response {
            self.answered(tried, response);
        } else {
            self.ledger.count("calls cut off");
            self.ledger.mark(Mark::Lost);
        }
    }
}
