//! Which of a client's HTTP responses a message belongs to.
//!
//! Ids and progress tokens are the client's own, and clients may share a server: on the way in each request gets an id of
//! the gateway's, and on the way out its own again.

use std::collections::{HashMap, VecDeque};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::lines::LONGEST;
use crate::message::{Kind, Members, kind, lost, quoted};

/// Most messages that are kept for a client that has no stream open.
const MOST_KEPT: usize = 256;
/// Most bytes of them: the longest message has room, and the oldest go first.
const MOST_KEPT_BYTES: usize = LONGEST;
/// Names the request that a notification belongs to (MCP 2026-07-28, "Subscriptions").
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The responses of one client, or of all stateless ones.
#[derive(Debug, Default)]
pub struct Routes {
    posts: HashMap<String, Post>,
    /// The client's progress tokens of calls that go on as tasks, by the gateway's.
    of_tasks: VecDeque<(String, String)>,
    listener: Option<mpsc::Sender<String>>,
    kept: VecDeque<String>,
    last: u64,
    is_shared: bool,
    is_closed: bool,
}

#[derive(Debug)]
struct Post {
    /// Grows from one to the next.
    number: u64,
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
        if self.is_closed {
            drop(to.try_send(lost(id, "the server has ended")));
        } else {
            self.posts.insert(own.clone(), Post { number: self.last, id: id.to_owned(), token, to });
        }
        (text, own)
    }

    /// A message of the client, with the gateway's id where it names a request of its own. None: it names no request that
    /// is open, or, where clients share, perhaps another one's.
    pub fn translated(&self, text: String) -> Option<String> {
        let Some(members) = Members::look(&text) else { return Some(text) };
        let Some(params) = members.inner("params") else { return Some(text) };
        let Some(id) = params.get("requestId") else { return Some(text) };
        let mut of_it = self.posts.iter().filter(|(_, post)| post.id == id.get());
        let (own, None) = (of_it.next()?.0, of_it.next()) else { return None };
        Some(members.with("params", &params.with("requestId", own)))
    }

    /// Puts a message on its way. Nobody waits for a slow reader: it misses progress, and what else it has no room for ends
    /// its stream.
    pub fn deliver(&mut self, text: String) {
        let Some((to, text)) = self.way(text) else { return };
        if let Err(TrySendError::Full(text)) = to.try_send(text)
            && !is_progress(&text)
        {
            tracing::warn!("a client does not read: its stream is ended");
            self.posts.retain(|_, post| !post.to.same_channel(&to));
            self.listener.take_if(|listener| listener.same_channel(&to));
        }
    }

    /// The server is gone: what is open gets an answer, and all streams end.
    pub fn close(&mut self) {
        self.is_closed = true;
        for (_, post) in self.posts.drain() {
            // A stream without room ends without it.
            drop(post.to.try_send(lost(&post.id, "the server has ended")));
        }
        self.listener = None;
    }

    /// The response of a request is gone.
    pub fn leave(&mut self, own: &str) -> bool {
        self.posts.remove(own).is_some()
    }

    /// Whether nothing is open.
    pub fn is_idle(&self) -> bool {
        self.posts.is_empty() && self.listener.as_ref().is_none_or(mpsc::Sender::is_closed)
    }

    /// From now on this stream gets what belongs to no request, and what was kept.
    pub fn listen(&mut self, to: mpsc::Sender<String>) {
        while let Some(text) = self.kept.pop_front() {
            if let Err(TrySendError::Full(text) | TrySendError::Closed(text)) = to.try_send(text) {
                self.kept.push_front(text);
                break;
            }
        }
        self.listener = Some(to);
    }

    /// Where a message goes, as its client knows it. None: it is kept, or it is nobody's.
    fn way(&mut self, text: String) -> Option<(mpsc::Sender<String>, String)> {
        let Some(members) = Members::look(&text) else { return self.elsewhere(text) };
        let params = members.inner("params");
        match kind(&members) {
            Kind::Response { id } => {
                let Some(post) = self.posts.remove(&id) else {
                    tracing::debug!("a response comes too late");
                    return None;
                };
                if let Some(token) = post.token.filter(|_| is_task(&members)) {
                    if self.of_tasks.len() == MOST_KEPT {
                        self.of_tasks.pop_front();
                    }
                    self.of_tasks.push_back((id, token));
                }
                Some((post.to, members.with("id", &post.id)))
            }
            Kind::Notification { method } if method == "notifications/progress" => {
                let params = params?;
                let own = params.get("progressToken")?.get();
                let Some(post) = self.posts.get(own) else {
                    let (_, token) = self.of_tasks.iter().find(|(of_task, _)| of_task == own)?;
                    let text = members.with("params", &params.with("progressToken", token));
                    return self.elsewhere(text);
                };
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
        let newest = self.posts.values().max_by_key(|post| post.number);
        match newest {
            Some(post) if !self.is_shared || self.posts.len() == 1 => Some((post.to.clone(), text)),
            _ if self.is_shared => None,
            _ => {
                self.kept.push_back(text);
                let mut bytes: usize = self.kept.iter().map(String::len).sum();
                while self.kept.len() > MOST_KEPT || bytes > MOST_KEPT_BYTES {
                    bytes -= self.kept.pop_front().map_or(bytes, |oldest| oldest.len());
                }
                None
            }
        }
    }
}

/// Whether a response says that the call goes on as a task (MCP 2025-11-25).
fn is_task(response: &Members<'_>) -> bool {
    let task = response.inner("result").and_then(|result| result.inner("task"));
    task.is_some_and(|task| task.get("taskId").is_some())
}

fn is_progress(text: &str) -> bool {
    let is_progress =
        |members| matches!(kind(&members), Kind::Notification { method } if method == "notifications/progress");
    Members::look(text).is_some_and(is_progress)
}

/// Tells the server that a request is taken back: its client has closed the response.
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
    fn what_is_kept_for_a_stream_has_a_limit_in_bytes() {
        let mut routes = Routes::default();
        for number in 0..3 {
            let long = "x".repeat(MOST_KEPT_BYTES / 2);
            routes.deliver(format!(r#"{{"method":"notifications/message","params":{{"n":{number},"x":"{long}"}}}}"#));
        }
        assert_eq!(routes.kept.len(), 1);
        routes.deliver(r#"{"method":"notifications/message"}"#.to_owned());
        assert!(routes.kept.iter().map(String::len).sum::<usize>() <= MOST_KEPT_BYTES);
        assert_eq!(routes.kept.len(), 2);
    }

    #[test]
    fn messages_that_are_kept_for_a_stream_have_a_limit_in_number_and_the_newest_stay_in_their_order() {
        let mut routes = Routes::default();
        let message = |number: usize| format!(r#"{{"method":"notifications/message","params":{{"n":{number}}}}}"#);
        for number in 0..=MOST_KEPT {
            routes.deliver(message(number));
        }
        // A stream without room for all gets the first ones; the others stay.
        let (to, mut stream) = mpsc::channel(1);
        routes.listen(to);
        assert_eq!(stream.try_recv().unwrap(), message(1));
        let (to, mut stream) = mpsc::channel(MOST_KEPT);
        routes.listen(to);
        let told: Vec<_> = std::iter::from_fn(|| stream.try_recv().ok()).collect();
        assert_eq!(told, (2..=MOST_KEPT).map(message).collect::<Vec<_>>());
    }

    #[test]
    fn progress_tokens_of_tasks_have_a_limit_and_the_newest_stay() {
        let mut routes = Routes::default();
        let begun: Vec<_> = (0..=MOST_KEPT)
            .map(|number| {
                let call = format!(r#"{{"id":{number},"params":{{"_meta":{{"progressToken":{number}}}}}}}"#);
                let (_, own, _answer) = entered(&mut routes, &call, &number.to_string());
                routes.deliver(format!(r#"{{"id":{own},"result":{{"task":{{"taskId":"s"}}}}}}"#));
                own
            })
            .collect();
        assert_eq!(routes.of_tasks.len(), MOST_KEPT);
        let (to, mut stream) = mpsc::channel(4);
        routes.listen(to);
        let progress =
            |token: &str| format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{token}}}}}"#);
        for own in [&begun[0], &begun[1], &begun[MOST_KEPT]] {
            routes.deliver(progress(own));
        }
        let told: Vec<_> = std::iter::from_fn(|| stream.try_recv().ok()).collect();
        assert_eq!(told, [progress("1"), progress(&MOST_KEPT.to_string())]);
    }

    #[test]
    fn progress_of_a_call_that_goes_on_as_a_task_keeps_its_token() {
        let mut routes = Routes::default();
        let call = r#"{"id":1,"params":{"_meta":{"progressToken":"t"}}}"#;
        let (_, own, _answer) = entered(&mut routes, call, "1");
        let (to, mut stream) = mpsc::channel(4);
        routes.listen(to);
        routes.deliver(format!(r#"{{"id":{own},"result":{{"task":{{"taskId":"s"}}}}}}"#));
        let progress =
            |token: &str| format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{token}}}}}"#);
        routes.deliver(progress(&own));
        assert_eq!(stream.try_recv().unwrap(), progress("\"t\""));
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

    #[test]
    fn a_client_that_does_not_read_loses_its_stream_and_nobody_waits_for_it() {
        let mut routes = Routes::new(true);
        let (_, slow, mut stream) = entered(&mut routes, r#"{"params":{"_meta":{"progressToken":1}}}"#, "1");
        let (_, other, mut others) = entered(&mut routes, "{}", "2");
        let progress = format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{slow}}}}}"#);
        routes.deliver(progress.clone());
        routes.deliver(progress);
        assert_eq!(routes.posts.len(), 2);
        routes.deliver(format!(r#"{{"id":{slow},"result":{{}}}}"#));
        assert!(stream.try_recv().is_ok());
        assert_eq!(stream.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        routes.deliver(format!(r#"{{"id":{other},"result":{{}}}}"#));
        assert!(others.try_recv().is_ok() && routes.is_idle());
        let (to, mut listening) = mpsc::channel(1);
        let mut routes = Routes::default();
        routes.listen(to);
        for _ in 0..2 {
            routes.deliver(r#"{"method":"notifications/message"}"#.to_owned());
        }
        assert!(listening.try_recv().is_ok() && routes.is_idle());
        assert_eq!(listening.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
    }

    #[test]
    fn a_client_names_only_a_request_that_is_surely_its_own() {
        let mut routes = Routes::new(true);
        let cancelled = |id: &str| format!(r#"{{"method":"x","params":{{"requestId":{id}}}}}"#);
        let (_, own, _first) = entered(&mut routes, "{}", "1");
        assert_eq!(routes.translated(cancelled("1")), Some(cancelled(&own)));
        assert_eq!(routes.translated(cancelled(&own)), None);
        let (_, _, _second) = entered(&mut routes, "{}", "1");
        assert_eq!(routes.translated(cancelled("1")), None);
        assert_eq!(routes.translated("{}".to_owned()), Some("{}".to_owned()));
    }

    #[test]
    fn what_is_open_is_answered_when_the_server_is_gone() {
        let mut routes = Routes::default();
        let (_, _, mut stream) = entered(&mut routes, "{}", "7");
        routes.close();
        let told = stream.try_recv().unwrap();
        assert!(told.contains(r#""id":7,"error""#), "{told}");
        assert_eq!(stream.try_recv(), Err(mpsc::error::TryRecvError::Disconnected));
        let (_, _, mut late) = entered(&mut routes, "{}", "8");
        assert!(late.try_recv().unwrap().contains(r#""id":8,"error""#) && routes.is_idle());
    }
}
