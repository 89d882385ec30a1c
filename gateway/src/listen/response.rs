//! The response to a client's request: whole, as the server refuses it, or a stream.

use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use http::{StatusCode, header};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

use super::Conversation;
use crate::heads::{Head, Refusal};
use crate::message::{Members, is_response};
use crate::routes::cancelled;

/// A response that comes within this time is sent whole, with a status of its own; later ones are streams.
const AT_ONCE: Duration = Duration::from_millis(100);
/// How long a server at an address may take to say how it takes a request; after that, its response is a stream.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Between two signs of life of a stream.
const ALIVE: Duration = Duration::from_secs(15);

/// A response that is on its way. Where it is dropped before its end, its client has gone.
pub struct Open {
    /// Of its client.
    pub conversation: Arc<Conversation>,
    /// Id of the request, as the gateway names it.
    pub own: String,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Self { conversation, own } = self;
        conversation.touch();
        if let Some(heads) = &conversation.heads {
            heads.forget(own);
        }
        if !conversation.routes().leave(own) {
            return;
        }
        if conversation.is_stateless {
            // Closing the response is how these take a request back.
            let (session, cancelled) = (conversation.session.clone(), cancelled(own));
            tokio::spawn(async move { session.asked(&cancelled, None).await });
        } else {
            conversation.session.abandon(own);
        }
    }
}

/// A stream of messages, until there are no more.
pub fn events(first: Option<String>, from: mpsc::Receiver<String>, open: Option<Open>) -> Response {
    let events = stream::unfold((first, from, open), |(mut first, mut from, open)| async move {
        let text = match first.take() {
            Some(text) => text,
            None => from.recv().await?,
        };
        // A line end is not part of a message: a client joins the lines again.
        let event = Event::default().event("message").data(text.replace(['\r', '\n'], " "));
        Some((Ok::<_, std::convert::Infallible>(event), (None, from, open)))
    });
    let stream = Sse::new(events).keep_alive(KeepAlive::new().interval(ALIVE));
    ([("x-accel-buffering", "no")], stream).into_response()
}

/// The status of a response that is sent whole (MCP 2026-07-28, "Streamable HTTP").
fn status_of(text: &str) -> StatusCode {
    let error = Members::look(text).and_then(|members| members.inner("error"));
    let code = error.and_then(|error| error.get("code")).and_then(|code| code.get().parse::<i32>().ok());
    match code {
        Some(-32_022..=-32_020) => StatusCode::BAD_REQUEST,
        _ => StatusCode::OK,
    }
}

/// The response to a request: whole where it comes at once, as the server refuses it where it does, else a stream.
pub async fn answered(
    open: Open,
    mut from: mpsc::Receiver<String>,
    mut head: Option<oneshot::Receiver<Head>>,
) -> Response {
    let last = Instant::now() + HEAD_DEADLINE;
    let mut until = Instant::now() + AT_ONCE;
    loop {
        tokio::select! {
            biased;
            told = async { head.as_mut()?.await.ok() }, if head.is_some() => {
                head = None;
                match told {
                    Some(Head::Refused(refusal)) => return refused_by_server(refusal, &open.own, &mut from).await,
                    Some(Head::Accepted) => until = Instant::now() + AT_ONCE,
                    None => {}
                }
            }
            text = from.recv() => return match text {
                Some(text) if is_response(&text) => {
                    (status_of(&text), [(header::CONTENT_TYPE, "application/json")], text).into_response()
                }
                None => (StatusCode::BAD_GATEWAY, "the server has ended").into_response(),
                first => events(first, from, Some(open)),
            },
            () = sleep_until(until) => {
                // The server has the request, and has not said how it takes it.
                let heads = open.conversation.heads.as_ref().filter(|_| head.is_some() && until < last);
                if !heads.is_some_and(|heads| heads.is_sent(&open.own)) {
                    return events(None, from, Some(open));
                }
                until = last;
            }
        }
    }
}

/// What the server says instead of taking a request.
async fn refused_by_server(refusal: Refusal, own: &str, from: &mut mpsc::Receiver<String>) -> Response {
    let Refusal { status, headers, body } = refusal;
    let text = std::str::from_utf8(&body).ok().and_then(Members::look);
    if text.is_none_or(|members| members.get("id").is_none_or(|id| id.get() != own)) {
        return (status, headers, body).into_response();
    }
    // A JSON-RPC error names the request: so it does as its client knows it.
    let named = timeout(AT_ONCE, from.recv()).await.ok().flatten();
    match named {
        Some(text) => (status, headers, text).into_response(),
        None => (status, headers, body).into_response(),
    }
}
