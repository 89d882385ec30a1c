//! What must not pass: responses that were tampered with, replayed or misdirected (criterion 7), and changed chains and
//! receipts (criterion 8).

use std::path::Path;

use anyhow::Result;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use relaytrace_client::signature::Received;
use reqwest::header::HeaderValue;

use super::audit::Audit;
use super::cohort::Agent;
use super::ledger::Sample;
use crate::offline::{Changed, Checker, every_byte, recomputed};

/// With so many chains, every byte of two of them is changed; else of one.
const ENOUGH: usize = 100;
/// Chains that are recomputed as a whole, at the most.
const RECOMPUTED: usize = 300;
/// Bytes of each response that are changed.
const BYTES_OF_A_BODY: usize = 24;

/// Responses that were given to the client's verifier.
#[derive(Debug, Default)]
pub struct Tampered {
    /// Untouched ones that it accepts, as it must for the rest to mean anything.
    pub accepted: u64,
    /// How many were tampered with, replayed or misdirected.
    pub tried: u64,
    /// Those of them that it accepted.
    pub passed: Vec<String>,
}

/// Gives the verifier every sample as it was, and changed in every way.
pub fn tamper(cohort: &[Agent], samples: &[Sample], seed: u64) -> Tampered {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut tampered = Tampered::default();
    for (place, sample) in samples.iter().enumerate() {
        tampered.accepted += u64::from(accepts(cohort, sample, sample.agent));
        for (what, changed) in changes(sample, &mut random) {
            tampered.add(what, accepts(cohort, &changed, sample.agent), sample);
        }
        let other = &samples[(place + 1) % samples.len()];
        // The answer to one call given as that to another.
        let replayed = Sample { nonce: other.nonce.clone(), ..sample.clone() };
        tampered.add(
            "replayed to another call",
            other.nonce != sample.nonce && accepts(cohort, &replayed, sample.agent),
            sample,
        );
        let swapped = Sample { body: other.body.clone(), ..sample.clone() };
        tampered.add(
            "with another's body",
            other.body != sample.body && accepts(cohort, &swapped, sample.agent),
            sample,
        );
        for reader in misdirected(cohort, sample.agent) {
            tampered.add("misdirected to another key", accepts(cohort, sample, reader), sample);
        }
    }
    tampered
}

impl Tampered {
    fn add(&mut self, what: &str, passed: bool, sample: &Sample) {
        self.tried += 1;
        if passed {
            self.passed.push(format!("a response to {} {what}", sample.method));
        }
    }
}

/// Whether the verifier of this agent's key takes the sample for the answer to its call.
fn accepts(cohort: &[Agent], sample: &Sample, (agent, key): (usize, usize)) -> bool {
    let Sample { method, nonce, status, headers, body, at, .. } = sample;
    let expected = cohort[agent].keys[key].credentials.expected(method, nonce, *at);
    expected.verify(Received { status: *status, headers, body }).is_ok()
}

/// Another agent, and another key of the same agent where it has one.
fn misdirected(cohort: &[Agent], (agent, key): (usize, usize)) -> Vec<(usize, usize)> {
    let mut readers = Vec::new();
    if cohort.len() > 1 {
        readers.push(((agent + 1) % cohort.len(), 0));
    }
    if cohort[agent].keys.len() > 1 {
        readers.push((agent, (key + 1) % cohort[agent].keys.len()));
    }
    readers
}

