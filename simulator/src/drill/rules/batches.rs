//! A hundred answers in one call beside a hundred calls: the same answers, and how long they take.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::drill::client::{Caller, Client, action_digest, text};
use crate::drill::crowd::{Crowd, settle, take_all};
use crate::drill::history::Record;
use crate::drill::judge::judge;
use crate::drill::scene::{Person, Scene};
use crate::drill::{Verdict, median};

/// Answers of a call.
const ANSWERS: usize = 100;
/// Connections of an operator's browser that sends single calls.
const CONNECTIONS: usize = 6;

pub async fn beside_single_calls(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 2).await?;
    let mut client = scene.client(&service);
    let policy = json!({
        "agent_id": agents[1].id, "priority": "P2", "respond_within_seconds": 3_600, "approvals": 2,
    });
    let path = "/v1/admin/timeout-policies";
    client.must(Caller::Person(&scene.admin), Method::PUT, path, Some(&policy), 200).await?;
    let mut crowd = Crowd::new(scene, &service, CONNECTIONS);
    let (mut together, mut in_a_row, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..scene.count {
        let mut asked = Vec::new();
        for way in ["together", "row", "once"] {
            asked.push(ask(scene, &mut client, &agents, &format!("{round}-{way}")).await?);
        }
        let operator = &scene.operators[0];
        let begun = Instant::now();
        let batch = send_together(&mut client, operator, &asked[0]).await?;
        together.push(begun.elapsed());
        let begun = Instant::now();
        let mut single = Vec::with_capacity(ANSWERS);
        for answer in &asked[1] {
            single.push(send_alone(&mut client, operator, answer).await?);
        }
        in_a_row.push(begun.elapsed());
        let begun = Instant::now();
        let shared = &asked[2];
        let shares = crowd
            .at_once(async |index, client| {
                let mut told = Vec::new();
                for answer in shared.iter().skip(index).step_by(CONNECTIONS) {
                    told.push(send_alone(client, operator, answer).await?);
                }
                anyhow::Ok(told)
            })
            .await;
        at_once.push(begun.elapsed());
        shares.into_iter().collect::<Result<Vec<_>>>()?;
        for (number, (of_batch, alone)) in batch.iter().zip(&single).enumerate() {
            ensure!(of_batch == alone, "round {round}, answer {number}: {of_batch:?} in a batch, {alone:?} alone");
        }
    }
    for agent in &agents {
        take_all(&mut crowd, agent).await;
    }
    // What still needs a second approval is rejected.
    let pending = scene.sql("SELECT request_id FROM hitl_requests WHERE status = 'pending'")?;
    for request_id in pending.lines() {
        client.decide_until_answered(&scene.operators[2], request_id, false).await;
    }
    for agent in &agents {
        take_all(&mut crowd, agent).await;
    }
    settle(scene, &mut client).await?;
    let findings = judge(scene).await?;
    let [together, in_a_row, at_once] = [together, in_a_row, at_once].map(|times| median(times).as_millis());
    findings.verdict(&format!(
        "{} × {ANSWERS} answers alike; medians: one call {together} ms, {ANSWERS} calls {in_a_row} ms in a row, {at_once} ms \
         on {CONNECTIONS} connections",
        scene.count
    ))
}

/// An answer to be sent.
struct Answer {
    request_id: String,
    body: Value,
}

/// Requests, half of which one approval decides; and answers to them of every kind: approvals, rejections, another action's
/// digest, what somebody else has decided before.
async fn ask(scene: &Scene<'_>, client: &mut Client, agents: &[Agent], prefix: &str) -> Result<Vec<Answer>> {
    let mut answers = Vec::with_capacity(ANSWERS);
    for number in 0..ANSWERS {
        let key = format!("{prefix}-{number}");
        let request_id = client.submit_until_answered(&agents[number % 2], &key).await;
        let mut body = json!({"decision": "approve", "action_digest": action_digest(&key)});
        match number % 10 {
            3 => body = json!({"decision": "reject", "reason": "No", "action_digest": action_digest(&key)}),
            6 => body["action_digest"] = action_digest("another").into(),
            8 => client.decide_until_answered(&scene.operators[1], &request_id, false).await,
            _ => {}
        }
        answers.push(Answer { request_id, body });
    }
    Ok(answers)
}

/// What is alike, however it was sent: status, kind, outcome or code, and approvals.
type Told = (u64, &'static str, String, Value);

async fn send_together(client: &mut Client, operator: &Person, answers: &[Answer]) -> Result<Vec<Told>> {
    let decisions = answers.iter().map(|answer| {
        let mut body = answer.body.clone();
        body["request_id"] = answer.request_id.as_str().into();
        body
    });
    let body = json!({"decisions": decisions.collect::<Vec<_>>()});
    let said = client.must(Caller::Person(operator), Method::POST, "/v1/hitl/decisions", Some(&body), 200).await?;
    let results = said["results"].as_array().context("a batch has no results")?;
    ensure!(results.len() == answers.len(), "{} results of {} answers", results.len(), answers.len());
    let told = results.iter().zip(answers).map(|(result, answer)| {
        ensure!(result["request_id"] == answer.request_id.as_str(), "the results are in another order");
        let status = result["http_status"].as_u64().unwrap_or_default();
        let body = ["decision", "vote", "problem"].into_iter().find_map(|member| result.get(member));
        told(client, operator, &answer.request_id, status, body.unwrap_or(&Value::Null))
    });
    told.collect()
}

async fn send_alone(client: &mut Client, operator: &Person, answer: &Answer) -> Result<Told> {
    let path = format!("/v1/hitl/requests/{}/decision", answer.request_id);
    let reply = client.call(Caller::Person(operator), Method::POST, &path, Some(&answer.body)).await;
    let reply = reply.context("an answer was not answered")?;
    told(client, operator, &answer.request_id, reply.status.as_u16().into(), &reply.body)
}

/// Notes what an operator was told, and gives what is alike of it.
fn told(client: &Client, operator: &Person, request_id: &str, status: u64, body: &Value) -> Result<Told> {
    let (request_id, operator) = (request_id.to_owned(), operator.id.clone());
    let kind = match (&body["outcome"], &body["approvals"], &body["code"]) {
        (Value::String(outcome), ..) => {
            client.history().add(Record::Decided { request_id, outcome: outcome.clone(), operator });
            "decision"
        }
        (_, Value::Object(_), _) => {
            client.history().add(Record::Voted { request_id, operator });
            "vote"
        }
        (.., Value::String(_)) => "problem",
        _ => anyhow::bail!("{request_id}: {status} {body}"),
    };
    let what = if kind == "problem" { text(body, "code") } else { text(body, "outcome") };
    Ok((status, kind, what, body["approvals"].clone()))
}
