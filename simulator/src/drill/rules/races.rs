//! Everyone at the same moment.

use anyhow::{Result, ensure};
use hyper::Method;

use crate::drill::client::{Caller, envelope};
use crate::drill::crowd::{Crowd, settle, take_all};
use crate::drill::history::Record;
use crate::drill::judge::judge;
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough};

/// Callers of a round.
const CALLERS: usize = 100;
/// Operators that race.
const OPERATORS: usize = 50;

pub async fn identical_submissions(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let mut crowd = Crowd::new(scene, &service, CALLERS);
    for round in 0..scene.count {
        let key = format!("key-{round}");
        let envelope = envelope(&agents[0].id, &key);
        let told = crowd.at_once(async |_, client| client.submit(&agents[0], &key, &envelope).await).await;
        let answered = told.iter().flatten().count();
        ensure!(answered == CALLERS, "round {round}: {answered} of {CALLERS} callers were answered with 2xx");
        ensure!(told.iter().all(|id| *id == told[0]), "round {round}: callers were told several ids");
    }
    let created = scene.history.count(|record| matches!(record, Record::Submitted { duplicate: false, .. }));
    ensure!(created == scene.count, "{created} of {} keys were answered with `duplicate: false`", scene.count);
    settle(scene, &mut crowd.0[0]).await?;
    judge(scene).await?.verdict(&format!("{} × {CALLERS} identical submissions, one request each", scene.count))
}

pub async fn reused_keys(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let agent = &agents[0];
    let mut crowd = Crowd::new(scene, &service, CALLERS);
    let mut client = scene.client(&service);
    for round in 0..scene.count {
        let key = format!("key-{round}");
        let original = client.submit_until_answered(agent, &key).await;
        let before = stored(scene, &original)?;
        let refused = crowd
            .at_once(async |index, client| {
                let mut other = envelope(&agent.id, &key);
                other["title"] = format!("Another one, {index}").into();
                client.call(Caller::Agent(agent), Method::POST, "/v1/hitl/requests", Some(&other)).await
            })
            .await;
        for reply in refused {
            let said = reply.map(|reply| (reply.status.as_u16(), reply.text("code")));
            let is_refused = said.as_ref().is_some_and(|(status, code)| (*status, &**code) == (422, REUSED));
            ensure!(is_refused, "round {round}: another envelope was answered with {said:?}");
        }
        ensure!(stored(scene, &original)? == before, "round {round}: the original was changed");
        let again = client.submit(agent, &key, &envelope(&agent.id, &key)).await;
        ensure!(again.as_ref() == Some(&original), "round {round}: the original is now {again:?}");
    }
    settle(scene, &mut client).await?;
    judge(scene).await?.verdict(&format!("{} × {CALLERS} other envelopes, all 422", scene.count))
}

const REUSED: &str = "idempotency-key-reused";

/// All that is stored of a request.
fn stored(scene: &Scene<'_>, request_id: &str) -> Result<String> {
    scene.sql(&format!(
        "SELECT r, e, d FROM hitl_requests r JOIN request_envelopes e USING (request_id)
        JOIN request_dedupe d USING (request_id) WHERE request_id = '{request_id}'"
    ))
}

pub async fn operators(scene: &mut Scene<'_>) -> Verdict {
    let service = scene.start_service(&[]).await?;
    let agents = scene.agents(&service, 1).await?;
    let mut crowd = Crowd::new(scene, &service, OPERATORS);
    let mut client = scene.client(&service);
    for number in 0..scene.count {
        let request_id = client.submit_until_answered(&agents[0], &format!("key-{number}")).await;
        let operators = &scene.operators;
        let answered = crowd
            .at_once(async |index, client| {
                client.decide(&operators[index], &request_id, !(index as u64 + number).is_multiple_of(2)).await
            })
            .await;
        ensure!(answered.iter().all(|is| *is), "an operator was told neither their decision nor the one that stands");
    }
    let won = scene.history.count(|record| matches!(record, Record::Decided { .. }));
    for side in ["approved", "rejected"] {
        let of_side = |record: &Record| matches!(record, Record::Decided { outcome, .. } if outcome == side);
        enough(scene.history.count(of_side), 1, &format!("races that ended {side}"))?;
    }
    let lost = scene.history.count(|record| matches!(record, Record::Stands { .. }));
    ensure!(won == scene.count, "{won} operators were told that they decided {} requests", scene.count);
    take_all(&mut crowd, &agents[0]).await;
    settle(scene, &mut client).await?;
    let findings = judge(scene).await?;
    findings.verdict(&format!("{won} won, {lost} lost and were told the decision that stands"))
}
