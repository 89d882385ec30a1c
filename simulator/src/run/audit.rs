//! After the run: every handoff read back, as an operator and an administrator see it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use uuid::Uuid;

use super::ledger::{Handoff, Told};
use super::world::World;
use crate::offline::{Exported, entries};

/// Readers at the same time.
const READERS: usize = 8;
/// How long one of them tries.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request as it stands.
pub struct Stored {
    /// Its place in the plan.
    pub index: usize,
    /// Its id.
    pub request_id: Uuid,
    /// Differences from the answers that its agent received.
    pub differs: Option<String>,
    /// Until when a person might answer.
    pub respond_by: Option<DateTime<Utc>>,
    /// The decision, and when it was made.
    pub decision: Option<(Told, DateTime<Utc>)>,
    /// `decided` entries of its chain.
    pub decided_entries: usize,
    /// State of its delivery, empty where there is none.
    pub delivery: String,
}

/// Everything read back.
#[derive(Default)]
pub struct Audit {
    /// Those that are there, by place in the plan.
    pub stored: HashMap<usize, Stored>,
    /// Those that are not.
    pub missing: Vec<(usize, Uuid)>,
    /// Decided ones, as they can be checked offline.
    pub exported: Vec<Exported>,
    /// Requests whose delivery an administrator sees among the dead letters.
    pub dead_letters: HashSet<String>,
    /// The receipt keys, as published.
    pub jwks: Value,
}

/// Reads everything back.
pub async fn read(world: &World) -> Result<Audit> {
    let asked: Vec<(usize, Handoff, Uuid)> = {
        let book = world.ledger.open();
        let of = |(index, handoff): (usize, &Handoff)| Some((index, handoff.clone(), handoff.request_id?));
        book.handoffs.iter().enumerate().filter_map(of).collect()
    };
    let target = &world.target;
    let mut audit = Audit {
        jwks: target.read(&target.admin, "/.well-known/jwks.json", PATIENCE).await?,
        dead_letters: dead_letters(world).await?,
        ..Audit::default()
    };
    let reads = asked.into_iter().map(|(index, handoff, id)| async move {
        let read = read_one(world, index, &handoff, id).await?;
        anyhow::Ok((index, id, read))
    });
    let mut reads = stream::iter(reads).buffer_unordered(READERS);
    while let Some((index, id, read)) = reads.try_next().await? {
        match read {
            Some((stored, exported)) => {
                audit.stored.insert(index, stored);
                audit.exported.extend(exported);
            }
            None => audit.missing.push((index, id)),
        }
    }
    // Who is first depends on nothing.
    audit.exported.sort_by_key(|exported| exported.chain["request_id"].to_string());
    Ok(audit)
}

async fn read_one(world: &World, index: usize, told: &Handoff, id: Uuid) -> Result<Option<(Stored, Option<Exported>)>> {
    let (target, operator) = (&world.target, &world.target.operators[0].token);
    let path = format!("/v1/hitl/requests/{id}");
    let reply = target.until_answered(operator, Method::GET, &path, None, PATIENCE).await?;
    if reply.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    ensure!(reply.status == StatusCode::OK, "GET {path}: {} {}", reply.status, reply.body);
    let detail = reply.body;
    let decided_at = detail["decision"]["decided_at"].as_str().and_then(|at| at.parse().ok());
    let mut stored = Stored {
        index,
        request_id: id,
        differs: differs(&detail, told),
        respond_by: detail["respond_by"].as_str().and_then(|at| at.parse().ok()),
        decision: decided_at.map(|at| (Told::of(&detail["decision"]), at)),
        decided_entries: 0,
        delivery: detail["delivery"]["state"].as_str().unwrap_or_default().to_owned(),
    };
    let path = format!("/v1/admin/requests/{id}/chain");
    let chain = target.read(&target.admin, &path, PATIENCE).await?;
    stored.decided_entries = entries(&chain).iter().filter(|entry| entry["kind"] == "decided").count();
    let receipt = detail["receipt"].as_str().map(str::to_owned);
    let exported = stored.decision.is_some().then(|| Exported { chain, receipt: receipt.unwrap_or_default() });
    Ok(Some((stored, exported)))
}

/// The first member that is not what the agent asked with.
fn differs(detail: &Value, told: &Handoff) -> Option<String> {
    let expected = [
        ("agent_id", &told.agent_id),
        ("client_request_key", &told.client_request_key),
        ("action_digest", &told.action_digest),
    ];
    let other = expected.iter().find(|(member, value)| detail[*member] != value.as_str());
    other.map(|(member, value)| format!("{member} is {} and was {value}", detail[*member]))
}

/// Every delivery among the dead letters of this run's agents.
async fn dead_letters(world: &World) -> Result<HashSet<String>> {
    let mut found = HashSet::new();
    for agent in &world.cohort {
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/admin/dead-letters?kind=delivery&agent_id={}&limit=100{cursor}", agent.id);
            let page = world.target.read(&world.target.admin, &path, PATIENCE).await?;
            let items = page["items"].as_array().into_iter().flatten();
            found.extend(items.filter_map(|item| item["request_id"].as_str().map(str::to_owned)));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
    }
    Ok(found)
}
