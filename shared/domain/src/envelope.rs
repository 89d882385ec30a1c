//! The envelope: what an agent submits (contract, "Submit").

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValueKind, ValuePointerRef, take_cf_content};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::aap::Bridged;
use super::answers::{Answer, Answers, OnBehalfOf, PermitSeconds};
#[cfg(feature = "schemas")]
use super::faults::Faults;
use super::ids::{ActionType, AgentId, ClientRequestKey, Digest, GroupKey, Priority, Summary, Title};
use super::json::Json;
#[cfg(feature = "schemas")]
use super::json::{ParseError, from_object};
use super::time::Timestamp;

/// Most bytes of `action` and of `resume`, each (contract, "Limits").
pub const MAX_MEMBER_BYTES: usize = 256 * 1024;

/// The only version of the envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum EnvelopeVersion {
    /// Version 1.
    #[deserr(rename = "1")]
    #[cfg_attr(feature = "openapi", schema(rename = "1"))]
    V1,
}

/// A JSON object whose members are the agent's own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeObject;

impl<E: DeserializeError> Deserr<E> for FreeObject {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        match value {
            Value::Map(_) => Ok(Self),
            actual => {
                let accepted = &[ValueKind::Map];
                Err(take_cf_content(E::error(None, ErrorKind::IncorrectValueKind { actual, accepted }, at)))
            }
        }
    }
}

/// A JSON Schema: an object or a boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnySchema;

impl<E: DeserializeError> Deserr<E> for AnySchema {
    fn deserialize_from_value<V: IntoValue>(value: Value<V>, at: ValuePointerRef) -> Result<Self, E> {
        match value {
            Value::Map(_) | Value::Boolean(_) => Ok(Self),
            actual => {
                let accepted = &[ValueKind::Map, ValueKind::Boolean];
                Err(take_cf_content(E::error(None, ErrorKind::IncorrectValueKind { actual, accepted }, at)))
            }
        }
    }
}

/// The exact thing that the agent wants to do.
#[derive(Clone, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
pub struct Action {
    /// What kind of action.
    #[deserr(rename = "type")]
    #[cfg_attr(feature = "openapi", schema(rename = "type"))]
    pub action_type: ActionType,
    /// Every argument of it; may be empty.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub arguments: FreeObject,
}

/// The JSON body of a submission. Null is not absence: an optional member that is there must have its type.
#[derive(Clone, Debug, PartialEq, Eq, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[deserr(deny_unknown_fields)]
pub struct Envelope {
    /// Always `1`.
    pub envelope_version: EnvelopeVersion,
    /// The agent that asks; the token's `sub`.
    pub agent_id: AgentId,
    /// The agent's own key of this request: the same key and envelope again are the same request, for 7 days unless the
    /// deployment says otherwise. May come as the header `Idempotency-Key` instead.
    #[cfg_attr(feature = "openapi", schema(required = false))]
    pub client_request_key: ClientRequestKey,
    /// How soon a person is needed.
    pub priority: Priority,
    /// One line for the queue: 1 to 200 characters, no control characters.
    pub title: Title,
    /// Markdown for the operator, up to 8,000 characters.
    #[deserr(default, from(Summary) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub summary: Option<Summary>,
    /// The action to be approved.
    pub action: Action,
    /// For the operator's eyes.
    #[deserr(default, from(FreeObject) = Some)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object, required = false))]
    pub context: Option<FreeObject>,
    /// Comes back to the agent untouched and is never shown.
    #[deserr(default, from(FreeObject) = Some)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object, required = false))]
    pub resume: Option<FreeObject>,
    /// May shorten the policy's time, never lengthen it.
    #[deserr(default, from(Timestamp) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub respond_by: Option<Timestamp>,
    /// The answers that the agent can take. Default: approve and reject; reject is always among them, and edit needs approve.
    #[deserr(default, from(Vec<Answer>) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub answers: Option<Vec<Answer>>,
    /// JSON Schema 2020-12 of edited arguments; needs the answer edit.
    #[deserr(default, from(AnySchema) = Some)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object, required = false))]
    pub edit_schema: Option<AnySchema>,
    /// JSON Schema 2020-12 of a response; needs the answer respond.
    #[deserr(default, from(AnySchema) = Some)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object, required = false))]
    pub respond_schema: Option<AnySchema>,
    /// Requests of one agent that belong together.
    #[deserr(default, from(GroupKey) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub group: Option<GroupKey>,
    /// The person for whom the agent acts, who may not approve it.
    #[deserr(default, from(OnBehalfOf) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub on_behalf_of: Option<OnBehalfOf>,
    /// How long an approval may be used, 10 to 86,400 seconds; no longer than the timeout policy lets it.
    #[deserr(default, from(PermitSeconds) = Some)]
    #[cfg_attr(feature = "openapi", schema(nullable = false))]
    pub permit_seconds: Option<PermitSeconds>,
}

