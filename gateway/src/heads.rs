//! How a server at an address takes the requests of a client by HTTP: its status and what it says for authorization go
//! back as they came.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::body::Bytes;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::oneshot;

use crate::message::Members;

/// Headers of a refusal that go back to the client.
const PASSED: [header::HeaderName; 3] = [header::WWW_AUTHENTICATE, header::CONTENT_TYPE, header::RETRY_AFTER];

/// Most authorizations of a session that count as accepted: a client that has a new one still sends some with the old.
const MOST_ACCEPTED: usize = 4;

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

    /// The refusal of the gateway's own request `own`, as that of the client's request of this id.
    #[must_use]
    pub fn of(mut self, own: &str, id: &str) -> Self {
        let members = std::str::from_utf8(&self.body).ok().and_then(Members::look);
        let members = members.filter(|members| members.get("id").is_some_and(|id| id.get() == own));
        if let Some(named) = members.map(|members| members.with("id", id)) {
            self.body = named.into();
        }
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, self.headers, self.body).into_response()
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

/// What a server says of a session's requests before it answers them.
#[derive(Debug, Default)]
pub struct Heads {
    /// Requests whose clients wait for a status, by their ids.
    expected: Mutex<HashMap<String, Expected>>,
    /// What it accepted for authorization and has not refused since, the newest last.
    accepted: Mutex<VecDeque<HeaderValue>>,
}

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

    /// The server has accepted what a client showed for authorization, or does not any more.
    pub fn judge(&self, shown: &HeaderValue, is_accepted: bool) {
        let mut accepted = self.accepted();
        accepted.retain(|known| known != shown);
        if is_accepted {
            if accepted.len() == MOST_ACCEPTED {
                accepted.pop_front();
            }
            accepted.push_back(shown.clone());
        }
    }

    /// Whether the server accepts this in this session. None: nobody had to show anything so far.
    pub fn accepts(&self, shown: Option<&HeaderValue>) -> bool {
        let accepted = self.accepted();
        shown.map_or(accepted.is_empty(), |shown| accepted.contains(shown))
    }

    fn accepted(&self) -> MutexGuard<'_, VecDeque<HeaderValue>> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_authorizations_that_the_server_accepted_count_and_a_refused_one_does_not() {
        let heads = Heads::default();
        let shown = |number: usize| HeaderValue::from_str(&format!("Bearer {number}")).unwrap();
        assert!(heads.accepts(None) && !heads.accepts(Some(&shown(0))));
        for number in 0..MOST_ACCEPTED {
            heads.judge(&shown(number), true);
        }
        // One that is accepted again is the newest.
        heads.judge(&shown(0), true);
        heads.judge(&shown(MOST_ACCEPTED), true);
        let accepted: Vec<_> = (0..=MOST_ACCEPTED).map(|number| heads.accepts(Some(&shown(number)))).collect();
        assert_eq!(accepted, [true, false, true, true, true]);
        heads.judge(&shown(0), false);
        assert!(!heads.accepts(Some(&shown(0))) && !heads.accepts(None));
        assert_eq!(heads.accepted().len(), MOST_ACCEPTED - 1);
    }
}
