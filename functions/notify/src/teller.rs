//! Takes what is due, tells it, and notes what became of it.

use std::collections::HashMap;
use std::time::Duration;

use relaytrace_domain::{Error, Notice, Priority, Result, Status, TenantId};
use relaytrace_reach::{
    About, Failed, Handling, Message, PushSecrets, Resolved, Subscription, Target, channel_place, channel_target,
    instance_place, push_place,
};
use relaytrace_service::AppState;
use relaytrace_store::{ListenerKind, Notification, RESOLVED, Then, Tried, Turn};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use crate::NotifyReport;

/// Events that one statement deals out at the most.
const DEALT: i64 = 500;
/// By so many more each time after a statement had no time for as many.
const RESTORED: i64 = 10;
/// Tries under way at the same time.
const UNDER_WAY: usize = 64;
/// Of these to one listener: one that does not answer leaves room for others.
const OF_EACH: usize = 8;
/// A tenant that has so many takes no more: many that do not answer leave room for other tenants.
const OF_TENANT: usize = 32;
/// Tries that one statement takes at the most: before the next one it is seen which tenants have enough.
const AT_ONCE: usize = 16;
/// Pause between two looks for browsers whose owners have not been seen for long.
const END_EVERY: Duration = Duration::from_mins(1);
/// How long others leave a try alone. Longer than any try takes.
const LEASE_SECONDS: f64 = 60.0;
/// From then on a message is not tried again, but a dead letter.
const LONGEST: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// Longest pause between two tries, in seconds.
const LONGEST_PAUSE: f64 = 300.0;

/// Tries that are under way, and results that are not noted yet.
pub struct Teller {
    state: AppState,
    /// Events that the next statement deals out.
    batch: i64,
    under_way: JoinSet<Tried>,
    /// How many of them each listener has, and whose it is.
    busy: HashMap<Uuid, (TenantId, usize)>,
    /// The listener whose turn was last.
    after: Uuid,
    ended: Vec<Tried>,
    /// When browsers of people who were not seen for long are ended next.
    end_at: Instant,
}

impl Teller {
    /// Nothing is under way.
    pub fn new(state: AppState) -> Self {
        Self {
            state,
            batch: DEALT,
            under_way: JoinSet::new(),
            busy: HashMap::new(),
            after: Uuid::nil(),
            ended: Vec::new(),
            end_at: Instant::now(),
        }
    }

    /// Notes what has ended, deals events out, and takes what is due where it may: what it did, and whether something is
    /// under way or left.
    pub async fn step(&mut self, may_take: bool) -> Result<(NotifyReport, bool)> {
        while let Some(joined) = self.under_way.try_join_next() {
            self.note(joined);
        }
        let mut report = self.settle().await?;
        let mut has_more = false;
        if may_take {
            self.end_browsers().await?;
            let (dealt_out, is_again) = self.deal_out().await?;
            report.dealt_out = dealt_out;
            let taken = self.take().await?;
            has_more = dealt_out > 0 || is_again || taken > 0;
        }
        Ok((report, has_more || !self.under_way.is_empty() || !self.ended.is_empty()))
    }

    /// Waits until a try ends, or so long.
    pub async fn wait(&mut self, longest: Duration) {
        let ended = async {
            match self.under_way.join_next().await {
                Some(joined) => joined,
                None => std::future::pending().await,
            }
        };
        if let Ok(joined) = tokio::time::timeout(longest, ended).await {
            self.note(joined);
        }
    }

    /// Ends browsers whose owners have not been seen for long, now and then.
    async fn end_browsers(&mut self) -> Result<()> {
        if Instant::now() >= self.end_at {
            self.state.store.end_browsers().await?;
            self.end_at = Instant::now() + END_EVERY;
        }
        Ok(())
    }

