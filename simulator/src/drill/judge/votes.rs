//! Votes against the chains: as many as are required, of different operators, and listed where they decide.

use std::collections::{HashMap, HashSet};

use anyhow::Result;

use super::{Findings, fields, rows};
use crate::drill::history::Record;
use crate::drill::scene::Scene;

/// What the chain of a request says that needs several approvals.
#[derive(Default)]
struct Chain {
    required: usize,
    /// As its row counts them.
    given: usize,
    /// Who has voted, in the order of the entries.
    voters: Vec<String>,
    /// Outcome and cause, who decided, and whose votes that entry lists.
    decided: Option<(String, String, String, Vec<String>)>,
}

const ENTRIES: &str = "
    SELECT r.request_id, r.approvals_required, COALESCE(r.approvals_given, 0), c.kind, c.e -> 'actor' ->> 'id',
        COALESCE(c.e ->> 'outcome', ''), COALESCE(c.e ->> 'cause', ''), COALESCE((
            SELECT string_agg(v.vote -> 'actor' ->> 'id', ',' ORDER BY v.number)
            FROM json_array_elements(c.e -> 'votes') WITH ORDINALITY v (vote, number)
        ), '')
    FROM hitl_requests r
    JOIN (
        SELECT request_id, seq, kind, convert_from(entry, 'UTF8')::json AS e FROM approval_chain
        WHERE kind IN ('voted', 'decided')
    ) c USING (request_id)
    WHERE r.approvals_required > 1 OR c.kind = 'voted'
    ORDER BY r.request_id, c.seq";

/// Judges every vote of a run.
pub fn judge_votes(scene: &Scene<'_>, findings: &mut Findings) -> Result<()> {
    let mut chains = HashMap::<String, Chain>::new();
    for row in rows(scene, ENTRIES)? {
        let [id, required, given, kind, actor, outcome, cause, listed] = fields(row)?;
        let chain = chains.entry(id.clone()).or_default();
        (chain.required, chain.given) = (required.parse().unwrap_or(1), given.parse()?);
        if chain.decided.is_some() {
            findings.fault("vote after the decision", id);
        } else if kind == "voted" {
            chain.voters.push(actor);
        } else {
            let listed = listed.split(',').filter(|id| !id.is_empty()).map(str::to_owned).collect();
            chain.decided = Some((outcome, cause, actor, listed));
        }
    }
    for (id, chain) in &chains {
        judge_chain(id, chain, findings);
        findings.votes += chain.voters.len() as u64;
    }
    for record in scene.history.records() {
        if let Record::Voted { request_id, operator } = record
            && !chains.get(&request_id).is_some_and(|chain| chain.voters.contains(&operator))
        {
            findings.fault("vote lost", format!("{request_id}: {operator}"));
        }
    }
    Ok(())
}

fn judge_chain(id: &str, chain: &Chain, findings: &mut Findings) {
    let mut expected = chain.voters.clone();
    if let Some((outcome, cause, by, listed)) = &chain.decided {
        if outcome == "approved" {
            expected.push(by.clone());
            if cause != "operator" {
                findings.fault("approved without a last voter", format!("{id}: {cause}"));
            }
            if expected.len() != chain.required {
                findings.fault("not the required approvals", format!("{id}: {}", expected.len()));
            }
        }
        if *listed != expected {
            findings.fault("votes differ", format!("{id}: {listed:?} are listed, {expected:?} voted"));
        }
    }
    if chain.given != chain.voters.len() || chain.voters.len() >= chain.required {
        findings.fault("votes miscounted", format!("{id}: {} of {:?}", chain.given, chain.voters));
    }
    if expected.iter().collect::<HashSet<_>>().len() != expected.len() {
        findings.fault("somebody counts twice", format!("{id}: {expected:?}"));
    }
}
