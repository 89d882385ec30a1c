//! Drills of permits: what was approved is what runs, once (contract, "Permits").

mod expiry;
mod freezes;
mod killed;
mod races;
mod replays;

use anyhow::Result;
use hyper::Method;

use super::client::{Caller, Client, action_digest, text};
use super::registry::Drill;
use super::scene::Person;
use crate::agent::Agent;

/// In the order of the promises.
pub const DRILLS: &[Drill] = &[
    Drill {
        name: "racing-executors",
        promise: "100 executors race for a permit: one attempt uses it, for what was approved; one outcome is on record.",
        does: "100 connections of four keys consume each permit at the same moment: four as one attempt, four for another \
               action, the others each for itself. Then two of them say differently what became of it.",
        unit: "permits",
        full: 500,
        short: 10,
        run: |scene| Box::pin(races::run(scene)),
    },
    Drill {
        name: "killed-executions",
        promise: "kill -9 of the service between consume and outcome: what was told is stored, the same attempt finds its \
                  use, silence becomes unknown, and a later report replaces that.",
        does: "Kills the service with SIGKILL while 12 executors consume or report, starts it again, and lets them repeat \
               it. A third of the executors never report, a third too late.",
        unit: "kills",
        full: 200,
        short: 6,
        run: |scene| Box::pin(killed::run(scene)),
    },
    Drill {
        name: "expiring-permits",
        promise: "A permit is used before its end or never; a replay of its decision renews nothing.",
        does: "Consumes within some milliseconds of each permit's end, before or after it as the races before it went. Then \
               replays what was not used and tries again.",
        unit: "permits",
        full: 500,
        short: 80,
        run: |scene| Box::pin(expiry::run(scene)),
    },
    Drill {
        name: "replayed-permits",
        promise: "However often a decision is delivered, its permit is used once.",
        does: "An administrator requeues the decision while one executor uses it and another, to whom it is delivered again, \
               tries to. Then replays all of it to a third.",
        unit: "permits",
        full: 500,
        short: 40,
        run: |scene| Box::pin(replays::run(scene)),
    },
    Drill {
        name: "frozen-permits",
        promise: "From the answer to a freeze on nothing that it covers is used; a hold lets go when it ends, a stop revokes \
                  for ever and has what is pending rejected.",
        does: "Freezes an agent while 8 executors use up 40 of its permits, by turns with hold and stop; tries the rest, \
               another agent's, and what was pending; ends the freeze and tries again.",
        unit: "freezes",
        full: 100,
        short: 6,
        run: |scene| Box::pin(freezes::run(scene)),
    },
];

/// An approval that may be used.
struct Permit {
    request_id: String,
    action_digest: String,
}

/// Submits and approves the action of a key.
async fn approve(client: &mut Client, agent: &Agent, operator: &Person, client_request_key: &str) -> Permit {
    let request_id = client.submit_until_answered(agent, client_request_key).await;
    client.decide_until_answered(operator, &request_id, true).await;
    Permit { request_id, action_digest: action_digest(client_request_key) }
}

/// How far the use of a permit is, as its agent sees it.
async fn execution(client: &mut Client, agent: &Agent, request_id: &str) -> Result<String> {
    let path = format!("/v1/agents/{}/requests/{request_id}", agent.id);
    let view = client.must(Caller::Agent(agent), Method::GET, &path, None, 200).await?;
    Ok(text(&view, "execution"))
}
