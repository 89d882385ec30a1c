//! What each client of the mix does: one call after the other, drawn from its seed.

use std::collections::BTreeMap;

use chrono::{TimeDelta, Utc};
use hyper::{Method, StatusCode};
use serde_json::json;

use super::*;
use crate::drill::client::{Acknowledged, Caller, envelope, text};
use crate::drill::history::History;
use crate::http::Connection;

/// After a call that found a server away.
const PAUSE: Duration = Duration::from_millis(50);

/// One client of the mix.
pub struct Mixer {
    client: Client,
    board: Arc<Board>,
    rng: StdRng,
    number: u64,
    turn: u64,
}

/// What is done, and of so many calls how many.
const MIX: [(&str, u32); 18] = [
    ("submit", 22),
    ("submit again", 5),
    ("decide", 18),
    ("cancel", 3),
    ("accept", 14),
    ("retry", 3),
    ("fail", 4),
    ("leave", 1),
    ("say otherwise", 5),
    ("look", 5),
    ("dispose", 9),
    ("requeue", 4),
    ("cap", 4),
    ("replay deliveries", 2),
    ("replay events", 1),
    ("dead letters", 3),
    ("policy", 2),
    ("rotate", 1),
];

impl Mixer {
    pub fn new(client: Client, board: Arc<Board>, seed: u64, number: u64) -> Self {
        Self { client, board, rng: StdRng::seed_from_u64(seed ^ (number << 56)), number, turn: 0 }
    }

    /// Calls until it is told to stop.
    pub async fn call_while(mut self, running: Arc<AtomicBool>) {
        while running.load(Ordering::Relaxed) {
            self.turn += 1;
            let mut draw = self.rng.random_range(0..MIX.iter().map(|(_, share)| share).sum::<u32>());
            let drawn = MIX.iter().find(|(_, share)| {
                let is_it = draw < *share;
                draw = draw.saturating_sub(*share);
                is_it
            });
            let what = drawn.map_or("look", |(what, _)| what);
            let history = self.client.history();
            history.tick(what);
            let refused = history.outages();
            self.act(what).await;
            // Nothing is learned from a server that is away, asked again at once.
            if self.client.history().outages() > refused {
                sleep(PAUSE).await;
            }
        }
    }

    async fn act(&mut self, what: &str) {
        match what {
            "submit" => self.submit().await,
            "rotate" => drop(self.rotate().await),
            "accept" => self.take("accepted").await,
            "retry" => self.take("retry").await,
            "fail" => self.take("failed").await,
            "leave" => drop(self.poll().await),
            "say otherwise" => self.say_otherwise().await,
            "cap" => self.cap().await,
            "replay deliveries" => self.replay("deliveries").await,
            "replay events" => self.replay("events").await,
            "dead letters" => self.dead_letters().await,
            "policy" => self.policy().await,
            what => {
                let Some(known) = Board::pick(&self.board.known, &mut self.rng) else { return };
                self.act_upon(what, &known).await;
            }
        }
    }

    async fn act_upon(&mut self, what: &str, known: &Known) {
        let agent = self.board.agent(known.agent);
        let id = &known.request_id;
        match what {
            "submit again" => drop(self.client.submit(&agent, &known.client_request_key, &known.envelope).await),
            "decide" => {
                let operator = self.board.operators[self.rng.random_range(0..self.board.operators.len())].clone();
                let approves = self.rng.random_bool(0.6);
                self.client.decide(&operator, id, approves).await;
            }
            "cancel" => {
                let path = format!("/v1/agents/{}/requests/{id}/cancel", agent.id);
                self.call(Caller::Agent(&agent), Method::POST, &path, Some(json!({}))).await;
            }
            "dispose" => self.dispose(known).await,
            "requeue" => {
                let path = format!("/v1/admin/requests/{id}/disposition");
                self.administer(Method::POST, &path, json!({"action": "requeue", "reason": "a drill"})).await;
            }
            _ => {
                let path = format!("/v1/agents/{}/requests/{id}", agent.id);
                self.call(Caller::Agent(&agent), Method::GET, &path, None).await;
                let operator = self.board.operators[0].clone();
                let queue = format!("/v1/hitl/requests?status=all&agent_id={}", agent.id);
                for path in [format!("/v1/hitl/requests/{id}"), queue] {
                    self.call(Caller::Person(&operator), Method::GET, &path, None).await;
                }
                self.administer(Method::GET, "/v1/admin/stale", Value::Null).await;
            }
        }
    }

