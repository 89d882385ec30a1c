//! The queue and one request in full.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use relaytrace_domain::{
    AgentId, Cause, ClientRequestKey, Decision, DeliveryState, Digest, Faults, Outcome, Priority, RequestId, Status,
    Timestamp, chain_genesis,
};
use relaytrace_domain::{Error, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::Operator;
use relaytrace_service::http::{Cursor, Path, Problem, Query, clamped, parse_list, parse_one};
use relaytrace_store::{Counts, Delivered, DeliverySeen, Detail, QueueFilter, QueueItem, QueuePosition};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct QueueQuery {
    /// `pending` (default), `decided` or `all`.
    status: Option<String>,
    /// Any of these, separated by commas; default all.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    priority: Vec<String>,
    /// Of this agent only.
    agent_id: Option<String>,
    /// Text in the title, the action's type, the agent's key or the request's id. For it, and for an agent, the first
    /// 20,000 requests of each status and priority are looked through, from where the page starts.
    q: Option<String>,
    /// From the page before.
    cursor: Option<String>,
    /// At most so many items, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

/// One line of the queue.
#[derive(Debug, Serialize, ToSchema)]
struct Item {
    request_id: RequestId,
    agent_id: AgentId,
    title: String,
    priority: Priority,
    status: Status,
    action_type: String,
    created_at: Timestamp,
    respond_by: Timestamp,
    escalated_at: Option<Timestamp>,
    outcome: Option<Outcome>,
    /// Why it was decided: a timeout is no person's "no".
    cause: Option<Cause>,
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
            outcome: item.outcome,
            cause: item.cause,
        }
    }
}

/// How much is pending, whatever the filter.
#[derive(Debug, Serialize, ToSchema)]
struct PendingCounts {
    pending: i64,
    #[serde(rename = "P1")]
    p1: i64,
    #[serde(rename = "P2")]
    p2: i64,
    #[serde(rename = "P3")]
    p3: i64,
}

impl From<Counts> for PendingCounts {
    fn from(Counts { pending: [p1, p2, p3] }: Counts) -> Self {
        Self { pending: p1 + p2 + p3, p1, p2, p3 }
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

impl QueueQuery {
    fn statuses(&self, faults: &mut Faults) -> &'static [Status] {
        match self.status.as_deref() {
            None | Some("pending") => &[Status::Pending],
            Some("decided") => &[Status::Decided],
            Some("all") => &[Status::Pending, Status::Decided],
            Some(_) => {
                faults.add("/status", "must be pending, decided or all");
                &[]
            }
        }
    }
}

/// Another method of the queue's path, which `ingest` has a part in: a deployment sends here what neither serves.
pub async fn not_allowed() -> impl IntoResponse {
    ([(header::ALLOW, "GET,POST")], Error::MethodNotAllowed)
}

/// See the queue
///
/// Sorted by priority, then by deadline.
#[utoipa::path(
    get, path = "/v1/hitl/requests", tag = "decide", security(("operator" = [])), params(QueueQuery),
    responses(
        (status = 200, description = "A page of the queue", body = Queue, headers(("etag" = String))),
        (status = 304, description = "It is as the ETag given says"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    _: Operator,
    State(state): State<AppState>,
    headers: HeaderMap,
    Query(query): Query<QueueQuery>,
) -> Result<Response> {
    let mut faults = Faults::default();
    let statuses = query.statuses(&mut faults);
    let mut priorities = parse_list(&mut faults, "priority", &query.priority);
    let agent_id = parse_one::<AgentId>(&mut faults, "agent_id", query.agent_id.as_deref());
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200);
    let text = query.q.as_deref().map(str::trim).filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.contains('\0') || text.chars().count() > 200) {
        faults.add("/q", "must be at most 200 characters without U+0000");
    }
    if !faults.is_empty() {
        return Err(faults.into());
    }
    if priorities.is_empty() {
        priorities = vec![Priority::P1, Priority::P2, Priority::P3];
    }
    priorities.sort_unstable();
    priorities.dedup();
    let after = query.cursor.as_deref().map(QueueCursor::decode).transpose()?;
    let after = after.map(|QueueCursor(priority, Timestamp(respond_by), request_id)| QueuePosition {
        priority,
        respond_by,
        request_id,
    });
    let filter = QueueFilter {
        statuses,
        priorities: &priorities,
        agent_id: agent_id.as_ref(),
        text,
        after,
        limit: limit.cast_signed(),
    };
    let page = state.store.queue(&filter).await?;
    let last = page.items.last().filter(|_| page.has_more);
    let next_cursor = last.map(|item| QueueCursor(item.priority, Timestamp(item.respond_by), item.request_id).encode());
    let items = page.items.into_iter().map(Item::from).collect();
    tagged(&headers, &Queue { items, next_cursor, counts: page.counts.into() })
}

