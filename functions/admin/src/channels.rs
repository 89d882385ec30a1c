//! Channels of people (contract, "Channels").

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use relaytrace_domain::{
    ChannelId, ChannelKind, ChannelMatch, Error, Faults, Notice, Result, TenantId, Timestamp, mint_uuid,
};
use relaytrace_reach::{ChannelKeys, Message, UNCALLABLE, WebhookSecret, channel_place, channel_target, is_address};
use relaytrace_service::AppState;
use relaytrace_service::auth::Admin;
use relaytrace_service::http::{Cursor, JsonBody, Page, Path, Problem, Query, clamped};
use relaytrace_store::{ChannelRecord, NewChannel as Stored};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

/// Addresses of a channel at the most.
const MOST_ADDRESSES: usize = 20;

/// How a channel reaches people: `url` and `secret` of a webhook, `webhook_url` of Slack, `to` of mail.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct ChannelConfig {
    /// Of a webhook: where it is.
    #[deserr(default, from(String) = Some)]
    #[schema(nullable = false)]
    url: Option<String>,
    /// Of a webhook: `whsec_` and base64 of 24 to 64 bytes. Never shown again.
    #[deserr(default, from(String) = Some)]
    #[schema(nullable = false)]
    secret: Option<String>,
    /// Of Slack: the incoming webhook, which is a secret. Never shown again.
    #[deserr(default, from(String) = Some)]
    #[schema(nullable = false)]
    webhook_url: Option<String>,
    /// Of mail: 1 to 20 addresses.
    #[deserr(default, from(Vec<String>) = Some)]
    #[schema(nullable = false)]
    to: Option<Vec<String>>,
}

/// A channel as it is to be.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewChannel {
    kind: ChannelKind,
    config: ChannelConfig,
    /// What it tells of.
    #[schema(min_items = 1)]
    events: Vec<Notice>,
    /// Which requests; absent or null: all.
    #[deserr(default, rename = "match")]
    #[schema(rename = "match")]
    matching: Option<ChannelMatch>,
}

/// What is shown of a channel's configuration, and what is sealed.
struct Parts {
    config: Value,
    secret: Option<String>,
}

impl NewChannel {
    fn parts(&self, state: &AppState, faults: &mut Faults) -> Parts {
        let ChannelConfig { url, secret, webhook_url, to } = &self.config;
        let given = [
            ("url", url.is_some()),
            ("secret", secret.is_some()),
            ("webhook_url", webhook_url.is_some()),
            ("to", to.is_some()),
        ];
        let wanted: &[&str] = match self.kind {
            ChannelKind::Webhook => &["url", "secret"],
            ChannelKind::Slack => &["webhook_url"],
            ChannelKind::Email => &["to"],
        };
        for (member, is_given) in given {
            match (wanted.contains(&member), is_given) {
                (true, false) => faults.add(format!("/config/{member}"), "is required"),
                (false, true) => faults.add(format!("/config/{member}"), "does not go with this kind"),
                _ => {}
            }
        }
        let egress = state.reach.sender().egress();
        for (member, url) in [("url", url), ("webhook_url", webhook_url)] {
            if url.as_ref().is_some_and(|url| egress.check(url).is_err()) {
                faults.add(format!("/config/{member}"), UNCALLABLE);
            }
        }
        if let Some(Err(rule)) = secret.as_ref().map(|secret| secret.parse::<WebhookSecret>()) {
            faults.add("/config/secret", rule);
        }
        check_addresses(to.as_deref(), faults);
        match self.kind {
            ChannelKind::Webhook => Parts { config: json!({"url": url}), secret: secret.clone() },
            ChannelKind::Slack => Parts { config: json!({}), secret: webhook_url.clone() },
            ChannelKind::Email => Parts { config: json!({"to": to}), secret: None },
        }
    }

    fn stored(self, state: &AppState, tenant: &TenantId, channel_id: &ChannelId) -> Result<Stored> {
        let mut faults = Faults::default();
        let parts = self.parts(state, &mut faults);
        if self.events.is_empty() {
            faults.add("/events", "must name at least one");
        }
        if let Some(matching) = &self.matching {
            matching.check(&mut faults, "/match");
        }
        if self.kind == ChannelKind::Email && state.reach.config.smtp.is_none() {
            faults.add("/kind", "this deployment sends no mail");
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        let keys = keys(state)?;
        let seal = |secret: &String| keys.seal(&channel_place(tenant, channel_id), secret);
        let sealed = parts.secret.as_ref().map(seal).transpose()?;
        let mut notices = self.events;
        notices.sort();
        notices.dedup();
        Ok(Stored { kind: self.kind, config: parts.config.to_string(), sealed, notices, matching: self.matching })
    }
}

fn check_addresses(to: Option<&[String]>, faults: &mut Faults) {
    let Some(to) = to else { return };
    if !(1..=MOST_ADDRESSES).contains(&to.len()) {
        faults.add("/config/to", format!("must name 1 to {MOST_ADDRESSES}"));
    }
    for (index, address) in to.iter().enumerate() {
        if !is_address(address) {
            faults.add(format!("/config/to/{index}"), "is no mail address");
        }
    }
}

/// What secrets are sealed with.
pub fn keys(state: &AppState) -> Result<&ChannelKeys> {
    let keys = state.reach.config.keys.as_ref();
    keys.ok_or_else(|| Error::invalid("", "this deployment keeps no secrets of channels: it has no CHANNEL_KEY"))
}

/// A channel, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChannelView {
    channel_id: ChannelId,
    kind: ChannelKind,
    /// `url` of a webhook, `to` of mail; nothing of Slack.
    #[schema(value_type = Object)]
    config: Value,
    events: Vec<Notice>,
    /// Null: all requests.
    #[serde(rename = "match")]
    #[schema(value_type = Option<ChannelMatch>)]
    matching: Option<Value>,
    created_at: Timestamp,
    updated_at: Timestamp,
    updated_by: String,
}