    async fn submit(&mut self) {
        let index = self.rng.random_range(0..AGENTS);
        let agent = self.board.agent(index);
        let client_request_key = format!("mixed-{}-{}", self.number, self.turn);
        let mut envelope = envelope(&agent.id, &client_request_key);
        envelope["priority"] = json!(["P1", "P2", "P3"][self.rng.random_range(0..3)]);
        // Some of them are the sweep's.
        if self.rng.random_bool(0.2) {
            envelope["respond_by"] = json!(now() + TimeDelta::milliseconds(self.rng.random_range(1_500..4_000)));
        }
        if let Some(request_id) = self.client.submit(&agent, &client_request_key, &envelope).await {
            self.board.add(Known { agent: index, client_request_key, envelope, request_id });
        }
    }

    /// Deliveries of some agent, its own or with others.
    async fn poll(&mut self) -> Option<(usize, Vec<Delivery>)> {
        let index = self.rng.random_range(0..AGENTS);
        let (limit, wait) = (self.rng.random_range(1..10), u64::from(self.rng.random_bool(0.2)));
        let deliveries = self.client.poll(&self.board.agent(index), wait, limit).await?;
        Some((index, deliveries))
    }

    async fn take(&mut self, result: &str) {
        let Some((index, deliveries)) = self.poll().await else { return };
        for delivery in deliveries {
            let agent = self.board.agent(index);
            // Said once: where that got no answer, the lease ends and it comes again.
            let said = self.client.acknowledge(&agent, &delivery, result).await;
            if matches!(said, Acknowledged::State(_)) {
                keep_newest(&self.board.said, (index, delivery));
            }
        }
    }

    /// What was said of a delivery is repeated, or something else is said.
    async fn say_otherwise(&mut self) {
        let Some((index, delivery)) = Board::pick(&self.board.said, &mut self.rng) else { return };
        let result = ["accepted", "accepted", "retry", "failed"][self.rng.random_range(0..4)];
        self.client.acknowledge(&self.board.agent(index), &delivery, result).await;
    }

    async fn dispose(&mut self, known: &Known) {
        let path = format!("/v1/admin/requests/{}/disposition", known.request_id);
        let disposition = match self.rng.random_range(0..6) {
            0 => json!({"action": "cancel", "reason": "a drill"}),
            1 => json!({"action": "reject", "reason": "a drill"}),
            2 => {
                let until = now() + TimeDelta::hours(self.rng.random_range(2..48));
                let extend = json!({"action": "extend", "reason": "a drill", "respond_by": until});
                return self.extend(&path, extend).await;
            }
            _ => {
                let priority = ["P1", "P2", "P3"][self.rng.random_range(0..3)];
                json!({"action": "reprioritise", "reason": "a drill", "priority": priority})
            }
        };
        self.administer(Method::POST, &path, disposition).await;
    }

    /// Another client may have extended it further: 422 is no fault of the service then.
    async fn extend(&mut self, path: &str, body: Value) {
        let admin = self.board.admin.clone();
        let reply = self.client.call(Caller::Person(&admin), Method::POST, path, Some(&body)).await;
        let refused =
            reply.filter(|reply| !reply.status.is_success() && reply.status != StatusCode::UNPROCESSABLE_ENTITY);
        if let Some(reply) = refused {
            self.client.refused("extend", &reply);
        }
    }

    async fn cap(&mut self) {
        let agent = self.board.agent(self.rng.random_range(0..AGENTS));
        let mut cap =
            |most: u32| if self.rng.random_bool(0.3) { Value::Null } else { json!(self.rng.random_range(1..most)) };
        let caps = json!({"max_pending": cap(120), "max_pending_p1": cap(60)});
        self.administer(Method::PATCH, &format!("/v1/admin/agents/{}", agent.id), caps).await;
    }

