//! An agent's client of RelayTrace: ask a person, wait, verify, use the approval once, report.
//!
//! ```no_run
//! # async fn example(credentials: relaytrace_client::Credentials) -> Result<(), relaytrace_client::Error> {
//! use relaytrace_client::{Action, Client, Envelope, Priority};
//!
//! let client = Client::new("https://relay.example", credentials)?;
//! let action = Action::new("refund.create", serde_json::json!({"customer": "88213", "amount": "1240.00"}));
//! // The key is the agent's own: after a crash the same call finds the same request.
//! let question = Envelope::new("refund-1042", Priority::P2, "Refund 1,240 EUR", action);
//! let permit = client.ask(&question, None).await?;
//! permit.run(async |action| refund(&action.arguments).await).await?;
//! # Ok(())
//! # }
//! # async fn refund(_: &serde_json::Value) -> Result<(), relaytrace_client::Error> { Ok(()) }
//! ```
//!
//! [`Client::ask`] returns only where exactly this action was approved, and where this call has used the approval up; all
//! else is an [`Error`] that says what to do, and none of these is an approval. [`Client::from_env`] reads the variables
//! that the other SDKs read.
//!
//! Every call carries a fresh nonce. A response counts only if its RFC 9421 signature covers exactly what the contract
//! says, over this nonce and these bytes, and if it is about the request that was asked about; anything else is a lost
//! connection. What may be sent again is sent again, with a backoff, until [`Patience`] ends. An acknowledgement of a
//! delivery that is not the latest any more is said of the one that comes instead.

mod about;
mod call;
mod credentials;
mod error;
mod key;
mod model;
mod not_approved;
mod observe;
mod permit;
mod receipt;
mod settings;
pub mod signature;

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use about::About;
pub use credentials::Credentials;
pub use error::{Error, Fault, Lost, Problem, Result};
pub use model::{
    Acknowledged, Action, Actor, AnswerKind, Cancelled, Chain, Consumed, Decision, DeliveryState, Ended, Envelope,
    OnBehalfOf, Outcome, Permit, Priority, Reported, RequestState,
};
pub use not_approved::{NotApproved, Why};
pub use observe::{Observer, Response, Try};
pub use permit::PermitInUse;
pub use receipt::{Receipt, ReceiptKeys, Vote};
pub use settings::Settings;
pub use signature::Unverified;

/// Code of the refusal of an acknowledgement whose delivery is not the latest.
const STALE: &str = "stale-delivery";
/// Longest poll: the contract allows 55 s.
const LONGEST_POLL: Duration = Duration::from_secs(50);
/// `status` of a request without a decision.
const PENDING: &str = "pending";

/// From a request's deadline to the end of the sweep that decides it, the 30 s included that the clocks may differ.
pub const SWEEP_MARGIN: Duration = Duration::from_mins(2);

/// Time limits of a call.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Limit for one try; a poll's own waiting is not counted.
    pub per_try: Duration,
    /// Limit in total, from the first try to the last.
    pub in_all: Duration,
    /// Limit in total while no answer that counts has ever come: for an address, a key or a secret that is wrong.
    pub first_contact: Duration,
    /// A decision that is made and not handed out for so long was acknowledged before, or is somebody else's. Longer than
    /// a lease of the deployment (30 s, if `LEASE_SECONDS` says nothing else) and the first pause after it (1 s): a
    /// delivery that was lost with a crash comes again by then.
    pub until_passed_over: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            per_try: Duration::from_secs(10),
            in_all: Duration::from_mins(2),
            first_contact: Duration::from_secs(10),
            until_passed_over: Duration::from_secs(35),
        }
    }
}

