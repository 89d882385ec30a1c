//! Compares the clients' history with the database and the stream.

mod permits;
mod votes;

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::{Context as _, Result, bail};
use aws_lc_rs::digest;
use serde_json::Value;

use super::Verdict;
use super::client::{action_digest, hex, text};
use super::history::Record;
use super::scene::Scene;
use super::stream;

/// The result of a run.
#[derive(Debug, Default)]
pub struct Findings {
    /// Submissions that were answered with 2xx, each counted once.
    pub submitted: u64,
    /// Decisions.
    pub decided: u64,
    /// Deliveries that have their last state.
    pub delivered: u64,
    /// Permits that were used.
    pub consumed: u64,
    /// Approvals that did not decide.
    pub votes: u64,
    /// Events on the stream, each counted once.
    pub events: u64,
    /// Events that are on the stream more than once, under one id.
    pub repeated: u64,
    /// Violations by their name.
    faults: BTreeMap<&'static str, Vec<String>>,
}

impl Findings {
    /// Notes something that should not be.
    pub fn fault(&mut self, of: &'static str, detail: impl Into<String>) {
        self.faults.entry(of).or_default().push(detail.into());
    }

    /// The numbers of a run, after what the drill did; an error that names the faults if there are any.
    pub fn verdict(&self, did: &str) -> Verdict {
        let Self { submitted, decided, delivered, consumed, events, .. } = self;
        if self.faults.is_empty() {
            let used = if *consumed > 0 { format!("{consumed} used once, ") } else { String::new() };
            return Ok(format!(
                "{did}, {submitted} acknowledged, 0 lost, 0 doubled, {decided} decided once, {delivered} delivered, \
                 {used}{events} events"
            ));
        }
        let faults =
            self.faults.iter().map(|(of, details)| format!("{} × {of} (first: {})", details.len(), details[0]));
        bail!("{did}, {submitted} acknowledged: {}", faults.collect::<Vec<_>>().join("; "))
    }
}

#[derive(Default)]
struct Request {
    agent_id: String,
    client_request_key: String,
    length: u64,
    head: String,
    action_digest: String,
}

#[derive(Default)]
struct Decision {
    outcome: String,
    decided_by: String,
}

/// Judges a run that has come to rest: no lost 2xx, one decision for each request, chains whole, every decision
/// delivered or dead-lettered, every permit used once at the most and for what was approved, as many votes as were required
/// and nobody's twice, every event on the stream
/// and none that has no entry.
pub async fn judge(scene: &Scene<'_>) -> Result<Findings> {
    let mut findings = Findings::default();
    let requests = requests(scene)?;
    let decisions = decisions(scene)?;
    judge_records(scene, &requests, &decisions, &mut findings);
    let entries = judge_chains(scene, &requests, &decisions, &mut findings)?;
    judge_deliveries(scene, &decisions, &mut findings)?;
    permits::judge_permits(scene, &mut findings)?;
    votes::judge_votes(scene, &mut findings)?;
    judge_events(scene, &entries, &mut findings).await?;
    Ok(findings)
}

