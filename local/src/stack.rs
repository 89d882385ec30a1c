//! One process: the servers, all functions behind one router, a sweep each second, and the demo agents.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use relaytrace_servers::{Durability, Nats, Postgres};
use relaytrace_service::{DatabaseAuthority, runtime, telemetry};

use crate::development::AGENT_ID;
use crate::prepared::{Addresses, Prepared};
use crate::{RunOptions, demo, openapi, prepared};

const DATABASE: &str = "relaytrace";

/// Runs until Ctrl-C or SIGTERM, then stops all it started.
pub fn run(options: &RunOptions) -> anyhow::Result<ExitCode> {
    with_servers(&options.dir, async |postgres, nats| {
        run_functions(options, postgres, nats).await.map(|()| ExitCode::SUCCESS)
    })
}

/// Does the work beside a Postgres and a NATS of the folder's own, then stops them.
pub fn with_servers<T>(dir: &Path, work: impl AsyncFnOnce(&Postgres, &Nats) -> anyhow::Result<T>) -> anyhow::Result<T> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    println!("Starting Postgres …");
    // First: it locks the folder. What another stack keeps there is not ours to touch.
    let mut postgres = Postgres::start(&dir.join("postgres"), Durability::Durable)?;
    let description = dir.join("dev.json");
    // One of an earlier run that was killed must not be taken for ours.
    drop(std::fs::remove_file(&description));
    telemetry::init_to_file(&dir.join("relaytrace.log"))?;
    println!("Starting NATS …");
    // The default sync interval: Postgres is the truth, and a lost stream is rebuilt from it.
    let mut nats = Nats::start(&dir.join("nats"), Durability::Throwaway)?;
    println!("Preparing the database …");
    postgres.create_database_if_missing(DATABASE)?;

    let tokio = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = tokio.block_on(work(&postgres, &nats));
    // A task that is still at something would log an error when its server goes away.
    tokio.shutdown_timeout(Duration::from_secs(1));
    drop(std::fs::remove_file(&description));
    println!("Stopping NATS and Postgres …");
    nats.stop()?;
    postgres.stop()?;
    outcome
}

async fn run_functions(options: &RunOptions, postgres: &Postgres, nats: &Nats) -> anyhow::Result<()> {
    let service_url = prepared::migrate(&owner_url(postgres)).await?;
    let base_url = format!("http://127.0.0.1:{}", options.port);
    let addresses = Addresses { base_url: base_url.clone(), database_url: owner_url(postgres), nats_url: nats.url() };
    let mut prepared = Prepared::new(&options.dir, &service_url, &nats.url(), addresses).await?;
    std::sync::Arc::make_mut(&mut prepared.state.page).is_local = true;
    // A free port, unless METRICS_PORT names one: the description says which.
    prepared.state.metrics_address.get_or_insert(SocketAddr::from(([127, 0, 0, 1], 0)));
    let state = prepared.state.clone();

    let listen = SocketAddr::from(([127, 0, 0, 1], options.port));
    let router = relaytrace_service::http::service(openapi::routes(), state.clone());
    let ready = tokio::net::TcpListener::bind(listen).await.with_context(|| {
        format!("port {0} is taken: PORT={1} make run uses another", options.port, options.port + 1)
    })?;
    drop(ready);
    let server = tokio::spawn({
        let state = state.clone();
        async move { runtime::serve(router, &state, listen, runtime::interrupted()).await }
    });

    wait_until_ready(&base_url).await?;
    prepared.write()?;
    let hook_wait_seconds = prepared.state.hooks.max_wait_seconds;
    print_banner(options, &base_url, &prepared.operator_token()?, &prepared.bearer()?, hook_wait_seconds);

    if options.sweep_seconds > 0.0 {
        tokio::spawn(timeout_sweep::schedule(
            state.acting_by(DatabaseAuthority::Ops),
            Duration::from_secs_f64(options.sweep_seconds),
        ));
    }
    tokio::spawn(notify::work(state.acting_by(DatabaseAuthority::Ops)));
    if options.demo == 1 {
        demo::run(&state.acting_by(DatabaseAuthority::Ops), &base_url);
    }
    tokio::select! {
        ended = server => ended?,
        outcome = prepared.keep_fresh() => outcome,
    }
}

