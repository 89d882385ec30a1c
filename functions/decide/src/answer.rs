//! An operator's answer: approve, reject, edit or respond (contract, "Decision").

use deserr::{DeserializeError, Deserr, ErrorKind, IntoValue, Value, ValueKind, ValuePointerRef, take_cf_content};
use relaytrace_domain::{
    Answer, AnswerSchema, Digest, Error, Faults, Json, JsonText, MAX_MEMBER_BYTES, Offer, Outcome, PersonId, Reason,
    Result, Written, action_digest, canonical_digest, from_object,
};
use relaytrace_store::Asked;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// Longest response, in bytes (contract, "Limits").
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// Longest response where its agent gave no schema, in characters.
const MAX_RESPONSE_CHARACTERS: usize = 8_000;

/// Any value: its text is read from the body itself.
#[derive(Debug)]
struct AnyValue;

impl<E: DeserializeError> Deserr<E> for AnyValue {
    fn deserialize_from_value<V: IntoValue>(_: Value<V>, _: ValuePointerRef) -> Result<Self, E> {
        Ok(Self)
    }
}

/// Any object, likewise.
#[derive(Debug)]
struct AnyObject;

impl<E: DeserializeError> Deserr<E> for AnyObject {
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

/// An operator's answer.
#[derive(Debug, Deserr, ToSchema)]
#[deserr(deny_unknown_fields)]
pub struct Body {
    decision: Answer,
    /// 1 to 2,000 characters; required to reject.
    #[deserr(default)]
    reason: Option<Reason>,
    /// Of the action that the operator saw.
    #[deserr(default)]
    action_digest: Option<Digest>,
    /// The operator for whom the caller acts, by a delegation.
    #[deserr(default, rename = "for", from(PersonId) = Some)]
    #[schema(rename = "for", nullable = false)]
    acts_for: Option<PersonId>,
    /// To edit: the arguments that the action is to have.
    #[deserr(default, from(AnyObject) = Some)]
    #[schema(value_type = Option<Object>)]
    arguments: Option<AnyObject>,
    /// To edit: of the action with these arguments.
    #[deserr(default)]
    edited_action_digest: Option<Digest>,
    /// To respond: any JSON value that the agent's schema admits.
    #[deserr(default, from(AnyValue) = Some)]
    #[schema(value_type = Option<serde_json::Value>)]
    response: Option<AnyValue>,
}

/// The members whose bytes matter.
#[derive(Deserialize)]
struct Texts<'a> {
    #[serde(borrow)]
    arguments: Option<&'a RawValue>,
    // Not an `Option`: a response may be null.
    #[serde(borrow, default = "null")]
    response: &'a RawValue,
}

fn null() -> &'static RawValue {
    RawValue::NULL
}

/// A complete answer, not yet compared with the answers that its agent takes.
#[derive(Debug)]
pub struct Given {
    pub answer: Answer,
    pub reason: Option<Reason>,
    pub action_digest: Option<Digest>,
    /// The operator who is acted for.
    pub acts_for: Option<PersonId>,
    /// The arguments or the response, as they were written.
    text: String,
    edited_action_digest: Option<Digest>,
}

impl Given {
    /// Reads a body; every fault is reported.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let body: Body = from_object(Json::parse(bytes)?)?;
        let mut faults = Faults::default();
        if body.decision == Answer::Reject && body.reason.is_none() {
            faults.add("/reason", "is required to reject");
        }
        let members = [
            ("/arguments", body.arguments.is_some(), Answer::Edit),
            ("/edited_action_digest", body.edited_action_digest.is_some(), Answer::Edit),
            ("/response", body.response.is_some(), Answer::Respond),
        ];
        for (pointer, is_there, of) in members {
            match (is_there, body.decision == of) {
                (false, true) => faults.add(pointer, format!("is required to {}", of.as_str())),
                (true, false) => faults.add(pointer, format!("is only there to {}", of.as_str())),
                _ => {}
            }
        }
        let texts: Texts = serde_json::from_slice(bytes).map_err(Error::internal)?;
        let text = texts.arguments.unwrap_or(texts.response).get();
        let (pointer, most) = match body.decision {
            Answer::Respond => ("/response", MAX_RESPONSE_BYTES),
            _ => ("/arguments", MAX_MEMBER_BYTES),
        };
        if text.len() > most {
            faults.add(pointer, format!("must be at most {} KiB long", most / 1024));
        }
        if !faults.is_empty() {
            return Err(faults.into());
        }
        Ok(Self {
            answer: body.decision,
            reason: body.reason,
            action_digest: body.action_digest,
            acts_for: body.acts_for,
            text: text.to_owned(),
            edited_action_digest: body.edited_action_digest,
        })
    }

    /// The outcome that it leads to.
    pub fn outcome(&self) -> Outcome {
        match self.answer {
            Answer::Approve | Answer::Edit => Outcome::Approved,
            Answer::Reject => Outcome::Rejected,
            Answer::Respond => Outcome::Responded,
        }
    }

    /// Whether there is something that the agent's schema judges.
    pub fn writes(&self) -> bool {
        matches!(self.answer, Answer::Edit | Answer::Respond)
    }

    /// What the operator wrote, where the request's agent admits it.
    pub fn written(&self, asked: &Asked) -> Result<Written> {
        let offer = asked.envelope.as_deref().map(serde_json::from_slice::<Offer>).transpose();
        let offer = offer.map_err(Error::internal)?.unwrap_or_default();
        let (pointer, schema) = match self.answer {
            Answer::Respond => ("/response", offer.respond_schema),
            _ => ("/arguments", offer.edit_schema),
        };
        // What is decided or over is told so: whether the answer would have been a good one does not matter then.
        if asked.is_open {
            if !offer.answers().has(self.answer) {
                return Err(Error::invalid("/decision", "is not among the answers that the agent can take"));
            }
            match schema {
                Some(schema) => AnswerSchema::compile(schema.get(), pointer)?.check(&self.text, pointer)?,
                None if self.answer == Answer::Respond => self.is_short_text()?,
                None => {}
            }
        }
        self.as_written(&asked.action_type)
    }

    fn as_written(&self, action_type: &str) -> Result<Written> {
        let read = |text: &str| Json::parse(text.as_bytes()).map_err(Error::from);
        let text = |text: &str| JsonText::try_from(text.as_bytes().to_vec());
        if self.answer == Answer::Respond {
            return Ok(Written::Response(text(&self.text)?, canonical_digest(&read(&self.text)?)));
        }
        let action = format!(r#"{{"type":"{action_type}","arguments":{}}}"#, self.text);
        if action.len() > MAX_MEMBER_BYTES {
            return Err(Error::invalid("/arguments", "makes the action longer than 256 KiB"));
        }
        let digest = action_digest(&read(&action)?);
        if self.edited_action_digest != Some(digest) {
            return Err(Error::ActionMismatch);
        }
        Ok(Written::Action(text(&action)?, digest))
    }

    /// The response that an agent without a schema takes.
    fn is_short_text(&self) -> Result<()> {
        let text: Option<String> = serde_json::from_str(&self.text).ok();
        let is_short = text.is_some_and(|text| (1..=MAX_RESPONSE_CHARACTERS).contains(&text.chars().count()));
        if is_short { Ok(()) } else { Err(Error::invalid("/response", "must be a text of 1 to 8,000 characters")) }
    }
}