fn rows(scene: &Scene<'_>, query: &str) -> Result<Vec<Vec<String>>> {
    let said = scene.sql(query)?;
    Ok(said.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
}

fn requests(scene: &Scene<'_>) -> Result<HashMap<String, Request>> {
    let query = "SELECT request_id, agent_id, client_request_key, chain_length, encode(chain_head, 'hex'),
        digest_text(action_digest) FROM hitl_requests";
    let mut requests = HashMap::new();
    for row in rows(scene, query)? {
        let [id, agent_id, client_request_key, length, head, action_digest] = fields(row)?;
        let length = length.parse()?;
        requests.insert(id, Request { agent_id, client_request_key, length, head, action_digest });
    }
    Ok(requests)
}

fn decisions(scene: &Scene<'_>) -> Result<HashMap<String, Decision>> {
    let mut decisions = HashMap::new();
    for row in rows(scene, "SELECT request_id, outcome, decided_by_id FROM hitl_decisions")? {
        let [id, outcome, decided_by] = fields(row)?;
        decisions.insert(id, Decision { outcome, decided_by });
    }
    Ok(decisions)
}

fn fields<const N: usize>(row: Vec<String>) -> Result<[String; N]> {
    row.try_into().ok().context("a row has other columns than were asked for")
}

/// Checks that stored values are those of the clients' history.
fn judge_records(
    scene: &Scene<'_>,
    requests: &HashMap<String, Request>,
    decisions: &HashMap<String, Decision>,
    findings: &mut Findings,
) {
    let (mut sent, mut answered) = (HashSet::new(), HashMap::new());
    for record in scene.history.records() {
        match record {
            Record::Sent { agent_id, client_request_key } => drop(sent.insert((agent_id, client_request_key))),
            Record::Submitted { agent_id, client_request_key, request_id, action_digest: told, .. } => {
                let stored = requests.get(&request_id);
                if stored.is_none_or(|request| request.client_request_key != client_request_key) {
                    findings.fault("submission lost", format!("{agent_id} {client_request_key} {request_id}"));
                }
                if stored.is_some_and(|request| request.action_digest != told)
                    || told != action_digest(&client_request_key)
                {
                    findings.fault("another action digest", format!("{request_id}: {told}"));
                }
                let key = (agent_id, client_request_key);
                if let Some(before) = answered.insert(key, request_id.clone())
                    && before != request_id
                {
                    findings.fault("two request ids for one key", format!("{before} and {request_id}"));
                }
            }
            Record::Decided { request_id, outcome, operator } => match decisions.get(&request_id) {
                None => findings.fault("decision lost", request_id),
                Some(stored) if stored.outcome != outcome || stored.decided_by != operator => {
                    findings.fault("decision changed", format!("{request_id}: {operator} was told {outcome}"));
                }
                Some(_) => {}
            },
            Record::Stands { request_id, outcome, decided_by } => {
                let stands = decisions.get(&request_id);
                if stands.is_none_or(|stored| stored.outcome != outcome || stored.decided_by != decided_by) {
                    findings.fault("another decision stands", format!("{request_id}: told {outcome} by {decided_by}"));
                }
            }
            Record::Delivered { request_id, outcome, action_digest, .. } => {
                let stands = decisions.get(&request_id).is_some_and(|stored| stored.outcome == outcome);
                let same = requests.get(&request_id).is_some_and(|request| request.action_digest == action_digest);
                if !stands || !same {
                    findings.fault("another decision delivered", format!("{request_id}: {outcome} {action_digest}"));
                }
            }
            Record::Violation { of, detail } => findings.fault(of, detail),
            Record::Acknowledged { .. }
            | Record::Consumed { .. }
            | Record::Reported { .. }
            | Record::Voted { .. }
            | Record::Refused { .. }
            | Record::Lost { .. } => {}
        }
    }
    findings.submitted = answered.len() as u64;
    let mut keys = HashSet::new();
    for (id, request) in requests {
        let key = (request.agent_id.clone(), request.client_request_key.clone());
        if !sent.contains(&key) {
            findings.fault("request that nobody sent", id);
        }
        if !keys.insert(key) {
            findings.fault("request doubled", id);
        }
    }
}

/// Chains are whole: from 1 without gaps, linked, hashed here anew, times never backwards, one decision each. Gives
/// kind and hash of each entry by `request_id/seq`.
fn judge_chains(
    scene: &Scene<'_>,
    requests: &HashMap<String, Request>,
    decisions: &HashMap<String, Decision>,
    findings: &mut Findings,
) -> Result<HashMap<String, (String, String)>> {
    struct Last {
        seq: u64,
        hash: String,
        at: i64,
        decided: u64,
    }
    let query = "SELECT request_id, seq, kind, (extract(epoch FROM at) * 1000000)::bigint, encode(entry, 'hex'),
        encode(prev_hash, 'hex'), encode(hash, 'hex') FROM approval_chain ORDER BY request_id, seq";
    let (mut entries, mut chains) = (HashMap::new(), HashMap::<String, Last>::new());
    for row in rows(scene, query)? {
        let [id, seq, kind, at, entry, prev_hash, hash] = fields(row)?;
        let (seq, at): (u64, i64) = (seq.parse()?, at.parse()?);
        let last = chains.entry(id.clone()).or_insert_with(|| {
            let genesis = digest::digest(&digest::SHA256, format!("relaytrace-chain-v1:{id}").as_bytes());
            Last { seq: 0, hash: hex(genesis.as_ref()), at: i64::MIN, decided: 0 }
        });
        let linked = [unhex(&prev_hash)?, unhex(&entry)?].concat();
        let is_hashed = hex(digest::digest(&digest::SHA256, &linked).as_ref()) == hash;
        if seq != last.seq + 1 || prev_hash != last.hash || !is_hashed || at < last.at {
            findings.fault("chain broken", format!("{id} at entry {seq}"));
        }
        last.decided += u64::from(kind == "decided");
        (last.seq, last.at) = (seq, at);
        last.hash.clone_from(&hash);
        entries.insert(format!("{id}/{seq}"), (kind, hash));
    }
    for (id, request) in requests {
        let Some(last) = chains.get(id) else {
            findings.fault("chain missing", id);
            continue;
        };
        if last.seq != request.length || last.hash != request.head {
            findings.fault("chain head differs", id);
        }
        if last.decided != u64::from(decisions.contains_key(id)) {
            findings.fault("not one decision", format!("{id}: {} in its chain", last.decided));
        }
    }
    findings.decided = decisions.len() as u64;
    Ok(entries)
}

/// Every decision was acknowledged or is a dead letter.
fn judge_deliveries(scene: &Scene<'_>, decisions: &HashMap<String, Decision>, findings: &mut Findings) -> Result<()> {
    let mut states = HashMap::new();
    for row in rows(scene, "SELECT request_id, state FROM deliveries")? {
        let [id, state] = fields(row)?;
        states.insert(id, state);
    }
    for id in decisions.keys() {
        match states.get(id).map(String::as_str) {
            Some("acknowledged" | "dead_lettered") => findings.delivered += 1,
            state => {
                findings.fault("decision not delivered", format!("{id} is {}", state.unwrap_or("without delivery")));
            }
        }
    }
    Ok(())
}

/// Every chain entry that is told has its event on the stream, which says the same each time; and there is none without
/// its entry.
async fn judge_events(
    scene: &Scene<'_>,
    entries: &HashMap<String, (String, String)>,
    findings: &mut Findings,
) -> Result<()> {
    let on_stream = stream::read(&scene.nats.url()).await?;
    let is_told = |kind: &str| !matches!(kind, "extended" | "reprioritised");
    for (id, (kind, hash)) in entries.iter().filter(|(_, (kind, _))| is_told(kind)) {
        let Some(payloads) = on_stream.get(id) else {
            findings.fault("event missing", id);
            continue;
        };
        findings.events += 1;
        findings.repeated += u64::from(payloads.len() > 1);
        let event: Value = serde_json::from_slice(&payloads[0])?;
        let head = text(&event["data"]["chain"], "head");
        let kind = if kind == "submitted" { "requested" } else { kind };
        if payloads.iter().any(|payload| payload != &payloads[0])
            || text(&event, "id") != *id
            || text(&event, "type") != format!("handoff.{kind}")
            || head != format!("sha256:{hash}")
        {
            findings.fault("event differs", id);
        }
    }
    // The stream has those of other drills, too.
    let own = format!("{}-", scene.database);
    for (id, payloads) in &on_stream {
        let is_known = entries.get(id).is_some_and(|(kind, _)| is_told(kind));
        let event: Value = serde_json::from_slice(&payloads[0])?;
        if !is_known && text(&event["data"], "agent_id").starts_with(&own) {
            findings.fault("event without entry", id);
        }
    }
    Ok(())
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    let digits = |pair| u8::from_str_radix(pair, 16).context("what Postgres encoded is not hexadecimal");
    (0..text.len()).step_by(2).map(|at| digits(text.get(at..at + 2).unwrap_or_default())).collect()
}
