//! Schemas of operators' edits and responses: JSON Schema 2020-12, written by agents and therefore bounded (contract,
//! "Answers").
//!
//! `jsonschema` validates. This module bounds the cost: the length of a schema, its references, its patterns, and the
//! number of steps for a value.

use std::collections::HashSet;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Retrieve, Uri, ValidationError, Validator};
use serde_json::Value;

use super::faults::{Faults, Pointer};

/// Longest schema, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// Most patterns of a schema, each compiled to so many bytes at the most.
const MAX_PATTERNS: usize = 100;
const MAX_PATTERN_BYTES: usize = 256 * 1024;
/// Most steps of one value: a step is a schema met by a part of the value, or a comparison.
const MAX_STEPS: u64 = 200_000;
/// How deep schemas may be applied within each other, references followed.
const MAX_APPLIED: usize = 128;
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// A schema that compiles.
#[derive(Debug)]
pub struct AnswerSchema {
    schema: Value,
    validator: Validator,
}

struct LocalOnly;

impl Retrieve for LocalOnly {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("only references within the schema are followed".into())
    }
}

impl AnswerSchema {
    /// Compiles the JSON text of a schema, which stands at this pointer.
    ///
    /// # Errors
    /// Its faults, with their places.
    pub fn compile(text: &str, at: &str) -> Result<Self, Faults> {
        let fault = |pointer: String, detail: String| {
            let mut faults = Faults::default();
            faults.add(pointer, detail);
            faults
        };
        if text.len() > MAX_BYTES {
            return Err(fault(at.to_owned(), format!("must be at most {} KiB long", MAX_BYTES / 1024)));
        }
        let schema: Value = serde_json::from_str(text).map_err(|error| fault(at.to_owned(), error.to_string()))?;
        let mut scan = Scan::default();
        scan.look(&schema, &mut at.to_owned());
        if !scan.faults.is_empty() {
            return Err(scan.faults);
        }
        // What a name refers to must not depend on who looks for it.
        if !has_distinct_anchors(&schema, &mut HashSet::new()) {
            return Err(fault(at.to_owned(), "has two anchors of one name".to_owned()));
        }
        // Whoever compiles follows every reference at once, whatever the value will be: on a stack that ends.
        if !Nesting::of(&schema).take(&schema) {
            return Err(fault(at.to_owned(), format!("is nested more than {MAX_APPLIED} deep, references followed")));
        }
        // Schemas that are applied to one and the same value without an end are applied to any value.
        if !Steps::of(&schema).take(&schema, &Value::Null) {
            return Err(fault(at.to_owned(), "refers to itself too often to come to an end".to_owned()));
        }
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .should_validate_formats(false)
            .with_retriever(LocalOnly)
            .with_pattern_options(
                PatternOptions::regex().size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES),
            )
            .build(&schema)
            .map_err(|error| {
                // A pattern is not known to the schema of schemas: it is found where it is compiled.
                let is_pattern = matches!(error.kind(), ValidationErrorKind::Format { .. });
                let place = if is_pattern { error.schema_path() } else { error.instance_path() };
                fault(format!("{at}{place}"), detail(&error))
            })?;
        Ok(Self { schema, validator })
    }

    /// Judges a value, which stands at this pointer.
    ///
    /// # Errors
    /// Its faults, the first hundred of them.
    pub fn check(&self, text: &str, at: &str) -> Result<(), Faults> {
        let mut faults = Faults::default();
        let value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => {
                faults.add(at, error.to_string());
                return Err(faults);
            }
        };
        if Steps::of(&self.schema).take(&self.schema, &value) {
            for error in self.validator.iter_errors(&value).take(Faults::LISTED) {
                let pointer = match error.kind() {
                    ValidationErrorKind::Required { property } => {
                        let name = property.as_str().unwrap_or_default();
                        format!("{at}{}{}", error.instance_path(), Pointer::default().member(name).into_string())
                    }
                    _ => format!("{at}{}", error.instance_path()),
                };
                faults.add(pointer, detail(&error));
            }
        } else {
            faults.add(at, format!("takes more than {MAX_STEPS} steps of its schema"));
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Without the value itself, which may be long.
fn detail(error: &ValidationError<'_>) -> String {
    match error.kind() {
        ValidationErrorKind::Required { .. } => "is required by the schema".to_owned(),
        ValidationErrorKind::Referencing(_) => "has a reference that leads nowhere in the schema".to_owned(),
        _ => error.masked_with("it").to_string(),
    }
}

/// Faults and patterns found anywhere in a schema.
#[derive(Default)]
struct Scan {
    patterns: usize,
    faults: Faults,
}

impl Scan {
    fn look(&mut self, part: &Value, at: &mut String) {
        match part {
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.below(&index.to_string(), item, at);
                }
            }
            Value::Object(members) => {
                for (name, value) in members {
                    self.member(name, value, at);
                    // What these hold are values, not schemas.
                    if !matches!(name.as_str(), "const" | "enum" | "default" | "examples") {
                        self.below(name, value, at);
                    }
                }
            }
            _ => {}
        }
    }

    fn below(&mut self, name: &str, part: &Value, at: &mut String) {
        let length = at.len();
        at.push('/');
        at.push_str(&name.replace('~', "~0").replace('/', "~1"));
        self.look(part, at);
        at.truncate(length);
    }

    fn member(&mut self, name: &str, value: &Value, at: &str) {
        let rule = match (name, value) {
            ("$ref" | "$dynamicRef", Value::String(to)) if !to.starts_with('#') => "must point into the schema: #…",
            ("$id", Value::String(_)) => "is not supported: the schema is one document",
            ("$schema", Value::String(dialect)) if dialect.trim_end_matches('#') != DIALECT => {
                "must be that of JSON Schema 2020-12"
            }
            ("pattern", Value::String(_)) => {
                self.patterns += 1;
                if self.patterns <= MAX_PATTERNS {
                    return;
                }
                "is one pattern too many: a schema has at most 100"
            }
            ("patternProperties", Value::Object(patterns)) => {
                self.patterns += patterns.len();
                if self.patterns <= MAX_PATTERNS {
                    return;
                }
                "has patterns too many: a schema has at most 100"
            }
            _ => return,
        };
        self.faults.add(format!("{at}/{name}"), rule);
    }
}

