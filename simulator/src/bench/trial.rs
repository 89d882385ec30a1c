//! A draft of rules over many stored requests: how long a trial of all of them takes.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use hyper::StatusCode;
use serde_json::{Value, json};

use super::database::Database;
use super::rows::{ASKERS, DIGEST_HEX};
use super::stack::Stack;
use crate::http::Connection;

/// Requests that the draft is tried on.
const STORED: u64 = 100_000;
/// Rules of the draft.
const RULES: u64 = 100;
/// Types of action; each has as many rules.
const TYPES: u64 = 10;
/// Requests of one call.
const AT_ONCE: u64 = 2_000;
/// The longest that it may take.
const BOUND: Duration = Duration::from_mins(2);

/// A trial, measured.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    tried: u64,
    decided: u64,
    calls: u64,
    took: Duration,
}

impl Trial {
    /// Whether it was in time.
    pub fn is_met(&self) -> bool {
        self.took <= BOUND
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tried, decided, calls, took } = self;
        let (seconds, bound) = (took.as_secs_f64(), BOUND.as_secs());
        write!(
            f,
            "{RULES} rules over {tried} stored requests, {decided} of them decided by rule: {seconds:.1} s in {calls} calls (bound: {bound} s)"
        )
    }
}

/// Stores the requests and tries the draft on all of them.
pub async fn measure(stack: &Stack, database: &Database) -> Result<Trial> {
    eprintln!("{STORED} requests are stored …");
    database.psql(&insert()).await?;
    database.psql("VACUUM (ANALYZE);\nCHECKPOINT;").await?;
    let ends = database.psql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"');").await?;
    let mut body = json!({"rules": rules(), "from": "2000-01-01T00:00:00Z", "to": ends.trim(), "limit": AT_ONCE});
    let mut connection = Connection::open(stack.address).await?;
    let (mut tried, mut decided, mut calls) = (0, 0, 0);
    let begun = Instant::now();
    loop {
        let answer = connection.post("/v1/admin/rules/try", &stack.admin, &body).await?;
        answer.expect(StatusCode::OK)?;
        let page = answer.json()?;
        let count = |value: &Value| value.as_u64().unwrap_or_default();
        tried += count(&page["tried"]);
        decided += count(&page["counts"]["approved"]) + count(&page["counts"]["rejected"]);
        calls += 1;
        if page["next_cursor"].is_null() {
            break;
        }
        body["cursor"] = page["next_cursor"].clone();
    }
    let took = begun.elapsed();
    ensure!(tried >= STORED, "only {tried} of {STORED} requests were tried");
    Ok(Trial { tried, decided, calls, took })
}

/// Each type has as many rules, of bands of amounts: every request is compared with several before one holds.
fn rules() -> Vec<Value> {
    let rule = |number: u64| {
        let (kind, band) = (number % TYPES, number / TYPES);
        let amount = json!({"gte": band * 200, "lt": (band + 1) * 200});
        let then = match number % 3 {
            0 => json!({"decide": "approve", "reason": "Small"}),
            1 => json!({"decide": "reject", "reason": "Large"}),
            _ => json!({"ask": {"groups": ["ops"], "approvals": 2}}),
        };
        json!({"name": format!("rule {number}"), "mode": "enforce", "then": then, "match": {
            "action_types": [format!("bench.{kind}")],
            "arguments": {"/amount": amount, "/currency": {"in": ["EUR", "USD"]}, "/customer/id": {"prefix": "8"}}}})
    };
    (0..RULES).map(rule).collect()
}

/// Requests of the last month with an envelope of a kilobyte each; most were decided by a person.
fn insert() -> String {
    let agent = ASKERS.agent_sql("n");
    format!(
        "SET synchronous_commit = off;
        WITH asked AS MATERIALIZED (
            SELECT n, at, {agent} AS agent_id, (left(first_uuid_at(at)::text, 24) || lpad(to_hex(n), 12, '0'))::uuid AS id,
                'bench.' || n % {TYPES} AS action_type, n % 50 <> 0 AS decided, n % 5 = 0 AS rejected,
                '\\x{DIGEST_HEX}'::bytea AS digest
            FROM (SELECT n, now() - n * interval '20 seconds' AS at FROM generate_series(1, {STORED}) AS n) n
        ), requests AS (
            INSERT INTO hitl_requests (request_id, agent_id, client_request_key, priority, title, action_type,
                action_digest, status, created_at, respond_by, on_timeout, changed_at, chain_length, chain_head)
            SELECT id, agent_id, 'try-' || n, 2, 'Tried', action_type, digest,
                CASE WHEN decided THEN 'decided' ELSE 'pending' END, at, at + interval '90 days', 'auto_reject', at, 1, digest
            FROM asked
        ), envelopes AS (
            INSERT INTO request_envelopes (request_id, envelope)
            SELECT id, convert_to(jsonb_build_object('envelope_version', '1', 'agent_id', agent_id, 'client_request_key',
                'try-' || n, 'priority', 'P2', 'title', 'Tried', 'action', jsonb_build_object('type', action_type,
                'arguments', jsonb_build_object('amount', n % 2500 || '.00', 'currency', 'EUR', 'customer',
                jsonb_build_object('id', '88' || n), 'lines', jsonb_build_array(1, 2, 3))),
                'context', jsonb_build_object('notes', repeat('Charged twice. ', 45)))::text, 'UTF8')
            FROM asked
        )
        INSERT INTO hitl_decisions (request_id, outcome, cause, decided_by_kind, decided_by_id, reason, decided_at, chain_seq)
        SELECT id, CASE WHEN rejected THEN 'rejected' ELSE 'approved' END, 'operator', 'operator', 'maria',
            CASE WHEN rejected THEN 'No' END, at, 2
        FROM asked WHERE decided;"
    )
}
