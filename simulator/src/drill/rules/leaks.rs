//! Drills of leaks: tokens, keys, signatures and response secrets are nowhere.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hyper::header::HeaderValue;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::agent::{Agent, Nonces};
use crate::drill::client::{Caller, Reply};
use crate::drill::load::Load;
use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::{Verdict, enough, stream};
use crate::http::{Connection, bearer};
use crate::keys::NewKey;

/// Shorter values are found by chance.
const LEAST_LENGTH: usize = 16;

/// Values that must be nowhere, by their kind.
#[derive(Default)]
struct Secrets(BTreeMap<String, Vec<String>>);

impl Secrets {
    fn add(&mut self, what: &str, value: &str) {
        if value.len() >= LEAST_LENGTH {
            self.0.entry(what.to_owned()).or_default().push(value.to_owned());
        }
    }

    fn number(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// What of them is in a text, or what is shaped like a token or a private key.
    fn found_in(&self, text: &str) -> Option<String> {
        let known = self.0.iter().find(|(_, values)| values.iter().any(|value| text.contains(value)));
        known.map(|(what, _)| what.clone()).or_else(|| {
            let is_key = text.contains("PRIVATE KEY");
            let shaped =
                if is_key { Some("a private key") } else { token_in(text).then_some("what looks like a token") };
            shaped.map(str::to_owned)
        })
    }
}

/// Whether there is something of the form of a compact JWS.
fn token_in(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.match_indices("eyJ").any(|(at, _)| {
        let word = text[at..].split(|c| !is_part(c)).next().unwrap_or_default();
        word.matches('.').count() >= 2 && word.len() > 60
    })
}

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let mut service = scene.start_service(&[("LEASE_SECONDS", "1"), ("RUST_LOG", "debug")]).await?;
    let mut secrets = Secrets::default();
    for (name, value) in &scene.environment {
        if name.contains("SECRET") || name.contains("RECEIPT_KEY") {
            let values = value.split([',', ':', '\n']).filter(|part| !part.starts_with("-----"));
            values.for_each(|value| secrets.add(name, value));
        }
    }
    for person in scene.operators.iter().chain([&scene.admin]) {
        secrets.add("a person's token", person.token.to_str()?.trim_start_matches("Bearer "));
    }
    let agents = scene.agents(&service, 2).await?;
    for agent in &agents {
        secrets.add("an agent's token", agent.token().to_str()?.trim_start_matches("Bearer "));
    }
    let mut connection = Connection::open(service.address()).await?;
    for round in 0..scene.count {
        refusals(scene, &mut connection, &agents[0], round, &mut secrets).await?;
    }
    fail_deliveries(scene, &service, &agents[1]).await?;
    let load = Load::start(scene, &service, agents, 1);
    load.wait_for_more(50, Duration::from_mins(1)).await?;
    service.kill()?;
    service.start().await?;
    load.wait_for_more(50, Duration::from_mins(1)).await?;
    load.finish(scene, Duration::from_mins(2)).await?;

    let logs = logs_below(scene.folder().parent().context("the scene has no folder above it")?)?;
    let mut looked_at = 0;
    for path in &logs {
        // Postgres' and NATS' own logs are theirs; pytest tells of the tokens that it made itself.
        let text = String::from_utf8_lossy(&std::fs::read(path)?).into_owned();
        looked_at += text.len();
        for line in text.lines() {
            if let Some(what) = secrets.found_in(line) {
                anyhow::bail!("{what} is in {}: {}", path.display(), shortened(line));
            }
        }
    }
    let (letters, rows) = look_into_databases(scene, &secrets)?;
    let messages = stream::read(&scene.nats.url()).await?;
    for payload in messages.values().flatten() {
        let text = String::from_utf8_lossy(payload);
        ensure!(secrets.found_in(&text).is_none(), "an event holds a secret: {}", shortened(&text));
    }
    // The search finds planted values.
    let planted = format!("{{\"authorization\":\"{}\"}}", scene.admin.token.to_str()?);
    ensure!(secrets.found_in(&planted).is_some(), "the search does not find a token");
    enough(letters, 1, "dead letters")?;
    enough(logs.len() as u64, 1, "logs")?;
    Ok(format!(
        "0 of {} secrets, 0 values shaped like one in {} kB of {} logs, {letters} dead letters, {rows} rows beside \
         them and {} events",
        secrets.number(),
        looked_at / 1_000,
        logs.len(),
        messages.len()
    ))
}

