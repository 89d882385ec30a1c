//! Bodies of a server's responses, none longer than a message may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{Stream, StreamExt as _, stream};
use reqwest::Response;
use sse_stream::{Sse, SseByteStream};

use super::said;
use crate::lines::LONGEST;
use crate::message::is_response;

/// The events of a stream. Its reader sets `unread` back with each; one that is longer than a message may be ends it.
pub fn events(response: Response, unread: Arc<AtomicUsize>) -> impl Stream<Item = Result<Sse, sse_stream::Error>> {
    let chunks = stream::try_unfold((response, unread), |(mut response, unread)| async move {
        let Some(chunk) = response.chunk().await.map_err(std::io::Error::other)? else { return Ok(None) };
        if unread.fetch_add(chunk.len(), Ordering::Relaxed) > LONGEST {
            return Err(std::io::Error::other("an event that is too long"));
        }
        Ok(Some((chunk, (response, unread))))
    });
    SseByteStream::new(chunks)
}

/// The first response of a stream.
pub async fn first_response(response: Response) -> Option<String> {
    let mut events = std::pin::pin!(events(response, Arc::default()));
    while let Some(Ok(event)) = events.next().await {
        let data = event.data.filter(|data| is_response(data));
        if data.is_some() {
            return data;
        }
    }
    None
}

/// The body of a response, up to the longest message.
pub async fn whole(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) =
        response.chunk().await.map_err(|error| format!("the response broke off: {}", said(error)))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST {
            return Err(format!("a response of more than {LONGEST} bytes"));
        }
    }
    Ok(body)
}
