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
