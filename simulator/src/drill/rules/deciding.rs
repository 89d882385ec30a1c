//! Rules that decide: their limits, their versions, and that those of the shadow do nothing.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::agent::Agent;
use crate::drill::client::{Caller, Client, PAUSE, action_digest, envelope};
use crate::drill::crowd::{Crowd, set_policy, settle, take_all};
use crate::drill::history::Record;
use crate::drill::judge::judge;
use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::{PATIENCE, Verdict, enough};
use crate::http::Connection;

/// Submissions of a round at the same moment.
const CALLERS: usize = 200;
/// Decisions of a rule in an hour.
const LIMIT: u64 = 5;
/// Clients that submit while rules change.
const SUBMITTERS: usize = 40;
/// Leases end soon: their answers are let go, and polls take the decisions.
const SHORT_LEASES: (&str, &str) = ("LEASE_SECONDS", "0.5");

pub async fn limits(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[SHORT_LEASES]).await?;
    let agents = scene.agents(&service, 4).await?;
    let mut crowd = Crowd::new(scene, &service, CALLERS);
    for round in 0..scene.count {
        let name = format!("limit-{round}");
        let at_most = json!({"count": LIMIT, "per_seconds": 3_600});
        let rule = json!({"name": name, "mode": "enforce", "match": {},
            "then": {"decide": "approve", "reason": "Within the limit", "at_most": at_most}});
        set_rules(scene, &service, round, &json!([rule])).await?;
        let told = crowd
            .at_once(async |index, client| ask(client, &agents[index % agents.len()], &format!("{name}-{index}")).await)
            .await;
        let told: Vec<Value> = told.into_iter().collect::<Result<_>>()?;
        let decided = told.iter().filter(|answer| answer["decision"]["outcome"] == "approved").count() as u64;
        ensure!(decided == LIMIT, "round {round}: {decided} of {CALLERS} were approved, not {LIMIT}");
        let asked =
            told.iter().filter(|answer| answer["status"] == "pending" && answer["rule"]["name"] == *name).count();
        ensure!(asked as u64 == CALLERS as u64 - LIMIT, "round {round}: {asked} were asked by the rule");
    }
    let by_rules = scene.number("SELECT count(*) FROM hitl_decisions WHERE cause = 'policy'")?;
    ensure!(by_rules == scene.count * LIMIT, "{by_rules} decisions of rules are stored");
    finish(scene, &mut crowd, &agents).await?;
    judge(scene).await?.verdict(&format!("{} × {CALLERS} submissions at once, {LIMIT} of each approved", scene.count))
}

/// A submission as its client saw it.
struct Seen {
    begun: Instant,
    version: u64,
}

