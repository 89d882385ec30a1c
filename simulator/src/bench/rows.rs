//! The rows that calls and statements work on, the same for both sides.
//!
//! A batch is a set of requests whose ids, keys and agents follow from the batch's number and a row's index, so that
//! neither side has to look anything up.

use serde_json::json;

/// Length of the envelope that is submitted.
pub const ENVELOPE_BYTES: usize = 1024;
/// Rows that one statement prepares. Larger sets cost it more for each row.
pub const ROWS_AT_ONCE: u64 = 200;
/// Batches are prepared in multiples of this: a whole number of rows for each agent, client and statement.
pub const STEP: u64 = 6400;

pub const TITLE: &str = "Refund 1,240.00 EUR to customer 88213";
pub const ACTION_TYPE: &str = "refund.create";
/// Stands for the digest of the action, of which nobody asks more than that it stays the same.
pub const DIGEST_HEX: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const RESUME: &str = r#"{"step":"after-approval","ticket":"T-7781"}"#;

/// Agents that are alike: `bench-<name>-000` and so on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    name: &'static str,
    pub size: usize,
}

/// Agents that submit; also those of decided and acknowledged requests.
pub const ASKERS: Group = Group { name: "asker", size: 64 };
/// Agents with deliveries that polls find.
pub const POLLERS: Group = Group { name: "poller", size: 256 };
/// Agents for whom there is nothing.
pub const IDLERS: Group = Group { name: "idler", size: 64 };
/// Agents that wait for one decision after the other.
pub const WAITERS: Group = Group { name: "waiter", size: 200 };
/// Agents that wait, and nothing comes.
pub const PARKED: Group = Group { name: "parked", size: 20_000 };
/// Agents that hand over as fast as they can.
pub const HANDLERS: Group = Group { name: "handler", size: 32 };

/// Agents whose polls name their requests: one with few decisions that are due, one with many.
pub const FEW: Group = Group { name: "few", size: 1 };
pub const MANY: Group = Group { name: "many", size: 1 };

impl Group {
    /// The id of the agent of a row, which is also its key's.
    pub fn agent_id(self, index: usize) -> String {
        format!("bench-{}-{:03}", self.name, index % self.size)
    }

    /// A condition on `agent_id`: one of the group.
    pub fn condition(self) -> String {
        format!("agent_id LIKE 'bench-{}-%'", self.name)
    }

    /// The agent of a row as an SQL expression.
    pub fn agent_sql(self, index: &str) -> String {
        format!("'bench-{}-' || lpad(({index}::int8 % {})::text, 3, '0')", self.name, self.size)
    }
}

/// Requests that were made together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    pub number: u32,
    pub group: Group,
}

impl Batch {
    /// Ids begin with this, as those of a UUIDv7 begin with the time, a while ago.
    fn id_prefix(self) -> String {
        format!("{:08x}-0000-7000-8000-", 0x0190_0000 + self.number)
    }

    /// The id of a request; also that of its delivery's attempt where the batch was leased beforehand.
    pub fn request_id(self, index: u64) -> String {
        format!("{}{index:012x}", self.id_prefix())
    }

    pub fn request_sql(self, index: &str) -> String {
        format!("('{}' || lpad(to_hex({index}::int8), 12, '0'))::uuid", self.id_prefix())
    }

    /// The agent's own key of a request; as long as every other.
    pub fn client_request_key(self, index: u64) -> String {
        format!("bench-{:08x}-{index:012x}", self.number)
    }

    pub fn key_sql(self, index: &str) -> String {
        format!("'bench-{:08x}-' || lpad(to_hex({index}::int8), 12, '0')", self.number)
    }

    /// A condition on `request_id`: the batch's rows.
    pub fn condition(self) -> String {
        format!("request_id BETWEEN '{}' AND '{}'", self.request_id(0), self.request_id(0xffff_ffff_ffff))
    }
}

/// As long as an attestation is: pgbench cannot sign, and the statement stores what it is given. It gets no receipt, so
/// a request that has it is never delivered.
fn unsigned_attestation() -> String {
    json!({"kid": "k".repeat(43), "sig": "s".repeat(86)}).to_string()
}

