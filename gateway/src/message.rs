//! JSON-RPC messages as they came: looked into, and passed on byte for byte.
//!
//! A message is never read into a type and written again: members, numbers and methods that this version does not know
//! reach the other side as they are. What a client sends is looked at strictly, so that the gateway and the server cannot
//! read two meanings from the same bytes.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Why a client's message is not passed on.
#[derive(Debug)]
pub struct Unreadable(pub String);

/// The members of an object, in their order.
#[derive(Clone, Debug, Default)]
pub struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

impl<'a> Members<'a> {
    /// Looks into an object. Of members of the same name the last one counts, as in most readers.
    pub fn look(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// Reads an object in which no name stands twice, not even in another case: some readers take these for one.
    pub fn read(text: &'a str) -> Result<Self, Unreadable> {
        let members: Self = serde_json::from_str(text).map_err(|error| Unreadable(error.to_string()))?;
        let mut names: Vec<String> = members.0.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Unreadable(format!("the member {} is there twice", pair[0]))),
            None => Ok(members),
        }
    }

    /// Reads a message of a client: nothing in it may be another message to a reader that matches names less strictly.
    ///
    /// Some readers take names for one that differ in case, in `_` or in `-`, or in a letter that Unicode folds to an ASCII
    /// one (`\u{17f}` to `s`). A name that is like a known one and is not spelt exactly so is refused, and so is every name
    /// that is not ASCII.
    pub fn of_client(text: &'a str) -> Result<Self, Unreadable> {
        let members = Self::read(text)?;
        members.spelt_as(&KNOWN_OF_MESSAGES)?;
        if members.get("method").is_some() {
            if members.text("method").is_none() {
                return Err(Unreadable("method is no string".to_owned()));
            }
            if members.get("result").or(members.get("error")).is_some() {
                return Err(Unreadable("it is a request and a response".to_owned()));
            }
        }
        if let Some(params) = members.get("params").filter(|params| params.get().starts_with('{')) {
            Self::read(params.get())?.spelt_as(&KNOWN_OF_PARAMS)?;
        }
        Ok(members)
    }

    fn spelt_as(&self, known: &[&str]) -> Result<(), Unreadable> {
        for (name, _) in &self.0 {
            if !name.is_ascii() || known.iter().any(|known| known != name && folded(known) == folded(name)) {
                return Err(Unreadable(format!("some readers take the member {} for another", quoted(name))));
            }
        }
        Ok(())
    }

    /// The members and their values, as they were written.
    pub fn all(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The value of a member.
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| *value)
    }

    /// The text of a member that is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// Whether a member is `true`.
    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.get() == "true")
    }

    /// The members of a member that is an object.
    pub fn inner(&self, name: &str) -> Option<Self> {
        Self::look(self.get(name)?.get())
    }

    /// The object with this value of a member, all else as it was.
    pub fn with(&self, name: &str, value: &str) -> String {
        let mut parts: Vec<String> = Vec::with_capacity(self.0.len() + 1);
        let mut is_there = false;
        for (key, old) in &self.0 {
            let is_it = key == name;
            is_there |= is_it;
            parts.push(format!("{}:{}", quoted(key), if is_it { value } else { old.get() }));
        }
        if !is_there {
            parts.push(format!("{}:{value}", quoted(name)));
        }
        format!("{{{}}}", parts.join(","))
    }

    /// The object without a member.
    pub fn without(&self, name: &str) -> String {
        let kept = self.0.iter().filter(|(key, _)| key != name);
        let parts: Vec<String> = kept.map(|(key, value)| format!("{}:{}", quoted(key), value.get())).collect();
        format!("{{{}}}", parts.join(","))
    }
}

/// Members of messages (JSON-RPC 2.0).
const KNOWN_OF_MESSAGES: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
/// Members of `params` that a server acts by (MCP).
const KNOWN_OF_PARAMS: [&str; 16] = [
    "name",
    "arguments",
    "_meta",
    "requestState",
    "inputResponses",
    "task",
    "taskId",
    "uri",
    "cursor",
    "requestId",
    "progressToken",
    "protocolVersion",
    "capabilities",
    "clientInfo",
    "level",
    "ref",
];

/// An ASCII name as the least strict readers compare it.
fn folded(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '_' | '-')).map(|c| c.to_ascii_lowercase()).collect()
}

/// A text as JSON.
pub fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It wants a response under this id (as JSON).
    Request {
        /// As it was written.
        id: String,
        /// What is wanted.
        method: String,
    },
    /// It wants none.
    Notification {
        /// What happened.
        method: String,
    },
    /// An answer to the request of this id.
    Response {
        /// As it was written.
        id: String,
    },
    /// None of these.
    Other,
}

/// What this message is.
pub fn kind(members: &Members<'_>) -> Kind {
    let id = members.get("id").map(|id| id.get().to_owned());
    match (id, members.text("method")) {
        (Some(id), Some(method)) => Kind::Request { id, method },
        (None, Some(method)) => Kind::Notification { method },
        (Some(id), None) => Kind::Response { id },
        (None, None) => Kind::Other,
    }
}

/// Whether a text is a response.
pub fn is_response(text: &str) -> bool {
    Members::look(text).is_some_and(|members| matches!(kind(&members), Kind::Response { .. }))
}

