//! The egress matrix: what the guard calls and what it never does, against real sockets.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic as their tests may")]

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use relaytrace_reach::{Egress, EgressRules, Lookup, LookupResult, UNCALLABLE, Uncallable};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Longest that a test waits for what would never come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that counts its connections and answers each with these bytes, then with one more every moment if it is endless.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Server {
    async fn answering(at: &str, answer: &'static str, is_endless: bool) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut asked = [0; 4096];
                    drop(stream.read(&mut asked).await);
                    drop(stream.write_all(answer.as_bytes()).await);
                    while is_endless && stream.write_all(&[b'x'; 1024]).await.is_ok() {}
                    if !is_endless {
                        // Until the client closes: silence is an answer too.
                        while stream.read(&mut asked).await.is_ok_and(|read| read > 0) {}
                    }
                });
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn port(&self) -> u16 {
        self.address.port()
    }
}

/// Answers of a name server, one look-up after the other; the last for ever.
#[derive(Debug)]
struct Told {
    answers: Vec<Vec<IpAddr>>,
    asked: Mutex<Vec<String>>,
}

#[derive(Clone, Debug)]
struct Answers(Arc<Told>);

impl Answers {
    fn of(answers: &[&[&str]]) -> Self {
        let parsed = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Self(Arc::new(Told { answers: answers.iter().map(parsed).collect(), asked: Mutex::default() }))
    }

    fn asked(&self) -> usize {
        self.0.asked.lock().unwrap().len()
    }
}

