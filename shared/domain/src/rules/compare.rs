//! Comparisons of arguments: exactly, as decimals, where both sides are. A text is the decimal that it is written as. A JSON
//! number is the double that the digest and every tool see (RFC 8785, section 3.2.2.3): digits beyond it say nothing.

use std::cmp::Ordering;

use bigdecimal::BigDecimal;

use crate::Json;

/// Longest text that is compared as a decimal, in characters. Beyond any amount, and far below what costs time.
const LONGEST: usize = 400;
/// Largest exponent of such a text, either sign: that of a double and some.
const LARGEST_EXPONENT: i64 = 400;

/// One test of one argument, and the value that it is held against.
#[derive(Clone, Debug)]
pub(super) enum Test {
    Equals(Operand),
    In(Vec<Operand>),
    Lt(BigDecimal),
    Lte(BigDecimal),
    Gt(BigDecimal),
    Gte(BigDecimal),
    Prefix(String),
    LengthLte(usize),
}

/// A value, read once.
#[derive(Clone, Debug)]
pub(super) struct Operand {
    value: Json,
    decimal: Option<BigDecimal>,
}

impl From<Json> for Operand {
    fn from(value: Json) -> Self {
        Self { decimal: decimal(&value), value }
    }
}

impl Operand {
    /// Of a value, and the decimal that it is. `None`: the two are of kinds that cannot be compared.
    fn equals(&self, value: &Json, decimal: Option<&BigDecimal>) -> Option<bool> {
        match (&self.decimal, decimal) {
            (Some(ours), Some(theirs)) => Some(ours == theirs),
            _ => match (&self.value, value) {
                (Json::String(ours), Json::String(theirs)) => Some(ours == theirs),
                (Json::Bool(ours), Json::Bool(theirs)) => Some(ours == theirs),
                (Json::Null, Json::Null) => Some(true),
                (Json::Array(_), Json::Array(_)) | (Json::Object(_), Json::Object(_)) => {
                    Some(is_same(&self.value, value))
                }
                _ => None,
            },
        }
    }
}

/// Whether two values are equal, numbers within them by value.
fn is_same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| is_same(one, other))
        }
        // Counted first: a small operand costs nothing beside a value of any size.
        (Json::Object(one), Json::Object(other)) if one.len() == other.len() => {
            let mut sorted = [one.iter().collect::<Vec<_>>(), other.iter().collect()];
            for members in &mut sorted {
                members.sort_unstable_by_key(|(name, _)| name);
            }
            let [one, other] = sorted;
            one.iter().zip(&other).all(|(one, other)| one.0 == other.0 && is_same(&one.1, &other.1))
        }
        (Json::Number(_), Json::Number(_)) => match (decimal(one), decimal(other)) {
            (Some(one), Some(other)) => one == other,
            _ => one == other,
        },
        (Json::Object(_), Json::Object(_)) => false,
        _ => one == other,
    }
}

impl Test {
    /// Whether it holds of a value; `None`: it cannot be made.
    pub(super) fn holds(&self, value: &Json) -> Option<bool> {
        let ordered = |operand: &BigDecimal, admitted: fn(Ordering) -> bool| {
            decimal(value).map(|value| admitted(value.cmp(operand)))
        };
        match self {
            Self::Equals(operand) => operand.equals(value, decimal(value).as_ref()),
            Self::In(operands) => {
                let decimal = decimal(value);
                // Whether one is equal, once any can be compared.
                operands
                    .iter()
                    .filter_map(|operand| operand.equals(value, decimal.as_ref()))
                    .reduce(|one, other| one || other)
            }
            Self::Lt(operand) => ordered(operand, Ordering::is_lt),
            Self::Lte(operand) => ordered(operand, Ordering::is_le),
            Self::Gt(operand) => ordered(operand, Ordering::is_gt),
            Self::Gte(operand) => ordered(operand, Ordering::is_ge),
            Self::Prefix(prefix) => match value {
                Json::String(text) => Some(text.starts_with(prefix.as_str())),
                _ => None,
            },
            Self::LengthLte(most) => match value {
                Json::String(text) => Some(text.chars().count() <= *most),
                Json::Array(items) => Some(items.len() <= *most),
                _ => None,
            },
        }
    }
}

/// The decimal that a number is, or a text that is written like one.
pub(super) fn decimal(value: &Json) -> Option<BigDecimal> {
    match value {
        Json::Number(literal) => of_double(literal),
        Json::String(text) if text.len() <= LONGEST && is_decimal(text) => text.parse().ok(),
        _ => None,
    }
}

/// The shortest decimal that is read as the same double as a literal: the one of the canonical form.
fn of_double(literal: &str) -> Option<BigDecimal> {
    let double = literal.parse::<f64>().ok().filter(|double| double.is_finite())?;
    format!("{double:e}").parse().ok()
}

