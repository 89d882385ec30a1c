//! Ask, wait, use the approval once, report (contract, "Permits").
//!
//! Nothing that a caller remembers stands for an approval: a run begins after [`Client::consume`] and only then.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::about::About;
use crate::error::{Error, Lost, Result};
use crate::key::{LONGEST_KEY, of_generation};
use crate::model::{Action, Consumed, Decision, Ended, Envelope, Priority, Reported, RequestState};
use crate::not_approved::Why;
use crate::{Client, LONGEST_POLL, Said, until_swept};

/// How often one question is asked anew because its approval expired before it was used.
const MOST_GENERATIONS: u32 = 9;
/// Between two looks at a request of a deployment that lets no call wait.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Longest note of a report, in characters.
const LONGEST_NOTE: usize = 2_000;

/// An approval that was consumed for this very run.
///
/// Report how the run ended. An end that nobody reports is on record as unknown.
#[derive(Clone, Debug)]
pub struct PermitInUse {
    client: Client,
    /// What was asked.
    pub request: RequestState,
    /// What was decided, by whom.
    pub decision: Decision,
    /// What was approved, edited or not: run this, and nothing else.
    pub action: Action,
}

impl PermitInUse {
    /// Says how the run ended, with a note for the record.
    pub async fn report(&self, ended: Ended, note: Option<&str>) -> Result<Reported> {
        self.client.report(self.request.request_id, ended, note, None).await
    }

    /// Runs the action, once, and reports its result. The report of what has run may be lost; its result is returned.
    pub async fn run<T, E: std::fmt::Display>(self, work: impl AsyncFnOnce(&Action) -> Result<T, E>) -> Result<T, E> {
        let result = work(&self.action).await;
        let note = result.as_ref().err().map(ToString::to_string);
        let ended = if result.is_ok() { Ended::Succeeded } else { Ended::Failed };
        // What is not on record in time is recorded as unknown by the relay.
        drop(self.report(ended, note.as_deref()).await);
        result
    }
}

impl Client {
    /// A question under a key that this client makes: its run, the action's digest, and the ordinal of equal actions.
    ///
    /// # Errors
    /// [`Error::Configuration`] where the action has no digest.
    pub fn question(&self, priority: Priority, title: &str, action: Action) -> Result<Envelope> {
        let key = self.1.next_key(&action.digest()?);
        Ok(Envelope::new(&key, priority, title, action))
    }

    /// Asks, waits and uses the approval up. The action may run once this returns, and only then.
    ///
    /// It waits until the question's deadline, or for `limit`. An approval that expired before it was used is asked for
    /// anew under `<key>:2`, and so on; one that was used before never is.
    ///
    /// # Errors
    /// [`Error::NotApproved`] with the reason; any other where no answer counts.
    pub async fn ask(&self, envelope: &Envelope, limit: Option<Duration>) -> Result<PermitInUse> {
        self.ask_while(envelope, limit, |_| {}, std::future::pending()).await
    }

    /// As [`Client::ask`], and says what was asked as soon as it is, for a progress line. Where `stopped` comes first, the
    /// question is withdrawn.
    ///
    /// # Errors
    /// As [`Client::ask`]; [`Why::Cancelled`] where it was stopped, also where an answer had just come: it is not used.
    pub async fn ask_while(
        &self,
        envelope: &Envelope,
        limit: Option<Duration>,
        mut asked: impl FnMut(&RequestState),
        stopped: impl Future<Output = ()>,
    ) -> Result<PermitInUse> {
        let mut stopped = std::pin::pin!(stopped);
        if envelope.client_request_key.len() > LONGEST_KEY {
            return Err(Error::Configuration(format!("the key has more than {LONGEST_KEY} characters")));
        }
        let mut generation = 1;
        loop {
            let client_request_key = of_generation(&envelope.client_request_key, generation);
            let request = self.submit(&Envelope { client_request_key, ..envelope.clone() }).await?;
            asked(&request);
            let decision = tokio::select! {
                decision = self.wait(&request, limit) => decision?,
                () = &mut stopped => return Err(self.withdraw(&request).await),
            };
            if let Some(why) = Why::of(&decision) {
                self.received(&decision).await;
                return Err(why.about(&request, Some(&decision)));
            }
            let refused = match self.consume(&request, &decision, &envelope.action).await {
                Err(refused) => refused,
                used => return used,
            };
            let is_expired = why_of(&refused).is_some_and(|why| *why == Why::PermitExpired);
            if is_expired || matches!(why_of(&refused), Some(Why::PermitRevoked(_))) {
                // It cannot be used any more: nobody needs to be told of it again.
                self.received(&decision).await;
            }
            if !is_expired || generation == MOST_GENERATIONS {
                return Err(refused);
            }
            generation += 1;
        }
    }

