//! Who may speak in a conversation: a session id alone is no authorization (MCP 2025-11-25, "Access Token Usage").

use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::time::timeout;

use super::Conversation;
use super::response::HEAD_DEADLINE;
use crate::heads::{Head, Heads};
use crate::message::{Kind, Members};
use crate::own_id;

/// A client begins another one then.
pub const NO_SESSION: &str = "there is no such session";

/// A request that the gateway acts on: its id, and its `_meta`.
type Acted<'a> = (&'a str, Option<&'a Members<'a>>);

impl Conversation {
    /// Why who sends these headers may not speak in it; None: they may.
    ///
    /// What passes on is the server's to judge, by what comes with it. What the gateway acts on itself (`request`) needs an
    /// authorization that the server has accepted in this session.
    pub async fn refusal(&self, headers: &HeaderMap, request: Option<Acted<'_>>) -> Option<Response> {
        let shown = shown(headers);
        let Some(heads) = self.heads.as_ref().filter(|_| self.is_judged) else {
            // Nobody can say whether another one is its client's, too: that begins a session of its own.
            return match shown {
                _ if self.shown.is_none() || self.shown == shown => None,
                None => Some(unauthorized()),
                Some(_) => Some((StatusCode::NOT_FOUND, NO_SESSION).into_response()),
            };
        };
        match (shown, request) {
            (None, _) if self.shown.is_none() && heads.accepts(None) => None,
            (None, _) => Some(unauthorized()),
            (Some(shown), Some(request)) if !heads.accepts(Some(&shown)) => self.judged(heads, shown, request).await,
            (Some(_), _) => None,
        }
    }

    /// Has the server judge this authorization, by a request that changes nothing.
    async fn judged(&self, heads: &Heads, shown: HeaderValue, (id, meta): Acted<'_>) -> Option<Response> {
        let own = own_id();
        let head = heads.expect(&own);
        self.session.try_out(&own, meta, &shown).await;
        let head = timeout(HEAD_DEADLINE, head).await;
        heads.forget(&own);
        match head {
            Ok(Ok(Head::Accepted)) => None,
            Ok(Ok(Head::Refused(refusal))) => Some(refusal.of(&own, id).into_response()),
            Ok(Err(_)) | Err(_) => {
                let why = "the server does not say whether it accepts the authorization";
                Some((StatusCode::BAD_GATEWAY, why).into_response())
            }
        }
    }
}

/// The id of a message that the gateway acts on itself: the server does not see it, or only later.
pub fn acted_on(kind: &Kind) -> Option<&str> {
    match kind {
        Kind::Request { id, method } if method == "tools/call" || method.starts_with("tasks/") => Some(id),
        Kind::Notification { method } if method == "notifications/cancelled" => Some("null"),
        _ => None,
    }
}

/// What a client shows for authorization. It is in no log.
pub fn shown(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut shown = headers.get(header::AUTHORIZATION).cloned()?;
    shown.set_sensitive(true);
    Some(shown)
}

fn unauthorized() -> Response {
    (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, "Bearer")], "Authorization is missing").into_response()
}
