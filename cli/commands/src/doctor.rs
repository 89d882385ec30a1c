//! `relaytrace doctor`: what keeps this machine's agents and operators from working, and what would let a tool run unasked.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;
use relaytrace_client::{Client, Error, Patience};
use serde_json::Value;

use crate::exit::{Fault, Result};
use crate::people::{Person, http, said};
use crate::settings::Settings;
use crate::terminal::{now, out, safe_line};

/// How far two clocks may be apart, in seconds (contract, "Tokens").
const LEEWAY: i64 = 30;
/// The relay holds a hook for 50 s at the most (contract, "Claude Code"); a harness that waits less goes on unasked.
const SHORTEST_HOOK: u64 = 60;
/// What Claude Code waits for a hook whose settings say nothing, in seconds.
const DEFAULT_HOOK: u64 = 60;
/// The route of the hook.
const ROUTE: &str = "/v1/hooks/claude-code";
/// The hook as a command.
const COMMAND: &str = "relaytrace hook";

/// Checks one thing after the other, and says each.
#[derive(Default)]
struct Checks {
    failed: usize,
}

impl Checks {
    fn bad(&mut self, what: &str) {
        self.failed += 1;
        out!("FAIL  {}", safe_line(what));
    }
}

fn good(what: &str) {
    out!("ok    {}", safe_line(what));
}

fn note(what: &str) {
    out!("note  {}", safe_line(what));
}

/// Looks at everything.
pub async fn run(settings: &Settings) -> Result<()> {
    let mut checks = Checks::default();
    let is_there = match settings.url() {
        Ok(url) => relay(&mut checks, &url).await,
        Err(fault) => {
            checks.bad(&fault.said);
            false
        }
    };
    let patience = Patience { per_try: Duration::from_secs(5), in_all: Duration::from_secs(5), ..Patience::default() };
    match settings.client(patience) {
        Ok(client) if is_there => agent(&mut checks, &client).await,
        Ok(_) => {}
        Err(fault) => checks.bad(&fault.said),
    }
    if is_there {
        operator(&mut checks, settings).await;
    }
    for file in claude_settings() {
        claude_code(&mut checks, &file);
    }
    match checks.failed {
        0 => Ok(()),
        failed => Err(Fault::failed(format!("{failed} of these need attention"))),
    }
}

/// Whether a relay is at the address; its clock.
async fn relay(checks: &mut Checks, url: &str) -> bool {
    let asked = match http() {
        Ok(http) => http.get(format!("{url}/readyz")).timeout(Duration::from_secs(10)).send().await,
        Err(fault) => {
            checks.bad(&fault.said);
            return false;
        }
    };
    let answer = match asked {
        Ok(answer) => answer,
        Err(error) => {
            checks.bad(&format!(
                "{url} cannot be reached: {}. Check RELAYTRACE_URL, and that the relay runs",
                said(&error)
            ));
            return false;
        }
    };
    let (status, date) =
        (answer.status(), answer.headers().get("date").and_then(|date| date.to_str().ok()).map(str::to_owned));
    if answer.json::<Value>().await.is_err() {
        checks.bad(&format!("{url} answers {status} with no JSON: it is no relay. Check RELAYTRACE_URL"));
        return false;
    }
    if status.is_success() {
        good(&format!("{url} is a relay, and ready"));
    } else {
        checks.bad(&format!("{url} is not ready ({status}): its database is away"));
    }
    match date
        .and_then(|date| DateTime::parse_from_rfc2822(&date).ok())
        .map(|theirs| (now() - theirs.to_utc()).num_seconds())
    {
        Some(ahead) if ahead.abs() > LEEWAY => {
            checks.bad(&format!(
                "this machine's clock is {ahead} s ahead of the relay's, and {LEEWAY} are allowed: set it"
            ));
        }
        Some(ahead) => good(&format!("the clocks are {} s apart", ahead.abs())),
        None => note("the relay says no time"),
    }
    if url.starts_with("http://") && !["127.0.0.1", "localhost", "[::1]"].iter().any(|here| url.contains(here)) {
        checks.bad("the address is plain http: keys and tokens can be read on their way. Use https");
    }
    true
}

/// The key, the secret, and what the key may do. Nothing is asked and nothing changes.
async fn agent(checks: &mut Checks, client: &Client) {
    match client.find("relaytrace-doctor").await {
        Ok(_) => good(&format!("the key of {} is accepted, and answers verify", client.agent_id())),
        Err(Error::Refused(problem)) if problem.code == "forbidden" => {
            good("the key is accepted, and answers verify");
            checks.bad("the key may not ask: it needs the scope ask, or RELAYTRACE_AGENT_ID is another agent's");
        }
        Err(error) => return checks.bad(&error.to_string()),
    }
    // A request that nobody made: whoever may use approvals is told that there is none.
    match client.may_execute().await {
        Ok(true) => good("the key may use approvals and report"),
        Ok(false) => checks.bad("the key may not use approvals: it needs the scope execute"),
        Err(error) => checks.bad(&error.to_string()),
    }
}

