//! `relaytrace ask`: a question from a shell.

use std::path::PathBuf;

use clap::Args;
use relaytrace_client::{
    Action, AnswerKind, Decision, Ended, Envelope, Error, NotApproved, Outcome, RequestState, Said, Why,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::asking::{Asking, Question, json_of, patience};
use crate::exit::{Codes, Fault, Result};
use crate::settings::{Settings, link};
use crate::terminal::{out, safe_line};

/// Options of `ask`.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit codes: 0 approved, 1 rejected or not to be used, 2 nobody answered in time, 3 cancelled, 4 answered by a
value, 64 wrong arguments or configuration, 69 no answer that counts. Only 0 is an approval, and this call has used it up:
the same --key again is refused.

Examples:
  relaytrace ask --type deploy --arg service=checkout --arg version=4.19.0 && ./deploy
  relaytrace ask --type refund.create --args refund.json --title 'Refund 1,240 EUR' --priority P1 --wait 10m --json
  relaytrace ask --type mail.draft --arg to=maria@example.org --respond     prints what a person answers, exit 4
Better where it is one command: relaytrace run, which runs exactly what was approved and reports its end."
)]
pub struct Options {
    #[command(flatten)]
    question: Question,
    /// An argument of the action, as text.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    arg: Vec<(String, String)>,
    /// An argument of the action, as JSON.
    #[arg(long, value_name = "NAME=JSON", value_parser = json_pair)]
    arg_json: Vec<(String, Value)>,
    /// All arguments: a JSON object from this file (`-`: standard input).
    #[arg(long, value_name = "FILE", conflicts_with_all = ["arg", "arg_json"])]
    args: Option<PathBuf>,
    /// The operator may change the arguments: use those that are printed.
    #[arg(long)]
    edit: bool,
    /// JSON Schema of changed arguments.
    #[arg(long, value_name = "FILE", requires = "edit")]
    edit_schema: Option<PathBuf>,
    /// The operator may answer with a value instead.
    #[arg(long)]
    respond: bool,
    /// JSON Schema of that value.
    #[arg(long, value_name = "FILE", requires = "respond")]
    respond_schema: Option<PathBuf>,
    /// Leave the approval to another process, which uses it: it is acknowledged and not used up.
    #[arg(long)]
    leave: bool,
    /// Print everything as one JSON object.
    #[arg(long)]
    json: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn json_pair(text: &str) -> Result<(String, Value), String> {
    let (name, value) = pair(text)?;
    Ok((name, serde_json::from_str(&value).map_err(|error| format!("{value:?} is no JSON: {error}"))?))
}

impl Options {
    fn arguments(&self) -> Result<Value> {
        if let Some(path) = &self.args {
            return json_of(path);
        }
        let mut arguments = Map::new();
        let texts = self.arg.iter().map(|(name, value)| (name, json!(value)));
        for (name, value) in texts.chain(self.arg_json.iter().map(|(name, value)| (name, value.clone()))) {
            if arguments.insert(name.clone(), value).is_some() {
                return Err(Fault::usage(format!("the argument {name} is given twice")));
            }
        }
        Ok(arguments.into())
    }

