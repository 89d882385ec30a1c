//! The keys that calls are asked under, as the other SDKs make them: run, digest of the action, ordinal of equal actions.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest;
use uuid::Uuid;

/// Characters of a digest that a key carries.
const DIGEST_CHARACTERS: usize = 32;
/// Longest part that stays readable, and longest key of parts.
const LONGEST: (usize, usize) = (64, 120);
/// Longest key with room for the suffix of a question that is asked anew.
pub const LONGEST_KEY: usize = 125;

/// One run of an agent, which numbers its equal questions.
#[derive(Debug)]
pub struct Run {
    id: String,
    asked: Mutex<HashMap<String, u32>>,
}

impl Default for Run {
    fn default() -> Self {
        Self::named(&Uuid::new_v4().simple().to_string())
    }
}

impl Run {
    /// A run that can be continued in another process under the same name.
    pub fn named(id: &str) -> Self {
        Self { id: id.to_owned(), asked: Mutex::default() }
    }

    /// The key of the next question about the action of this digest.
    pub fn next_key(&self, action_digest: &str) -> String {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let ordinal = asked.entry(action_digest.to_owned()).or_default();
        *ordinal += 1;
        let digest: String = action_digest.trim_start_matches("sha256:").chars().take(DIGEST_CHARACTERS).collect();
        key_of(&[&self.id, &digest, &ordinal.to_string()])
    }
}

/// A legal `client_request_key` that the same parts always give.
fn key_of(parts: &[&str]) -> String {
    let is_plain = |part: &str| {
        (1..=LONGEST.0).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
    };
    let plain = parts.iter().map(|part| {
        if is_plain(part) { (*part).to_owned() } else { hashed(part).chars().take(DIGEST_CHARACTERS).collect() }
    });
    let key = plain.collect::<Vec<_>>().join(":");
    if key.len() <= LONGEST.1 { key } else { hashed(&parts.join("\0")) }
}

fn hashed(text: &str) -> String {
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The key of a generation: a question whose approval expired unused is asked anew under `<key>:2`.
pub fn of_generation(key: &str, generation: u32) -> String {
    if generation == 1 { key.to_owned() } else { format!("{key}:{generation}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_questions_of_a_run_are_numbered_and_another_run_has_keys_of_its_own() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        let run = Run::named("run-7");
        let first = format!("run-7:{}:1", "ab".repeat(16));
        assert_eq!(run.next_key(&digest), first);
        assert_eq!(run.next_key(&digest), format!("run-7:{}:2", "ab".repeat(16)));
        assert_eq!(Run::named("run-7").next_key(&digest), first);
        assert_ne!(Run::default().next_key(&digest), Run::default().next_key(&digest));
    }

    #[test]
    fn whatever_a_run_is_called_its_keys_are_legal() {
        for id in ["", "run 7/ä", &"x".repeat(64), &"y".repeat(500)] {
            let key = Run::named(id).next_key(&format!("sha256:{}", "0f".repeat(32)));
            let is_legal = key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b));
            assert!(is_legal && key.len() <= LONGEST_KEY, "{key}");
        }
    }
}
