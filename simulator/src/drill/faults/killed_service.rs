//! kill -9 of the service at random moments under load.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use crate::drill::judge::judge;
use crate::drill::load::{Load, lost_calls};
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough};

/// Submissions for each kill, at the least, on average.
const LEAST_LOAD: u64 = 3;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    // Short leases: what was handed to nobody is handed out again soon.
    let mut service = scene.start_service(&[("LEASE_SECONDS", "1")]).await?;
    let agents = scene.agents(&service, 4).await?;
    let load = Load::start(scene, &service, agents, 1);
    for _ in 0..scene.count {
        // At work again, and then at a random moment of it.
        load.wait_for_more(1, Duration::from_secs(30)).await?;
        let moment = rand::rng().random_range(0..200);
        sleep(Duration::from_millis(moment)).await;
        service.kill()?;
        service.spawn()?;
    }
    load.finish(scene, Duration::from_mins(2)).await?;
    let findings = judge(scene).await?;
    let lost = lost_calls(&scene.history);
    let verdict = findings.verdict(&format!("{} kills, {lost} calls cut off", scene.count))?;
    enough(findings.submitted, LEAST_LOAD * scene.count, "submissions")?;
    enough(lost, scene.count / 2, "calls cut off")?;
    Ok(verdict)
}
