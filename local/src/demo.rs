//! Demo agents on our own client: each is a loop of a fake model and a few fake tools, as a real agent is of real ones.
//!
//! A conversation is a list of tool calls. Each is asked about, runs under its used approval, and its outcome is
//! reported; the model hears the result, or why there is none, and makes its next call of it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use relaytrace_client::{Action, Client, Credentials, Envelope, Error, Why};
use relaytrace_domain::KeyRights;
use relaytrace_service::AppState;
use relaytrace_service::auth::{KeyAlg, PublicKey};
use relaytrace_store::{NewKey, Scope};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use crate::development::PrivateKey;

/// Conversations of one agent that are open at once.
const MAX_OPEN: usize = 3;
/// Between the beginnings of two conversations of one agent.
const PAUSE: Duration = Duration::from_secs(25);
/// How long a fake tool works.
const TOOL_TIME: Duration = Duration::from_secs(2);

/// A turn of the fake model: what it heard last, to the members of its next question.
type Turn = fn(heard: &Value) -> Value;
/// The turns of one conversation.
type Conversation = &'static [Turn];

/// Runs the demo agents. They stop with the process.
pub fn run(state: &AppState, base_url: &str) {
    for (agent_id, conversations) in AGENTS {
        let (state, base_url) = (state.clone(), base_url.to_owned());
        tokio::spawn(async move {
            match register(&state, &base_url, agent_id).await {
                Ok(client) => work(&client, conversations).await,
                Err(error) => tracing::warn!(error = format!("{error:#}"), "a demo agent cannot be registered"),
            }
        });
    }
}

async fn register(state: &AppState, base_url: &str, agent_id: &str) -> anyhow::Result<Client> {
    let (key, key_id) = (PrivateKey::generate()?, format!("{agent_id}-{:08x}", rand::random::<u32>()).parse()?);
    let id = agent_id.parse()?;
    let scope = Scope::of_program("demo");
    state.store.register_agent(&scope, &id, "Demo agent").await?;
    let public = PublicKey::from_pem(KeyAlg::EdDsa, &key.public_pem()?).map_err(anyhow::Error::msg)?;
    let master_id = state.master_secrets.current();
    let new = NewKey {
        key_id: &key_id,
        agent_id: &id,
        alg: KeyAlg::EdDsa.as_str(),
        public_key: &public.spki,
        master_id,
        rights: &KeyRights::default(),
        expires_at: None,
    };
    state.store.register_key(&scope, &new).await?;
    let secret = state.master_secrets.response_secret_text(master_id, &id, &key_id)?;
    Ok(Client::new(base_url, Credentials::new(agent_id, key_id.as_str(), &key.0, &secret)?)?)
}

/// Begins a conversation every [`PAUSE`], in turn, while fewer than [`MAX_OPEN`] are open.
async fn work(client: &Client, conversations: &'static [Conversation]) {
    let places = Arc::new(Semaphore::new(MAX_OPEN));
    for (number, conversation) in conversations.iter().cycle().enumerate() {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let client = client.clone();
        tokio::spawn(async move {
            if let Err(error) = converse(&client, conversation).await {
                tracing::info!(error = format!("{error:#}"), agent_id = client.agent_id(), "a demo agent gave up");
            }
            drop(place);
        });
        // The first questions come at once: a page that is just opened has something to show.
        sleep(if number < 2 { Duration::from_secs(1) } else { PAUSE }).await;
    }
}

/// The agent's loop: the model says a call, the tool runs under its approval, the model hears the result.
async fn converse(client: &Client, conversation: Conversation) -> anyhow::Result<()> {
    let mut heard = Value::Null;
    for turn in conversation {
        heard = match client.ask(&question(client, &turn(&heard))?, None).await {
            Ok(permit) => permit.run(tool).await.unwrap_or_else(|failure| json!(failure)),
            Err(Error::NotApproved(no)) => match no.why {
                Why::Responded(value) => value,
                why => {
                    tracing::debug!(agent_id = client.agent_id(), %why, "the model is told that its call did not run");
                    return Ok(());
                }
            },
            Err(error) => return Err(error.into()),
        };
    }
    Ok(())
}

/// A fake tool: takes its time, and does nothing. One of them fails now and then, as tools do.
async fn tool(action: &Action) -> Result<Value, String> {
    sleep(TOOL_TIME).await;
    if action.kind == "storage.delete" && rand::random() {
        return Err("3 objects are under a legal hold; nothing was deleted".to_owned());
    }
    Ok(json!({"done": action.kind}))
}

