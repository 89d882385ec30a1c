//! How a server at an address takes the requests of a client by HTTP: its status and what it says for authorization go
//! back as they came.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use http::{HeaderMap, StatusCode, header};
use tokio::sync::oneshot;

/// Headers of a refusal that go back to the client.
const PASSED: [header::HeaderName; 3] = [header::WWW_AUTHENTICATE, header::CONTENT_TYPE, header::RETRY_AFTER];

/// A refusal of a server.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Not that of a success.
    pub status: StatusCode,
    /// Those that matter to a client.
    pub headers: HeaderMap,
    /// As it came.
    pub body: Bytes,
}

impl Refusal {
    /// Of this response.
    pub fn new(status: StatusCode, all: &HeaderMap, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        for name in PASSED {
            for value in all.get_all(&name) {
                headers.append(name.clone(), value.clone());
            }
        }
        Self { status, headers, body }
    }
}

/// How a request was taken.
#[derive(Debug)]
pub enum Head {
    /// The response goes on.
    Accepted,
    /// There is nothing else.
    Refused(Refusal),
}

/// Requests whose clients wait for a status, by their ids.
#[derive(Debug, Default)]
pub struct Heads(Mutex<HashMap<String, Expected>>);

#[derive(Debug)]
struct Expected {
    is_sent: bool,
    to: oneshot::Sender<Head>,
}

impl Heads {
    /// A client waits for the status of this request.
    pub fn expect(&self, id: &str) -> oneshot::Receiver<Head> {
        let (to, head) = oneshot::channel();
        self.lock().insert(id.to_owned(), Expected { is_sent: false, to });
        head
    }

    /// It is on its way to the server.
    pub fn sent(&self, id: &str) {
        if let Some(expected) = self.lock().get_mut(id) {
            expected.is_sent = true;
        }
    }

    /// Whether it is on its way to the server, and has no status so far.
    pub fn is_sent(&self, id: &str) -> bool {
        self.lock().get(id).is_some_and(|expected| expected.is_sent)
    }

    /// The server has taken it so.
    pub fn tell(&self, id: &str, head: Head) {
        let expected = self.lock().remove(id);
        if let Some(expected) = expected {
            drop(expected.to.send(head));
        }
    }

    /// Nobody waits for it any more.
    pub fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Expected>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
