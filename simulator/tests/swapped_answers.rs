//! A proxy that swaps the answers to two questions of the same agent about the same action: each is signed by the service
//! over the nonce of the call, and none is taken.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use relaytrace_client::{
    Action, Client, Credentials, Decision, DeliveryState, Envelope, Error, Outcome, Patience, Priority, RequestState,
};
use serde_json::{Value, json};
use support::Service;
use support::proxy::{self, Changes};

/// Seconds in which a swap is certain; a client that were right would go on for longer.
const PATIENCE: Patience = Patience {
    per_try: Duration::from_secs(5),
    in_all: Duration::from_secs(1),
    first_contact: Duration::from_secs(1),
    until_passed_over: Duration::from_secs(5),
};

fn described(service: &Service) -> Value {
    serde_json::from_str(&std::fs::read_to_string(service.description()).unwrap()).unwrap()
}

fn client(service: &Service, address: SocketAddr) -> Client {
    let agent = &described(service)["agent"];
    let text = |member: &str| agent[member].as_str().unwrap();
    let credentials =
        Credentials::new(text("agent_id"), text("key_id"), text("private_key_pem"), text("response_secret")).unwrap();
    Client::with_patience(&format!("http://{address}"), credentials, PATIENCE).unwrap()
}

fn question(key: &str) -> Envelope {
    Envelope::new(key, Priority::P2, "Refund", Action::new("refund.create", json!({"amount": "12.40"})))
}

async fn decide(service: &Service, asked: &RequestState, decision: Value) {
    let token = described(service)["operators"][0]["token"].as_str().unwrap().to_owned();
    let url = format!("http://{}/v1/hitl/requests/{}/decision", service.address, asked.request_id);
    let answered = reqwest::Client::new().post(url).bearer_auth(token).json(&decision).send().await.unwrap();
    assert_eq!(answered.status(), 201);
}

/// Swaps every mention of one word with the other, in paths and bodies of requests.
fn swapping(service: &Service, pairs: Vec<(String, String)>) -> SocketAddr {
    let swap = move |text: String| {
        pairs
            .iter()
            .fold(text, |text, (one, other)| text.replace(one, "\u{1}").replace(other, one).replace('\u{1}', other))
    };
    let reroute = Box::new(move |path: String, body: Bytes| {
        (swap(path), Bytes::from(swap(String::from_utf8(body.to_vec()).unwrap())))
    });
    proxy::start(service.address, Changes { reroute, ..Changes::default() })
}

/// The call came to no answer, and the client says why.
fn is_refused<T: std::fmt::Debug>(what: &str, outcome: Result<T, Error>) {
    match outcome {
        Err(Error::NoAnswer { last, .. }) if last.contains("another question") => {}
        other => panic!("{what} took the answer to another question: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_answer_to_another_question_is_none() {
    let service = tokio::task::spawn_blocking(Service::start).await.unwrap();
    let direct = client(&service, service.address);
    let rejected = direct.submit(&question("swapped-1")).await.unwrap();
    let approved = direct.submit(&question("swapped-2")).await.unwrap();
    let pending = direct.submit(&question("swapped-3")).await.unwrap();
    assert_eq!(rejected.action_digest, approved.action_digest);
    decide(&service, &rejected, json!({"decision": "reject", "reason": "not this one"})).await;
    decide(&service, &approved, json!({"decision": "approve"})).await;

    let ids = (rejected.request_id.to_string(), approved.request_id.to_string());
    let swapped = client(&service, swapping(&service, vec![ids.clone(), ("swapped-1".into(), "swapped-2".into())]));
    is_refused("a submission", swapped.submit(&question("swapped-1")).await);
    is_refused("a look", swapped.request(rejected.request_id).await);
    match swapped.poll(Duration::ZERO, 1, &[rejected.request_id]).await {
        // Sent again, it found the other decision leased.
        Ok(decisions) => assert_eq!(decisions.len(), 0),
        refused => is_refused("a poll", refused),
    }
    let delivered = own_delivery(&direct, &rejected).await;
    assert_eq!(delivered.outcome, Outcome::Rejected);
    is_refused("an acknowledgement", swapped.accept(&delivered).await);
    is_refused("a refused acknowledgement", swapped.fail(&delivered, "no", "no").await);

    // The request of the path alone: the answers are problem documents.
    let ids = (pending.request_id.to_string(), approved.request_id.to_string());
    let swapped = client(&service, swapping(&service, vec![ids]));
    is_refused("a refused cancellation", swapped.cancel(pending.request_id, None).await);
    // And a cancellation that is done, of the wrong one.
    is_refused("a cancellation", swapped.cancel(approved.request_id, None).await);
    assert_eq!(direct.request(pending.request_id).await.unwrap().decision.unwrap().outcome, Outcome::Cancelled);

    // Without the proxy in between all is well.
    assert_eq!(
        direct.accept(&own_delivery(&direct, &rejected).await).await.unwrap().state,
        DeliveryState::Acknowledged
    );
}

/// The decision on this request, once the leases that a proxy has used up are over.
async fn own_delivery(client: &Client, asked: &RequestState) -> Decision {
    loop {
        if let Some(decision) = client.poll(Duration::from_secs(5), 1, &[asked.request_id]).await.unwrap().pop() {
            return decision;
        }
    }
}