/// The result of an acknowledgement (contract, "Acknowledge").
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
pub struct Client(call::Caller, Arc<key::Run>);

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
        Ok(Self(call::Caller::new(base_url, credentials, patience)?, Arc::default()))
    }

    /// A client as the environment says ([`Settings`]).
    ///
    /// # Errors
    /// [`Error::Configuration`] with the variable that is missing or wrong.
    pub fn from_env() -> Result<Self> {
        let Settings { url, credentials } = Settings::from_env()?;
        Self::new(&url, credentials)
    }

    /// The same client, which makes the keys of this run ([`Client::question`]): a run that is continued under its name
    /// finds its questions again.
    #[must_use]
    pub fn of_run(&self, run_id: &str) -> Self {
        Self(self.0.clone(), Arc::new(key::Run::named(run_id)))
    }

    /// The same client, sharing its connections, with every try of its calls told to the observer.
    #[must_use]
    pub fn observed(&self, observer: Arc<dyn Observer>) -> Self {
        Self(self.0.observed(observer), self.1.clone())
    }

    /// The agent of this client.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        self.0.agent_id()
    }

    /// Asks. The same envelope again, while its key is kept, is the same request.
    ///
    /// # Errors
    /// [`Error::Refused`]; [`Error::OtherAnswer`] where the service took the action for another one.
    pub async fn submit(&self, envelope: &Envelope) -> Result<RequestState> {
        let body = envelope.to_json(self.agent_id())?;
        let about = About { client_request_key: Some(&envelope.client_request_key), ..self.about(&[]) };
        let asked: RequestState = self.0.call(Method::POST, "/v1/hitl/requests", Some(&body), &about).await?;
        let own = envelope.action.digest()?;
        if asked.action_digest != own {
            return Err(Error::OtherAnswer { asked: own, answered: asked.action_digest });
        }
        Ok(asked)
    }

    /// The decisions that are due, at most `limit` (1 to 100): at once if there are any, else as soon as one is there,
    /// else none after `wait` (at most 50 s). Only of `request_ids`, unless that is empty.
    pub async fn poll(&self, wait: Duration, limit: u8, request_ids: &[Uuid]) -> Result<Vec<Decision>> {
        Ok(self.polled(wait, limit, &self.about(request_ids)).await?.decisions)
    }

    async fn polled(&self, wait: Duration, limit: u8, about: &About<'_>) -> Result<model::Polled> {
        let seconds = wait.min(LONGEST_POLL).as_secs();
        let mut path = format!("/v1/agents/{}/decisions/poll?wait_seconds={seconds}&limit={limit}", self.agent_id());
        for id in about.request_ids {
            path.push_str("&request_id=");
            path.push_str(&id.to_string());
        }
        self.0.poll(&path, Duration::from_secs(seconds), about).await
    }

    /// Waits for the decision on a request: every request gets one, at the latest by its timeout.
    ///
    /// A decision that was acknowledged before, or that another worker of the agent holds, is not handed out again. It is
    /// returned without [`Decision::delivery_id`] after [`Patience::until_passed_over`].
    ///
    /// # Errors
    /// [`Error::Undecided`] where the request is still pending [`SWEEP_MARGIN`] after its deadline.
    pub async fn answer(&self, asked: &RequestState) -> Result<Decision> {
        if let Some(decision) = asked.decision.as_ref().filter(|decision| decision.delivery_id.is_some()) {
            return Ok(decision.clone());
        }
        let request_ids = [asked.request_id];
        let about = About {
            client_request_key: Some(&asked.client_request_key),
            action_digest: Some(&asked.action_digest),
            ..self.about(&request_ids)
        };
        let until_passed_over = self.0.patience().until_passed_over;
        let mut respond_by = asked.respond_by;
        let mut decided_since = (asked.status != PENDING).then(Instant::now);
        loop {
            let left = match decided_since {
                Some(since) => until_passed_over.saturating_sub(since.elapsed()),
                None => until_swept(respond_by),
            };
            // In whole seconds, rounded up: a poll that does not wait would be repeated at once.
            let wait = Duration::from_secs(left.as_secs() + 1);
            let mut polled = self.polled(wait, 1, &about).await?;
            if let Some(decision) = polled.decisions.pop() {
                return Ok(decision);
            }
            // As it stands now: a deadline may have been extended, and a decision may be with another worker.
            let state: RequestState = self.0.call(Method::GET, &self.path_of(asked.request_id), None, &about).await?;
            match state.decision {
                Some(decision) => {
                    let since = *decided_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= until_passed_over {
                        return Ok(decision);
                    }
                }
                None if until_swept(state.respond_by).is_zero() => {
                    return Err(Error::Undecided { request_id: asked.request_id, respond_by: state.respond_by });
                }
                None => respond_by = state.respond_by,
            }
            sleep(Duration::from_millis(polled.retry_after_ms.unwrap_or_default())).await;
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

    /// Says it of this very delivery, and of no later one: [`Client::accept`] and its like are what an agent wants. A
    /// decision without a delivery can only be accepted; that ends its delivery, whoever holds it.
    ///
    /// # Errors
    /// [`Error::NotDelivered`]; [`Error::Refused`] with the code `stale-delivery` where it is not the latest.
    pub async fn acknowledge(&self, decision: &Decision, said: Said<'_>) -> Result<Acknowledged> {
        let mut body = said.to_json();
        match decision.delivery_id {
            Some(delivery_id) => body["delivery_id"] = json!(delivery_id),
            None if matches!(said, Said::Accepted) => {}
            None => return Err(Error::NotDelivered),
        }
        let request_ids = [decision.request_id];
        let about = About { delivery_id: decision.delivery_id, ..self.about(&request_ids) };
        let path = format!("/v1/agents/{}/decisions/{}/ack", self.agent_id(), decision.request_id);
        self.0.call(Method::POST, &path, Some(&body.to_string().into_bytes()), &about).await
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
            let request_ids = [decision.request_id];
            let about = About {
                client_request_key: Some(&decision.client_request_key),
                action_digest: Some(decision.requested_digest()),
                ..self.about(&request_ids)
            };
            let Some(again) = self.polled(left, 1, &about).await?.decisions.pop() else { continue };
            if again.outcome != decision.outcome {
                let (now, was) = (again.outcome, decision.outcome);
                return Err(Error::ContractBroken(format!("{} was {was:?} and is {now:?}", decision.request_id)));
            }
            return Ok(Some(again));
        }
    }

    /// How a request stands, with its decision once there is one: for an agent that has lost its memory.
    pub async fn request(&self, request_id: Uuid) -> Result<RequestState> {
        self.0.call(Method::GET, &self.path_of(request_id), None, &self.about(&[request_id])).await
    }

    /// The request that a key stands for, if there is one. Takes and changes nothing.
    pub async fn find(&self, client_request_key: &str) -> Result<Option<RequestState>> {
        let about = About { client_request_key: Some(client_request_key), ..self.about(&[]) };
        let mut path = format!("/v1/agents/{}/requests?client_request_key=", self.agent_id());
        path.extend(url::form_urlencoded::byte_serialize(client_request_key.as_bytes()));
        let mut found: model::Found = self.0.call(Method::GET, &path, None, &about).await?;
        Ok(found.items.pop())
    }

    /// Withdraws the question. Decided already otherwise: [`Error::Refused`] with the decision that stands.
    pub async fn cancel(&self, request_id: Uuid, reason: Option<&str>) -> Result<Cancelled> {
        let path = format!("{}/cancel", self.path_of(request_id));
        let body = reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
        let body = body.to_string().into_bytes();
        self.0.call(Method::POST, &path, Some(&body), &self.about(&[request_id])).await
    }

    /// The public keys that receipts verify with.
    pub async fn receipt_keys(&self) -> Result<ReceiptKeys> {
        self.0.open("/.well-known/jwks.json").await
    }

    /// What every answer to this client is about.
    fn about<'a>(&'a self, request_ids: &'a [Uuid]) -> About<'a> {
        About { agent_id: self.agent_id(), request_ids, ..About::default() }
    }

    fn path_of(&self, request_id: Uuid) -> String {
        format!("/v1/agents/{}/requests/{request_id}", self.agent_id())
    }
}

/// How long it may still take until the sweep has decided a request with this deadline.
fn until_swept(respond_by: DateTime<Utc>) -> Duration {
    #[expect(clippy::disallowed_methods, reason = "an agent's clock is the real one")]
    let left = respond_by + SWEEP_MARGIN - Utc::now();
    left.to_std().unwrap_or_default()
}
