//! `relaytrace queue`, `show`, `approve` and `reject`: an operator's terminal.

use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};

use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use relaytrace_client::Action;
use reqwest::Method;
use serde::Deserialize as _;
use serde_json::{Value, json};
use url::form_urlencoded::Serializer;
use uuid::Uuid;

use crate::exit::{Fault, Result};
use crate::people::Person;
use crate::settings::{Settings, link};
use crate::terminal::{err, left, out, safe, safe_line};

/// Characters of the code that a yes is said by: none that is taken for another.
const CODE: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
/// How many of them.
const CODE_LENGTH: usize = 5;

/// What to list.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Status {
    Pending,
    Decided,
    All,
}

/// Options of `queue`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  relaytrace queue                          what is pending, the most urgent first
  relaytrace queue --agent billing-agent --json | jq -r '.[].request_id'
  relaytrace queue --status decided --limit 10")]
pub struct QueueOptions {
    /// What to list.
    #[arg(long, value_enum, default_value = "pending")]
    status: Status,
    /// Only of this agent.
    #[arg(long)]
    agent: Option<String>,
    /// Only of this type of action.
    #[arg(long = "type")]
    kind: Option<String>,
    /// Only these priorities: P1,P2.
    #[arg(long)]
    priority: Option<String>,
    /// Only with these words in title, type, arguments or ids.
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Print them as a JSON array.
    #[arg(long)]
    json: bool,
}

/// Lists requests.
pub async fn queue(settings: &Settings, options: &QueueOptions) -> Result<()> {
    let person = Person::operator(settings)?;
    let most = usize::try_from(options.limit).unwrap_or(usize::MAX);
    let status = options.status.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let filters = [
        ("agent_id", &options.agent),
        ("type", &options.kind),
        ("priority", &options.priority),
        ("q", &options.search),
    ];
    let (mut items, mut cursor) = (Vec::new(), None::<String>);
    let total = loop {
        let mut query = Serializer::new(String::new());
        query.append_pair("status", &status).append_pair("limit", &options.limit.min(200).to_string());
        for (name, value) in filters {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if let Some(cursor) = &cursor {
            query.append_pair("cursor", cursor);
        }
        let mut page = person.get(&format!("/v1/hitl/requests?{}", query.finish())).await?;
        items.extend(page["items"].as_array_mut().into_iter().flatten().map(Value::take));
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || items.len() >= most {
            break page;
        }
    };
    items.truncate(most);
    if options.json {
        out!("{}", Value::from(items));
        return Ok(());
    }
    for item in &items {
        out!("{}", line(item));
    }
    if items.is_empty() {
        err!("relaytrace queue: nothing ({status})");
    } else if !total["next_cursor"].is_null() {
        err!("relaytrace queue: there are more: --limit");
    }
    Ok(())
}

fn line(item: &Value) -> String {
    let text = |member: &str| safe_line(item[member].as_str().unwrap_or_default());
    let state = match item["outcome"].as_str() {
        Some(outcome) => outcome.to_owned(),
        None => time(&item["respond_by"]).map(|until| format!("{} left", left(until))).unwrap_or_default(),
    };
    let (id, priority, agent, kind) = (text("request_id"), text("priority"), text("agent_id"), text("action_type"));
    format!("{id}  {priority}  {state:<12}  {agent}  {kind}  {}", text("title"))
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    DateTime::<Utc>::deserialize(value).ok()
}

/// Options of `show`.
#[derive(Args, Clone, Debug)]
pub struct ShowOptions {
    /// The request, as `queue` lists it.
    request_id: Uuid,
    /// Print it as the relay answers it.
    #[arg(long)]
    json: bool,
}

/// Shows one request whole.
pub async fn show(settings: &Settings, options: &ShowOptions) -> Result<()> {
    let person = Person::operator(settings)?;
    let detail = person.get(&path(options.request_id)).await?;
    if options.json {
        out!("{detail}");
    } else {
        out!("{}", safe(&described(&person, &detail)));
    }
    Ok(())
}

fn path(request_id: Uuid) -> String {
    format!("/v1/hitl/requests/{request_id}")
}

/// Whether the action that is shown is the one that a decision names.
fn is_exact(detail: &Value) -> bool {
    let action = Action::deserialize(&detail["action"]).ok();
    action.and_then(|action| action.digest().ok()).is_some_and(|digest| detail["action_digest"] == digest)
}

/// One request, every word of its action included.
fn described(person: &Person, detail: &Value) -> String {
    let text = |member: &str| detail[member].as_str().unwrap_or_default();
    let mut lines = vec![
        format!("{}  {}  {}  {}", text("priority"), text("status"), text("action_type"), safe_line(text("title"))),
        format!("request    {}", text("request_id")),
        format!("agent      {}, its key {}", text("agent_id"), text("client_request_key")),
        format!("asked      {}", text("created_at")),
    ];
    let until = time(&detail["respond_by"]).map(|until| format!(" ({} left)", left(until))).unwrap_or_default();
    lines.push(format!("answer by  {}{until}", text("respond_by")));
    for (member, name) in [("group", "group    "), ("on_behalf_of", "for      "), ("execution", "execution")] {
        match &detail[member] {
            Value::Null => {}
            Value::String(text) => lines.push(format!("{name}  {}", safe_line(text))),
            other => lines.push(format!("{name}  {other}")),
        }
    }
    if let Some(given) = approvals(detail) {
        let votes = detail["votes"].as_array().into_iter().flatten();
        let names: Vec<_> = votes.map(|vote| voter(&vote["voted_by"])).collect();
        let by = if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) };
        lines.push(format!("approvals  {given}{by}"));
    }
    let checked = if is_exact(detail) { "checked here" } else { "NOT that of the action below" };
    lines.push(format!("digest     {} ({checked})", text("action_digest")));
    if !text("summary").is_empty() {
        lines.push(format!("\nsummary\n{}", indented(text("summary"))));
    }
    lines.push(format!("\naction\n{}", indented(&pretty(&detail["action"]))));
    if !detail["context"].is_null() {
        lines.push(format!(
            "\ncontext, which is not part of what is approved\n{}",
            indented(&pretty(&detail["context"]))
        ));
    }
    if !detail["decision"].is_null() {
        lines.push(format!("\ndecision\n{}", indented(&pretty(&detail["decision"]))));
    }
    let may: Vec<_> = detail["you"]["may"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    match detail["you"]["why_not"].as_str() {
        Some(why_not) => lines.push(format!("\nyou may    {} ({why_not})", may.join(", "))),
        None => lines.push(format!("\nyou may    {}", may.join(", "))),
    }
    lines.push(link(&person.url, text("request_id")));
    lines.join("\n")
}