    async fn replay(&mut self, target: &str) {
        let scope = match (self.rng.random_range(0..3), Board::pick(&self.board.known, &mut self.rng)) {
            (0, Some(known)) => json!({"request_ids": [known.request_id]}),
            (1, _) if target == "deliveries" => json!({"dead_letters": true}),
            _ => json!({"from": now() - TimeDelta::seconds(3), "to": now()}),
        };
        let order = json!({"replay_key": format!("mixed-{}-{}", self.number, self.turn), "target": target,
            "scope": scope, "reason": "a drill", "dry_run": self.rng.random_bool(0.2)});
        self.administer(Method::POST, "/v1/admin/replay", order).await;
    }

    async fn dead_letters(&mut self) {
        let admin = self.board.admin.clone();
        let path = "/v1/admin/dead-letters?kind=delivery&limit=20";
        let Some(listed) = self.call(Caller::Person(&admin), Method::GET, path, None).await else { return };
        let listed = listed["items"].as_array().cloned().unwrap_or_default();
        let Some(letter) = listed.get(self.rng.random_range(0..listed.len().max(1))) else { return };
        let (verb, body) =
            if self.rng.random_bool(0.7) { ("retry", Value::Null) } else { ("discard", json!({"reason": "a drill"})) };
        let path = format!("/v1/admin/dead-letters/{}/{verb}", text(letter, "dead_letter_id"));
        self.administer(Method::POST, &path, body).await;
    }

    async fn policy(&mut self) {
        let agent = self.board.agent(self.rng.random_range(0..AGENTS));
        let policy = json!({"agent_id": agent.id, "priority": (["P1", "P2", "P3"][self.rng.random_range(0..3)]),
            "respond_within_seconds": self.rng.random_range(5..7_200),
            "on_timeout": (if self.rng.random_bool(0.5) { "auto_reject" } else { "raise" })});
        self.administer(Method::PUT, "/v1/admin/timeout-policies", policy).await;
    }

    /// A new key, and the end of the one before. What a fault cuts off leaves the agent with the key that it had.
    async fn rotate(&mut self) -> Result<()> {
        let index = self.rng.random_range(0..AGENTS);
        let (admin, old) = (self.board.admin.clone(), self.board.agent(index));
        let mut connection = Connection::open(self.client.address()).await?;
        let key_id = format!("mixed-{}-{}", self.number, self.turn);
        let new = old.with_new_key(&mut connection, &admin.token, &key_id).await?;
        *self.board.agents[index].write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        let path = format!("/v1/admin/agents/{}/keys/{}", old.id, old.key_id);
        self.call(Caller::Person(&admin), Method::DELETE, &path, None).await;
        Ok(())
    }

    async fn administer(&mut self, method: Method, path: &str, body: Value) {
        let admin = self.board.admin.clone();
        let body = if body.is_null() { None } else { Some(body) };
        self.call(Caller::Person(&admin), method, path, body).await;
    }

    /// One call; what it answered, if that is a success.
    async fn call(&mut self, caller: Caller<'_>, method: Method, path: &str, body: Option<Value>) -> Option<Value> {
        let name = format!("{method} {path}");
        let reply = self.client.call(caller, method, path, body.as_ref()).await?;
        if reply.status.is_success() {
            return Some(reply.body);
        }
        self.client.refused(&name, &reply);
        None
    }
}

/// How often each thing was done, in words.
pub fn summary(history: &History) -> String {
    let counts: BTreeMap<_, _> = history.ticks();
    MIX.iter().map(|(what, _)| format!("{what} {}", counts.get(what).unwrap_or(&0))).collect::<Vec<_>>().join(", ")
}

#[expect(clippy::disallowed_methods, reason = "the service answers in the system's time")]
fn now() -> chrono::DateTime<Utc> {
    Utc::now()
}
