//! Points in time as the contract writes them.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use deserr::{DeserializeError, Deserr, IntoValue, Value, ValuePointerRef};
use serde::{Deserialize, Serialize};

use super::ids::{InvalidText, deserialize_parsed, deserialize_text};

/// A point in time, to the microsecond, written as RFC 3339 in UTC: `2026-11-22T11:06:41.000000Z`.
///
/// Parses RFC 3339 with the offset `Z` or `+00:00` only (contract, "Conventions"); digits finer than a microsecond are
/// cut off, as the database would.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "database", derive(sqlx::Type))]
#[cfg_attr(feature = "database", sqlx(transparent))]
#[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
pub struct Timestamp(pub DateTime<Utc>);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl FromStr for Timestamp {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let rule = InvalidText("must be a time in UTC as RFC 3339 writes it, such as 2026-11-22T12:00:00Z");
        // RFC 3339 allows a space for the T where both sides agree; here they do not.
        if !text.contains(['T', 't']) {
            return Err(rule);
        }
        let parsed = DateTime::parse_from_rfc3339(text).map_err(|_| rule.clone())?;
        if parsed.offset().local_minus_utc() != 0 {
            return Err(rule);
        }
        // RFC 3339 has a year 0; Postgres, whose calendar goes from 1 BC to AD 1, has none.
        if !(1..=9_999).contains(&parsed.year()) {
            return Err(rule);
        }
        let micros = parsed.nanosecond() / 1_000 * 1_000;
        parsed.to_utc().with_nanosecond(micros).map(Self).ok_or(rule)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer)
    }
}

impl<E: DeserializeError> Deserr<E> for Timestamp {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        deserialize_text(value, at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_that_the_database_has_are_taken() {
        for good in ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2026-11-22T12:00:00.5+00:00"] {
            assert!(good.parse::<Timestamp>().is_ok(), "{good}");
        }
        for bad in ["0000-01-01T00:00:00Z", "0000-12-31T23:59:59Z", "+10000-01-01T00:00:00Z", "2026-11-22 12:00:00Z"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
}