pub async fn versions(scene: &mut Scene<'_>) -> Verdict {
    // Two processes, so that one is always behind.
    let services = [scene.start_service(&[SHORT_LEASES]).await?, scene.start_service(&[SHORT_LEASES]).await?];
    let agents = scene.agents(&services[0], 4).await?;
    let mut crowd = Crowd((0..SUBMITTERS).map(|index| scene.client(&services[index % services.len()])).collect());
    set_rules(scene, &services[0], 0, &of_version(1)).await?;
    let each = scene.count.div_ceil(SUBMITTERS as u64);
    let seen = Mutex::new(Vec::new());
    let submitting = crowd.at_once(async |index, client| {
        for number in 0..each {
            let begun = Instant::now();
            let answer = ask(client, &agents[index % agents.len()], &format!("{index}-{number}")).await?;
            let version = answer["rule"]["version"].as_u64().context("a submission is under no version")?;
            // Who was behind three times is asked where it would be approved.
            let said = &answer["decision"]["outcome"];
            let holds = if version % 2 == 1 { said == "approved" || said.is_null() } else { said == "rejected" };
            ensure!(holds, "version {version} did not say {answer}");
            let seen = &mut *seen.lock().map_err(|_| anyhow::anyhow!("a client has panicked"))?;
            seen.push(Seen { begun, version });
        }
        Ok(())
    });
    let mut committed = Vec::new();
    let changing = async {
        for version in 2.. {
            set_rules(scene, &services[0], version - 1, &of_version(version)).await?;
            committed.push((version, Instant::now()));
            sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        submitted = submitting => submitted.into_iter().collect::<Result<()>>()?,
        changed = changing => changed?,
    }
    let seen = seen.into_inner().map_err(|_| anyhow::anyhow!("a client has panicked"))?;
    for Seen { begun, version } in &seen {
        let least = committed.iter().take_while(|(_, at)| at <= begun).map(|(version, _)| *version).max().unwrap_or(1);
        ensure!(*version >= least, "a submission that began after version {least} was under {version}");
    }
    let mixed = scene.number(
        "SELECT count(*) FROM hitl_requests r LEFT JOIN hitl_decisions d USING (request_id)
        WHERE d.decided_by_id <> 'rule:' || r.rule_name || '@' || r.rules_version
            OR d.outcome <> CASE r.rules_version % 2 WHEN 1 THEN 'approved' ELSE 'rejected' END
            OR d.outcome IS NULL AND r.rules_version % 2 = 0
            OR r.rule_name <> 'v' || r.rules_version",
    )?;
    ensure!(mixed == 0, "{mixed} requests are not wholly of one version");
    let asked = scene.number("SELECT count(*) FROM hitl_requests WHERE status = 'pending'")?;
    let changes = committed.len() as u64;
    finish(scene, &mut crowd, &agents).await?;
    let verdict = judge(scene).await?.verdict(&format!(
        "{} submissions beside {changes} changes of the rules: each under one version, none under an older one than stood \
         when it began, {asked} asked after three restarts",
        seen.len()
    ))?;
    enough(changes, 3, "changes of the rules")?;
    Ok(verdict)
}

/// Odd versions approve, even ones reject.
fn of_version(version: u64) -> Value {
    let verdict = if version % 2 == 1 { "approve" } else { "reject" };
    json!([{"name": format!("v{version}"), "mode": "enforce", "match": {}, "then": {"decide": verdict, "reason": "x"}}])
}

pub async fn shadows(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[("HOOK_WAIT_SECONDS", "0")]).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = &agents[0];
    let mut crowd = Crowd::new(scene, &service, 1);
    let shadow = |name: &str, then: Value| json!({"name": name, "mode": "shadow", "match": {}, "then": then});
    let documents = [
        shadow("approves", json!({"decide": "approve", "reason": "x"})),
        shadow("rejects", json!({"decide": "reject", "reason": "x", "at_most": {"count": 1, "per_seconds": 1}})),
        shadow(
            "asks",
            json!({"ask": {"groups": ["nobody"], "approvals": 10, "consume": "required", "on_timeout": "raise"}}),
        ),
        json!({"name": "fails", "mode": "shadow", "match": {"arguments": {"/absent": {"gt": 1}}},
            "then": {"decide": "approve", "reason": "x"}}),
    ];
    set_policy(scene, &mut crowd.0[0], agent, 1).await?;
    for round in 0..scene.count {
        let document = &documents[usize::try_from(round)? % documents.len()];
        set_rules(scene, &service, round, &json!([document])).await?;
        every_path(scene, &service, &mut crowd.0[0], agent, round).await?;
    }
    // Those of nobody's answer end by their timeout.
    let begun = Instant::now();
    while scene.number("SELECT count(*) FROM hitl_requests WHERE status = 'pending'")? > 0 {
        ensure!(begun.elapsed() < PATIENCE, "requests are pending past their time");
        crowd.0[0].sweep(&scene.admin).await;
    }
    let acted = scene.number(
        "SELECT count(*) FROM hitl_requests r JOIN hitl_decisions d USING (request_id)
        WHERE d.cause = 'policy' OR r.rule_name IS NOT NULL OR r.rule_terms IS NOT NULL OR r.assigned_groups IS NOT NULL
            OR r.approvals_required > 1 OR r.consume_required OR (d.cause = 'timeout' AND d.outcome <> 'rejected')",
    )?;
    ensure!(acted == 0, "a rule of the shadow acted on {acted} requests");
    let counted = scene.number("SELECT count(*) FROM rule_uses")?;
    ensure!(counted == 0, "a rule of the shadow used up its limit");
    let all = scene.number("SELECT count(*) FROM hitl_requests")?;
    let told = scene.number(
        "SELECT count(*) FROM approval_chain WHERE seq = 1 AND convert_from(entry, 'UTF8')::jsonb -> 'shadow' ? 'effect'",
    )?;
    ensure!(told == all, "{told} of {all} entries say what a rule of the shadow would do");
    finish(scene, &mut crowd, &agents).await?;
    judge(scene)
        .await?
        .verdict(&format!("{all} requests by every path, {told} with what would have been, none touched"))
}