impl Envelope {
    /// The answers that the agent can take.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.answers.as_deref().map_or_else(Answers::default, Answers::of)
    }
}

/// What a stored envelope says of its answers.
#[derive(Default, Deserialize)]
pub struct Offer<'a> {
    answers: Option<Vec<Answer>>,
    /// Schema of edited arguments.
    #[serde(borrow, default)]
    pub edit_schema: Option<&'a RawValue>,
    /// Schema of a response.
    #[serde(borrow, default)]
    pub respond_schema: Option<&'a RawValue>,
}

impl Offer<'_> {
    /// The answers that the agent can take.
    #[must_use]
    pub fn answers(&self) -> Answers {
        self.answers.as_deref().map_or_else(Answers::default, Answers::of)
    }

    /// What is wrong with it.
    #[cfg(feature = "schemas")]
    fn faults(&self) -> Faults {
        let answers = self.answers();
        let mut faults = Faults::default();
        if answers.has(Answer::Edit) && !answers.has(Answer::Approve) {
            faults.add("/answers", "must have approve where it has edit");
        }
        let schemas = [
            ("/edit_schema", self.edit_schema, Answer::Edit),
            ("/respond_schema", self.respond_schema, Answer::Respond),
        ];
        for (pointer, schema, answer) in schemas {
            let Some(schema) = schema else { continue };
            if !answers.has(answer) {
                faults.add(pointer, format!("needs {} among the answers", answer.as_str()));
            }
            faults.extend(crate::AnswerSchema::compile(schema.get(), pointer).err().unwrap_or_default());
        }
        faults
    }
}

/// Whether an envelope says anything of its answers: most do not, and cost nothing here.
#[cfg(feature = "schemas")]
fn faults_of_offer(envelope: &Envelope, bytes: &[u8]) -> Faults {
    if envelope.answers.is_none() && envelope.edit_schema.is_none() && envelope.respond_schema.is_none() {
        return Faults::default();
    }
    serde_json::from_slice::<Offer<'_>>(bytes).expect("a valid envelope is JSON").faults()
}

/// A valid envelope, with the values derived from its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// The parsed envelope.
    pub envelope: Envelope,
    /// The bytes as received, which are stored.
    pub bytes: Vec<u8>,
    /// The bytes of `resume`, if any.
    pub resume: Option<Vec<u8>>,
    /// SHA-256 over the RFC 8785 form of the action.
    pub action_digest: Digest,
    /// Equal for equal envelopes: member order ignored, numbers by their literal.
    pub fingerprint: Digest,
    /// What a bridge adds; `None`: RelayTrace's own protocol.
    pub bridged: Option<Bridged>,
}

impl Submission {
    /// The arguments of its action; null where they cannot be read.
    #[must_use]
    pub fn arguments(&self) -> Json {
        let envelope = match self.bridged {
            Some(bridged) => bridged.protocol.envelope(&self.bytes),
            None => Some(self.bytes.as_slice().into()),
        };
        let json = envelope.and_then(|envelope| Json::parse(&envelope).ok());
        let arguments = json.as_ref().and_then(|json| json.get("action")?.get("arguments"));
        arguments.cloned().unwrap_or(Json::Null)
    }
}

