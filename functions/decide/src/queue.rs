//! The queue: pending and decided requests.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, header};
use relaytrace_domain::{
    Actor, AgentId, AssignedTo, Cause, DeliveryState, Error, Execution, Faults, Outcome, Priority, RequestId, Result,
    Status, Timestamp,
};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Operator, SignedIn};
use relaytrace_service::http::{Cursor, Problem, Query, clamped, keep_short};
use relaytrace_store::{Counts, QueueFilter, QueueItem, QueueOrder, QueuePosition, ReportedError};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::conditional::json;
use crate::filter;

/// Lists are given repeatedly or separated by commas; several filters must all hold. For a filter, the first 20,000
/// requests of each status and priority are looked through, from where the page starts; of `status=decided` the newest
/// 20,000 decisions between `from` and `to`.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct QueueQuery {
    /// `pending` (default), `decided` (default with `outcome` or `decided_by`) or `all`.
    status: Option<String>,
    /// Any of these.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(crate) priority: Vec<String>,
    /// Of any of these agents.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(crate) agent_id: Vec<String>,
    /// With any of these types of action, exactly.
    #[serde(default, rename = "type")]
    #[param(value_type = Option<String>)]
    pub(crate) action_type: Vec<String>,
    /// Decided like any of these.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(crate) outcome: Vec<String>,
    /// Decided by this id; several only as a repeated parameter, because an id may hold a comma.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(crate) decided_by: Vec<String>,
    /// With a decision that is there on its way. `dead_lettered`: the agent reported a failure, or never took it.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(crate) delivery_state: Vec<String>,
    /// Of any of these groups.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(crate) group: Vec<String>,
    /// `me`: assigned to the caller.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(crate) assigned_to: Vec<String>,
    /// Decided, or else submitted, not before this time.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(crate) from: Vec<String>,
    /// Decided, or else submitted, before this time.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    pub(crate) to: Vec<String>,
    /// Words that are all in the title, the action's type, its arguments, the agent's id or key, or the request's id.
    /// Arguments are read in the first 2 MiB of envelopes of each status and priority looked through.
    pub(crate) q: Option<String>,
    /// From the page before, of the same order.
    cursor: Option<String>,
    /// At most so many items, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

/// One line of the queue.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Item {
    request_id: RequestId,
    agent_id: AgentId,
    title: String,
    priority: Priority,
    status: Status,
    action_type: String,
    created_at: Timestamp,
    respond_by: Timestamp,
    escalated_at: Option<Timestamp>,
    /// The agent's own name of the requests that it belongs with.
    group: Option<String>,
    outcome: Option<Outcome>,
    /// Why it was decided: a timeout is no person's "no".
    cause: Option<Cause>,
    decided_at: Option<Timestamp>,
    decided_by: Option<Actor>,
    delivery_state: Option<DeliveryState>,
    /// What the agent reported, where the delivery is a dead letter; in the queue at most 200 characters of it.
    delivery_error: Option<DeliveryError>,
    execution: Execution,
    /// Who may decide it; null: every operator.
    assigned_to: Option<AssignedTo>,
    /// Who says to be at it: advice, no lock.
    claimed_by: Option<Actor>,
    claimed_until: Option<Timestamp>,
}

/// An error as the agent reported it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryError {
    code: Option<String>,
    message: Option<String>,
}

impl From<ReportedError> for DeliveryError {
    fn from(ReportedError { code, message }: ReportedError) -> Self {
        Self { code, message }
    }
}

impl DeliveryError {
    /// So that a page of the queue stays small.
    fn cut(mut self) -> Self {
        const KEPT: usize = 200;
        if let Some(message) = &mut self.message
            && let Some((end, _)) = message.char_indices().nth(KEPT)
        {
            message.truncate(end);
            message.push('…');
        }
        self
    }
}

impl From<QueueItem> for Item {
    fn from(item: QueueItem) -> Self {
        Self {
            request_id: item.request_id,
            agent_id: item.agent_id,
            title: item.title,
            priority: item.priority,
            status: item.status,
            action_type: item.action_type,
            created_at: Timestamp(item.created_at),
            respond_by: Timestamp(item.respond_by),
            escalated_at: item.escalated_at.map(Timestamp),
            group: item.group,
            outcome: item.outcome,
            cause: item.cause,
            decided_at: item.decided_at.map(Timestamp),
            decided_by: item.decided_by,
            delivery_state: item.delivery_state,
            delivery_error: item.delivery_error.map(DeliveryError::from),
            execution: item.execution,
            assigned_to: item.assigned_to,
            claimed_until: item.claim.as_ref().map(|claim| claim.until),
            claimed_by: item.claim.map(|claim| claim.by),
        }
    }
}

