//! Which of a client's HTTP responses a message belongs to.
//!
//! Ids and progress tokens are the client's own, and clients may share a server: on the way in each request gets an id of
//! the gateway's, and on the way out its own again.

use std::collections::{HashMap, VecDeque};

use tokio::sync::mpsc;

use crate::message::{Kind, Members, kind, quoted};

/// Most messages that are kept for a client that has no stream open.
const MOST_KEPT: usize = 256;
/// Names the request that a notification belongs to (MCP 2026-07-28, "Subscriptions").
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The responses of one client, or of all stateless ones.
#[derive(Debug, Default)]
pub struct Routes {
    posts: HashMap<String, Post>,
    /// In the order in which they came.
    order: VecDeque<String>,
    listener: Option<mpsc::Sender<String>>,
    kept: VecDeque<String>,
    last: u64,
    is_shared: bool,
}

#[derive(Debug)]
struct Post {
    id: String,
    token: Option<String>,
    to: mpsc::Sender<String>,
}

impl Routes {
    /// Where several clients share them, what belongs to no request of theirs is nobody's.
    pub fn new(is_shared: bool) -> Self {
        Self { is_shared, ..Self::default() }
    }

    /// A request came: its text with the gateway's id, and that id.
    pub fn enter(&mut self, members: &Members<'_>, id: &str, to: mpsc::Sender<String>) -> (String, String) {
        self.last += 1;
        let own = format!("\"c-{}\"", self.last);
        let params = members.inner("params");
        let meta = params.as_ref().and_then(|params| params.inner("_meta"));
        let token = meta.as_ref().and_then(|meta| meta.get("progressToken")).map(|token| token.get().to_owned());
        let mut text = members.with("id", &own);
        if let (Some(params), Some(meta), Some(_)) = (&params, &meta, &token) {
            let params = params.with("_meta", &meta.with("progressToken", &own));
            text = Members::look(&text).map_or(text.clone(), |members| members.with("params", &params));
        }
        self.posts.insert(own.clone(), Post { id: id.to_owned(), token, to });
        self.order.push_back(own.clone());
        (text, own)
    }

    /// A message of the client that names a request of its own, with the gateway's id for it.
    pub fn translated(&self, text: &str) -> Option<String> {
        let members = Members::look(text)?;
        let params = members.inner("params")?;
        let id = params.get("requestId")?.get();
        let (own, _) = self.posts.iter().find(|(_, post)| post.id == id)?;
        Some(members.with("params", &params.with("requestId", own)))
    }

    /// The response of a request is gone.
    pub fn leave(&mut self, own: &str) -> bool {
        self.order.retain(|id| id != own);
        self.posts.remove(own).is_some()
    }

    /// Whether nothing is open.
    pub fn is_idle(&self) -> bool {
        self.posts.is_empty() && self.listener.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// From now on this stream gets what belongs to no request, and what was kept.
    pub fn listen(&mut self, to: mpsc::Sender<String>) {
        while let Some(text) = self.kept.pop_front() {
            if let Err(mpsc::error::TrySendError::Full(text) | mpsc::error::TrySendError::Closed(text)) =
                to.try_send(text)
            {
                self.kept.push_front(text);
                break;
            }
        }
        self.listener = Some(to);
    }

    /// Where a message goes, as its client knows it. None: it is kept, or it is nobody's.
    pub fn way(&mut self, text: String) -> Option<(mpsc::Sender<String>, String)> {
        let Some(members) = Members::look(&text) else { return self.elsewhere(text) };
        let params = members.inner("params");
        match kind(&members) {
            Kind::Response { id } => {
                let Some(post) = self.posts.remove(&id) else {
                    tracing::debug!("a response comes too late");
                    return None;
                };
                self.order.retain(|own| *own != id);
                Some((post.to, members.with("id", &post.id)))
            }
            Kind::Notification { method } if method == "notifications/progress" => {
                let params = params?;
                let own = params.get("progressToken")?.get();
                let post = self.posts.get(own)?;
                let text = members.with("params", &params.with("progressToken", post.token.as_deref()?));
                Some((post.to.clone(), text))
            }
            _ => {
                let meta = params.as_ref().and_then(|params| params.inner("_meta"));
                let (Some(params), Some(meta)) = (params, meta) else { return self.elsewhere(text) };
                let Some(post) = meta.get(SUBSCRIPTION).and_then(|own| self.posts.get(own.get())) else {
                    return self.elsewhere(text);
                };
                let meta = meta.with(SUBSCRIPTION, &post.id);
                Some((post.to.clone(), members.with("params", &params.with("_meta", &meta))))
            }
        }
    }

    /// What belongs to no request: to the stream for such, or to the newest response that is open, or it is kept.
    fn elsewhere(&mut self, text: String) -> Option<(mpsc::Sender<String>, String)> {
        if let Some(listener) = self.listener.as_ref().filter(|listener| !listener.is_closed()) {
            return Some((listener.clone(), text));
        }
        let newest = self.order.back().and_then(|own| self.posts.get(own));
        match newest {
            Some(post) if !self.is_shared || self.posts.len() == 1 => Some((post.to.clone(), text)),
            _ if self.is_shared => None,
            _ => {
                if self.kept.len() == MOST_KEPT {
                    self.kept.pop_front();
                }
                self.kept.push_back(text);
                None
            }
        }
    }
}

/// The error that a stateless client's `requestId` stands for.
pub fn cancelled(own: &str) -> String {
    let reason = quoted("its client has closed the response");
    format!(
        r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{own},"reason":{reason}}}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(routes: &mut Routes, text: &str, id: &str) -> (String, String, mpsc::Receiver<String>) {
        let (to, from) = mpsc::channel(1);
        let (text, own) = routes.enter(&Members::look(text).unwrap(), id, to);
        (text, own, from)
    }

    #[test]
    fn two_clients_with_the_same_ids_each_get_their_own() {
        let mut routes = Routes::new(true);
        let call = r#"{"id":1,"method":"tools/call","params":{"name":"t","_meta":{"progressToken":1,"x":2}}}"#;
        let (text, first, _first) = entered(&mut routes, call, "1");
        let (_, second, mut stream) = entered(&mut routes, call, "1");
        assert_ne!(first, second);
        assert_eq!(
            text,
            call.replace(":1,\"x\"", &format!(":{first},\"x\"")).replace("\"id\":1", &format!("\"id\":{first}"))
        );
        let progress =
            |token: &str| format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{token}}}}}"#);
        let (_, text) = routes.way(progress(&second)).unwrap();
        assert_eq!(text, progress("1"));
        // A message that names no request may be anybody's.
        assert!(routes.way(r#"{"method":"notifications/message"}"#.to_owned()).is_none());
        let (to, text) = routes.way(format!(r#"{{"id":{second},"result":{{}}}}"#)).unwrap();
        assert_eq!(text, r#"{"id":1,"result":{}}"#);
        to.try_send(text).unwrap();
        assert!(stream.try_recv().is_ok());
        assert!(routes.way(format!(r#"{{"id":{second},"result":{{}}}}"#)).is_none());
        assert!(routes.leave(&first) && routes.is_idle());
    }

    #[test]
    fn what_belongs_to_no_request_waits_for_a_stream() {
        let mut routes = Routes::default();
        assert!(routes.way(r#"{"method":"notifications/message"}"#.to_owned()).is_none());
        let (to, mut stream) = mpsc::channel(4);
        routes.listen(to);
        assert!(stream.try_recv().is_ok());
        assert!(routes.way(r#"{"id":3,"method":"roots/list"}"#.to_owned()).is_some());
    }
}
