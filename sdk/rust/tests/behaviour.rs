//! What the client makes of answers: good, bad, none, and of someone else.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::{digest, hmac};
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use relaytrace_client::{Action, Client, Credentials, DeliveryState, Envelope, Error, Patience, Priority, Said};
use serde_json::{Value, json};
use tokio::sync::Notify;

/// RFC 8032, section 7.1, test 1, as PKCS#8 (RFC 8410).
const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// What the service says to one call.
#[derive(Clone)]
enum Say {
    Signed(u16, Value),
    SignedForAnother(u16, Value),
    Unsigned(u16, Value),
    /// Signed, once the client has given up on it and tries again.
    Late(u16, Value),
    /// Signed by a clock that is so many seconds ahead of this machine's.
    SignedAhead(i64, u16, Value),
}

/// A service that says one thing after the other, and then the last one again.
struct Service {
    address: String,
    script: Arc<Script>,
    serves: tokio::task::JoinHandle<()>,
}

struct Script {
    left: Mutex<Vec<Say>>,
    received: Mutex<Vec<Request>>,
    /// Wakes a late answer at each call.
    tried: Notify,
}

/// A call as it came.
#[derive(Clone)]
struct Request {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Service {
    fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    fn received(&self) -> Vec<Request> {
        self.script.received.lock().unwrap().clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serves.abort();
    }
}

async fn respond(
    State(script): State<Arc<Script>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let request = Request { method, uri, headers, body };
    script.received.lock().unwrap().push(request.clone());
    script.tried.notify_waiters();
    let say = {
        let mut left = script.left.lock().unwrap();
        if left.len() > 1 { left.remove(0) } else { left[0].clone() }
    };
    let nonce = request.headers["relaytrace-nonce"].to_str().unwrap();
    match say {
        Say::Signed(status, body) => signed(&request, status, &body, nonce),
        Say::SignedForAnother(status, body) => signed(&request, status, &body, "the-nonce-of-another-call"),
        Say::Unsigned(status, body) => (StatusCode::from_u16(status).unwrap(), Json(body)).into_response(),
        Say::SignedAhead(seconds, status, body) => signed_at(&request, status, &body, nonce, now() + seconds),
        Say::Late(status, body) => {
            script.tried.notified().await;
            signed(&request, status, &body, nonce)
        }
    }
}

fn now() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs().cast_signed()
}

fn signed(request: &Request, status: u16, body: &Value, nonce: &str) -> Response {
    signed_at(request, status, body, nonce, now())
}

/// A problem document says which path it is about.
fn signed_at(request: &Request, status: u16, body: &Value, nonce: &str, created: i64) -> Response {
    let mut body = body.clone();
    if body["instance"] == "the path" {
        body["instance"] = json!(request.uri.path());
    }
    let body = body.to_string();
    let digest = format!("sha-256=:{}:", BASE64_STANDARD.encode(digest::digest(&digest::SHA256, body.as_bytes())));
    let params = format!(
        r#"("@status" "content-type" "content-digest" "@method";req "relaytrace-nonce";req);created={created};expires={};nonce="n";keyid="k1";alg="hmac-sha256";tag="relaytrace-response""#,
        created + 60
    );
    let base = format!(
        "\"@status\": {status}\n\"content-type\": application/json\n\"content-digest\": {digest}\n\"@method\";req: {}\n\
         \"relaytrace-nonce\";req: {nonce}\n\"@signature-params\": {params}",
        request.method
    );
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), base.as_bytes());
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("content-digest", digest),
        ("signature-input", format!("relaytrace={params}")),
        ("signature", format!("relaytrace=:{}:", BASE64_STANDARD.encode(signature))),
    ];
    (StatusCode::from_u16(status).unwrap(), headers, body).into_response()
}

