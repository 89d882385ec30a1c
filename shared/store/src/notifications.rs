//! What is to be told: events that left the outbox, dealt out to those who listen, tried until they are told.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use relaytrace_domain::{
    ActionType, AgentId, Cause, ChannelId, ChannelMatch, ClientRequestKey, Error, KeyId, Matched, Notice, Outcome,
    Priority, RequestId, Result, Status, TenantId,
};
use uuid::Uuid;

use crate::database::Database;

/// What agents are told, by their push or the receiver of an instance.
pub const RESOLVED: &str = "resolved";

/// How somebody is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenerKind {
    /// A channel of people.
    Channel,
    /// An agent's push.
    Push,
    /// The receiver of an instance.
    Instance,
    /// A browser of an operator.
    Browser,
}

/// A try that a notifier has taken: others leave it alone until its lease ends.
#[derive(Clone, Debug)]
pub struct Notification {
    /// To whom.
    pub listener_id: Uuid,
    /// The request.
    pub request_id: RequestId,
    /// The chain entry that is told.
    pub seq: i32,
    /// A channel's notice, or [`RESOLVED`].
    pub notice: String,
    /// This try's number.
    pub attempts: i32,
    /// When it was first due.
    pub queued_at: DateTime<Utc>,
    /// Whose.
    pub tenant_id: TenantId,
    /// The channel.
    pub channel_id: Option<ChannelId>,
    /// The agent that is pushed to.
    pub listening_agent: Option<AgentId>,
    /// The instance whose receiver is told.
    pub instance_id: Option<KeyId>,
    /// `webhook`, `slack`, `email`, `push`, `instance` or `browser`.
    pub listener_kind: String,
    /// Its configuration, JSON.
    pub config: String,
    /// Its secret, encrypted.
    pub sealed: Option<Vec<u8>>,
    /// It was removed or turned off meanwhile.
    pub is_off: bool,
    /// Who asks.
    pub agent_id: AgentId,
    /// The agent's own key of the request.
    pub client_request_key: ClientRequestKey,
    /// The line of the queue.
    pub title: String,
    /// How urgent it is.
    pub priority: Priority,
    /// Type of the action.
    pub action_type: ActionType,
    /// The request's state.
    pub status: Status,
    /// Its deadline.
    pub respond_by: DateTime<Utc>,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The decision.
    pub outcome: Option<Outcome>,
    /// Why it was made.
    pub cause: Option<Cause>,
}

impl Notification {
    /// How it is told.
    #[must_use]
    pub fn told_by(&self) -> ListenerKind {
        match self.listener_kind.as_str() {
            "push" => ListenerKind::Push,
            "instance" => ListenerKind::Instance,
            "browser" => ListenerKind::Browser,
            _ => ListenerKind::Channel,
        }
    }
}

/// Whose turn it is.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// The listener whose turn was last.
    pub after: Uuid,
    /// Listeners that have enough under way.
    pub busy: Vec<Uuid>,
    /// Tenants that have enough under way.
    pub full: Vec<String>,
}

/// What became of a try.
#[derive(Clone, Debug)]
pub struct Tried {
    /// To whom.
    pub listener_id: Uuid,
    /// The request.
    pub request_id: RequestId,
    /// The chain entry.
    pub seq: i32,
    /// The try's number: a later one is not this one.
    pub attempts: i32,
    /// What follows.
    pub then: Then,
}

/// What follows a try.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    /// Nothing.
    Done,
    /// Another one, after so many seconds.
    Again(f64),
    /// An administrator looks at it.
    DeadLetter,
}

/// Someone who may be told something.
struct Listener {
    listener_id: Uuid,
    tenant_id: TenantId,
    channel_id: Option<ChannelId>,
    agent_id: Option<AgentId>,
    key_id: Option<String>,
    event_kinds: Vec<String>,
    notices: Vec<Notice>,
    matching: Option<String>,
}

/// An event that somebody may want to hear of.
struct EventToTell {
    request_id: RequestId,
    seq: i32,
    kind: String,
    tenant_id: TenantId,
    agent_id: AgentId,
    action_type: ActionType,
    priority: Priority,
    group_key: Option<String>,
    on_behalf_of: Option<String>,
    cause: Option<Cause>,
    state: Option<String>,
    key_id: Option<String>,
}

impl EventToTell {
    /// What channels tell of it.
    fn notice(&self) -> Option<Notice> {
        match self.kind.as_str() {
            // Nobody is asked where a rule has decided.
            "requested" if self.cause == Some(Cause::Policy) => None,
            "requested" => Some(Notice::Requested),
            "escalated" => Some(Notice::Escalated),
            "decided" if self.cause == Some(Cause::Timeout) => Some(Notice::TimedOut),
            "decided" => Some(Notice::Decided),
            "outcome" if self.state.as_deref() == Some("unknown") => Some(Notice::OutcomeUnknown),
            "dead_lettered" => Some(Notice::DeadLettered),
            _ => None,
        }
    }

    /// What a listener is told of it.
    fn told_to(&self, listener: &Listener, matching: Option<&ChannelMatch>) -> Option<&'static str> {
        if listener.tenant_id != self.tenant_id || !listener.event_kinds.contains(&self.kind) {
            return None;
        }
        if listener.channel_id.is_none() {
            let is_meant = match &listener.key_id {
                Some(key_id) => self.key_id.as_ref() == Some(key_id),
                None => listener.agent_id.as_ref() == Some(&self.agent_id),
            };
            return is_meant.then_some(RESOLVED);
        }
        let notice = self.notice().filter(|notice| listener.notices.contains(notice))?;
        let request = Matched {
            agent_id: &self.agent_id,
            action_type: &self.action_type,
            priority: self.priority,
            group: self.group_key.as_deref(),
            on_behalf_of: self.on_behalf_of.as_deref(),
        };
        matching.is_none_or(|matching| matching.holds(request)).then_some(notice.as_str())
    }
}

