//! An agent's client of RelayTrace: ask a person, wait, verify, acknowledge.
//!
//! ```no_run
//! # async fn example(credentials: relaytrace_client::Credentials) -> Result<(), relaytrace_client::Error> {
//! use relaytrace_client::{Action, Client, Envelope, Priority};
//!
//! let client = Client::new("https://relay.example", credentials)?;
//! let action = Action::new("refund.create", serde_json::json!({"customer": "88213", "amount": "1240.00"}));
//! // The key is the agent's own: after a crash the same call finds the same request.
//! let asked = client.submit(&Envelope::new("refund-1042", Priority::P2, "Refund 1,240 EUR", action.clone())).await?;
//! let answer = client.answer(asked.request_id).await?;
//! if answer.permits(&action) {
//!     // … do it, then say so.
//! }
//! client.accept(&answer).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Every call carries a fresh nonce. A response counts only if its RFC 9421 signature covers exactly what the contract
//! says, over this nonce and these bytes; anything else is a lost connection. What may be sent again is sent again, with
//! a backoff, until [`Patience`] ends. An acknowledgement of a delivery that is not the latest any more is said of the one
//! that comes instead.

mod call;
mod credentials;
mod error;
mod model;
mod observe;
mod receipt;
pub mod signature;

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;

pub use credentials::Credentials;
pub use error::{Error, Fault, Problem, Result};
pub use model::{
    Acknowledged, Action, Actor, Chain, Decision, DeliveryState, Envelope, Outcome, Priority, RequestState, Submission,
};
pub use observe::{Observer, Response, Try};
pub use receipt::{Receipt, ReceiptKeys};
pub use signature::Unverified;

/// Code of the refusal of an acknowledgement whose delivery is not the latest.
const STALE: &str = "stale-delivery";
/// Longest poll of the contract.
const LONGEST_POLL: Duration = Duration::from_secs(20);

/// How long a call may take with all its tries.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Longest wait for one answer, a poll's own waiting not counted.
    pub per_try: Duration,
    /// From the first try to the last.
    pub in_all: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { per_try: Duration::from_secs(10), in_all: Duration::from_mins(2) }
    }
}

/// What an agent says of a delivery (contract, "Poll and acknowledge").
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// It has the decision and acted on it.
    Accepted,
    /// It failed for now: the decision comes again after a backoff.
    Retry {
        /// For programs.
        code: &'a str,
        /// For people.
        message: &'a str,
    },
    /// It will never be able to act on it.
    Failed {
        /// For programs.
        code: &'a str,
        /// For people.
        message: &'a str,
    },
}

impl Said<'_> {
    fn to_json(self) -> serde_json::Value {
        match self {
            Self::Accepted => json!({"result": "accepted"}),
            Self::Retry { code, message } => json!({"result": "retry", "error": {"code": code, "message": message}}),
            Self::Failed { code, message } => json!({"result": "failed", "error": {"code": code, "message": message}}),
        }
    }
}

/// A client of one agent; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(call::Caller);

impl Client {
    /// A client of the service at `base_url`, for the agent of these credentials. Connects with its first call.
    ///
    /// # Errors
    /// [`Error::Configuration`] where the address is none.
    pub fn new(base_url: &str, credentials: Credentials) -> Result<Self> {
        Self::with_patience(base_url, credentials, Patience::default())
    }

    /// As [`Client::new`], as patient as this.
    pub fn with_patience(base_url: &str, credentials: Credentials, patience: Patience) -> Result<Self> {
        call::Caller::new(base_url, credentials, patience).map(Self)
    }

    /// The same client, sharing its connections, with every try of its calls told to the observer.
    #[must_use]
    pub fn observed(&self, observer: Arc<dyn Observer>) -> Self {
        Self(self.0.observed(observer))
    }

