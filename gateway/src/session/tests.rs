use relaytrace_client::{Client, Credentials, Priority};

use super::guarded::MOST_PAGES;
use super::*;
use crate::child::Outgoing;
use crate::tasks::{Form, Phase, Task};
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

/// What comes next there. It is due at once, even on a busy machine.
async fn next<T>(from: &mut mpsc::Receiver<T>) -> T {
    timeout(Duration::from_mins(1), from.recv()).await.expect("nothing comes").unwrap()
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

#[tokio::test]
async fn calls_that_wait_have_a_limit_and_everything_else_goes_on() {
    let (session, mut told, mut passed) = session();
    let call = |id: usize| format!(r#"{{"id":{id},"method":"tools/call","params":{{"name":"t"}}}}"#);
    for id in 0..=MOST_CALLS {
        session.asked(&call(id), None).await;
    }
    let refused = next(&mut told).await;
    let expected = format!(r#""id":{MOST_CALLS},"error":{{"code":{INVALID_REQUEST}"#);
    assert!(refused.contains(&expected) && refused.contains("1000 calls are under way"), "{refused}");
    // All wait for one list of tools.
    assert!(next(&mut passed).await.text.contains(r#""method":"tools/list""#));
    let ping = format!(r#"{{"id":{MOST_CALLS},"method":"ping"}}"#);
    session.asked(&ping, None).await;
    assert_eq!(next(&mut passed).await.text, ping);
    // One that is taken back makes room for one.
    session.asked(r#"{"method":"notifications/cancelled","params":{"requestId":0}}"#, None).await;
    session.asked(&call(MOST_CALLS), None).await;
    session.asked(&call(MOST_CALLS + 1), None).await;
    let refused = next(&mut told).await;
    assert!(refused.contains(&format!(r#""id":{},"error""#, MOST_CALLS + 1)), "{refused}");
    assert_eq!(session.state().under_way(), MOST_CALLS);
    // What waits is answered when the server ends.
    let ended = session.clone();
    let ending = tokio::spawn(async move { ended.lose_server().await });
    for _ in 0..MOST_CALLS {
        assert!(next(&mut told).await.contains("the server has ended"));
    }
    ending.await.unwrap();
    assert_eq!(session.state().under_way(), 0);
}

#[tokio::test]
async fn requests_about_tasks_have_a_limit_and_take_no_room_of_calls() {
    let (session, mut told, mut passed) = session();
    for id in 0..MOST_READ {
        session.take_in_hand(&id.to_string(), true);
    }
    let request = r#"{"id":"a","method":"tasks/get","params":{"taskId":"relaytrace-task-x"}}"#;
    session.asked(request, None).await;
    let refused = next(&mut told).await;
    let expected = format!(r#""id":"a","error":{{"code":{INVALID_REQUEST}"#);
    assert!(refused.contains(&expected) && refused.contains("1000 requests about tasks"), "{refused}");
    session.asked(r#"{"id":"b","method":"tools/call","params":{"name":"t"}}"#, None).await;
    assert!(next(&mut passed).await.text.contains(r#""method":"tools/list""#));
    assert!(session.let_go("0"));
    session.asked(request, None).await;
    let answer = next(&mut told).await;
    assert!(answer.contains(&format!(r#""id":"a","error":{{"code":{INVALID_PARAMS}"#)), "{answer}");
}

/// A task whose client has so long to bring what the server wants.
fn task_that_asks(session: &Session, number: u128, left: Duration) -> String {
    let mut task = Task::new(uuid::Uuid::from_u128(number), Form::Core, "", chrono::DateTime::UNIX_EPOCH);
    assert!(task.enter(Phase::Asks { requests: "{}".to_owned(), state: None }));
    task.set_due(Instant::now() + left);
    let id = task.id.clone();
    assert!(session.state().tasks.add(task));
    id
}

#[tokio::test]
async fn whoever_asks_for_a_task_without_its_input_is_told_that_it_failed() {
    let (session, mut told, mut passed) = session();
    let asked = |id: &str, method: &str, task: &str| {
        format!(r#"{{"id":"{id}","method":"{method}","params":{{"taskId":"{task}"}}}}"#)
    };
    // Who waits for the result is woken.
    let soon = task_that_asks(&session, 1, Duration::from_millis(300));
    session.asked(&asked("a", "tasks/result", &soon), None).await;
    let answer = next(&mut told).await;
    assert!(answer.contains(r#""id":"a","error""#) && answer.contains("the input did not come in time"), "{answer}");
    // Who comes later finds it so: by itself, and in the list.
    let over = task_that_asks(&session, 2, Duration::ZERO);
    session.asked(&asked("b", "tasks/get", &over), None).await;
    let answer = next(&mut told).await;
    assert!(answer.contains(r#""id":"b","result""#) && answer.contains(r#""status":"failed""#), "{answer}");
    task_that_asks(&session, 3, Duration::ZERO);
    session.asked(r#"{"id":"c","method":"tasks/list"}"#, None).await;
    assert!(next(&mut passed).await.text.contains("tasks/list"));
    session.said(r#"{"id":"c","result":{"tasks":[]}}"#).await;
    let answer = next(&mut told).await;
    assert_eq!((answer.matches("failed").count(), answer.matches("input_required").count()), (3, 0), "{answer}");
}

#[tokio::test]
async fn a_list_of_tools_that_never_ends_is_given_up_and_the_call_is_asked_about() {
    let (session, mut told, mut passed) = session();
    session.asked(r#"{"id":1,"method":"tools/call","params":{"name":"t"}}"#, None).await;
    for page in 0..MOST_PAGES {
        let asked = next(&mut passed).await.text;
        let id = Members::look(&asked).unwrap().get("id").unwrap().get().to_owned();
        session.said(&format!(r#"{{"id":{id},"result":{{"tools":[],"nextCursor":"{page}"}}}}"#)).await;
    }
    // It is not read any more, and the call has neither passed nor been answered.
    drop(session.listing.lock().await);
    assert!(passed.try_recv().is_err() && told.try_recv().is_err());
    session.asked(r#"{"method":"notifications/cancelled","params":{"requestId":1}}"#, None).await;
    session.asked(r#"{"id":2,"method":"ping"}"#, None).await;
    assert!(next(&mut passed).await.text.contains("ping"));
}
