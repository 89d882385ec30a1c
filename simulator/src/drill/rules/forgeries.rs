//! SQL as each authority that a stolen function has: what is not its own does not get in, and what gets in gets no
//! receipt.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, bail, ensure};
use hyper::Method;

use crate::agent::Agent;
use crate::drill::client::{Caller, Client};
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough};

const KINDS: [&str; 12] = [
    "submitted",
    "escalated",
    "extended",
    "reprioritised",
    "decided",
    "acknowledged",
    "dead_lettered",
    "replayed",
    "voted",
    "rerouted",
    "consumed",
    "outcome",
];

/// A role, the causes and the kinds that are its functions' own, and who they say decides.
struct Authority {
    role: &'static str,
    causes: &'static [&'static str],
    kinds: &'static [&'static str],
    actor: &'static str,
}

const AUTHORITIES: [Authority; 3] = [
    Authority {
        role: "relaytrace_agent",
        causes: &["agent", "policy"],
        kinds: &["submitted", "decided", "acknowledged", "dead_lettered", "consumed", "outcome"],
        actor: "agent",
    },
    Authority {
        role: "relaytrace_people",
        causes: &["operator"],
        kinds: &["decided", "voted", "rerouted", "consumed", "outcome"],
        actor: "operator",
    },
    Authority {
        role: "relaytrace_ops",
        // The last is tried with an approval, which the database takes for no cause of administrators.
        causes: &["admin", "timeout"],
        kinds: &[
            "decided",
            "escalated",
            "extended",
            "reprioritised",
            "dead_lettered",
            "replayed",
            "rerouted",
            "outcome",
        ],
        actor: "admin",
    },
];

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let (agent, mut client) = (&agents[0], scene.client(&service));
    let (mut refused, mut withheld) = (0, 0);
    for round in 0..scene.count {
        for authority in &AUTHORITIES {
            let key = format!("{}-{round}", authority.role);
            let request_id = client.submit_until_answered(agent, &key).await;
            for (what, statement) in foreign(authority, &request_id) {
                refuse(scene, authority.role, &what, &statement)?;
                refused += 1;
            }
            let cause = authority.causes[authority.causes.len() - 1];
            withheld += forge(scene, &mut client, agent, &request_id, authority.role, authority.actor, cause).await?;
        }
        // The union of them, as one database role had it: a decision of an operator who never saw it.
        let request_id = client.submit_until_answered(agent, &format!("app-{round}")).await;
        withheld += forge(scene, &mut client, agent, &request_id, "relaytrace_app", "operator", "operator").await?;
    }
    let log = std::fs::read_to_string(service.log())?;
    let told = log.lines().filter(|line| line.contains("\"ERROR\"") && line.contains("attestation")).count();
    ensure!(told > 0, "no withheld decision is an error in the log");
    enough(refused, scene.count, "forgeries")?;
    Ok(format!(
        "{refused} statements refused; {withheld} decisions that were written without attestation got no receipt, held up \
         nothing, and are errors in the log"
    ))
}

/// One statement as this role must be refused.
fn refuse(scene: &Scene<'_>, role: &str, what: &str, statement: &str) -> Result<()> {
    match scene.sql(&format!("BEGIN; SET LOCAL ROLE {role}; {statement}; ROLLBACK")) {
        Ok(_) => bail!("{role} could {what}"),
        Err(error) => {
            let said = format!("{error:#}");
            let is_refusal =
                ["permission denied", "row-level security", "approval_chain_entry_is_its_rows", "must be owner"]
                    .iter()
                    .any(|words| said.contains(words));
            ensure!(is_refusal, "{role} was kept from {what} by something else: {said}");
            Ok(())
        }
    }
}

