//! Calls that must be refused: forged tokens, other agents' paths, broken nonces, malformed bodies.

use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use super::plan::Planned;
use super::world::World;
use crate::keys::NewKey;

/// One call, and the statuses that refuse it.
struct Probe {
    what: &'static str,
    request: RequestBuilder,
    refusals: &'static [u16],
}

/// Calls of impostors, and of agents that ask for others' requests.
pub async fn forgeries(world: &World, index: usize) {
    let Planned { agent, key, .. } = world.plan[index];
    let own = &world.cohort[agent];
    let (id, key_id, signs) = (&own.id, &own.keys[key].key_id, &own.keys[key].signs);
    let other = &world.cohort[(agent + 1) % world.cohort.len()].id;
    let now = get_current_timestamp();
    let claims =
        |iat: u64, life: u64| json!({"iss": id, "sub": id, "aud": "relaytrace", "iat": iat, "exp": iat + life});
    let good = signed(Some(key_id), &claims(now, 60), signs);
    let stranger = NewKey::generate().map(|key| EncodingKey::from_ed_der(&key.pkcs8));
    let of_stranger = stranger.map(|stranger| signed(Some(key_id), &claims(now, 60), &stranger)).unwrap_or_default();
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.".to_owned();
    let tokens = [
        ("no token at all", String::new()),
        ("a token that is none", "not-a-token".to_owned()),
        ("a token with alg none", unsigned),
        ("a token that has expired", signed(Some(key_id), &claims(now - 2_000, 60), signs)),
        ("a token that lives too long", signed(Some(key_id), &claims(now, 90_000), signs)),
        ("a token without kid", signed(None, &claims(now, 60), signs)),
        ("a token of an unknown key", signed(Some("no-such-key"), &claims(now, 60), signs)),
        ("a token signed by a stranger", of_stranger),
    ];
    let poll = format!("/v1/agents/{id}/decisions/poll");
    let mut probes: Vec<_> =
        tokens.into_iter().map(|(what, token)| probe(world, what, Method::GET, &poll, &token, &[401])).collect();
    let paths = [
        ("another agent's decisions", format!("/v1/agents/{other}/decisions/poll"), [403, 404].as_slice()),
        ("the operators' queue", "/v1/hitl/requests".to_owned(), &[401, 403]),
        ("the administrators' agents", "/v1/admin/agents".to_owned(), &[401, 403]),
        ("a request that is not there", format!("/v1/agents/{id}/requests/{}", Uuid::from_u128(7)), &[404]),
    ];
    probes.extend(paths.map(|(what, path, refusals)| probe(world, what, Method::GET, &path, &good, refusals)));
    let mut repeated = probe(world, "a repeated nonce header", Method::GET, &poll, &good, &[422]);
    repeated.request =
        repeated.request.header("relaytrace-nonce", "0123456789abcdef").header("relaytrace-nonce", "fedcba9876543210");
    probes.push(repeated);
    let mut malformed = probe(world, "a malformed nonce", Method::GET, &poll, &good, &[422]);
    malformed.request = malformed.request.header("relaytrace-nonce", "short!");
    probes.push(malformed);
    send_all(world, probes).await;
}

/// Calls that break the contract.
pub async fn malformed(world: &World, index: usize, request_id: Uuid) {
    let Planned { agent, key, .. } = world.plan[index];
    let own = &world.cohort[agent];
    let (id, signs) = (&own.id, &own.keys[key].signs);
    let now = get_current_timestamp();
    let claims = json!({"iss": id, "sub": id, "aud": "relaytrace", "iat": now, "exp": now + 60});
    let token = signed(Some(&own.keys[key].key_id), &claims, signs);
    let submit = |what, body: String, refusals| {
        let mut probe = probe(world, what, Method::POST, "/v1/hitl/requests", &token, refusals);
        probe.request = probe.request.header("content-type", "application/json").body(body);
        probe
    };
    let envelope = json!({
        "envelope_version": "1", "agent_id": id, "client_request_key": "malformed", "priority": "P2",
        "title": "t", "action": {"type": "refund.create", "arguments": {}},
    });
    let with = |member: &str, value: Value| {
        let mut changed = envelope.clone();
        changed[member] = value;
        changed.to_string()
    };
    let unknown = format!("/v1/agents/{id}/decisions/{request_id}/ack");
    let mut acknowledge =
        probe(world, "an acknowledgement of no delivery", Method::POST, &unknown, &token, &[404, 409]);
    acknowledge.request = acknowledge.request.json(&json!({"delivery_id": Uuid::from_u128(7), "result": "accepted"}));
    let probes = vec![
        submit("half a body", r#"{"envelope_version": "1", "#.to_owned(), &[400]),
        submit("a member twice", r#"{"agent_id": "a", "agent_id": "b"}"#.to_owned(), &[400]),
        submit("no title", with("title", Value::Null), &[422]),
        submit("an unknown priority", with("priority", json!("P9")), &[422]),
        submit("an unknown member", with("urgent", json!(true)), &[422]),
        submit("an impossible key", with("client_request_key", json!("a key with spaces")), &[422]),
        submit("a deadline in the past", with("respond_by", json!("2020-01-01T00:00:00Z")), &[422]),
        submit("another agent's envelope", with("agent_id", json!("somebody-else")), &[403]),
        acknowledge,
    ];
    send_all(world, probes).await;
}

fn signed(kid: Option<&str>, claims: &Value, key: &EncodingKey) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(Algorithm::EdDSA) };
    jsonwebtoken::encode(&header, claims, key).unwrap_or_default()
}

fn probe(
    world: &World,
    what: &'static str,
    method: Method,
    path: &str,
    token: &str,
    refusals: &'static [u16],
) -> Probe {
    let request = world.target.http.request(method, format!("{}{path}", world.target.base_url));
    let request = if token.is_empty() { request } else { request.bearer_auth(token) };
    Probe { what, request: request.timeout(std::time::Duration::from_secs(10)), refusals }
}

/// A refusal has one of the expected statuses and says in a problem document whether to try again.
async fn send_all(world: &World, probes: Vec<Probe>) {
    for Probe { what, request, refusals } in probes {
        let Ok(response) = request.send().await else {
            world.ledger.count("hostile calls cut off");
            continue;
        };
        let status = response.status().as_u16();
        let problem: Value = response.json().await.unwrap_or_default();
        world.ledger.count("hostile and malformed calls");
        if refusals.contains(&status) && problem["retryable"] == false {
            world.ledger.count("hostile and malformed calls refused");
        } else if status == 503 {
            world.ledger.count("hostile calls answered 503");
        } else {
            world.ledger.violation(0, format!("{what}: answered {status} {problem}, not {refusals:?}"));
        }
    }
}
