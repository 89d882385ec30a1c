//! The only place that knows AWS Lambda from plain HTTP.
//!
//! Clients are built in the init phase. On Lambda they are connected there too, so that the first event finds them
//! ready; a server that is away delays that by a bounded time and stops nothing. Nothing is left running after a
//! response, because the environment is frozen then. `AWS_LAMBDA_MAX_CONCURRENCY` events are served at once.

use std::future::{Future, ready};
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use bytes::Bytes;
use chrono::TimeDelta;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Response};
use http_body_util::{BodyExt as _, Full};
use lambda_http::Adapter;
use lambda_http::request::LambdaRequest;
use lambda_runtime::{LambdaEvent, service_fn};
use secrecy::SecretString;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::runtime::Builder;
use tower::ServiceExt as _;

use crate::config::Config;
use crate::database_url;
use crate::events::Publishing;
use crate::history;
use crate::http::{Routes, common_routes, server, service};
use crate::metrics;
use crate::needs::{DatabaseAuthority, Needs};
use crate::state::AppState;
use crate::telemetry;
use relaytrace_domain::Clock;
use relaytrace_store::{DeclaredRestore, RolePrefix};

/// Runs a function whose events are HTTP calls, on Lambda or as a plain HTTP server, until it is told to stop. A
/// configuration that is not complete, or a port that cannot be had, is said in plain words.
///
/// With the argument `check` it only says by its exit code whether the server of this configuration is ready: for
/// container engines, in an image that has nothing else to ask with.
#[must_use]
pub fn run(routes: Routes) -> ExitCode {
    exit_code(block_on(run_until_stopped(routes)))
}

async fn run_until_stopped(routes: Routes) -> anyhow::Result<()> {
    if is_asked_to("check") {
        return check().await;
    }
    let (state, listen) = Box::pin(start(routes.needs())).await?;
    let router = service(routes.merge(common_routes()), state.clone());
    if is_lambda() {
        let handler = service_fn(move |call| answer(router.clone(), state.clone(), call));
        return lambda_http::run_concurrent(handler).await.map_err(anyhow::Error::from_boxed);
    }
    serve(router, &state, listen, interrupted()).await
}

/// Runs a function whose events on Lambda are a schedule's, and HTTP calls as those of any other. With the argument
/// `once` it does its work once, as a command: for a cron job.
pub fn run_scheduled<F, R>(routes: Routes, once: fn(AppState) -> F) -> ExitCode
where
    F: Future<Output = relaytrace_domain::Result<R>> + Send + 'static,
    R: serde::Serialize + 'static,
{
    exit_code(block_on(run_scheduled_until_stopped(routes, once, |_| ready(()))))
}

/// The same for a function that works without being asked where its process lives on: `forever` runs beside the server.
pub fn run_working<F, R, W>(routes: Routes, once: fn(AppState) -> F, forever: fn(AppState) -> W) -> ExitCode
where
    F: Future<Output = relaytrace_domain::Result<R>> + Send + 'static,
    R: serde::Serialize + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    exit_code(block_on(run_scheduled_until_stopped(routes, once, forever)))
}

async fn run_scheduled_until_stopped<F, R, W>(
    routes: Routes,
    once: fn(AppState) -> F,
    forever: fn(AppState) -> W,
) -> anyhow::Result<()>
where
    F: Future<Output = relaytrace_domain::Result<R>> + Send + 'static,
    R: serde::Serialize + 'static,
    W: Future<Output = ()> + Send + 'static,
{
    if is_asked_to("check") {
        return check().await;
    }
    let (state, listen) = Box::pin(start(routes.needs())).await?;
    let once = move |state: AppState| once(state.acting_by(DatabaseAuthority::Ops));
    if is_asked_to("once") {
        println!("{}", serde_json::to_string(&once(state).await?)?);
        return Ok(());
    }
    let router = service(routes.merge(common_routes()), state.clone());
    if is_lambda() {
        let handler = service_fn(move |event: LambdaEvent<Value>| {
            let (router, state) = (router.clone(), state.clone());
            async move {
                let Some(call) = call_of(event)? else {
                    let done = once(state.clone()).await.map(serde_json::to_value);
                    state.metrics.write_standing(&state).await;
                    return Ok::<_, lambda_runtime::Error>(done??);
                };
                let handler = Adapter::from(service_fn(move |call| answer(router.clone(), state.clone(), call)));
                Ok(serde_json::to_value(handler.oneshot(call).await?)?)
            }
        });
        return lambda_runtime::run_concurrent(handler).await.map_err(anyhow::Error::from_boxed);
    }
    tokio::spawn(forever(state.acting_by(DatabaseAuthority::Ops)));
    serve(router, &state, listen, interrupted()).await
}

