//! The end of a key's 7 days, by the database's clock.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use crate::drill::Verdict;
use crate::drill::client::{action_digest, envelope};
use crate::drill::crowd::{Crowd, settle};
use crate::drill::scene::Scene;

/// Callers at once after the end.
const CALLERS: usize = 20;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = &agents[0];
    let mut crowd = Crowd::new(scene, &service, CALLERS);
    let keys: Vec<_> = (0..scene.count).map(|number| format!("key-{number}")).collect();
    let mut first = Vec::with_capacity(keys.len());
    for key in &keys {
        first.push(crowd.0[0].submit_until_answered(agent, key).await);
    }
    let days = scene.number(
        "SELECT count(*) FROM request_dedupe d JOIN hitl_requests r USING (request_id)
        WHERE d.expires_at = r.created_at + interval '7 days'",
    )?;
    ensure!(days == scene.count, "{days} of {} keys end 7 days after their request", scene.count);

    // A key is kept for a day from the decision, too: these were decided two days ago.
    for request_id in &first {
        crowd.0[0].decide_until_answered(&scene.operators[0], request_id, true).await;
    }
    scene.sql(
        "BEGIN; ALTER TABLE hitl_decisions DISABLE TRIGGER hitl_decisions_append_only;
        UPDATE hitl_decisions SET decided_at = decided_at - interval '2 days';
        ALTER TABLE hitl_decisions ENABLE ALWAYS TRIGGER hitl_decisions_append_only; COMMIT",
    )?;

    // Their last moments: so many seconds that all can be submitted before, and then the second itself.
    let seconds = 2 + scene.count / 50;
    scene.sql(&format!("UPDATE request_dedupe SET expires_at = now() + interval '{seconds} seconds'"))?;
    let ends = scene.sql("SELECT min(expires_at) FROM request_dedupe")?;
    let is_over = || scene.sql(&format!("SELECT now() >= '{}'", ends.trim())).map(|said| said.trim() == "t");
    for (key, first) in keys.iter().zip(&first) {
        let again = crowd.0[0].submit(agent, key, &envelope(&agent.id, key)).await;
        ensure!(again.as_ref() == Some(first) || is_over()?, "before its end, {key} gave {again:?}, not {first}");
    }
    let before = scene.number("SELECT count(*) FROM hitl_requests")?;
    ensure!(!is_over()?, "the keys ended before all were submitted again");
    ensure!(before == scene.count, "{before} requests for {} keys before their end", scene.count);
    while !is_over()? {
        sleep(Duration::from_millis(5)).await;
    }
    for (key, first) in keys.iter().zip(&first) {
        let envelope = envelope(&agent.id, key);
        let told = crowd.at_once(async |_, client| client.submit(agent, key, &envelope).await).await;
        ensure!(told.iter().flatten().count() == CALLERS, "after its end, {key} was not answered with 2xx");
        let is_new = told[0].as_ref() != Some(first) && told.iter().all(|id| *id == told[0]);
        ensure!(is_new, "after its end, {key} did not give one new request: {told:?}");
    }
    settle(scene, &mut crowd.0[0]).await?;
    let requests = scene.number("SELECT count(*) FROM hitl_requests")?;
    ensure!(requests == 2 * scene.count, "{requests} requests for {} keys", scene.count);
    let digests = scene.number(&format!(
        "SELECT count(*) FROM hitl_requests WHERE digest_text(action_digest) = '{}'",
        action_digest(&keys[0])
    ))?;
    ensure!(digests == 2, "the key's two requests have other actions");
    Ok(format!(
        "{} keys: the same request until their last second, {CALLERS} callers at once got one new request after it",
        scene.count
    ))
}
