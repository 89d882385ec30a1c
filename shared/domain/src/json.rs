//! JSON as the contract admits it (contract, "JSON profile"): I-JSON's profile (RFC 7493) and a depth limit, with every
//! fault found at once and each number kept as it was written.
//!
//! `jiter` tokenises; `deserr` turns the tree into typed bodies and goes on after a fault.

use std::ops::ControlFlow;

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, MergeWithError, Value, ValueKind, ValuePointerRef};
use jiter::{Jiter, JiterError, JiterErrorType, JsonErrorType, Peek};

use super::faults::{Faults, Pointer};

mod forms;
pub(crate) use forms::write_canonical_object;

/// Deepest nesting of arrays and objects; the body itself is the first level.
const MAX_DEPTH: usize = 32;
/// 2^53 − 1: beyond it a double no longer holds every integer.
const MAX_INTEGER: i64 = 9_007_199_254_740_991;

/// The fault of a text that Postgres could not hold.
const CONTAINS_NUL: &str = "contains U+0000";

/// Why bytes are no admissible body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Not JSON at all, or with duplicate members: `malformed-json`.
    Malformed(String),
    /// JSON, but not admissible: `validation-failed`.
    Invalid(Faults),
}

/// A parsed value. Numbers keep their literal; members keep their order and are distinct.
#[derive(Clone, Debug, PartialEq)]
pub enum Json {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as written.
    Number(String),
    /// A string without U+0000.
    String(String),
    /// An array.
    Array(Vec<Json>),
    /// An object.
    Object(Vec<(String, Json)>),
}

impl Json {
    /// Parses a whole body. Faults that leave the rest readable are collected.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::read(bytes, false)
    }

    /// The same for a body of a protocol that others have defined: numbers may be of any size.
    pub fn parse_any_number(bytes: &[u8]) -> Result<Self, ParseError> {
        Self::read(bytes, true)
    }

    fn read(bytes: &[u8], any_number: bool) -> Result<Self, ParseError> {
        let mut reader = Reader { jiter: Jiter::new(bytes), path: Vec::new(), faults: Faults::default(), any_number };
        let outcome = reader.body();
        match outcome {
            Ok(value) if reader.faults.is_empty() => Ok(value),
            Ok(_) | Err(Stop::Invalid) => Err(ParseError::Invalid(reader.faults)),
            Err(Stop::Malformed(detail)) => Err(ParseError::Malformed(detail)),
        }
    }

    /// The value of a member, if this is an object that has it.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Json> {
        let Self::Object(members) = self else { return None };
        members.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The value with every number that a double cannot hold as the text that it was written as.
    #[must_use]
    pub fn with_numbers_that_fit(self) -> Self {
        match self {
            Self::Number(literal) if fault_of_number(&literal).is_some() => Self::String(literal),
            Self::Array(items) => Self::Array(items.into_iter().map(Self::with_numbers_that_fit).collect()),
            Self::Object(members) => {
                Self::Object(members.into_iter().map(|(name, value)| (name, value.with_numbers_that_fit())).collect())
            }
            other => other,
        }
    }

    /// The text, if this is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        let Self::String(text) = self else { return None };
        Some(text)
    }
}

impl From<String> for Json {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<&str> for Json {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl<T: Into<Json>> From<Option<T>> for Json {
    /// `None` is null.
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// An object's members, of which those that are `None` are not there.
impl<const N: usize> From<[(&str, Option<Json>); N]> for Json {
    fn from(members: [(&str, Option<Json>); N]) -> Self {
        Self::Object(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
    }
}

/// Reads a typed body out of a parsed one; the faults name every member that is wrong, missing or unknown.
pub fn from_object<T: Deserr<Faults>>(json: Json) -> Result<T, Faults> {
    deserr::deserialize(json)
}

enum Stop {
    Malformed(String),
    Invalid,
}

enum Step {
    Name(String),
    Index(usize),
}

struct Reader<'a> {
    jiter: Jiter<'a>,
    path: Vec<Step>,
    faults: Faults,
    any_number: bool,
}

impl Reader<'_> {
    fn body(&mut self) -> Result<Json, Stop> {
        let first = self.jiter.peek().map_err(|error| self.stop(&error))?;
        let value = self.value(first)?;
        self.jiter.finish().map_err(|error| self.stop(&error))?;
        Ok(value)
    }