    /// Whose client it is.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        self.0.agent_id()
    }

    /// Asks. The same envelope again within 7 days is the same request.
    ///
    /// # Errors
    /// [`Error::Refused`]; [`Error::OtherAction`] where the service took the action for another one.
    pub async fn submit(&self, envelope: &Envelope) -> Result<Submission> {
        let body = envelope.to_json(self.agent_id())?;
        let submission: Submission = self.0.call(Method::POST, "/v1/hitl/requests", Some(&body)).await?;
        let own = envelope.action.digest()?;
        if submission.action_digest != own {
            return Err(Error::OtherAction { asked: own, answered: submission.action_digest });
        }
        Ok(submission)
    }

    /// The decisions that are due, at most `limit` (1 to 100): at once if there are any, else as soon as one is there,
    /// else none after `wait` (at most 20 s). Only of `request_ids`, unless that is empty.
    pub async fn poll(&self, wait: Duration, limit: u8, request_ids: &[Uuid]) -> Result<Vec<Decision>> {
        let seconds = wait.min(LONGEST_POLL).as_secs();
        let mut path = format!("/v1/agents/{}/decisions/poll?wait_seconds={seconds}&limit={limit}", self.agent_id());
        for id in request_ids {
            path.push_str("&request_id=");
            path.push_str(&id.to_string());
        }
        let polled: model::Polled = self.0.poll(&path, Duration::from_secs(seconds)).await?;
        Ok(polled.decisions)
    }

    /// Waits for the decision on one request, as long as it takes: every request gets one, at the latest by its timeout.
    ///
    /// A decision that another worker holds, or that was acknowledged before, is not handed out again:
    /// [`Client::request`] shows it.
    pub async fn answer(&self, request_id: Uuid) -> Result<Decision> {
        loop {
            let mut decisions = self.poll(LONGEST_POLL, 1, &[request_id]).await?;
            if let Some(decision) = decisions.pop() {
                return Ok(decision);
            }
        }
    }

    /// Says that the agent has the decision and acted on it. Repeating it is no error.
    ///
    /// Where the service does not take this delivery for the latest any more (its lease was over, or was lost with a
    /// crash of its database), the decision comes again: it is polled for and said of that delivery, for as long as the
    /// client's [`Patience`]. The action itself is done once.
    ///
    /// # Errors
    /// [`Error::Refused`] with the code `stale-delivery` where it did not come again in that time: another worker of the
    /// agent holds it, or has acknowledged it.
    pub async fn accept(&self, decision: &Decision) -> Result<Acknowledged> {
        self.settle(decision, Said::Accepted).await
    }

    /// Asks for the decision to be delivered again later: what the agent wanted to do failed for now.
    ///
    /// # Errors
    /// As [`Client::accept`].
    pub async fn retry_later(&self, decision: &Decision, code: &str, message: &str) -> Result<Acknowledged> {
        self.settle(decision, Said::Retry { code, message }).await
    }

    /// Says that the agent will never be able to act on it: a dead letter for an administrator.
    ///
    /// # Errors
    /// As [`Client::accept`].
    pub async fn fail(&self, decision: &Decision, code: &str, message: &str) -> Result<Acknowledged> {
        self.settle(decision, Said::Failed { code, message }).await
    }

    /// Says it of this very delivery, and of no later one: [`Client::accept`] and its like are what an agent wants.
    ///
    /// # Errors
    /// [`Error::NotDelivered`]; [`Error::Refused`] with the code `stale-delivery` where it is not the latest.
    pub async fn acknowledge(&self, decision: &Decision, said: Said<'_>) -> Result<Acknowledged> {
        let Some(delivery_id) = decision.delivery_id else { return Err(Error::NotDelivered) };
        let mut body = said.to_json();
        body["delivery_id"] = json!(delivery_id);
        let path = format!("/v1/agents/{}/decisions/{}/ack", self.agent_id(), decision.request_id);
        self.0.call(Method::POST, &path, Some(&body.to_string().into_bytes())).await
    }

    async fn settle(&self, decision: &Decision, said: Said<'_>) -> Result<Acknowledged> {
        let until = Instant::now() + self.0.patience().in_all;
        let mut delivery = decision.clone();
        loop {
            let refused = match self.acknowledge(&delivery, said).await {
                Err(Error::Refused(problem)) if problem.code == STALE => problem,
                settled => return settled,
            };
            let Some(again) = self.delivered_again(&delivery, until).await? else {
                return Err(Error::Refused(refused));
            };
            delivery = again;
        }
    }

    /// The next delivery of the same decision, if it comes by then.
    async fn delivered_again(&self, decision: &Decision, until: Instant) -> Result<Option<Decision>> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            // A poll waits for whole seconds.
            if left < Duration::from_secs(1) {
                return Ok(None);
            }
            let Some(again) = self.poll(left, 1, &[decision.request_id]).await?.pop() else { continue };
            if again.outcome != decision.outcome {
                let (now, was) = (again.outcome, decision.outcome);
                return Err(Error::Contract(format!("{} was {was:?} and is {now:?}", decision.request_id)));
            }
            return Ok(Some(again));
        }
    }

    /// How a request stands, with its decision once there is one: for an agent that has lost its memory.
    pub async fn request(&self, request_id: Uuid) -> Result<RequestState> {
        let path = format!("/v1/agents/{}/requests/{request_id}", self.agent_id());
        self.0.call(Method::GET, &path, None).await
    }

    /// Withdraws the question. Decided already otherwise: [`Error::Refused`] with the decision that stands.
    pub async fn cancel(&self, request_id: Uuid, reason: Option<&str>) -> Result<serde_json::Value> {
        let path = format!("/v1/agents/{}/requests/{request_id}/cancel", self.agent_id());
        let body = reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        self.0.call(Method::POST, &path, Some(&body.to_string().into_bytes())).await
    }

    /// The public keys that receipts verify with.
    pub async fn receipt_keys(&self) -> Result<ReceiptKeys> {
        self.0.open("/.well-known/jwks.json").await
    }
}
