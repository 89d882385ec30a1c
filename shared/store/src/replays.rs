//! Replays: deliveries or events that go out again, batch by batch.
//!
//! A batch is ONE statement: the replay's row is locked, some requests after its position are looked at, and the
//! position moves on together with what was done to them. Two workers do no harm: the second finds the row locked. A
//! crash loses nothing: the next batch starts where the last committed one ended. The first pass only counts, so that
//! counting is bounded too; the second does the work.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::database::Database;
use crate::redeliveries::redelivering;
use crate::sweep_failures::described;
use crate::{OutboxEvent, Scope};
use relaytrace_domain::Failure;
use relaytrace_domain::{ActorKind, AgentId, ReplayKey, ReplayScope, ReplayState, ReplayTarget, RequestId, TenantId};
use relaytrace_domain::{Error, Result};

/// What an administrator orders.
#[derive(Clone, Debug)]
pub struct ReplayOrder<'a> {
    /// Its id, if it is new.
    pub replay_id: Uuid,
    /// The same key is the same replay.
    pub replay_key: &'a ReplayKey,
    /// What goes out again.
    pub target: ReplayTarget,
    /// Of which requests.
    pub scope: &'a ReplayScope,
    /// Why.
    pub reason: &'a str,
    /// Who orders it, and of which tenant.
    pub by: &'a Scope,
    /// Only count.
    pub dry_run: bool,
}

/// A replay as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Names it.
    pub replay_id: Uuid,
    /// The administrator's own key.
    pub replay_key: ReplayKey,
    /// What goes out again.
    pub target: ReplayTarget,
    /// Of which requests: JSON.
    pub scope: String,
    /// Why.
    pub reason: String,
    /// The administrator.
    pub requested_by: String,
    /// Only count.
    pub dry_run: bool,
    /// How far it is.
    pub state: ReplayState,
    /// Items in scope, as far as they are counted.
    pub matched: i64,
    /// Items sent out again so far.
    pub done: i64,
    /// When it was ordered.
    pub created_at: DateTime<Utc>,
    /// When all items were counted.
    pub counted_at: Option<DateTime<Utc>>,
    /// When it was done.
    pub finished_at: Option<DateTime<Utc>>,
    /// What went wrong with the latest batch.
    pub error_message: Option<String>,
}

/// The result of one batch.
#[derive(Clone, Debug)]
pub struct ReplayBatch {
    /// Whether there is more to do.
    pub state: ReplayState,
    /// Events that are to be published.
    pub events: Vec<OutboxEvent>,
}

struct Row {
    state: ReplayState,
    request_id: Option<RequestId>,
    seq: Option<i32>,
    kind: Option<String>,
    agent_id: Option<AgentId>,
    payload: Option<Vec<u8>>,
}