fn changes(sample: &Sample, random: &mut ChaCha8Rng) -> Vec<(&'static str, Sample)> {
    let mut all = Vec::new();
    let mut change = |what, change: &mut dyn FnMut(&mut Sample)| {
        let mut changed = sample.clone();
        change(&mut changed);
        all.push((what, changed));
    };
    for _ in 0..BYTES_OF_A_BODY.min(sample.body.len()) {
        let at = random.random_range(0..sample.body.len());
        let bit = 1 << random.random_range(0..8);
        change("with a byte of its body changed", &mut |sample| sample.body[at] ^= bit);
    }
    change("with a byte more", &mut |sample| sample.body.push(b' '));
    change("with another status", &mut |sample| sample.status ^= 1);
    change("with another method", &mut |sample| sample.method.push('X'));
    // The contract's leeway is 30 s on both sides.
    change("as an old one", &mut |sample| sample.at = sample.parameter("expires") + 31);
    change("as one of the future", &mut |sample| sample.at = sample.parameter("created") - 31);
    for name in ["signature", "signature-input", "content-digest", "content-type"] {
        change("without one of its headers", &mut |sample| drop(sample.headers.remove(name)));
        change("with a header twice", &mut |sample| {
            if let Some(value) = sample.headers.get(name).cloned() {
                sample.headers.append(name, value);
            }
        });
    }
    change("with another signature", &mut |sample| sample.change("signature", flip_a_bit));
    for (from, to) in
        [("created=", "created=1"), ("keyid=\"", "keyid=\"x"), ("hmac-sha256", "hmac-sha512"), ("\"@status\" ", "")]
    {
        let replace = |text: &str| text.replacen(from, to, 1);
        change("with another signature-input", &mut |sample| sample.change("signature-input", replace));
    }
    change("with another type", &mut |sample| sample.change("content-type", |_| "text/html".to_owned()));
    all
}

impl Sample {
    /// A time among the signature's parameters; the end of time where there is none.
    fn parameter(&self, name: &str) -> i64 {
        let input = self.headers.get("signature-input").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let value = input.split(';').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse().ok()).unwrap_or(i64::MAX / 2)
    }

    fn change(&mut self, name: &'static str, change: impl Fn(&str) -> String) {
        let changed = self.headers.get(name).and_then(|value| value.to_str().ok()).map(change);
        if let Some(changed) = changed.and_then(|text| HeaderValue::from_str(&text).ok()) {
            self.headers.insert(name, changed);
        }
    }
}

/// `relaytrace=:…:` with the first bit of the bytes in it flipped.
fn flip_a_bit(signature: &str) -> String {
    let mut bytes = signature.split(':').nth(1).and_then(|text| BASE64_STANDARD.decode(text).ok()).unwrap_or_default();
    if let Some(first) = bytes.first_mut() {
        *first ^= 0x80;
    }
    format!("relaytrace=:{}:", BASE64_STANDARD.encode(bytes))
}

/// Chains and receipts that were given to the offline verifier.
#[derive(Debug, Default)]
pub struct Offline {
    /// Unchanged exports and receipts that were checked.
    pub checked: u64,
    /// Those of them that do not verify, and why.
    pub broken: Vec<String>,
    /// Single bytes that were changed.
    pub bytes: Changed,
    /// Chains that were recomputed as a whole with another outcome.
    pub recomputed: u64,
    /// Those of them that their receipt did not find.
    pub recomputed_missed: u64,
}

/// Runs `relaytrace-verify` on everything that was exported, as it is and changed. Blocks.
pub fn verify_offline(audit: &Audit, folder: &Path) -> Result<Offline> {
    let checker = Checker::new(folder, audit.jwks.clone());
    let all: Vec<_> = audit.exported.iter().map(|of| (&of.chain, Some(&*of.receipt))).collect();
    let mut offline = Offline { checked: all.len() as u64, ..Offline::default() };
    let findings = checker.findings(&all)?;
    let mut whole = Vec::new();
    for (exported, findings) in audit.exported.iter().zip(findings) {
        match findings.first() {
            None => whole.push(exported),
            Some(first) => offline.broken.push(format!("{}: {first}", exported.chain["request_id"])),
        }
    }
    // The shortest, so that there is time for every byte of it, and in a long run one from the middle.
    whole.sort_by_key(|exported| exported.chain.to_string().len());
    let some = [whole.first(), whole.get(whole.len() / 2).filter(|_| whole.len() >= ENOUGH)];
    for exported in some.into_iter().flatten() {
        offline.bytes = std::mem::take(&mut offline.bytes).and(every_byte(&checker, exported)?);
    }
    let changed = whole.iter().take(RECOMPUTED).map(|of| Ok((recomputed(&of.chain)?, Some(&*of.receipt))));
    let changed = changed.collect::<Result<Vec<_>>>()?;
    offline.recomputed = changed.len() as u64;
    let missed = checker.findings(&changed)?.iter().filter(|findings| findings.is_empty()).count();
    offline.recomputed_missed = missed as u64;
    Ok(offline)
}
