//! `relaytrace rules test`: the cases of a file, judged as a relay judges submissions.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use relaytrace_domain::rules::Rules;
use serde::Serialize;
use serde_json::json;

use super::Draft;
use super::cases::Said;
use crate::exit::{FAILED, Fault, Result};
use crate::terminal::out;

/// Options of `rules test`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 every case is as expected, 1 a case is not, 64 the file or its rules are not valid.

The file that `relaytrace admin apply` takes, with cases beside the rules:
  rules:
    - name: small refunds
      mode: enforce
      match: {action_types: [refund.create], arguments: {/amount: {lte: 50}, /currency: {equals: EUR}}}
      then: {decide: approve, reason: Up to 50 EUR, at_most: {count: 5, per_seconds: 3600}}
  tests:
    - name: 20 EUR are approved
      request: {agent_id: billing, action: {type: refund.create, arguments: {amount: '20.00', currency: EUR}}}
      expect: approve
    - name: an amount that is no number is asked
      request: {agent_id: billing, action: {type: refund.create, arguments: {amount: a lot, currency: EUR}}}
      expect: {effect: ask, rule: small refunds, failed: true}

A request has agent_id and action, and may have priority (default P2), group, on_behalf_of and answers. `expect` is approve,
reject, ask or none (no rule applies), or {effect, rule, failed, approvals, groups}. `at_most` counts as not reached.

  relaytrace rules test -f rules.yaml
  relaytrace rules test -f rules.yaml --json | jq '.cases[] | select(.ok | not)'"
)]
pub struct Options {
    /// The file (`-`: standard input).
    #[arg(short = 'f', long, value_name = "FILE")]
    file: PathBuf,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// How a case ended.
#[derive(Debug, Serialize)]
struct Ended<'a> {
    name: &'a str,
    ok: bool,
    got: Said,
    /// What is not as expected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unmet: Vec<String>,
}

/// Runs the cases; gives the exit code.
pub fn run(options: &Options) -> Result<u8> {
    let draft = Draft::read(&options.file)?;
    let rules = draft.document()?.rules;
    if draft.tests.is_empty() {
        return Err(Fault::usage(format!("{}: it has no tests", options.file.display())));
    }
    let ended = ended(&draft, &rules);
    let failed = ended.iter().filter(|case| !case.ok).count();
    let hit: BTreeSet<_> = ended.iter().filter_map(|case| case.got.rule.as_deref()).collect();
    let untested: Vec<_> = draft.names().filter(|name| !hit.contains(name)).collect();
    if options.json {
        out!("{}", json!({"passed": ended.len() - failed, "failed": failed, "cases": ended, "untested": untested}));
    } else {
        for case in &ended {
            out!("{} {}", if case.ok { "ok    " } else { "FAILED" }, case.name);
            for unmet in &case.unmet {
                out!("         {unmet}");
            }
        }
        for name in &untested {
            out!("note   no case is about the rule {name:?}");
        }
        out!("{} passed, {failed} failed", ended.len() - failed);
    }
    Ok(if failed == 0 { 0 } else { FAILED })
}

fn ended<'a>(draft: &'a Draft, rules: &Rules) -> Vec<Ended<'a>> {
    let cases = draft.tests.iter().map(|case| {
        let got = case.judge(rules);
        let unmet = case.unmet(&got);
        Ended { name: &case.name, ok: unmet.is_empty(), got, unmet }
    });
    cases.collect()
}

/// Before rules are set: the cases of their file.
///
/// # Errors
/// A case is not as expected.
pub fn must_pass(draft: &Draft, rules: &Rules) -> Result<()> {
    let ended = ended(draft, rules);
    let Some(case) = ended.iter().find(|case| !case.ok) else { return Ok(()) };
    Err(Fault::failed(format!(
        "the case {:?} of these rules fails: {}; nothing was changed",
        case.name,
        case.unmet.join("; ")
    )))
}