/// The statement of one batch: which `$items` of the looked-at requests are in scope, and the `$work` on them.
///
/// `$work`, literals in brackets, ends with the CTEs `announced` (events to publish) and `progress` (one row: `matched`, `done`). Parameters:
/// $1 now, $2 the replay, $3 whether it is the counting pass, $4 requests looked at; the work's own start at $5.
///
/// A period is scanned in the order of time, by an index on decisions or entries (`$timed`, from the position
/// `p.position_at` on). So its cost follows its own rows only. A batch holds all rows of its last point in time, so
/// that a point in time is a position.
macro_rules! batch {
    (deliveries: $name:literal, $work:tt $($argument:expr),* $(,)?) => {
        batch!(
            "SELECT h.request_id, h.decided_at AS at FROM hitl_decisions h
                WHERE h.tenant_id = p.tenant_id AND h.decided_at >= p.from_at AND h.decided_at < p.to_at
                    AND h.decided_at > p.position_at AND h.decided_at <= p.created_at",
            "h.decided_at",
            "items AS MATERIALIZED (
                SELECT c.request_id, c.is_named
                FROM replay p CROSS JOIN candidates c
                JOIN hitl_decisions h ON h.request_id = c.request_id
                JOIN deliveries d ON d.request_id = c.request_id
                WHERE h.decided_at <= p.created_at
                    AND (c.is_named OR d.state = 'dead_lettered' OR p.from_at IS NOT NULL AND d.state <> 'acknowledged')
                    AND (p.from_at IS NULL OR h.decided_at >= p.from_at AND h.decided_at < p.to_at
                        AND h.decided_at > p.position_at AND h.decided_at <= (SELECT w.until FROM within w))
            )",
            $name, $work $($argument),*
        )
    };
    (events: $name:literal, $work:tt $($argument:expr),* $(,)?) => {
        batch!(
            "SELECT a.request_id, a.at FROM approval_chain a
                WHERE a.at >= p.from_at AND a.at < p.to_at AND a.at > p.position_at AND a.at <= p.created_at",
            "a.at",
            "items AS MATERIALIZED (
                SELECT a.request_id, a.seq, a.kind, a.at, a.hash
                FROM replay p CROSS JOIN candidates c
                JOIN approval_chain a ON a.request_id = c.request_id
                WHERE a.kind NOT IN ('extended', 'reprioritised') AND a.at <= p.created_at
                    AND (p.from_at IS NULL OR a.at >= p.from_at AND a.at < p.to_at
                        AND a.at > p.position_at AND a.at <= (SELECT w.until FROM within w))
            )",
            $name, $work $($argument),*
        )
    };
    ($timed:literal, $at:literal, $items:literal, $name:literal, [$($work:literal)*] $($argument:expr),*) => {
        sqlx::query_as!(
            Row,
            "/* relaytrace: " + $name + r#" */ WITH replay AS MATERIALIZED (
                SELECT p.replay_id, p.scope, p.reason, p.requested_by, p.requested_by_name, p.created_at, p.dry_run, p.tenant_id,
                    COALESCE(p.position, '00000000-0000-0000-0000-000000000000') AS position,
                    COALESCE(p.position_at, '-infinity') AS position_at, p.scope ->> 'agent_id' AS agent_id,
                    (p.scope ->> 'from')::timestamptz AS from_at, (p.scope ->> 'to')::timestamptz AS to_at
                FROM replays p
                WHERE p.replay_id = $2 AND p.state = 'running' AND (p.counted_at IS NULL) = $3
                FOR NO KEY UPDATE SKIP LOCKED
            ), piece AS MATERIALIZED (
                SELECT t.at FROM replay p CROSS JOIN LATERAL ("# + $timed + " ORDER BY " + $at + r#" LIMIT $4) t
            ), within AS MATERIALIZED (
                SELECT count(*) AS looked_at, max(at) AS until FROM piece
            ), looked_at AS MATERIALIZED (
                -- Bounded whatever matches.
                (SELECT i.request_id::uuid AS request_id, true AS is_named
                FROM replay p CROSS JOIN LATERAL jsonb_array_elements_text(p.scope -> 'request_ids') i (request_id)
                WHERE i.request_id::uuid > p.position ORDER BY 1 LIMIT $4)
                UNION ALL
                (SELECT DISTINCT t.request_id, false
                FROM replay p CROSS JOIN within w CROSS JOIN LATERAL (
                    "# + $timed + " AND " + $at + r#" <= w.until
                ) t)
                UNION ALL
                (SELECT x.request_id, false
                FROM replay p CROSS JOIN LATERAL (
                    SELECT x.request_id FROM dead_letters x
                    WHERE p.scope ? 'dead_letters' AND x.kind = 'delivery' AND x.resolved_at IS NULL
                        AND x.last_at <= p.created_at AND x.request_id > p.position
                    ORDER BY x.request_id LIMIT $4
                ) x)
            ), candidates AS MATERIALIZED (
                SELECT l.request_id, l.is_named
                FROM replay p CROSS JOIN looked_at l JOIN hitl_requests r ON r.request_id = l.request_id
                WHERE r.tenant_id = p.tenant_id AND (
                    p.from_at IS NULL OR r.agent_id = COALESCE(p.agent_id, r.agent_id)
                )
            ), "# + $items + ", " $(+ $work)* + r#", passed AS (
                SELECT GREATEST(w.looked_at, l.looked_at) < $4 AS is_last, l.position, w.until
                FROM within w CROSS JOIN (
                    SELECT count(*) AS looked_at, (array_agg(request_id ORDER BY request_id DESC))[1] AS position
                    FROM looked_at WHERE (SELECT p.from_at IS NULL FROM replay p)
                ) l
            ), advanced AS (
                UPDATE replays r
                SET matched = r.matched + g.matched, done = r.done + g.done, failures = 0, retry_at = NULL,
                    position = CASE WHEN s.is_last AND $3 THEN NULL ELSE COALESCE(s.position, r.position) END,
                    position_at = CASE WHEN s.is_last AND $3 THEN NULL ELSE COALESCE(s.until, r.position_at) END,
                    counted_at = CASE WHEN s.is_last AND $3 THEN at_or_now($1) ELSE r.counted_at END,
                    state = CASE WHEN s.is_last AND (r.dry_run OR NOT $3) THEN 'finished' ELSE 'running' END,
                    finished_at = CASE WHEN s.is_last AND (r.dry_run OR NOT $3)
                        THEN at_or_now($1) END
                FROM replay p, passed s, progress g WHERE r.replay_id = p.replay_id
                RETURNING r.state
            )
            SELECT v.state AS "state!: ReplayState", e.request_id AS "request_id?: RequestId", e.seq AS "seq?",
                e.kind AS "kind?", e.agent_id AS "agent_id?: AgentId", e.payload AS "payload?"
            FROM advanced v LEFT JOIN announced e ON true"#,
            $($argument),*
        )
    };
}