/// Counts of all pending requests, independent of the filter.
#[derive(Debug, Serialize, ToSchema)]
struct PendingCounts {
    pending: i64,
    #[serde(rename = "P1")]
    p1: i64,
    #[serde(rename = "P2")]
    p2: i64,
    #[serde(rename = "P3")]
    p3: i64,
    /// Each number is a lower bound; only there where it is true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    capped: bool,
}

impl From<Counts> for PendingCounts {
    fn from(counts: Counts) -> Self {
        let [p1, p2, p3] = counts.pending;
        Self { pending: p1 + p2 + p3, p1, p2, p3, capped: counts.is_capped() }
    }
}

/// A page of the queue.
#[derive(Debug, Serialize, ToSchema)]
struct Queue {
    items: Vec<Item>,
    /// Gives the next page; null on the last one.
    next_cursor: Option<String>,
    counts: PendingCounts,
}

#[derive(Serialize, Deserialize)]
struct QueueCursor(Priority, Timestamp, RequestId);

impl Cursor for QueueCursor {}

/// Of another shape than [`QueueCursor`], so that neither is taken for the other.
#[derive(Serialize, Deserialize)]
struct DecidedCursor(Timestamp, RequestId);

impl Cursor for DecidedCursor {}

const DECIDED: &[Status] = &[Status::Decided];

impl QueueQuery {
    fn statuses(&self, faults: &mut Faults) -> &'static [Status] {
        match self.status.as_deref() {
            None if !self.outcome.is_empty() || !self.decided_by.is_empty() => DECIDED,
            None | Some("pending") => &[Status::Pending],
            Some("decided") => DECIDED,
            Some("all") => &[Status::Pending, Status::Decided],
            Some(_) => {
                faults.add("/status", "must be pending, decided or all");
                &[]
            }
        }
    }

    fn after(&self, statuses: &[Status]) -> Result<Option<QueuePosition>> {
        let Some(text) = self.cursor.as_deref() else { return Ok(None) };
        let position = if statuses == DECIDED {
            let DecidedCursor(Timestamp(decided_at), request_id) = DecidedCursor::decode(text)?;
            QueuePosition::Decided { decided_at, request_id }
        } else {
            let QueueCursor(priority, Timestamp(respond_by), request_id) = QueueCursor::decode(text)?;
            QueuePosition::Queued { priority, respond_by, request_id }
        };
        Ok(Some(position))
    }
}

/// The cursor after an item.
fn cursor(item: &QueueItem, statuses: &[Status]) -> String {
    match item.decided_at {
        Some(decided_at) if statuses == DECIDED => DecidedCursor(Timestamp(decided_at), item.request_id).encode(),
        _ => QueueCursor(item.priority, Timestamp(item.respond_by), item.request_id).encode(),
    }
}

/// Another method of the queue's path, which `ingest` has a part in: a deployment sends here what neither serves.
pub async fn not_allowed() -> impl IntoResponse {
    ([(header::ALLOW, "GET,POST")], Error::MethodNotAllowed)
}

/// See the queue
///
/// Sorted by priority, then by deadline; `status=decided` by decision, the newest first.
#[utoipa::path(
    get, path = "/v1/hitl/requests", tag = "decide", security(("operator" = [])), params(QueueQuery),
    responses(
        (status = 200, description = "A page of the queue", body = Queue, headers(("etag" = String))),
        (status = 304, description = "It is as the ETag given says"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Operator(scope): Operator,
    SignedIn(person): SignedIn,
    State(state): State<AppState>,
    headers: HeaderMap,
    Query(query): Query<QueueQuery>,
) -> Result<Response> {
    let mut faults = Faults::default();
    let statuses = query.statuses(&mut faults);
    let filter: QueueFilter = filter::read(&mut faults, &query, &person);
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.after(statuses)?;
    let page = state.store.queue(&scope, &QueueOrder { statuses, filter: &filter, after, limit }).await?;
    let places: Vec<_> = page.items.iter().map(|item| cursor(item, statuses)).collect();
    let items = page.items.into_iter().map(Item::from).map(|mut item| {
        item.delivery_error = item.delivery_error.map(DeliveryError::cut);
        item
    });
    let mut items: Vec<_> = items.collect();
    let has_more = keep_short(&mut items) || page.has_more;
    let next_cursor = places.into_iter().nth(items.len().wrapping_sub(1)).filter(|_| has_more);
    json(&headers, &Queue { items, next_cursor, counts: page.counts.into() })
}
