//! Submissions beside rules: where 100 are in force and 3 of them match, beside none; and one that a rule approves, beside one
//! that waits for a person.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::named::Rates;
use super::report::middle;
use super::rows::{ACTION_TYPE, Batch, Envelopes};
use super::stack::Stack;
use crate::agent::Agent;
use crate::http::Connection;

/// Rules in force.
pub const RULES: usize = 100;
/// Those of them that match what is submitted, by agent, type and priority.
pub const MATCHING: usize = 3;
/// Of the rate beside none, at the least.
pub const BOUND: f64 = 0.9;
/// Submissions of each kind whose time is taken.
const TIMED: u64 = 1_000;
const WARM_UP: u64 = 50;

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct BesideRules {
    /// Submissions per second of each run, without rules and with them.
    pub rates: Vec<Rates>,
    /// Median of a submission that waits and of one that a rule approves, in milliseconds.
    pub p50: [f64; 2],
}

/// The document: most are about another agent, another type or another argument; of three that match one holds.
pub fn document() -> Value {
    let of_others = (0..RULES - MATCHING).map(|number| {
        let of = if number % 2 == 0 {
            json!({"agents": [format!("another-{number}")], "arguments": {"/amount": {"lte": number}}})
        } else {
            json!({"action_types": [format!("another.{number}.*")], "arguments": {"/currency": {"equals": "EUR"}}})
        };
        rule(&format!("other {number}"), &of)
    });
    let large = json!({"action_types": ["refund.*"], "arguments": {"/amount": {"gt": 1_000_000}}});
    let foreign = json!({"action_types": [ACTION_TYPE], "arguments": {"/amount": {"gt": 500_000, "lt": "600000.00"}}});
    let own = [rule("large", &large), rule("between", &foreign), rule("all", &json!({}))];
    of_others.chain(own).collect()
}

fn rule(name: &str, of: &Value) -> Value {
    json!({"name": name, "mode": "enforce", "match": of, "then": {"ask": {}}})
}

/// Sets the rules, whatever stood before.
pub async fn set(stack: &Stack, rules: &Value) -> Result<()> {
    let mut connection = Connection::open(stack.address).await?;
    let standing =
        connection.send(connection.request(Method::GET, "/v1/admin/rules", &stack.admin), Bytes::new()).await?;
    standing.expect(StatusCode::OK)?;
    let version = standing.json()?["version"].as_u64().context("the rules have no version")?;
    let request = connection.request(Method::PUT, "/v1/admin/rules", &stack.admin);
    let body = json!({"rules": rules, "note": "bench"}).to_string();
    let set = connection.send(request.header("if-match", format!("\"{version}\"")), body.into()).await?;
    set.expect(StatusCode::OK)
}

/// The median times, in milliseconds, of submissions that wait and of submissions that a rule approves, in turns on one connection.
pub async fn time(stack: &Stack, agents: &[Agent], batch: Batch) -> Result<[f64; 2]> {
    let (asks, approves) = (&agents[0], &agents[1]);
    let approve = json!({"decide": "approve", "reason": "bench"});
    let of = json!({"agents": [approves.id]});
    set(stack, &json!([{"name": "approves", "mode": "enforce", "match": of, "then": approve}])).await?;
    let mut connection = Connection::open(stack.address).await?;
    let envelopes = Envelopes::new();
    let mut times = [Vec::new(), Vec::new()];
    for number in 0..WARM_UP + TIMED {
        for (side, (agent, status)) in [(asks, "pending"), (approves, "decided")].into_iter().enumerate() {
            let body = envelopes.of(&agent.id, &batch.client_request_key(number * 2 + side as u64));
            let request = connection.request(Method::POST, "/v1/hitl/requests", agent.token());
            let begun = Instant::now();
            let answer = connection.send(request, body.into()).await?;
            let took = begun.elapsed();
            answer.expect(StatusCode::CREATED)?;
            ensure!(answer.json()?["status"] == status, "a submission is not {status}");
            if number >= WARM_UP {
                times[side].push(took.as_secs_f64() * 1_000.0);
            }
        }
    }
    Ok(times.map(middle))
}
