//! A proxy between agents and service that changes what passes.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Where a request goes instead, and what it says there.
pub type Reroute = Box<dyn Fn(String, Bytes) -> (String, Bytes) + Send + Sync>;

/// What the proxy changes.
pub struct Changes {
    /// Path and body of a request.
    pub reroute: Reroute,
    /// In a request to this path.
    pub request: fn(&str, &mut HeaderMap),
    /// In its response.
    pub response: fn(&str, &mut HeaderMap),
}

impl Default for Changes {
    /// Nothing.
    fn default() -> Self {
        Self { reroute: Box::new(|path, body| (path, body)), request: |_, _| {}, response: |_, _| {} }
    }
}

/// Starts it, on threads of its own; where it listens.
pub fn start(service: SocketAddr, changes: Changes) -> SocketAddr {
    let (sender, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        tokio.block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            serve(listener, service, Arc::new(changes)).await;
        });
    });
    address.recv().unwrap()
}

async fn serve(listener: TcpListener, service: SocketAddr, changes: Arc<Changes>) {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    while let Ok((stream, _)) = listener.accept().await {
        let (client, changes) = (client.clone(), changes.clone());
        let forward = service_fn(move |request| {
            let (client, changes) = (client.clone(), changes.clone());
            async move { Ok::<_, Infallible>(forward(&client, service, &changes, request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), forward));
    }
}

async fn forward(
    client: &reqwest::Client,
    service: SocketAddr,
    changes: &Changes,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    (changes.request)(&path, &mut parts.headers);
    parts.headers.remove("host");
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (path, body) = (changes.reroute)(path, body);
    let method = Method::from_bytes(parts.method.as_str().as_bytes()).unwrap_or_default();
    let sent = client.request(method, format!("http://{service}{path}")).headers(parts.headers).body(body);
    let mut answer = Response::new(Full::default());
    match sent.send().await {
        Ok(response) => {
            *answer.status_mut() = response.status();
            *answer.headers_mut() = response.headers().clone();
            (changes.response)(&path, answer.headers_mut());
            *answer.body_mut() = Full::new(response.bytes().await.unwrap_or_default());
        }
        Err(_) => *answer.status_mut() = hyper::StatusCode::BAD_GATEWAY,
    }
    answer
}
