//! Known operators: `GET /v1/hitl/operators`.

use axum::Json;
use axum::extract::State;
use relaytrace_domain::{Faults, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::Operator;
use relaytrace_service::http::{Cursor, OperatorView, Page, Problem, Query, clamped};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// In the id, the name, the e-mail address or a group, whatever the case; 1 to 200 characters.
    q: Option<String>,
    /// From the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct OperatorCursor(String);

impl Cursor for OperatorCursor {}

/// See who the operators are
///
/// Those whose tokens came by: nobody is registered. A page may have fewer of them than its limit, and another page after
/// it.
#[utoipa::path(
    get, path = "/v1/hitl/operators", tag = "decide", security(("operator" = [])), params(ListQuery),
    responses(
        (status = 200, description = "A page of them, in the order of their ids", body = Page<OperatorView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Operator(scope): Operator,
    State(state): State<AppState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Page<OperatorView>>> {
    let mut faults = Faults::default();
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    let is_text = |text: &String| (1..=200).contains(&text.chars().count()) && !text.contains('\0');
    if !query.q.as_ref().is_none_or(is_text) {
        faults.add("/q", "must be 1 to 200 characters without U+0000");
    }
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.cursor.as_deref().map(OperatorCursor::decode).transpose()?;
    let after = after.as_ref().map(|OperatorCursor(id)| id.as_str());
    let found = state.store.operators(&scope, after, query.q.as_deref(), limit + 1).await?;
    let looked_until = found.looked_until;
    let mut page = Page::of(found.items, limit, |last| OperatorCursor(last.operator_id.clone()));
    page.next_cursor = page.next_cursor.or_else(|| looked_until.map(|id| OperatorCursor(id).encode()));
    Ok(Json(page))
}
