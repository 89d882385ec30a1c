//! What a server says of its tools: learned from every `tools/list` that passes by.

use std::collections::HashMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::Value;

use crate::message::Members;

/// Most tools that are remembered; more are asked about as if nothing were known of them.
pub const MOST_TOOLS: usize = 10_000;
/// Longest annotations that count, in bytes: longer ones are as good as none.
const LONGEST_ANNOTATIONS: usize = 16 << 10;
/// What a call means, and what its operator is shown.
const DEFINITION: [&str; 3] = ["annotations", "inputSchema", "outputSchema"];

/// What a server says of a tool. A server may say anything: only `readOnlyHint` has an effect, and it can be overruled
/// with `--ask all`.
#[derive(Clone, Debug, Default)]
pub struct Tool {
    /// Its annotations, as they were written.
    pub annotations: Option<Value>,
    /// It promises structured results: a result without them is not valid.
    pub is_structured: bool,
    /// It runs as a task where its client wants that (MCP 2025-11-25, "Tool-Level Negotiation").
    pub runs_as_task: bool,
    /// SHA-256 of its definition in canonical JSON, in hexadecimal digits; empty of a tool that nothing is known of.
    pub digest: String,
}

impl Tool {
    /// Whether it says that it changes nothing.
    pub fn is_read_only(&self) -> bool {
        self.annotations.as_ref().is_some_and(|annotations| annotations["readOnlyHint"] == Value::Bool(true))
    }

    fn of(members: &Members<'_>) -> Self {
        let support = members.inner("execution").and_then(|execution| execution.text("taskSupport"));
        let mut context = Context::new(&SHA256);
        for member in DEFINITION.map(|name| members.get(name).map(|value| canonical(value.get())).unwrap_or_default()) {
            context.update(&(member.len() as u64).to_be_bytes());
            context.update(&member);
        }
        let annotations = members.get("annotations").filter(|value| value.get().len() <= LONGEST_ANNOTATIONS);
        Self {
            annotations: annotations.and_then(|value| serde_json::from_str(value.get()).ok()),
            runs_as_task: support.is_some_and(|support| support != "forbidden"),
            digest: hex::encode(context.finish()),
            is_structured: members.get("outputSchema").is_some_and(|schema| schema.get() != "null"),
        }
    }
}

/// JSON in its canonical form (RFC 8785), or as it was written where it has none: a server may list the members of a schema
/// in another order each time.
fn canonical(written: &str) -> Vec<u8> {
    let value = serde_json::from_str::<Value>(written).ok();
    let canonical = value.and_then(|value| serde_json_canonicalizer::to_vec(&value).ok());
    canonical.unwrap_or_else(|| written.as_bytes().to_vec())
}

/// The tools of a server, as far as they are known.
#[derive(Debug, Default)]
pub struct Catalog {
    tools: HashMap<String, Tool>,
    /// All pages were read since the server last said that its tools have changed.
    is_whole: bool,
}

impl Catalog {
    /// What is known of a tool. None: the server has to be asked first.
    pub fn get(&self, name: &str) -> Option<Tool> {
        let known = self.tools.get(name).cloned();
        if self.is_whole { Some(known.unwrap_or_default()) } else { known }
    }

    /// The server says that its tools are others now.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// Every page was read.
    pub fn complete(&mut self) {
        self.is_whole = true;
    }

