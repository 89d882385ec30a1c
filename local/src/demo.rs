//! Demo agents: they ask realistic questions, wait for the answers and acknowledge them, over HTTP as any agent.

use std::time::Duration;

use anyhow::Context as _;
use relaytrace_domain::KeyRights;
use relaytrace_service::AppState;
use relaytrace_service::auth::{KeyAlg, PublicKey};
use relaytrace_store::{NewKey, Scope};
use serde_json::{Value, json};

use crate::development::PrivateKey;

/// Each agent keeps at most so many questions open.
const MOST_OPEN: usize = 3;
/// Between two questions of one agent.
const PAUSE: Duration = Duration::from_secs(25);

/// Runs the demo agents. They stop with the process.
pub fn run(state: &AppState, base_url: &str) {
    for (agent_id, questions) in agents() {
        let (state, base_url) = (state.clone(), base_url.to_owned());
        tokio::spawn(async move {
            let agent = match Agent::register(&state, base_url, agent_id).await {
                Ok(agent) => agent,
                Err(error) => return tracing::warn!(error = format!("{error:#}"), "a demo agent cannot be registered"),
            };
            if let Err(error) = agent.work(&questions).await {
                tracing::info!(error = format!("{error:#}"), agent_id, "a demo agent has stopped");
            }
        });
    }
}

struct Agent {
    state: AppState,
    client: reqwest::Client,
    base_url: String,
    agent_id: &'static str,
    key_id: String,
    key: PrivateKey,
}

impl Agent {
    async fn register(state: &AppState, base_url: String, agent_id: &'static str) -> anyhow::Result<Self> {
        let (key, key_id) = (PrivateKey::generate()?, format!("{agent_id}-{:08x}", rand::random::<u32>()));
        let id = agent_id.parse()?;
        let scope = Scope::of_program("demo");
        state.store.register_agent(&scope, &id, "Demo agent").await?;
        let public = PublicKey::from_pem(KeyAlg::EdDsa, &key.public_pem()?).map_err(anyhow::Error::msg)?;
        let master_id = state.master_secrets.current();
        let new = NewKey {
            key_id: &key_id.parse()?,
            agent_id: &id,
            alg: KeyAlg::EdDsa.as_str(),
            public_key: &public.spki,
            master_id,
            rights: &KeyRights::default(),
            expires_at: None,
        };
        state.store.register_key(&scope, &new).await?;
        Ok(Self { state: state.clone(), client: reqwest::Client::new(), base_url, agent_id, key_id, key })
    }

    async fn work(&self, questions: &[Value]) -> anyhow::Result<()> {
        let mut open = 0;
        for (number, question) in questions.iter().cycle().enumerate() {
            if open < MOST_OPEN {
                self.ask(question).await?;
                open += 1;
            }
            // The first questions come at once: a page that is just opened has something to show.
            let wait = if number < 2 { Duration::from_secs(1) } else { PAUSE };
            open = open.saturating_sub(self.collect(wait).await?);
        }
        Ok(())
    }

    async fn ask(&self, question: &Value) -> anyhow::Result<()> {
        let mut envelope = question.clone();
        envelope["envelope_version"] = "1".into();
        envelope["agent_id"] = self.agent_id.into();
        envelope["client_request_key"] = format!("demo-{:016x}", rand::random::<u64>()).into();
        self.call(self.client.post(format!("{}/v1/hitl/requests", self.base_url)).json(&envelope)).await?;
        Ok(())
    }

    /// Waits for answers and acknowledges them; how many came.
    async fn collect(&self, wait: Duration) -> anyhow::Result<usize> {
        let until = tokio::time::Instant::now() + wait;
        let mut collected = 0;
        while let Some(left) = until.checked_duration_since(tokio::time::Instant::now()) {
            let seconds = left.as_secs().clamp(1, 20);
            let agent = format!("{}/v1/agents/{}/decisions", self.base_url, self.agent_id);
            let polled = self.call(self.client.get(format!("{agent}/poll?wait_seconds={seconds}"))).await?;
            for decision in polled["decisions"].as_array().into_iter().flatten() {
                let request_id = decision["request_id"].as_str().context("a decision without request")?;
                let body = json!({"delivery_id": decision["delivery_id"], "result": "accepted"});
                self.call(self.client.post(format!("{agent}/{request_id}/ack")).json(&body)).await?;
                collected += 1;
            }
        }
        Ok(collected)
    }

    async fn call(&self, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
        let token = self.key.agent_token(self.agent_id, &self.key_id, self.state.clock.now().timestamp())?;
        Ok(request.bearer_auth(token).send().await?.error_for_status()?.json().await?)
    }
}

fn agents() -> [(&'static str, Vec<Value>); 3] {
    [
        (
            "billing-agent",
            vec![
                json!({
                    "priority": "P2", "title": "Refund 1,240.00 EUR to customer 88213",
                    "summary": "Customer reports a **double charge** for order 55-1042. Both charges are on the statement; \
                                the second has no shipment.\n\n- charge 1: 2026-11-02, shipped\n- charge 2: 2026-11-02, nothing shipped",
                    "action": {"type": "refund.create", "arguments": {"customer": "88213", "amount": "1240.00", "currency": "EUR", "charge": "ch_2"}},
                    "context": {"customer": {"since": 2019, "tier": "business", "open_tickets": 1}, "charges": [
                        {"id": "ch_1", "amount": "1240.00", "shipped": true}, {"id": "ch_2", "amount": "1240.00", "shipped": false}]},
                    "resume": {"ticket": "T-7781", "step": "after-approval"},
                }),
                json!({
                    "priority": "P3", "title": "Write off invoice 2024-3312 (18.20 EUR)",
                    "summary": "Open for 14 months; three reminders; collecting it costs more than it brings.",
                    "action": {"type": "invoice.write_off", "arguments": {"invoice": "2024-3312", "amount": "18.20", "currency": "EUR"}},
                    "context": {"reminders": 3, "age_days": 431},
                }),
            ],
        ),
        (
            "deploy-agent",
            vec![
                json!({
                    "priority": "P1", "title": "Roll back checkout-service to 4.18.2 in production",
                    "summary": "Error rate rose from 0.2 % to **6.1 %** eight minutes after 4.19.0 went out. The rollback takes about 90 s.",
                    "action": {"type": "deploy.rollback", "arguments": {"service": "checkout-service", "from": "4.19.0", "to": "4.18.2", "environment": "production"}},
                    "context": {"error_rate_percent": [0.2, 0.3, 2.8, 6.1], "on_call": "platform", "database_migrations_in_4.19.0": false},
                    "resume": {"run": "r-20931"},
                }),
                json!({
                    "priority": "P2", "title": "Delete 38 GB of build artefacts older than 90 days",
                    "action": {"type": "storage.delete", "arguments": {"bucket": "build-artefacts", "prefix": "nightly/", "older_than_days": 90}},
                    "context": {"objects": 12_904, "last_access": "2026-08-11"},
                }),
            ],
        ),
        (
            "mail-agent",
            vec![json!({
                "priority": "P2", "title": "Send the price change notice to 4,112 customers",
                "summary": "Text approved by Legal on 2026-11-18. Goes out from *news@example.org*.",
                "action": {"type": "mail.send", "arguments": {"template": "price-change-2027", "segment": "plan-basic", "recipients": 4112}},
                "context": {"test_sent_to": ["legal@example.org"], "unsubscribed_excluded": true},
            })],
        ),
    ]
}