#[cfg(feature = "schemas")]
impl Submission {
    /// Parses and validates the bytes of a body; every fault is reported. A key that came as a header counts as the member.
    pub fn parse(bytes: &[u8], key: Option<&ClientRequestKey>) -> Result<Self, ParseError> {
        let mut json = Json::parse(bytes)?;
        let is_another_key = key.is_some_and(|key| !take_key(&mut json, key));
        let mut comparable = Vec::with_capacity(bytes.len());
        json.write_comparable(&mut comparable);
        let action_digest = json.get("action").map(action_digest);

        let envelope = from_object::<Envelope>(json);
        if is_another_key {
            let mut faults = envelope.err().unwrap_or_default();
            faults.add_at(KEY, "must be the key of the header Idempotency-Key, or be left out");
            return Err(ParseError::Invalid(faults));
        }
        let envelope = envelope.map_err(ParseError::Invalid)?;
        let members = (envelope.resume.is_some() || bytes.len() > MAX_MEMBER_BYTES).then(|| Members::of(bytes));
        let (action, resume) = members.map(|members| (members.action, members.resume)).unzip();
        let resume = resume.flatten();
        let mut faults = faults_of_offer(&envelope, bytes);
        for (pointer, member) in [("/action", action), ("/resume", resume)] {
            if member.is_some_and(|member| member.get().len() > MAX_MEMBER_BYTES) {
                faults.add(pointer, format!("must be at most {} KiB long", MAX_MEMBER_BYTES / 1024));
            }
        }
        if !faults.is_empty() {
            return Err(ParseError::Invalid(faults));
        }
        Ok(Self {
            resume: resume.map(|resume| resume.get().as_bytes().to_vec()),
            action_digest: action_digest.expect("a valid envelope has an action"),
            fingerprint: Digest::of(&comparable),
            bytes: bytes.to_vec(),
            envelope,
            bridged: None,
        })
    }
}

/// The member that may come as a header.
#[cfg(feature = "schemas")]
const KEY: &str = "client_request_key";

#[cfg(feature = "schemas")]
/// Makes the header's key the member where there is none. `false`: the member is another text.
fn take_key(json: &mut Json, key: &ClientRequestKey) -> bool {
    let Json::Object(members) = json else { return true };
    match members.iter().find(|(name, _)| name == KEY) {
        Some((_, Json::String(text))) => text == key.as_str(),
        // Of another kind: that is a fault of its own.
        Some(_) => true,
        None => {
            members.push((KEY.to_owned(), Json::String(key.to_string())));
            true
        }
    }
}

/// SHA-256 over the RFC 8785 form of an action.
#[must_use]
pub fn action_digest(action: &Json) -> Digest {
    canonical_digest(action)
}

/// SHA-256 over the RFC 8785 form of a value.
#[must_use]
pub fn canonical_digest(value: &Json) -> Digest {
    Digest::of(&value.canonical())
}

/// The members of a valid envelope whose bytes matter.
#[cfg(feature = "schemas")]
#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    action: &'a RawValue,
    #[serde(borrow)]
    resume: Option<&'a RawValue>,
}

#[cfg(feature = "schemas")]
impl<'a> Members<'a> {
    fn of(envelope: &'a [u8]) -> Self {
        serde_json::from_slice(envelope).expect("a valid envelope is JSON")
    }
}

