//! One process: the servers, all functions behind one router, a sweep each second, and the demo agents.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use relaytrace::auth::{KeyAlg, PublicKey};
use relaytrace::config::Config;
use relaytrace::events::Publishing;
use relaytrace::{AppState, Clock, runtime, telemetry};
use relaytrace_servers::{Durability, Nats, Postgres};
use serde_json::json;

use crate::development::{AGENT_ID, Secrets, write_private};
use crate::{RunOptions, demo, openapi};

const DATABASE: &str = "relaytrace";
/// The functions' own login. It is a member of `relaytrace_app` and owns nothing.
const SERVICE_ROLE: &str = "relaytrace_service";
/// An agent's token lives 15 minutes: the description of the stack gets a new one well before.
const REFRESH_DESCRIPTION: Duration = Duration::from_mins(5);

/// Runs until Ctrl-C or SIGTERM, then stops all it started.
pub fn run(options: &RunOptions) -> anyhow::Result<()> {
    let dir = &options.dir;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let description = dir.join("dev.json");
    // One of an earlier run that was killed must not be taken for ours.
    drop(std::fs::remove_file(&description));
    telemetry::init_to_file(&dir.join("relaytrace.log"))?;

    println!("Starting Postgres …");
    let mut postgres = Postgres::start(&dir.join("postgres"), Durability::Durable)?;
    println!("Starting NATS …");
    // The default sync interval: Postgres is the truth, and a lost stream is rebuilt from it.
    let mut nats = Nats::start(&dir.join("nats"), Durability::Throwaway)?;
    println!("Preparing the database …");
    postgres.create_database_if_missing(DATABASE)?;

    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = tokio.block_on(run_functions(options, &postgres, &nats, &description));
    // A task that is still at something would log an error when its server goes away.
    tokio.shutdown_timeout(Duration::from_secs(1));
    drop(std::fs::remove_file(&description));
    println!("Stopping NATS and Postgres …");
    nats.stop()?;
    postgres.stop()?;
    outcome
}

async fn run_functions(
    options: &RunOptions,
    postgres: &Postgres,
    nats: &Nats,
    description: &Path,
) -> anyhow::Result<()> {
    migrate(postgres).await?;
    let secrets = Secrets::load_or_make(&options.dir.join("secrets.json"))?;
    let service_url = postgres.url(DATABASE).replacen("//relaytrace@", &format!("//{SERVICE_ROLE}@"), 1);
    let environment = secrets.environment(&service_url, &nats.url())?;
    let mut variables = environment.clone();
    // The rules of delivery and tokens can be tried out: `LEASE_SECONDS=2 make run`.
    variables.extend(std::env::vars().filter(|(name, _)| !environment.contains_key(name)));
    let mut state = AppState::new(Config::from_variables(variables)?, &Clock::system(), Publishing::Behind);
    state.page.is_local = true;
    register_agent(&state, &secrets).await?;

    let listen = SocketAddr::from(([127, 0, 0, 1], options.port));
    let router = relaytrace::http::service(openapi::routes(), state.clone())
        .layer(axum::middleware::from_fn_with_state(options.port, only_our_host));
    let ready = tokio::net::TcpListener::bind(listen).await.with_context(|| {
        format!("port {0} is taken: PORT={1} make run uses another", options.port, options.port + 1)
    })?;
    drop(ready);
    let server = tokio::spawn({
        let state = state.clone();
        async move { runtime::serve(router, &state, listen, runtime::interrupted()).await }
    });

    let base_url = format!("http://127.0.0.1:{}", options.port);
    wait_until_ready(&base_url).await?;
    let write = || describe(&secrets, &state, &base_url, &postgres.url(DATABASE), &nats.url(), &environment);
    let first = write()?;
    write_private(description, &first.to_string())?;
    print_banner(options, &base_url, first["operator"]["token"].as_str().unwrap_or_default());

    if options.sweep_seconds > 0.0 {
        tokio::spawn(sweep_every(state.clone(), Duration::from_secs_f64(options.sweep_seconds)));
    }
    if options.demo == 1 {
        demo::run(&state, &base_url);
    }
    let mut refresh = tokio::time::interval(REFRESH_DESCRIPTION);
    refresh.tick().await;
    tokio::pin!(server);
    loop {
        tokio::select! {
            ended = &mut server => return ended?,
            _ = refresh.tick() => write_private(description, &write()?.to_string())?,
        }
    }
}

