//! Rules (contract, "Rules").

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, header};
use relaytrace_domain::rules::{RulesBody, RulesDocument};
use relaytrace_domain::{Actor, ActorKind, Error, JsonText, Result, Timestamp};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{JsonBytes, Path, Problem};
use relaytrace_store::{RuleCount, RulesRecord, Scope};
use serde::Serialize;
use utoipa::ToSchema;

/// A version of a tenant's rules.
#[derive(Debug, Serialize, ToSchema)]
pub struct RulesView {
    /// 0: there are none yet.
    version: i32,
    /// In their order: the first that holds applies.
    #[schema(value_type = Vec<Object>)]
    rules: JsonText,
    /// Null: there are none yet.
    note: Option<String>,
    created_at: Option<Timestamp>,
    created_by: Option<Actor>,
    /// By rule, how many submissions it was applied to.
    applied: BTreeMap<String, i64>,
    /// By rule, how many submissions it could not judge: an argument was absent, or of another kind.
    failures: BTreeMap<String, i64>,
    /// By rule of the shadow, how many submissions name it as what would apply, or as the first of the shadow that holds.
    would: BTreeMap<String, i64>,
}

impl RulesView {
    async fn of(state: &AppState, scope: &Scope, record: Option<RulesRecord>) -> Result<Response> {
        let text = |document: Vec<u8>| JsonText::try_from(document);
        let counts = match &record {
            Some(record) => state.store.rule_counts(&scope.tenant, record.version).await?,
            None => BTreeMap::new(),
        };
        let of = |count: fn(&RuleCount) -> i64| {
            let counts = counts.iter().map(|(rule, counts)| (rule.clone(), count(counts)));
            counts.filter(|(_, count)| *count > 0).collect()
        };
        let (applied, failures, would) = (of(|it| it.applied), of(|it| it.failures), of(|it| it.would));
        let view = match record {
            None => Self {
                version: 0,
                rules: text(b"[]".to_vec())?,
                note: None,
                created_at: None,
                created_by: None,
                applied,
                failures,
                would,
            },
            Some(record) => Self {
                version: record.version,
                rules: text(record.document)?,
                note: Some(record.note),
                created_at: Some(Timestamp(record.created_at)),
                created_by: Some(Actor {
                    kind: ActorKind::Admin,
                    id: record.created_by,
                    name: record.created_by_name,
                    acts_for: None,
                }),
                applied,
                failures,
                would,
            },
        };
        let tag = HeaderValue::from_str(&format!("\"{}\"", view.version)).map_err(Error::internal)?;
        Ok(([(header::ETAG, tag)], Json(view)).into_response())
    }
}

/// See the rules
#[utoipa::path(
    get, path = "/v1/admin/rules", tag = "admin", security(("admin" = [])),
    responses(
        (status = 200, description = "The newest version", body = RulesView, headers(("etag" = String))),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(Admin(scope): Admin, State(state): State<AppState>) -> Result<Response> {
    let record = state.store.rules_of(&scope.tenant, None).await?;
    RulesView::of(&state, &scope, record).await
}

/// See an earlier version of the rules
#[utoipa::path(
    get, path = "/v1/admin/rules/{version}", tag = "admin", security(("admin" = [])), params(("version" = i32, Path)),
    responses(
        (status = 200, description = "This version", body = RulesView, headers(("etag" = String))),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show_version(
    Admin(scope): Admin,
    Path(version): Path<i32>,
    State(state): State<AppState>,
) -> Result<Response> {
    let record = state.store.rules_of(&scope.tenant, Some(version)).await?.ok_or(Error::NotFound)?;
    RulesView::of(&state, &scope, Some(record)).await
}

/// Set the rules
///
/// The whole document, at most 500 rules and 256 KiB, in place of the version that `If-Match` names, `"0"` for the first. It
/// counts for every submission that begins after the answer. The document that stands: 200, no new version.
#[utoipa::path(
    put, path = "/v1/admin/rules", tag = "admin", security(("admin" = [])), request_body = RulesBody,
    params(("If-Match" = String, Header, description = "The quoted version that the change is based on")),
    responses(
        (status = 200, description = "The version in force from now on", body = RulesView, headers(("etag" = String))),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn set(
    Admin(scope): Admin,
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonBytes(bytes): JsonBytes,
) -> Result<Response> {
    let document = RulesDocument::parse(&bytes)?;
    let expected = expected_version(&headers)?;
    let record = state.store.set_rules(&scope, expected, &document).await?;
    RulesView::of(&state, &scope, Some(record)).await
}

/// The version that `If-Match` names. What is none of ours stands nowhere, so it matches nothing.
fn expected_version(headers: &HeaderMap) -> Result<i32> {
    const NONE_OF_OURS: i32 = -1;
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let value = values.next().ok_or(Error::VersionRequired)?;
    let text = value.to_str().ok().and_then(|text| text.trim().strip_prefix('"')?.strip_suffix('"'));
    // Written as the ETag writes it. After the last number there is no version.
    let version = text.and_then(|text| text.parse().ok().filter(|version: &i32| version.to_string() == text));
    let is_ours = |version: &i32| (0..i32::MAX).contains(version) && values.next().is_none();
    Ok(version.filter(is_ours).unwrap_or(NONE_OF_OURS))
}