/// Measures how deep a schema is: the longest way through its parts and the targets of its references, none entered twice.
struct Nesting<'s> {
    root: &'s Value,
    left: u64,
    entered: Vec<&'s Value>,
}

impl<'s> Nesting<'s> {
    fn of(root: &'s Value) -> Self {
        Self { root, left: MAX_STEPS, entered: vec![root] }
    }

    /// Whether it is within the bounds.
    fn take(mut self, schema: &'s Value) -> bool {
        self.go(schema, 0).is_some()
    }

    fn go(&mut self, part: &'s Value, depth: usize) -> Option<()> {
        self.left = self.left.checked_sub(1)?;
        if depth > MAX_APPLIED {
            return None;
        }
        match part {
            Value::Array(items) => items.iter().try_for_each(|item| self.go(item, depth + 1)),
            Value::Object(members) => members.iter().try_for_each(|(name, value)| match (name.as_str(), value) {
                ("$ref" | "$dynamicRef", Value::String(to)) => match target(self.root, to) {
                    Some(target) if !self.entered.iter().any(|entered| std::ptr::eq(*entered, target)) => {
                        self.entered.push(target);
                        self.go(target, depth + 1)?;
                        self.entered.pop();
                        Some(())
                    }
                    _ => Some(()),
                },
                _ => self.go(value, depth + 1),
            }),
            _ => Some(()),
        }
    }
}

/// Whether no two anchors of a schema have one name, also where they are values and not schemas.
fn has_distinct_anchors<'s>(part: &'s Value, seen: &mut HashSet<&'s str>) -> bool {
    match part {
        Value::Object(members) => {
            let own = ["$anchor", "$dynamicAnchor"].iter().filter_map(|keyword| members.get(*keyword)?.as_str());
            let own: HashSet<&str> = own.collect();
            own.into_iter().all(|name| seen.insert(name))
                && members.values().all(|member| has_distinct_anchors(member, seen))
        }
        Value::Array(items) => items.iter().all(|item| has_distinct_anchors(item, seen)),
        _ => true,
    }
}

