//! Ask, wait, use once and report, against the functions themselves over a database.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as the tests do")]

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use relaytrace_client::{
    Action, AnswerKind, Client, Credentials, Ended, Envelope, Error, Lost, NotApproved, OnBehalfOf, Outcome, Patience,
    Priority, RequestState, Why,
};
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestAgent, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

/// The functions on a port, an agent of theirs, and an operator.
struct Stack {
    app: Arc<TestApp>,
    agent: TestAgent,
    url: String,
}

impl Stack {
    async fn start(owner: &PgPool) -> Self {
        let app = TestApp::new(owner, ingest::router().merge(decide::router()).merge(poll::router()));
        let agent = app.agent("a").await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = app.router.clone();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { app: Arc::new(app), agent, url }
    }

    fn client(&self) -> Client {
        self.client_with(&self.agent.key_id, &self.app.response_secret(&self.agent))
    }

    fn client_with(&self, key_id: &str, secret: &str) -> Client {
        let credentials = Credentials::new("a", key_id, &self.agent.key.private_pem(), secret).unwrap();
        Client::with_patience(&self.url, credentials, patience()).unwrap()
    }

    /// An operator's answer, given as soon as the question is there.
    fn decide(&self, body: Value) -> impl FnMut(&RequestState) + use<> {
        let app = self.app.clone();
        move |asked| {
            let (app, body, id) = (app.clone(), body.clone(), asked.request_id);
            tokio::spawn(async move {
                let path = format!("/v1/hitl/requests/{id}/decision");
                let answer = app.post(&path, &app.operator("maria"), &body).await;
                assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.bytes));
            });
        }
    }

    async fn execution(&self, asked: &RequestState) -> String {
        self.client().request(asked.request_id).await.unwrap().execution
    }
}

fn patience() -> Patience {
    Patience { in_all: Duration::from_secs(5), first_contact: Duration::from_secs(5), ..Patience::default() }
}

fn refund() -> Action {
    Action::new("refund.create", json!({"amount": "12.40"}))
}

fn question() -> Envelope {
    Envelope::new("k", Priority::P2, "Refund", refund())
}

fn approve() -> Value {
    json!({"decision": "approve", "action_digest": refund().digest().unwrap()})
}

