//! Several approvals where one is not enough: voters at the same moment, against each other, a rejection and the sweep.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use hyper::Method;
use serde_json::json;
use tokio::time::sleep;

use super::deadlines::sweep_for_ever;
use crate::agent::Agent;
use crate::drill::aim::Aim;
use crate::drill::client::{Caller, Client, action_digest, text};
use crate::drill::crowd::{Crowd, settle, take_all};
use crate::drill::history::Record;
use crate::drill::judge::judge;
use crate::drill::scene::{Person, Scene};
use crate::drill::{Verdict, enough};

/// Operators that race.
const OPERATORS: usize = 50;
/// Approvals that decide, where they race each other.
const QUORUM: u64 = 3;
/// Approvers that race one who rejects.
const APPROVERS: usize = 5;
/// Races against the sweep at the same time.
const RACES: usize = 20;

/// What an operator was told of an approval.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Told {
    /// It is one of several; so many are there.
    Voted { given: u64, is_new: bool },
    /// It decided; or, where it is not new, it is one of those of the decision that stands.
    Decided { is_new: bool },
    /// The code of a 409.
    Refused(String),
}

pub async fn voters(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let mut client = scene.client(&service);
    require(scene, &mut client, &agents[0], QUORUM, 3_600).await?;
    let mut crowd = Crowd::new(scene, &service, OPERATORS);
    let mut refused = 0;
    for number in 0..scene.count {
        let key = format!("key-{number}");
        let request_id = client.submit_until_answered(&agents[0], &key).await;
        let operators = &scene.operators;
        let told = crowd.at_once(async |index, client| vote(client, &operators[index], &request_id, &key).await).await;
        let told = told.into_iter().collect::<Result<Vec<_>>>()?;
        let winners: Vec<_> = (0..OPERATORS).filter(|index| !matches!(told[*index], Told::Refused(_))).collect();
        let mut counts: Vec<_> = told.iter().filter_map(Told::counted).collect();
        counts.sort_unstable();
        ensure!(counts == [1, 2, QUORUM], "request {number}: the approvals that counted were told {counts:?}");
        ensure!(
            told.iter().all(|told| !matches!(told, Told::Refused(code) if code != "already-decided")),
            "request {number}: somebody was refused otherwise: {told:?}"
        );
        refused += OPERATORS - winners.len();
        // Whoever counted may say the same again, and nobody else.
        let loser = (0..OPERATORS).find(|index| !winners.contains(index));
        for index in winners.iter().copied().chain(loser) {
            let again = vote(&mut client, &operators[index], &request_id, &key).await?;
            let expected = if winners.contains(&index) {
                Told::Decided { is_new: false }
            } else {
                Told::Refused("already-decided".into())
            };
            ensure!(again == expected, "request {number}: operator {index} was told {again:?} the second time");
        }
    }
    take_all(&mut crowd, &agents[0]).await;
    settle(scene, &mut client).await?;
    let findings = judge(scene).await?;
    ensure!(
        findings.votes == (QUORUM - 1) * scene.count,
        "{} votes of {} requests are in the chains",
        findings.votes,
        scene.count
    );
    findings.verdict(&format!("{} requests × {OPERATORS} voters, quorum {QUORUM}, {refused} too late", scene.count))
}

pub async fn against_rejection(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let mut client = scene.client(&service);
    require(scene, &mut client, &agents[0], QUORUM, 3_600).await?;
    let mut crowd = Crowd::new(scene, &service, APPROVERS + 1);
    let aim = Aim::new(2_500, 0..=500_000);
    for number in 0..scene.count {
        let key = format!("key-{number}");
        let request_id = client.submit_until_answered(&agents[0], &key).await;
        let operators = &scene.operators;
        let told = crowd
            .at_once(async |index, client| {
                if index == APPROVERS {
                    // One rejection is enough, three approvals take longer: later after a win, earlier after a loss.
                    sleep(aim.pause()).await;
                    client.decide_until_answered(&operators[index], &request_id, false).await;
                    Ok(None)
                } else {
                    vote(client, &operators[index], &request_id, &key).await.map(Some)
                }
            })
            .await;
        let told: Vec<_> = told.into_iter().collect::<Result<_>>()?;
        let counted = told.iter().flatten().filter_map(Told::counted).count() as u64;
        let stored = scene.sql(&format!("SELECT outcome FROM hitl_decisions WHERE request_id = '{request_id}'"))?;
        let is_approved = stored.trim() == "approved";
        aim.learn(is_approved);
        let holds = if is_approved { counted == QUORUM } else { counted < QUORUM };
        ensure!(holds, "request {number} is {}, and {counted} approvals counted", stored.trim());
    }
    for outcome in ["approved", "rejected"] {
        let ended = scene.number(&format!("SELECT count(*) FROM hitl_decisions WHERE outcome = '{outcome}'"))?;
        enough(ended, 1, &format!("races that ended {outcome}"))?;
    }
    take_all(&mut crowd, &agents[0]).await;
    settle(scene, &mut client).await?;
    let findings = judge(scene).await?;
    let rejected = scene.number("SELECT count(*) FROM hitl_decisions WHERE outcome = 'rejected'")?;
    findings.verdict(&format!(
        "{} requests, {APPROVERS} voters against one who rejects: {rejected} rejected, {} votes",
        scene.count, findings.votes
    ))
}

