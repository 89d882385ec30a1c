//! Chains: recomputed from their own bytes.

use base64::prelude::{BASE64_STANDARD, Engine};
use relaytrace_domain::{
    ChainKind, Digest, Json, Protocol, RequestId, Timestamp, action_digest, chain_genesis, chain_hash,
};
use serde::Deserialize as _;
use serde_json::Value;

use crate::{Finding, Findings, is_erased, json_in, text};

/// Everything that does not hold in an exported chain. None: it is what was recorded, or was recomputed as a whole
/// or cut off at its end, which only a receipt or an event can tell.
#[must_use]
pub fn verify_chain(export: &Value) -> Vec<Finding> {
    let mut findings = Findings::default();
    let request_id = text(export, "request_id").and_then(|id| id.parse::<RequestId>().ok());
    let is_canonical = request_id.is_some_and(|id| text(export, "request_id") == Some(&id.to_string()));
    findings.check(is_canonical, None, "/request_id", "is not a request's id in its canonical form");

    let Some(entries) = export.get("entries").and_then(Value::as_array).filter(|entries| !entries.is_empty()) else {
        findings.add(None, "/entries", "is missing or empty");
        return findings.0;
    };
    let mut link = Link { request_id, previous: request_id.map(chain_genesis), latest: None };
    let contents: Vec<_> =
        entries.iter().enumerate().map(|(index, entry)| link.follow(&mut findings, index, entry)).collect();
    let of_entries = contents.first().and_then(|content| text(content, "request_id"));
    let is_theirs = text(export, "request_id") == of_entries;
    findings.check(is_theirs, None, "/request_id", "is not that of the first entry");
    check_order(&mut findings, &contents);
    check_envelope(&mut findings, export, &contents);

    let length = export.get("length").and_then(Value::as_u64);
    findings.check(length == Some(entries.len() as u64), None, "/length", "is not the number of entries");
    let newest = entries.last().and_then(|entry| text(entry, "hash"));
    findings.check(text(export, "head") == newest, None, "/head", "is not the hash of the newest entry");
    findings.0
}

/// Members of an export, and of each of its entries.
const EXPORT_MEMBERS: [&str; 6] = ["request_id", "length", "head", "envelope", "erased", "entries"];
const ENTRY_MEMBERS: [&str; 7] = ["seq", "kind", "at", "actor", "entry", "prev_hash", "hash"];

/// What a reader should know of an exported chain that is no fault: what this version does not know, and cannot check.
#[must_use]
pub fn notes_on_chain(export: &Value) -> Vec<Finding> {
    let mut notes = Findings::default();
    note_members(&mut notes, export, &EXPORT_MEMBERS, None, "");
    if is_erased(export) {
        notes.add(None, "/envelope", "was erased: what it said cannot be checked against its digests");
    }
    for (index, entry) in export["entries"].as_array().into_iter().flatten().enumerate() {
        let (number, at) = (Some(index + 1), |field: &str| format!("/entries/{index}/{field}"));
        note_members(&mut notes, entry, &ENTRY_MEMBERS, number, &format!("/entries/{index}"));
        let content = json_in(entry, "entry");
        let kind = text(&content, "kind").unwrap_or_default();
        if content.get("kind").is_none_or(|kind| ChainKind::deserialize(kind).is_err()) {
            let what =
                format!("is {kind:?}, which this version does not know: its hash was checked, its meaning was not");
            notes.add(number, at("kind"), what);
        }
        if matches!(kind, "decided" | "voted") && content.get("attestation").is_none() {
            notes.add(number, at("entry"), "is from before attestations, or forged: has none");
        }
    }
    notes.0
}

/// Members outside of the hashed bytes: nothing protects what they say.
fn note_members(notes: &mut Findings, object: &Value, known: &[&str], entry: Option<usize>, at: &str) {
    for name in object.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if !known.contains(&name.as_str()) {
            let member = name.replace('~', "~0").replace('/', "~1");
            notes.add(
                entry,
                format!("{at}/{member}"),
                "is a member that this version does not know: it was not checked",
            );
        }
    }
}

/// The state before an entry, which it is checked against.
struct Link {
    request_id: Option<RequestId>,
    previous: Option<Digest>,
    latest: Option<Timestamp>,
}

