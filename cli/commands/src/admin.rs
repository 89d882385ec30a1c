//! `relaytrace admin apply`: administration as a file. What is there already is left alone; what the file does not name, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::channels::{self, ChannelWanted};
use crate::exit::{Fault, Result};
use crate::people::Person;
use crate::rules::{self, Case, Draft};
use crate::settings::{Settings, write_private};
use crate::terminal::out;

const POLICIES: &str = "/v1/admin/timeout-policies";
const FREEZES: &str = "/v1/admin/freezes";

/// Administration.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Bring agents, keys, timeout policies, freezes, channels and rules to what a file says.
    Apply(Options),
    /// Rules of a relay.
    #[command(subcommand)]
    Rules(rules::AdminCommand),
}

/// Options of `admin apply`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Applying a file again changes nothing. What the file does not name stays as it is.

Example (YAML or JSON):
  agents:
    - agent_id: billing-agent
      name: Billing agent
      max_pending: 100
      keys:
        - {key_id: billing-1, alg: bearer, scopes: [ask, execute]}
        - {key_id: billing-0, revoked: true}
  timeout_policies:
    - {agent_id: billing-agent, action_type: refund.create, priority: P2, respond_within_seconds: 3600, consume: required}
  freezes:
    - {freeze_id: audit, action_type: refund.create, mode: hold, until: 2026-12-01T00:00:00Z, reason: Audit}
  channels:
    - {channel_id: oncall, kind: email, config: {to: [oncall@example.org]}, events: [requested, escalated]}
  rules:
    - name: production is asked of two
      mode: enforce
      match: {action_types: [deploy.*], arguments: {/environment: {equals: production}}}
      then: {ask: {groups: [ops], approvals: 2}}

`rules` are the whole document, in place of the one that stands, with `note`; the cases under `tests` run first, and one that
fails changes nothing. Where somebody else changes the rules meanwhile, theirs stay.

  relaytrace admin apply -f relaytrace.yaml --dry-run
  relaytrace admin apply -f relaytrace.yaml --secrets secrets.json")]
pub struct Options {
    /// The file (`-`: standard input).
    #[arg(short = 'f', long, value_name = "FILE")]
    file: PathBuf,
    /// Only say what would change.
    #[arg(long)]
    dry_run: bool,
    /// Where the secrets of new keys are written, readable by you only: `{key_id: {token, response_secret}}`.
    #[arg(long, value_name = "FILE")]
    secrets: Option<PathBuf>,
}

/// What a file may say.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Wanted {
    agents: Vec<AgentWanted>,
    timeout_policies: Vec<PolicyWanted>,
    freezes: Vec<FreezeWanted>,
    channels: Vec<ChannelWanted>,
    /// The whole document of rules; `None`: they stay as they are.
    rules: Option<Vec<Value>>,
    /// Why the rules are so.
    note: Option<String>,
    /// What must hold of the rules.
    tests: Vec<Case>,
}

impl Wanted {
    /// The rules of the file, if it has any.
    pub fn take_draft(&mut self) -> Option<Draft> {
        let (note, tests) = (self.note.take(), std::mem::take(&mut self.tests));
        self.rules.take().map(|rules| Draft { rules, note, tests })
    }
}

