//! Callers that stall, by real sockets: each loses its connection, and none holds up the end. Nobody's time is measured:
//! where a limit is missing, a test waits for ever and fails by [`PATIENCE`].

use axum::routing::{MethodRouter, any, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_mins(1);
/// As good as for ever.
const LONG: Duration = Duration::from_hours(1);
const SHORT: Duration = Duration::from_millis(100);
const LIMITS: ServerLimits =
    ServerLimits { max_connections: 100, header_timeout: LONG, body_timeout: LONG, idle_timeout: LONG, grace: LONG };
const HALF_A_HEAD: &str = "POST / HTTP/1.1\r\nhost: x\r\n";
const HALF_A_BODY: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\nhalf";
const A_CALL: &str = "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\nbody";

struct Server {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<()>,
}

impl Server {
    /// The handler reads its body, or says that it could not.
    async fn start(limits: ServerLimits) -> Self {
        Self::of(limits, post(async |body: Result<Bytes, _>| body.map_or("cut", |_| "read"))).await
    }

    async fn of(limits: ServerLimits, handler: MethodRouter) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let router = Router::new().route("/", handler);
        let serving = tokio::spawn(serve(listener, router, limits, async { drop(stopped.await) }));
        Self { address, stop, serving }
    }

    async fn connect(&self, said: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(said.as_bytes()).await.unwrap();
        stream
    }

    async fn end(self) {
        self.stop.send(()).unwrap();
        tokio::time::timeout(PATIENCE, self.serving).await.expect("the server ended").unwrap();
    }
}

/// All that comes until the server hangs up.
async fn heard(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    drop(read.expect("the server hung up"));
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_head_a_body_and_silence_have_their_limits() {
    for (limits, said, answer) in [
        (ServerLimits { header_timeout: SHORT, ..LIMITS }, HALF_A_HEAD, ""),
        (ServerLimits { body_timeout: SHORT, ..LIMITS }, HALF_A_BODY, "cut"),
        (ServerLimits { idle_timeout: SHORT, ..LIMITS }, "", ""),
        (ServerLimits { idle_timeout: SHORT, ..LIMITS }, A_CALL, "read"),
    ] {
        let server = Server::start(limits).await;
        let stalled = server.connect(said).await;
        let heard = heard(stalled).await;
        assert!(heard.ends_with(answer) && heard.is_empty() == answer.is_empty(), "{said}: {heard}");
    }
}

#[tokio::test]
async fn a_body_that_never_ends_has_a_limit() {
    let server = Server::start(ServerLimits { body_timeout: SHORT, ..LIMITS }).await;
    let stream = server.connect("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let (mut answer, mut body) = stream.into_split();
    let endless = tokio::spawn(async move {
        while body.write_all(b"1\r\nx\r\n").await.is_ok() {
            tokio::task::yield_now().await;
        }
    });
    let mut all = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, answer.read_to_end(&mut all)).await;
    drop(ended.expect("the server hung up"));
    tokio::time::timeout(PATIENCE, endless).await.expect("nobody reads any more").unwrap();
}

/// Says when a call begins, and when it ends.
struct Called(mpsc::UnboundedSender<&'static str>);

impl Called {
    fn begin(says: &mpsc::UnboundedSender<&'static str>) -> Self {
        says.send("begun").unwrap();
        Self(says.clone())
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.0.send("ended").unwrap_or_default();
    }
}

#[tokio::test]
async fn a_call_ends_with_its_caller() {
    let (says, mut said) = mpsc::unbounded_channel();
    let never_answers = any(move |_: Bytes| {
        let called = Called::begin(&says);
        async move {
            std::future::pending::<()>().await;
            drop(called);
        }
    });
    let server = Server::of(LIMITS, never_answers).await;
    for call in ["GET / HTTP/1.1\r\nhost: x\r\n\r\n", A_CALL] {
        for is_half_closed in [false, true] {
            let mut stream = server.connect(call).await;
            assert_eq!(said.recv().await, Some("begun"));
            if is_half_closed {
                stream.shutdown().await.unwrap();
            } else {
                drop(stream);
            }
            let ended = tokio::time::timeout(PATIENCE, said.recv()).await.expect("the call ended");
            assert_eq!(ended, Some("ended"), "{call}");
        }
    }
}

#[tokio::test]
async fn who_ends_in_the_middle_of_a_body_is_told() {
    let server = Server::start(LIMITS).await;
    let mut stream = server.connect(HALF_A_BODY).await;
    stream.shutdown().await.unwrap();
    assert!(heard(stream).await.ends_with("cut"));
}

#[tokio::test]
async fn several_calls_share_a_connection() {
    let server = Server::start(LIMITS).await;
    let mut stream = server.connect(A_CALL).await;
    stream.write_all(A_CALL.as_bytes()).await.unwrap();
    stream.write_all(A_CALL.replace("host: x", "host: x\r\nconnection: close").as_bytes()).await.unwrap();
    assert_eq!(heard(stream).await.matches("200 OK").count(), 3);
}

#[tokio::test]
async fn a_connection_too_many_waits_for_a_place() {
    let server = Server::start(ServerLimits { max_connections: 1, ..LIMITS }).await;
    let first = server.connect("").await;
    let second = server.connect(&A_CALL.replace("host: x", "host: x\r\nconnection: close")).await;
    assert!(second.try_read(&mut [0]).is_err(), "it was answered beside the first");
    drop(first);
    assert!(heard(second).await.contains("200 OK"));
}

#[tokio::test]
async fn stalled_callers_do_not_hold_up_the_end() {
    let server = Server::start(ServerLimits { grace: SHORT, ..LIMITS }).await;
    let mut stalled = Vec::new();
    for said in
        [HALF_A_HEAD, HALF_A_BODY, "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n", ""]
    {
        stalled.push(server.connect(said).await);
    }
    // One that is served: the others have been accepted before it.
    let mut served = server.connect(A_CALL).await;
    served.read_exact(&mut [0; 15]).await.unwrap();
    server.end().await;
    for stream in stalled {
        heard(stream).await;
    }
}