impl Link {
    /// Checks one entry against the one before. Returns the object that its bytes hold.
    fn follow(&mut self, findings: &mut Findings, index: usize, entry: &Value) -> Value {
        let (number, at) = (Some(index + 1), |field: &str| format!("/entries/{index}/{field}"));
        let digest = |name| text(entry, name).and_then(|text| text.parse::<Digest>().ok());
        let (prev_hash, hash) = (digest("prev_hash"), digest("hash"));
        let is_linked = prev_hash.is_some() && prev_hash == self.previous;
        let before = if index == 0 { "is not that of an empty chain" } else { "is not the hash of the entry before" };
        findings.check(is_linked, number, at("prev_hash"), before);
        self.previous = hash;

        let Some(bytes) = text(entry, "entry").and_then(|text| BASE64_STANDARD.decode(text).ok()) else {
            findings.add(number, at("entry"), "is missing or not base64");
            return Value::Null;
        };
        let is_hashed = prev_hash.is_some_and(|prev_hash| Some(chain_hash(prev_hash, &bytes)) == hash);
        findings.check(is_hashed, number, at("hash"), "is not the SHA-256 of prev_hash and entry");
        let Ok(content) = serde_json::from_slice::<Value>(&bytes) else {
            findings.add(number, at("entry"), "does not hold JSON");
            return Value::Null;
        };
        for name in ["seq", "kind", "at", "actor"] {
            let is_same = content.get(name).is_some() && content.get(name) == entry.get(name);
            findings.check(is_same, number, at(name), "is not what the entry's bytes say");
        }
        let id = self.request_id.map(|id| id.to_string());
        findings.check(text(&content, "request_id") == id.as_deref(), number, at("entry"), "is of another request");
        let seq = content.get("seq").and_then(Value::as_u64);
        findings.check(seq == Some(index as u64 + 1), number, at("seq"), "is not its position");
        let time = text(&content, "at").and_then(|text| text.parse().ok());
        findings.check(time.is_some() && time >= self.latest, number, at("at"), "is no time, or goes backwards");
        self.latest = time.or(self.latest);
        content
    }
}

/// Submitted first and once; decided at most once, with votes before it; used at most once, and for the action that was
/// decided.
fn check_order(findings: &mut Findings, contents: &[Value]) {
    let (mut decided, mut is_consumed) = (None, false);
    for (index, content) in contents.iter().enumerate() {
        let (number, field) = (Some(index + 1), format!("/entries/{index}/kind"));
        let kind = text(content, "kind");
        findings.check((kind == Some("submitted")) == (index == 0), number, &field, "is out of place");
        match kind {
            Some("decided") => {
                findings.check(decided.is_none(), number, &field, "is a second decision");
                decided = Some(content);
                check_votes(findings, index, contents);
            }
            Some("voted") => findings.check(decided.is_none(), number, &field, "is a vote after the decision"),
            Some("consumed") => {
                findings.check(!is_consumed, number, &field, "is a second use");
                is_consumed = true;
                let is_same = decided.is_some_and(|decided| {
                    text(decided, "outcome") == Some("approved")
                        && text(content, "action_digest") == text(decided, "action_digest")
                });
                findings.check(is_same, number, &field, "is not of the action that was approved");
            }
            _ => {}
        }
    }
}

/// The votes that a decision lists have entries before it, and an approval has as many as were asked for, of different
/// persons.
fn check_votes(findings: &mut Findings, index: usize, contents: &[Value]) {
    let (decided, number) = (&contents[index], Some(index + 1));
    let field = format!("/entries/{index}/entry");
    let is_approval = text(decided, "outcome") == Some("approved");
    let required = contents[0].get("approvals").and_then(Value::as_u64).unwrap_or(1);
    let listed = decided.get("votes").and_then(Value::as_array);
    let given = listed.map_or(1, Vec::len) as u64;
    findings.check(!is_approval || given >= required, number, &field, "has fewer votes than approvals were required");
    let votes = listed.map_or(&[][..], Vec::as_slice);
    for vote in votes {
        let entry = vote["seq"].as_u64().and_then(|seq| contents.get(usize::try_from(seq).ok()?.checked_sub(1)?));
        let is_theirs = entry.is_some_and(|entry| {
            let is_itself = is_approval && std::ptr::eq(entry, decided);
            let same = ["at", "actor", "reason"].iter().all(|member| vote.get(member) == entry.get(member));
            same && (is_itself || text(entry, "kind") == Some("voted") && vote["attestation"] == entry["attestation"])
        });
        findings.check(is_theirs, number, &field, "lists a vote that has no entry");
    }
    let persons =
        |vote: &Value| [&vote["actor"]["id"], &vote["actor"]["for"]["id"]].map(|id| id.as_str().map(str::to_owned));
    let mut voters: Vec<_> = votes.iter().flat_map(persons).flatten().collect();
    let all = voters.len();
    voters.sort_unstable();
    voters.dedup();
    findings.check(voters.len() == all, number, &field, "lists somebody twice among its voters");
}

