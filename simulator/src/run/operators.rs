//! Operators: they see a question, think, and decide; some race, some never answer, some are too late.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use uuid::Uuid;

use super::ledger::{Timed, Told, now};
use super::plan::{Answer, Planned};
use super::target::Person;
use super::world::{Question, World};

/// How long an operator tries to say what was decided.
const PATIENCE: Duration = Duration::from_mins(2);
/// Too late by so much.
const LATE_BY: Duration = Duration::from_millis(5);

/// Answers questions until nobody asks any more.
pub async fn attend(world: Arc<World>, mut questions: mpsc::UnboundedReceiver<Question>) {
    let mut people = JoinSet::new();
    while let Some(question) = questions.recv().await {
        while people.try_join_next().is_some() {}
        let world = world.clone();
        people.spawn(async move {
            let index = question.index;
            if let Err(error) = answer(&world, question).await {
                world.ledger.violation(0, format!("an operator gave up on question {index}: {error:#}"));
            }
        });
    }
    while people.join_next().await.is_some() {}
}

async fn answer(world: &World, Question { index, request_id }: Question) -> Result<()> {
    let Planned { answer, operator, thinks, .. } = world.plan[index];
    let seen_at = Instant::now();
    let people = world.scenario.operators.people.min(world.target.operators.len());
    let person = |number: usize| &world.target.operators[number % people];
    let (one, other) = (person(operator), person(operator + 1));
    let desk = Desk { world, index, request_id };
    let Some(digest) = desk.look(one).await? else { return Ok(()) };
    let decides_at = seen_at + thinks;
    match answer {
        Answer::Never => Ok(()),
        Answer::Approve => desk.decide(one, true, &digest, decides_at).await,
        Answer::Reject => desk.decide(one, false, &digest, decides_at).await,
        Answer::Race => {
            let first = desk.decide(one, true, &digest, decides_at);
            let (first, second) = tokio::join!(first, desk.decide(other, false, &digest, decides_at));
            first.and(second)
        }
        Answer::Late => desk.decide_too_late(one, &digest).await,
    }
}

/// A question on an operator's desk.
struct Desk<'a> {
    world: &'a World,
    index: usize,
    request_id: Uuid,
}

impl Desk<'_> {
    /// Reads the question, and that it is the one asked: the digest of its action. `None` where it is not there.
    async fn look(&self, person: &Person) -> Result<Option<String>> {
        let Self { world, index, request_id } = self;
        let path = format!("/v1/hitl/requests/{request_id}");
        let reply = world.target.until_answered(&person.token, Method::GET, &path, None, PATIENCE).await?;
        if reply.status == 404 {
            world.ledger.violation(1, format!("{request_id} was accepted, and no operator can see it"));
            return Ok(None);
        }
        if reply.status != 200 {
            bail!("GET {path}: {} {}", reply.status, reply.body);
        }
        let digest = reply.body["action_digest"].as_str().unwrap_or_default();
        if digest != world.ledger.open().handoffs[*index].action_digest {
            world.ledger.violation(7, format!("{request_id}: the operator sees another action, {digest}"));
        }
        Ok(Some(digest.to_owned()))
    }

    /// Decides at this moment, as often as it takes to be answered.
    async fn decide(&self, person: &Person, approve: bool, digest: &str, at: Instant) -> Result<()> {
        sleep_until(at).await;
        let ledger = &self.world.ledger;
        ledger.open().handoffs[self.index].decides_at.get_or_insert(at);
        let verdict = if approve { json!("approve") } else { json!("reject") };
        let mut body = json!({"decision": verdict, "action_digest": digest});
        if !approve {
            body["reason"] = json!("the customer has been refunded before");
        }
        let reply = self.post(person, &body).await?;
        ledger.took(Timed::Decide, at.elapsed());
        let request_id = self.request_id;
        match (reply.status.as_u16(), reply.code()) {
            (200 | 201, _) => {
                let told = Told::of(&reply.body);
                if told.by != person.id || (told.outcome == "approved") != approve {
                    ledger.violation(2, format!("{request_id}: {} was told “{told}” as an own decision", person.id));
                }
                let mut book = ledger.open();
                let winners = &mut book.handoffs[self.index].winners;
                if !winners.contains(&told) {
                    winners.push(told.clone());
                }
                drop(book);
                ledger.told(self.index, told);
            }
            (409, "already-decided") => ledger.told(self.index, Told::of(&reply.body["decision"])),
            // Its time was over before this decision arrived: a fault came in between.
            (409, "expired") => ledger.count("decisions refused as too late"),
            // Looking found it before.
            (404, _) => ledger.violation(1, format!("{request_id} was accepted, and cannot be decided: 404")),
            (status, _) => bail!("{} could not decide {request_id}: {status} {}", person.id, reply.body),
        }
        Ok(())
    }

    /// Approves when the time is over: no sweep need have come for that to be refused.
    async fn decide_too_late(&self, person: &Person, digest: &str) -> Result<()> {
        let ledger = &self.world.ledger;
        let Some(respond_by) = ledger.open().handoffs[self.index].respond_by else { return Ok(()) };
        sleep((respond_by - now()).to_std().unwrap_or_default() + LATE_BY).await;
        let reply = self.post(person, &json!({"decision": "approve", "action_digest": digest})).await?;
        ledger.count("approvals after the deadline");
        match (reply.status.as_u16(), reply.code()) {
            (409, "expired" | "already-decided") => ledger.count("approvals after the deadline refused"),
            (status, _) => {
                ledger.violation(5, format!("{}: an approval after its respond_by: {status}", self.request_id));
            }
        }
        Ok(())
    }

    async fn post(&self, person: &Person, body: &Value) -> Result<super::target::Reply> {
        let path = format!("/v1/hitl/requests/{}/decision", self.request_id);
        self.world.target.until_answered(&person.token, Method::POST, &path, Some(body), PATIENCE).await
    }
}
