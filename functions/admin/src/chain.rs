//! The export of a chain for offline verification.

use axum::Json;
use axum::extract::State;
use relaytrace_domain::{Base64, ChainHeader, Digest, RequestId};
use relaytrace_domain::{Error, Result};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Path, Problem};
use serde::Serialize;
use utoipa::ToSchema;

/// A whole chain (contract, "Chain").
#[derive(Debug, Serialize, ToSchema)]
pub struct Chain {
    request_id: RequestId,
    length: i32,
    head: Digest,
    /// Base64 of the bytes received; null where they were erased.
    #[schema(value_type = Option<String>)]
    envelope: Option<Base64>,
    /// Only where the envelope was erased.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    erased: bool,
    entries: Vec<Entry>,
}

/// One entry: its bytes, what they say, and its place in the chain.
#[derive(Debug, Serialize, ToSchema)]
struct Entry {
    #[serde(flatten)]
    header: ChainHeader,
    /// Base64 of the exact bytes stored.
    #[schema(value_type = String)]
    entry: Base64,
    prev_hash: Digest,
    hash: Digest,
}

/// Export a chain
#[utoipa::path(
    get, path = "/v1/admin/requests/{request_id}/chain", tag = "admin", security(("admin" = [])),
    params(("request_id" = String, Path)),
    responses(
        (status = 200, description = "The chain", body = Chain),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn export(
    Admin(scope): Admin,
    Path(request_id): Path<RequestId>,
    State(state): State<AppState>,
) -> Result<Json<Chain>> {
    let chain = state.store.chain(&scope, request_id).await?.ok_or(Error::NotFound)?;
    let entries = chain.entries.into_iter().map(|entry| {
        let header = ChainHeader::of(&entry).map_err(Error::internal)?;
        let (prev_hash, hash) = (entry.prev_hash, entry.hash);
        Ok(Entry { header, entry: Base64(entry.entry), prev_hash, hash })
    });
    Ok(Json(Chain {
        request_id,
        length: chain.length,
        head: chain.head,
        erased: chain.envelope.is_none(),
        envelope: chain.envelope.map(Base64),
        entries: entries.collect::<Result<_>>()?,
    }))
}
