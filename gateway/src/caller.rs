//! Who calls, and how long it can wait.
//!
//! Up to revision 2025-11-25 a client says so once, in `initialize`; from 2026-07-28 on each request says it in `_meta`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::message::Members;

/// Where a request of revision 2026-07-28 says its revision.
pub const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// And by which program it is sent.
pub const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// And what that can do.
pub const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The extension by which a server answers a call with a task (MCP 2026-07-28, "Tasks").
pub const TASKS: &str = "io.modelcontextprotocol/tasks";

/// Whether a request with this `_meta` is of revision 2026-07-28 or newer.
pub fn is_stateless(meta: &Members<'_>) -> bool {
    meta.get(PROTOCOL_VERSION).is_some()
}

/// A client, in its own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// `clientInfo.name`.
    pub name: String,
    /// `clientInfo.version`.
    pub version: String,
    /// It opens links that a server asks it to open (URL elicitation).
    pub opens_links: bool,
    /// It takes a task for the answer to a call ([`TASKS`]).
    pub takes_tasks: bool,
    /// It speaks revision 2026-07-28 or newer: results have a `resultType`, and servers cannot call clients.
    pub is_stateless: bool,
    /// Whose calls these are: equal calls of two principals are two questions.
    pub principal: String,
}

impl Caller {
    /// As `initialize` introduces it.
    pub fn introduced(params: &Members<'_>) -> Self {
        Self::of(params.inner("clientInfo").as_ref(), params.inner("capabilities").as_ref())
    }

    /// As this request says, or else as it was introduced before.
    pub fn or_of_request(&self, meta: Option<&Members<'_>>) -> Self {
        match meta.filter(|meta| is_stateless(meta)) {
            Some(meta) => Self {
                is_stateless: true,
                principal: self.principal.clone(),
                ..Self::of(meta.inner(CLIENT_INFO).as_ref(), meta.inner(CLIENT_CAPABILITIES).as_ref())
            },
            None => self.clone(),
        }
    }

    fn of(info: Option<&Members<'_>>, capabilities: Option<&Members<'_>>) -> Self {
        let text = |name| info.and_then(|info| info.text(name)).unwrap_or_default();
        let elicitation = capabilities.and_then(|capabilities| capabilities.inner("elicitation"));
        let extensions = capabilities.and_then(|capabilities| capabilities.inner("extensions"));
        Self {
            name: text("name"),
            version: text("version"),
            opens_links: elicitation.is_some_and(|elicitation| elicitation.get("url").is_some()),
            takes_tasks: extensions.is_some_and(|extensions| extensions.get(TASKS).is_some()),
            ..Self::default()
        }
    }

    /// As the operator sees it.
    pub fn shown(&self) -> Value {
        json!({"name": self.name, "version": self.version})
    }

    /// How long a call of this client may be held.
    pub fn can_wait(&self, wants_progress: bool) -> Duration {
        let limits = LIMITS.iter().find(|limits| limits.name == self.name).unwrap_or(&DEFAULT);
        Duration::from_secs(if wants_progress { limits.with_progress } else { limits.silent })
    }
}

/// How long a client waits for a tool before it gives up, in seconds, less some for the run itself.
struct Limits {
    /// `clientInfo.name`.
    name: &'static str,
    /// For a call without a progress token.
    silent: u64,
    /// For a call that is told its progress.
    with_progress: u64,
}

/// Of a client that nothing is known of: 60 s is the TypeScript SDK's limit, which progress does not move unless its
/// program says so.
const DEFAULT: Limits = Limits { name: "", silent: 45, with_progress: 45 };

/// Clients that are known to wait otherwise. Where these figures come from is said in docs/guides/mcp.md, "How long a call is
/// held".
const LIMITS: [Limits; 3] = [
    // 300 s without a sign of life; progress is one.
    Limits { name: "claude-code", silent: 270, with_progress: 1_740 },
    // 30 s, which each sign of progress begins anew.
    Limits { name: "opencode", silent: 20, with_progress: 1_740 },
    // What the Python SDK calls itself: its client waits without a limit unless its program sets one.
    Limits { name: "mcp", silent: 270, with_progress: 1_740 },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_known_from_initialize_or_from_each_request() {
        let params =
            r#"{"clientInfo":{"name":"claude-code","version":"2.1"},"capabilities":{"elicitation":{"url":{}}}}"#;
        let introduced = Caller::introduced(&Members::look(params).unwrap());
        assert!(introduced.opens_links && !introduced.is_stateless);
        assert_eq!(introduced.can_wait(true), Duration::from_mins(29));
        assert_eq!(introduced.or_of_request(Members::look("{}").as_ref()), introduced);
        let meta = format!(r#"{{"{PROTOCOL_VERSION}":"2026-07-28","{CLIENT_INFO}":{{"name":"x"}}}}"#);
        let said = introduced.or_of_request(Members::look(&meta).as_ref());
        assert!(said.is_stateless && !said.opens_links && !said.takes_tasks && said.name == "x");
        assert_eq!(said.can_wait(true), Duration::from_secs(45));
        let declared = format!(r#"{{"extensions":{{"{TASKS}":{{}}}}}}"#);
        let meta = format!(r#"{{"{PROTOCOL_VERSION}":"2026-07-28","{CLIENT_CAPABILITIES}":{declared}}}"#);
        assert!(introduced.or_of_request(Members::look(&meta).as_ref()).takes_tasks);
    }
}