    /// Learns from the result of `tools/list`. Returns the cursor of the next page.
    ///
    /// A tool that was said to be read-only and is not any more, or the other way round, counts as the stricter of the two
    /// until the server says that its tools have changed: several clients may be shown different lists.
    pub fn learn(&mut self, result: &Members<'_>) -> Option<String> {
        let tools: Vec<Members<'_>> =
            result.get("tools").and_then(|tools| serde_json::from_str(tools.get()).ok()).unwrap_or_default();
        for members in &tools {
            let (Some(name), tool) = (members.text("name"), Tool::of(members)) else { continue };
            let is_stricter = self.tools.get(&name).is_none_or(|known| known.is_read_only() || !tool.is_read_only());
            if is_stricter && (self.tools.len() < MOST_TOOLS || self.tools.contains_key(&name)) {
                self.tools.insert(name, tool);
            }
        }
        result.text("nextCursor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_hint_makes_a_tool_read_only_and_the_stricter_word_counts() {
        let mut catalog = Catalog::default();
        let list = |annotations: &str| format!(r#"{{"tools":[{{"name":"t","annotations":{annotations}}}]}}"#);
        let mut learn = |annotations: &str| {
            assert!(catalog.learn(&Members::look(&list(annotations)).unwrap()).is_none());
            catalog.get("t").unwrap().is_read_only()
        };
        assert!(!learn(r#"{"readOnlyHint":"true"}"#));
        assert!(!learn(r#"{"readOnlyHint":true}"#));
        catalog.forget();
        assert!(catalog.get("t").is_none());
        assert!(catalog.learn(&Members::look(&list(r#"{"readOnlyHint":true}"#)).unwrap()).is_none());
        assert!(catalog.get("t").unwrap().is_read_only());
        assert!(catalog.get("other").is_none());
        catalog.complete();
        assert!(!catalog.get("other").unwrap().is_read_only());
        catalog.forget();
        let long = format!(r#"{{"readOnlyHint":true,"x":"{}"}}"#, "x".repeat(LONGEST_ANNOTATIONS));
        assert!(catalog.learn(&Members::look(&list(&long)).unwrap()).is_none());
        assert!(catalog.get("t").is_some_and(|tool| !tool.is_read_only() && tool.annotations.is_none()));
    }

    #[test]
    fn a_tool_beyond_the_limit_is_asked_about_and_those_that_are_known_stay() {
        let mut catalog = Catalog::default();
        let read_only = |number: usize| format!(r#"{{"name":"t{number}","annotations":{{"readOnlyHint":true}}}}"#);
        let list = |numbers: std::ops::Range<usize>| {
            format!(r#"{{"tools":[{}]}}"#, numbers.map(read_only).collect::<Vec<_>>().join(","))
        };
        for from in (0..2 * MOST_TOOLS).step_by(1_000) {
            catalog.learn(&Members::look(&list(from..from + 1_000)).unwrap());
        }
        catalog.complete();
        assert_eq!(catalog.tools.len(), MOST_TOOLS);
        let is_read_only = |number: usize| catalog.get(&format!("t{number}")).unwrap().is_read_only();
        assert!(is_read_only(0) && is_read_only(MOST_TOOLS - 1) && !is_read_only(MOST_TOOLS));
        // A stricter word about a known one counts all the same.
        catalog.learn(&Members::look(r#"{"tools":[{"name":"t0"}]}"#).unwrap());
        assert!(!catalog.get("t0").unwrap().is_read_only());
    }

    #[test]
    fn another_definition_is_another_tool() {
        let of = |members: &str| {
            let mut catalog = Catalog::default();
            let list = format!(r#"{{"tools":[{{"name":"t"{members}}}]}}"#);
            catalog.learn(&Members::look(&list).unwrap());
            catalog.get("t").unwrap()
        };
        assert_eq!(of("").digest, of(r#","description":"d""#).digest);
        let schema = |written: &str| of(&format!(r#","inputSchema":{written}"#)).digest;
        assert_eq!(
            schema(r#"{"type":"object","x":[1,{"a":1,"b":2}]}"#),
            schema(r#"{"x": [1.0,{"b":2,"a":1}], "type":"object"}"#)
        );
        assert_ne!(schema(r#"{"x":[1,2]}"#), schema(r#"{"x":[2,1]}"#));
        for other in [r#","inputSchema":{}"#, r#","outputSchema":{}"#, r#","annotations":{}"#] {
            assert_ne!(of("").digest, of(other).digest, "{other}");
        }
        assert!(of(r#","execution":{"taskSupport":"optional"}"#).runs_as_task && !of("").runs_as_task);
    }
}
