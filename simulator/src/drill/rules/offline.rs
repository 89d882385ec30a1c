//! Receipts and chains, verified by the command `relaytrace-verify`, without a server.

use anyhow::{Context as _, Result, ensure};
use hyper::Method;
use serde_json::Value;

use crate::drill::client::{Caller, text};
use crate::drill::crowd::{Crowd, settle, take_all};
use crate::drill::scene::Scene;
use crate::drill::{Verdict, enough, stream};
use crate::keys::NewKey;
use crate::offline::{Checker, Exported, TAMPERINGS, cut_to, entries, recomputed};

/// Receipt keys, one after the other.
const KEYS: u64 = 3;

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let (exported, jwks) = export(scene).await?;
    let checker = Checker::new(scene.folder(), jwks);
    let untouched: Vec<_> = exported.iter().map(|of| (of.chain.clone(), Some(&*of.receipt))).collect();
    for (index, findings) in checker.findings(&untouched)?.into_iter().enumerate() {
        ensure!(findings.is_empty(), "an export does not verify: {index}, {findings:?}");
    }
    let mut counts = Vec::new();
    for (what, tampering) in TAMPERINGS {
        let tampered: Vec<_> = exported.iter().flat_map(|of| tampering(&of.chain)).collect();
        let chains: Vec<_> = tampered.iter().map(|(chain, _)| (chain.clone(), None)).collect();
        let all = checker.findings(&chains)?;
        for ((_, entry), findings) in tampered.iter().zip(&all) {
            let is_located = findings.iter().any(|finding| finding["entry"].as_u64() == Some(*entry));
            ensure!(is_located, "{what} at entry {entry} is not located: {findings:?}");
        }
        counts.push(format!("{} {what}", all.len()));
    }
    let owners = tampered_by_owner(&checker, &exported)?;
    let cut = cut_off_after_decision(scene, &exported).await?;
    enough(owners, scene.count, "chains recomputed or cut off")?;
    Ok(format!(
        "{} chains and receipts of {KEYS} keys verify; found and located: {}; {owners} recomputed or cut off found by \
         the receipt, {cut} cut off later by an event",
        exported.len(),
        counts.join(", ")
    ))
}

/// Requests of three lives of the service, each with a receipt key of its own.
async fn export(scene: &Scene<'_>) -> Result<(Vec<Exported>, Value)> {
    let mut jwks = Value::Null;
    let mut told = Vec::new();
    let mut agents = Vec::new();
    let mut service = None;
    for era in 0..KEYS {
        drop(service.take());
        let (key, old) = (NewKey::generate()?.private_pem(), jwks.to_string());
        let mut variables = vec![("RECEIPT_KEY", key.as_str())];
        if !jwks.is_null() {
            variables.push(("RECEIPT_OLD_KEYS", &old));
        }
        let running = scene.start_service(&variables).await?;
        let mut crowd = Crowd::new(scene, &running, 4);
        if agents.is_empty() {
            agents = scene.agents(&running, 1).await?;
        }
        let agent = &agents[0];
        for number in 0..scene.count.div_ceil(KEYS) {
            let client = &mut crowd.0[0];
            let request_id = client.submit_until_answered(agent, &format!("era-{era}-{number}")).await;
            client.decide_until_answered(&scene.operators[0], &request_id, number % 2 == 0).await;
            let path = format!("/v1/agents/{}/requests/{request_id}", agent.id);
            let view = client.must(Caller::Agent(agent), Method::GET, &path, None, 200).await?;
            told.push((request_id, text(&view["decision"], "receipt")));
        }
        take_all(&mut crowd, agent).await;
        let client = &mut crowd.0[0];
        jwks = client.must(Caller::Person(&scene.admin), Method::GET, "/.well-known/jwks.json", None, 200).await?;
        service = Some(running);
    }
    let service = service.context("no service was started")?;
    let mut client = scene.client(&service);
    settle(scene, &mut client).await?;
    let mut exported = Vec::new();
    for (request_id, receipt) in told {
        let path = format!("/v1/admin/requests/{request_id}/chain");
        let chain = client.must(Caller::Person(&scene.admin), Method::GET, &path, None, 200).await?;
        exported.push(Exported { chain, receipt });
    }
    let keys = jwks["keys"].as_array().map(|keys| keys.iter().filter(|key| key["use"] == "sig").count());
    ensure!(keys == Some(3), "the published receipt keys are {keys:?}, not {KEYS}");
    Ok((exported, jwks))
}

/// Chains that were recomputed with another outcome, or cut off before the decision, and then made whole: their receipt
/// finds them. Alone a recomputed one is found by its attestation only, a cut one verifies.
fn tampered_by_owner(checker: &Checker, exported: &[Exported]) -> Result<u64> {
    let mut tampered = Vec::new();
    for Exported { chain, receipt } in exported {
        tampered.push((recomputed(chain)?, Some(&**receipt)));
        tampered.push((cut_to(chain, 1), Some(&**receipt)));
    }
    let alone: Vec<_> = tampered.iter().map(|(chain, _)| (chain.clone(), None)).collect();
    for (findings, (chain, _)) in checker.findings(&alone)?.into_iter().zip(&tampered) {
        let what: Vec<_> = findings.iter().map(|finding| text(finding, "what")).collect();
        let is_cut = entries(chain).len() == 1;
        let expected: &[&str] = if is_cut { &[] } else { &["has an attestation that does not verify"] };
        ensure!(what == expected, "a tampered chain is not whole but for its attestation: {findings:?} {chain}");
    }
    for findings in checker.findings(&tampered)? {
        ensure!(!findings.is_empty(), "a chain that was recomputed or cut off verifies against its receipt");
    }
    Ok(tampered.len() as u64)
}

/// What was cut off after the decision, the event of the last entry shows: it carries length and head.
async fn cut_off_after_decision(scene: &Scene<'_>, exported: &[Exported]) -> Result<u64> {
    let events = stream::read(&scene.nats.url()).await?;
    let mut found = 0;
    for Exported { chain, .. } in exported {
        let length = entries(chain).len();
        let id = format!("{}/{length}", text(chain, "request_id"));
        let event = events.get(&id).with_context(|| format!("there is no event {id}"))?;
        let event: Value = serde_json::from_slice(&event[0])?;
        let says = &event["data"]["chain"];
        let agrees = |chain: &Value| says["length"] == chain["length"] && says["head"] == chain["head"];
        ensure!(agrees(chain), "the event {id} and its chain differ");
        ensure!(!agrees(&cut_to(chain, length - 1)), "the event {id} agrees with a chain that was cut off");
        found += 1;
    }
    Ok(found)
}