async fn service(says: &[Say]) -> Service {
    let script = Arc::new(Script { left: Mutex::new(says.to_vec()), received: Mutex::default(), tried: Notify::new() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let router = Router::new().fallback(respond).with_state(script.clone());
    let serves = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Service { address, script, serves }
}

/// A service that says these things by turns, without an end.
async fn service_in_turns(says: &[Say]) -> Service {
    service(&says.iter().cycle().take(4_000).cloned().collect::<Vec<_>>()).await
}

fn client(base_url: &str) -> Client {
    patient_client(base_url, Duration::from_secs(2))
}

fn patient_client(base_url: &str, in_all: Duration) -> Client {
    let credentials = Credentials::new("a", "k1", PRIVATE_KEY, &BASE64_STANDARD.encode(SECRET)).unwrap();
    let patience = Patience {
        per_try: Duration::from_secs(1),
        in_all,
        first_contact: in_all,
        until_passed_over: Duration::from_millis(200),
    };
    Client::with_patience(base_url, credentials, patience).unwrap()
}

fn question() -> Envelope {
    Envelope::new("k", Priority::P2, "Refund", Action::new("refund.create", json!({"amount": "12.40"})))
}

fn accepted() -> Value {
    json!({
        "agent_id": "a", "request_id": "019ab9a0-0000-7000-8000-000000000001", "client_request_key": "k",
        "status": "pending", "priority": "P2", "created_at": "2026-01-01T00:00:00Z",
        "respond_by": "2026-01-01T04:00:00Z", "action_digest": question().action.digest().unwrap(), "duplicate": false,
    })
}

fn problem(status: u16, code: &str, retryable: bool) -> Value {
    json!({"type": "urn:x", "title": "t", "status": status, "detail": "d", "instance": "the path", "code": code,
        "retryable": retryable, "trace_id": "t1"})
}

const ID: &str = "019ab9a0-0000-7000-8000-000000000001";
const OTHER: &str = "019ab9a0-0000-7000-8000-00000000000f";

/// The decided request as its agent sees it, with this decision.
fn decided(decision: &Value) -> Value {
    let mut state = accepted();
    (state["status"], state["duplicate"], state["decision"]) = (json!("decided"), json!(true), decision.clone());
    state
}

/// The decision as it is read, not delivered.
fn read() -> Value {
    let mut decision = delivered(1, "approved");
    decision.as_object_mut().unwrap().remove("delivery_id");
    decision
}

#[expect(clippy::needless_pass_by_value, reason = "called with what a call returned")]
fn is_about_another_question<T: std::fmt::Debug>(what: &str, outcome: Result<T, Error>) {
    let is_refused = matches!(&outcome, Err(Error::NoAnswer { last, .. }) if last.contains("another question"));
    assert!(is_refused, "{what}: {outcome:?}");
}

/// A delivery of the decision, its newest if nothing else is said.
fn delivered(attempt: u32, outcome: &str) -> Value {
    json!({
        "request_id": "019ab9a0-0000-7000-8000-000000000001", "client_request_key": "k", "outcome": outcome,
        "cause": "operator", "decided_at": "2026-01-01T00:00:00Z", "decided_by": {"kind": "operator", "id": "maria"},
        "reason": null, "action_digest": question().action.digest().unwrap(), "resume": null,
        "delivery_id": format!("019ab9a0-0000-7000-8000-{attempt:012}"), "attempt": attempt, "receipt": "",
        "chain": {"length": 2, "head": "sha256:00"},
    })
}

fn polled(decisions: &[Value]) -> Say {
    Say::Signed(200, json!({"agent_id": "a", "decisions": decisions}))
}

fn tries(server: &Service) -> usize {
    server.received().len()
}

#[tokio::test]
async fn a_good_answer_is_one_call() {
    let server = service(&[Say::Signed(201, accepted())]).await;
    let submission = client(&server.uri()).submit(&question()).await.unwrap();
    assert_eq!(submission.request_id.to_string(), "019ab9a0-0000-7000-8000-000000000001");
    assert_eq!(tries(&server), 1);
}

#[tokio::test]
async fn what_does_not_verify_is_a_lost_connection() {
    for bad in [Say::Unsigned(201, accepted()), Say::SignedForAnother(201, accepted()), Say::Late(201, accepted())] {
        let server = service(&[bad.clone(), Say::Signed(200, accepted())]).await;
        client(&server.uri()).submit(&question()).await.unwrap();
        let requests = server.received();
        assert_eq!(requests.len(), 2);
        assert_eq!(requests[0].body, requests[1].body);
        assert_ne!(requests[0].headers["relaytrace-nonce"], requests[1].headers["relaytrace-nonce"]);

        let server = service(&[bad]).await;
        let error = client(&server.uri()).submit(&question()).await.unwrap_err();
        assert!(matches!(error, Error::NoAnswer { tries, .. } if tries > 1), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_is_final_only_if_it_is_signed() {
    let refusal = problem(422, "validation-failed", false);
    let server = service(&[Say::Signed(422, refusal.clone())]).await;
    let error = client(&server.uri()).submit(&question()).await.unwrap_err();
    assert!(matches!(error, Error::Refused(problem) if problem.code == "validation-failed"));
    assert_eq!(tries(&server), 1);
    let server = service(&[Say::Unsigned(422, refusal), Say::Signed(201, accepted())]).await;
    client(&server.uri()).submit(&question()).await.unwrap();
}

#[tokio::test]
async fn what_is_retryable_is_sent_again_when_it_may_be() {
    let mut later = problem(503, "unavailable", true);
    later["retry_after_ms"] = json!(700);
    let server = service(&[Say::Signed(503, later), Say::Signed(201, accepted())]).await;
    let begun = tokio::time::Instant::now();
    client(&server.uri()).submit(&question()).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(700));
}

#[tokio::test]
async fn a_token_that_is_refused_is_named_after_a_few_tries() {
    let server = service(&[Say::Unsigned(401, problem(401, "unauthenticated", false))]).await;
    let error = client(&server.uri()).submit(&question()).await.unwrap_err();
    assert!(matches!(error, Error::WrongKey(_)), "{error}");
    assert_eq!(tries(&server), 3);
}

#[tokio::test]
async fn a_delivery_that_is_not_the_latest_is_taken_again() {
    let stale = Say::Signed(409, problem(409, "stale-delivery", false));
    let state = json!({"agent_id": "a", "request_id": "019ab9a0-0000-7000-8000-000000000001",
        "delivery_id": "019ab9a0-0000-7000-8000-000000000002", "state": "acknowledged", "attempt": 2});
    let says =
        [stale.clone(), polled(&[]), polled(&[delivered(2, "approved")]), Say::Signed(200, state), stale.clone()];
    let server = service(&says).await;
    let client = client(&server.uri());
    let first = serde_json::from_value(delivered(1, "approved")).unwrap();
    assert_eq!(client.accept(&first).await.unwrap().state, DeliveryState::Acknowledged);
    let requests = server.received();
    assert_eq!(requests.len(), 4);
    assert!(requests[2].uri.query().unwrap().contains("request_id=019ab9a0-0000-7000-8000-000000000001"));
    let last: Value = serde_json::from_slice(&requests[3].body).unwrap();
    assert_eq!(last, json!({"delivery_id": "019ab9a0-0000-7000-8000-000000000002", "result": "accepted"}));
    // Of this delivery only: as it is.
    let refused = client.acknowledge(&first, Said::Accepted).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(problem) if problem.code == "stale-delivery"));
    assert_eq!(tries(&server), 5);
}

#[tokio::test]
async fn what_does_not_come_again_is_not_waited_for_for_ever() {
    let stale = Say::Signed(409, problem(409, "stale-delivery", false));
    let first = serde_json::from_value(delivered(1, "approved")).unwrap();
    // Another worker has it.
    let mut says = vec![stale.clone()];
    says.extend((0..100_000).map(|_| polled(&[])));
    let server = service(&says).await;
    let refused = client(&server.uri()).accept(&first).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(problem) if problem.code == "stale-delivery"));
    // A decision is final.
    let server = service(&[stale, polled(&[delivered(2, "rejected")])]).await;
    let other = client(&server.uri()).accept(&first).await.unwrap_err();
    assert!(matches!(other, Error::ContractBroken(_)), "{other}");
}

