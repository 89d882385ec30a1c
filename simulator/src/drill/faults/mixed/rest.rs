//! After the mix: everything is brought to its end, and what did not come there is found.

use super::{AGENTS, Board, Client, Duration, Instant, Result, Scene, ensure};
use crate::drill::load::wait_for_events;

/// Longest wait for everything to be decided and delivered: attempts that were not acknowledged are due again after a
/// backoff.
const PATIENCE: Duration = Duration::from_mins(3);

/// The counters of caps, held against the rows that they count.
pub fn judge_counters(scene: &Scene<'_>, when: &str) -> Result<()> {
    let differing = "SELECT c.agent_id, c.pending, c.pending_p1, count(r.request_id),
            count(r.request_id) FILTER (WHERE r.priority = 1)
        FROM agent_caps c
        LEFT JOIN hitl_requests r ON r.agent_id = c.agent_id AND r.status = 'pending' AND r.counted
        GROUP BY c.agent_id
        HAVING c.pending <> count(r.request_id)
            OR c.pending_p1 <> count(r.request_id) FILTER (WHERE r.priority = 1)";
    let differing = scene.sql(differing)?;
    ensure!(differing.trim().is_empty(), "counters of caps and their rows differ {when}: {}", differing.trim());
    Ok(())
}

/// Rejects what is pending, accepts what is due, and waits for the events.
pub async fn bring(scene: &Scene<'_>, client: &mut Client, board: &Board) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let unfinished = "SELECT count(*) FROM hitl_requests r LEFT JOIN deliveries d USING (request_id)
        WHERE r.status = 'pending' OR d.state IS NULL OR d.state NOT IN ('acknowledged', 'dead_lettered')";
    while scene.number(unfinished)? > 0 {
        if Instant::now() > until {
            scene.history.violation("stuck", format!("{} requests do not end", scene.number(unfinished)?));
            break;
        }
        for request_id in scene.sql("SELECT request_id FROM hitl_requests WHERE status = 'pending'")?.lines() {
            client.decide(&board.operators[1], request_id, false).await;
        }
        for index in 0..AGENTS {
            let agent = board.agent(index);
            for delivery in client.poll(&agent, 1, 100).await.unwrap_or_default() {
                client.acknowledge(&agent, &delivery, "accepted").await;
            }
        }
    }
    wait_for_events(scene, PATIENCE).await
}

/// Rows that contradict each other, in words.
pub fn stuck(scene: &Scene<'_>) -> Result<Vec<String>> {
    let contradictions = [
        (
            "open dead letters beside a delivery that is not dead-lettered",
            "SELECT count(*) FROM dead_letters l JOIN deliveries d USING (request_id)
             WHERE l.kind = 'delivery' AND l.resolved_at IS NULL AND d.state <> 'dead_lettered'",
        ),
        (
            "dead-lettered deliveries without a dead letter that is open or was discarded",
            "SELECT count(*) FROM deliveries d WHERE d.state = 'dead_lettered' AND NOT EXISTS (
                SELECT FROM dead_letters l WHERE l.request_id = d.request_id AND l.kind = 'delivery'
                    AND (l.resolved_at IS NULL OR l.resolution = 'discarded'))",
        ),
        (
            "decided requests without a decision or a delivery, or the other way round",
            "SELECT count(*) FROM hitl_requests r
             LEFT JOIN hitl_decisions h USING (request_id) LEFT JOIN deliveries d USING (request_id)
             WHERE (r.status = 'decided') <> (h.request_id IS NOT NULL)
                OR (h.request_id IS NULL) <> (d.request_id IS NULL)",
        ),
        ("dead letters of the sweep or of events", "SELECT count(*) FROM dead_letters WHERE kind <> 'delivery'"),
        ("replays that do not end", "SELECT count(*) FROM replays WHERE state = 'running'"),
        ("replays that failed", "SELECT count(*) FROM replays WHERE state = 'failed'"),
        ("rows that sweeps leave out", "SELECT count(*) FROM sweep_failures"),
    ];
    let mut stuck = Vec::new();
    for (what, query) in contradictions {
        let count = scene.number(query)?;
        if count > 0 {
            stuck.push(format!("{count} {what}"));
        }
    }
    Ok(stuck)
}