impl Database {
    /// Orders a replay, or finds the replay of its key. The flag says whether it is new.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the key stands for another order, [`Error::Invalid`] where the agent is not known.
    pub async fn order_replay(&self, order: &ReplayOrder<'_>) -> Result<(Replay, bool)> {
        let scope = serde_json::to_string(order.scope).map_err(Error::internal)?;
        let made = self
            .execute(|| {
                sqlx::query_file!(
                    "sql/order_replay.sql",
                    self.clock().for_database(),
                    order.replay_id,
                    order.replay_key.as_str(),
                    order.target as ReplayTarget,
                    scope,
                    order.reason,
                    order.by.actor.id,
                    order.by.actor.name,
                    order.dry_run,
                    order.scope.agent_id().map(AgentId::as_str),
                    order.by.tenant.as_str(),
                    order.by.actor.kind as ActorKind,
                )
            })
            .await?;
        let is_new = made.rows_affected() == 1;
        let replay = self.find_replay(Some(&order.by.tenant), None, Some(order.replay_key), &scope).await?;
        let Some((replay, same_scope)) = replay else {
            return Err(Error::invalid("/scope/agent_id", "is not a registered agent"));
        };
        let is_same = same_scope
            && replay.target == order.target
            && replay.reason == order.reason
            && replay.dry_run == order.dry_run;
        if is_same { Ok((replay, is_new)) } else { Err(Error::Conflict("the replay_key stands for another replay")) }
    }

    /// How a replay stands.
    pub async fn replay(&self, scope: &Scope, replay_id: Uuid) -> Result<Option<Replay>> {
        Ok(self.find_replay(Some(&scope.tenant), Some(replay_id), None, "null").await?.map(|(replay, _)| replay))
    }

