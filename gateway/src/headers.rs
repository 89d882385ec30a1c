//! What streamable HTTP repeats of a message in headers (MCP 2026-07-28, "Request Metadata").

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::caller::PROTOCOL_VERSION;
use crate::catalog::MOST_TOOLS;
use crate::message::Members;

/// Revision of the protocol.
pub const VERSION: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// Session of a client, up to revision 2025-11-25.
pub const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");
/// The last event that a client has seen of a stream.
pub const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const METHOD: HeaderName = HeaderName::from_static("mcp-method");
const NAME: HeaderName = HeaderName::from_static("mcp-name");
/// Most arguments of a tool that are repeated.
const MOST_MIRRORED: usize = 64;

/// The arguments that tools want repeated in headers (`x-mcp-header`), learned from lists of tools.
#[derive(Debug, Default)]
pub struct Mirrored(HashMap<String, Vec<(HeaderName, String)>>);

impl Mirrored {
    /// Learns from a message that may be the result of `tools/list`.
    pub fn learn(&mut self, message: &Members<'_>) {
        let tools = message.inner("result").and_then(|result| result.get("tools"));
        let tools: Vec<Value> = tools.and_then(|tools| serde_json::from_str(tools.get()).ok()).unwrap_or_default();
        for tool in tools {
            let mut found = Vec::new();
            mirrored(&tool["inputSchema"], "", &mut found);
            let (Some(name), false) = (tool["name"].as_str(), found.is_empty()) else { continue };
            if self.0.len() < MOST_TOOLS || self.0.contains_key(name) {
                self.0.insert(name.to_owned(), found);
            }
        }
    }

    /// The headers of a message.
    pub fn headers(&self, message: &Members<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let params = message.inner("params");
        let text = |name: &str| params.as_ref().and_then(|params| params.text(name));
        let mut put = |name: HeaderName, text: Option<String>| {
            if let Some(value) = text.and_then(|text| HeaderValue::from_str(&encoded(&text)).ok()) {
                headers.insert(name, value);
            }
        };
        let method = message.text("method");
        put(METHOD, method.clone());
        match method.as_deref() {
            Some("tools/call") => {
                let (tool, arguments) = (text("name"), params.as_ref().and_then(|params| params.get("arguments")));
                let arguments = arguments.and_then(|arguments| serde_json::from_str::<Value>(arguments.get()).ok());
                for (name, pointer) in tool.as_ref().and_then(|tool| self.0.get(tool)).into_iter().flatten() {
                    put(name.clone(), arguments.as_ref().and_then(|it| it.pointer(pointer)).and_then(scalar));
                }
                put(NAME, tool);
            }
            Some("prompts/get") => put(NAME, text("name")),
            Some("resources/read") => put(NAME, text("uri")),
            // The extension for tasks, "Streamable HTTP: Routing Headers".
            Some("tasks/get" | "tasks/update" | "tasks/cancel") => put(NAME, text("taskId")),
            _ => {}
        }
        let meta = params.as_ref().and_then(|params| params.inner("_meta"));
        put(VERSION, meta.and_then(|meta| meta.text(PROTOCOL_VERSION)));
        headers
    }
}

/// The properties of a schema that are repeated, with pointers into the arguments.
fn mirrored(schema: &Value, pointer: &str, found: &mut Vec<(HeaderName, String)>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
        let header = property["x-mcp-header"].as_str().map(|header| format!("mcp-param-{}", header.to_lowercase()));
        match header.and_then(|header| header.parse().ok()) {
            Some(header) if found.len() < MOST_MIRRORED => found.push((header, pointer)),
            Some(_) => {}
            None => mirrored(property, &pointer, found),
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        _ => None,
    }
}

/// A text as a header's value ("Value Encoding").
fn encoded(text: &str) -> String {
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
        && text.trim() == text
        && !(text.starts_with("=?base64?") && text.ends_with("?="));
    if is_plain { text.to_owned() } else { format!("=?base64?{}?=", STANDARD.encode(text)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_repeated_in_headers_as_the_specification_says() {
        let mut known = Mirrored::default();
        let list = r#"{"result":{"tools":[{"name":"sql","inputSchema":{"properties":{
            "region":{"type":"string","x-mcp-header":"Region"},"at":{"properties":{"n":{"x-mcp-header":"N"}}}}}}]}}"#;
        known.learn(&Members::look(list).unwrap());
        let call = r#"{"method":"tools/call","params":{"name":"sql","arguments":{"region":"Hello, 世界","at":{"n":7}},
            "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
        let headers = known.headers(&Members::look(call).unwrap());
        let expected = [
            ("mcp-method", "tools/call"),
            ("mcp-name", "sql"),
            ("mcp-param-region", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            ("mcp-param-n", "7"),
            ("mcp-protocol-version", "2026-07-28"),
        ];
        assert_eq!(headers.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(headers[name], value, "{name}");
        }
        let task = r#"{"method":"tasks/get","params":{"taskId":"t-1"}}"#;
        assert_eq!(known.headers(&Members::look(task).unwrap())["mcp-name"], "t-1");
        assert_eq!(encoded("=?base64?literal?="), "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?=");
        assert_eq!(encoded(" padded "), "=?base64?IHBhZGRlZCA=?=");
    }

    #[test]
    fn what_a_server_wants_repeated_has_a_limit_in_arguments_and_in_tools() {
        let mut known = Mirrored::default();
        let list = |from: usize, to: usize, of: &str| {
            let tools = (from..to).map(|number| format!(r#"{{"name":"t{number}","inputSchema":{of}}}"#));
            format!(r#"{{"result":{{"tools":[{}]}}}}"#, tools.collect::<Vec<_>>().join(","))
        };
        let properties = (0..=MOST_MIRRORED).map(|at| format!(r#""a{at}":{{"x-mcp-header":"A{at}"}}"#));
        let wide = format!(r#"{{"properties":{{{}}}}}"#, properties.collect::<Vec<_>>().join(","));
        let plain = r#"{"properties":{"a":{"x-mcp-header":"A"}}}"#;
        known.learn(&Members::look(&list(0, 1, &wide)).unwrap());
        assert_eq!(known.0["t0"].len(), MOST_MIRRORED);
        // A server may list others each time.
        for from in (1..2 * MOST_TOOLS).step_by(1_000) {
            known.learn(&Members::look(&list(from, from + 1_000, plain)).unwrap());
        }
        assert_eq!(known.0.len(), MOST_TOOLS);
        known.learn(&Members::look(&list(0, 1, plain)).unwrap());
        assert_eq!(known.0["t0"].len(), 1);
    }
}
