//! Agents and their keys.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use relaytrace_domain::{ActionType, AgentId, Faults, KeyId, KeyScope, Priority, Timestamp, Title};
use relaytrace_domain::{Error, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Cursor, JsonBody, Page, Path, Problem, Query, clamped};
use relaytrace_store::{AgentChange as Change, AgentRecord, KeyRecord, Scope};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::push::{self, Push};

/// A registered agent.
#[derive(Debug, Serialize, ToSchema)]
pub struct AgentView {
    agent_id: AgentId,
    name: String,
    /// `active` or `disabled`.
    status: String,
    created_at: Timestamp,
    /// To about 5 seconds.
    last_polled_at: Option<Timestamp>,
    /// Requests that it may have pending; null: any number.
    max_pending: Option<i32>,
    /// Of these with priority P1; null: any number.
    max_pending_p1: Option<i32>,
    /// Priority of what it asks by a protocol without priorities.
    default_priority: Priority,
    /// Where it is pushed to; null: nowhere.
    push: Option<Push>,
    /// Left out in a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<KeyView>>,
}

/// A key of an agent, without its secret.
#[derive(Debug, Serialize, ToSchema)]
struct KeyView {
    key_id: KeyId,
    /// `EdDSA`, `ES256` or `bearer`.
    alg: String,
    scopes: Vec<KeyScope>,
    /// With `execute-any`: the agents that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    agents: Option<Vec<AgentId>>,
    /// With `execute-any`: the action types that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    action_types: Option<Vec<ActionType>>,
    expires_at: Option<Timestamp>,
    created_at: Timestamp,
    first_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
}

impl AgentView {
    fn new(agent: AgentRecord, with_keys: bool) -> Self {
        let keys = with_keys.then(|| agent.keys.into_iter().map(KeyView::from).collect());
        Self {
            agent_id: agent.agent_id,
            name: agent.name,
            status: agent.status,
            created_at: Timestamp(agent.created_at),
            last_polled_at: agent.last_polled_at.map(Timestamp),
            max_pending: agent.caps.max_pending,
            max_pending_p1: agent.caps.max_pending_p1,
            default_priority: agent.default_priority.unwrap_or(Priority::P2),
            push: agent.push_url.map(|url| Push { url }),
            keys,
        }
    }
}

/// As in a list.
impl From<AgentRecord> for AgentView {
    fn from(agent: AgentRecord) -> Self {
        Self::new(agent, false)
    }
}

