use super::*;
use crate::lines::LONGEST;

fn message_of(text: &str) -> Outgoing {
    Outgoing { text: text.to_owned(), shown: None }
}

#[tokio::test]
async fn an_event_that_never_ends_ends_its_stream() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let endless = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _read = stream.read(&mut [0; 4096]).await.unwrap();
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: ";
        stream.write_all(head.as_bytes()).await.unwrap();
        let (part, mut written) = (vec![b'x'; 1 << 16], 0);
        while stream.write_all(&part).await.is_ok() {
            written += part.len();
        }
        written
    });
    let (from_server, mut said) = mpsc::channel(1);
    let server = connect(Remote::new(&url, HeaderMap::new()).unwrap(), None, false, from_server);
    server.to_server.send(message_of(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)).await.unwrap();
    let told = said.recv().await.unwrap();
    assert!(told.contains("ended the response before its end"), "{told}");
    assert!(endless.await.unwrap() < 4 * LONGEST);
    server.end().await;
}

#[tokio::test]
async fn an_address_is_not_said_where_a_call_of_it_fails() {
    let (from_server, mut said) = mpsc::channel(1);
    let remote = Remote::new("http://user:hunter2@127.0.0.1:1/mcp?key=hunter3", HeaderMap::new()).unwrap();
    let server = connect(remote, None, false, from_server);
    server.to_server.send(message_of(r#"{"jsonrpc":"2.0","id":1,"method":"tools/call"}"#)).await.unwrap();
    let told = said.recv().await.unwrap();
    assert!(told.contains("cannot be reached") && !told.contains("hunter") && !told.contains("127.0.0.1"), "{told}");
    // It surely did not run.
    assert!(!message::is_lost(&Members::look(&told).unwrap()));
    server.end().await;
}

#[tokio::test]
async fn a_response_that_is_too_long_is_an_error_to_its_request_and_others_go_on() {
    use axum::routing::post;

    let answer = |text: String| async move {
        let long = if text.contains("long") { "x".repeat(LONGEST) } else { String::new() };
        ([(header::CONTENT_TYPE, "application/json")], format!(r#"{{"id":1,"result":{{"x":"{long}"}}}}"#))
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap());
    let serving = tokio::spawn(axum::serve(listener, axum::Router::new().route("/mcp", post(answer))).into_future());
    let (from_server, mut said) = mpsc::channel(1);
    let server = connect(Remote::new(&url, HeaderMap::new()).unwrap(), None, false, from_server);
    server.to_server.send(message_of(r#"{"id":1,"method":"long"}"#)).await.unwrap();
    let told = timeout(Duration::from_mins(1), said.recv()).await.unwrap().unwrap();
    assert!(told.contains(&format!("a response of more than {LONGEST} bytes")), "{told}");
    // It may have run.
    assert!(message::is_lost(&Members::look(&told).unwrap()));
    server.to_server.send(message_of(r#"{"id":2,"method":"short"}"#)).await.unwrap();
    assert_eq!(timeout(Duration::from_mins(1), said.recv()).await.unwrap().unwrap(), r#"{"id":2,"result":{"x":""}}"#);
    server.end().await;
    serving.abort();
}