/// A JSON answer with a strong `ETag` over its bytes, or 304.
fn tagged(headers: &HeaderMap, body: &impl Serialize) -> Result<Response> {
    let body = serde_json::to_vec(body).map_err(Error::internal)?;
    let tag = format!("\"{}\"", &Digest::of(&body).to_string()["sha256:".len()..][..32]);
    let known = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).map(str::trim).any(|known| {
        // RFC 9110, section 13.1.2: compared weakly.
        known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    let tag = HeaderValue::from_str(&tag).map_err(Error::internal)?;
    response.headers_mut().insert(header::ETAG, tag);
    // Kept, and asked about again each time: that is what the tag is for.
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    Ok(response)
}

/// Where the decision is on its way.
#[derive(Debug, Serialize, ToSchema)]
struct Delivery {
    state: DeliveryState,
    attempt: i32,
    /// When the agent was last handed it.
    delivered_at: Option<Timestamp>,
}

impl Delivery {
    fn of(seen: DeliverySeen, lease_seconds: f64) -> Self {
        let lease = Duration::try_from_secs_f64(lease_seconds).unwrap_or_default();
        let delivered_at = seen.lease_expires_at.map(|end| Timestamp(end - lease));
        Self { state: seen.state, attempt: seen.attempt, delivered_at }
    }
}

/// The chain without its bytes.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ChainSummary)]
struct Chain {
    length: usize,
    head: Digest,
    /// Each with its seq, kind, at, actor, hash and what happened.
    entries: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// One request in full.
#[derive(Debug, Serialize, ToSchema)]
struct RequestDetail<'a> {
    #[serde(flatten)]
    item: Item,
    client_request_key: ClientRequestKey,
    /// Markdown.
    summary: Option<String>,
    /// The exact action, as it was sent.
    #[schema(value_type = Object)]
    action: &'a RawValue,
    action_digest: Digest,
    #[schema(value_type = Option<Object>)]
    context: Option<&'a RawValue>,
    decision: Option<Decision>,
    delivery: Option<Delivery>,
    agent_last_polled_at: Option<Timestamp>,
    chain: Chain,
    /// The decision's receipt.
    receipt: Option<String>,
}

/// The members of an envelope that an operator sees; `resume` is not among them.
#[derive(Deserialize)]
struct Shown<'a> {
    summary: Option<String>,
    #[serde(borrow)]
    action: &'a RawValue,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

/// See one request
#[utoipa::path(
    get, path = "/v1/hitl/requests/{request_id}", tag = "decide", security(("operator" = [])),
    params(("request_id" = String, Path)),
    responses(
        (status = 200, description = "The request", body = RequestDetail, headers(("etag" = String))),
        (status = 304, description = "It is as the ETag given says"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn detail(
    _: Operator,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
    headers: HeaderMap,
) -> Result<Response> {
    let detail = state.store.detail(request_id).await?.ok_or(Error::NotFound)?;
    let receipt = receipt(&state, request_id, &detail)?;
    let shown: Shown = serde_json::from_slice(&detail.envelope).map_err(Error::internal)?;
    let body = RequestDetail {
        item: detail.item.into(),
        client_request_key: detail.client_request_key,
        summary: shown.summary,
        action: shown.action,
        action_digest: detail.action_digest,
        context: shown.context,
        decision: detail.decision,
        delivery: detail.delivery.map(|seen| Delivery::of(seen, state.delivery.lease_seconds)),
        agent_last_polled_at: detail.agent_last_polled_at.map(Timestamp),
        chain: chain(&detail.chain)?,
        receipt,
    };
    tagged(&headers, &body)
}

fn chain(entries: &[(Vec<u8>, Digest)]) -> Result<Chain> {
    let head = entries.last().map(|(_, hash)| *hash);
    let head = head.ok_or_else(|| Error::internal(std::io::Error::other("a request has no chain")))?;
    let entries = entries.iter().map(|(bytes, hash)| {
        let mut entry: serde_json::Map<_, _> = serde_json::from_slice(bytes).map_err(Error::internal)?;
        entry.remove("request_id");
        entry.insert("hash".into(), hash.to_string().into());
        Ok(entry)
    });
    let entries: Vec<_> = entries.collect::<Result<_>>()?;
    Ok(Chain { length: entries.len(), head, entries })
}

/// The receipt of a decided request.
fn receipt(state: &AppState, request_id: RequestId, detail: &Detail) -> Result<Option<String>> {
    let is_decided = |entry: &&(usize, &(Vec<u8>, Digest))| {
        #[derive(Deserialize)]
        struct Kind {
            kind: String,
        }
        serde_json::from_slice::<Kind>(&entry.1.0).is_ok_and(|entry| entry.kind == "decided")
    };
    let entries: Vec<_> = detail.chain.iter().enumerate().collect();
    let Some((index, (entry, hash))) = entries.iter().find(is_decided) else { return Ok(None) };
    let prev_hash = index.checked_sub(1).map_or_else(|| chain_genesis(request_id), |before| detail.chain[before].1);
    let delivered = Delivered {
        request_id,
        client_request_key: detail.client_request_key.clone(),
        action_type: detail.item.action_type.clone(),
        entry: entry.clone(),
        prev_hash,
        hash: *hash,
        resume: None,
        attempt: 0,
        replayed: false,
        lease: None,
    };
    state.receipt_keys.receipt(&delivered.stored_decision(), &detail.item.agent_id).map(|(_, receipt)| Some(receipt))
}