/// Counts what a value could take at the most: every schema that may meet a part of it is taken to do so.
struct Steps<'s> {
    root: &'s Value,
    left: u64,
    applied: usize,
}

impl<'s> Steps<'s> {
    fn of(root: &'s Value) -> Self {
        Self { root, left: MAX_STEPS, applied: 0 }
    }

    /// Whether it is within the bounds.
    fn take(mut self, schema: &'s Value, value: &Value) -> bool {
        self.apply(schema, value).is_some()
    }

    fn spend(&mut self, steps: usize) -> Option<()> {
        self.left = self.left.checked_sub(steps as u64)?;
        Some(())
    }

    fn apply(&mut self, schema: &'s Value, value: &Value) -> Option<()> {
        self.spend(1)?;
        let Value::Object(keywords) = schema else { return Some(()) };
        if self.applied == MAX_APPLIED {
            return None;
        }
        self.applied += 1;
        // What was not evaluated is found by evaluating the rest once more.
        let again = ["unevaluatedProperties", "unevaluatedItems"].iter().filter(|name| keywords.contains_key(**name));
        for _ in 0..=again.count() {
            for (keyword, argument) in keywords {
                self.keyword(keyword, argument, value)?;
            }
        }
        self.applied -= 1;
        Some(())
    }

    fn keyword(&mut self, keyword: &str, argument: &'s Value, value: &Value) -> Option<()> {
        self.spend(1)?;
        match (keyword, argument, value) {
            ("$ref" | "$dynamicRef", Value::String(to), _) => {
                target(self.root, to).map_or(Some(()), |it| self.apply(it, value))
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas), _) => {
                schemas.iter().try_for_each(|schema| self.apply(schema, value))
            }
            ("not" | "if" | "then" | "else", schema, _) => self.apply(schema, value),
            // `dependencies` and `additionalItems` are of earlier drafts, and are judged all the same.
            ("dependentSchemas" | "dependencies", Value::Object(schemas), _) => {
                schemas.values().try_for_each(|schema| self.apply(schema, value))
            }
            ("properties", Value::Object(schemas), Value::Object(members)) => {
                schemas.iter().try_for_each(|(name, schema)| {
                    self.spend(1)?;
                    members.get(name).map_or(Some(()), |member| self.apply(schema, member))
                })
            }
            ("patternProperties", Value::Object(schemas), Value::Object(members)) => {
                schemas.iter().try_for_each(|(pattern, schema)| {
                    members.iter().try_for_each(|(name, member)| {
                        self.spend(matching(pattern, name))?;
                        self.apply(schema, member)
                    })
                })
            }
            ("propertyNames", schema, Value::Object(members)) => {
                members.keys().try_for_each(|name| self.apply(schema, &Value::String(name.clone())))
            }
            ("additionalProperties" | "unevaluatedProperties", schema, Value::Object(members)) => {
                members.values().try_for_each(|member| self.apply(schema, member))
            }
            ("items" | "additionalItems" | "contains" | "unevaluatedItems", schema, Value::Array(items)) => {
                items.iter().try_for_each(|item| self.apply(schema, item))
            }
            ("prefixItems", Value::Array(schemas), Value::Array(items)) => {
                schemas.iter().zip(items).try_for_each(|(schema, item)| self.apply(schema, item))
            }
            ("pattern", Value::String(pattern), Value::String(text)) => self.spend(matching(pattern, text)),
            ("enum" | "const" | "required" | "dependentRequired", compared, _) => self.spend(size(compared)),
            ("uniqueItems", _, compared) => self.spend(2 * size(compared)),
            _ => Some(()),
        }
    }
}

/// What a reference within the schema points to.
fn target<'s>(root: &'s Value, reference: &str) -> Option<&'s Value> {
    let pointer = reference.strip_prefix('#')?;
    if pointer.is_empty() || pointer.starts_with('/') {
        return root.pointer(&unescaped(pointer)?);
    }
    anchored(root, pointer)
}