/// Does the work of a scheduled function with these routes once, as a command, and prints its report as JSON.
#[must_use]
pub fn run_once<F, R>(routes: &Routes, once: fn(AppState) -> F) -> ExitCode
where
    F: Future<Output = relaytrace_domain::Result<R>> + Send + 'static,
    R: serde::Serialize + 'static,
{
    exit_code(block_on(async move {
        let (state, _) = Box::pin(start(routes.needs())).await?;
        println!("{}", serde_json::to_string(&once(state.acting_by(DatabaseAuthority::Ops)).await?)?);
        Ok(())
    }))
}

/// Says by its exit code whether the server of this configuration is ready.
#[must_use]
pub fn run_check() -> ExitCode {
    exit_code(block_on(check()))
}

/// Applies the migrations and prepares the functions' role, once as a command, or for each event on Lambda.
///
/// `DATABASE_URL` is the owner's here. `FUNCTIONS_ROLE`, where it is set, names the login role of the functions'
/// `DATABASE_URL`; `FUNCTIONS_PASSWORD` its password. `ROLE_PREFIX` begins the names of all other roles: `relaytrace`.
#[must_use]
pub fn run_migrations() -> ExitCode {
    exit_code(block_on(migrate_when_asked()))
}

async fn migrate_when_asked() -> anyhow::Result<()> {
    telemetry::init();
    if !is_lambda() {
        return migrate().await;
    }
    let handler = service_fn(async |_: LambdaEvent<Value>| {
        migrate().await.map_err(|error| lambda_runtime::Error::from(format!("{error:#}")))
    });
    lambda_runtime::run(handler).await.map_err(anyhow::Error::from_boxed)
}

async fn migrate() -> anyhow::Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let owner = variable("DATABASE_URL").context("DATABASE_URL is required: the URL of the owner")?;
    let owner = database_url::parse(&owner).map_err(|fault| anyhow::anyhow!("DATABASE_URL {fault}"))?;
    let prefix = variable("ROLE_PREFIX").map(|prefix| prefix.parse()).transpose();
    let roles: RolePrefix = prefix.map_err(|fault| anyhow::anyhow!("ROLE_PREFIX {fault}"))?.unwrap_or_default();
    relaytrace_store::migrate(&owner, &roles).await?;
    tracing::info!("the database is up to date");
    let logins = DatabaseAuthority::ALL.map(|of| (format!("_{}", of.name().to_uppercase()), roles.of(of)));
    for (of, group) in [(String::new(), roles.app())].into_iter().chain(logins) {
        let Some(login) = variable(&format!("FUNCTIONS_ROLE{of}")) else { continue };
        let password = variable(&format!("FUNCTIONS_PASSWORD{of}")).map(SecretString::from);
        relaytrace_store::prepare_login(&owner, &group, &login, password.as_ref()).await?;
        tracing::info!(role = login, of = group, "the functions' role is prepared");
    }
    Ok(())
}

/// Erases the envelopes of requests that were submitted and decided so many days ago, as the owner of `DATABASE_URL`, and
/// prints how many there were as JSON.
#[must_use]
pub fn run_erase(older_than_days: u32, dry_run: bool) -> ExitCode {
    exit_code(block_on(async {
        telemetry::init();
        let owner = std::env::var("DATABASE_URL").context("DATABASE_URL is required: the URL of the owner")?;
        let owner = database_url::parse(&owner).map_err(|fault| anyhow::anyhow!("DATABASE_URL {fault}"))?;
        let before = Clock::system().wall() - TimeDelta::days(older_than_days.into());
        let count = relaytrace_store::erase(&owner, before, dry_run).await?;
        println!("{}", serde_json::json!({"erased": if dry_run { 0 } else { count }, "due": count}));
        Ok(())
    }))
}

/// Declares, as the owner of `DATABASE_URL`, that the database was set back to an older point, and prints the epoch that
/// begins as JSON.
#[must_use]
pub fn run_declare_restore(epoch: Option<i32>, reason: &str) -> ExitCode {
    exit_code(block_on(async {
        telemetry::init();
        let owner = std::env::var("DATABASE_URL").context("DATABASE_URL is required: the URL of the owner")?;
        let owner = database_url::parse(&owner).map_err(|fault| anyhow::anyhow!("DATABASE_URL {fault}"))?;
        let DeclaredRestore { epoch, is_new, ended_permits, pending } =
            relaytrace_store::declare_restore(&owner, epoch, reason).await?;
        let done =
            serde_json::json!({"epoch": epoch, "new": is_new, "ended_permits": ended_permits, "pending": pending});
        println!("{done}");
        Ok(())
    }))
}