#[track_caller]
fn not_approved<T: std::fmt::Debug>(outcome: Result<T, Error>) -> NotApproved {
    match outcome {
        Err(Error::NotApproved(not_approved)) => *not_approved,
        other => panic!("{other:?}"),
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_approval_is_used_once_and_its_end_is_on_record(owner: PgPool) {
    let stack = Stack::start(&owner).await;
    let client = stack.client();
    let permit = client.ask_while(&question(), None, stack.decide(approve()), pending()).await.unwrap();
    assert_eq!((permit.action.clone(), permit.decision.edited), (refund(), false));
    assert!(permit.decision.permit.is_some());
    assert_eq!(stack.execution(&permit.request).await, "consumed");
    let asked = permit.request.clone();
    let amount = permit.run(async |action| Ok::<_, Error>(action.arguments["amount"].clone())).await.unwrap();
    assert_eq!(amount, "12.40");
    assert_eq!(stack.execution(&asked).await, "succeeded");
    // The same question again, by this process or another: used is used, and nothing is asked anew.
    for again in [client, stack.client()] {
        let used = not_approved(again.ask(&question(), None).await);
        assert_eq!((used.why, used.request_id), (Why::AlreadyUsed, asked.request_id));
    }
    assert_eq!(stack.client().find("k").await.unwrap().unwrap().request_id, asked.request_id);
    assert!(stack.client().find("never-asked").await.unwrap().is_none());
    let pending = stack.app.get("/v1/hitl/requests", &stack.app.operator("maria")).await.json();
    assert_eq!(pending["items"], json!([]));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_several_that_wait_each_sees_the_decision_as_it_comes(owner: PgPool) {
    let stack = Stack::start(&owner).await;
    let asked = stack.client().submit(&question()).await.unwrap();
    let waiting = [(); 3].map(|()| {
        let (client, asked) = (stack.client(), asked.clone());
        tokio::spawn(async move { client.wait(&asked, None).await.unwrap().outcome })
    });
    stack.decide(approve())(&asked);
    // A poll that is left to its end takes 50 s.
    let all = async {
        for one in waiting {
            assert_eq!(one.await.unwrap(), Outcome::Approved);
        }
    };
    tokio::time::timeout(Duration::from_secs(25), all).await.unwrap();
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_run_that_fails_is_reported_as_failed_and_another_end_is_refused(owner: PgPool) {
    let stack = Stack::start(&owner).await;
    let permit = stack.client().ask_while(&question(), None, stack.decide(approve()), pending()).await.unwrap();
    let asked = permit.request.clone();
    permit.clone().run(async |_| Err::<(), _>("the bank is closed")).await.unwrap_err();
    assert_eq!(stack.execution(&asked).await, "failed");
    assert!(permit.report(Ended::Failed, Some("the bank is closed")).await.unwrap().repeated);
    let other = permit.report(Ended::Succeeded, None).await.unwrap_err();
    assert!(matches!(other, Error::Refused(problem) if problem.code == "outcome-conflict"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn edited_arguments_are_what_runs(owner: PgPool) {
    let stack = Stack::start(&owner).await;
    let smaller = Action::new("refund.create", json!({"amount": "10.00"}));
    let schema = json!({"type": "object", "required": ["amount"]});
    let asked = Envelope {
        answers: vec![AnswerKind::Approve, AnswerKind::Reject, AnswerKind::Edit],
        edit_schema: Some(schema),
        group: Some("turn-1".into()),
        permit_seconds: Some(60),
        ..question()
    };
    let edit =
        json!({"decision": "edit", "arguments": smaller.arguments, "edited_action_digest": smaller.digest().unwrap()});
    let permit = stack.client().ask_while(&asked, None, stack.decide(edit), pending()).await.unwrap();
    assert_eq!((permit.action, permit.decision.edited), (smaller.clone(), true));
    // What it holds for is the edited action and no other.
    let state = stack.client().request(permit.request.request_id).await.unwrap();
    let decision = state.decision.clone().unwrap();
    assert_eq!(decision.approved_action(&refund()).unwrap(), smaller);
    assert!(matches!(decision.approved_action(&smaller), Err(Error::OtherAnswer { .. })));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn every_other_answer_has_a_reason_of_its_own(owner: PgPool) {
    let stack = Stack::start(&owner).await;
    let client = stack.client();
    let ask = async |key: &str, answer: Value| {
        let asked = Envelope { answers: vec![AnswerKind::Approve, AnswerKind::Respond], ..question() };
        let asked = Envelope { client_request_key: key.into(), ..asked };
        not_approved(client.ask_while(&asked, None, stack.decide(answer), pending()).await).why
    };
    let rejected = ask("r", json!({"decision": "reject", "reason": "Refunded yesterday."})).await;
    assert!(matches!(&rejected, Why::Rejected { by, reason: Some(_) } if by.id == "maria"), "{rejected:?}");
    assert_eq!(ask("v", json!({"decision": "respond", "response": "42"})).await, Why::Responded(json!("42")));

    let waiting = not_approved(client.ask(&question(), Some(Duration::ZERO)).await);
    assert!(matches!(waiting.why, Why::StillPending { .. }));
    client.cancel(waiting.request_id, Some("Changed my mind.")).await.unwrap();
    let cancelled = not_approved(client.ask(&question(), None).await);
    assert_eq!(cancelled.why, Why::Cancelled { reason: Some("Changed my mind.".into()) });
    assert_eq!(cancelled.request_id, waiting.request_id);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn who_stops_asking_takes_the_question_back(owner: PgPool) {
    let stack = Stack::start(&owner).await;
    let stopped = not_approved(stack.client().ask_while(&question(), None, |_| {}, async {}).await);
    assert!(matches!(stopped.why, Why::Cancelled { .. }), "{stopped}");
    let state = stack.client().request(stopped.request_id).await.unwrap();
    assert_eq!(state.decision.unwrap().outcome, Outcome::Cancelled);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_approval_that_expired_unused_is_asked_for_anew(owner: PgPool) {
    let stack = Stack::start(&owner).await;
    let client = stack.client();
    let asked = Envelope { permit_seconds: Some(10), ..question() };
    let first = client.submit(&asked).await.unwrap();
    stack.decide(approve())(&first);
    client.wait(&first, None).await.unwrap();
    stack.app.advance(11.0);
    let decide = |request: &RequestState| {
        if request.decision.is_none() {
            stack.decide(approve())(request);
        }
    };
    let permit = client.ask_while(&asked, None, decide, pending()).await.unwrap();
    assert_eq!(permit.request.client_request_key, "k:2");
    assert_ne!(permit.request.request_id, first.request_id);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_person_for_whom_it_asks_may_not_approve(owner: PgPool) {
    let stack = Stack::start(&owner).await;
    let on_behalf_of = Some(OnBehalfOf { id: "Maria".into(), name: None });
    let asked = stack.client().submit(&Envelope { on_behalf_of, ..question() }).await.unwrap();
    let path = format!("/v1/hitl/requests/{}/decision", asked.request_id);
    let answer = stack.app.post(&path, &stack.app.operator("maria"), &approve()).await;
    assert_eq!(answer.code(), "own-request");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn wrong_secrets_keys_and_addresses_are_told_apart_and_never_approve(owner: PgPool) {
    let stack = Stack::start(&owner).await;
    let why = async |client: Client| match client.ask(&question(), None).await {
        Err(Error::NoAnswer { why, .. }) => why,
        other => panic!("{other:?}"),
    };
    let other_secret = stack.client_with(&stack.agent.key_id, &format!("{}=", "A".repeat(43)));
    assert_eq!(why(other_secret).await, Lost::WrongSecret);
    let unknown = stack.client_with("of-another-deployment", &stack.app.response_secret(&stack.agent));
    assert!(matches!(unknown.ask(&question(), None).await, Err(Error::WrongKey(_))));

    let at = |url: &str| {
        let secret = stack.app.response_secret(&stack.agent);
        let credentials = Credentials::new("a", &stack.agent.key_id, &stack.agent.key.private_pem(), &secret).unwrap();
        let patience = Patience { first_contact: Duration::from_secs(1), ..patience() };
        Client::with_patience(url, credentials, patience).unwrap()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other_site = format!("http://{}", listener.local_addr().unwrap());
    let pages = axum::Router::new().fallback(|| async { axum::response::Html("Welcome") });
    tokio::spawn(async move { axum::serve(listener, pages).await });
    assert_eq!(why(at(&other_site)).await, Lost::WrongUrl);
    assert_eq!(why(at("http://127.0.0.1:9")).await, Lost::Unreachable);
}