    fn value(&mut self, peek: Peek) -> Result<Json, Stop> {
        let is_container = matches!(peek, Peek::Array | Peek::Object);
        if is_container && self.path.len() >= MAX_DEPTH {
            self.fault(format!("is nested deeper than {MAX_DEPTH} levels"));
            self.jiter.known_skip(peek).map_err(|error| self.stop(&error))?;
            return Ok(Json::Null);
        }
        match peek {
            Peek::Object => self.object(),
            Peek::Array => self.array(),
            Peek::String => {
                let text = self.jiter.known_str().map(str::to_owned).map_err(|error| self.stop(&error))?;
                self.check_text(&text);
                Ok(Json::String(text))
            }
            Peek::Null => self.jiter.known_null().map(|()| Json::Null).map_err(|error| self.stop(&error)),
            Peek::True | Peek::False => self.jiter.known_bool(peek).map(Json::Bool).map_err(|error| self.stop(&error)),
            _ => self.number(peek),
        }
    }

    fn object(&mut self) -> Result<Json, Stop> {
        let mut members = Vec::new();
        let mut name =
            self.jiter.known_object().map(|name| name.map(str::to_owned)).map_err(|error| self.stop(&error))?;
        while let Some(key) = name {
            // A copy of each name would be a third of the allocations.
            let has_nul = key.contains('\0');
            self.path.push(Step::Name(key));
            if has_nul {
                self.fault(CONTAINS_NUL);
            }
            let peek = self.jiter.peek().map_err(|error| self.stop(&error))?;
            let value = self.value(peek)?;
            if let Some(Step::Name(key)) = self.path.pop() {
                members.push((key, value));
            }
            name = self.jiter.next_key().map(|name| name.map(str::to_owned)).map_err(|error| self.stop(&error))?;
        }
        // Sorted rather than compared pairwise: a body of 50,000 members must not cost their square.
        let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let pointer = pointer_to_step(&self.path).member(pair[0]);
            return Err(Stop::Malformed(format!("duplicate member at {}", pointer.into_string())));
        }
        members.shrink_to_fit();
        Ok(Json::Object(members))
    }

    fn array(&mut self) -> Result<Json, Stop> {
        let mut items = Vec::new();
        let mut next = self.jiter.known_array().map_err(|error| self.stop(&error))?;
        while let Some(peek) = next {
            self.path.push(Step::Index(items.len()));
            let item = self.value(peek)?;
            items.push(item);
            self.path.pop();
            next = self.jiter.array_step().map_err(|error| self.stop(&error))?;
        }
        // A vector's first room is for four values: of `[[0],[0],…]` that would be 48 times its bytes.
        items.shrink_to_fit();
        Ok(Json::Array(items))
    }

    fn number(&mut self, peek: Peek) -> Result<Json, Stop> {
        let literal = self.jiter.known_number_bytes(peek).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let literal = literal.map_err(|error| self.stop(&error))?;
        if !self.any_number
            && let Some(fault) = fault_of_number(&literal)
        {
            self.fault(fault);
        }
        Ok(Json::Number(literal))
    }

    fn check_text(&mut self, text: &str) {
        if text.contains('\0') {
            self.fault(CONTAINS_NUL);
        }
    }

    fn fault(&mut self, detail: impl Into<String>) {
        self.faults.add_with(|| (pointer_to_step(&self.path), detail.into()));
    }

    /// What ends the reading. A lone surrogate and hopeless depth are faults of a JSON text; the rest is no JSON.
    fn stop(&mut self, error: &JiterError) -> Stop {
        use JsonErrorType::{LoneLeadingSurrogateInHexEscape, RecursionLimitExceeded, UnexpectedEndOfHexEscape};
        match &error.error_type {
            JiterErrorType::JsonError(LoneLeadingSurrogateInHexEscape | UnexpectedEndOfHexEscape) => {
                self.fault("contains a lone surrogate");
                Stop::Invalid
            }
            JiterErrorType::JsonError(RecursionLimitExceeded) => Stop::Invalid,
            kind => {
                let position = self.jiter.error_position(error.index);
                Stop::Malformed(format!("{kind} at line {} column {}", position.line, position.column))
            }
        }
    }
}

/// Why a number is none of I-JSON's (RFC 7493, section 2.2).
fn fault_of_number(literal: &str) -> Option<&'static str> {
    if literal.contains(['.', 'e', 'E']) {
        let fits = literal.parse::<f64>().is_ok_and(f64::is_finite);
        (!fits).then_some("is a number beyond a double's range: send it as a string")
    } else {
        let fits = literal.parse::<i64>().is_ok_and(|value| (-MAX_INTEGER..=MAX_INTEGER).contains(&value));
        (!fits).then_some("is an integer beyond ±(2^53 − 1): send it as a string")
    }
}

