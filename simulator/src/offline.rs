//! Receipts and chains, verified by the command `relaytrace-verify`, without a server: as they are, and tampered with.

mod bytes;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::digest;
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use crate::drill::client::{hex, text};
use crate::drill::service::beside_us;

pub use bytes::{Changed, every_byte};

/// Files that one call of the command is given.
const FILES: usize = 200;

/// A request as it can be checked without a server.
pub struct Exported {
    /// Its chain, as an administrator exports it.
    pub chain: Value,
    /// The receipt of its decision.
    pub receipt: String,
}

/// Runs `relaytrace-verify`.
pub struct Checker {
    folder: PathBuf,
    jwks: Value,
}

impl Checker {
    /// Files are written into the folder; `jwks` are the deployment's receipt keys.
    pub fn new(folder: &Path, jwks: Value) -> Self {
        Self { folder: folder.to_owned(), jwks }
    }

    /// Findings in each chain, and in its receipt if there is one.
    pub fn findings(&self, chains: &[(impl Display, Option<&str>)]) -> Result<Vec<Vec<Value>>> {
        let mut all = Vec::with_capacity(chains.len());
        for part in chains.chunks(FILES) {
            let mut command = self.command()?;
            for (index, (chain, receipt)) in part.iter().enumerate() {
                command.arg("--chain").arg(self.write(&format!("chain-{index}.json"), &chain.to_string())?);
                if let Some(receipt) = receipt {
                    command.arg("--receipt").arg(self.write(&format!("receipt-{index}.txt"), receipt)?);
                }
            }
            // Receipts come first.
            let mut found = run(command)?;
            let of_chains = found.split_off(found.len() - part.len());
            let mut of_receipts = found.into_iter();
            all.extend(part.iter().zip(of_chains).map(|((_, receipt), of_chain)| {
                let of_receipt = receipt.and_then(|_| of_receipts.next()).unwrap_or_default();
                [of_receipt, of_chain].concat()
            }));
        }
        Ok(all)
    }

    /// Findings in each receipt.
    pub fn receipt_findings(&self, receipts: &[String]) -> Result<Vec<Vec<Value>>> {
        let mut all = Vec::with_capacity(receipts.len());
        for part in receipts.chunks(FILES) {
            let mut command = self.command()?;
            for (index, receipt) in part.iter().enumerate() {
                command.arg("--receipt").arg(self.write(&format!("receipt-{index}.txt"), receipt)?);
            }
            all.extend(run(command)?);
        }
        Ok(all)
    }

    /// Whether it refuses to read this chain.
    pub fn is_unreadable(&self, chain: &[u8]) -> Result<bool> {
        let path = self.folder.join("unreadable.json");
        std::fs::write(&path, chain)?;
        Ok(self.command()?.arg("--chain").arg(path).output()?.status.code() == Some(2))
    }

    fn command(&self) -> Result<Command> {
        let mut command = Command::new(beside_us("relaytrace-verify")?);
        command.arg("--json").arg("--jwks").arg(self.write("jwks.json", &self.jwks.to_string())?);
        Ok(command)
    }

    fn write(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = Path::new(&self.folder).join(name);
        std::fs::write(&path, content)?;
        Ok(path)
    }
}

/// The command's output for each file.
fn run(mut command: Command) -> Result<Vec<Vec<Value>>> {
    let output = command.output()?;
    ensure!(output.status.code().is_some_and(|code| code < 2), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let files = said["files"].as_array().context("no files")?;
    let has_any = files.iter().any(|file| file["verifies"] == false);
    ensure!(output.status.success() != has_any, "the exit status is {}, not by the findings", output.status);
    Ok(files.iter().map(|file| file["findings"].as_array().cloned().unwrap_or_default()).collect())
}

/// Makes changed chains, each with the entry where the change is to be found.
pub type Tampering = fn(&Value) -> Vec<(Value, u64)>;

/// Tampering with a chain, by its name.
pub const TAMPERINGS: &[(&str, Tampering)] = &[("edits", edits), ("removals", removals), ("reorderings", reorderings)];

/// The entries of a chain.
pub fn entries(chain: &Value) -> Vec<Value> {
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

/// The chain as its owner would write it anew, with the opposite outcome.
pub fn recomputed(chain: &Value) -> Result<Value> {
    let mut changed = entries(chain);
    let mut previous = unprefixed(&changed[0], "prev_hash")?;
    for entry in &mut changed {
        let bytes = BASE64_STANDARD.decode(text(entry, "entry"))?;
        let said = String::from_utf8(bytes)?;
        let [approved, rejected, cancelled] =
            ["approved", "rejected", "cancelled"].map(|outcome| format!(r#""outcome":"{outcome}""#));
        let said = if said.contains(&approved) {
            said.replace(&approved, &rejected)
        } else {
            said.replace(&rejected, &approved).replace(&cancelled, &approved)
        };
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
pub fn cut_to(chain: &Value, length: usize) -> Value {
    let mut left = entries(chain);
    left.truncate(length);
    let mut whole = with_entries(chain, left);
    whole["length"] = length.into();
    whole["head"] = whole["entries"][length - 1]["hash"].clone();
    whole
}