    /// How many events it dealt out, and whether fewer are to be tried at once: the database had no time for so many. What
    /// was dealt out before is told all the same.
    async fn deal_out(&mut self) -> Result<(u64, bool)> {
        match self.state.store.deal_out(self.batch).await {
            Ok(dealt_out) => {
                self.batch = (self.batch + RESTORED).min(DEALT);
                Ok((dealt_out, false))
            }
            Err(error @ Error::Unavailable(_)) => {
                let is_again = self.batch > 1;
                tracing::warn!(error = %error, events = self.batch, "events could not be dealt out; half of them are next");
                self.batch = (self.batch / 2).max(1);
                Ok((0, is_again))
            }
            Err(error) => Err(error),
        }
    }

    fn note(&mut self, joined: std::result::Result<Tried, tokio::task::JoinError>) {
        match joined {
            Ok(tried) => {
                if let Some((_, count)) = self.busy.get_mut(&tried.listener_id) {
                    *count -= 1;
                }
                self.busy.retain(|_, (_, count)| *count > 0);
                self.ended.push(tried);
            }
            // Its lease ends, and it is tried again.
            Err(panic) => tracing::error!(error = %panic, "a try to tell something ended early"),
        }
    }

    async fn settle(&mut self) -> Result<NotifyReport> {
        let mut report = NotifyReport::default();
        if self.ended.is_empty() {
            return Ok(report);
        }
        self.state.store.settle_notifications(&self.ended).await?;
        for tried in self.ended.drain(..) {
            match tried.then {
                Then::Done => report.told += 1,
                Then::Again(_) => report.failed += 1,
                Then::DeadLetter => report.dead_lettered += 1,
            }
        }
        Ok(report)
    }

    /// Takes what is due, as far as there is room.
    async fn take(&mut self) -> Result<usize> {
        let mut count = 0;
        loop {
            let room = UNDER_WAY.saturating_sub(self.under_way.len()).min(AT_ONCE);
            if room == 0 {
                return Ok(count);
            }
            let taken = self.take_some(room).await?;
            count += taken;
            if taken < room {
                return Ok(count);
            }
        }
    }

    async fn take_some(&mut self, room: usize) -> Result<usize> {
        let turn = self.turn();
        let (room, of_each) = (i64::try_from(room).unwrap_or(1), i64::try_from(OF_EACH).unwrap_or(1));
        let taken = self.state.store.claim_notifications(room, of_each, LEASE_SECONDS, &turn).await?;
        // The furthest from the one before, round the end.
        let turns = taken.iter().map(|notification| notification.listener_id);
        self.after = turns.max_by_key(|id| (*id <= turn.after, *id)).unwrap_or(turn.after);
        let count = taken.len();
        for notification in taken {
            let whose = || (notification.tenant_id.clone(), 0);
            self.busy.entry(notification.listener_id).or_insert_with(whose).1 += 1;
            self.under_way.spawn(attempt(self.state.clone(), notification));
        }
        Ok(count)
    }

    fn turn(&self) -> Turn {
        let mut of_tenants: HashMap<&TenantId, usize> = HashMap::new();
        for (tenant, count) in self.busy.values() {
            *of_tenants.entry(tenant).or_default() += count;
        }
        let full = of_tenants.into_iter().filter(|(_, count)| *count >= OF_TENANT);
        let full = full.map(|(tenant, _)| tenant.to_string()).collect();
        Turn { after: self.after, busy: self.busy.keys().copied().collect(), full }
    }
}

/// One try.
async fn attempt(state: AppState, notification: Notification) -> Tried {
    let then = if is_over(&notification) { Then::Done } else { tell(&state, &notification).await };
    let Notification { listener_id, request_id, seq, attempts, .. } = notification;
    Tried { listener_id, request_id, seq, attempts, then }
}

/// Whether it need not be told any more: a browser only asks for answers.
fn is_over(of: &Notification) -> bool {
    of.is_off || of.told_by() == ListenerKind::Browser && of.status != Status::Pending
}