/// Longest wait for the look at the stream before the first call is served.
const LOOK_TIMEOUT: Duration = Duration::from_secs(1);

/// The header for the token where `Authorization` is AWS's: an API that asks for IAM takes its signature there.
const TOKEN_BESIDE_SIGV4: &str = "relaytrace-authorization";

/// The router's response, whole: an answer of Lambda is one message.
async fn answer(
    router: Router,
    state: AppState,
    mut call: lambda_http::Request,
) -> Result<Response<Full<Bytes>>, lambda_runtime::Error> {
    let headers = call.headers_mut();
    let is_sigv4 = |value: &HeaderValue| value.as_bytes().starts_with(b"AWS4-");
    if headers.get(AUTHORIZATION).is_some_and(is_sigv4)
        && let Some(token) = headers.remove(TOKEN_BESIDE_SIGV4)
    {
        headers.insert(AUTHORIZATION, token);
    }
    let Ok(response) = router.oneshot(call.map(axum::body::Body::new)).await;
    let (parts, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    state.metrics.write(&state);
    Ok(Response::from_parts(parts, Full::new(body)))
}

/// The HTTP call that an event carries, if any. Every event that came through an API is one, and must authenticate.
fn call_of(event: LambdaEvent<Value>) -> serde_json::Result<Option<LambdaEvent<LambdaRequest>>> {
    if event.payload.pointer("/requestContext").is_none() {
        return Ok(None);
    }
    let call = serde_json::from_value(event.payload)?;
    Ok(Some(LambdaEvent::new(call, event.context)))
}

/// Serves a router as plain HTTP until `stop`, then lets calls under way end, all within the limits of
/// [`Shared::server`](crate::state::Shared::server).
///
/// # Errors
/// A port that cannot be had.
pub async fn serve(
    router: Router,
    state: &AppState,
    listen: SocketAddr,
    stop: impl Future<Output = ()> + Send,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let metrics = match state.metrics_address {
        Some(address) => Some(metrics::listen(state, address).await?),
        None => None,
    };
    tracing::info!("listening on http://{}", listener.local_addr()?);
    // Before this process writes anything itself, if NATS is there.
    drop(tokio::time::timeout(LOOK_TIMEOUT, history::look(state)).await);
    tokio::spawn(history::watch(state.clone()));
    let warming = state.clone();
    tokio::spawn(async move { warming.warm_up().await });
    let events = state.events.clone();
    let stopping = async move {
        stop.await;
        // Parked polls return, so that stopping does not wait for them.
        events.shut_down().await;
    };
    server::serve(listener, router, state.server, stopping).await;
    state.events.shut_down().await;
    state.settle_rule_counts().await;
    // What works beside the calls has been told to stop, and writes down what it has done.
    drop(tokio::time::timeout(state.server.grace, state.working.write()).await);
    state.traces.shut_down().await;
    if let Some(metrics) = metrics {
        metrics.stop().await;
    }
    state.close();
    Ok(())
}

/// Ctrl-C or SIGTERM.
pub async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => drop(terminate.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

/// On Lambda, which serves one event at a time on a part of a core, one thread; else one for each core.
fn block_on(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let serves_one_at_a_time = is_lambda() && std::env::var_os("AWS_LAMBDA_MAX_CONCURRENCY").is_none();
    let mut builder = if serves_one_at_a_time { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    builder.enable_all().build().context("the runtime cannot be started")?.block_on(Box::pin(work))
}

fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the command's only argument is this.
fn is_asked_to(what: &str) -> bool {
    std::env::args().nth(1).is_some_and(|argument| argument == what)
}

async fn check() -> anyhow::Result<()> {
    let port = Config::from_env(&Needs::default())?.listen.1;
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(3)).build()?;
    client.get(format!("http://127.0.0.1:{port}/readyz")).send().await?.error_for_status()?;
    Ok(())
}

fn is_lambda() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

async fn start(needs: &Needs) -> anyhow::Result<(AppState, SocketAddr)> {
    telemetry::init();
    let config = Config::from_env(needs)?;
    let listen = SocketAddr::from(config.listen);
    if !is_lambda() {
        return Ok((AppState::new(config, &Clock::system(), Publishing::Behind), listen));
    }
    let state = AppState::new(config, &Clock::system(), Publishing::BeforeResponse);
    Box::pin(state.connect()).await;
    Ok((state, listen))
}
