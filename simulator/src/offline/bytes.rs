//! Every byte of an exported chain and of its receipt, changed one at a time: is it found, and where?

use anyhow::Result;
use serde_json::Value;

use super::{Checker, Exported, entries};

/// Result of verifying changed bytes.
#[derive(Debug, Default)]
pub struct Changed {
    /// Changes tried.
    pub tried: u64,
    /// Those that the verifier found.
    pub found: u64,
    /// Those that it found in the entry or member where they are.
    pub located: u64,
    /// The first that it did not.
    pub missed: Option<String>,
}

impl Changed {
    fn add(&mut self, found: bool, located: bool, what: impl FnOnce() -> String) {
        self.tried += 1;
        self.found += u64::from(found);
        self.located += u64::from(located);
        if !located && self.missed.is_none() {
            self.missed = Some(what());
        }
    }

    /// The sum of both counts.
    pub fn and(mut self, other: Self) -> Self {
        self.tried += other.tried;
        self.found += other.found;
        self.located += other.located;
        self.missed = self.missed.or(other.missed);
        self
    }
}

/// Where a byte of an export is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// In this entry, from 1.
    Entry(u64),
    /// In another member of the export.
    Member(&'static str),
    /// Outside of both.
    Between,
}

/// Changes each byte in two ways, its lowest bit and its case, and asks the verifier each time.
pub fn every_byte(checker: &Checker, exported: &Exported) -> Result<Changed> {
    let chain = every_byte_of_chain(checker, &exported.chain)?;
    Ok(chain.and(every_byte_of_receipt(checker, &exported.receipt)?))
}

fn every_byte_of_chain(checker: &Checker, chain: &Value) -> Result<Changed> {
    let text = chain.to_string();
    let places = places(chain, &text);
    let mut changed = Changed::default();
    let mut readable = Vec::new();
    for (at, bytes) in changes(text.as_bytes()) {
        match String::from_utf8(bytes).map_err(std::string::FromUtf8Error::into_bytes) {
            Ok(text) if serde_json::from_str::<Value>(&text).is_ok() => readable.push((at, (text, None))),
            // Refused with the column where it cannot be read.
            Ok(text) => changed.add_unreadable(checker, at, text.as_bytes())?,
            Err(bytes) => changed.add_unreadable(checker, at, &bytes)?,
        }
    }
    let (at, documents): (Vec<usize>, Vec<(String, Option<&str>)>) = readable.into_iter().unzip();
    for (at, findings) in at.into_iter().zip(checker.findings(&documents)?) {
        let located = findings.iter().any(|finding| is_at(places[at], finding));
        changed.add(!findings.is_empty(), located, || format!("byte {at} of a chain, {:?}: {findings:?}", places[at]));
    }
    Ok(changed)
}

impl Changed {
    fn add_unreadable(&mut self, checker: &Checker, at: usize, bytes: &[u8]) -> Result<()> {
        let refused = checker.is_unreadable(bytes)?;
        self.add(refused, refused, || format!("byte {at} of a chain makes it unreadable, and it was read"));
        Ok(())
    }
}

fn every_byte_of_receipt(checker: &Checker, receipt: &str) -> Result<Changed> {
    let (at, receipts): (Vec<usize>, Vec<String>) =
        changes(receipt.as_bytes()).filter_map(|(at, bytes)| Some((at, String::from_utf8(bytes).ok()?))).unzip();
    let mut changed = Changed::default();
    for (at, findings) in at.into_iter().zip(checker.receipt_findings(&receipts)?) {
        // A receipt is one piece: that it does not verify is all there is to locate.
        let found = !findings.is_empty();
        changed.add(found, found, || format!("byte {at} of a receipt: it still verifies"));
    }
    Ok(changed)
}

/// The text with one byte changed, for each byte and change.
fn changes(text: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    let of_byte = |byte: u8| [Some(byte ^ 0x01), byte.is_ascii_alphabetic().then_some(byte ^ 0x20)];
    (0..text.len()).flat_map(move |at| {
        of_byte(text[at]).into_iter().flatten().map(move |byte| {
            let mut changed = text.to_vec();
            changed[at] = byte;
            (at, changed)
        })
    })
}

/// The place of each byte.
fn places(chain: &Value, text: &str) -> Vec<Place> {
    let mut places = vec![Place::Between; text.len()];
    let mut mark = |part: &str, from: usize, place: Place| {
        let start = text[from..].find(part).map_or(text.len(), |at| from + at);
        let end = (start + part.len()).min(text.len());
        places[start..end].fill(place);
        end
    };
    for name in ["request_id", "length", "head", "envelope"] {
        mark(&format!("\"{name}\":{}", chain[name]), 0, Place::Member(name));
    }
    let mut from = mark("\"entries\":", 0, Place::Member("entries"));
    for (index, entry) in entries(chain).iter().enumerate() {
        from = mark(&entry.to_string(), from, Place::Entry(index as u64 + 1));
    }
    places
}

fn is_at(place: Place, finding: &Value) -> bool {
    let field = finding["field"].as_str().unwrap_or_default();
    match place {
        Place::Entry(number) => finding["entry"].as_u64() == Some(number),
        Place::Member(name) => field.strip_prefix('/').is_some_and(|field| field.starts_with(name)),
        Place::Between => true,
    }
}