async fn tell(state: &AppState, notification: &Notification) -> Then {
    let now = state.clock.now();
    let sent = match target(state, notification) {
        Ok(target) => state.reach.sender().send(&target, &message(state, notification), now).await,
        Err(error) => {
            tracing::error!(error = ?error, listener.id = %notification.listener_id, "a listener cannot be told anything");
            Err(Failed::Refused)
        }
    };
    match sent {
        Ok(()) => Then::Done,
        Err(Failed::Gone) if notification.told_by() != ListenerKind::Channel => {
            match state.store.end_push(notification.listener_id, &notification.config).await {
                Ok(()) => Then::Done,
                Err(_) => Then::Again(1.0),
            }
        }
        Err(_) if now - notification.queued_at >= LONGEST => Then::DeadLetter,
        Err(_) => Then::Again(pause(notification.attempts)),
    }
}

/// The pause after so many tries: doubling, any part of it.
fn pause(attempts: i32) -> f64 {
    let most = 2f64.powi(attempts.saturating_sub(1).clamp(0, 30)).min(LONGEST_PAUSE);
    rand::random::<f64>() * most
}

/// Where it goes.
fn target(state: &AppState, of: &Notification) -> Result<Target> {
    let config: Value = serde_json::from_str(&of.config).map_err(Error::internal)?;
    if of.told_by() == ListenerKind::Browser {
        return Ok(Target::Browser { to: Subscription::read(&config)?, handling: handling(state, of) });
    }
    let keys = state.reach.config.keys.as_ref();
    let keys = keys.ok_or_else(|| Error::internal(std::io::Error::other("there is no CHANNEL_KEY")))?;
    let place = match (&of.channel_id, &of.listening_agent, &of.instance_id) {
        (Some(channel_id), _, _) => channel_place(&of.tenant_id, channel_id),
        (None, Some(agent_id), _) => push_place(agent_id),
        (None, None, Some(key_id)) => instance_place(key_id),
        (None, None, None) => return Err(Error::NotFound),
    };
    let secret = of.sealed.as_deref().map(|sealed| keys.open(&place, sealed)).transpose()?;
    match of.told_by() {
        ListenerKind::Push => {
            let secrets = PushSecrets::read(&secret.unwrap_or_default())?;
            let url = config["url"].as_str().unwrap_or_default().to_owned();
            Ok(Target::Webhook { url, secrets: secrets.valid(state.clock.now()) })
        }
        ListenerKind::Instance => channel_target("webhook", &config, secret),
        ListenerKind::Channel | ListenerKind::Browser => channel_target(&of.listener_kind, &config, secret),
    }
}

/// A push service keeps it until nobody may answer any more, and the last of a request alone.
fn handling(state: &AppState, of: &Notification) -> Handling {
    let left = (of.respond_by - state.clock.now()).num_seconds();
    Handling {
        ttl_seconds: left.try_into().unwrap_or(0),
        is_urgent: of.priority == Priority::P1,
        topic: of.request_id.0.simple().to_string(),
    }
}

/// What is told.
fn message(state: &AppState, of: &Notification) -> Message {
    let id = format!("msg_{}_{}_{}", of.listener_id.simple(), of.request_id.0.simple(), of.seq);
    if let Some(instance_id) = &of.instance_id {
        return Message::resolved_of_instance(id, of.at, instance_id, of.request_id);
    }
    if of.notice == RESOLVED {
        let resolved = Resolved {
            agent_id: of.agent_id.clone(),
            request_id: of.request_id,
            client_request_key: of.client_request_key.clone(),
            status: of.status,
            outcome: of.outcome,
        };
        return Message::resolved(id, of.at, &resolved);
    }
    let notice = Notice::ALL.into_iter().find(|notice| notice.as_str() == of.notice).unwrap_or(Notice::Requested);
    let about = About {
        notice,
        request_id: of.request_id,
        agent_id: of.agent_id.clone(),
        title: of.title.clone(),
        priority: of.priority,
        action_type: of.action_type.clone(),
        status: of.status,
        respond_by: of.respond_by,
        outcome: of.outcome,
        cause: of.cause,
    };
    let link = state.reach.link(of.request_id);
    match of.told_by() {
        ListenerKind::Browser => Message::to_browser(id, of.at, &about, link.as_deref()),
        _ => Message::notice(id, of.at, &about, state.clock.now(), link),
    }
}