impl Lookup for Answers {
    fn lookup(&self, name: &str) -> LookupResult {
        let mut asked = self.0.asked.lock().unwrap();
        let answer = self.0.answers.get(asked.len()).or(self.0.answers.last()).cloned().unwrap_or_default();
        asked.push(name.to_owned());
        Box::pin(async move { Ok(answer) })
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi";

fn rules(text: &str) -> EgressRules {
    text.parse().unwrap()
}

async fn call(egress: &Egress, url: &str) -> Result<StatusCode, Uncallable> {
    let called = egress.post(url, HeaderMap::new(), b"{}".to_vec());
    Ok(tokio::time::timeout(PATIENCE, called).await.expect("an end")?.finish().await)
}

#[tokio::test]
async fn an_address_that_is_named_is_called_and_its_answer_read() {
    let server = Server::answering("127.0.0.1:0", OK, false).await;
    let egress = Egress::new(rules("http://127.0.0.1"));
    let url = format!("http://127.0.0.1:{}/hook?x=1", server.port());
    let reply = egress.post(&url, HeaderMap::new(), b"{}".to_vec()).await.unwrap();
    assert_eq!((reply.status, reply.body().await.unwrap()), (StatusCode::OK, b"hi".to_vec()));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn numbers_in_every_spelling_are_seen_for_what_they_are() {
    let server = Server::answering("127.0.0.1:0", OK, false).await;
    // Plain http is admitted for one address, so that only the address is judged.
    let egress = Egress::new(rules("http://127.0.0.2,http://198.51.100.7"));
    let port = server.port();
    for host in [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "0x7f.0x0.0x0.0x1",
        "2130706433",
        "017700000001",
        "0177.0.0.01",
        "127.0.0.1.",
        "１２７.0.0.1",
        "127。0。0。1",
        "127.0.0.%31",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "0.0.0.0",
        "0",
        "[::]",
        "10.0.0.1",
        "169.254.169.254",
        "100.100.100.200",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "255.255.255.255",
    ] {
        for scheme in ["http", "https"] {
            let url = format!("{scheme}://{host}:{port}/");
            assert_eq!(call(&egress, &url).await, Err(Uncallable), "{url}");
        }
    }
    assert_eq!(server.connections(), 0);
    // The one spelling of the one address that is named is the same in every spelling too.
    assert!(egress.check("http://0x7f.0.0.2/").is_ok());
    assert!(egress.check("http://[::ffff:127.0.0.2]/").is_err());
}

#[tokio::test]
async fn what_is_no_plain_url_is_refused() {
    let egress = Egress::new(rules("http://127.0.0.1"));
    let long = format!("https://example.org/{}", "x".repeat(2_000));
    for url in [
        "",
        "example.org",
        "//example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "unix:/run/postgres",
        "data:text/plain,x",
        "javascript:alert(1)",
        "https://user@example.org/",
        "https://user:password@example.org/",
        "https://:@127.0.0.1:1@example.org/",
        "http://93.184.216.34/",
        "https://",
        "https://exa mple.org/",
        &long,
    ] {
        assert_eq!(egress.check(url), Err(Uncallable), "{url}");
    }
    // Without a network that may be called in plain, no name may be either.
    assert_eq!(Egress::new(rules("10.0.0.0/8")).check("http://example.org/"), Err(Uncallable));
    assert_eq!(Uncallable.to_string(), UNCALLABLE);
}

#[tokio::test]
async fn a_name_is_looked_up_once_and_only_that_answer_is_connected_to() {
    let admitted = Server::answering("127.0.0.1:0", OK, false).await;
    // The same port of another address: what a second look-up would lead to.
    let forbidden = Server::answering(&format!("127.0.0.2:{}", admitted.port()), OK, false).await;
    let answers = Answers::of(&[&["127.0.0.1"], &["127.0.0.2"]]);
    let egress = Egress::looking_up(rules("http://127.0.0.1"), answers.clone());
    let url = format!("http://rebinding.example:{}/", admitted.port());
    assert_eq!(call(&egress, &url).await, Ok(StatusCode::OK));
    assert_eq!((answers.asked(), admitted.connections(), forbidden.connections()), (1, 1, 0));
    // The next call hears the other answer, and connects to nothing.
    assert_eq!(call(&egress, &url).await, Err(Uncallable));
    assert_eq!((answers.asked(), admitted.connections(), forbidden.connections()), (2, 1, 0));
}

#[tokio::test]
async fn of_an_answer_only_what_is_admitted_is_tried() {
    let admitted = Server::answering("127.0.0.1:0", OK, false).await;
    let forbidden = Server::answering(&format!("127.0.0.2:{}", admitted.port()), OK, false).await;
    let answers = Answers::of(&[&["127.0.0.2", "::ffff:127.0.0.2", "10.0.0.1", "127.0.0.1"]]);
    let egress = Egress::looking_up(rules("http://127.0.0.1"), answers);
    assert_eq!(call(&egress, &format!("http://mixed.example:{}/", admitted.port())).await, Ok(StatusCode::OK));
    assert_eq!((admitted.connections(), forbidden.connections()), (1, 0));

    let nowhere = Egress::looking_up(rules("http://127.0.0.1"), Answers::of(&[&[]]));
    assert_eq!(call(&nowhere, "http://nowhere.example/").await, Err(Uncallable));
}

#[tokio::test]
async fn a_name_that_is_named_may_have_any_address() {
    let server = Server::answering("127.0.0.3:0", OK, false).await;
    let url = |name: &str| format!("http://{name}:{}/", server.port());
    let named = Egress::looking_up(rules("http://hooks.internal"), Answers::of(&[&["127.0.0.3"]]));
    assert_eq!(call(&named, &url("hooks.internal")).await, Ok(StatusCode::OK));
    assert_eq!(call(&named, &url("HOOKS.internal")).await, Ok(StatusCode::OK));
    assert_eq!(call(&named, &url("other.internal")).await, Err(Uncallable));
    let only_https = Egress::looking_up(rules("hooks.internal"), Answers::of(&[&["127.0.0.3"]]));
    assert_eq!(call(&only_https, &url("hooks.internal")).await, Err(Uncallable));
}

#[tokio::test]
async fn localhost_and_names_of_the_system_are_no_way_in() {
    let server = Server::answering("127.0.0.1:0", OK, false).await;
    let egress = Egress::new(rules("http://127.0.0.9"));
    for name in ["localhost", "localhost.", "LOCALHOST"] {
        assert_eq!(call(&egress, &format!("http://{name}:{}/", server.port())).await, Err(Uncallable), "{name}");
        assert_eq!(call(&egress, &format!("https://{name}:{}/", server.port())).await, Err(Uncallable), "{name}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_never_followed() {
    let aim = Server::answering("127.0.0.2:0", OK, false).await;
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let location = format!("http://127.0.0.2:{}/", aim.port());
        let answer =
            format!("HTTP/1.1 {status}\r\nlocation: {location}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        let server = Server::answering("127.0.0.1:0", answer.leak(), false).await;
        let egress = Egress::new(rules("http://127.0.0.0/8"));
        let told = call(&egress, &format!("http://127.0.0.1:{}/", server.port())).await.unwrap();
        assert!(told.is_redirection(), "{told}");
    }
    assert_eq!(aim.connections(), 0);
}

#[tokio::test]
async fn no_proxy_of_the_environment_is_asked() {
    let proxy = Server::answering("127.0.0.1:0", OK, false).await;
    // Another process of this test, because the environment is the whole process's.
    if std::env::var_os("HTTP_PROXY").is_none() {
        let address = format!("http://127.0.0.1:{}", proxy.port());
        let output = tokio::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "no_proxy_of_the_environment_is_asked"])
            .envs(["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"].map(|name| (name, &address)))
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(proxy.connections(), 0);
        return;
    }
    let server = Server::answering("127.0.0.1:0", OK, false).await;
    let egress = Egress::new(rules("http://127.0.0.1"));
    assert_eq!(call(&egress, &format!("http://127.0.0.1:{}/", server.port())).await, Ok(StatusCode::OK));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn slow_endless_and_broken_answers_end() {
    let egress = Egress::new(rules("http://127.0.0.1"));
    let endless_body = "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\n";
    let mut cases = tokio::task::JoinSet::new();
    for (answer, is_endless) in [
        // Never an answer; a head and a header that do not end; something else; another service.
        ("", false),
        ("HTTP/1.1 200 OK\r\n", false),
        ("HTTP/1.1 200 OK\r\nx: ", true),
        ("no HTTP at all\r\n\r\n", false),
        ("SSH-2.0-OpenSSH_9.2\r\n", false),
    ] {
        let egress = egress.clone();
        cases.spawn(async move {
            let server = Server::answering("127.0.0.1:0", answer, is_endless).await;
            (answer, call(&egress, &format!("http://127.0.0.1:{}/", server.port())).await)
        });
    }
    for (answer, called) in cases.join_all().await {
        assert_eq!(called, Err(Uncallable), "{answer:?}");
    }
    // A status that is there counts, although the body never ends; who reads the body is told that it failed.
    for (answer, is_endless) in [(endless_body, true), ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nslow", false)] {
        let server = Server::answering("127.0.0.1:0", answer, is_endless).await;
        let url = format!("http://127.0.0.1:{}/", server.port());
        assert_eq!(call(&egress, &url).await, Ok(StatusCode::OK), "{answer:?}");
        let reply = egress.post(&url, HeaderMap::new(), Vec::new()).await.unwrap();
        let body = tokio::time::timeout(PATIENCE, reply.body()).await.expect("an end");
        assert_eq!(body, Err(Uncallable), "{answer:?}");
    }
}

#[tokio::test]
async fn a_look_up_that_does_not_end_is_given_up() {
    #[derive(Debug)]
    struct Silent;
    impl Lookup for Silent {
        fn lookup(&self, _: &str) -> LookupResult {
            Box::pin(std::future::pending())
        }
    }
    let egress = Egress::looking_up(EgressRules::default(), Silent);
    assert_eq!(call(&egress, "https://silent.example/").await, Err(Uncallable));
}