impl From<ChannelRecord> for ChannelView {
    fn from(channel: ChannelRecord) -> Self {
        Self {
            channel_id: channel.channel_id,
            kind: channel.kind,
            // Written here as JSON, and stored as jsonb.
            config: serde_json::from_str(&channel.config).unwrap_or_default(),
            events: channel.notices,
            matching: channel.matching.and_then(|text| serde_json::from_str(&text).ok()),
            created_at: Timestamp(channel.created_at),
            updated_at: Timestamp(channel.updated_at),
            updated_by: channel.updated_by,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ChannelQuery {
    /// From the page before.
    cursor: Option<String>,
    /// At most so many, 1 to 200; default 50.
    #[param(value_type = Option<u64>)]
    limit: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct ChannelCursor(ChannelId);

impl Cursor for ChannelCursor {}

/// List channels
#[utoipa::path(
    get, path = "/v1/admin/channels", tag = "admin", security(("admin" = [])), params(ChannelQuery),
    responses(
        (status = 200, description = "A page of them, in the order of their names", body = Page<ChannelView>),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(
    Admin(scope): Admin,
    State(state): State<AppState>,
    Query(query): Query<ChannelQuery>,
) -> Result<Json<Page<ChannelView>>> {
    let mut faults = Faults::default();
    let limit = clamped(&mut faults, "limit", query.limit.as_deref(), 50, 1, 200).cast_signed();
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let after = query.cursor.as_deref().map(ChannelCursor::decode).transpose()?;
    let found = state.store.channels(&scope, after.as_ref().map(|ChannelCursor(id)| id.as_str()), limit + 1).await?;
    Ok(Json(Page::of(found, limit, |last| ChannelCursor(last.channel_id.clone()))))
}

/// See a channel
#[utoipa::path(
    get, path = "/v1/admin/channels/{channel_id}", tag = "admin", security(("admin" = [])),
    params(("channel_id" = String, Path)),
    responses(
        (status = 200, description = "As it is, without its secret", body = ChannelView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn show(
    Admin(scope): Admin,
    Path(channel_id): Path<ChannelId>,
    State(state): State<AppState>,
) -> Result<Json<ChannelView>> {
    Ok(Json(state.store.channel(&scope, &channel_id).await?.into()))
}

/// Set a channel
///
/// What happens from now on is told by it. Messages are plain text, and hold no arguments, no context and nothing that
/// decides.
#[utoipa::path(
    put, path = "/v1/admin/channels/{channel_id}", tag = "admin", security(("admin" = [])),
    params(("channel_id" = String, Path)), request_body = NewChannel,
    responses(
        (status = 200, description = "As it is from now on", body = ChannelView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn set(
    Admin(scope): Admin,
    Path(channel_id): Path<ChannelId>,
    State(state): State<AppState>,
    JsonBody(new): JsonBody<NewChannel>,
) -> Result<Json<ChannelView>> {
    let stored = new.stored(&state, &scope.tenant, &channel_id)?;
    Ok(Json(state.store.set_channel(&scope, &channel_id, &stored).await?.into()))
}

/// Remove a channel
///
/// What it has not told yet it does not tell any more.
#[utoipa::path(
    delete, path = "/v1/admin/channels/{channel_id}", tag = "admin", security(("admin" = [])),
    params(("channel_id" = String, Path)),
    responses(
        (status = 204, description = "Removed, now or before"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn remove(
    Admin(scope): Admin,
    Path(channel_id): Path<ChannelId>,
    State(state): State<AppState>,
) -> Result<StatusCode> {
    state.store.remove_channel(&scope, &channel_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What came of a test.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tested {
    channel_id: ChannelId,
    /// `true`: the receiver has taken a message.
    delivered: bool,
}

/// Try a channel out
///
/// Sends one message now. 422 where it is not taken, whatever the reason.
#[utoipa::path(
    post, path = "/v1/admin/channels/{channel_id}/test", tag = "admin", security(("admin" = [])),
    params(("channel_id" = String, Path)),
    responses(
        (status = 200, description = "The receiver has taken a message", body = Tested),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn test(
    Admin(scope): Admin,
    Path(channel_id): Path<ChannelId>,
    State(state): State<AppState>,
) -> Result<Json<Tested>> {
    let channel = state.store.channel(&scope, &channel_id).await?;
    let keys = keys(&state)?;
    let place = channel_place(&scope.tenant, &channel_id);
    let secret = channel.sealed.as_deref().map(|sealed| keys.open(&place, sealed)).transpose()?;
    let config: Value = serde_json::from_str(&channel.config).map_err(Error::internal)?;
    let target = channel_target(channel.kind.as_str(), &config, secret)?;
    let now = state.clock.now();
    let page = state.reach.config.page_url.as_ref().map(ToString::to_string);
    let message = Message::test(format!("msg_{}", mint_uuid(now).simple()), channel_id.as_str(), now, page);
    match state.reach.sender().send(&target, &message, now).await {
        Ok(()) => Ok(Json(Tested { channel_id, delivered: true })),
        Err(failed) => Err(Error::invalid("/config", failed.to_string())),
    }
}