/// The messages of a batch (revision 2025-03-26 has them), or the one that it is.
pub fn unbatched(text: &str) -> Vec<String> {
    if !text.trim_start().starts_with('[') {
        return vec![text.to_owned()];
    }
    match serde_json::from_str::<Vec<&RawValue>>(text) {
        Ok(messages) => messages.into_iter().map(|message| message.get().to_owned()).collect(),
        Err(_) => vec![text.to_owned()],
    }
}

/// The response to a request.
pub fn response(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// The response to a request that cannot be served.
pub fn error(id: &str, code: i32, message: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":{}}}}}"#, quoted(message))
}

/// The response to a request that ended with this error (JSON).
pub fn failed(id: &str, error: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#)
}

/// Names, in the data of an error that the gateway itself made, what it knows of a call that had been passed on.
const OUTCOME: &str = "relaytrace/outcome";

/// The gateway's own error to a request that it has passed on: nobody knows whether the server has carried it out.
pub fn lost(id: &str, why: &str) -> String {
    let message = quoted(&format!("{why}; whether the server has carried this out is not known"));
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{INTERNAL_ERROR},"message":{message},"data":{{"{OUTCOME}":"unknown"}}}}}}"#
    )
}

/// Whether a response is one of [`lost`].
pub fn is_lost(response: &Members<'_>) -> bool {
    let data = response.inner("error").and_then(|error| error.inner("data"));
    data.is_some_and(|data| data.get(OUTCOME).is_some())
}

/// JSON-RPC: what was sent is not a request.
pub const INVALID_REQUEST: i32 = -32600;
/// JSON-RPC: a failure of the gateway's or of the way to the server.
pub const INTERNAL_ERROR: i32 = -32603;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_is_one_member_and_the_rest_stays_as_it_was_written() {
        let text = r#"{"jsonrpc":"2.0","id":7,"params":{"n":1.0e2,"big":123456789012345678901234567890},"x-new":[1]}"#;
        let members = Members::read(text).unwrap();
        assert_eq!(members.with("id", r#""a""#), text.replace("7,\"params\"", "\"a\",\"params\""));
        assert_eq!(members.without("id"), text.replace("\"id\":7,", ""));
        assert_eq!(members.with("method", r#""ping""#), format!("{},\"method\":\"ping\"}}", &text[..text.len() - 1]));
    }

    #[test]
    fn a_client_cannot_say_two_things_in_one_message() {
        for twice in [
            r#"{"method":"tools/list","method":"tools/call"}"#,
            r#"{"method":"tools/list","Method":"tools/call"}"#,
            r#"{"method":"tools/list","\u006dethod":"tools/call"}"#,
            r#"["method"]"#,
            "",
        ] {
            assert!(Members::read(twice).is_err(), "{twice}");
        }
    }

    #[test]
    fn a_name_that_some_readers_take_for_a_known_one_does_not_pass() {
        for like in [
            r#"{"id":1,"Method":"tools/call","params":{"name":"t"},"result":{}}"#,
            r#"{"id":1,"Method":"tools/call","error":{}}"#,
            r#"{"id":1,"method":"tools/call","result":{}}"#,
            r#"{"id":1,"method":7,"result":{}}"#,
            r#"{"ID":1,"method":"tools/call"}"#,
            r#"{"id":1,"method":"tools/list","Params":{"name":"t"}}"#,
            r#"{"id":1,"method":"tools/list","param\u017f":{"name":"t"}}"#,
            r#"{"id":1,"m\u00e9thod":"x","result":{}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"t","Arguments":{}}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"t","argument\u017f":{}}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"t","ta\u017fk":{}}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"t","tas\u212a":{}}}"#,
            r#"{"id":1,"method":"tools/call","params":{"name":"t","request_state":""}}"#,
            r#"{"id":1,"method":"ping","params":{"NAME":"t"}}"#,
            r#"{"id":1,"method":"ping","params":{"a":1,"A":1}}"#,
        ] {
            assert!(Members::of_client(like).is_err(), "{like}");
        }
        for exact in [
            r#"{"jsonrpc":"2.0","id":1,"method":"none","params":{"name":"t","_meta":{"K":1},"x-new":1},"x":[]}"#,
            r#"{"id":1,"result":{"Method":"tools/call","\u017f":1}}"#,
            r#"{"method":"a","params":["\u017f"]}"#,
        ] {
            assert!(Members::of_client(exact).is_ok(), "{exact}");
        }
    }

    #[test]
    fn an_error_of_the_gateway_is_told_from_one_of_the_server() {
        assert!(is_lost(&Members::look(&lost("1", "the server cannot be reached")).unwrap()));
        assert!(!is_lost(&Members::look(&error("1", INTERNAL_ERROR, "closed")).unwrap()));
    }

    #[test]
    fn messages_are_told_apart_and_batches_taken_apart() {
        let kind_of = |text: &str| kind(&Members::read(text).unwrap());
        let request = Kind::Request { id: "1".into(), method: "ping".into() };
        assert_eq!(kind_of(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#), request);
        assert_eq!(kind_of(r#"{"method":"ping"}"#), Kind::Notification { method: "ping".into() });
        assert_eq!(kind_of(r#"{"id":"a","result":{}}"#), Kind::Response { id: r#""a""#.into() });
        assert_eq!(unbatched(r#" [{"id":1},{"id":2}]"#), [r#"{"id":1}"#, r#"{"id":2}"#]);
    }
}
