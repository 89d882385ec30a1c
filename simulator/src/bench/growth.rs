//! Many stored requests: made by SQL, straight into the tables, and what the queue costs then.

use std::time::Instant;

use anyhow::Result;
use bytes::Bytes;
use hyper::{Method, StatusCode};

use super::floor::Side;
use super::rows::{ACTION_TYPE, ASKERS, Batch, DIGEST_HEX};
use super::stack::Stack;
use crate::http::Connection;

/// Ids of their own.
const STORED: Batch = Batch { number: 0xffff, group: ASKERS };
/// Requests that one statement stores.
const AT_ONCE: u64 = 50_000;
/// One hears of every so many.
const TELL_EVERY: u64 = 500_000;

/// Stores requests until there are so many: 1 in 100 is pending, the others were decided and acknowledged in the last
/// six days. Their chains are whole; their envelopes are short, because nothing reads them.
pub async fn fill(Side { database, name, .. }: &Side<'_>, stored: u64) -> Result<()> {
    let condition = STORED.condition();
    let mut from = database.count(&format!("SELECT count(*) FROM hitl_requests WHERE {condition}")).await?;
    while from < stored {
        let to = stored.min(from + AT_ONCE);
        database.psql(&insert(from, to)).await?;
        from = to;
        if from % TELL_EVERY == 0 {
            eprintln!("{name}: {from} of {stored} are stored");
        }
    }
    database.psql("VACUUM (ANALYZE);\nCHECKPOINT;").await?;
    Ok(())
}

fn insert(from: u64, to: u64) -> String {
    let (id, agent, key) = (STORED.request_sql("n"), ASKERS.agent_sql("n"), STORED.key_sql("n"));
    let last = to - 1;
    format!(
        "SET synchronous_commit = off;
        WITH asked AS MATERIALIZED (
            SELECT {id} AS id, {agent} AS agent_id, {key} AS key, n % 100 <> 0 AS decided, (1 + n % 3)::int2 AS priority,
                now() - make_interval(secs => 60 + n % 500000) AS at, '\\x{DIGEST_HEX}'::bytea AS digest
            FROM generate_series({from}, {last}) AS n
        ), submitted AS MATERIALIZED (
            SELECT a.*, chain_genesis(id) AS prev1,
                chain_entry(id, 1, 'submitted', at, chain_actor('agent', agent_id, NULL), '') AS entry1
            FROM asked a
        ), first AS MATERIALIZED (
            SELECT s.*, sha256(prev1 || entry1) AS hash1,
                chain_entry(id, 2, 'decided', at, chain_actor('operator', 'maria', 'Maria K.'),
                    '\"outcome\":\"approved\",\"cause\":\"operator\"') AS entry2,
                chain_entry(id, 3, 'acknowledged', at, chain_actor('agent', agent_id, NULL), '\"attempt\":1') AS entry3
            FROM submitted s
        ), second AS MATERIALIZED (
            SELECT f.*, sha256(hash1 || entry2) AS hash2 FROM first f
        ), third AS MATERIALIZED (
            SELECT s.*, sha256(hash2 || entry3) AS hash3 FROM second s
        ), requests AS (
            INSERT INTO hitl_requests (request_id, agent_id, client_request_key, priority, title, action_type,
                action_digest, status, created_at, respond_by, on_timeout, changed_at, chain_length, chain_head)
            SELECT id, agent_id, key, priority, 'Refund to a customer, stored as ' || key, '{ACTION_TYPE}', digest,
                CASE WHEN decided THEN 'decided' ELSE 'pending' END, at,
                CASE WHEN decided THEN at + interval '4 hours' ELSE now() + interval '8 hours' END, 'auto_reject', at,
                CASE WHEN decided THEN 3 ELSE 1 END, CASE WHEN decided THEN hash3 ELSE hash1 END
            FROM third
        ), envelopes AS (
            INSERT INTO request_envelopes (request_id, envelope) SELECT id, '{{}}' FROM third
        ), dedupe AS (
            INSERT INTO request_dedupe (agent_id, client_request_key, fingerprint, request_id, expires_at)
            SELECT agent_id, key, digest, id, at + interval '7 days' FROM third
        ), decisions AS (
            INSERT INTO hitl_decisions (request_id, outcome, cause, decided_by_kind, decided_by_id, decided_at, chain_seq)
            SELECT id, 'approved', 'operator', 'operator', 'maria', at, 2 FROM third WHERE decided
        ), deliveries AS (
            INSERT INTO deliveries (request_id, agent_id, state, attempt, visible_at, expires_at, delivery_id, result)
            SELECT id, agent_id, 'acknowledged', 1, at, at + interval '1 day', id, 'accepted' FROM third WHERE decided
        )
        INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
        SELECT id, 1, 'submitted', at, entry1, prev1, hash1 FROM third
        UNION ALL SELECT id, 2, 'decided', at, entry2, hash1, hash2 FROM third WHERE decided
        UNION ALL SELECT id, 3, 'acknowledged', at, entry3, hash2, hash3 FROM third WHERE decided;"
    )
}

/// What the queue's pages take, in milliseconds: the median of some calls, by their query.
pub async fn queue(stack: &Stack) -> Result<Vec<(&'static str, f64)>> {
    const CALLS: usize = 9;
    const QUERIES: [&str; 5] =
        ["", "status=decided", "status=all", "status=pending&q=nothing-has-this", "status=all&q=nothing-has-this"];
    let mut operator = Connection::open(stack.address).await?;
    let mut took = Vec::new();
    for query in QUERIES {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let begun = Instant::now();
            let request = operator.request(Method::GET, &format!("/v1/hitl/requests?{query}"), &stack.operators[0]);
            let answer = operator.send(request, Bytes::new()).await?;
            // What takes too long is refused: the time until then counts.
            if answer.status != StatusCode::SERVICE_UNAVAILABLE {
                answer.expect(StatusCode::OK)?;
            }
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        took.push((if query.is_empty() { "first page" } else { query }, times[CALLS / 2]));
    }
    Ok(took)
}