impl From<KeyRecord> for KeyView {
    fn from(key: KeyRecord) -> Self {
        Self {
            key_id: key.key_id,
            alg: key.alg,
            scopes: key.rights.scopes.into_iter().collect(),
            agents: key.rights.agents,
            action_types: key.rights.action_types,
            expires_at: key.expires_at.map(Timestamp),
            created_at: Timestamp(key.created_at),
            first_used_at: key.first_used_at.map(Timestamp),
            revoked_at: key.revoked_at.map(Timestamp),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// From the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct AgentCursor(AgentId);

impl Cursor for AgentCursor {}

/// List agents
#[utoipa::path(
    get, path = "/v1/admin/agents", tag = "admin", security(("admin" = [])), params(ListQuery),
    responses(
        (status = 200, description = "A page of them", body = Page<AgentView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Admin(scope): Admin,
    State(state): State<AppState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<AgentView>>> {
    let mut faults = Faults::default();
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.cursor.as_deref().map(AgentCursor::decode).transpose()?;
    let agents = state.store.agents(&scope, after.as_ref().map(|AgentCursor(id)| id.as_str()), limit + 1).await?;
    Ok(Json(Page::of(agents, limit, |last| AgentCursor(last.agent_id.clone()))))
}

/// A new agent.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewAgent {
    agent_id: AgentId,
    /// For people: 1 to 200 characters.
    name: Title,
}

/// Register an agent
#[utoipa::path(
    post, path = "/v1/admin/agents", tag = "admin", security(("admin" = [])), request_body = NewAgent,
    responses(
        (status = 201, description = "Registered", body = AgentView),
        (status = 200, description = "Registered before under the same name", body = AgentView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn register(
    Admin(scope): Admin,
    State(state): State<AppState>,
    JsonBody(new): JsonBody<NewAgent>,
) -> Result<(StatusCode, Json<AgentView>)> {
    let is_new = state.store.register_agent(&scope, &new.agent_id, new.name.as_str()).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, show_agent(&state, &scope, &new.agent_id).await?))
}

/// See an agent and its keys
#[utoipa::path(
    get, path = "/v1/admin/agents/{agent_id}", tag = "admin", security(("admin" = [])),
    params(("agent_id" = String, Path)),
    responses(
        (status = 200, description = "The agent", body = AgentView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    Admin(scope): Admin,
    Path(agent_id): Path<AgentId>,
    State(state): State<AppState>,
) -> Result<Json<AgentView>> {
    show_agent(&state, &scope, &agent_id).await
}

async fn show_agent(state: &AppState, scope: &Scope, agent_id: &AgentId) -> Result<Json<AgentView>> {
    let agent = state.store.agent(scope, agent_id).await?.ok_or(Error::NotFound)?;
    Ok(Json(AgentView::new(agent, true)))
}

/// Whether an agent may work.
#[derive(Clone, Copy, Debug, deserr::Deserr, ToSchema)]
#[deserr(rename_all = lowercase)]
#[schema(rename_all = "lowercase")]
pub enum AgentStatus {
    Active,
    Disabled,
}

const LARGEST_CAP: u32 = 1_000_000;

/// The changes to an agent.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "a member is left out, null or a value")]
pub struct AgentChange {
    /// For people: 1 to 200 characters.
    #[deserr(default, from(Title) = Some)]
    #[schema(value_type = Title, required = false)]
    name: Option<Title>,
    #[deserr(default, from(AgentStatus) = Some)]
    #[schema(value_type = AgentStatus, required = false)]
    status: Option<AgentStatus>,
    /// Requests that it may have pending; null: any number. One more is refused with 429.
    #[deserr(default, from(Option<u32>) = Some)]
    #[schema(value_type = Option<u32>, required = false, minimum = 1, maximum = 1_000_000)]
    max_pending: Option<Option<u32>>,
    /// Of these with priority P1; null: any number.
    #[deserr(default, from(Option<u32>) = Some)]
    #[schema(value_type = Option<u32>, required = false, minimum = 1, maximum = 1_000_000)]
    max_pending_p1: Option<Option<u32>>,
    /// Where it is told that something was resolved; null: nowhere. The receiver is asked first.
    #[deserr(default, from(Option<Push>) = Some)]
    #[schema(value_type = Option<Push>, required = false)]
    push: Option<Option<Push>>,
    /// Priority of what it asks by a protocol without priorities.
    #[deserr(default, from(Priority) = Some)]
    #[schema(value_type = Priority, required = false)]
    default_priority: Option<Priority>,
}

impl AgentChange {
    /// A cap by which nothing could be asked is refused: that is what `disabled` says.
    fn check(self) -> Result<Self> {
        let mut faults = Faults::default();
        for (pointer, cap) in [("/max_pending", self.max_pending), ("/max_pending_p1", self.max_pending_p1)] {
            if cap.flatten().is_some_and(|cap| !(1..=LARGEST_CAP).contains(&cap)) {
                faults.add(pointer, format!("must be 1 to {LARGEST_CAP}, or null for no cap"));
            }
        }
        if faults.is_empty() { Ok(self) } else { Err(faults.into()) }
    }
}

/// Rename, disable, enable or cap an agent, or say where it is pushed to
#[utoipa::path(
    patch, path = "/v1/admin/agents/{agent_id}", tag = "admin", security(("admin" = [])),
    params(("agent_id" = String, Path)), request_body = AgentChange,
    responses(
        (status = 200, description = "As it is now", body = AgentView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn change(
    Admin(scope): Admin,
    Path(agent_id): Path<AgentId>,
    State(state): State<AppState>,
    JsonBody(change): JsonBody<AgentChange>,
) -> Result<Json<AgentView>> {
    let change = change.check()?;
    if let Some(push) = &change.push {
        state.store.agent(&scope, &agent_id).await?.ok_or(Error::NotFound)?;
        push::set(&state, &scope, &agent_id, push.as_ref()).await?;
    }
    let change = Change {
        name: change.name.as_ref().map(Title::as_str),
        status: change.status.map(|status| match status {
            AgentStatus::Active => "active",
            AgentStatus::Disabled => "disabled",
        }),
        max_pending: change.max_pending.map(|cap| cap.map(u32::cast_signed)),
        max_pending_p1: change.max_pending_p1.map(|cap| cap.map(u32::cast_signed)),
        default_priority: change.default_priority,
    };
    if !state.store.change_agent(&scope, &agent_id, change).await? {
        return Err(Error::NotFound);
    }
    show_agent(&state, &scope, &agent_id).await
}
