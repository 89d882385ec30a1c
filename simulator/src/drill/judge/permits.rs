//! Permits against the chains: used once at the most, for what was approved, in time, and with one outcome.

use std::collections::{HashMap, HashSet};

use anyhow::Result;

use super::{Findings, fields, rows};
use crate::drill::history::Record;
use crate::drill::scene::Scene;

/// What a request's chain says of its permit.
#[derive(Default)]
struct Chain {
    /// Digest of the approved action; `None`: it was not approved.
    approved: Option<String>,
    /// Digest and key of each use, in their order.
    uses: Vec<(String, String)>,
    /// Each outcome, in their order.
    outcomes: Vec<String>,
}

const ENTRIES: &str = "
    SELECT request_id, kind, COALESCE(e ->> 'outcome', e ->> 'state', ''), COALESCE(e ->> 'action_digest', ''),
        COALESCE(e ->> 'consume_key', '')
    FROM (
        SELECT request_id, seq, kind, convert_from(entry, 'UTF8')::json AS e FROM approval_chain
        WHERE kind IN ('decided', 'consumed', 'outcome')
    ) c
    ORDER BY request_id, seq";

const ROWS: &str = "
    SELECT request_id, COALESCE(execution, ''), COALESCE(consume_key, ''),
        COALESCE(consumed_at >= permit_expires_at, execution IS NOT NULL)
    FROM hitl_requests WHERE status = 'decided'";

/// Judges every permit of a run.
pub fn judge_permits(scene: &Scene<'_>, findings: &mut Findings) -> Result<()> {
    let chains = chains(scene, findings)?;
    for (id, chain) in &chains {
        judge_chain(id, chain, findings);
    }
    for row in rows(scene, ROWS)? {
        let [id, execution, key, is_late] = fields(row)?;
        let Some(chain) = chains.get(&id) else { continue };
        let used = if chain.uses.is_empty() { "" } else { "consumed" };
        let expected = chain.outcomes.last().map_or(used, String::as_str);
        if execution != expected {
            findings.fault("execution differs", format!("{id} is {execution:?}, its chain says {expected:?}"));
        }
        if key != chain.uses.first().map_or("", |(_, key)| key) {
            findings.fault("another attempt stored", &id);
        }
        if is_late == "t" {
            findings.fault("permit used after its end", &id);
        }
    }
    judge_told(scene, &chains, findings);
    findings.consumed = chains.values().filter(|chain| !chain.uses.is_empty()).count() as u64;
    Ok(())
}

fn chains(scene: &Scene<'_>, findings: &mut Findings) -> Result<HashMap<String, Chain>> {
    let mut chains = HashMap::<String, Chain>::new();
    for row in rows(scene, ENTRIES)? {
        let [id, kind, said, digest, key] = fields(row)?;
        let chain = chains.entry(id.clone()).or_default();
        match &*kind {
            "decided" => chain.approved = (said == "approved").then_some(digest),
            "consumed" => chain.uses.push((digest, key)),
            _ => {
                if chain.uses.is_empty() {
                    findings.fault("outcome of what was not used", id);
                }
                chain.outcomes.push(said);
            }
        }
    }
    Ok(chains)
}

fn judge_chain(id: &str, chain: &Chain, findings: &mut Findings) {
    if chain.uses.len() > 1 {
        findings.fault("permit used twice", id);
    }
    for (digest, _) in &chain.uses {
        match &chain.approved {
            None => findings.fault("permit used without approval", id),
            Some(approved) if approved != digest => findings.fault("permit used for another action", id),
            Some(_) => {}
        }
    }
    // A report is final; what a sweep says is not.
    let reports = chain.outcomes.iter().filter(|state| *state != "unknown").count();
    let is_in_order = chain.outcomes.iter().skip(1).all(|state| state != "unknown");
    if reports > 1 || !is_in_order {
        findings.fault("not one outcome", format!("{id}: {:?}", chain.outcomes));
    }
}

/// What clients were told is what the chains say.
fn judge_told(scene: &Scene<'_>, chains: &HashMap<String, Chain>, findings: &mut Findings) {
    let mut told_new = HashSet::new();
    for record in scene.history.records() {
        match record {
            Record::Consumed { request_id, consume_key, action_digest, repeated } => {
                let stored = chains.get(&request_id).and_then(|chain| chain.uses.first());
                if stored != Some(&(action_digest, consume_key)) {
                    findings.fault("use lost", &request_id);
                }
                if !repeated && !told_new.insert(request_id.clone()) {
                    findings.fault("two attempts were told to run", request_id);
                }
            }
            Record::Reported { request_id, state } => {
                let stored = chains.get(&request_id).and_then(|chain| chain.outcomes.last());
                if stored != Some(&state) {
                    findings.fault("report lost", format!("{request_id}: {state}, stored is {stored:?}"));
                }
            }
            _ => {}
        }
    }
}
