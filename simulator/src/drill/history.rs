//! The history of a drill: calls and answers as its clients saw them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// One thing that a client did or learned.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Record {
    /// A submission is about to be sent, perhaps again.
    Sent { agent_id: String, client_request_key: String },
    /// It was answered with 201 or 200.
    Submitted {
        agent_id: String,
        client_request_key: String,
        request_id: String,
        action_digest: String,
        duplicate: bool,
    },
    /// An operator was told that this decision is theirs: 201, or 200 when asked again.
    Decided { request_id: String, outcome: String, operator: String },
    /// An operator was told that their approval counts, and that others are needed.
    Voted { request_id: String, operator: String },
    /// Someone was told that this decision stands: 409.
    Stands { request_id: String, outcome: String, decided_by: String },
    /// A poll brought this.
    Delivered { request_id: String, delivery_id: String, attempt: u64, outcome: String, action_digest: String },
    /// An acknowledgement was answered with this state.
    Acknowledged { request_id: String, delivery_id: String, state: String },
    /// An attempt was told that it has used a permit, now or before.
    Consumed { request_id: String, consume_key: String, action_digest: String, repeated: bool },
    /// Someone was told that this outcome is on record.
    Reported { request_id: String, state: String },
    /// A call was refused.
    Refused { call: String, status: u16, code: String },
    /// A call got no answer that counts.
    Lost { call: String, why: String },
    /// Something that must never happen, whatever broke.
    Violation { of: &'static str, detail: String },
}

/// The records of all clients of a drill.
#[derive(Debug, Default)]
pub struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Record>,
    /// Decided requests whose agent was not yet told that its acknowledgement is final.
    outstanding: HashMap<String, HashSet<String>>,
    finished: HashSet<String>,
    slowest: Duration,
    /// How often something was begun, by its name.
    ticks: BTreeMap<&'static str, u64>,
    outages: u64,
}

impl History {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record.
    pub fn add(&self, record: Record) {
        let mut inner = self.lock();
        inner.outages += u64::from(matches!(record, Record::Lost { .. } | Record::Refused { status: 503, .. }));
        inner.records.push(record);
    }

    /// Notes something that must never happen.
    pub fn violation(&self, of: &'static str, detail: impl Into<String>) {
        self.add(Record::Violation { of, detail: detail.into() });
    }

    /// Notes how long a call took.
    pub fn took(&self, time: Duration) {
        let mut inner = self.lock();
        inner.slowest = inner.slowest.max(time);
    }

    /// The slowest call since this was last asked, answered or not; sweeps and polls' own waiting are not counted.
    pub fn take_slowest(&self) -> Duration {
        std::mem::take(&mut self.lock().slowest)
    }

    /// A decision of this agent's request was made: its poller has to get it.
    pub fn expect_delivery(&self, agent_id: &str, request_id: &str) {
        let mut inner = self.lock();
        if !inner.finished.contains(request_id) {
            inner.outstanding.entry(agent_id.to_owned()).or_default().insert(request_id.to_owned());
        }
    }

    /// The delivery has its last state.
    pub fn finish_delivery(&self, agent_id: &str, request_id: &str) {
        let mut inner = self.lock();
        inner.finished.insert(request_id.to_owned());
        inner.outstanding.entry(agent_id.to_owned()).or_default().remove(request_id);
    }

    /// How many decisions this agent has still to get.
    pub fn outstanding(&self, agent_id: &str) -> usize {
        self.lock().outstanding.get(agent_id).map_or(0, HashSet::len)
    }

    /// Calls so far that got no answer, or 503.
    pub fn outages(&self) -> u64 {
        self.lock().outages
    }

    /// Counts something that a client begins.
    pub fn tick(&self, what: &'static str) {
        *self.lock().ticks.entry(what).or_default() += 1;
    }

    /// How often each thing was begun.
    pub fn ticks(&self) -> BTreeMap<&'static str, u64> {
        self.lock().ticks.clone()
    }

    /// A copy of all records.
    pub fn records(&self) -> Vec<Record> {
        self.lock().records.clone()
    }

    /// How many records are like this.
    pub fn count(&self, is_like: impl Fn(&Record) -> bool) -> u64 {
        self.lock().records.iter().filter(|record| is_like(record)).count() as u64
    }

    /// Writes all records, a JSON line each.
    pub fn write_to(&self, path: &Path) -> Result<()> {
        let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
        for record in &self.lock().records {
            serde_json::to_writer(&mut file, record)?;
            file.write_all(b"\n")?;
        }
        Ok(file.flush()?)
    }
}