/// Values that scripts name and that pgbench sends as parameters. `:nothing` has none on purpose: that is null.
pub fn variables(clients: usize) -> Vec<(&'static str, String)> {
    let key = Batch { number: 0, group: ASKERS }.client_request_key(0);
    vec![
        ("n", "0".to_owned()),
        ("clients", clients.to_string()),
        ("envelope", Envelopes::new().of(&ASKERS.agent_id(0), &key)),
        ("resume", RESUME.to_owned()),
        ("title", TITLE.to_owned()),
        ("action_type", ACTION_TYPE.to_owned()),
        ("digest", format!("\\x{DIGEST_HEX}")),
        ("traceparent", TRACEPARENT.to_owned()),
        ("operator", "operator".to_owned()),
        ("operator_id", "maria".to_owned()),
        ("operator_name", "Maria K.".to_owned()),
        ("outcome", "approved".to_owned()),
        ("attestation", unsigned_attestation()),
        ("result", "accepted".to_owned()),
        ("max_age_seconds", "86400".to_owned()),
        ("kept_seconds", "604800".to_owned()),
        ("lease_seconds", "30".to_owned()),
        ("max_attempts", "20".to_owned()),
        ("longest_backoff_seconds", "300".to_owned()),
        ("limit", "1".to_owned()),
    ]
}

/// Envelopes of exactly [`ENVELOPE_BYTES`] that differ in their agent and key. Made once: writing JSON anew for each
/// call would cost the client more than sending it.
#[derive(Debug)]
pub struct Envelopes {
    /// Before the agent's id, up to the key, and after it.
    parts: [String; 3],
}

impl Envelopes {
    /// The template.
    pub fn new() -> Self {
        const AGENT: &str = "{agent}";
        const KEY: &str = "{key}";
        let with = |filler: &str| {
            json!({
                "envelope_version": "1", "agent_id": AGENT, "client_request_key": KEY, "priority": "P2", "title": TITLE,
                "action": {"type": ACTION_TYPE, "arguments": {"customer": "88213", "amount": "1240.00", "currency": "EUR"}},
                "context": {"customer": {"since": 2019, "tier": "business", "open_tickets": 1}, "notes": filler},
                "resume": {"step": "after-approval", "ticket": "T-7781"},
            })
            .to_string()
        };
        let ids = ASKERS.agent_id(0).len() + Batch { number: 0, group: ASKERS }.client_request_key(0).len();
        let missing = (ENVELOPE_BYTES + AGENT.len() + KEY.len()).saturating_sub(with("").len() + ids);
        let mut filler =
            "Charged twice for order 55-1042; both charges are on the statement. ".repeat(missing / 64 + 1);
        filler.truncate(missing);
        let text = with(&filler);
        let (before, rest) = text.split_once(AGENT).unwrap_or_default();
        let (between, after) = rest.split_once(KEY).unwrap_or_default();
        Self { parts: [before, between, after].map(str::to_owned) }
    }

    /// One of them.
    pub fn of(&self, agent_id: &str, client_request_key: &str) -> String {
        let [before, between, after] = &self.parts;
        [before, agent_id, between, client_request_key, after].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_have_their_length() {
        let batch = Batch { number: 7, group: ASKERS };
        let envelope = Envelopes::new().of(&ASKERS.agent_id(1), &batch.client_request_key(5));
        assert_eq!(envelope.len(), ENVELOPE_BYTES);
        let envelope: serde_json::Value = serde_json::from_str(&envelope).unwrap();
        assert_eq!(envelope["agent_id"], "bench-asker-001");
        assert_eq!(envelope["client_request_key"], "bench-00000007-000000000005");
    }

    #[test]
    fn ids_follow_from_the_batch_and_the_index() {
        let batch = Batch { number: 0x2a, group: POLLERS };
        assert_eq!(batch.request_id(255), "0190002a-0000-7000-8000-0000000000ff");
        assert_eq!(batch.request_sql(":i"), "('0190002a-0000-7000-8000-' || lpad(to_hex(:i::int8), 12, '0'))::uuid");
        assert_eq!(POLLERS.agent_id(257), "bench-poller-001");
    }
}