/// The envelope is the one submitted, and every action digest that of its action.
fn check_envelope(findings: &mut Findings, export: &Value, contents: &[Value]) {
    if is_erased(export) {
        return;
    }
    let says_so = export.get("erased").is_some_and(|erased| erased != false);
    findings.check(!says_so, None, "/erased", "is said of an envelope that is there");
    let Some(envelope) = text(export, "envelope").and_then(|text| BASE64_STANDARD.decode(text).ok()) else {
        return findings.add(None, "/envelope", "is missing or not base64");
    };
    let submitted = contents.first().and_then(|content| text(content, "envelope_sha256"));
    let is_same = submitted == Some(&Digest::of(&envelope).to_string());
    findings.check(is_same, None, "/envelope", "does not have the envelope_sha256 of the submitted entry");
    // A bridge stores what it received: the action is derived from that.
    let protocol = contents.first().and_then(|content| Protocol::deserialize(content.get("protocol")?).ok());
    let envelope = protocol.map_or(Some(envelope.as_slice().into()), |protocol| protocol.envelope(&envelope));
    let json = envelope.and_then(|envelope| Json::parse(&envelope).ok());
    let digest = json.and_then(|json| json.get("action").map(action_digest));
    let Some(digest) = digest.map(|digest| digest.to_string()) else {
        return findings.add(None, "/envelope", "is not an envelope with an action");
    };
    for (index, content) in contents.iter().enumerate() {
        let states_one = matches!(text(content, "kind"), Some("submitted" | "voted" | "decided"));
        // An edited action has a digest of its own; what was asked stands beside it.
        let asked = text(content, "requested_action_digest").or_else(|| text(content, "action_digest"));
        let holds = !states_one || asked == Some(&digest);
        let field = format!("/entries/{index}/entry");
        findings.check(holds, Some(index + 1), field, "does not have the action digest of the envelope");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_action_of_a_bridged_request_is_derived_from_what_was_received() {
        let body = br#"{"tool":"t","server":"s","timeout":"1m","arguments":{"n":9007199254740993}}"#;
        let action = Json::parse(br#"{"type":"s/t","arguments":{"n":"9007199254740993"}}"#).unwrap();
        let faults = |arguments: &[u8], digest: String| {
            let submitted = json!({
                "kind": "submitted", "protocol": "aap/1", "action_digest": digest,
                "envelope_sha256": Digest::of(arguments).to_string(),
            });
            let mut findings = Findings::default();
            let export = json!({"envelope": BASE64_STANDARD.encode(arguments)});
            check_envelope(&mut findings, &export, &[submitted]);
            findings.0.len()
        };
        assert_eq!(faults(body, action_digest(&action).to_string()), 0);
        assert_eq!(faults(body, Digest::of(b"another").to_string()), 1);
        assert_eq!(faults(b"{}", action_digest(&action).to_string()), 1);
    }

    #[test]
    fn votes_have_entries_of_their_own_and_different_voters() {
        let voted = |seq: u64, id: &str| json!({"kind": "voted", "seq": seq, "actor": {"id": id}, "attestation": {}});
        let listed = |voted: &Value| {
            let mut vote = voted.clone();
            vote.as_object_mut().unwrap().remove("kind");
            vote
        };
        let faults = |votes: &[&Value], required: u64, outcome: &str| {
            let (ana, ben) = (voted(2, "ana"), voted(3, "ben"));
            let mut decided = json!({"kind": "decided", "seq": 4, "outcome": outcome, "actor": {"id": "eve"}});
            let mut listed: Vec<_> = votes.iter().map(|vote| listed(vote)).collect();
            if outcome == "approved" {
                listed.push(json!({"seq": 4, "actor": {"id": "eve"}}));
            }
            decided["votes"] = listed.into();
            let submitted = json!({"kind": "submitted", "approvals": required});
            let mut findings = Findings::default();
            check_order(&mut findings, &[submitted, ana, ben, decided]);
            findings.0.len()
        };
        let (ana, ben) = (voted(2, "ana"), voted(3, "ben"));
        assert_eq!(faults(&[&ana, &ben], 3, "approved"), 0);
        assert_eq!(faults(&[&ana], 3, "rejected"), 0, "a rejection needs none, and lists what was there");
        assert_eq!(faults(&[&ana], 3, "approved"), 1);
        assert_eq!(faults(&[&ana, &ana], 3, "approved"), 1, "twice");
        assert_eq!(faults(&[&ana, &voted(3, "dan")], 3, "approved"), 1, "another voter than the entry's");
        assert_eq!(faults(&[&ana, &voted(9, "ben")], 3, "approved"), 1, "no entry");
    }

    #[test]
    fn a_use_is_one_and_of_the_action_that_was_approved() {
        let entry = |kind: &str, digest: &str| json!({"kind": kind, "outcome": "approved", "action_digest": digest});
        let faults = |used: &[&str]| {
            let mut contents = vec![entry("submitted", "a"), entry("decided", "b")];
            contents.extend(used.iter().map(|digest| entry("consumed", digest)));
            let mut findings = Findings::default();
            check_order(&mut findings, &contents);
            findings.0.len()
        };
        assert_eq!([faults(&[]), faults(&["b"]), faults(&["a"]), faults(&["b", "b"])], [0, 0, 1, 1]);
    }
}