fn pointer_to_step(path: &[Step]) -> Pointer {
    path.iter().fold(Pointer::default(), |pointer, step| match step {
        Step::Name(name) => pointer.member(name),
        Step::Index(index) => pointer.item(*index),
    })
}

fn pointer_to(at: ValuePointerRef) -> Pointer {
    match at {
        ValuePointerRef::Origin => Pointer::default(),
        ValuePointerRef::Key { key, prev } => pointer_to(*prev).member(key),
        ValuePointerRef::Index { index, prev } => pointer_to(*prev).item(index),
    }
}

impl MergeWithError<Faults> for Faults {
    fn merge(faults: Option<Self>, other: Self, _at: ValuePointerRef) -> ControlFlow<Self, Self> {
        let mut faults = faults.unwrap_or_default();
        faults.extend(other);
        ControlFlow::Continue(faults)
    }
}

impl DeserializeError for Faults {
    fn error<V: IntoValue>(faults: Option<Self>, error: ErrorKind<V>, at: ValuePointerRef) -> ControlFlow<Self, Self> {
        let mut faults = faults.unwrap_or_default();
        faults.add_with(|| {
            let pointer = pointer_to(at);
            match error {
                ErrorKind::MissingField { field } => (pointer.member(field), "is required".to_owned()),
                ErrorKind::UnknownKey { key, accepted } => {
                    (pointer.member(key), format!("is not a known member; known are {}", accepted.join(", ")))
                }
                ErrorKind::UnknownValue { accepted, .. } => {
                    (pointer, format!("must be one of {}", accepted.join(", ")))
                }
                ErrorKind::IncorrectValueKind { actual, accepted } => {
                    let accepted: Vec<_> = accepted.iter().copied().map(kind_name).collect();
                    (pointer, format!("must be {}, not {}", accepted.join(" or "), kind_name(actual.kind())))
                }
                ErrorKind::BadSequenceLen { expected, .. } => (pointer, format!("must have {expected} items")),
                ErrorKind::Unexpected { msg } => (pointer, msg),
            }
        });
        ControlFlow::Continue(faults)
    }
}

fn kind_name(kind: ValueKind) -> &'static str {
    match kind {
        ValueKind::Null => "null",
        ValueKind::Boolean => "a boolean",
        ValueKind::Integer | ValueKind::NegativeInteger => "an integer",
        ValueKind::Float => "a number",
        ValueKind::String => "a string",
        ValueKind::Sequence => "an array",
        ValueKind::Map => "an object",
    }
}

impl IntoValue for Json {
    type Sequence = Items;
    type Map = Members;

    fn kind(&self) -> ValueKind {
        match self {
            Self::Null => ValueKind::Null,
            Self::Bool(_) => ValueKind::Boolean,
            Self::Number(literal) if literal.contains(['.', 'e', 'E']) => ValueKind::Float,
            Self::Number(literal) if literal.starts_with('-') => ValueKind::NegativeInteger,
            Self::Number(_) => ValueKind::Integer,
            Self::String(_) => ValueKind::String,
            Self::Array(_) => ValueKind::Sequence,
            Self::Object(_) => ValueKind::Map,
        }
    }

    fn into_value(self) -> Value<Self> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Boolean(value),
            Self::Number(literal) => match (literal.parse(), literal.parse()) {
                (Ok(integer), _) => Value::Integer(integer),
                (_, Ok(integer)) => Value::NegativeInteger(integer),
                _ => Value::Float(literal.parse().unwrap_or(f64::NAN)),
            },
            Self::String(text) => Value::String(text),
            Self::Array(items) => Value::Sequence(Items(items)),
            Self::Object(members) => Value::Map(Members(members)),
        }
    }
}

/// The items of an array, for `deserr`.
pub struct Items(Vec<Json>);

