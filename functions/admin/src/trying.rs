//! The trial of a draft of rules on what was asked before (contract, "Trying rules").

use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use deserr::Deserr;
use relaytrace_domain::rules::{Applied, Effect, Latitude, Rules, RulesDocument, Whole};
use relaytrace_domain::{
    Cause, Error, Faults, Outcome, ParseError, RequestId, Result, RuleName, Timestamp, from_object,
};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Cursor, JsonBytes, Problem};
use relaytrace_store::{AskFilter, AskPage, StoredAsk};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::asked::Asked;

/// Most requests of one call.
const MOST: i32 = 2_000;
/// Most examples of an answer.
const EXAMPLES: usize = 100;
/// After so long a page ends with what was judged, so that an answer is in time whatever the draft says.
const JUDGED_FOR: Duration = Duration::from_secs(5);

/// A draft of rules, and the stored requests that it is tried on.
#[derive(Debug, Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewTrial {
    /// The rules, as `PUT /v1/admin/rules` takes them.
    #[schema(value_type = Vec<Object>)]
    #[expect(dead_code, reason = "`RulesDocument` reads them")]
    rules: Anything,
    /// Submitted not before this time.
    from: Timestamp,
    /// Submitted before this time.
    to: Timestamp,
    /// At most so many, 1 to 2,000; absent: 2,000.
    #[deserr(default)]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 2_000)]
    limit: Option<Whole<1, MOST>>,
    /// From the page before.
    #[deserr(default)]
    cursor: Option<String>,
}

/// A member that is read elsewhere.
#[derive(Debug)]
struct Anything;

impl<E: deserr::DeserializeError> Deserr<E> for Anything {
    fn deserialize_from_value<V: deserr::IntoValue>(
        _: deserr::Value<V>,
        _: deserr::ValuePointerRef,
    ) -> Result<Self, E> {
        Ok(Self)
    }
}

/// How many requests the draft would treat so.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct TrialCounts {
    /// Approved by a rule.
    approved: u32,
    /// Rejected by a rule.
    rejected: u32,
    /// Asked of people, by a rule or without one.
    asked: u32,
    /// Asked of people because a rule could not be judged.
    failed: u32,
    /// Not to be judged any more: the envelope is erased.
    skipped: u32,
}

/// What became of a request. More may come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Was {
    Approved,
    Rejected,
    Responded,
    Cancelled,
    /// Rejected because nobody answered in time.
    TimedOut,
    Pending,
}

/// What the draft would do with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Would {
    Approved,
    Rejected,
    Asked,
    Failed,
}

/// A request that the draft decides, or cannot judge, or that it would treat otherwise.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialExample {
    #[schema(value_type = String, format = "uuid")]
    request_id: RequestId,
    was: Was,
    would: Would,
    /// The rule that applies, or the first that could not be judged; null: none.
    #[schema(value_type = Option<String>)]
    rule: Option<RuleName>,
}

/// What a draft would have done.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct Trial {
    /// Requests of this page: the sum of `counts`.
    tried: u32,
    counts: TrialCounts,
    /// Requests that end alike, and those that a person would be asked, and was.
    same: u32,
    /// The others that could be judged.
    differs: u32,
    /// At most 100: first what a person rejected and the draft would approve.
    examples: Vec<TrialExample>,
    /// Gives the next page, of older requests; null on the last one.
    next_cursor: Option<String>,
}

/// A position: the last request that was looked at.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrialCursor {
    tried_to: Uuid,
}

impl Cursor for TrialCursor {}

impl NewTrial {
    /// The draft, and which requests it is tried on; every fault at once.
    fn parse(bytes: &[u8]) -> Result<(Rules, AskFilter)> {
        let json = relaytrace_domain::Json::parse(bytes)?;
        let mut faults = Faults::default();
        let rules = match json.get("rules").map(draft) {
            Some(Ok(rules)) => Some(rules),
            Some(Err(ParseError::Invalid(more))) => {
                faults.extend(more);
                None
            }
            Some(Err(malformed)) => return Err(malformed.into()),
            None => None,
        };
        let filter = from_object::<Self>(json).and_then(Self::filter);
        match (rules, filter) {
            (Some(rules), Ok(filter)) => Ok((rules, filter)),
            (_, filter) => {
                faults.extend(filter.err().unwrap_or_default());
                Err(faults.into())
            }
        }
    }

    fn filter(self) -> Result<AskFilter, Faults> {
        let mut faults = Faults::default();
        if self.to <= self.from {
            faults.add("/to", "must be after from");
        }
        let after = self.cursor.as_deref().map(TrialCursor::decode).transpose().unwrap_or_else(|_| {
            faults.add("/cursor", "is not a cursor of this listing");
            None
        });
        let after = after.map(|cursor| RequestId(cursor.tried_to));
        let limit = self.limit.map_or(MOST, |limit| limit.0).into();
        if faults.is_empty() { Ok(AskFilter { from: self.from.0, to: self.to.0, after, limit }) } else { Err(faults) }
    }
}