/// Whether a text is a number as JSON writes it, with an exponent that is not absurd.
fn is_decimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    let is_bounded = |exponent: &str| {
        let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        digits(unsigned) && unsigned.parse::<i64>().is_ok_and(|exponent| exponent <= LARGEST_EXPONENT)
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(is_bounded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    fn equals(operand: &str, value: &str) -> Option<bool> {
        Test::Equals(json(operand).into()).holds(&json(value))
    }

    #[test]
    fn numbers_and_texts_that_are_decimals_compare_as_decimals() {
        for (operand, value) in [
            ("100", "\"100.00\""),
            ("\"1240.00\"", "1240"),
            ("0.1", "1e-1"),
            ("-0", "0"),
            ("\"0.30000000000000000000000000000000000001\"", "\"0.300000000000000000000000000000000000010\""),
        ] {
            assert_eq!(equals(operand, value), Some(true), "{operand} {value}");
        }
        // A double would say that these are equal.
        assert_eq!(equals("\"9007199254740993\"", "\"9007199254740992\""), Some(false));
        let over = Test::Gt(decimal(&json("\"999999999999999999.99\"")).unwrap());
        assert_eq!(over.holds(&json("\"1000000000000000000\"")), Some(true));
        assert_eq!(over.holds(&json("\"999999999999999999.99\"")), Some(false));
    }

    /// Otherwise an agent would have one number judged, and its tool would take another of the same digest.
    #[test]
    fn a_number_is_its_double_and_a_text_is_what_it_says() {
        for (operand, value) in [
            ("4711", "4711.00000000000000001"),
            ("50", "49.99999999999999999999"),
            ("0", "1e-399"),
            ("0", "-0.0"),
            ("0.1", "0.1000000000000000000000001"),
            ("0.30000000000000004", "0.300000000000000044"),
            ("1e23", "1.0E+23"),
            ("\"100000000000000000000000\"", "1e23"),
            ("[4711]", "[4711.00000000000000001]"),
            ("{\"a\":0}", "{\"a\":1e-399}"),
        ] {
            assert_eq!(equals(operand, value), Some(true), "{operand} {value}");
        }
        assert_eq!(Test::Lt(50.into()).holds(&json("49.99999999999999999999")), Some(false));
        assert_eq!(Test::Lt(50.into()).holds(&json("\"49.99999999999999999999\"")), Some(true));
        assert_eq!(equals("\"4711\"", "\"4711.00000000000000001\""), Some(false));
    }

    #[test]
    fn what_is_no_decimal_cannot_be_compared_with_one() {
        let long = format!("\"{}\"", "9".repeat(LONGEST + 1));
        for value in [
            "\"\"",
            "\" 5\"",
            "\"+5\"",
            "\"5,0\"",
            "\"0x10\"",
            "\"1_000\"",
            "\".5\"",
            "\"5.\"",
            "\"007\"",
            "\"1e401\"",
            "\"1e99999999999999999999\"",
            "\"NaN\"",
            "\"inf\"",
            "null",
            "true",
            "[5]",
            "{}",
            &long,
        ] {
            assert_eq!(Test::Gte(5.into()).holds(&json(value)), None, "{value}");
            assert_eq!(equals("5", value), None, "{value}");
        }
    }

    #[test]
    fn kinds_are_kept_apart() {
        assert_eq!(equals("\"a\"", "\"a\""), Some(true));
        assert_eq!(equals("\"5\"", "\"five\""), Some(false));
        assert_eq!(equals("true", "\"true\""), None);
        assert_eq!(equals("null", "null"), Some(true));
        assert_eq!(equals("null", "0"), None);
        assert_eq!(equals("[1,{\"b\":2,\"a\":1.0}]", "[1.0,{\"a\":1,\"b\":2.00}]"), Some(true));
        assert_eq!(equals("[1]", "[1,2]"), Some(false));
        assert_eq!(equals("{\"a\":1}", "{\"a\":1,\"b\":1}"), Some(false));
        assert_eq!(equals("{\"a\":1}", "[]"), None);
    }

    #[test]
    fn one_of_several_is_enough_and_none_of_its_kind_is_no_comparison() {
        let of = Test::In(vec![json("\"EUR\"").into(), json("5").into()]);
        assert_eq!(of.holds(&json("\"EUR\"")), Some(true));
        assert_eq!(of.holds(&json("\"USD\"")), Some(false));
        assert_eq!(of.holds(&json("\"5.0\"")), Some(true));
        assert_eq!(of.holds(&json("true")), None);
        assert_eq!(Test::Prefix("s3://".into()).holds(&json("\"s3://x\"")), Some(true));
        assert_eq!(Test::Prefix("5".into()).holds(&json("55")), None);
        assert_eq!(Test::LengthLte(2).holds(&json("\"éé\"")), Some(true));
        assert_eq!(Test::LengthLte(2).holds(&json("[1,2,3]")), Some(false));
        assert_eq!(Test::LengthLte(2).holds(&json("2")), None);
    }
}
