//! Identifiers and other single values of the contract. Each parses once and is valid from then on.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use aws_lc_rs::digest;
use chrono::{DateTime, Utc};
use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValueKind, ValuePointerRef, take_cf_content};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Why a text is not the value it should be: a sentence for the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidText(pub &'static str);

/// A string newtype with one rule, usable in JSON bodies, paths, columns and the OpenAPI document.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "database", derive(sqlx::Type))]
        #[serde(transparent)]
        #[cfg_attr(feature = "database", sqlx(transparent))]
        #[cfg_attr(feature = "openapi", schema(value_type = String))]
        pub struct $name(String);

        impl $name {
            /// The text itself.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidText;
            fn from_str(text: &str) -> Result<Self, InvalidText> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidText($rule)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserialize_parsed(deserializer)
            }
        }

        impl<E: DeserializeError> Deserr<E> for $name {
            fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
                deserialize_text(value, at)
            }
        }
    };
}

/// Reads a JSON string into a type that parses from text.
pub(super) fn deserialize_text<T, V, E>(value: Value<V>, at: ValuePointerRef) -> Result<T, E>
where
    T: FromStr<Err = InvalidText>,
    V: IntoValue,
    E: DeserializeError,
{
    match value {
        Value::String(text) => text.parse().map_err(|InvalidText(rule)| {
            take_cf_content(E::error::<V>(None, ErrorKind::Unexpected { msg: rule.to_owned() }, at))
        }),
        actual => Err(take_cf_content(E::error(
            None,
            ErrorKind::IncorrectValueKind { actual, accepted: &[ValueKind::String] },
            at,
        ))),
    }
}

/// The same with `serde`: the text is parsed where it stands.
pub(super) fn deserialize_parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: fmt::Display>,
    D: serde::Deserializer<'de>,
{
    struct Parsed<T>(PhantomData<T>);

    impl<T: FromStr<Err: fmt::Display>> serde::de::Visitor<'_> for Parsed<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }
    deserializer.deserialize_str(Parsed(PhantomData))
}

fn made_of(text: &str, longest: usize, allowed: fn(u8) -> bool) -> bool {
    (1..=longest).contains(&text.len()) && text.bytes().all(allowed)
}