/// As the owner: the functions' own role could not.
async fn migrate(postgres: &Postgres) -> anyhow::Result<()> {
    relaytrace::store::migrate(&postgres.url(DATABASE).parse()?).await?;
    let make_role = format!(
        "DO $$ BEGIN CREATE ROLE {SERVICE_ROLE} LOGIN IN ROLE relaytrace_app; \
         EXCEPTION WHEN duplicate_object THEN NULL; END $$"
    );
    postgres.psql(DATABASE, &make_role)?;
    for (setting, value) in relaytrace::store::ROLE_SETTINGS {
        postgres.psql(DATABASE, &format!("ALTER ROLE {SERVICE_ROLE} SET {setting} = {value}"))?;
    }
    Ok(())
}

/// The agent of `.local/dev.json`.
async fn register_agent(state: &AppState, secrets: &Secrets) -> anyhow::Result<()> {
    let agent_id = AGENT_ID.parse()?;
    if state.store.agent(&agent_id).await?.is_some_and(|agent| !agent.keys.is_empty()) {
        return Ok(());
    }
    state.store.register_agent(&agent_id, "The agent of this checkout").await?;
    let key = PublicKey::from_pem(KeyAlg::EdDsa, &secrets.agent_key.public_pem()?).map_err(anyhow::Error::msg)?;
    let (key_id, master_id) = (secrets.agent_key_id.parse()?, state.master_secrets.current());
    state.store.register_key(&agent_id, &key_id, KeyAlg::EdDsa.as_str(), &key.spki, master_id).await?;
    Ok(())
}

/// The content of `.local/dev.json`.
fn describe(
    secrets: &Secrets,
    state: &AppState,
    base_url: &str,
    database_url: &str,
    nats_url: &str,
    environment: &std::collections::HashMap<String, String>,
) -> anyhow::Result<serde_json::Value> {
    let now = state.clock.now().timestamp();
    let masters = &state.master_secrets;
    let (agent_id, key_id) = (AGENT_ID.parse()?, secrets.agent_key_id.parse()?);
    let operators = secrets.operators(now)?;
    Ok(json!({
        "base_url": base_url,
        "database_url": database_url,
        "nats_url": nats_url,
        "agent": {
            "agent_id": AGENT_ID,
            "key_id": secrets.agent_key_id,
            "private_key_pem": secrets.agent_key.0,
            "response_secret": masters.response_secret_text(masters.current(), &agent_id, &key_id)?,
            "token": secrets.agent_key.agent_token(AGENT_ID, &secrets.agent_key_id, now)?,
        },
        "operator": operators.first(),
        "operators": operators,
        "admin": {"token": secrets.person("admin", "Admin of this checkout", "admin", now)?},
        "environment": environment,
    }))
}

async fn wait_until_ready(base_url: &str) -> anyhow::Result<()> {
    let client = reqwest::Client::new();
    for _ in 0..200 {
        let answer = client.get(format!("{base_url}/readyz")).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("the stack did not become ready; see relaytrace.log in its folder")
}

async fn sweep_every(state: AppState, period: Duration) {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !state.events.is_stopping() {
        ticks.tick().await;
        if let Err(error) = timeout_sweep::run_once(state.clone()).await {
            tracing::warn!(error = %error, "a sweep did not end; the next goes on");
        }
    }
}

/// A page elsewhere on the web must not reach the stack under a name of its own (DNS rebinding).
async fn only_our_host(State(port): State<u16>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let ours =
        ["127.0.0.1", "localhost"].iter().any(|name| host == format!("{name}:{port}") || (port == 80 && host == *name));
    if ours {
        next.run(request).await
    } else {
        (StatusCode::MISDIRECTED_REQUEST, "Host must be 127.0.0.1 or localhost\n").into_response()
    }
}

fn print_banner(options: &RunOptions, base_url: &str, operator_token: &str) {
    let dir = options.dir.display();
    println!(
        r#"
RelayTrace runs on {base_url}

  The operator page, signed in as the first operator:
    {base_url}/#token={operator_token}

  Ask a person, as an agent would (in another terminal, in this folder):
    curl -s {base_url}/v1/hitl/requests \
      -H "Authorization: Bearer $(python3 -c 'import json; print(json.load(open("{dir}/dev.json"))["agent"]["token"])')" \
      -H 'Content-Type: application/json' \
      -d '{{"envelope_version":"1","agent_id":"local-agent","client_request_key":"hello-'$(date +%s)'","priority":"P1",
           "title":"May I greet the world?","action":{{"type":"greeting.send","arguments":{{"to":"world"}}}}}}'

  Tokens, keys and addresses: {dir}/dev.json    Log: {dir}/relaytrace.log    Stop: Ctrl-C
"#
    );
}
