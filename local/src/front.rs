//! One address for functions that run as processes of their own: a call goes to the function whose route it is.
//!
//! For trying things out and for tests. A deployment has a gateway or a load balancer for this.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, StatusCode, Uri, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use relaytrace_service::{runtime, telemetry};
use utoipa::openapi::{OpenApi, PathItem};

/// Options of `front`: its address, and the functions behind it.
#[derive(clap::Args, Clone, Debug)]
pub struct FrontOptions {
    /// Port of the front.
    #[arg(long, env = "PORT")]
    port: u16,
    /// Address to listen on.
    #[arg(long, env = "BIND_ADDRESS", default_value = "127.0.0.1")]
    bind_address: IpAddr,
    /// A function and the addresses of its copies: `ingest=127.0.0.1:9001,127.0.0.1:9011`.
    #[arg(required = true)]
    functions: Vec<Function>,
}

/// A function and its copies, which take turns.
#[derive(Clone, Debug)]
struct Function {
    name: String,
    copies: Vec<Authority>,
    turn: Arc<AtomicUsize>,
}

impl FromStr for Function {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, copies) = text.split_once('=').context("must be NAME=HOST:PORT,…")?;
        let copies = copies.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self { name: name.to_owned(), copies, turn: Arc::default() })
    }
}

impl Function {
    fn next_copy(&self) -> Authority {
        self.copies[self.turn.fetch_add(1, Ordering::Relaxed) % self.copies.len()].clone()
    }
}

/// Serves until Ctrl-C or SIGTERM.
pub fn run(options: &FrontOptions) -> anyhow::Result<ExitCode> {
    telemetry::init();
    let router = router(&options.functions)?;
    let listen = SocketAddr::from((options.bind_address, options.port));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener =
            tokio::net::TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
        axum::serve(listener, router).with_graceful_shutdown(runtime::interrupted()).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Routes as the functions' own routers have them. What no function has is for `decide` to refuse, and so are other
/// methods of a path that it shares.
fn router(functions: &[Function]) -> anyhow::Result<Router> {
    let named = |name: &str| {
        functions.iter().find(|function| function.name == name).with_context(|| format!("where is {name}?"))
    };
    let mut paths: HashMap<String, Vec<(Method, Function)>> = HashMap::new();
    for (function, routes) in relaytrace_cli::Function::all().map(|function| (function, function.routes())) {
        let function = named(function.name())?;
        for (path, item) in &routes.document(OpenApi::default()).paths.paths {
            let of_path = paths.entry(path.clone()).or_default();
            of_path.extend(methods(item).map(|method| (method, function.clone())));
        }
    }
    let client = Client::builder(TokioExecutor::new()).build_http::<Body>();
    let mut router = Router::new();
    for (path, owners) in paths {
        let client = client.clone();
        let forward_to_owner = move |request: Request| {
            let owner = owners.iter().find(|(method, _)| method == request.method()).or(owners.last());
            let copy = owner.map(|(_, function)| function.next_copy());
            forward(client.clone(), copy, request)
        };
        router = router.route(&path, any(forward_to_owner));
    }
    let decide = named("decide")?.clone();
    Ok(router.fallback(move |request: Request| forward(client.clone(), Some(decide.next_copy()), request)))
}

fn methods(item: &PathItem) -> impl Iterator<Item = Method> {
    let operations = [
        (Method::GET, item.get.is_some()),
        (Method::POST, item.post.is_some()),
        (Method::PUT, item.put.is_some()),
        (Method::PATCH, item.patch.is_some()),
        (Method::DELETE, item.delete.is_some()),
    ];
    operations.into_iter().filter_map(|(method, exists)| exists.then_some(method))
}

async fn forward(client: Client<HttpConnector, Body>, to: Option<Authority>, mut request: Request) -> Response {
    let mut uri = std::mem::take(request.uri_mut()).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = to;
    uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    let Ok(uri) = Uri::from_parts(uri) else { return StatusCode::BAD_REQUEST.into_response() };
    *request.uri_mut() = uri;
    match client.request(request).await {
        Ok(response) => response.map(Body::new),
        Err(error) => {
            tracing::warn!(error = format!("{error:#}"), "a function cannot be reached");
            let mut response = StatusCode::SERVICE_UNAVAILABLE.into_response();
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
    }
}