async fn operator(checks: &mut Checks, settings: &Settings) {
    if !settings.operator_token_file().exists() {
        return note("nobody has signed in as an operator here (relaytrace login)");
    }
    let me = match Person::operator(settings) {
        Ok(person) => person.get("/v1/hitl/me").await,
        Err(fault) => Err(fault),
    };
    match me {
        Ok(me) => good(&format!("signed in as {}, with the roles {}", me["name"], me["roles"])),
        Err(fault) => checks.bad(&format!("the operator's token: {}", fault.said)),
    }
}

fn claude_settings() -> Vec<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    [home.join(".claude/settings.json"), ".claude/settings.json".into(), ".claude/settings.local.json".into()]
        .into_iter()
        .filter(|file| file.exists())
        .collect()
}

/// Hooks of Claude Code: whatever goes wrong with one is "go on", unless its settings say otherwise.
fn claude_code(checks: &mut Checks, file: &Path) {
    let read = std::fs::read_to_string(file).ok().and_then(|text| serde_json::from_str::<Value>(&text).ok());
    let Some(settings) = read else {
        return checks.bad(&format!("{} is no JSON that can be read: none of its hooks count", file.display()));
    };
    let hooks = |event: &str| -> Vec<Value> {
        let matchers = settings["hooks"][event].as_array().into_iter().flatten();
        matchers
            .flat_map(|matcher| matcher["hooks"].as_array().into_iter().flatten())
            .filter(|hook| is_ours(hook))
            .cloned()
            .collect()
    };
    let before = hooks("PreToolUse");
    for hook in &before {
        for fault in faults(hook) {
            checks.bad(&format!("{}: {fault}", file.display()));
        }
        if faults(hook).is_empty() {
            good(&format!("{}: the hook denies where it fails", file.display()));
        }
    }
    if !before.is_empty() && (hooks("PostToolUse").is_empty() || hooks("PostToolUseFailure").is_empty()) {
        note(&format!("{}: without hooks of PostToolUse and PostToolUseFailure outcomes are unknown", file.display()));
    }
}

fn is_ours(hook: &Value) -> bool {
    let holds = |member: &str, part: &str| hook[member].as_str().is_some_and(|text| text.contains(part));
    holds("url", ROUTE) || holds("command", COMMAND)
}

/// What of a hook's settings lets a tool run although nobody was asked.
fn faults(hook: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let timeout = hook["timeout"].as_u64();
    if timeout.unwrap_or(DEFAULT_HOOK) < SHORTEST_HOOK || (hook["type"] == "http" && timeout.is_none()) {
        faults.push(format!(
            "the hook's timeout is too short: it waits up to 50 s; set \"timeout\": {} or more",
            SHORTEST_HOOK + 30
        ));
    }
    if hook["type"] != "http" {
        return faults;
    }
    if hook["onFailure"] != "block" {
        faults.push("the hook lets the tool run where it fails: set \"onFailure\": \"block\"".to_owned());
    }
    let authorization = hook["headers"]["Authorization"].as_str().unwrap_or_default();
    if authorization.contains("rtk_") {
        faults.push(
            "the hook's settings hold the key itself: name a variable instead, and list it in allowedEnvVars"
                .to_owned(),
        );
    }
    match authorization.split_once('$').map(|(_, name)| name.trim_matches(['{', '}'])) {
        None if authorization.is_empty() => faults.push("the hook sends no key: set headers.Authorization".to_owned()),
        None => {}
        Some(name) => {
            if !hook["allowedEnvVars"].as_array().is_some_and(|names| names.iter().any(|it| it == name)) {
                faults.push(format!("the hook's key is not sent: add {name} to allowedEnvVars"));
            }
            if std::env::var_os(name).is_none_or(|value| value.is_empty()) {
                faults.push(format!("{name}, which the hook sends, is not set here"));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hooks_that_would_fail_open_are_named() {
        let good = json!({"type": "http", "url": "https://r/v1/hooks/claude-code", "timeout": 90, "onFailure": "block",
            "headers": {"Authorization": "Bearer $PATH"}, "allowedEnvVars": ["PATH"]});
        assert!(is_ours(&good) && faults(&good).is_empty(), "{:?}", faults(&good));
        let changes = [
            ("timeout", json!(30), "timeout"),
            ("timeout", json!(null), "timeout"),
            ("onFailure", json!("continue"), "onFailure"),
            ("onFailure", json!(null), "onFailure"),
            ("allowedEnvVars", json!([]), "allowedEnvVars"),
            ("headers", json!({}), "no key"),
            ("headers", json!({"Authorization": "Bearer rtk_k_secret"}), "key itself"),
            ("headers", json!({"Authorization": "Bearer $RELAYTRACE_NEVER_SET"}), "is not set here"),
        ];
        for (member, value, said) in changes {
            let mut bad = good.clone();
            bad[member] = value;
            let found = faults(&bad).join("\n");
            assert!(found.contains(said), "{member}: {found}");
        }
        let command = json!({"type": "command", "command": "relaytrace hook claude-code", "timeout": 10});
        assert!(is_ours(&command) && faults(&command).len() == 1);
        assert!(!is_ours(&json!({"type": "command", "command": "make"})));
    }
}