/// Rules with the pointers that they have in the call.
fn draft(rules: &relaytrace_domain::Json) -> Result<Rules, ParseError> {
    let mut list = Vec::new();
    rules.write(&mut list);
    RulesDocument::of_list(&list)
}

impl Was {
    fn of(outcome: Option<Outcome>, cause: Option<Cause>) -> Self {
        match (outcome, cause) {
            (None, _) => Self::Pending,
            (Some(Outcome::Rejected), Some(Cause::Timeout)) => Self::TimedOut,
            (Some(Outcome::Approved), _) => Self::Approved,
            (Some(Outcome::Rejected), _) => Self::Rejected,
            (Some(Outcome::Responded), _) => Self::Responded,
            (Some(Outcome::Cancelled), _) => Self::Cancelled,
        }
    }
}

impl From<&Applied> for Would {
    fn from(applied: &Applied) -> Self {
        match applied.effect {
            Effect::Approve(_) => Self::Approved,
            Effect::Reject(_) => Self::Rejected,
            Effect::Ask(_) if applied.failed => Self::Failed,
            Effect::Ask(_) => Self::Asked,
        }
    }
}

/// Where an example stands, the most telling first; `None`: it tells nothing.
fn rank(was: Was, by_person: bool, would: Would, is_same: bool) -> Option<u8> {
    match (was, would) {
        (Was::Rejected, Would::Approved) if by_person => Some(0),
        (Was::Approved, Would::Rejected) if by_person => Some(1),
        _ if !is_same => Some(2),
        (_, Would::Failed) => Some(3),
        (_, Would::Approved | Would::Rejected) => Some(4),
        (_, Would::Asked) => None,
    }
}

impl Trial {
    /// Judges a page.
    fn of(rules: &Rules, latitude: Latitude, page: &AskPage) -> Self {
        let begun = Instant::now();
        let (mut trial, mut ranked, mut next) = (Self::default(), Vec::new(), page.next);
        for (place, ask) in page.asks.iter().enumerate() {
            if let Some(before) = place.checked_sub(1).filter(|_| begun.elapsed() >= JUDGED_FOR) {
                next = Some(page.asks[before].request_id);
                break;
            }
            ranked.extend(trial.add(rules, latitude, ask));
        }
        ranked.sort_by_key(|(rank, _)| *rank);
        trial.examples = ranked.into_iter().take(EXAMPLES).map(|(_, example)| example).collect();
        trial.next_cursor = next.map(|RequestId(tried_to)| TrialCursor { tried_to }.encode());
        trial
    }

    /// Judges a request, and counts it.
    fn add(&mut self, rules: &Rules, latitude: Latitude, ask: &StoredAsk) -> Option<(u8, TrialExample)> {
        self.tried += 1;
        let Some(asked) = Asked::of(ask) else {
            self.counts.skipped += 1;
            return None;
        };
        let applied = rules.judge(&asked.facts(ask, latitude), || asked.arguments()).applied;
        let (would, rule) = (applied.as_ref().map_or(Would::Asked, Would::from), applied.map(|applied| applied.rule));
        let was = Was::of(ask.outcome, ask.cause);
        *match would {
            Would::Approved => &mut self.counts.approved,
            Would::Rejected => &mut self.counts.rejected,
            Would::Asked => &mut self.counts.asked,
            Would::Failed => &mut self.counts.failed,
        } += 1;
        let is_same = match would {
            Would::Approved => was == Was::Approved,
            Would::Rejected => was == Was::Rejected,
            // A person was asked then, whatever came of it.
            Would::Asked | Would::Failed => ask.cause != Some(Cause::Policy),
        };
        *if is_same { &mut self.same } else { &mut self.differs } += 1;
        let by_person = matches!(ask.cause, Some(Cause::Operator | Cause::Admin));
        let example = TrialExample { request_id: ask.request_id, was, would, rule };
        rank(was, by_person, would, is_same).map(|rank| (rank, example))
    }
}

/// Try a draft of rules
///
/// On requests that were submitted in a span of time, the newest first: what it would have done, and what became of them.
/// Nothing changes. A page ends early after many bytes, much time or many requests of others; `at_most` counts as not reached.
#[utoipa::path(
    post, path = "/v1/admin/rules/try", tag = "admin", security(("admin" = [])), request_body = NewTrial,
    responses(
        (status = 200, description = "What it would have done", body = Trial),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn try_rules(
    Admin(scope): Admin,
    State(state): State<AppState>,
    JsonBytes(bytes): JsonBytes,
) -> Result<Json<Trial>> {
    let (rules, filter) = NewTrial::parse(&bytes)?;
    let page = state.store.stored_asks(&scope, &filter).await?;
    // Thousands of requests by hundreds of rules: not beside other calls.
    let latitude = if state.timeouts.allow_auto_approve { Latitude::Approve } else { Latitude::Reject };
    let tried = tokio::task::spawn_blocking(move || Trial::of(&rules, latitude, &page));
    Ok(Json(tried.await.map_err(Error::internal)?))
}