/// The envelope of a question under a key of its own.
fn question(client: &Client, said: &Value) -> anyhow::Result<Envelope> {
    let member = |name: &str| said.get(name).cloned();
    let (kind, arguments) = said["action"].as_array().and_then(|action| action.split_first()).context("no action")?;
    let action = Action::new(kind.as_str().context("no type")?, arguments.first().context("no arguments")?.clone());
    let title = said["title"].as_str().context("no title")?;
    Ok(Envelope {
        summary: said["summary"].as_str().map(str::to_owned),
        context: member("context"),
        resume: member("resume"),
        answers: serde_json::from_value(member("answers").unwrap_or(json!([])))?,
        edit_schema: member("edit_schema"),
        respond_schema: member("respond_schema"),
        ..client.question(serde_json::from_value(said["priority"].clone())?, title, action)?
    })
}

const AGENTS: [(&str, &[Conversation]); 3] = [
    ("billing-agent", &[&[refund], &[write_off]]),
    ("deploy-agent", &[&[roll_back], &[clean_up]]),
    ("mail-agent", &[&[choose_subject, send_notice]]),
];

fn refund(_: &Value) -> Value {
    json!({
        "priority": "P2", "title": "Refund 1,240.00 EUR to customer 88213",
        "summary": "Customer reports a **double charge** for order 55-1042. Both charges are on the statement; \
                    the second has no shipment.\n\n- charge 1: 2026-11-02, shipped\n- charge 2: 2026-11-02, nothing shipped",
        "action": ["refund.create", {"customer": "88213", "amount": "1240.00", "currency": "EUR", "charge": "ch_2"}],
        "context": {"customer": {"since": 2019, "tier": "business", "open_tickets": 1}, "charges": [
            {"id": "ch_1", "amount": "1240.00", "shipped": true}, {"id": "ch_2", "amount": "1240.00", "shipped": false}]},
        "resume": {"ticket": "T-7781", "step": "after-approval"},
        "answers": ["approve", "reject", "edit"],
        "edit_schema": {
            "type": "object", "required": ["customer", "amount", "currency", "charge"], "additionalProperties": false,
            "properties": {
                "customer": {"const": "88213"}, "charge": {"enum": ["ch_1", "ch_2"]}, "currency": {"const": "EUR"},
                "amount": {"type": "string", "pattern": "^[0-9]{1,4}\\.[0-9]{2}$", "description": "At most 9,999.99"},
            },
        },
    })
}

fn write_off(_: &Value) -> Value {
    json!({
        "priority": "P3", "title": "Write off invoice 2024-3312 (18.20 EUR)",
        "summary": "Open for 14 months; three reminders; collecting it costs more than it brings.",
        "action": ["invoice.write_off", {"invoice": "2024-3312", "amount": "18.20", "currency": "EUR"}],
        "context": {"reminders": 3, "age_days": 431},
    })
}

fn roll_back(_: &Value) -> Value {
    json!({
        "priority": "P1", "title": "Roll back checkout-service to 4.18.2 in production",
        "summary": "Error rate rose from 0.2 % to **6.1 %** eight minutes after 4.19.0 went out. The rollback takes about 90 s.",
        "action": ["deploy.rollback", {
            "service": "checkout-service", "from": "4.19.0", "to": "4.18.2", "environment": "production"}],
        "context": {"error_rate_percent": [0.2, 0.3, 2.8, 6.1], "on_call": "platform", "database_migrations_in_4.19.0": false},
        "resume": {"run": "r-20931"},
    })
}

fn clean_up(_: &Value) -> Value {
    json!({
        "priority": "P2", "title": "Delete 38 GB of build artefacts older than 90 days",
        "action": ["storage.delete", {"bucket": "build-artefacts", "prefix": "nightly/", "older_than_days": 90}],
        "context": {"objects": 12_904, "last_access": "2026-08-11"},
        "answers": ["approve", "reject", "edit"],
    })
}

fn choose_subject(_: &Value) -> Value {
    json!({
        "priority": "P2", "title": "Which subject line shall the price change notice have?",
        "summary": "The model is not sure of the tone. *Approve* takes its own proposal; *respond* tells it another.",
        "action": ["subject.choose", {"proposal": "Your plan from January"}],
        "answers": ["approve", "reject", "respond"],
        "respond_schema": {"type": "string", "minLength": 5, "maxLength": 80},
    })
}

fn send_notice(heard: &Value) -> Value {
    // A person's answer is a text; what the tool returns is none.
    let subject = heard.as_str().unwrap_or("Your plan from January");
    json!({
        "priority": "P2", "title": format!("Send the notice \u{201c}{subject}\u{201d} to 4,112 customers"),
        "summary": "Text approved by Legal on 2026-11-18. Goes out from *news@example.org*.",
        "action": ["mail.send", {
            "subject": subject, "template": "price-change-2027", "segment": "plan-basic", "recipients": 4112}],
        "context": {"test_sent_to": ["legal@example.org"], "unsubscribed_excluded": true},
    })
}
