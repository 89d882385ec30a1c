//! What agents say of deliveries.

use std::sync::Arc;

use uuid::Uuid;

use super::batches::{Row, column, in_order};
use super::pool::run;
use super::{Caller, OutboxEvent, Store};
use relaytrace_domain::Failure;
use relaytrace_domain::{AckResult, DeliveryState, RequestId};
use relaytrace_domain::{Error, Result};

/// What became of an acknowledgement.
#[derive(Clone, Debug)]
pub struct Acked {
    /// The delivery's state after it.
    pub state: DeliveryState,
    /// The acknowledged attempt.
    pub attempt: i32,
    /// What is to be told, if the state is a last one.
    pub event: Option<OutboxEvent>,
}

/// What an agent says of the latest attempt.
#[derive(Clone, Debug)]
pub struct Ack {
    /// Who says it.
    pub caller: Caller,
    /// The decided request.
    pub request_id: RequestId,
    /// The latest attempt's id; anything else is stale. `None`, with `accepted` only: whichever it is.
    pub delivery_id: Option<Uuid>,
    /// What.
    pub result: AckResult,
    /// Its error's code.
    pub error_code: Option<String>,
    /// Its error's message.
    pub error_message: Option<String>,
    /// After so many attempts a retry is exhausted; the same for all of a deployment.
    pub max_attempts: i32,
    /// W3C trace context of the call.
    pub traceparent: Option<String>,
}

impl Row for Ack {
    type Written = Acked;
    type Key<'a> = RequestId;

    fn key(&self) -> RequestId {
        self.request_id
    }

    fn size(&self) -> usize {
        256 + self.error_message.as_ref().map_or(0, String::len)
    }