/// Steps of a pattern on a text: at the worst their lengths multiply.
fn matching(pattern: &str, text: &str) -> usize {
    1 + pattern.len() * text.len() / 256
}

/// How many values a value is made of.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Object(members) => members.values().map(size).sum::<usize>() + 1,
        Value::String(text) => 1 + text.len() / 64,
        _ => 1,
    }
}

/// A URI fragment without its percent signs (RFC 6901, section 6).
fn unescaped(fragment: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(fragment.len());
    let mut rest = fragment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            bytes.extend(hex::decode(after.get(..2)?).ok()?);
            rest = &after[2..];
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

fn anchored<'s>(part: &'s Value, name: &str) -> Option<&'s Value> {
    match part {
        Value::Object(members) => {
            let is_it = |keyword| members.get(keyword).and_then(Value::as_str) == Some(name);
            if is_it("$anchor") || is_it("$dynamicAnchor") {
                return Some(part);
            }
            members.values().find_map(|member| anchored(member, name))
        }
        Value::Array(items) => items.iter().find_map(|item| anchored(item, name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    fn faults_of(schema: &Value) -> Vec<String> {
        let faults = AnswerSchema::compile(&schema.to_string(), "/edit_schema").err().unwrap_or_default();
        faults.listed().iter().map(|fault| fault.pointer.clone()).collect()
    }

    fn judged(schema: &Value, value: &Value) -> Vec<String> {
        let schema = AnswerSchema::compile(&schema.to_string(), "/edit_schema").unwrap();
        let faults = schema.check(&value.to_string(), "/arguments").err().unwrap_or_default();
        faults.listed().iter().map(|fault| fault.pointer.clone()).collect()
    }

    #[test]
    fn faults_point_into_the_value() {
        let schema = json!({
            "$schema": DIALECT, "type": "object", "required": ["amount", "a/b"], "additionalProperties": false,
            "properties": {"amount": {"$ref": "#/$defs/money"}, "a/b": {}, "lines": {"items": {"minimum": 1}},
                "when": {"format": "date", "default": "2026-01-01"}},
            "$defs": {"money": {"$anchor": "money", "type": "string", "pattern": "^[0-9]+$"}},
        });
        assert_eq!(judged(&schema, &json!({"amount": "1", "a/b": 1, "when": "no date"})), [""; 0]);
        let mut found = judged(&schema, &json!({"amount": "x", "lines": [1, 0], "more": true}));
        found.sort_unstable();
        assert_eq!(found, ["/arguments", "/arguments/amount", "/arguments/a~1b", "/arguments/lines/1"]);
        assert_eq!(judged(&json!({"items": {"type": "string"}}), &json!(vec![1; 1_000])).len(), 100);
        assert_eq!(judged(&json!(false), &json!({})), ["/arguments"]);
    }

    #[test]
    fn what_does_not_compile_is_found_with_its_pointer() {
        for (schema, pointer) in [
            (json!({"type": "nothing"}), "/edit_schema/type"),
            (json!({"properties": {"x": {"minLength": "1"}}}), "/edit_schema/properties/x/minLength"),
            (json!({"properties": {"x": {"$ref": "https://example.com/x"}}}), "/edit_schema/properties/x/$ref"),
            (json!({"$ref": "other.json#/x"}), "/edit_schema/$ref"),
            (json!({"$defs": {"x": {"$id": "urn:x"}}}), "/edit_schema/$defs/x/$id"),
            (json!({"$schema": "http://json-schema.org/draft-07/schema#"}), "/edit_schema/$schema"),
            (json!({"properties": {"x": {"pattern": "(?=a)b"}}}), "/edit_schema/properties/x/pattern"),
            (json!({"pattern": "(a)\\1"}), "/edit_schema/pattern"),
            (json!({"pattern": "(((a{100}){100}){100}){100}"}), "/edit_schema/pattern"),
            (json!({"pattern": "["}), "/edit_schema/pattern"),
            (json!(7), "/edit_schema"),
            (json!({"title": "x".repeat(65_536)}), "/edit_schema"),
            (json!({"$ref": "#"}), "/edit_schema"),
            (json!({"allOf": [{"anyOf": [{"$ref": "#"}]}]}), "/edit_schema"),
        ] {
            assert_eq!(faults_of(&schema), [pointer], "{schema}");
        }
        assert_eq!(faults_of(&json!({"$ref": "#/$defs/none"})), ["/edit_schema"]);
        let many: Vec<_> = (0..101).map(|number| json!({"pattern": format!("^{number}")})).collect();
        assert_eq!(faults_of(&json!({"anyOf": many})), ["/edit_schema/anyOf/100/pattern"]);
    }

    /// Schemas whose parts refer to the next one twice: a few hundred bytes that double with each.
    fn doubling(keyword: &str, levels: usize) -> Value {
        let part = |level: usize| {
            let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
            match keyword {
                "anyOf" => json!({"anyOf": [next, next]}),
                _ => json!({"properties": {"x": {"anyOf": [next, next]}, "y": next}}),
            }
        };
        let mut definitions: serde_json::Map<_, _> =
            (0..levels).map(|level| (level.to_string(), part(level))).collect();
        definitions.insert(levels.to_string(), json!({"type": "string"}));
        json!({"$ref": "#/$defs/0", "$defs": definitions})
    }

    #[test]
    fn a_schema_is_not_deep_by_its_references_either() {
        let chain = |last: usize| {
            let link = |n: usize| (n.to_string(), json!({"items": {"$ref": format!("#/$defs/{}", n + 1)}}));
            let mut definitions: serde_json::Map<_, _> = (0..last).map(link).collect();
            definitions.insert(last.to_string(), json!({"type": "string"}));
            json!({"$ref": "#/$defs/0", "$defs": definitions})
        };
        assert_eq!(faults_of(&chain(1_200)), ["/edit_schema"]);
        assert_eq!(faults_of(&chain(20)), [""; 0]);
        let tree = json!({"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}});
        assert_eq!(faults_of(&tree), [""; 0]);
    }

    #[test]
    fn keywords_of_earlier_drafts_and_hidden_anchors_save_no_steps() {
        let mut definitions: serde_json::Map<_, _> = (0..60)
            .map(|n| {
                let next = json!({"$ref": format!("#/$defs/{}", n + 1)});
                (n.to_string(), json!({"dependencies": {"x": {"anyOf": [next, next]}}}))
            })
            .collect();
        definitions.insert("60".to_owned(), json!(false));
        assert_eq!(faults_of(&json!({"$ref": "#/$defs/0", "$defs": definitions})), ["/edit_schema"]);
        let hidden = json!({"$defs": {"a": {"const": {"$anchor": "x"}}, "b": {"$anchor": "x", "anyOf": []}}});
        assert_eq!(faults_of(&hidden), ["/edit_schema"]);
    }

    #[test]
    fn a_small_schema_does_not_cost_much() {
        let began = Instant::now();
        assert_eq!(faults_of(&doubling("anyOf", 60)), ["/edit_schema"]);
        let nested = (0..30).fold(json!(1), |value, _| json!({"x": value}));
        assert_eq!(faults_of(&doubling("properties", 60)), ["/edit_schema"]);
        let recursive = json!({"properties": {"x": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}});
        assert_eq!(judged(&recursive, &nested), ["/arguments"]);
        let shallow = (0..5).fold(json!(1), |value, _| json!({"x": value}));
        assert_eq!(judged(&recursive, &shallow), [""; 0]);
        let unevaluated = json!({"properties": {"x": {"$ref": "#"}}, "unevaluatedProperties": false});
        assert_eq!(judged(&unevaluated, &nested), ["/arguments"]);
        let long = json!({"x": "a".repeat(250_000)});
        assert_eq!(judged(&json!({"properties": {"x": {"pattern": "(a|aa)+$"}}}), &long), [""; 0]);
        assert_eq!(judged(&json!({"properties": {"x": {"pattern": "a?".repeat(1_000)}}}), &long), ["/arguments"]);
        // Far above what it takes, far below what doubling costs.
        assert!(began.elapsed() < Duration::from_mins(1));
    }
}