    /// Takes a question back whose asker has stopped, and says so as an error.
    pub async fn withdraw(&self, request: &RequestState) -> Error {
        let reason = "Its asker was stopped.";
        let stands = match self.cancel(request.request_id, Some(reason)).await {
            Ok(_) => return Why::Cancelled { reason: Some(reason.to_owned()) }.about(request, None),
            Err(Error::Refused(problem)) if problem.code == "already-decided" => "it had just been decided; not used",
            Err(error) => return error,
        };
        Why::Cancelled { reason: Some(stands.to_owned()) }.about(request, None)
    }

    /// The decision on a request, by this or another worker of the agent. It comes at the latest by the deadline.
    ///
    /// It looks and takes no delivery, so that of several workers that wait for one request each sees the decision as it
    /// comes.
    ///
    /// # Errors
    /// [`Error::NotApproved`] with [`Why::StillPending`] after `limit`; [`Error::Undecided`] where the request is pending
    /// after its deadline.
    pub async fn wait(&self, asked: &RequestState, limit: Option<Duration>) -> Result<Decision> {
        let begun = Instant::now();
        let request_ids = [asked.request_id];
        let about = About {
            client_request_key: Some(&asked.client_request_key),
            action_digest: Some(&asked.action_digest),
            ..self.about(&request_ids)
        };
        let mut state = asked.clone();
        loop {
            if let Some(decision) = state.decision {
                return Ok(decision);
            }
            let own = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
            let (request_id, respond_by) = (state.request_id, state.respond_by);
            if own == Some(Duration::ZERO) {
                return Err(Why::StillPending { respond_by }.about(asked, None));
            }
            let left = until_swept(respond_by);
            if left.is_zero() {
                return Err(Error::Undecided { request_id, respond_by });
            }
            // In whole seconds, rounded up: a look that does not wait would be repeated at once.
            let wait = Duration::from_secs(own.unwrap_or(left).min(left).as_secs() + 1).min(LONGEST_POLL);
            let path = format!("{}?wait_seconds={}", self.path_of(request_id), wait.as_secs());
            let looked = Instant::now();
            // A deadline may have been moved: the answer says the one that stands.
            state = self.0.poll(&path, wait, &about).await?;
            if state.decision.is_none() {
                // A deployment may shorten the wait, even to none.
                sleep(LOOK_AGAIN.saturating_sub(looked.elapsed()).min(own.unwrap_or(left))).await;
            }
        }
    }

