//! Receipts and chains, verified by the command `relaytrace-verify`, without a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::Method;
use serde_json::Value;

use super::{Crowd, settle, take_all};
use crate::drill::client::{Caller, hex, text};
use crate::drill::scene::Scene;
use crate::drill::service::beside_us;
use crate::drill::{Verdict, enough, stream};

/// Receipt keys, one after the other.
const KEYS: u64 = 3;
/// Files that one call of the command is given.
const FILES: usize = 200;

/// A request as it can be checked without a server.
struct Exported {
    chain: Value,
    receipt: String,
}

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    let (exported, jwks) = export(scene).await?;
    let checker = Checker { folder: scene.folder().to_owned(), jwks };
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
        let (key, old) = (new_key()?, jwks.to_string());
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
    let keys = jwks["keys"].as_array().map(Vec::len);
    ensure!(keys == Some(3), "the published receipt keys are {keys:?}, not {KEYS}");
    Ok((exported, jwks))
}

/// PKCS#8 PEM of a new Ed25519 key.
fn new_key() -> Result<String> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).ok().context("no key could be made")?;
    let body = BASE64_STANDARD.encode(pkcs8.as_ref());
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    Ok(format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n")))
}

/// Runs `relaytrace-verify`.
struct Checker {
    folder: PathBuf,
    jwks: Value,
}

impl Checker {
    /// What it finds in each chain, with its receipt if there is one.
    fn findings(&self, chains: &[(Value, Option<&str>)]) -> Result<Vec<Vec<Value>>> {
        let mut all = Vec::with_capacity(chains.len());
        for part in chains.chunks(FILES) {
            all.extend(self.findings_of(part)?);
        }
        Ok(all)
    }

    fn findings_of(&self, chains: &[(Value, Option<&str>)]) -> Result<Vec<Vec<Value>>> {
        let jwks = self.write("jwks.json", &self.jwks.to_string())?;
        let mut command = Command::new(beside_us("relaytrace-verify")?);
        command.arg("--json").arg("--jwks").arg(jwks);
        for (index, (chain, receipt)) in chains.iter().enumerate() {
            command.arg("--chain").arg(self.write(&format!("chain-{index}.json"), &chain.to_string())?);
            if let Some(receipt) = receipt {
                command.arg("--receipt").arg(self.write(&format!("receipt-{index}.txt"), receipt)?);
            }
        }
        let output = command.output()?;
        ensure!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout)?;
        let files = said["files"].as_array().context("no files")?;
        // Receipts come first.
        let of_chains = files.iter().skip(files.len() - chains.len());
        let findings = of_chains.map(|file| file["findings"].as_array().cloned().unwrap_or_default());
        let found: Vec<_> = findings.collect();
        let has_any = files.iter().any(|file| file["verifies"] == false);
        ensure!(output.status.success() != has_any, "the exit status is {}, not by the findings", output.status);
        Ok(found)
    }

    fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = Path::new(&self.folder).join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }
}

/// Makes changed chains, each with the entry where the change is to be found.
type Tampering = fn(&Value) -> Vec<(Value, u64)>;

const TAMPERINGS: &[(&str, Tampering)] = &[("edits", edits), ("removals", removals), ("reorderings", reorderings)];

fn entries(chain: &Value) -> Vec<Value> {
    chain["entries"].as_array().cloned().unwrap_or_default()
}

fn with_entries(chain: &Value, entries: Vec<Value>) -> Value {
    let mut changed = chain.clone();
    changed["entries"] = entries.into();
    changed
}

fn edits(chain: &Value) -> Vec<(Value, u64)> {
    let fields = ["entry", "hash", "prev_hash", "kind", "at", "seq"];
    let count = entries(chain).len();
    let all = (0..count).flat_map(|index| fields.map(|field| (index, field)));
    all.map(|(index, field)| {
        let mut changed = entries(chain);
        let value = &mut changed[index][field];
        *value = match &*value {
            Value::Number(number) => (number.as_u64().unwrap_or_default() + 1).into(),
            value if field == "kind" => if value == "decided" { "escalated" } else { "decided" }.into(),
            value => flipped(value.as_str().unwrap_or_default()).into(),
        };
        (with_entries(chain, changed), index as u64 + 1)
    })
    .collect()
}

