//! 100 executors, one permit.

use std::collections::HashSet;

use anyhow::{Result, ensure};
use futures_util::future::join;

use super::approve;
use crate::drill::Verdict;
use crate::drill::crowd::{Crowd, settle};
use crate::drill::judge::judge;
use crate::drill::scene::Scene;
use crate::drill::uses::{Reported, Used, fresh_key};
use crate::http::Connection;

/// Executors that race.
const EXECUTORS: usize = 100;
/// Keys that they have.
const KEYS: usize = 4;
/// The first of them are one attempt, by one key: an executor whose connections broke.
const ONE_ATTEMPT: usize = 4;
/// The next have another action at hand.
const OTHER_ACTION: usize = ONE_ATTEMPT + 4;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = &agents[0];
    let mut connection = Connection::open(service.address()).await?;
    let mut executors = Vec::with_capacity(KEYS);
    for number in 0..KEYS {
        let key_id = format!("{}-executor-{number}", agent.id);
        executors.push(agent.with_new_key(&mut connection, &scene.admin.token, &key_id).await?);
    }
    let mut crowd = Crowd::new(scene, &service, EXECUTORS);
    let (mut refused, mut outcomes_refused) = (0, 0);
    for round in 0..scene.count {
        let mut client = scene.client(&service);
        let permit = approve(&mut client, agent, &scene.operators[0], &format!("key-{round}")).await;
        let (one_attempt, other_action) = (fresh_key(), format!("sha256:{}", "0".repeat(64)));
        let used = crowd
            .at_once(async |index, client| match index {
                0..ONE_ATTEMPT => {
                    client.consume(&executors[0], &permit.request_id, &one_attempt, &permit.action_digest).await
                }
                ONE_ATTEMPT..OTHER_ACTION => {
                    client.consume(&executors[1], &permit.request_id, &fresh_key(), &other_action).await
                }
                _ => {
                    let executor = &executors[index % KEYS];
                    client.consume(executor, &permit.request_id, &fresh_key(), &permit.action_digest).await
                }
            })
            .await;
        let was_refused = check(&used).map_err(|error| error.context(format!("permit {round}")))?;
        refused += was_refused;
        let (one, other) = crowd.0.split_at_mut(1);
        let told = join(
            one[0].report(&executors[0], &permit.request_id, "succeeded"),
            other[0].report(&executors[1], &permit.request_id, "failed"),
        );
        let told: [Reported; 2] = told.await.into();
        let recorded = told.iter().filter(|told| matches!(told, Reported::Yes { repeated: false })).count();
        let conflicts = told.iter().filter(|told| told.is_refused("outcome-conflict")).count();
        ensure!((recorded, conflicts) == (1, 1), "permit {round}: two outcomes at once were answered with {told:?}");
        outcomes_refused += conflicts;
    }
    settle(scene, &mut crowd.0[0]).await?;
    let findings = judge(scene).await?;
    ensure!(findings.consumed == scene.count, "{} of {} permits are used", findings.consumed, scene.count);
    findings.verdict(&format!(
        "{} permits × {EXECUTORS} executors, {refused} attempts refused, {outcomes_refused} second outcomes refused",
        scene.count
    ))
}

/// One attempt has it, whoever made that; all others are refused. How many.
fn check(used: &[Used]) -> Result<usize> {
    let (mut winners, mut new, mut refused) = (HashSet::new(), 0, 0);
    for (index, used) in used.iter().enumerate() {
        match used {
            Used::Yes { repeated, .. } => {
                ensure!(!(ONE_ATTEMPT..OTHER_ACTION).contains(&index), "another action was let through");
                winners.insert(if index < ONE_ATTEMPT { 0 } else { index });
                new += u64::from(!repeated);
            }
            Used::No(code) => {
                let is_other = (ONE_ATTEMPT..OTHER_ACTION).contains(&index) && code == "action-mismatch";
                ensure!(is_other || code == "already-consumed", "executor {index} was refused with {code}");
                refused += 1;
            }
            Used::Unknown => anyhow::bail!("executor {index} got no answer"),
        }
    }
    ensure!(winners.len() == 1, "{} attempts used it", winners.len());
    ensure!(new == 1, "{new} executors were told that they use it first");
    Ok(refused)
}
