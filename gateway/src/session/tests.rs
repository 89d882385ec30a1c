use relaytrace_client::{Client, Credentials, Priority};

use super::*;
use crate::child::Outgoing;
use crate::{Asking, Asks};

/// Of a relay that does not answer.
pub fn guard() -> Arc<Guard> {
    let token = format!("rtk_k_{}", "a".repeat(43));
    let client = Client::new("http://127.0.0.1:1", Credentials::bearer("agent", &token, "").unwrap()).unwrap();
    let asking = Asking {
        server: None,
        target: String::new(),
        priority: Priority::P2,
        on_behalf_of: None,
        redact: vec![],
        edit: false,
        respond: false,
    };
    Arc::new(Guard::new(client, asking, Asks::All, None, "http://127.0.0.1:1"))
}

/// A session with such a relay, and both of its ends.
fn session() -> (Arc<Session>, mpsc::Receiver<String>, mpsc::Receiver<Outgoing>) {
    let (to_client, told) = mpsc::channel(8);
    let (to_server, passed) = mpsc::channel(8);
    (Session::new(guard(), String::new(), to_client, to_server), told, passed)
}

#[tokio::test]
async fn a_message_that_some_servers_read_as_a_call_is_answered_and_does_not_pass() {
    let (session, mut told, mut passed) = session();
    session.asked(r#"{"jsonrpc":"2.0","id":1,"Method":"tools/call","params":{"name":"t"},"result":{}}"#, None).await;
    session.asked(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","param\u017f":{}}"#, None).await;
    for _ in 0..2 {
        assert!(told.recv().await.unwrap().contains(r#""id":1,"error":{"code":-32600"#));
    }
    assert!(passed.try_recv().is_err());
}

#[tokio::test]
async fn a_call_that_goes_on_with_none_that_was_approved_is_refused() {
    let (session, mut told, mut passed) = session();
    session.asked(r#"{"id":1,"method":"tools/list"}"#, None).await;
    assert!(passed.recv().await.is_some());
    session.said(r#"{"id":1,"result":{"tools":[{"name":"t"}]}}"#).await;
    assert!(told.recv().await.is_some());
    for rest in [r#""requestState":"other""#, r#""inputResponses":{}"#] {
        session.asked(&format!(r#"{{"id":2,"method":"tools/call","params":{{"name":"t",{rest}}}}}"#), None).await;
        let answer = told.recv().await.unwrap();
        assert!(answer.contains(r#""id":2,"error":{"code":-32602"#), "{answer}");
    }
    assert!(passed.try_recv().is_err());
}

#[tokio::test]
async fn a_tool_is_looked_up_also_where_all_is_asked_and_a_call_ends_with_its_server() {
    let (session, mut told, mut passed) = session();
    session.asked(r#"{"id":7,"method":"tools/call","params":{"name":"t"}}"#, None).await;
    assert!(passed.recv().await.unwrap().text.contains(r#""method":"tools/list""#));
    session.lose_server().await;
    let answer = told.recv().await.unwrap();
    assert!(message::is_lost(&Members::look(&answer).unwrap()) && answer.contains(r#""id":7"#), "{answer}");
}
