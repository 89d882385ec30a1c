//! What the rules say of a submission: judged in this process, by the version that its statement compares.
//!
//! Who was behind learns the version from the second statement, fetches it once, and starts again.

use std::sync::Arc;

use anyhow::anyhow;
use quick_cache::sync::Cache;
use relaytrace_domain::rules::{
    Applied, Ask, Consume, Facts, Judgement, Latitude, RuleOf, RuleTimeout, Rules, RulesDocument,
};
use relaytrace_domain::{AgentId, Error, GroupKey, Priority, Result, Submission, TenantId};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::Caller;
use crate::database::Database;

/// Agents whose tenant is known, and tenants whose rules are.
const AGENTS: usize = 10_000;
const TENANTS: usize = 1_000;

/// The rules that this process knows.
#[derive(Debug)]
pub(crate) struct KnownRules {
    /// An agent's tenant never changes.
    tenants: Cache<AgentId, TenantId>,
    rules: Cache<TenantId, Versioned>,
    /// One fetches, the others find what it fetched.
    fetching: Mutex<()>,
}

#[derive(Clone, Debug)]
struct Versioned {
    version: i32,
    rules: Arc<Rules>,
}

impl Default for KnownRules {
    fn default() -> Self {
        Self { tenants: Cache::new(AGENTS), rules: Cache::new(TENANTS), fetching: Mutex::default() }
    }
}

/// What a version of a tenant's rules says of a submission.
#[derive(Clone, Debug)]
pub(crate) struct Ruling {
    pub(crate) tenant: TenantId,
    pub(crate) version: i32,
    pub(crate) judgement: Judgement,
    /// The version is not compared: it changed each time.
    pub(crate) is_last: bool,
}

impl Ruling {
    /// `None`: no rule applies.
    pub(crate) fn applied(&self) -> Option<&Applied> {
        self.judgement.applied.as_ref()
    }

    /// The rule's name in answers.
    pub(crate) fn rule(&self) -> Option<RuleOf> {
        let applied = self.applied()?;
        Some(RuleOf { name: applied.rule.to_string(), version: self.version })
    }

    /// Who is asked, and how; `None`: no rule says it.
    pub(crate) fn asks(&self) -> Option<&Ask> {
        self.applied()?.effect.ask()
    }

    /// The priority that people see.
    pub(crate) fn priority(&self) -> Option<Priority> {
        self.asks()?.priority
    }

    /// Its part of the statement's parameter: the members that `submit.sql` reads.
    pub(crate) fn row(&self, asked: Priority) -> Map<String, Value> {
        let mut row = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                row.insert(name.to_owned(), value);
            }
        };
        put("version", Some(self.version.into()));
        put("is_last", self.is_last.then_some(true.into()));
        put("entry", Some(self.entry(asked).into()));
        let Some(applied) = self.applied() else { return row };
        put("name", Some(applied.rule.as_str().into()));
        let Some(ask) = applied.effect.ask() else { return row };
        let names = |names: &[String]| (!names.is_empty()).then(|| text_array(names));
        let (groups, operators) = (texts(ask.groups.as_deref()), texts(ask.operators.as_deref()));
        put("asked_priority", Some((asked as i16).into()));
        put("groups", names(&groups).map(Value::from));
        put("operators", names(&operators).map(Value::from));
        put("approvals", ask.approvals.map(|approvals| approvals.0.into()));
        put("respond_within_seconds", ask.respond_within_seconds.map(|seconds| seconds.0.into()));
        put("escalate_after_percent", ask.escalate.as_ref().map(|escalation| escalation.after_percent.0.into()));
        put(
            "on_timeout",
            ask.on_timeout.map(|what| match what {
                RuleTimeout::AutoReject => "auto_reject".into(),
                RuleTimeout::Raise => "raise".into(),
            }),
        );
        put("permit_seconds", ask.permit_seconds.map(|seconds| seconds.0.into()));
        put("consume", ask.consume.map(|Consume::Required| "required".into()));
        // Where no rule says itself that it asks, only what is stricter counts.
        let is_patched = applied.failed || applied.withheld;
        put("failed", is_patched.then_some(true.into()));
        // No timeout approves where people are named, nor where a rule cannot say or may not say that it is approved, nor what
        // is asked with P1, however low a rule puts it.
        let is_strict = is_patched || ask.names_people() || asked == Priority::P1;
        put("is_strict", is_strict.then_some(true.into()));
        put("terms", terms(ask, groups, operators));
        row
    }

    /// The members of the `submitted` entry: version, rule and effect, and who is asked; and beside it what a rule of the
    /// shadow would do.
    fn entry(&self, asked: Priority) -> String {
        let mut rule = json!({"version": self.version});
        let mut beside = String::new();
        if let Some(applied) = self.applied() {
            rule["name"] = applied.rule.as_str().into();
            rule["effect"] = applied.effect.as_str().into();
            for (name, _) in [("failed", applied.failed), ("withheld", applied.withheld)].iter().filter(|it| it.1) {
                rule[*name] = true.into();
            }
            if let Some(failed) = &applied.failed_before {
                rule["failed_before"] = failed.as_str().into();
            }
        }
        if let Some(ask) = self.asks() {
            if ask.priority.is_some_and(|priority| priority != asked) {
                rule["asked_priority"] = json!(asked);
            }
            if ask.names_people() {
                let to = json!({"groups": texts(ask.groups.as_deref()), "operators": texts(ask.operators.as_deref())});
                beside = format!(",\"assigned_to\":{to}");
            }
        }
        if let Some(would) = &self.judgement.shadow {
            let would = json!({"name": would.rule.as_str(), "effect": would.effect.as_str()});
            beside = format!("{beside},\"shadow\":{would}");
        }
        format!("\"rule\":{rule}{beside}")
    }
}