/// The database as its owner.
pub fn owner_url(postgres: &Postgres) -> String {
    postgres.url(DATABASE)
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

/// Settings of Claude Code that ask a person. What fails blocks; the timeout is above the longest time that a hook is held.
fn claude_code_settings(base_url: &str, hook_wait_seconds: u64) -> String {
    let hook = serde_json::json!({
        "type": "http",
        "url": format!("{base_url}/v1/hooks/claude-code"),
        "headers": {"Authorization": "Bearer $RELAYTRACE_TOKEN"},
        "allowedEnvVars": ["RELAYTRACE_TOKEN"],
        "timeout": hook_wait_seconds + 10,
        "onFailure": "block",
    });
    let matched = serde_json::json!([{"matcher": "*", "hooks": [hook]}]);
    let settings = serde_json::json!({
        "hooks": {"PreToolUse": matched, "PostToolUse": matched, "PostToolUseFailure": matched},
    });
    settings.to_string()
}

fn print_banner(
    options: &RunOptions,
    base_url: &str,
    operator_token: &str,
    bearer: &(String, String),
    hook_wait_seconds: u64,
) {
    let (token, response_secret) = bearer;
    let dir = options.dir.display();
    let settings = claude_code_settings(base_url, hook_wait_seconds);
    println!(
        r#"
RelayTrace runs on {base_url}

  The operator page, signed in as the first operator:
    {base_url}/#token={operator_token}

  For agents (paste into another terminal):
    export RELAYTRACE_URL={base_url}
    export RELAYTRACE_AGENT_ID={AGENT_ID}
    export RELAYTRACE_TOKEN={token}
    export RELAYTRACE_RESPONSE_SECRET={response_secret}

  Ask a person, from a shell (there, in this folder):
    cargo run -q -p relaytrace-cli -- ask --type greeting.send --arg to=world --title 'May I greet the world?'

  Claude Code (into .claude/settings.json; start it from that terminal; it is asked about whatever matches):
{settings}

  Agent Approval Protocol (pip install agentapprovalprotocol):
    Client("{base_url}/aap", os.environ["RELAYTRACE_TOKEN"])

  Ask a person, as an agent would (there):
    curl -s "$RELAYTRACE_URL/v1/hitl/requests" \
      -H "Authorization: Bearer $RELAYTRACE_TOKEN" \
      -H 'Content-Type: application/json' \
      -d '{{"envelope_version":"1","agent_id":"{AGENT_ID}","client_request_key":"hello-'$(date +%s)'","priority":"P1",
           "title":"May I greet the world?","action":{{"type":"greeting.send","arguments":{{"to":"world"}}}}}}'

  Tokens, keys and addresses: {dir}/dev.json    Log: {dir}/relaytrace.log    Stop: Ctrl-C
"#
    );
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_printed_settings_block_and_outlast_the_wait() {
        let settings: Value = serde_json::from_str(&claude_code_settings("http://127.0.0.1:8080", 50)).expect("JSON");
        for event in ["PreToolUse", "PostToolUse", "PostToolUseFailure"] {
            let hook = &settings["hooks"][event][0]["hooks"][0];
            assert_eq!((&hook["type"], &hook["onFailure"]), (&"http".into(), &"block".into()));
            assert_eq!(hook["url"], "http://127.0.0.1:8080/v1/hooks/claude-code");
            assert_eq!(hook["headers"]["Authorization"], "Bearer $RELAYTRACE_TOKEN");
            assert!(hook["timeout"].as_u64().expect("a number") > 50);
        }
    }
}