/// Submitted and answered, taken back, and left to its timeout; and the same through bridges.
async fn every_path(
    scene: &Scene<'_>,
    service: &Service,
    client: &mut Client,
    agent: &Agent,
    round: u64,
) -> Result<()> {
    let answered = ask(client, agent, &format!("approved-{round}")).await?;
    ensure!(answered["status"] == "pending", "a rule of the shadow decided {answered}");
    let request_id = answered["request_id"].as_str().unwrap_or_default().to_owned();
    client.decide_until_answered(&scene.operators[0], &request_id, true).await;
    let answered = ask(client, agent, &format!("cancelled-{round}")).await?;
    let path =
        format!("/v1/agents/{}/requests/{}/cancel", agent.id, answered["request_id"].as_str().unwrap_or_default());
    client.must(Caller::Agent(agent), Method::POST, &path, Some(&json!({})), 200).await?;
    ask(client, agent, &format!("expired-{round}")).await?;
    let key = format!("aap-{round}");
    client.history().add(Record::Sent { agent_id: agent.id.clone(), client_request_key: key.clone() });
    let mut connection = Connection::open(service.address()).await?;
    let body = json!({"tool": "drill.act", "arguments": {"key": key}, "timeout": "1s"});
    let request = connection.request(Method::POST, "/aap/v1/requests", agent.token());
    let answer = connection.send(request.header("idempotency-key", &key), body.to_string().into()).await?;
    answer.expect(StatusCode::CREATED)?;
    let told = answer.json()?;
    ensure!(told["status"] == "pending", "a rule of the shadow decided what a bridge asked");
    let request_id = told["id"].as_str().unwrap_or_default().to_owned();
    note(client, agent, &key, (request_id, action_digest(&key)), false);
    Ok(())
}

/// Submits until it is answered, and notes it; the answer.
async fn ask(client: &mut Client, agent: &Agent, key: &str) -> Result<Value> {
    client.history().add(Record::Sent { agent_id: agent.id.clone(), client_request_key: key.to_owned() });
    let body = envelope(&agent.id, key);
    let begun = Instant::now();
    let reply = loop {
        ensure!(begun.elapsed() < PATIENCE, "{key} was not answered within {PATIENCE:?}");
        match client.call(Caller::Agent(agent), Method::POST, "/v1/hitl/requests", Some(&body)).await {
            Some(reply) if matches!(reply.status, StatusCode::CREATED | StatusCode::OK) => break reply,
            Some(reply) if reply.status == StatusCode::SERVICE_UNAVAILABLE => client.refused("submit", &reply),
            Some(reply) => bail!("{key}: {} {}", reply.status, reply.body),
            None => {}
        }
        sleep(PAUSE).await;
    };
    let is_duplicate = reply.body["duplicate"] == true;
    note(client, agent, key, (reply.text("request_id"), reply.text("action_digest")), is_duplicate);
    Ok(reply.body)
}

fn note(client: &Client, agent: &Agent, key: &str, (request_id, action_digest): (String, String), duplicate: bool) {
    let (agent_id, client_request_key) = (agent.id.clone(), key.to_owned());
    client.history().add(Record::Submitted { agent_id, client_request_key, request_id, action_digest, duplicate });
}

/// Makes the version after `standing`.
async fn set_rules(scene: &Scene<'_>, service: &Service, standing: u64, rules: &Value) -> Result<()> {
    let mut connection = Connection::open(service.address()).await?;
    let request = connection.request(Method::PUT, "/v1/admin/rules", &scene.admin.token);
    let request = request.header("if-match", format!("\"{standing}\""));
    let body = json!({"rules": rules, "note": "A drill"});
    let answer = connection.send(request, body.to_string().into()).await?;
    answer.expect(StatusCode::OK)?;
    let made = answer.json()?["version"].as_u64();
    ensure!(made == Some(standing + 1), "version {made:?} was made after {standing}");
    Ok(())
}

/// Rejects what is pending, and takes what is decided.
async fn finish(scene: &Scene<'_>, crowd: &mut Crowd, agents: &[Agent]) -> Result<()> {
    let pending = scene.sql("SELECT request_id FROM hitl_requests WHERE status = 'pending'")?;
    for request_id in pending.lines() {
        crowd.0[0].decide_until_answered(&scene.operators[0], request_id, false).await;
    }
    // What bridges asked goes to no poll that does not name it: their agents would have looked.
    scene.sql("UPDATE deliveries SET named_only = false WHERE named_only")?;
    let begun = Instant::now();
    while scene.number("SELECT count(*) FROM deliveries WHERE state IN ('ready', 'leased')")? > 0 {
        ensure!(begun.elapsed() < PATIENCE, "decisions are still to be delivered after {PATIENCE:?}");
        for agent in agents {
            take_all(crowd, agent).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    settle(scene, &mut crowd.0[0]).await
}
