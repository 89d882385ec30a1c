//! The rules of a file in place of those that stand: all of them at once, or none.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::Draft;
use crate::exit::{Fault, Result};
use crate::people::Person;
use crate::terminal::out;

const RULES: &str = "/v1/admin/rules";
/// Why, where the file does not say.
const NOTE: &str = "relaytrace admin apply";

/// Sets the rules, where they are not those that stand; a rehearsal only says what would change. Gives how many changes
/// there are. Of two administrators at once the second changes nothing.
pub async fn apply(person: &Person, draft: &Draft, is_dry: bool) -> Result<usize> {
    let standing = person.get(RULES).await?;
    let changes = changes(draft, &standing);
    for change in &changes {
        out!("{change}");
    }
    if changes.is_empty() || is_dry {
        return Ok(changes.len());
    }
    let body = json!({"rules": draft.rules, "note": draft.note.as_deref().unwrap_or(NOTE)});
    let version = format!("\"{}\"", standing["version"]);
    let answer = person.call_if(Method::PUT, RULES, Some(&body), Some(&version)).await?;
    if answer.status == StatusCode::PRECONDITION_FAILED {
        return Err(Fault::failed(
            "somebody else has changed the rules meanwhile: they stay as that person set them. Apply again to see what would change",
        ));
    }
    let set = answer.ok().map_err(|fault| Fault { said: format!("the rules: {}", fault.said), ..fault })?;
    out!("the rules have version {}", set["version"]);
    Ok(changes.len())
}

fn changes(draft: &Draft, standing: &Value) -> Vec<String> {
    let none = Vec::new();
    let old = standing["rules"].as_array().unwrap_or(&none);
    let name = |rule: &Value| rule["name"].as_str().unwrap_or_default().to_owned();
    let by_name = |rules: &[Value], wanted: &str| rules.iter().find(|rule| name(rule) == wanted).cloned();
    let mut changes: Vec<String> = draft
        .rules
        .iter()
        .filter_map(|rule| match by_name(old, &name(rule)) {
            None => Some(format!("+ rule {} ({})", name(rule), rule["mode"].as_str().unwrap_or_default())),
            Some(before) if before == *rule => None,
            Some(before) => Some(format!("~ rule {}: {}", name(rule), difference(&before, rule))),
        })
        .collect();
    let gone = old.iter().filter(|rule| by_name(&draft.rules, &name(rule)).is_none());
    changes.extend(gone.map(|rule| format!("- rule {}", name(rule))));
    if changes.is_empty() && *old != draft.rules {
        changes.push("~ the order of the rules".to_owned());
    }
    if draft.note.as_ref().is_some_and(|note| standing["note"].as_str().unwrap_or_default() != note) {
        changes.push("~ the note of the rules".to_owned());
    }
    changes
}

/// The members that differ; a mode with both values.
fn difference(before: &Value, after: &Value) -> String {
    let differing = ["mode", "match", "then"].into_iter().filter(|member| before[*member] != after[*member]);
    let words = differing.map(|member| match (before[member].as_str(), after[member].as_str()) {
        (Some(before), Some(after)) => format!("{member} {before} → {after}"),
        _ => member.to_owned(),
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, mode: &str, approvals: i32) -> Value {
        json!({"name": name, "mode": mode, "match": {}, "then": {"ask": {"approvals": approvals}}})
    }

    fn said(rules: &[Value], note: Option<&str>) -> Vec<String> {
        let standing = json!({"version": 3, "note": "Why", "rules": [rule("a", "shadow", 1), rule("b", "enforce", 2)]});
        let draft = Draft { rules: rules.to_vec(), note: note.map(ToOwned::to_owned), tests: Vec::new() };
        changes(&draft, &standing)
    }

    #[test]
    fn a_change_is_said_rule_by_rule() {
        let (a, b) = (rule("a", "shadow", 1), rule("b", "enforce", 2));
        assert!(said(&[a.clone(), b.clone()], None).is_empty());
        assert!(said(&[a.clone(), b.clone()], Some("Why")).is_empty());
        assert_eq!(said(&[a.clone(), b.clone()], Some("Other")), ["~ the note of the rules"]);
        assert_eq!(said(&[b.clone(), a.clone()], None), ["~ the order of the rules"]);
        assert_eq!(said(&[rule("a", "enforce", 2), b], None), ["~ rule a: mode shadow → enforce, then"]);
        assert_eq!(said(&[a, rule("c", "off", 1)], None), ["+ rule c (off)", "- rule b"]);
        assert_eq!(said(&[], None), ["- rule a", "- rule b"]);
    }
}