    /// Uses an approval up for the action that is about to run, if exactly that was approved.
    ///
    /// # Errors
    /// [`Error::NotApproved`] with what stands against it; [`Error::OtherAnswer`] where another action was approved.
    pub async fn consume(&self, request: &RequestState, decision: &Decision, asked: &Action) -> Result<PermitInUse> {
        if let Some(why) = Why::of(decision) {
            return Err(why.about(request, Some(decision)));
        }
        let action = decision.approved_action(asked)?;
        let action_digest = action.digest()?;
        let request_ids = [request.request_id];
        let about = About { action_digest: Some(&action_digest), ..self.about(&request_ids) };
        let path = format!("{}/consume", self.path_of(request.request_id));
        // A fresh key for this attempt: a repeated answer to it is this very call's.
        let body = json!({"consume_key": Uuid::new_v4().simple().to_string(), "action_digest": action_digest});
        let body = body.to_string().into_bytes();
        let Err(refused) = self.0.call::<Consumed>(Method::POST, &path, Some(&body), &about).await else {
            let (client, request, decision) = (self.clone(), request.clone(), decision.clone());
            return Ok(PermitInUse { client, request, decision, action });
        };
        let why = match &refused {
            Error::Refused(problem) => match problem.code.as_str() {
                "already-consumed" => Why::AlreadyUsed,
                "permit-expired" => Why::PermitExpired,
                "permit-revoked" => Why::PermitRevoked(problem.detail.clone()),
                "frozen" => Why::Frozen,
                _ => return Err(refused),
            },
            Error::NoAnswer { why: Lost::Frozen, .. } => Why::Frozen,
            _ => return Err(refused),
        };
        Err(why.about(request, Some(decision)))
    }

    /// Whether the key may use approvals (scope `execute`). It asks to use that of a request that nobody made.
    pub async fn may_execute(&self) -> Result<bool> {
        let nobodys = Uuid::new_v4();
        let body = json!({"consume_key": nobodys.simple().to_string(), "action_digest": format!("sha256:{:064}", 0)});
        let (path, body) = (format!("{}/consume", self.path_of(nobodys)), body.to_string().into_bytes());
        match self.0.call::<Consumed>(Method::POST, &path, Some(&body), &self.about(&[nobodys])).await {
            Err(Error::Refused(problem)) if problem.code == "not-found" => Ok(true),
            Err(Error::Refused(problem)) if problem.code == "forbidden" => Ok(false),
            Err(error) => Err(error),
            Ok(_) => Err(Error::ContractBroken(format!("{nobodys}, which nobody made, was approved"))),
        }
    }

    /// Says how the run of a consumed approval ended: once, with a note (cut at 2,000 characters) and the SHA-256 of what
    /// proves it (`sha256:` and 64 hexadecimal digits). The same again is no error.
    ///
    /// # Errors
    /// [`Error::Refused`] with the code `outcome-conflict` where another end is on record, `not-consumed` before the use.
    pub async fn report(
        &self,
        request_id: Uuid,
        ended: Ended,
        note: Option<&str>,
        evidence_sha256: Option<&str>,
    ) -> Result<Reported> {
        let mut body = json!({"state": ended});
        if let Some(note) = note.filter(|note| !note.is_empty()) {
            body["note"] = note.chars().take(LONGEST_NOTE).collect::<String>().into();
        }
        if let Some(evidence) = evidence_sha256 {
            body["evidence_sha256"] = evidence.into();
        }
        let path = format!("{}/outcome", self.path_of(request_id));
        let body = body.to_string().into_bytes();
        self.0.call(Method::POST, &path, Some(&body), &self.about(&[request_id])).await
    }

    /// Passes on what a harness asks in a protocol of its own (JSON), and returns the verified answer as it came. `waits` is
    /// how long the relay may hold it.
    pub async fn bridge(&self, path: &str, body: &[u8], waits: Duration) -> Result<Box<RawValue>> {
        self.0.post_waiting(path, body, waits, &About::default()).await
    }

    /// Ends the delivery of a decision that is not to be run, whoever holds it. A lost acknowledgement is made up for by
    /// the next delivery.
    async fn received(&self, decision: &Decision) {
        let undelivered = Decision { delivery_id: None, ..decision.clone() };
        drop(self.acknowledge(&undelivered, Said::Accepted).await);
    }
}

fn why_of(error: &Error) -> Option<&Why> {
    if let Error::NotApproved(not_approved) = error { Some(&not_approved.why) } else { None }
}