    /// The replay of this id or key, and whether its scope is this one.
    async fn find_replay(
        &self,
        tenant: Option<&TenantId>,
        replay_id: Option<Uuid>,
        replay_key: Option<&ReplayKey>,
        scope: &str,
    ) -> Result<Option<(Replay, bool)>> {
        let row = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/find_replay.sql",
                    replay_id,
                    replay_key.map(ReplayKey::as_str),
                    scope,
                    tenant.map(TenantId::as_str)
                )
            })
            .await?;
        Ok(row.map(|row| {
            let replay = Replay {
                replay_id: row.replay_id,
                replay_key: row.replay_key,
                target: row.target,
                scope: row.scope,
                reason: row.reason,
                requested_by: row.requested_by,
                dry_run: row.dry_run,
                state: row.state,
                matched: row.matched,
                done: row.done,
                created_at: row.created_at,
                counted_at: row.counted_at,
                finished_at: row.finished_at,
                error_message: row.error_message,
            };
            (replay, row.same_scope)
        }))
    }

    /// Up to `limit` unfinished replays, oldest first. A failed replay waits for its backoff.
    pub async fn running_replays(&self, limit: i64) -> Result<Vec<Uuid>> {
        let running =
            self.all(|| sqlx::query_file!("sql/running_replays.sql", self.clock().for_database(), limit)).await?;
        Ok(running.into_iter().map(|replay| replay.replay_id).collect())
    }

    /// Notes that a batch of it failed; after too many in a row the replay itself has.
    pub async fn note_replay_failure(&self, replay_id: Uuid, error: &Error) -> Result<()> {
        self.execute(|| {
            sqlx::query_file!(
                "sql/note_replay_failure.sql",
                self.clock().for_database(),
                replay_id,
                described(error).1,
                Failure::ReplayBatch.tries().cast_signed(),
                Failure::ReplayBatch.pause().as_secs_f64(),
            )
        })
        .await?;
        Ok(())
    }

    /// One batch of a replay over up to `limit` requests. `None`: it is finished, or someone else is at it.
    ///
    /// A replayed delivery is due at once.
    pub async fn advance_replay(&self, replay_id: Uuid, limit: i64) -> Result<Option<ReplayBatch>> {
        let found = self.find_replay(None, Some(replay_id), None, "null").await?;
        let Some((replay, _)) = found.filter(|(replay, _)| replay.state == ReplayState::Running) else {
            return Ok(None);
        };
        let rows = match (replay.counted_at, replay.target) {
            (None, target) => self.count_batch(replay_id, target, limit).await?,
            (Some(_), ReplayTarget::Deliveries) => self.delivery_batch(replay_id, limit).await?,
            (Some(_), ReplayTarget::Events) => self.event_batch(replay_id, limit).await?,
        };
        let Some(state) = rows.first().map(|row| row.state) else { return Ok(None) };
        Ok(Some(ReplayBatch { state, events: rows.into_iter().filter_map(Row::event).collect() }))
    }

    async fn count_batch(&self, replay_id: Uuid, target: ReplayTarget, limit: i64) -> Result<Vec<Row>> {
        macro_rules! counting {
            ($target:ident: $name:literal) => {
                self.all(|| batch!(
                        $target: $name,
                        ["announced AS (
                            SELECT request_id, seq, kind, agent_id, payload FROM outbox WHERE false
                        ), progress AS (
                            SELECT count(*) AS matched, 0 AS done FROM items
                        )"]
                        self.clock().for_database(), replay_id, true, limit,
                    )).await
            };
        }
        match target {
            ReplayTarget::Deliveries => counting!(deliveries: "count_replayed_deliveries"),
            ReplayTarget::Events => counting!(events: "count_replayed_events"),
        }
    }

    /// Makes deliveries due again. Decisions stay as they are.
    async fn delivery_batch(&self, replay_id: Uuid, limit: i64) -> Result<Vec<Row>> {
        self.all(|| {
            redelivering!(
                batch!(deliveries: "replay_deliveries",)
                r#"request AS (
                    -- Waited for, not skipped: the position moves past them.
                    SELECT r.request_id, r.tenant_id, r.agent_id, r.client_request_key, r.priority,
                        COALESCE(r.approved_digest, r.action_digest) AS action_digest, r.changed_at, r.chain_length,
                        r.chain_head, i.is_named
                    FROM hitl_requests r JOIN items i ON i.request_id = r.request_id
                    ORDER BY r.request_id
                    FOR NO KEY UPDATE OF r
                ), delivery AS (
                    SELECT r.*, d.attempt, d.state AS old_state, d.dead_letter_id, p.replay_id, 'admin' AS actor_kind,
                        p.requested_by AS actor_id, p.requested_by_name AS actor_name, p.reason,
                        NULL::text AS traceparent, $5::double precision AS max_age
                    FROM request r
                    JOIN deliveries d ON d.request_id = r.request_id AND (r.is_named OR d.state <> 'acknowledged')
                    CROSS JOIN replay p
                    FOR NO KEY UPDATE OF d
                )"#
                ", progress AS (
                    SELECT 0 AS matched, count(*) AS done FROM linked
                )"
                self.clock().for_database(),
                replay_id,
                false,
                limit,
                self.rules.max_age_seconds,
            )
        })
        .await
    }

    /// Puts events into the outbox again, with the ids and bytes that they had.
    async fn event_batch(&self, replay_id: Uuid, limit: i64) -> Result<Vec<Row>> {
        self.all(|| batch!(
                events: "replay_events",
                [r#"rebuilt AS MATERIALIZED (
                    SELECT i.request_id, i.seq, r.agent_id, k.kind,
                        handoff_event(k.kind, i.request_id, i.seq, i.at, r.agent_id, r.client_request_key, s.priority,
                            -- From the decision on it is the approved action's, edited or not.
                            CASE WHEN h.request_id IS NULL THEN r.action_digest
                                ELSE COALESCE(r.approved_digest, r.action_digest) END,
                            i.hash, h.outcome, h.cause, r.tenant_id) AS payload
                    FROM items i
                    JOIN hitl_requests r ON r.request_id = i.request_id
                    CROSS JOIN LATERAL (
                        SELECT CASE i.kind WHEN 'submitted' THEN 'requested' ELSE i.kind END AS kind
                    ) k
                    CROSS JOIN LATERAL (
                        -- The priority as it was at that entry.
                        SELECT substr(convert_from(c.entry, 'UTF8')::json ->> 'priority', 2)::smallint AS priority
                        FROM approval_chain c
                        WHERE c.request_id = i.request_id AND c.seq <= i.seq AND c.kind IN ('submitted', 'reprioritised')
                        ORDER BY c.seq DESC LIMIT 1
                    ) s
                    LEFT JOIN hitl_decisions h ON h.request_id = i.request_id AND h.chain_seq <= i.seq
                ), announced AS (
                    -- What still waits there goes out anyway.
                    -- For the stream alone: channels were told when it happened.
                    INSERT INTO outbox (request_id, seq, kind, agent_id, payload, traceparent, created_at, claimed_until,
                        told)
                    SELECT request_id, seq, kind, agent_id, payload, NULL, at_or_now($1),
                        at_or_now($1) + interval '10 seconds', true
                    FROM rebuilt ORDER BY request_id, seq
                    ON CONFLICT (request_id, seq) DO NOTHING
                    RETURNING request_id, seq, kind, agent_id, payload
                ), progress AS (
                    SELECT 0 AS matched, count(*) AS done FROM items
                )"#]
                self.clock().for_database(),
                replay_id,
                false,
                limit,
            )).await
    }
}

impl Row {
    fn event(self) -> Option<OutboxEvent> {
        Some(OutboxEvent {
            request_id: self.request_id?,
            seq: self.seq?,
            kind: self.kind?,
            agent_id: self.agent_id?,
            payload: self.payload?,
            traceparent: None,
        })
    }
}