#[cfg(all(test, feature = "schemas"))]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine};

    use super::*;

    const VALID: &str = r#"{"envelope_version":"1","agent_id":"a","client_request_key":"K","priority":"P2","title":"t",
        "action":{"type":"x","arguments":{}}}"#;

    fn pointers(body: &str) -> Vec<String> {
        match Submission::parse(body.as_bytes(), None) {
            Err(ParseError::Invalid(faults)) => faults.listed().iter().map(|fault| fault.pointer.clone()).collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn action_digests_match_the_fixed_vectors() {
        let vectors: Vec<serde_json::Value> =
            serde_json::from_str(include_str!("../../../contract/vectors/action-digests.json")).unwrap();
        assert_eq!(vectors.len(), 3);
        for vector in vectors {
            // The action as an agent would send it: serde_json writes other literals than RFC 8785 does.
            let action = Json::parse(vector["action"].to_string().as_bytes()).unwrap();
            assert_eq!(BASE64_STANDARD.encode(action.canonical()), vector["canonical_utf8_base64"].as_str().unwrap());
            assert_eq!(action_digest(&action).to_string(), vector["action_digest"].as_str().unwrap());
        }
    }

    #[test]
    fn a_minimal_envelope_is_valid() {
        assert!(Submission::parse(VALID.as_bytes(), None).is_ok());
    }

    #[test]
    fn all_faults_are_reported_together() {
        let body = r#"{"envelope_version":"2","agent_id":"A","client_request_key":"ü","priority":"P4","title":"",
            "action":{"type":"-X","arguments":[],"more":1},"context":null,"resume":[],"respond_by":"tomorrow","zzz":0}"#;
        let mut found = pointers(body);
        found.sort_unstable();
        assert_eq!(
            found,
            [
                "/action/arguments",
                "/action/more",
                "/action/type",
                "/agent_id",
                "/client_request_key",
                "/context",
                "/envelope_version",
                "/priority",
                "/respond_by",
                "/resume",
                "/title",
                "/zzz"
            ]
        );
        let mut missing = pointers("{}");
        missing.sort_unstable();
        assert_eq!(
            missing,
            ["/action", "/agent_id", "/client_request_key", "/envelope_version", "/priority", "/title"]
        );
        assert_eq!(pointers("[]"), [""]);
    }

    #[test]
    fn action_and_resume_have_a_limit_each() {
        let padded = |bytes: usize| format!(r#"{{"x":"{}"}}"#, "x".repeat(bytes - r#"{"x":""}"#.len()));
        let resume = |bytes| VALID.replacen('{', &format!("{{\"resume\":{},", padded(bytes)), 1);
        assert!(Submission::parse(resume(MAX_MEMBER_BYTES).as_bytes(), None).is_ok());
        assert_eq!(pointers(&resume(MAX_MEMBER_BYTES + 1)), ["/resume"]);
        let around = r#"{"type":"x","arguments":}"#.len();
        let action = |bytes| VALID.replace(r#""arguments":{}"#, &format!(r#""arguments":{}"#, padded(bytes - around)));
        assert!(Submission::parse(action(MAX_MEMBER_BYTES).as_bytes(), None).is_ok());
        assert_eq!(pointers(&action(MAX_MEMBER_BYTES + 1)), ["/action"]);
    }

    #[test]
    fn a_key_in_the_header_counts_as_the_member() {
        let key: ClientRequestKey = "K".parse().unwrap();
        let keyless = VALID.replace(r#""client_request_key":"K","#, "");
        let submission = Submission::parse(keyless.as_bytes(), Some(&key)).unwrap();
        assert_eq!(submission.envelope.client_request_key, key);
        assert_eq!(submission.bytes, keyless.as_bytes());
        let with_member = Submission::parse(VALID.as_bytes(), None).unwrap();
        assert_eq!(submission.fingerprint, with_member.fingerprint);
        assert_eq!(Submission::parse(VALID.as_bytes(), Some(&key)).unwrap(), with_member);
    }

    #[test]
    fn another_key_in_the_header_is_a_fault_among_the_others() {
        let key = "other".parse().unwrap();
        let faults_of = |body: &str| match Submission::parse(body.as_bytes(), Some(&key)) {
            Err(ParseError::Invalid(faults)) => {
                faults.listed().iter().map(|fault| fault.pointer.clone()).collect::<Vec<_>>()
            }
            other => panic!("{body}: {other:?}"),
        };
        assert_eq!(faults_of(VALID), ["/client_request_key"]);
        assert_eq!(faults_of(&VALID.replace(r#""t""#, r#""""#)), ["/title", "/client_request_key"]);
        assert_eq!(faults_of(&VALID.replace(r#""K""#, "7")), ["/client_request_key"]);
        assert_eq!(faults_of("[]"), [""]);
    }

    #[test]
    fn resume_keeps_its_bytes() {
        let resume = r#"{ "n": 1.50e+0,"b":{} }"#;
        let body = VALID.replacen('{', &format!("{{\"resume\":{resume},"), 1);
        assert_eq!(Submission::parse(body.as_bytes(), None).unwrap().resume.unwrap(), resume.as_bytes());
    }
}
