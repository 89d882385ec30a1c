//! The forms that a parsed value is written in: as it was, comparable, and canonical.

use std::fmt;

use super::Json;

impl Json {
    /// Writes the value as JSON without white space: members in their order, numbers as they were written.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Array(items) => separated(items, out, *b"[]", Self::write),
            Self::Object(members) => separated(members, out, *b"{}", |(name, value), out| {
                write_name(name, out);
                value.write(out);
            }),
            // Their comparable form is plain JSON.
            scalar => scalar.write_comparable(out),
        }
    }

    /// The canonical form of an admitted value (RFC 8785): no white space, members by the UTF-16 code units of their names,
    /// numbers as ECMAScript writes the double.
    #[must_use]
    pub fn canonical(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write_canonical(&mut out);
        out
    }

    fn write_canonical(&self, out: &mut Vec<u8>) {
        match self {
            // Up to 15 digits without a sign are canonical as they were written.
            Self::Number(literal) if literal.len() <= 15 && literal.bytes().all(|b| b.is_ascii_digit()) => {
                out.extend_from_slice(literal.as_bytes());
            }
            Self::Number(literal) => {
                let number: f64 = literal.parse().expect("a number was read");
                let written = serde_json_canonicalizer::to_vec(&number).expect("an admitted number is finite");
                out.extend_from_slice(&written);
            }
            Self::Array(items) => separated(items, out, *b"[]", Self::write_canonical),
            Self::Object(members) => {
                write_canonical_object(members.iter().map(|(name, value)| (name.as_str(), value)).collect(), out);
            }
            scalar => scalar.write_comparable(out),
        }
    }

    /// Writes the value so that equal envelopes have equal bytes: no white space, members in byte order of their
    /// names, numbers by their literal (contract, "Repeated submissions").
    pub fn write_comparable(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null => out.extend_from_slice(b"null"),
            Self::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Number(literal) => out.extend_from_slice(literal.as_bytes()),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push(b'[');
                for item in items {
                    item.write_comparable(out);
                    out.push(b',');
                }
                out.push(b']');
            }
            Self::Object(members) => {
                let mut sorted: Vec<_> = members.iter().collect();
                sorted.sort_unstable_by_key(|(name, _)| name);
                out.push(b'{');
                for (name, value) in sorted {
                    write_name(name, out);
                    value.write_comparable(out);
                    out.push(b',');
                }
                out.push(b'}');
            }
        }
    }
}

/// As [`Json::write`].
impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = Vec::new();
        self.write(&mut out);
        f.write_str(&String::from_utf8_lossy(&out))
    }
}

/// Writes an object of these members, whose names are distinct, in its canonical form (RFC 8785).
pub(crate) fn write_canonical_object(mut members: Vec<(&str, &Json)>, out: &mut Vec<u8>) {
    members.sort_unstable_by(|(one, _), (other, _)| one.encode_utf16().cmp(other.encode_utf16()));
    separated(&members, out, *b"{}", |(name, value), out| {
        write_name(name, out);
        value.write_canonical(out);
    });
}

fn write_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is written to memory");
}

fn write_name(name: &str, out: &mut Vec<u8>) {
    write_string(name, out);
    out.push(b':');
}

fn separated<T>(items: &[T], out: &mut Vec<u8>, ends: [u8; 2], write: impl Fn(&T, &mut Vec<u8>)) {
    out.push(ends[0]);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(item, out);
    }
    out.push(ends[1]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::MAX_INTEGER;
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["[]", "{}", r#"{"b":[1,{"x":null}],"a":"\u0001\"\\"}"#, r"[[],[{}],true,1.50]"] {
            let json = Json::parse(text.as_bytes()).unwrap();
            let mut out = Vec::new();
            json.write(&mut out);
            assert_eq!(Json::parse(&out).unwrap(), json, "{text}");
        }
    }

    #[test]
    fn comparable_form_ignores_order_and_space_and_keeps_literals() {
        let form = |text: &str| {
            let mut out = Vec::new();
            Json::parse(text.as_bytes()).unwrap().write_comparable(&mut out);
            out
        };
        assert_eq!(form(r#"{"b":[1, 2],"a":"\u0041"}"#), form(r#" {"a":"A","b":[1,2]}"#));
        assert_ne!(form("1.0"), form("1.00"));
        assert_ne!(form("1"), form("\"1\""));
        assert_ne!(form("[[1],[2]]"), form("[[1,2]]"));
    }

    proptest! {
        /// The canonical form is that of another implementation.
        #[test]
        fn the_canonical_form_is_the_librarys(value in any_value()) {
            let text = value.to_string();
            let ours = Json::parse(text.as_bytes()).unwrap().canonical();
            let theirs = serde_json_canonicalizer::to_vec(&value).unwrap();
            prop_assert_eq!(String::from_utf8(ours), String::from_utf8(theirs));
        }
    }

    /// Values with names that UTF-8 and UTF-16 order differently, escapes, and numbers of every length.
    fn any_value() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value;
        let text = "[a-c\"\\\\/\u{1}\n\u{7f}é\u{ffff}\u{e000}\u{1f600}]{0,4}";
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-MAX_INTEGER..=MAX_INTEGER).prop_map(Value::from),
            (-1_000_i64..1_000).prop_map(Value::from),
            any::<f64>().prop_filter("JSON has finite numbers", |it| it.is_finite()).prop_map(Value::from),
            Just(Value::from(-0.0)),
            text.prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 24, 5, move |inner| {
            let object = prop::collection::btree_map(text, inner.clone(), 0..5);
            prop_oneof![
                prop::collection::vec(inner, 0..5).prop_map(Value::from),
                object.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    #[test]
    fn integers_are_canonical_whatever_way_they_were_written() {
        for (text, canonical) in [
            ("-0", "0"),
            ("0", "0"),
            ("10.0", "10"),
            ("1e2", "100"),
            ("-5", "-5"),
            ("999999999999999", "999999999999999"),
            ("9007199254740991", "9007199254740991"),
            ("1e21", "1e+21"),
            ("0.10", "0.1"),
        ] {
            let json = Json::parse(text.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(json.canonical()).unwrap(), canonical, "{text}");
        }
    }
}