/// Calls that are refused, with secrets wherever a caller may put them by mistake.
async fn refusals(
    scene: &Scene<'_>,
    connection: &mut Connection,
    agent: &Agent,
    round: u64,
    secrets: &mut Secrets,
) -> Result<()> {
    let id = format!("{}-leak-{round}", scene.database);
    let registered =
        connection.post("/v1/admin/agents", &scene.admin.token, &json!({"agent_id": id, "name": id})).await?;
    registered.expect(StatusCode::CREATED)?;
    let key = json!({"key_id": id, "alg": "EdDSA", "public_key": NewKey::generate()?.public_pem});
    let answer = connection.post(&format!("/v1/admin/agents/{id}/keys"), &scene.admin.token, &key).await?;
    answer.expect(StatusCode::CREATED)?;
    secrets.add("a response secret", answer.json()?["response_secret"].as_str().unwrap_or_default());

    let good = agent.token().to_str()?.to_owned();
    let mut nonces = Nonces::new(usize::try_from(round)?);
    let forged = bearer(&format!("{}AAAA", good.trim_start_matches("Bearer ").trim_end_matches(|c| c != '.')))?;
    secrets.add("a forged token", forged.to_str()?.trim_start_matches("Bearer "));
    let poll = format!("/v1/agents/{}/decisions/poll", agent.id);
    let in_query = format!("{poll}?access_token={}", good.trim_start_matches("Bearer "));
    let nothing: &Value = &Value::Null;
    let broken = json!({"envelope_version": "1", "title": 7});
    for (method, path, token, body) in [
        (Method::GET, poll.as_str(), &forged, nothing),
        (Method::GET, in_query.as_str(), &forged, nothing),
        (Method::GET, in_query.as_str(), agent.token(), nothing),
        (Method::GET, "/v1/agents/another/decisions/poll", agent.token(), nothing),
        (Method::GET, "/v1/admin/agents", agent.token(), nothing),
        (Method::POST, "/v1/hitl/requests", agent.token(), &broken),
        (Method::GET, "/v1/hitl/requests", &HeaderValue::from_static("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), nothing),
    ] {
        let request = connection.request(method, path, token).header("relaytrace-nonce", nonces.next());
        let body = if body.is_null() { bytes::Bytes::new() } else { body.to_string().into() };
        let answer = connection.send(request, body).await?;
        if let Some(signature) = answer.headers.get("signature") {
            secrets.add("a signature", signature.to_str()?.trim_start_matches("relaytrace=:").trim_end_matches(':'));
        }
    }
    Ok(())
}

/// Makes dead letters.
async fn fail_deliveries(scene: &Scene<'_>, service: &Service, agent: &Agent) -> Result<()> {
    let mut client = scene.client(service);
    for number in 0..3 {
        let request_id = client.submit_until_answered(agent, &format!("fails-{number}")).await;
        client.decide_until_answered(&scene.operators[0], &request_id, true).await;
    }
    for delivery in client.poll(agent, 1, 10).await.unwrap_or_default() {
        let path = format!("/v1/agents/{}/decisions/{}/ack", agent.id, delivery.request_id);
        let body = json!({"delivery_id": delivery.delivery_id, "result": "failed",
            "error": {"code": "broken", "message": "the agent cannot use it"}});
        let reply: Option<Reply> = client.call(Caller::Agent(agent), Method::POST, &path, Some(&body)).await;
        ensure!(reply.is_some_and(|reply| reply.status == StatusCode::OK), "a delivery could not fail");
    }
    Ok(())
}

/// Every log of a service below a folder.
fn logs_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let folder = entry?.path();
        if !folder.is_dir() || ["postgres", "nats"].iter().any(|name| folder.ends_with(name)) {
            continue;
        }
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let is_log = path.extension().is_some_and(|extension| extension == "log");
            if is_log && !path.ends_with("pytest.log") {
                logs.push(path);
            }
        }
    }
    Ok(logs)
}

/// Dead letters, outbox, failures and replays of every drill's database. How many dead letters, and other rows.
fn look_into_databases(scene: &Scene<'_>, secrets: &Secrets) -> Result<(u64, u64)> {
    let databases = scene.sql("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'")?;
    let (mut letters, mut rows) = (0, 0);
    for database in databases.lines() {
        for table in ["dead_letters", "outbox", "sweep_failures", "replays", "deliveries", "agent_keys", "agents"] {
            // Payloads as text, too.
            let payload = match table {
                "dead_letters" => ", convert_from(event_payload, 'UTF8')",
                "outbox" => ", convert_from(payload, 'UTF8')",
                _ => "",
            };
            let query = format!("SELECT t{payload} FROM {table} t");
            let said = tokio::task::block_in_place(|| scene.postgres.psql(database, &query))?;
            for line in said.lines() {
                let what = secrets.found_in(line);
                ensure!(
                    what.is_none(),
                    "{} is in {table} of {database}: {}",
                    what.unwrap_or_default(),
                    shortened(line)
                );
                *(if table == "dead_letters" { &mut letters } else { &mut rows }) += 1;
            }
        }
    }
    Ok((letters, rows))
}

fn shortened(line: &str) -> String {
    line.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_values_and_what_is_shaped_like_a_secret_are_found() {
        let mut secrets = Secrets::default();
        secrets.add("a response secret", "c2VjcmV0IHNlY3JldCBzZWNyZXQ=");
        let token = format!("eyJhbGciOiJFZERTQSJ9.{}.{}", "eyJ".repeat(20), "A".repeat(86));
        for (line, expected) in [
            ("{\"message\":\"c2VjcmV0IHNlY3JldCBzZWNyZXQ=\"}".to_owned(), Some("a response secret")),
            (format!("authorization: Bearer {token}"), Some("what looks like a token")),
            ("-----BEGIN PRIVATE KEY-----".to_owned(), Some("a private key")),
            ("{\"message\":\"request\",\"http.status\":401}".to_owned(), None),
            ("eyJ a.b.c".to_owned(), None),
        ] {
            assert_eq!(secrets.found_in(&line).as_deref(), expected, "{line}");
        }
    }
}
