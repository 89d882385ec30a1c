//! An agent's own requests: one of them, or a list (contract, "The agent's view").

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use relaytrace_domain::{AgentId, ClientRequestKey, Faults, GroupKey, Priority, RequestId, Result, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::{Agent, Ask};
use relaytrace_service::events::WaitsFor;
use relaytrace_service::http::{Cursor, Path, PreferredWait, Problem, Query, RequestView, clamped, parse_one};
use relaytrace_service::wait::{Look, Looking, look_or_wait, wait_seconds};
use relaytrace_store::{Caller, PendingPosition};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RequestQuery {
    /// Longest wait for its decision, 0 to 55 seconds; default 0. `Prefer: wait=n` means the same; this wins.
    #[param(value_type = Option<u64>)]
    wait_seconds: Option<String>,
}

/// How a request stands
///
/// For an agent that lost its memory: everything but a lease. Returns as soon as the request is decided, at the latest
/// after `wait_seconds`; looking takes nothing and changes nothing.
#[utoipa::path(
    get, path = "/v1/agents/{agent_id}/requests/{request_id}", tag = "poll", security(("agent" = [])),
    params(("agent_id" = String, Path), ("request_id" = String, Path), RequestQuery),
    responses(
        (status = 200, description = "The request", body = RequestView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn request(
    Agent(caller, _): Agent<Ask>,
    Path((_, request_id)): Path<(String, RequestId)>,
    State(state): State<AppState>,
    preferred: PreferredWait,
    Query(query): Query<RequestQuery>,
) -> Result<Json<RequestView>> {
    let mut faults = Faults::default();
    let seconds = wait_seconds(&mut faults, query.wait_seconds, preferred);
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let longest = Duration::from_secs(seconds.min(state.store.rules().max_wait_seconds));
    let (store, caller) = (&state.store, &caller);
    let look = |_| -> Looking<_> {
        Box::pin(async move {
            let found = store.request_of(caller, request_id).await?;
            Ok(Look { is_there: found.1.is_some(), there_in: None, found })
        })
    };
    let waits_for = WaitsFor::Decision(request_id);
    let (request, delivered) = look_or_wait(&state, &caller.agent_id, waits_for, longest, look).await?;
    RequestView::new(request, delivered, false, &state.receipt_keys).map(Json)
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The request that this key stands for.
    client_request_key: Option<String>,
    /// The requests of this group.
    group: Option<String>,
    /// `pending`: undecided requests. The default where neither a key nor a group is given.
    status: Option<String>,
    /// From the page before.
    cursor: Option<String>,
    /// At most so many items, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

/// Which of its requests an agent asks for.
enum Listed {
    OfKey(ClientRequestKey),
    OfGroup { group: GroupKey, after: Option<RequestId>, limit: i64 },
    Pending { after: Option<PendingPosition>, limit: i64 },
}

#[derive(Serialize, Deserialize)]
struct PendingCursor(Priority, Timestamp, RequestId);

impl Cursor for PendingCursor {}

/// Of another shape than [`PendingCursor`], so that neither is taken for the other.
#[derive(Serialize, Deserialize)]
struct GroupCursor(RequestId);

impl Cursor for GroupCursor {}

impl ListQuery {
    fn parse(self) -> Result<Listed> {
        let mut faults = Faults::default();
        let limit = clamped(&mut faults, "limit", self.limit.as_deref(), 50, 1, 200);
        if self.status.as_deref().is_some_and(|status| status != "pending") {
            faults.add_at("status", "must be pending");
        }
        let given = [self.client_request_key.is_some(), self.group.is_some(), self.status.is_some()];
        let key = parse_one(&mut faults, "client_request_key", self.client_request_key.as_deref());
        let group = parse_one::<GroupKey>(&mut faults, "group", self.group.as_deref());
        if given.into_iter().filter(|is_given| *is_given).count() > 1 {
            faults.add("", "only one of client_request_key, group and status may be given");
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        match (key, group) {
            (Some(key), _) => Ok(Listed::OfKey(key)),
            (_, Some(group)) => {
                let after = self.cursor.as_deref().map(GroupCursor::decode).transpose()?;
                Ok(Listed::OfGroup { group, after: after.map(|GroupCursor(id)| id), limit: limit.cast_signed() })
            }
            _ => {
                let after = self.cursor.as_deref().map(PendingCursor::decode).transpose()?;
                let after = after.map(|PendingCursor(priority, Timestamp(respond_by), request_id)| PendingPosition {
                    priority,
                    respond_by,
                    request_id,
                });
                Ok(Listed::Pending { after, limit: limit.cast_signed() })
            }
        }
    }
}

/// Some of an agent's requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentRequests {
    agent_id: AgentId,
    items: Vec<RequestView>,
    /// Gives the next page; null on the last one. A page may be empty and not the last.
    next_cursor: Option<String>,
}

/// See one's own requests
///
/// The request that a key stands for; those of a group; or what is pending, in the queue's order: by priority, then by
/// deadline.
#[utoipa::path(
    get, path = "/v1/agents/{agent_id}/requests", tag = "poll", security(("agent" = [])),
    params(("agent_id" = String, Path), ListQuery),
    responses(
        (status = 200, description = "The requests, perhaps none", body = AgentRequests),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Agent(caller, _): Agent<Ask>,
    State(state): State<AppState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<AgentRequests>> {
    let (items, next_cursor) = match query.parse()? {
        Listed::OfKey(key) => (of_key(&state, &caller, &key).await?, None),
        Listed::OfGroup { group, after, limit } => {
            let (found, next) = state.store.group_of(&caller, &group, after, limit).await?;
            let views =
                found.into_iter().map(|(it, decided)| RequestView::new(it, decided, false, &state.receipt_keys));
            (views.collect::<Result<_>>()?, next.map(|id| GroupCursor(id).encode()))
        }
        Listed::Pending { after, limit } => {
            let page = state.store.pending_of(&caller, after, limit).await?;
            let next = page.next.map(|at| PendingCursor(at.priority, Timestamp(at.respond_by), at.request_id).encode());
            let items = page.items.into_iter().map(|item| RequestView::new(item, None, false, &state.receipt_keys));
            (items.collect::<Result<_>>()?, next)
        }
    };
    Ok(Json(AgentRequests { agent_id: caller.agent_id, items, next_cursor }))
}

async fn of_key(state: &AppState, caller: &Caller, key: &ClientRequestKey) -> Result<Vec<RequestView>> {
    let Some(request_id) = state.store.request_of_key(caller, key).await? else { return Ok(Vec::new()) };
    let (request, delivered) = state.store.request_of(caller, request_id).await?;
    Ok(vec![RequestView::new(request, delivered, false, &state.receipt_keys)?])
}
