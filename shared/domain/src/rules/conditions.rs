//! What a document asks of arguments.

use super::compare::{Test, decimal};
use super::matching::Condition;
use crate::{Digest, Faults, Json};

/// What a rule asks of arguments. Read from the document itself: a typed reader would lose the literals of numbers.
pub(super) struct ArgumentConditions {
    pub(super) all: Vec<Condition>,
    pub(super) not: Option<Vec<Condition>>,
    /// Of the whole `match`, whatever the order of its members.
    pub(super) scope: Digest,
}

impl ArgumentConditions {
    pub(super) fn read(rule: &Json, place: usize, faults: &mut Faults) -> Self {
        // Where it is missing, it is a fault of the typed reader.
        let of = rule.get("match").unwrap_or(&Json::Null);
        let at = format!("/rules/{place}/match");
        Self {
            all: conditions(of.get("arguments"), &format!("{at}/arguments"), faults),
            not: of.get("not").map(|not| conditions(not.get("arguments"), &format!("{at}/not/arguments"), faults)),
            scope: Digest::of(&text_of(of)),
        }
    }
}

fn text_of(json: &Json) -> Vec<u8> {
    let mut text = Vec::new();
    json.write_comparable(&mut text);
    text
}

fn conditions(arguments: Option<&Json>, at: &str, faults: &mut Faults) -> Vec<Condition> {
    // Of another kind, it is a fault of the typed reader.
    let Some(Json::Object(members)) = arguments else { return Vec::new() };
    let read = |(pointer, asked): &(String, Json)| {
        let at = format!("{at}/{}", pointer.replace('~', "~0").replace('/', "~1"));
        let steps = steps(pointer);
        if steps.is_none() {
            faults.add(&at, "is not an RFC 6901 JSON pointer into the arguments");
        }
        condition(steps.unwrap_or_default(), asked, &at, faults)
    };
    members.iter().map(read).collect()
}

/// The reference tokens of a pointer (RFC 6901, section 4).
fn steps(pointer: &str) -> Option<Vec<String>> {
    let Some(path) = pointer.strip_prefix('/') else { return pointer.is_empty().then(Vec::new) };
    let step = |step: &str| {
        let is_escaped = step.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
        is_escaped.then(|| step.replace("~1", "/").replace("~0", "~"))
    };
    path.split('/').map(step).collect()
}

fn condition(steps: Vec<String>, asked: &Json, at: &str, faults: &mut Faults) -> Condition {
    const KNOWN: &str = "equals, in, lt, lte, gt, gte, prefix, exists, length_lte";
    let mut condition = Condition { steps, exists: None, tests: Vec::new() };
    let Json::Object(members) = asked else {
        faults.add(at, "must be an object of comparisons");
        return condition;
    };
    if members.is_empty() {
        faults.add(at, format!("must have any of {KNOWN}"));
    }
    for (name, value) in members {
        let number = |make: fn(bigdecimal::BigDecimal) -> Test| {
            decimal(value).map(make).ok_or("must be a number, or a text that is a decimal")
        };
        let test = match name.as_str() {
            "exists" => {
                match value {
                    Json::Bool(exists) => condition.exists = Some(*exists),
                    _ => faults.add(format!("{at}/exists"), "must be true or false"),
                }
                continue;
            }
            "equals" => Ok(Test::Equals(value.clone().into())),
            "in" => match value {
                Json::Array(items) if !items.is_empty() => {
                    Ok(Test::In(items.iter().cloned().map(Into::into).collect()))
                }
                _ => Err("must be a list that is not empty"),
            },
            "lt" => number(Test::Lt),
            "lte" => number(Test::Lte),
            "gt" => number(Test::Gt),
            "gte" => number(Test::Gte),
            "prefix" => match value {
                Json::String(prefix) => Ok(Test::Prefix(prefix.clone())),
                _ => Err("must be a text"),
            },
            "length_lte" => match value {
                Json::Number(literal) => {
                    literal.parse().map(Test::LengthLte).map_err(|_| "must be a whole number that is not negative")
                }
                _ => Err("must be a whole number that is not negative"),
            },
            other => {
                let member = other.replace('~', "~0").replace('/', "~1");
                faults.add(format!("{at}/{member}"), format!("is not a known comparison; known are {KNOWN}"));
                continue;
            }
        };
        match test {
            Ok(test) => condition.tests.push(test),
            Err(rule) => faults.add(format!("{at}/{name}"), rule),
        }
    }
    condition
}