#[tokio::test]
async fn an_answer_about_another_action_is_none() {
    let mut other = accepted();
    other["action_digest"] = json!("sha256:00");
    let server = service(&[Say::Signed(201, other)]).await;
    let error = client(&server.uri()).submit(&question()).await.unwrap_err();
    assert!(matches!(error, Error::OtherAnswer { .. }), "{error}");
}

#[tokio::test]
async fn each_member_that_names_another_question_is_compared_in_every_answer() {
    let id: uuid::Uuid = ID.parse().unwrap();
    let answers = [
        ("submit", decided(&read())),
        ("request", decided(&read())),
        ("poll", json!({"agent_id": "a", "decisions": [delivered(1, "approved")]})),
        (
            "ack",
            json!({"agent_id": "a", "request_id": ID, "delivery_id": "019ab9a0-0000-7000-8000-000000000001",
            "state": "acknowledged", "attempt": 1}),
        ),
        (
            "cancel",
            json!({"agent_id": "a", "request_id": ID, "outcome": "cancelled", "cause": "agent",
            "decided_at": "2026-01-01T00:00:00Z", "decided_by": {"kind": "agent", "id": "a"}, "reason": null}),
        ),
    ];
    let members = [
        ("/agent_id", json!("b")),
        ("/request_id", json!(OTHER)),
        ("/client_request_key", json!("k2")),
        ("/delivery_id", json!(OTHER)),
        ("/decision/request_id", json!(OTHER)),
        ("/decision/client_request_key", json!("k2")),
        ("/decision/action_digest", json!("sha256:00")),
        ("/decisions/0/request_id", json!(OTHER)),
    ];
    let mut compared = 0;
    for (call, answer) in &answers {
        for (pointer, other) in &members {
            // Who looks for a request by its id alone knows no key.
            if answer.pointer(pointer).is_none() || (*call == "request" && *pointer == "/client_request_key") {
                continue;
            }
            let mut swapped = answer.clone();
            *swapped.pointer_mut(pointer).unwrap() = other.clone();
            let server = service(&[Say::Signed(200, swapped)]).await;
            let client = patient_client(&server.uri(), Duration::ZERO);
            let what = format!("{call} {pointer}");
            let delivery = serde_json::from_value(delivered(1, "approved")).unwrap();
            match *call {
                "submit" => is_about_another_question(&what, client.submit(&question()).await),
                "request" => is_about_another_question(&what, client.request(id).await),
                "poll" => is_about_another_question(&what, client.poll(Duration::ZERO, 1, &[id]).await),
                "ack" => is_about_another_question(&what, client.acknowledge(&delivery, Said::Accepted).await),
                _ => is_about_another_question(&what, client.cancel(id, None).await),
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 18);
    // A refusal names the path that it is about, below whatever a proxy puts before it.
    let mut refusal = problem(409, "conflict", false);
    for (instance, counts) in [
        (format!("/v1/agents/a/requests/{OTHER}/cancel"), false),
        (format!("/v1/agents/a/requests/{ID}"), false),
        (format!("/relay/v1/agents/a/requests/{ID}/cancel"), true),
    ] {
        refusal["instance"] = json!(instance);
        let server = service(&[Say::Signed(409, refusal.clone())]).await;
        let refused = patient_client(&server.uri(), Duration::ZERO).cancel(id, None).await;
        if counts {
            assert!(matches!(refused, Err(Error::Refused(_))), "{instance}: {refused:?}");
        } else {
            is_about_another_question(&instance, refused);
        }
    }
}

#[tokio::test]
async fn clocks_may_differ_by_30_seconds_and_beyond_the_error_names_the_clock() {
    for ahead in [-89, -29, -8, 8, 29] {
        let server = service(&[Say::SignedAhead(ahead, 201, accepted())]).await;
        client(&server.uri()).submit(&question()).await.unwrap();
        assert_eq!(tries(&server), 1, "{ahead} s");
    }
    let server = service(&[Say::SignedAhead(45, 201, accepted())]).await;
    let error = client(&server.uri()).submit(&question()).await.unwrap_err();
    assert!(matches!(error, Error::WrongClock { ahead_seconds: -46..=-44 }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("clock") && said.contains(" s behind the service's"), "{said}");
    assert_eq!(tries(&server), 3);
}

#[tokio::test]
async fn a_question_that_was_answered_and_acknowledged_before_is_not_waited_for_for_ever() {
    // The duplicate's answer leases the decision: no other call.
    let server = service(&[Say::Signed(200, decided(&delivered(2, "approved")))]).await;
    let agent = client(&server.uri());
    let asked = agent.submit(&question()).await.unwrap();
    let answer = agent.answer(&asked).await.unwrap();
    assert!(answer.permits(&question().action));
    assert_eq!(tries(&server), 1);

    // It does not: nobody hands it out any more, and what is only read permits nothing.
    let says = [polled(&[]), Say::Signed(200, decided(&read()))];
    let server = service_in_turns(&says).await;
    let asked = serde_json::from_value(decided(&read())).unwrap();
    let answer = client(&server.uri()).answer(&asked).await.unwrap();
    assert_eq!((answer.delivery_id, answer.permits(&question().action)), (None, false));
}

#[tokio::test]
async fn nobody_waits_past_the_deadline_and_the_sweep() {
    // Its deadline was extended meanwhile, and is over as well.
    let mut extended = accepted();
    extended["respond_by"] = json!("2026-01-01T05:00:00Z");
    let server = service_in_turns(&[polled(&[]), Say::Signed(200, extended)]).await;
    let asked = serde_json::from_value(accepted()).unwrap();
    let error = client(&server.uri()).answer(&asked).await.unwrap_err();
    let is_named = matches!(&error, Error::Undecided { respond_by, .. } if respond_by.to_rfc3339().contains("T05:00"));
    assert!(is_named, "{error}");
    assert_eq!(tries(&server), 2);
}

#[tokio::test]
async fn what_later_versions_say_is_no_approval_and_no_error() {
    let mut later = delivered(1, "escalated_to_the_board");
    later["cause"] = json!("board");
    let server = service(&[polled(&[later])]).await;
    let decision = client(&server.uri()).poll(Duration::ZERO, 1, &[]).await.unwrap().pop().unwrap();
    assert_eq!((decision.outcome, decision.permits(&question().action)), (relaytrace_client::Outcome::Unknown, false));
}

#[tokio::test]
async fn what_cannot_be_used_or_reached_says_so() {
    assert!(Credentials::new("a", "k", "no key", "").is_err());
    assert!(Credentials::new("a", "k", PRIVATE_KEY, "no base64!").is_err());
    let credentials = Credentials::new("a", "k", PRIVATE_KEY, "").unwrap();
    assert!(matches!(Client::new("relay.example", credentials), Err(Error::Configuration(_))));
    let error = client("http://127.0.0.1:9").submit(&question()).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn an_approval_of_something_else_is_not_used() {
    let edited = |action: Value, digest: Value| {
        let mut decision = read();
        decision["requested_action_digest"] = decision["action_digest"].clone();
        (decision["edited"], decision["action"], decision["action_digest"]) = (json!(true), action, digest);
        Say::Signed(200, decided(&decision))
    };
    let other = Action::new("refund.create", json!({"amount": "9.00"}));
    let another_type = Action::new("account.close", json!({"amount": "12.40"}));
    let unsaid = edited(Value::Null, json!(other.digest().unwrap()));
    let mismatched = edited(json!(other), json!(question().action.digest().unwrap()));
    let of_another_type = edited(json!(another_type), json!(another_type.digest().unwrap()));
    for says in [unsaid, mismatched, of_another_type] {
        let server = service(&[says]).await;
        let error = client(&server.uri()).ask(&question(), None).await.unwrap_err();
        assert!(matches!(error, Error::OtherAnswer { .. }), "{error}");
        assert_eq!(tries(&server), 1, "it is not consumed");
    }
}

#[tokio::test]
async fn a_use_that_is_answered_for_another_action_or_not_answered_is_none() {
    let consumed = |digest: &str| {
        json!({"agent_id": "a", "request_id": ID, "action_digest": digest, "consumed_at": "2026-01-01T00:00:00Z",
            "consumed_by": "k1", "repeated": false})
    };
    let approved = Say::Signed(200, decided(&read()));
    let own = question().action.digest().unwrap();
    for says in [Say::Signed(200, consumed("sha256:00")), Say::Unsigned(200, consumed(&own))] {
        let server = service(&[approved.clone(), says]).await;
        let error = patient_client(&server.uri(), Duration::ZERO).ask(&question(), None).await.unwrap_err();
        assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
    }
    // An answer that was lost: the same attempt is sent again, under its own key.
    let says = [approved, Say::Unsigned(200, consumed(&own)), Say::Signed(200, consumed(&own))];
    let server = service(&says).await;
    client(&server.uri()).ask(&question(), None).await.unwrap();
    let requests = server.received();
    assert_eq!((requests.len(), &requests[1].body), (3, &requests[2].body));
}

#[tokio::test]
async fn what_an_administrator_holds_is_said_so() {
    let held = Say::Signed(409, problem(409, "frozen", true));
    let server = service(&[Say::Signed(200, decided(&read())), held]).await;
    let error = patient_client(&server.uri(), Duration::ZERO).ask(&question(), None).await.unwrap_err();
    let is_held = matches!(&error, Error::NotApproved(it) if it.why == relaytrace_client::Why::Frozen);
    assert!(is_held, "{error:?}");
}

#[tokio::test]
async fn settings_name_what_is_missing_or_wrong() {
    let token = format!("rtk_of_a_{}", "_".repeat(43));
    let all = [
        ("RELAYTRACE_URL", "http://127.0.0.1:9"),
        ("RELAYTRACE_AGENT_ID", "a"),
        ("RELAYTRACE_TOKEN", &token),
        ("RELAYTRACE_RESPONSE_SECRET", &BASE64_STANDARD.encode(SECRET)),
    ];
    let read = |left_out: &str, more: &[(&str, &str)]| {
        let known: std::collections::HashMap<String, String> = all
            .iter()
            .filter(|(name, _)| *name != left_out)
            .chain(more)
            .map(|(n, v)| (n.to_string(), v.to_string()))
            .collect();
        relaytrace_client::Settings::from_variables(|name| known.get(name).cloned())
    };
    assert_eq!(read("", &[]).unwrap().credentials.key_id(), "of_a");
    for (name, _) in all {
        let fault = read(name, &[]).unwrap_err().to_string();
        assert!(fault.contains(name), "{name}: {fault}");
    }
    let wrong = [
        ("RELAYTRACE_TOKEN", "rtk_k_short", "43 characters"),
        ("RELAYTRACE_PRIVATE_KEY", PRIVATE_KEY, "both"),
        ("RELAYTRACE_RESPONSE_SECRET", "no base64!", "base64"),
    ];
    for (name, value, said) in wrong {
        let fault = read(name, &[(name, value)]).unwrap_err().to_string();
        assert!(fault.contains(said), "{name}: {fault}");
    }
    let signing = [("RELAYTRACE_KEY_ID", "k1"), ("RELAYTRACE_PRIVATE_KEY", &PRIVATE_KEY.replace('\n', "\\n"))];
    assert_eq!(read("RELAYTRACE_TOKEN", &signing).unwrap().credentials.key_id(), "k1");
}