    fn envelope(&self, client: &relaytrace_client::Client) -> Result<Envelope> {
        let question = &self.question;
        let action = Action::new(question.kind(), self.arguments()?);
        let schema = |path: &Option<PathBuf>| path.as_deref().map(json_of).transpose();
        let more = [(self.edit, AnswerKind::Edit), (self.respond, AnswerKind::Respond)];
        let mut answers: Vec<_> =
            more.into_iter().filter_map(|(is_taken, answer)| is_taken.then_some(answer)).collect();
        if !answers.is_empty() {
            answers.splice(0..0, [AnswerKind::Approve, AnswerKind::Reject]);
        }
        Ok(Envelope {
            answers,
            edit_schema: schema(&self.edit_schema)?,
            respond_schema: schema(&self.respond_schema)?,
            ..question.envelope(client, question.kind(), action)?
        })
    }
}

/// Asks, waits and prints what was decided.
pub async fn run(settings: &Settings, options: &Options) -> Result<()> {
    let client = settings.client(patience())?;
    let envelope = options.envelope(&client)?;
    let mut asking = Asking::start(settings, &client)?;
    let show = |asked: &RequestState, decision: &Decision, action: &Action| {
        let told = told(&settings.url()?, asked, decision, action);
        out!("{}", if options.json { told.to_string() } else { said(decision, action) });
        Ok(())
    };
    if options.leave {
        let (asked, decision) = asking.decided(&envelope, &options.question).await?;
        // Where its use is required, it is the use that ends the delivery.
        let acknowledged =
            client.acknowledge(&Decision { delivery_id: None, ..decision.clone() }, Said::Accepted).await;
        if let Err(Error::Refused(problem)) = &acknowledged
            && problem.code != "not-consumed"
        {
            acknowledged?;
        }
        return match Why::of(&decision) {
            None => show(&asked, &decision, &decision.approved_action(&envelope.action)?),
            Some(why) => {
                let Decision { request_id, client_request_key, .. } = decision.clone();
                let it = NotApproved { request_id, client_request_key, why, decision: Some(decision) };
                Err(not_approved(settings, options, &it))
            }
        };
    }
    match asking.permit(&envelope, &options.question).await {
        Ok(permit) => show(&permit.request, &permit.decision, &permit.action),
        Err(Error::NotApproved(it)) => Err(not_approved(settings, options, &it)),
        Err(error) => Err(error.into()),
    }
}

/// What is no approval goes to standard output where a program reads it.
fn not_approved(settings: &Settings, options: &Options, it: &NotApproved) -> Fault {
    if options.json {
        let mut told = json!({
            "request_id": it.request_id, "client_request_key": it.client_request_key,
            "link": link(&settings.url().unwrap_or_default(), it.request_id),
        });
        if let Some(decision) = &it.decision {
            told = told_decision(&settings.url().unwrap_or_default(), decision);
        }
        // An approval that cannot be used must not be read as one.
        let outcome = match it.why {
            Why::StillPending { .. } => Some("pending"),
            Why::Cancelled { .. } => Some("cancelled"),
            _ => {
                it.decision.as_ref().is_none_or(|decision| decision.outcome == Outcome::Approved).then_some("unusable")
            }
        };
        if let Some(outcome) = outcome {
            told["outcome"] = outcome.into();
        }
        told["why_not"] = it.why.to_string().into();
        out!("{told}");
    } else if let Why::Responded(value) = &it.why {
        out!("{}", value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    Fault::of(&Error::NotApproved(Box::new(it.clone())), Codes::ASK)
}

fn said(decision: &Decision, action: &Action) -> String {
    let by = decision.decided_by.name.as_deref().unwrap_or(&decision.decided_by.id);
    let reason = decision.reason.as_deref().map(|reason| format!(": {}", safe_line(reason))).unwrap_or_default();
    let edited = if decision.edited { format!("\n{}", action.arguments) } else { String::new() };
    let verb = if decision.edited { "approved, with changes," } else { "approved" };
    format!("{verb} by {by}{reason}{edited}")
}

fn told(url: &str, asked: &RequestState, decision: &Decision, action: &Action) -> Value {
    let mut told = told_decision(url, decision);
    told["priority"] = json!(asked.priority);
    told["action"] = json!(action);
    told
}

fn told_decision(url: &str, decision: &Decision) -> Value {
    json!({
        "request_id": decision.request_id, "client_request_key": decision.client_request_key,
        "outcome": decision.outcome, "cause": decision.cause, "decided_by": decision.decided_by,
        "decided_at": decision.decided_at, "reason": decision.reason, "edited": decision.edited,
        "action_digest": decision.action_digest, "response": decision.response, "permit": decision.permit,
        "receipt": decision.receipt, "link": link(url, decision.request_id),
    })
}

/// Options of `report`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Example:
  id=$(relaytrace ask --type deploy --arg service=checkout --json | jq -r .request_id) && \\
    { ./deploy && relaytrace report $id succeeded || relaytrace report $id failed --note 'see the log'; }")]
pub struct ReportOptions {
    /// The request whose approval `ask` used.
    request_id: Uuid,
    /// How what was approved ended.
    #[arg(value_parser = ["succeeded", "failed"])]
    state: String,
    /// For the record, up to 2,000 characters.
    #[arg(long)]
    note: Option<String>,
    /// `sha256:` and the SHA-256 of what proves it.
    #[arg(long, value_name = "DIGEST")]
    evidence_sha256: Option<String>,
}

/// Puts the end of what was approved on record.
pub async fn report(settings: &Settings, options: &ReportOptions) -> Result<()> {
    let ended = if options.state == "succeeded" { Ended::Succeeded } else { Ended::Failed };
    let client = settings.client(patience())?;
    let reported =
        client.report(options.request_id, ended, options.note.as_deref(), options.evidence_sha256.as_deref()).await?;
    out!("{}{}", options.state, if reported.repeated { " (on record before)" } else { "" });
    Ok(())
}
