//! The part of a request body that the handler left unread.
//!
//! A connection whose request was not read to its end is closed, and a caller that is still sending may never see the
//! answer. So the rest is read and dropped before the answer goes out, within bounds.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures_util::stream::{Fuse, Stream, StreamExt as _, poll_fn};

/// At most so many bytes are read and dropped; beyond them the connection is closed.
const MOST: usize = 4 * 1024 * 1024;
/// Longest wait for them.
const LONGEST: Duration = Duration::from_secs(2);

/// The end of a body that a handler may leave unread.
pub(super) struct Unread(Arc<Mutex<Fuse<BodyDataStream>>>);

impl Unread {
    /// The body for the handler, and a handle on the part that it leaves unread.
    pub(super) fn of(body: Body) -> (Body, Self) {
        let shared = Arc::new(Mutex::new(body.into_data_stream().fuse()));
        let for_handler = Self(shared.clone());
        (Body::from_stream(poll_fn(move |context| for_handler.poll(context))), Self(shared))
    }

    fn poll(&self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, axum::Error>>> {
        let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *stream).poll_next(context)
    }

    /// Reads and drops the rest.
    pub(super) async fn drop_rest(self) {
        let rest = async {
            let mut read = 0;
            while let Some(Ok(chunk)) = poll_fn(|context| self.poll(context)).next().await {
                read += chunk.len();
                if read > MOST {
                    return;
                }
            }
        };
        drop(tokio::time::timeout(LONGEST, rest).await);
    }
}