impl Database {
    /// Deals up to `limit` events out to those who listen: how many there were.
    pub async fn deal_out(&self, limit: i64) -> Result<u64> {
        let events = self.all(|| sqlx::query_file_as!(EventToTell, "sql/events_to_tell.sql", limit)).await?;
        if events.is_empty() {
            return Ok(0);
        }
        let mut tenants: Vec<_> = events.iter().map(|event| event.tenant_id.to_string()).collect();
        tenants.sort();
        tenants.dedup();
        let keys: Vec<_> = events.iter().filter_map(|event| event.key_id.clone()).collect();
        let listeners = self.all(|| sqlx::query_file_as!(Listener, "sql/listeners.sql", &tenants, &keys)).await?;
        let mut matches = HashMap::new();
        for listener in &listeners {
            if let Some(text) = &listener.matching {
                let matching: ChannelMatch = serde_json::from_str(text).map_err(Error::internal)?;
                matches.insert(listener.listener_id, matching);
            }
        }
        let (mut to, mut of, mut seqs, mut notices) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for event in &events {
            for listener in &listeners {
                if let Some(notice) = event.told_to(listener, matches.get(&listener.listener_id)) {
                    to.push(listener.listener_id);
                    of.push(event.request_id.0);
                    seqs.push(event.seq);
                    notices.push(notice.to_owned());
                }
            }
        }
        let asked: Vec<_> = events.iter().map(|event| (event.request_id, event.seq, event.kind.as_str())).collect();
        for told in self.browsers_to_tell(&asked).await? {
            to.push(told.listener_id);
            of.push(told.request_id.0);
            seqs.push(told.seq);
            // Who was assigned later is asked then.
            let notice = if told.kind == "escalated" { Notice::Escalated } else { Notice::Requested };
            notices.push(notice.as_str().to_owned());
        }
        let ids: Vec<_> = events.iter().map(|event| event.request_id.0).collect();
        let sequence: Vec<_> = events.iter().map(|event| event.seq).collect();
        self.execute(|| {
            sqlx::query_file!(
                "sql/deal_out.sql",
                self.clock().for_database(),
                &ids,
                &sequence,
                &to,
                &of,
                &seqs,
                &notices,
            )
        })
        .await?;
        Ok(events.len() as u64)
    }

    /// Takes up to `limit` notifications that are due, of each listener at most `of_each`, for `lease_seconds`. Listeners
    /// have their turns in the order of their ids, from the one after `turn.after` on.
    pub async fn claim_notifications(
        &self,
        limit: i64,
        of_each: i64,
        lease_seconds: f64,
        turn: &Turn,
    ) -> Result<Vec<Notification>> {
        self.all(|| {
            sqlx::query_file_as!(
                Notification,
                "sql/claim_notifications.sql",
                self.clock().for_database(),
                limit,
                of_each,
                lease_seconds,
                &turn.busy,
                turn.after,
                &turn.full,
            )
        })
        .await
    }

    /// Notes what became of tries.
    pub async fn settle_notifications(&self, tried: &[Tried]) -> Result<()> {
        let listeners: Vec<_> = tried.iter().map(|tried| tried.listener_id).collect();
        let requests: Vec<_> = tried.iter().map(|tried| tried.request_id.0).collect();
        let seqs: Vec<_> = tried.iter().map(|tried| tried.seq).collect();
        let attempts: Vec<_> = tried.iter().map(|tried| tried.attempts).collect();
        let pause = |tried: &Tried| match tried.then {
            Then::Again(seconds) => Some(seconds),
            Then::Done | Then::DeadLetter => None,
        };
        let pauses: Vec<_> = tried.iter().map(pause).collect();
        let cause = |tried: &Tried| (tried.then == Then::DeadLetter).then(|| "age_exceeded".to_owned());
        let causes: Vec<_> = tried.iter().map(cause).collect();
        self.execute(|| {
            sqlx::query_file!(
                "sql/settle_notifications.sql",
                self.clock().for_database(),
                &listeners,
                &requests,
                &seqs,
                &attempts,
                &pauses as &[Option<f64>],
                &causes as &[Option<String>],
            )
        })
        .await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, cause: Option<Cause>) -> EventToTell {
        EventToTell {
            request_id: RequestId(Uuid::nil()),
            seq: 1,
            kind: kind.to_owned(),
            tenant_id: "t".parse().unwrap(),
            agent_id: "a".parse().unwrap(),
            action_type: "x".parse().unwrap(),
            priority: Priority::P2,
            group_key: None,
            on_behalf_of: None,
            cause,
            state: None,
            key_id: None,
        }
    }

    #[test]
    fn what_a_rule_decides_at_once_is_asked_of_nobody() {
        assert_eq!(event("requested", Some(Cause::Policy)).notice(), None);
        assert_eq!(event("decided", Some(Cause::Policy)).notice(), Some(Notice::Decided));
        // Decided by a person meanwhile: those who were asked are told of both.
        for cause in [None, Some(Cause::Operator), Some(Cause::Timeout)] {
            assert_eq!(event("requested", cause).notice(), Some(Notice::Requested));
        }
    }
}