    /// The one statement of an acknowledgement. Written over arrays; on Lambda they hold one.
    async fn write(store: &Store, rows: &[&Self]) -> Result<Vec<Option<Acked>>> {
        let acked = run!(store, connection => sqlx::query!(
                    r#"/* relaytrace: acknowledge */
                    WITH input AS (
                        SELECT * FROM UNNEST($2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[],
                            $8::text[], $9::text[])
                        AS i (request_id, delivery_id, agent_id, key_id, result, error_code, error_message, traceparent)
                    ), request AS (
                        SELECT r.request_id, r.agent_id, r.client_request_key, r.priority, r.action_digest, r.changed_at,
                            r.chain_length, r.chain_head
                        FROM hitl_requests r
                        JOIN input i ON i.request_id = r.request_id AND i.agent_id = r.agent_id
                        JOIN agent_keys k ON k.key_id = i.key_id AND k.agent_id = i.agent_id AND k.revoked_at IS NULL
                        JOIN agents a ON a.agent_id = i.agent_id AND a.status = 'active'
                        ORDER BY r.request_id
                        FOR NO KEY UPDATE OF r
                    ), delivery AS (
                        SELECT r.*, i.result, i.error_code, i.error_message, i.traceparent,
                            d.attempt, d.state AS old_state, d.visible_at AS first_at
                        FROM request r
                        JOIN input i USING (request_id)
                        JOIN deliveries d ON d.request_id = r.request_id
                            AND CASE WHEN i.delivery_id IS NULL
                                -- Only accepted comes without: it ends whichever delivery there is.
                                THEN i.result = 'accepted' AND d.state <> 'acknowledged'
                                -- Said once; but accepted wins over the retry or failed of the same delivery. It is no
                                -- answer to a delivery that was accepted and replayed since.
                                ELSE d.delivery_id = i.delivery_id
                                    AND (d.result IS NULL OR (i.result = 'accepted' AND d.result <> 'accepted'))
                            END
                        FOR NO KEY UPDATE OF d
                    ), judged AS MATERIALIZED (
                        SELECT d.*, GREATEST(d.changed_at, COALESCE($1::timestamptz, clock_timestamp())) AS at,
                            CASE
                                WHEN d.result = 'accepted' THEN 'acknowledged'
                                WHEN d.result = 'failed' OR d.attempt >= $10::integer OR d.old_state = 'dead_lettered'
                                    THEN 'dead_lettered'
                                ELSE 'ready'
                            END AS new_state,
                            CASE WHEN d.result = 'failed' THEN 'agent_failed' ELSE 'attempts_exhausted' END AS cause
                        FROM delivery d
                    ), acked AS (
                        UPDATE deliveries d
                        SET state = j.new_state, result = j.result, error_code = j.error_code,
                            error_message = j.error_message,
                            visible_at = CASE WHEN j.new_state = 'ready'
                                THEN j.at + make_interval(secs => random() * LEAST($11::double precision, 2.0 ^ LEAST(d.attempt - 1, 20)))
                                ELSE d.visible_at END
                        FROM judged j WHERE d.request_id = j.request_id
                        RETURNING d.request_id
                    ), entries AS MATERIALIZED (
                        SELECT j.*, j.chain_length + 1 AS seq,
                            chain_entry(j.request_id, j.chain_length + 1, j.new_state, j.at,
                                chain_actor('agent', j.agent_id, NULL),
                                '"attempt":' || j.attempt || CASE WHEN j.new_state = 'dead_lettered'
                                    THEN ',"cause":"' || j.cause || '"' ELSE '' END) AS entry
                        FROM judged j
                        WHERE j.new_state IN ('acknowledged', 'dead_lettered') AND j.new_state <> j.old_state
                    ), linked AS MATERIALIZED (
                        SELECT e.*, sha256(e.chain_head || e.entry) AS hash FROM entries e
                    ), requests AS (
                        UPDATE hitl_requests r SET changed_at = l.at, chain_length = l.seq, chain_head = l.hash
                        FROM linked l WHERE r.request_id = l.request_id
                    ), chain AS (
                        INSERT INTO approval_chain (request_id, seq, kind, at, entry, prev_hash, hash)
                        SELECT request_id, seq, new_state, at, entry, chain_head, hash FROM linked
                    ), resolved AS (
                        UPDATE dead_letters x SET resolved_at = l.at, resolution = 'acknowledged', resolved_by = l.agent_id
                        FROM linked l
                        WHERE x.request_id = l.request_id AND x.kind = 'delivery' AND x.resolved_at IS NULL
                            AND l.new_state = 'acknowledged'
                    ), set_aside AS (
                        INSERT INTO dead_letters (dead_letter_id, kind, request_id, agent_id, cause, attempts, error_code,
                            error_message, first_at, last_at)
                        SELECT gen_random_uuid(), 'delivery', request_id, agent_id, cause, attempt, error_code,
                            error_message, LEAST(first_at, at), at
                        FROM linked WHERE new_state = 'dead_lettered'
                    ), announced AS (
                        INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until)
                        SELECT l.request_id, l.seq, l.new_state, l.agent_id,
                            handoff_event(l.new_state, l.request_id, l.seq, l.at, l.agent_id, l.client_request_key,
                                l.priority, l.action_digest, l.hash, h.outcome, h.cause),
                            l.traceparent, l.at, l.at + interval '10 seconds'
                        FROM linked l JOIN hitl_decisions h USING (request_id)
                        RETURNING request_id, seq, kind, payload
                    )
                    SELECT j.request_id AS "request_id!: RequestId", j.new_state AS "state!: DeliveryState", j.attempt AS "attempt!",
                        e.seq AS "seq?", e.kind AS "kind?", e.payload AS "payload?"
                    FROM judged j JOIN acked USING (request_id) LEFT JOIN announced e USING (request_id)"#,
                    store.clock().for_database(),
                    &column(rows, |row| row.request_id.0),
                    &column(rows, |row| row.delivery_id) as &[Option<Uuid>],
                    &column(rows, |row| row.caller.agent_id.as_str()) as &[&str],
                    &column(rows, |row| row.caller.key_id.as_str()) as &[&str],
                    &column(rows, |row| row.result) as &[AckResult],
                    &column(rows, |row| row.error_code.as_deref()) as &[Option<&str>],
                    &column(rows, |row| row.error_message.as_deref()) as &[Option<&str>],
                    &column(rows, |row| row.traceparent.as_deref()) as &[Option<&str>],
                    rows.first().map_or(0, |row| row.max_attempts),
                    Failure::DeliveryRetried.pause().as_secs_f64(),
                )
                .fetch_all(connection))?;
        let acked = in_order(rows, |row| row.request_id, acked.into_iter().map(|acked| (acked.request_id, acked)));
        let told = rows.iter().zip(acked).map(|(row, acked)| {
            let acked = acked?;
            let event = match (acked.seq, acked.kind, acked.payload) {
                (Some(seq), Some(kind), Some(payload)) => Some(OutboxEvent {
                    request_id: row.request_id,
                    seq,
                    kind,
                    agent_id: row.caller.agent_id.clone(),
                    payload,
                    traceparent: row.traceparent.clone(),
                }),
                _ => None,
            };
            Some(Acked { state: acked.state, attempt: acked.attempt, event })
        });
        Ok(told.collect())
    }
}

impl Store {
    /// Records what an agent says of its latest attempt.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active, [`Error::NotFound`],
    /// [`Error::StaleDelivery`], [`Error::Conflict`] where no delivery is named and there is none.
    pub async fn acknowledge(&self, ack: Ack) -> Result<Acked> {
        let ack = Arc::new(ack);
        match self.write(|batched| &batched.acknowledging, &ack).await? {
            Some(acked) => Ok(acked),
            None => self.acknowledged_before(&ack).await,
        }
    }

    /// Why an acknowledgement changed nothing: it was said before, or is not of the latest attempt.
    async fn acknowledged_before(&self, ack: &Ack) -> Result<Acked> {
        self.request_of(&ack.caller, ack.request_id).await?;
        let delivery = run!(self, connection => sqlx::query!(
                    r#"SELECT state AS "state: DeliveryState", attempt FROM deliveries
                    WHERE request_id = $1
                        AND CASE WHEN $2::uuid IS NULL THEN state = 'acknowledged'
                            ELSE delivery_id = $2 AND result IS NOT NULL END"#,
                    ack.request_id.0,
                    ack.delivery_id,
                )
                .fetch_optional(connection))?;
        let delivery = delivery.ok_or(match ack.delivery_id {
            Some(_) => Error::StaleDelivery,
            None => Error::Conflict("the request is not decided: there is nothing to acknowledge"),
        })?;
        Ok(Acked { state: delivery.state, attempt: delivery.attempt, event: None })
    }
}