/// An agent; its further members are those of `PATCH /v1/admin/agents/{agent_id}`.
#[derive(Debug, Deserialize)]
struct AgentWanted {
    agent_id: String,
    name: String,
    #[serde(default)]
    keys: Vec<KeyWanted>,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// A key; its further members are those of `POST …/keys`.
#[derive(Debug, Deserialize, Serialize)]
struct KeyWanted {
    key_id: String,
    #[serde(default, skip_serializing)]
    revoked: bool,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// A policy of its scope.
#[derive(Debug, Deserialize)]
struct PolicyWanted {
    #[serde(default)]
    agent_id: Option<String>,
    #[serde(default)]
    action_type: Option<String>,
    priority: String,
    /// There is to be none.
    #[serde(default)]
    absent: bool,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// A freeze.
#[derive(Debug, Deserialize)]
struct FreezeWanted {
    freeze_id: String,
    /// There is to be none.
    #[serde(default)]
    absent: bool,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// What has to be done, said as it is done.
pub(crate) struct Applying<'a> {
    pub(crate) person: &'a Person,
    is_dry: bool,
    secrets: BTreeMap<String, Value>,
    secrets_file: Option<&'a Path>,
    changed: usize,
}

/// Runs a command; gives the exit code.
pub async fn run(settings: &Settings, command: &Command) -> Result<u8> {
    match command {
        Command::Apply(options) => apply(settings, options).await.map(|()| 0),
        Command::Rules(command) => rules::run_as_admin(settings, command).await,
    }
}

async fn apply(settings: &Settings, options: &Options) -> Result<()> {
    let mut wanted = read(&options.file)?;
    let draft = wanted.take_draft();
    // What the file itself says is wrong changes nothing.
    if let Some(draft) = &draft {
        rules::must_pass(draft, &draft.document()?.rules)?;
    }
    let person = Person::admin(settings)?;
    let mut applying = Applying {
        person: &person,
        is_dry: options.dry_run,
        secrets: BTreeMap::new(),
        secrets_file: options.secrets.as_deref(),
        changed: 0,
    };
    // All keys that need it, before the first change.
    if let Some(path) = options.secrets.as_deref().filter(|path| path.exists()) {
        let text =
            std::fs::read_to_string(path).map_err(|error| Fault::usage(format!("{}: {error}", path.display())))?;
        applying.secrets =
            serde_json::from_str(&text).map_err(|error| Fault::usage(format!("{}: {error}", path.display())))?;
    }
    for agent in &wanted.agents {
        applying.agent(agent).await?;
    }
    applying.policies(&wanted.timeout_policies).await?;
    applying.freezes(&wanted.freezes).await?;
    channels::apply(&mut applying, &wanted.channels).await?;
    if let Some(draft) = &draft {
        applying.changed += rules::apply(&person, draft, options.dry_run).await?;
    }
    let verb = if options.dry_run { "would change" } else { "changed" };
    out!("{verb} {}", applying.changed);
    Ok(())
}

/// Reads a file, or standard input for `-`.
pub fn read(path: &Path) -> Result<Wanted> {
    let text =
        if path.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(path) };
    let wrong = |fault: &dyn std::fmt::Display| Fault::usage(format!("{}: {fault}", path.display()));
    let text = text.map_err(|error| wrong(&error))?;
    // JSON is YAML. A member that is there twice is a fault; the typed reader would take the last one.
    serde_norway::from_str::<serde_norway::Value>(&text).map_err(|error| wrong(&error))?;
    serde_norway::from_str(&text).map_err(|error| wrong(&error))
}

impl Applying<'_> {
    /// One change: said, and made unless it is a rehearsal.
    pub(crate) async fn change(
        &mut self,
        said: &str,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Option<Value>> {
        self.changed += 1;
        out!("{said}");
        if self.is_dry {
            return Ok(None);
        }
        let answer = self.person.call(method, path, body.as_ref()).await?.ok();
        answer.map(Some).map_err(|fault| Fault { said: format!("{said}: {}", fault.said), ..fault })
    }

    async fn agent(&mut self, wanted: &AgentWanted) -> Result<()> {
        let AgentWanted { agent_id, name, keys, more } = wanted;
        let path = format!("/v1/admin/agents/{agent_id}");
        let found = self.person.call(Method::GET, &path, None).await?;
        let standing = match found.status {
            StatusCode::NOT_FOUND => {
                let body = json!({"agent_id": agent_id, "name": name});
                self.change(&format!("+ agent {agent_id}"), Method::POST, "/v1/admin/agents", Some(body)).await?;
                json!({"name": name, "status": "active"})
            }
            _ => found.ok()?,
        };
        let mut members = more.clone();
        members.insert("name".to_owned(), json!(name));
        let changed: Map<_, _> = members.into_iter().filter(|(member, value)| standing[member] != *value).collect();
        if !changed.is_empty() {
            let said = format!("~ agent {agent_id}: {}", Value::from(changed.clone()));
            self.change(&said, Method::PATCH, &path, Some(changed.into())).await?;
        }
        for key in keys {
            let standing = standing["keys"].as_array().into_iter().flatten().find(|it| it["key_id"] == key.key_id);
            self.key(agent_id, key, standing).await?;
        }
        Ok(())
    }

    async fn key(&mut self, agent_id: &str, key: &KeyWanted, standing: Option<&Value>) -> Result<()> {
        let (key_id, path) = (&key.key_id, format!("/v1/admin/agents/{agent_id}/keys"));
        let is_revoked = standing.is_some_and(|standing| !standing["revoked_at"].is_null());
        if key.revoked {
            if standing.is_some() && !is_revoked {
                let said = format!("- key {key_id} of {agent_id}");
                self.change(&said, Method::DELETE, &format!("{path}/{key_id}"), None).await?;
            }
            return Ok(());
        }
        let Some(standing) = standing else {
            if self.secrets_file.is_none() && !self.is_dry {
                return Err(Fault::usage(format!("key {key_id} is new: --secrets FILE says where its secrets go")));
            }
            let body = serde_json::to_value(key).map_err(|error| Fault::failed(error.to_string()))?;
            let made = self.change(&format!("+ key {key_id} of {agent_id}"), Method::POST, &path, Some(body)).await?;
            return made.map_or(Ok(()), |made| self.keep_secrets(key_id, &made));
        };
        if is_revoked {
            return Err(Fault::failed(format!("key {key_id} of {agent_id} is revoked; a key_id is never used again")));
        }
        let is_same = |(member, value): (&String, &Value)| match member.as_str() {
            // It is shown to nobody: another key under this key_id is refused where it is registered.
            "public_key" => true,
            "expires_at" => instant(&standing[member]) == instant(value),
            "scopes" | "agents" | "action_types" => sorted(&standing[member]) == sorted(value),
            _ => standing[member] == *value,
        };
        match key.more.iter().find(|member| !is_same(*member)) {
            None => Ok(()),
            Some((member, _)) => Err(Fault::failed(format!(
                "key {key_id} of {agent_id} has other {member}; a key never changes: register another"
            ))),
        }
    }

    /// At once, for each key: what is lost with this process could not be had again after the key's first use.
    fn keep_secrets(&mut self, key_id: &str, made: &Value) -> Result<()> {
        let secrets = ["agent_id", "token", "response_secret"].into_iter().filter(|member| !made[*member].is_null());
        let secrets: Map<_, _> = secrets.map(|member| (member.to_owned(), made[member].clone())).collect();
        self.secrets.insert(key_id.to_owned(), secrets.into());
        let text = serde_json::to_string_pretty(&self.secrets).map_err(|error| Fault::failed(error.to_string()))?;
        self.secrets_file.map_or(Ok(()), |file| write_private(file, &(text + "\n")))
    }

    async fn policies(&mut self, wanted: &[PolicyWanted]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let standing = self.person.get(POLICIES).await?;
        for policy in wanted {
            let scope = json!([policy.agent_id, policy.action_type, policy.priority]);
            let items = standing["items"].as_array().into_iter().flatten();
            let standing =
                items.into_iter().find(|it| json!([it["agent_id"], it["action_type"], it["priority"]]) == scope);
            let any = |name: &Option<String>| name.clone().unwrap_or_else(|| "any".to_owned());
            let said =
                format!("policy of {}, {}, {}", any(&policy.agent_id), any(&policy.action_type), policy.priority);
            if policy.absent {
                if let Some(id) = standing.and_then(|standing| standing["policy_id"].as_str()) {
                    self.change(&format!("- {said}"), Method::DELETE, &format!("{POLICIES}/{id}"), None).await?;
                }
                continue;
            }
            // What is left out is the default, also where another value stands.
            let mut body = json!({"escalate_after_percent": null, "on_timeout": "auto_reject", "lowest_priority": null,
                "permit_seconds": null, "consume": null});
            policy.more.iter().for_each(|(member, value)| body[member] = value.clone());
            (body["agent_id"], body["action_type"]) = (json!(policy.agent_id), json!(policy.action_type));
            body["priority"] = json!(policy.priority);
            let is_other = |standing: &Value| {
                body.as_object().into_iter().flatten().any(|(member, value)| standing[member] != *value)
            };
            let sign = match standing {
                None => '+',
                Some(standing) if is_other(standing) => '~',
                Some(_) => continue,
            };
            body.as_object_mut().into_iter().for_each(|body| body.retain(|_, value| !value.is_null()));
            self.change(&format!("{sign} {said}"), Method::PUT, POLICIES, Some(body)).await?;
        }
        Ok(())
    }

    async fn freezes(&mut self, wanted: &[FreezeWanted]) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let standing = self.person.all(FREEZES).await?;
        for freeze in wanted {
            let standing = standing.iter().find(|it| it["freeze_id"] == freeze.freeze_id);
            let (said, path) = (format!("freeze {}", freeze.freeze_id), format!("{FREEZES}/{}", freeze.freeze_id));
            if freeze.absent {
                if standing.is_some() {
                    self.change(&format!("- {said}"), Method::DELETE, &path, None).await?;
                }
                continue;
            }
            let is_other = |standing: &Value| {
                let is_same = |(member, value): (&String, &Value)| match member.as_str() {
                    "until" => instant(&standing[member]) == instant(value),
                    _ => standing[member] == *value,
                };
                !freeze.more.iter().all(is_same)
            };
            let sign = match standing {
                None => '+',
                Some(standing) if is_other(standing) => '~',
                Some(_) => continue,
            };
            self.change(&format!("{sign} {said}"), Method::PUT, &path, Some(freeze.more.clone().into())).await?;
        }
        Ok(())
    }
}

fn instant(value: &Value) -> Option<DateTime<Utc>> {
    DateTime::<Utc>::deserialize(value).ok()
}

fn sorted(value: &Value) -> Vec<String> {
    let mut names: Vec<_> = value.as_array().into_iter().flatten().map(Value::to_string).collect();
    names.sort();
    names
}