impl deserr::Sequence for Items {
    type Value = Json;
    type Iter = std::vec::IntoIter<Json>;
    fn len(&self) -> usize {
        self.0.len()
    }
    fn into_iter(self) -> Self::Iter {
        IntoIterator::into_iter(self.0)
    }
}

/// The members of an object, for `deserr`.
pub struct Members(Vec<(String, Json)>);

impl deserr::Map for Members {
    type Value = Json;
    type Iter = std::vec::IntoIter<(String, Json)>;
    fn len(&self) -> usize {
        self.0.len()
    }
    fn remove(&mut self, key: &str) -> Option<Json> {
        let index = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.swap_remove(index).1)
    }
    fn into_iter(self) -> Self::Iter {
        IntoIterator::into_iter(self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn faults(text: &str) -> Vec<(String, String)> {
        match Json::parse(text.as_bytes()) {
            Err(ParseError::Invalid(faults)) => {
                faults.listed().iter().map(|f| (f.pointer.clone(), f.detail.clone())).collect()
            }
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn every_inadmissible_value_is_found_with_its_pointer() {
        let found = faults(r#"{"a~/b":[0,9007199254740992,{"x":1e400}],"s":"\u0000","n\u0000":-9007199254740992}"#);
        let pointers: Vec<_> = found.iter().map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(pointers, ["/a~0~1b/1", "/a~0~1b/2/x", "/s", "/n\0", "/n\0"]);
    }

    #[test]
    fn lone_surrogates_are_faults_and_pairs_are_text() {
        for text in [r#"{"a":"\ud800"}"#, r#"{"a":"\ud800x"}"#, r#"{"a":"\udc00"}"#, r#"{"a":"\ud800\n"}"#] {
            assert_eq!(faults(text)[0].0, "/a", "{text}");
        }
        let pair = Json::parse(br#""\ud83d\ude00""#).unwrap();
        assert_eq!(pair, Json::String("😀".into()));
    }

    #[test]
    fn thirty_two_levels_are_admitted_and_one_more_is_not() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Json::parse(nested(32).as_bytes()).is_ok());
        assert_eq!(faults(&nested(33)).len(), 1);
        assert!(matches!(Json::parse(nested(100_000).as_bytes()), Err(ParseError::Invalid(_))));
    }

    #[test]
    fn duplicate_members_are_malformed_wherever_they_are() {
        for text in [r#"{"a":1,"a":1}"#, r#"{"x":[{"a":1,"b":2,"\u0061":3}]}"#] {
            assert!(matches!(Json::parse(text.as_bytes()), Err(ParseError::Malformed(_))), "{text}");
        }
    }

    #[test]
    fn what_is_no_json_is_malformed() {
        for text in
            ["", " ", "{", "{}x", "nul", "01", "1.", "+1", "'a'", "{a:1}", "[1,]", "NaN", "\u{feff}{}", "\"\t\""]
        {
            assert!(matches!(Json::parse(text.as_bytes()), Err(ParseError::Malformed(_))), "{text:?}");
        }
        assert!(matches!(Json::parse(b"{\"a\":\"\xff\"}"), Err(ParseError::Malformed(_))));
    }

    #[test]
    fn numbers_that_do_not_fit_become_their_text() {
        let text = r#"{"a":[9007199254740992,-9007199254740991,1e400,0.10],"b":{"c":123456789012345678901234567890}}"#;
        assert_eq!(faults(text).len(), 3);
        let mut out = Vec::new();
        Json::parse_any_number(text.as_bytes()).unwrap().with_numbers_that_fit().write(&mut out);
        let expected =
            r#"{"a":["9007199254740992",-9007199254740991,"1e400",0.10],"b":{"c":"123456789012345678901234567890"}}"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    proptest! {
        /// The same texts are JSON here and for `serde_json`, and no text makes the reader panic.
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}:,"\\a-c0-2eE+.\-tfn u]{0,24}"#) {
            let ours = Json::parse(text.as_bytes());
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match ours {
                Ok(_) => prop_assert!(theirs.is_ok(), "{text} is no JSON"),
                Err(ParseError::Malformed(detail)) if !detail.starts_with("duplicate") => prop_assert!(theirs.is_err(), "{text} is JSON"),
                Err(_) => {}
            }
        }
    }
}