text!(
    /// A registered program, `[a-z0-9][a-z0-9_-]{0,62}` (contract, "Submit").
    AgentId,
    |text| made_of(text, 63, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-'))
        && !text.starts_with(['_', '-']),
    "must be 1 to 63 characters of a-z, 0-9, _ and -, starting with a letter or digit"
);

text!(
    /// A tenant, `[a-z0-9][a-z0-9-]{0,62}`: nothing of another one exists for its people.
    TenantId,
    |text| made_of(text, 63, |b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') && !text.starts_with('-'),
    "must be 1 to 63 characters of a-z, 0-9 and -, starting with a letter or digit"
);

impl Default for TenantId {
    /// The tenant that always exists.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

text!(
    /// The agent's own key of a request, `[A-Za-z0-9._:-]{1,128}`, case-sensitive, kept as given (contract, "Submit").
    ClientRequestKey,
    |text| made_of(text, 128, |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-')),
    "must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ : -"
);

text!(
    /// An agent's own name for requests that belong together, `[A-Za-z0-9._:-]{1,128}` (contract, "The agent's view").
    GroupKey,
    |text| ClientRequestKey::from_str(text).is_ok(),
    "must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ : -"
);

text!(
    /// Names one attempt to run an approved action, `[A-Za-z0-9._:-]{16,128}`, fresh and random (contract, "Permits").
    ConsumeKey,
    |text| text.len() >= 16 && ClientRequestKey::from_str(text).is_ok(),
    "must be 16 to 128 characters of A-Z, a-z, 0-9 and . _ : -"
);

text!(
    /// What an executor says of its run (contract, "Permits").
    Note,
    |text| characters(text, 0, 2_000),
    "must be at most 2,000 characters"
);

text!(
    /// Names an agent's key, `[A-Za-z0-9._-]{1,128}`, unique per deployment, never reused (contract, "Tokens").
    KeyId,
    |text| made_of(text, 128, |b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')),
    "must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ -"
);

text!(
    /// An administrator's own key of a replay: the same key is the same replay (contract, "Administration").
    ReplayKey,
    |text| ClientRequestKey::from_str(text).is_ok(),
    "must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ : -"
);

text!(
    /// An administrator's own name of a freeze, `[A-Za-z0-9._:-]{1,128}` (contract, "Freezes").
    FreezeId,
    |text| ClientRequestKey::from_str(text).is_ok(),
    "must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ : -"
);

text!(
    /// An operator's own name of a delegation, `[A-Za-z0-9._:-]{1,128}` (contract, "Delegations").
    DelegationId,
    |text| ClientRequestKey::from_str(text).is_ok(),
    "must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ : -"
);

text!(
    /// An operator's own name of a push subscription, `[A-Za-z0-9._:-]{1,128}` (contract, "Browsers").
    SubscriptionId,
    |text| ClientRequestKey::from_str(text).is_ok(),
    "must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ : -"
);

text!(
    /// A group of operators, as their tokens name it.
    GroupName,
    |text| characters(text, 1, 255) && !text.chars().any(char::is_control),
    "must be 1 to 255 characters without control characters"
);

text!(
    /// A rule of a tenant (contract, "Rules").
    RuleName,
    |text| characters(text, 1, 100) && !text.chars().any(char::is_control),
    "must be 1 to 100 characters without control characters"
);

text!(
    /// Types of actions: one exactly, or all that begin with what is before a final `*` (contract, "Rules").
    ActionPattern,
    |text| text.strip_suffix('*').is_some_and(|beginning| beginning.is_empty() || ActionType::from_str(beginning).is_ok())
        || ActionType::from_str(text).is_ok(),
    "must be a type of action, or the beginning of one and *"
);

text!(
    /// Type of an action, `[A-Za-z0-9_][A-Za-z0-9_./:%~-]{0,127}`, case-sensitive (contract, "Submit"): the name of a tool
    /// as its framework writes it, such as `refund.create`, `Bash` or `server/tool`.
    ActionType,
    |text| made_of(text, 128, |b| {
        b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'/' | b':' | b'%' | b'~' | b'-')
    }) && text.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_'),
    "must be 1 to 128 characters of A-Z, a-z, 0-9 and _ . / : % ~ -, starting with a letter, a digit or _"
);

impl ActionPattern {
    /// Whether it stands for this type.
    #[must_use]
    pub fn covers(&self, action_type: &ActionType) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => action_type.as_str().starts_with(start),
            None => action_type.as_str() == self.0,
        }
    }
}

text!(
    /// An administrator's own name of a channel, `[A-Za-z0-9._:-]{1,128}` (contract, "Channels").
    ChannelId,
    |text| ClientRequestKey::from_str(text).is_ok(),
    "must be 1 to 128 characters of A-Z, a-z, 0-9 and . _ : -"
);

fn characters(text: &str, least: usize, most: usize) -> bool {
    (least..=most).contains(&text.chars().count())
}

text!(
    /// One line for the queue (contract, "Submit").
    Title,
    |text| characters(text, 1, 200) && !text.chars().any(char::is_control),
    "must be 1 to 200 characters without control characters"
);

text!(
    /// Markdown for the operator (contract, "Submit").
    Summary,
    |text| characters(text, 0, 8_000),
    "must be at most 8,000 characters"
);

text!(
    /// A person as an agent names them (contract, "Answers").
    PersonId,
    |text| characters(text, 1, 255) && !text.chars().any(char::is_control),
    "must be 1 to 255 characters without control characters"
);

text!(
    /// What a person is called (contract, "Answers").
    PersonName,
    |text| characters(text, 1, 200) && !text.chars().any(char::is_control),
    "must be 1 to 200 characters without control characters"
);

text!(
    /// Names an agent's failure for programs (contract, "Poll and acknowledge").
    ErrorCode,
    |text| characters(text, 1, 128) && !text.chars().any(char::is_control),
    "must be 1 to 128 characters without control characters"
);

text!(
    /// Why someone decided or intervened (contract, "Decide").
    Reason,
    |text| characters(text, 1, 2_000) && !text.trim().is_empty(),
    "must be 1 to 2,000 characters, not only white space"
);

/// The canonical id of a request: a UUIDv7 minted here.
///
/// Parsed in any case and any usual UUID spelling, always written in lower-case hyphenated form (contract, "Submit").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "database", derive(sqlx::Type))]
#[serde(transparent)]
#[cfg_attr(feature = "database", sqlx(transparent))]
#[cfg_attr(feature = "openapi", schema(value_type = String, format = "uuid"))]
pub struct RequestId(pub Uuid);

impl RequestId {
    /// A new id, made at `at`.
    #[must_use]
    pub fn mint(at: DateTime<Utc>) -> Self {
        Self(mint_uuid(at))
    }

    /// When it was made, to the millisecond; of an id that is no `UUIDv7`: the beginning of time.
    #[must_use]
    pub fn minted_at(&self) -> DateTime<Utc> {
        let made = self.0.get_timestamp().map(|at| at.to_unix());
        let made = made.and_then(|(seconds, nanos)| DateTime::from_timestamp(seconds.try_into().ok()?, nanos));
        made.unwrap_or_default()
    }
}

/// A new `UUIDv7` whose first 48 bits are the milliseconds of `at` (RFC 9562, section 5.7).
#[must_use]
pub fn mint_uuid(at: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(at.timestamp()).unwrap_or_default();
    let time = uuid::Timestamp::from_unix(uuid::NoContext, seconds, at.timestamp_subsec_nanos());
    Uuid::new_v7(time)
}

impl FromStr for RequestId {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        Uuid::parse_str(text).map(Self).map_err(|_| InvalidText("must be a UUID"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer)
    }
}

impl<E: DeserializeError> Deserr<E> for RequestId {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        deserialize_text(value, at)
    }
}

/// `P1`, `P2` or `P3`; stored as 1, 2, 3. P1 is the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "database", derive(sqlx::Type))]
#[repr(i16)]
pub enum Priority {
    /// A person is needed within minutes.
    P1 = 1,
    /// Within hours.
    P2 = 2,
    /// Within a day.
    P3 = 3,
}

impl FromStr for Priority {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        match text {
            "P1" => Ok(Self::P1),
            "P2" => Ok(Self::P2),
            "P3" => Ok(Self::P3),
            _ => Err(InvalidText("must be P1, P2 or P3")),
        }
    }
}

/// A SHA-256 digest, written `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, example = "sha256:8afa03d6c97ba094f46ae8d81263581dcdaaa6bb4d371993b7f0ce59c8067b56"))]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let mut digest = [0; 32];
        digest.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
        Self(digest)
    }
}

impl TryFrom<Vec<u8>> for Digest {
    type Error = InvalidText;
    fn try_from(bytes: Vec<u8>) -> Result<Self, InvalidText> {
        bytes.try_into().map(Self).map_err(|_| InvalidText("must be 32 bytes"))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 64];
        hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
        f.write_str("sha256:")?;
        f.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = InvalidText;
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let rule = InvalidText("must be sha256: and 64 lower-case hexadecimal digits");
        let digits = text.strip_prefix("sha256:").ok_or(rule.clone())?;
        if digits.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(rule);
        }
        let mut digest = [0; 32];
        hex::decode_to_slice(digits, &mut digest).map_err(|_| rule)?;
        Ok(Self(digest))
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize_parsed(deserializer)
    }
}

impl<E: DeserializeError> Deserr<E> for Digest {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        deserialize_text(value, at)
    }
}