/// What this authority must not be able to do, and the statement that tries it.
fn foreign(authority: &Authority, id: &str) -> Vec<(String, String)> {
    let mut tries = Vec::new();
    for cause in ["operator", "timeout", "admin", "agent", "policy"] {
        if !authority.causes.contains(&cause) {
            let kind = if matches!(cause, "timeout" | "policy") { "system" } else { cause };
            tries.push((
                format!("write a decision of the cause {cause}"),
                format!(
                    "INSERT INTO hitl_decisions (request_id, outcome, cause, decided_by_kind, decided_by_id, decided_at,
                        chain_seq) VALUES ('{id}', 'approved', '{cause}', '{kind}', 'maria', clock_timestamp(), 2)"
                ),
            ));
        }
    }
    for kind in KINDS {
        if !authority.kinds.contains(&kind) {
            tries.push((format!("write an entry {kind}"), entry(id, kind, kind, "clock_timestamp()")));
        }
    }
    let own = authority.kinds[authority.kinds.len() - 1];
    tries.push(("write bytes of another kind".to_owned(), entry(id, own, "decided", "clock_timestamp()")));
    tries.push(("date a decision back".to_owned(), entry(id, "decided", "decided", "timestamptz '2020-01-01Z'")));
    for (what, statement) in [
        ("change a decision", "UPDATE hitl_decisions SET outcome = 'approved'"),
        ("remove entries", "DELETE FROM approval_chain"),
        ("empty the chain", "TRUNCATE approval_chain"),
        ("ask for attestations later", "UPDATE attestation_start SET attested_from = 'infinity'"),
        ("drop the policies", "ALTER TABLE hitl_decisions DISABLE ROW LEVEL SECURITY"),
        ("drop the triggers", "ALTER TABLE approval_chain DISABLE TRIGGER ALL"),
        ("change what was asked", "UPDATE hitl_requests SET action_digest = sha256('')"),
        ("give a request to another agent", "UPDATE hitl_requests SET agent_id = 'another'"),
        ("rename a request's key", "UPDATE hitl_requests SET client_request_key = 'another'"),
        ("redirect deliveries", "UPDATE deliveries SET agent_id = 'another'"),
    ] {
        tries.push((what.to_owned(), statement.to_owned()));
    }
    if authority.role != "relaytrace_agent" {
        tries.push(("ask".to_owned(), "INSERT INTO hitl_requests (request_id) VALUES (gen_random_uuid())".to_owned()));
        tries.push(("lease a delivery".to_owned(), "UPDATE deliveries SET delivery_id = gen_random_uuid()".to_owned()));
    }
    if authority.role != "relaytrace_ops" {
        tries.push(("register a key".to_owned(), "INSERT INTO agent_keys (key_id) VALUES ('k')".to_owned()));
        tries.push(("set a policy".to_owned(), "UPDATE timeout_policies SET on_timeout = 'auto_approve'".to_owned()));
        tries.push(("extend a deadline".to_owned(), "UPDATE hitl_requests SET respond_by = 'infinity'".to_owned()));
    }
    if authority.role == "relaytrace_people" {
        tries.push(("acknowledge a delivery".to_owned(), "UPDATE deliveries SET state = 'acknowledged'".to_owned()));
    }
    tries
}

/// An entry in its place in the chain, whose bytes may say another kind than its row.
fn entry(id: &str, kind: &str, said: &str, at: &str) -> String {
    format!(
        "INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
        SELECT request_id, chain_length + 1, '{kind}', {at}, b, chain_head, sha256(chain_head || b)
        FROM hitl_requests, chain_entry(request_id, chain_length + 1, '{said}', {at},
            chain_actor('operator', 'maria', NULL), NULL) b
        WHERE request_id = '{id}'"
    )
}

/// Decides as a role in SQL, whole in itself, as a function would. The agent must not get it, and must get the decision
/// beside it. How many were withheld.
async fn forge(
    scene: &Scene<'_>,
    client: &mut Client,
    agent: &Agent,
    id: &str,
    role: &str,
    actor: &str,
    cause: &str,
) -> Result<u64> {
    let actor_kind = if matches!(cause, "policy" | "timeout") { "system" } else { actor };
    let mut statement = format!("SET ROLE {role};");
    write!(
        statement,
        "WITH t AS MATERIALIZED (
            SELECT *, chain_length + 1 AS seq, clock_timestamp() AS at FROM hitl_requests WHERE request_id = '{id}'
        ), e AS MATERIALIZED (
            SELECT t.*, chain_entry(request_id, seq, 'decided', at, chain_actor('{actor_kind}', 'maria', 'Maria K.'),
                '\"outcome\":\"approved\",\"cause\":\"{cause}\",\"action_digest\":\"' || digest_text(action_digest)
                || '\",\"reason\":null') AS entry
            FROM t
        ), l AS MATERIALIZED (SELECT e.*, sha256(chain_head || entry) AS hash FROM e
        ), u AS (
            UPDATE hitl_requests r SET status = 'decided', changed_at = l.at, chain_length = l.seq, chain_head = l.hash
            FROM l WHERE r.request_id = l.request_id
        ), d AS (
            INSERT INTO hitl_decisions (request_id, outcome, cause, decided_by_kind, decided_by_id, decided_by_name,
                decided_at, chain_seq)
            SELECT request_id, 'approved', '{cause}', '{actor_kind}', 'maria', 'Maria K.', at, seq FROM l
        ), c AS (
            INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
            SELECT request_id, seq, 'decided', at, entry, chain_head, hash FROM l
        )
        INSERT INTO deliveries (request_id, agent_id, visible_at, expires_at)
        SELECT request_id, agent_id, at, at + interval '1 day' FROM l"
    )?;
    scene.sql(&statement).with_context(|| format!("{role} cannot do its function's work"))?;
    // Decided after it, and so due after it.
    let beside = client.submit_until_answered(agent, &format!("beside-{id}")).await;
    client.decide_until_answered(&scene.operators[0], &beside, true).await;
    let mut taken = Vec::new();
    while !taken.contains(&beside) {
        let found = client.poll(agent, 5, 1).await.context("a poll was not answered")?;
        ensure!(!found.is_empty(), "a decision that nobody attests holds up the one beside it");
        for delivery in found {
            client.acknowledge_until_answered(agent, &delivery, "accepted").await;
            taken.push(delivery.request_id);
        }
    }
    ensure!(
        !taken.contains(&id.to_owned()),
        "{role}: a forged decision of the cause {cause} was delivered with a receipt"
    );
    let path = format!("/v1/agents/{}/requests/{id}", agent.id);
    let view = client.call(Caller::Agent(agent), Method::GET, &path, None).await.context("no answer")?;
    ensure!(view.body["decision"].is_null(), "{role}: a forged decision is in its agent's view: {}", view.body);
    Ok(1)
}