/// What is kept in the row of who is asked beyond its columns.
fn terms(ask: &Ask, groups: Vec<String>, operators: Vec<String>) -> Option<Value> {
    let mut terms = Map::new();
    let escalate_to = ask.escalate.as_ref().map_or_else(Vec::new, |escalation| texts(Some(&escalation.groups)));
    let lists = [
        ("groups", groups),
        ("operators", operators),
        ("reroute_to", texts(ask.reroute_to.as_deref())),
        ("escalate_to", escalate_to),
    ];
    for (name, list) in lists.into_iter().filter(|(_, list)| !list.is_empty()) {
        terms.insert(name.to_owned(), json!(list));
    }
    if ask.requester_may_decide == Some(true) {
        terms.insert("requester_may_decide".to_owned(), true.into());
    }
    (!terms.is_empty()).then_some(Value::Object(terms))
}

fn texts<T: ToString>(list: Option<&[T]>) -> Vec<String> {
    list.unwrap_or_default().iter().map(ToString::to_string).collect()
}

/// A list as the text of a Postgres array.
fn text_array(items: &[String]) -> String {
    let quoted = items.iter().map(|item| format!("\"{}\"", item.replace('\\', "\\\\").replace('"', "\\\"")));
    format!("{{{}}}", quoted.collect::<Vec<_>>().join(","))
}

impl Database {
    /// What the rules that this process knows say of a submission; `None`: it knows none of its tenant.
    pub(crate) fn ruling(&self, agent_id: &AgentId, submission: &Submission, latitude: Latitude) -> Option<Ruling> {
        let tenant = self.known_rules.tenants.get(agent_id)?;
        let Versioned { version, rules } = self.known_rules.rules.get(&tenant)?;
        let envelope = &submission.envelope;
        let facts = Facts {
            agent_id: agent_id.as_str(),
            action_type: envelope.action.action_type.as_str(),
            priority: envelope.priority,
            group: envelope.group.as_ref().map(GroupKey::as_str),
            on_behalf_of: envelope.on_behalf_of.as_ref().map(|person| person.id.as_str()),
            latitude: latitude.where_taken(&envelope.answers()),
        };
        let judgement = rules.judge(&facts, || submission.arguments());
        Some(Ruling { tenant, version, judgement, is_last: false })
    }