pub async fn against_sweep(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = &agents[0];
    let mut client = scene.client(&service);
    require(scene, &mut client, agent, 2, 1).await?;
    let each = scene.count.div_ceil(RACES as u64);
    let aim = Aim::new(-2_500, -500_000..=500_000);
    let races = join_all((0..RACES).map(|index| {
        let voters = [&scene.operators[index], &scene.operators[index + RACES]];
        race(scene.client(&service), agent, voters, &aim, index, each)
    }));
    let outcomes = tokio::select! {
        outcomes = races => outcomes,
        never = sweep_for_ever(scene, &service) => match never {},
    };
    outcomes.into_iter().collect::<Result<Vec<()>>>()?;
    while scene.number("SELECT count(*) FROM hitl_requests WHERE status = 'pending'")? > 0 {
        client.sweep(&scene.admin).await;
    }
    let mut crowd = Crowd::new(scene, &service, RACES);
    take_all(&mut crowd, agent).await;
    settle(scene, &mut client).await?;
    let wrong = scene.number(
        "SELECT count(*) FROM hitl_decisions d JOIN hitl_requests r USING (request_id)
        WHERE (d.cause = 'operator') <> (d.decided_at < r.respond_by)
            OR d.outcome <> CASE d.cause WHEN 'operator' THEN 'approved' ELSE 'rejected' END",
    )?;
    ensure!(wrong == 0, "{wrong} voters decided after the deadline, or sweeps before it or with an approval");
    let late = scene.number(
        "SELECT count(*) FROM approval_chain c JOIN hitl_requests r USING (request_id)
        WHERE c.kind = 'voted' AND c.at >= r.respond_by",
    )?;
    ensure!(late == 0, "{late} votes are from after the deadline");
    let all = scene.number("SELECT count(*) FROM hitl_decisions")?;
    let by_voters = scene.number("SELECT count(*) FROM hitl_decisions WHERE cause = 'operator'")?;
    let findings = judge(scene).await?;
    let verdict = findings.verdict(&format!(
        "{all} races: {by_voters} won by the last voter, {} by the sweep, {} votes",
        all - by_voters,
        findings.votes
    ))?;
    enough(by_voters, all / 10, "races won by the last voter")?;
    enough(all - by_voters, all / 10, "races won by the sweep")?;
    Ok(verdict)
}

/// One voter approves early, the other about when the deadline is; again and again.
async fn race(
    mut client: Client,
    agent: &Agent,
    voters: [&Person; 2],
    aim: &Aim,
    number: usize,
    rounds: u64,
) -> Result<()> {
    for round in 0..rounds {
        let begun = Instant::now();
        let key = format!("race-{number}-{round}");
        let request_id = client.submit_until_answered(agent, &key).await;
        let deadline = begun + begun.elapsed() / 2 + Duration::from_secs(1);
        vote(&mut client, voters[0], &request_id, &key).await?;
        sleep(aim.moment(deadline).saturating_duration_since(Instant::now())).await;
        let told = vote(&mut client, voters[1], &request_id, &key).await?;
        aim.learn(matches!(told, Told::Refused(_)));
    }
    Ok(())
}

impl Told {
    /// Which of the approvals it was that decide, from 1, where it counted now.
    fn counted(&self) -> Option<u64> {
        match self {
            Self::Voted { given, is_new: true } => Some(*given),
            Self::Decided { is_new: true } => Some(QUORUM),
            _ => None,
        }
    }
}

/// Approves once, by the digest of the key's action.
async fn vote(client: &mut Client, operator: &Person, request_id: &str, key: &str) -> Result<Told> {
    let path = format!("/v1/hitl/requests/{request_id}/decision");
    let body = json!({"decision": "approve", "action_digest": action_digest(key)});
    let reply = client.call(Caller::Person(operator), Method::POST, &path, Some(&body)).await;
    let reply = reply.context("a vote was not answered")?;
    let (request_id, operator) = (request_id.to_owned(), operator.id.clone());
    match (reply.status.as_u16(), reply.body["approvals"]["given"].as_u64()) {
        (status @ (200 | 201), Some(given)) => {
            client.history().add(Record::Voted { request_id, operator });
            Ok(Told::Voted { given, is_new: status == 201 })
        }
        (status @ (200 | 201), None) => {
            let (outcome, decided_by) = (reply.text("outcome"), text(&reply.body["decided_by"], "id"));
            client.history().add(if decided_by == operator {
                Record::Decided { request_id, outcome, operator }
            } else {
                Record::Stands { request_id, outcome, decided_by }
            });
            Ok(Told::Decided { is_new: status == 201 })
        }
        (409, _) => {
            let code = reply.text("code");
            ensure!(matches!(&*code, "already-decided" | "expired"), "{request_id}: a vote was refused with {code}");
            Ok(Told::Refused(code))
        }
        (status, _) => anyhow::bail!("{request_id}: a voter was told {status} {}", reply.body),
    }
}

/// Has an agent's P2 requests need so many approvals within these seconds.
async fn require(scene: &Scene<'_>, client: &mut Client, agent: &Agent, approvals: u64, seconds: u64) -> Result<()> {
    let policy = json!({
        "agent_id": agent.id, "priority": "P2", "respond_within_seconds": seconds, "approvals": approvals,
    });
    let path = "/v1/admin/timeout-policies";
    client.must(Caller::Person(&scene.admin), Method::PUT, path, Some(&policy), 200).await.map(drop)
}
