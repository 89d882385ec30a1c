//! Push subscriptions: an operator is told in their browsers what is asked of them (contract, "Browsers").

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use relaytrace_domain::{Error, Faults, GroupName, Priority, Result, SubscriptionId, Timestamp};
use relaytrace_reach::Subscription;
use relaytrace_service::AppState;
use relaytrace_service::auth::{Operator, SignedIn};
use relaytrace_service::http::{JsonBody, Path, Problem};
use relaytrace_store::{BrowserMatch, BrowserRecord, NewBrowser};
use serde::Serialize;
use utoipa::ToSchema;

/// Groups that a subscription names at the most.
const MOST_GROUPS: usize = 100;

/// A browser's keys, base64url.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct BrowserKeys {
    /// Its public key.
    p256dh: String,
    /// Its secret for these messages.
    auth: String,
}

/// A push subscription as a browser gives it (`PushSubscription.toJSON()`), and what it is to be told of.
#[derive(Debug, deserr::Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct NewSubscription {
    /// At a push service that the deployment names.
    endpoint: String,
    keys: BrowserKeys,
    /// As the browser gives it; messages that are refused end the subscription.
    #[deserr(default, rename = "expirationTime")]
    #[schema(rename = "expirationTime")]
    #[expect(dead_code, reason = "browsers send it")]
    expiration_time: Option<f64>,
    /// Only requests that are assigned to one of these groups; absent or null: all that the caller may decide.
    #[deserr(default)]
    groups: Option<Vec<GroupName>>,
    /// Only requests of these priorities; absent or null: of all.
    #[deserr(default)]
    priorities: Option<Vec<Priority>>,
}

impl NewSubscription {
    fn stored(self, state: &AppState) -> Result<NewBrowser> {
        let config = &state.reach.config;
        if config.web_push_public.is_none() {
            return Err(Error::invalid("", "this deployment tells browsers nothing: it has no VAPID_PUBLIC_KEY"));
        }
        let mut faults = Faults::default();
        let BrowserKeys { p256dh, auth } = self.keys;
        let subscription = Subscription { endpoint: self.endpoint, p256dh, auth };
        subscription.check(state.reach.sender().egress(), &config.web_push_hosts, &mut faults);
        let mut matching = BrowserMatch { groups: self.groups, priorities: self.priorities };
        for (member, length) in [
            ("/groups", matching.groups.as_ref().map(Vec::len)),
            ("/priorities", matching.priorities.as_ref().map(Vec::len)),
        ] {
            if length.is_some_and(|length| !(1..=MOST_GROUPS).contains(&length)) {
                faults.add(member, format!("must name 1 to {MOST_GROUPS}"));
            }
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        if let Some(groups) = &mut matching.groups {
            groups.sort_unstable();
            groups.dedup();
        }
        if let Some(priorities) = &mut matching.priorities {
            priorities.sort_unstable();
            priorities.dedup();
        }
        Ok(NewBrowser { config: subscription.stored().to_string(), target: subscription.digest()?, matching })
    }
}

/// A push subscription, without its endpoint and keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct SubscriptionView {
    subscription_id: SubscriptionId,
    /// Null: all that the caller may decide.
    groups: Option<Vec<GroupName>>,
    /// Null: of all.
    priorities: Option<Vec<Priority>>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl TryFrom<BrowserRecord> for SubscriptionView {
    type Error = Error;

    fn try_from(record: BrowserRecord) -> Result<Self> {
        let BrowserMatch { groups, priorities } = record.matching()?;
        let (created_at, updated_at) = (Timestamp(record.created_at), Timestamp(record.updated_at));
        Ok(Self { subscription_id: record.subscription_id, groups, priorities, created_at, updated_at })
    }
}

/// The caller's own push subscriptions.
#[derive(Debug, Serialize, ToSchema)]
pub struct Subscriptions {
    /// What a browser subscribes with (`applicationServerKey`), base64url; null: this deployment tells browsers nothing.
    public_key: Option<String>,
    items: Vec<SubscriptionView>,
    /// Always null: they are few.
    #[schema(value_type = Option<String>)]
    next_cursor: (),
}

/// See your push subscriptions
///
/// And the key that a browser subscribes with.
#[utoipa::path(
    get, path = "/v1/hitl/push-subscriptions", tag = "decide", security(("operator" = [])),
    responses(
        (status = 200, description = "The caller's own", body = Subscriptions),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn list(Operator(scope): Operator, State(state): State<AppState>) -> Result<Json<Subscriptions>> {
    let found = state.store.browsers(&scope).await?;
    let items = found.into_iter().map(TryInto::try_into).collect::<Result<_>>()?;
    Ok(Json(Subscriptions { public_key: state.reach.config.web_push_public.clone(), items, next_cursor: () }))
}

/// Be told in a browser
///
/// Of requests that the caller may decide, themselves or for somebody. In place of another of its name; a browser is told for
/// its latest owner alone. It ends when its push service says so, when the caller is blocked, and when they were not seen for
/// 14 days.
#[utoipa::path(
    put, path = "/v1/hitl/push-subscriptions/{subscription_id}", tag = "decide", security(("operator" = [])),
    params(("subscription_id" = String, Path)), request_body = NewSubscription,
    responses(
        (status = 200, description = "As it is from now on", body = SubscriptionView),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn set(
    Operator(scope): Operator,
    SignedIn(person): SignedIn,
    Path(id): Path<SubscriptionId>,
    State(state): State<AppState>,
    JsonBody(new): JsonBody<NewSubscription>,
) -> Result<Json<SubscriptionView>> {
    let new = new.stored(&state)?;
    // It is told by what is known of its owner: that is known from now on, not from a moment later.
    state.store.note_operator(&person.seen()).await?;
    Ok(Json(state.store.set_browser(&scope, &id, &new).await?.try_into()?))
}

/// End a push subscription
#[utoipa::path(
    delete, path = "/v1/hitl/push-subscriptions/{subscription_id}", tag = "decide", security(("operator" = [])),
    params(("subscription_id" = String, Path)),
    responses(
        (status = 204, description = "Ended, now or before"),
        (status = "default", description = "A problem", body = Problem, content_type = "application/problem+json"),
    )
)]
pub async fn end(
    Operator(scope): Operator,
    Path(id): Path<SubscriptionId>,
    State(state): State<AppState>,
) -> Result<StatusCode> {
    state.store.remove_browser(&scope, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}
