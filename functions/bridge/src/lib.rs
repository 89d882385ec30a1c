//! `bridge`: agents ask by protocols that others have defined (contract, "Bridges").
//!
//! Whatever fails here denies.

mod aap;
mod claude_code;

use aap::instances;
use relaytrace_domain::{AckResult, Cause, DecidedEntry, Error, Outcome, RequestId, Result, Timestamp};
use relaytrace_service::http::Routes;
use relaytrace_service::{AppState, DatabaseAuthority};
use relaytrace_store::{Ack, Caller, Delivered};

/// The routes of this function.
pub fn router() -> Routes {
    relaytrace_service::routes!(
        aap::create,
        aap::look,
        aap::cancel,
        aap::consume,
        aap::outcome,
        instances::provision,
        claude_code::hook
    )
    .needing(DatabaseAuthority::Agent, |needs| {
        needs.responses().bearer().channels().causes(&[Cause::Agent, Cause::Policy])
    })
    .speaking(aap::DIALECT)
    .speaking(claude_code::DIALECT)
}

/// A decision that its decider has attested.
#[derive(Debug)]
struct Attested {
    entry: DecidedEntry,
    delivered: Delivered,
}

impl Attested {
    /// What an agent may be told of a decision: nothing of one that nobody attests.
    fn of(state: &AppState, caller: &Caller, delivered: Delivered) -> Result<Self> {
        let entry = state.receipt_keys.checked(&delivered.stored_decision(), &caller.agent_id)?;
        Ok(Self { entry, delivered })
    }

    /// Until when the approval may be used; `None`: it is none.
    fn expires_at(&self) -> Option<Timestamp> {
        self.delivered.permit.filter(|_| self.entry.outcome == Outcome::Approved).map(|permit| permit.expires_at)
    }

    /// Whether the approval may still be used, as far as this process knows.
    fn is_usable(&self, state: &AppState) -> bool {
        self.expires_at().is_some_and(|expires_at| state.clock.now() < expires_at.0)
    }
}

/// Ends the delivery of a decision that the agent is told and that it cannot use.
async fn acknowledge(state: &AppState, caller: &Caller, request_id: RequestId, traceparent: &str) -> Result<()> {
    let ack = Ack {
        caller: caller.clone(),
        request_id,
        delivery_id: None,
        result: AckResult::Accepted,
        error_code: None,
        error_message: None,
        traceparent: Some(traceparent.to_owned()),
    };
    match state.relay.acknowledge(ack).await {
        // By the database's clock it can still be used: a later call ends it.
        Ok(_) | Err(Error::NotConsumed) => Ok(()),
        Err(error) => Err(error),
    }
}
