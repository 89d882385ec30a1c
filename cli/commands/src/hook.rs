//! `relaytrace hook claude-code`: the hook as a command, where HTTP hooks are not to be had.
//!
//! Claude Code takes every end of a hook but exit 2, and JSON that denies, for "go on". Whatever fails here denies.

use std::io::Read as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use relaytrace_client::{Error, Patience};
use serde_json::{Value, json};

use crate::exit::Fault;
use crate::settings::Settings;
use crate::terminal::{duration, err};

/// Exit code that blocks the tool whatever is printed.
pub const BLOCK: u8 = 2;
/// The route of the bridge.
const ROUTE: &str = "/v1/hooks/claude-code";
/// Longest event that is read, in bytes: more than the relay takes.
const LONGEST_EVENT: u64 = 1 << 20;
/// How long a relay is tried that has not answered yet.
const FIRST_CONTACT: Duration = Duration::from_secs(5);
/// The event before a tool runs.
const BEFORE: &str = "PreToolUse";

/// Harnesses whose hooks this speaks.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Harness {
    ClaudeCode,
}

/// Options of `hook`.
#[derive(Args, Clone, Debug)]
#[command(after_help = r#"Example, in .claude/settings.json (the timeout is above this command's own):
  {"hooks": {"PreToolUse": [{"matcher": "*", "hooks": [
     {"type": "command", "command": "relaytrace hook claude-code", "timeout": 90}]}],
   "PostToolUse": [{"matcher": "*", "hooks": [{"type": "command", "command": "relaytrace hook claude-code"}]}],
   "PostToolUseFailure": [{"matcher": "*", "hooks": [{"type": "command", "command": "relaytrace hook claude-code"}]}]}}"#)]
pub struct Options {
    /// The harness that calls.
    #[arg(value_enum)]
    harness: Harness,
    /// Deny after so long: the same call again goes on waiting. Below the timeout of the hook's settings.
    #[arg(long, value_name = "TIME", default_value = "55s", value_parser = duration)]
    wait: Duration,
}

/// Reads the event, asks, and prints the answer. It never ends in a way that would let the tool run by mistake.
pub async fn run(settings: Result<Settings, Fault>, options: &Options) -> ExitCode {
    let Harness::ClaudeCode = options.harness;
    // A command that breaks ends in a way that blocks, too.
    std::panic::set_hook(Box::new(|_| std::process::exit(BLOCK.into())));
    let mut event = Vec::new();
    let read = std::io::stdin().take(LONGEST_EVENT).read_to_end(&mut event);
    let name =
        serde_json::from_slice::<Value>(&event).ok().and_then(|it| Some(it["hook_event_name"].as_str()?.to_owned()));
    // What cannot be read may well be about a tool that is going to run.
    let is_before = name.as_deref().is_none_or(|name| name == BEFORE);
    let answer = match read {
        Ok(_) if name.is_some() => ask(settings, &event, options.wait, is_before).await,
        _ => Err("the event that the hook was called with cannot be read".to_owned()),
    };
    match answer {
        // As it came: the input to run with is the operator's, to the last digit.
        Ok(answer) => print(&answer),
        Err(why) if is_before => print(&denied(&why).to_string()),
        Err(why) => {
            err!("relaytrace hook: the outcome was not reported: {why}");
            ExitCode::SUCCESS
        }
    }
}

async fn ask(
    settings: Result<Settings, Fault>,
    event: &[u8],
    wait: Duration,
    is_before: bool,
) -> Result<String, String> {
    // A harness that waits sees nothing: what is wrong is said soon.
    let first_contact = FIRST_CONTACT.min(wait);
    let patience = Patience { per_try: FIRST_CONTACT, in_all: wait, first_contact, ..Patience::default() };
    let client = settings.and_then(|settings| settings.client(patience)).map_err(|fault| fault.said)?;
    let waits = if is_before { wait } else { Duration::ZERO };
    let asked = tokio::time::timeout(wait, client.bridge(ROUTE, event, waits)).await;
    let answer = asked.map_err(|_| "no answer came in time; the same call again goes on waiting".to_owned())?;
    let answer = answer.map_err(|error: Error| error.to_string())?;
    let parsed: Value = serde_json::from_str(answer.get()).map_err(|error| error.to_string())?;
    if is_before {
        checked(&parsed)?;
    }
    Ok(answer.get().to_owned())
}

/// Only an answer that says plainly what is to be done is passed on.
fn checked(answer: &Value) -> Result<(), String> {
    let output = &answer["hookSpecificOutput"];
    let says = output["permissionDecision"].as_str();
    if output["hookEventName"] == BEFORE && matches!(says, Some("allow" | "deny")) {
        return Ok(());
    }
    Err("the relay's answer is no decision that this version knows".to_owned())
}

fn denied(why: &str) -> Value {
    let reason =
        format!("Not run: no valid decision could be obtained ({why}). This says nothing about whether it is allowed.");
    json!({"hookSpecificOutput": {
        "hookEventName": BEFORE, "permissionDecision": "deny", "permissionDecisionReason": reason,
    }})
}

fn print(answer: &str) -> ExitCode {
    use std::io::Write as _;
    let mut out = std::io::stdout();
    match writeln!(out, "{answer}").and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(BLOCK),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_decision_is_passed_on() {
        let said = |event: &str, decision: Value| {
            checked(&json!({"hookSpecificOutput": {"hookEventName": event, "permissionDecision": decision}})).is_ok()
        };
        assert!(said(BEFORE, json!("allow")) && said(BEFORE, json!("deny")));
        for (event, decision) in
            [(BEFORE, json!("ask")), (BEFORE, json!(null)), (BEFORE, json!("ALLOW")), ("Stop", json!("allow"))]
        {
            assert!(!said(event, decision.clone()), "{event} {decision}");
        }
        assert!(checked(&json!({})).is_err() && checked(&json!(["allow"])).is_err());
    }
}