    /// Whether a rule applies to what an agent would submit, by the version that stands.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active; those of `submission`, which is asked for where
    /// there are rules.
    pub async fn is_ruled(&self, caller: &Caller, submission: impl FnOnce() -> Result<Submission>) -> Result<bool> {
        let (key_id, agent_id) = (caller.key_id.as_str(), caller.agent_id.as_str());
        let standing = self.optional(|| sqlx::query_file!("sql/rules_version_of.sql", key_id, agent_id)).await?;
        let standing = standing.ok_or(Error::Unauthenticated("the key is revoked or its agent disabled"))?;
        let version = standing.rules_version;
        self.learn_rules(&caller.agent_id, standing.tenant_id, version).await?;
        if version.is_none() {
            return Ok(false);
        }
        let ruling = self.ruling(&caller.agent_id, &submission()?, Latitude::Approve);
        // What another version says, or one that is forgotten, is not known.
        let ruling = ruling.filter(|ruling| Some(ruling.version) == version);
        Ok(ruling.is_none_or(|ruling| ruling.applied().is_some()))
    }

    /// Learns the rules that stand where `version`, which an agent's statement saw, is not the known one; `None`: its tenant has
    /// none.
    pub(crate) async fn learn_rules(&self, agent_id: &AgentId, tenant: TenantId, version: Option<i32>) -> Result<()> {
        let known = &self.known_rules;
        known.tenants.insert(agent_id.clone(), tenant.clone());
        let Some(version) = version else {
            known.rules.remove(&tenant);
            return Ok(());
        };
        let is_known = || known.rules.get(&tenant).is_some_and(|rules| rules.version == version);
        if is_known() {
            return Ok(());
        }
        let _turn = known.fetching.lock().await;
        if is_known() {
            return Ok(());
        }
        // One after the other, and the version that stands, not the one that the caller saw: who was slower puts no older one
        // in the place of a newer one, and after a restore to an older point the lower version counts.
        let missing = || Error::internal(anyhow!("version {version} of the rules of {tenant} is not there"));
        let record = self.rules_of(&tenant, None).await?.ok_or_else(missing)?;
        let version = record.version;
        let rules = RulesDocument::of_list(&record.document).map_err(Error::from).map_err(Error::internal)?;
        known.rules.insert(tenant, Versioned { version, rules: Arc::new(rules) });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_an_array_wants_them() {
        assert_eq!(
            text_array(&["a,b".into(), "\"}".into(), "\\".into(), "NULL".into()]),
            r#"{"a,b","\"}","\\","NULL"}"#
        );
    }

    /// What the statement is given of a submission that asks with this priority, under one rule.
    fn row(asked: Priority, rules: &Value, arguments: &str) -> Map<String, Value> {
        let document = json!({"note": "n", "rules": rules}).to_string();
        let facts = Facts {
            agent_id: "a",
            action_type: "x",
            priority: asked,
            group: None,
            on_behalf_of: None,
            latitude: Latitude::Approve,
        };
        let arguments = || relaytrace_domain::Json::parse(arguments.as_bytes()).unwrap();
        let judgement = RulesDocument::parse(document.as_bytes()).unwrap().rules.judge(&facts, arguments);
        Ruling { tenant: "t".parse().unwrap(), version: 1, judgement, is_last: false }.row(asked)
    }

    #[test]
    fn no_timeout_approves_what_is_asked_with_p1_however_low_a_rule_puts_it() {
        let lower = json!([{"name": "r", "mode": "enforce", "match": {}, "then": {"ask": {"priority": "P3"}}}]);
        let is_strict = |asked| row(asked, &lower, "{}").contains_key("is_strict");
        assert!(is_strict(Priority::P1) && !is_strict(Priority::P2));
    }

    #[test]
    fn a_rule_that_failed_is_named_in_the_entry_where_a_later_one_rejects() {
        let small = json!({"arguments": {"/amount": {"lte": 50}}});
        let rules = json!([
            {"name": "small", "mode": "enforce", "match": small, "then": {"decide": "approve", "reason": "x"}},
            {"name": "never", "mode": "enforce", "match": {}, "then": {"decide": "reject", "reason": "x"}},
        ]);
        let entry = |arguments| row(Priority::P2, &rules, arguments)["entry"].clone();
        let rule = json!({"version": 1, "name": "never", "effect": "reject", "failed_before": "small"});
        assert_eq!(entry("{}"), format!("\"rule\":{rule}"));
        assert!(!entry(r#"{"amount":51}"#).as_str().unwrap().contains("failed"));
    }
}