/// The text with one character changed, in its middle.
fn flipped(text: &str) -> String {
    let at = text.len() / 2;
    let is_one = text[at..].starts_with('1');
    format!("{}{}{}", &text[..at], if is_one { '2' } else { '1' }, &text[at + 1..])
}

fn removals(chain: &Value) -> Vec<(Value, u64)> {
    // Without its last entry it is cut off: that is another question.
    let count = entries(chain).len().saturating_sub(1);
    (0..count)
        .map(|index| {
            let mut changed = entries(chain);
            changed.remove(index);
            (with_entries(chain, changed), index as u64 + 1)
        })
        .collect()
}

fn reorderings(chain: &Value) -> Vec<(Value, u64)> {
    let count = entries(chain).len();
    (1..count)
        .map(|index| {
            let mut changed = entries(chain);
            changed.swap(index - 1, index);
            (with_entries(chain, changed), index as u64)
        })
        .collect()
}

/// Chains that were recomputed with another outcome, or cut off before the decision, and then made whole: alone they
/// verify; their receipt finds them.
fn tampered_by_owner(checker: &Checker, exported: &[Exported]) -> Result<u64> {
    let mut tampered = Vec::new();
    for Exported { chain, receipt } in exported {
        tampered.push((recomputed(chain)?, Some(&**receipt)));
        tampered.push((cut_to(chain, 1), Some(&**receipt)));
    }
    let alone: Vec<_> = tampered.iter().map(|(chain, _)| (chain.clone(), None)).collect();
    for (findings, (chain, _)) in checker.findings(&alone)?.into_iter().zip(&tampered) {
        ensure!(findings.is_empty(), "a recomputed chain is not whole in itself: {findings:?} {chain}");
    }
    for findings in checker.findings(&tampered)? {
        ensure!(!findings.is_empty(), "a chain that was recomputed or cut off verifies against its receipt");
    }
    Ok(tampered.len() as u64)
}

/// The chain as its owner would write it anew, with the opposite outcome.
fn recomputed(chain: &Value) -> Result<Value> {
    let mut changed = entries(chain);
    let mut previous = unprefixed(&changed[0], "prev_hash")?;
    for entry in &mut changed {
        let bytes = BASE64_STANDARD.decode(text(entry, "entry"))?;
        let said = String::from_utf8(bytes)?;
        let (approved, rejected) = (r#""outcome":"approved""#, r#""outcome":"rejected""#);
        let (from, to) = if said.contains(approved) { (approved, rejected) } else { (rejected, approved) };
        let said = said.replace(from, to);
        let hash = digest::digest(&digest::SHA256, &[previous.as_slice(), said.as_bytes()].concat());
        entry["entry"] = BASE64_STANDARD.encode(said).into();
        entry["prev_hash"] = format!("sha256:{}", hex(&previous)).into();
        entry["hash"] = format!("sha256:{}", hex(hash.as_ref())).into();
        previous = hash.as_ref().to_vec();
    }
    let mut whole = with_entries(chain, changed);
    whole["head"] = format!("sha256:{}", hex(&previous)).into();
    Ok(whole)
}

fn unprefixed(entry: &Value, field: &str) -> Result<Vec<u8>> {
    let said = text(entry, field);
    let digits = said.strip_prefix("sha256:").context("a hash without its prefix")?;
    (0..digits.len()).step_by(2).map(|at| Ok(u8::from_str_radix(&digits[at..at + 2], 16)?)).collect()
}

/// The first entries, made to look whole.
fn cut_to(chain: &Value, length: usize) -> Value {
    let mut left = entries(chain);
    left.truncate(length);
    let mut whole = with_entries(chain, left);
    whole["length"] = length.into();
    whole["head"] = whole["entries"][length - 1]["hash"].clone();
    whole
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
