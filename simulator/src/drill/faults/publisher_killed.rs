//! The publisher killed after the stream's acknowledgement and before the outbox row is deleted.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tokio::time::sleep;

use crate::drill::judge::judge;
use crate::drill::load::wait_for_events;
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough};

/// Holds every deletion back, and then refuses it: whoever waits for it has the acknowledgement and nothing else.
const HOLD: &str = "
    CREATE FUNCTION hold_bookkeeping() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(60); RAISE EXCEPTION 'held back by a drill'; END $$;
    CREATE TRIGGER hold_bookkeeping BEFORE DELETE ON outbox FOR EACH STATEMENT EXECUTE FUNCTION hold_bookkeeping()";
const RELEASE: &str = "DROP TRIGGER hold_bookkeeping ON outbox";
const HELD: &str = "FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep' \
                    AND query LIKE '%relaytrace: forget_events%'";
const EVENTS_EACH: u64 = 3;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let mut service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let mut client = scene.client(&service);
    scene.sql(HOLD)?;
    let mut acknowledged = 0;
    for kill in 0..scene.count {
        // What is published by the sweep is killed too: what was left over before is due.
        scene.sql("UPDATE outbox SET claimed_until = now()")?;
        let (admin, mut scheduler) = (scene.admin.clone(), scene.client(&service));
        let sweep = tokio::spawn(async move { scheduler.sweep(&admin).await });
        for number in 0..EVENTS_EACH {
            client.submit_until_answered(&agents[0], &format!("key-{kill}-{number}")).await;
        }
        wait_until_held(scene).await?;
        service.kill()?;
        acknowledged += scene.number(&format!("SELECT count(*) {HELD}"))?;
        sweep.await?;
        scene.sql(&format!("SELECT count(pg_terminate_backend(pid)) {HELD}"))?;
        service.start().await?;
    }
    let left = scene.number("SELECT count(*) FROM outbox")?;
    scene.sql(&format!("{RELEASE}; UPDATE outbox SET claimed_until = now()"))?;
    let begun = Instant::now();
    while scene.number("SELECT count(*) FROM outbox")? > 0 && begun.elapsed() < Duration::from_secs(30) {
        client.sweep(&scene.admin).await;
    }
    wait_for_events(scene, Duration::from_secs(1)).await?;
    let findings = judge(scene).await?;
    let twice = findings.repeated;
    let did = format!(
        "{} kills with {acknowledged} acknowledged batches not noted, {left} events published again, {twice} twice on \
         the stream",
        scene.count
    );
    ensure!(twice == 0, "{did}");
    let verdict = findings.verdict(&did)?;
    enough(acknowledged, scene.count, "acknowledged batches")?;
    enough(left, scene.count * EVENTS_EACH, "events published again")?;
    Ok(verdict)
}

/// Waits until an acknowledged batch waits to be noted.
async fn wait_until_held(scene: &Scene<'_>) -> Result<()> {
    let begun = Instant::now();
    while scene.number(&format!("SELECT count(*) {HELD}"))? == 0 {
        ensure!(begun.elapsed() < Duration::from_secs(10), "nothing was published within 10 s");
        sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
