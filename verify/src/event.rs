//! Events: each carries the length and head that the chain had (contract, "Events").

use serde_json::Value;

use crate::{Finding, Findings, asked, json_in, text};

/// Everything in which an exported chain is not the one that an event tells of. This finds a chain that was recomputed as
/// a whole, or cut off before the event's entry.
///
/// An event is not signed: it counts as much as the place where it was kept.
#[must_use]
pub fn verify_event(event: &Value, export: &Value) -> Vec<Finding> {
    let mut findings = Findings::default();
    let is_same = event.get("subject").is_some() && event["subject"] == export["request_id"];
    findings.check(is_same, None, "/request_id", "is not the event's subject");
    let told = &event["data"]["chain"];
    let length = told["length"].as_u64().and_then(|length| usize::try_from(length).ok()).filter(|length| *length > 0);
    let Some(length) = length else {
        findings.add(None, "/data/chain/length", "is missing in the event");
        return findings.0;
    };
    let is_own = event["sequence"] == told["length"] && is_own_id(event, length);
    findings.check(is_own, None, "/id", "of the event is not that of its subject and sequence");
    let index = length - 1;
    let Some(entry) = export["entries"].get(index) else {
        findings.add(None, "/entries", format!("are fewer than the {length} of the event"));
        return findings.0;
    };
    let (number, at) = (Some(length), |field: &str| format!("/entries/{index}/{field}"));
    findings.check(told["head"] == entry["hash"], number, at("hash"), "is not the head that the event carries");
    let content = json_in(entry, "entry");
    let kind = text(&content, "kind").unwrap_or_default();
    let told_as = format!("handoff.{}", if kind == "submitted" { "requested" } else { kind });
    findings.check(text(event, "type") == Some(&told_as), number, at("kind"), "is not what the event tells");
    let asked = asked(export);
    for member in ["agent_id", "client_request_key"] {
        let holds = event["data"][member] == asked[member];
        findings.check(holds, None, "/envelope", format!("does not have the event's {member}"));
    }
    check_decision(&mut findings, event, export, length);
    findings.0
}

/// Whether the event's id is `<request_id>/<seq>`, after a restore with the epoch as a third part.
fn is_own_id(event: &Value, length: usize) -> bool {
    let mut parts = text(event, "id").unwrap_or_default().split('/');
    let (request_id, seq) = (parts.next(), parts.next());
    let is_epoch = |part: &str| part.parse::<u32>().is_ok();
    request_id == text(event, "subject") && seq == Some(&length.to_string()) && parts.all(is_epoch)
}

/// Outcome and cause, where the event tells them, are those of the decision up to its entry.
fn check_decision(findings: &mut Findings, event: &Value, export: &Value, length: usize) {
    let entries = export["entries"].as_array().map(Vec::as_slice).unwrap_or_default();
    let up_to = entries.iter().take(length).map(|entry| json_in(entry, "entry"));
    let decided = up_to.enumerate().find(|(_, content)| text(content, "kind") == Some("decided"));
    for member in ["outcome", "cause"] {
        let told = text(&event["data"], member);
        let Some((index, content)) = &decided else {
            findings.check(told.is_none(), None, "/entries", format!("hold no decision with the event's {member}"));
            continue;
        };
        let holds = told == text(content, member);
        let field = format!("/entries/{index}/entry");
        findings.check(holds, Some(index + 1), field, format!("does not have the event's {member}"));
    }
}