fn voter(by: &Value) -> String {
    safe_line(by["name"].as_str().or(by["id"].as_str()).unwrap_or_default())
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}

/// Options of `approve`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The whole action is shown, and the approval is for exactly this action. It is given by typing a code on this
terminal: a program without that terminal cannot say yes."
)]
pub struct ApproveOptions {
    /// The request, as `queue` lists it.
    request_id: Uuid,
    /// For the record and the agent.
    #[arg(long)]
    reason: Option<String>,
}

/// Shows a request and approves it, if the code is typed.
pub async fn approve(settings: &Settings, options: &ApproveOptions) -> Result<()> {
    let person = Person::operator(settings)?;
    let mut terminal = Terminal::open()?;
    let detail = person.get(&path(options.request_id)).await?;
    if !is_exact(&detail) {
        return Err(Fault::failed("the action that the relay shows is not that of its digest: it is not approved"));
    }
    let may_approve = detail["you"]["may"].as_array().is_some_and(|may| may.iter().any(|answer| answer == "approve"));
    terminal.say(&format!("{}\n", described(&person, &detail)))?;
    if !may_approve {
        let why = detail["you"]["why_not"].as_str().unwrap_or("its agent takes no approval");
        return Err(Fault::failed(format!("you may not approve it: {why}")));
    }
    let code = code();
    let others = approvals(&detail).map_or_else(String::new, |given| format!(" ({given})"));
    terminal.say(&format!("\nTo approve exactly this{others}, type {code}: "))?;
    if terminal.line()?.trim() != code {
        return Err(Fault::failed("that is not the code: nothing was decided"));
    }
    let mut body = json!({"decision": "approve", "action_digest": detail["action_digest"]});
    if let Some(reason) = &options.reason {
        body["reason"] = reason.as_str().into();
    }
    decided(&person, options.request_id, &body).await
}

/// Options of `reject`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Example: relaytrace reject 019ab9a0-0000-7000-8000-000000000001 --reason 'The customer was refunded yesterday.'"
)]
pub struct RejectOptions {
    /// The request, as `queue` lists it.
    request_id: Uuid,
    /// For the record and the agent.
    #[arg(long)]
    reason: String,
}

/// Rejects a request.
pub async fn reject(settings: &Settings, options: &RejectOptions) -> Result<()> {
    let person = Person::operator(settings)?;
    let detail = person.get(&path(options.request_id)).await?;
    let body = json!({"decision": "reject", "reason": options.reason, "action_digest": detail["action_digest"]});
    decided(&person, options.request_id, &body).await
}

async fn decided(person: &Person, request_id: Uuid, body: &Value) -> Result<()> {
    let decision = person.send(Method::POST, &format!("{}/decision", path(request_id)), body).await?;
    out!("{}", told(&decision, request_id));
    Ok(())
}

/// What the answer to a decision says: the outcome, or how many approvals there are of those that it takes.
fn told(decision: &Value, request_id: Uuid) -> String {
    match (decision["outcome"].as_str(), approvals(decision)) {
        (Some(outcome), _) => format!("{outcome} {request_id}"),
        (None, Some(given)) => format!("voted {request_id}: {given}, not decided yet"),
        (None, None) => format!("noted, and not decided: {request_id}"),
    }
}

/// The approvals so far, where more than one is required.
fn approvals(of: &Value) -> Option<String> {
    let (given, required) = (of["approvals"]["given"].as_u64()?, of["approvals"]["required"].as_u64()?);
    (required > 1).then(|| format!("{given} of {required} approvals given"))
}

fn code() -> String {
    let random = Uuid::new_v4();
    random.as_bytes()[..CODE_LENGTH].iter().map(|byte| char::from(CODE[usize::from(byte % 32)])).collect()
}

/// The terminal of the person, whatever the streams of this process are.
struct Terminal(File);

impl Terminal {
    fn open() -> Result<Self> {
        let opened = OpenOptions::new().read(true).write(true).open("/dev/tty");
        opened.map(Self).map_err(|_| Fault::usage("a yes is typed by a person: there is no terminal here"))
    }

    fn say(&mut self, text: &str) -> Result<()> {
        let said = self.0.write_all(safe(text).as_bytes()).and_then(|()| self.0.flush());
        said.map_err(|error| Fault::failed(format!("the terminal cannot be written to: {error}")))
    }

    fn line(&self) -> Result<String> {
        let mut line = String::new();
        let read = BufReader::new(&self.0).read_line(&mut line);
        read.map_err(|error| Fault::failed(format!("the terminal cannot be read: {error}")))?;
        Ok(line)
    }
}
