//! The only place that knows AWS Lambda from plain HTTP.
//!
//! Clients are built in the init phase, without waiting for a server. On Lambda nothing is left running after a
//! response, because the environment is frozen then.

use std::future::Future;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::Context as _;
use axum::Router;
use lambda_runtime::{LambdaEvent, service_fn};
use tokio::net::TcpListener;
use utoipa_axum::router::OpenApiRouter;

use crate::clock::Clock;
use crate::config::Config;
use crate::events::Publishing;
use crate::http::{common_routes, service};
use crate::state::AppState;
use crate::telemetry;

/// Runs a function whose events are HTTP calls, on Lambda or as a plain HTTP server, until it is told to stop. A
/// configuration that is not complete, or a port that cannot be had, is said in plain words.
pub async fn run(routes: OpenApiRouter<AppState>) -> ExitCode {
    exit_code(run_until_stopped(routes).await)
}

async fn run_until_stopped(routes: OpenApiRouter<AppState>) -> anyhow::Result<()> {
    let (state, listen) = start()?;
    let router = service(routes.merge(common_routes()), state.clone());
    if is_lambda() {
        return lambda_http::run(router).await.map_err(anyhow::Error::from_boxed);
    }
    serve(router, &state, listen, interrupted()).await
}

/// Runs a function whose events on Lambda are a schedule's, and which has routes as a plain HTTP server.
pub async fn run_scheduled<F, R>(routes: OpenApiRouter<AppState>, once: fn(AppState) -> F) -> ExitCode
where
    F: Future<Output = crate::Result<R>>,
    R: serde::Serialize,
{
    exit_code(run_scheduled_until_stopped(routes, once).await)
}

async fn run_scheduled_until_stopped<F, R>(
    routes: OpenApiRouter<AppState>,
    once: fn(AppState) -> F,
) -> anyhow::Result<()>
where
    F: Future<Output = crate::Result<R>>,
    R: serde::Serialize,
{
    let (state, listen) = start()?;
    if is_lambda() {
        let handler = service_fn(|_event: LambdaEvent<serde_json::Value>| {
            let once = once(state.clone());
            async { once.await.map_err(lambda_runtime::Error::from) }
        });
        return lambda_runtime::run(handler).await.map_err(anyhow::Error::from_boxed);
    }
    serve(service(routes.merge(common_routes()), state.clone()), &state, listen, interrupted()).await
}

/// Serves a router as plain HTTP until `stop`, then lets what is under way end.
///
/// # Errors
/// A port that cannot be had.
pub async fn serve(
    router: Router,
    state: &AppState,
    listen: SocketAddr,
    stop: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    tracing::info!("listening on http://{}", listener.local_addr()?);
    let events = state.events.clone();
    let stopping = async move {
        stop.await;
        // Parked polls return, so that stopping does not wait for them.
        events.shut_down().await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stopping).await?;
    state.events.shut_down().await;
    state.store.close();
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

fn exit_code(outcome: anyhow::Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_lambda() -> bool {
    std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some()
}

fn start() -> anyhow::Result<(AppState, SocketAddr)> {
    telemetry::init();
    let config = Config::from_env()?;
    let listen = SocketAddr::from(config.listen);
    let publishing = if is_lambda() { Publishing::BeforeResponse } else { Publishing::Behind };
    Ok((AppState::new(config, &Clock::system(), publishing), listen))
}
