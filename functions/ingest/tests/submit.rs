//! Submitting and cancelling against a real database.

use futures_util::future::join_all;
use relaytrace_store::{MIGRATOR, Scope};
use relaytrace_testing::{TestAgent, TestApp};
use serde_json::json;
use sqlx::PgPool;

async fn count(owner: &PgPool, table: &str) -> i64 {
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")));
    count.fetch_one(owner).await.expect("a count")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_submission_stores_everything_in_one_transaction(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    app.submit(&agent, "k").await;
    for table in ["hitl_requests", "request_envelopes", "request_dedupe", "approval_chain", "outbox"] {
        assert_eq!(count(&app.owner, table).await, 1, "{table}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hundred_identical_submissions_at_once_make_one_request(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    let (token, envelope) = (agent.token(), agent.envelope("k"));
    let answers = join_all((0..100).map(|_| app.post("/v1/hitl/requests", &token, &envelope))).await;
    let created = answers.iter().filter(|answer| answer.status == 201).count();
    let repeated = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!((created, repeated), (1, 99));
    assert!(answers.iter().all(|answer| answer.json()["request_id"] == answers[0].json()["request_id"]));
    assert_eq!(count(&app.owner, "hitl_requests").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_hundred_other_envelopes_under_a_used_key_are_refused_each(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    let id = app.submit(&agent, "k").await;
    let token = agent.token();
    let answers = join_all((0..100).map(|number| {
        let mut other = agent.envelope("k");
        other["title"] = format!("another {number}").into();
        let (app, token) = (&app, &token);
        async move { app.post("/v1/hitl/requests", token, &other).await }
    }))
    .await;
    assert!(answers.iter().all(|answer| answer.status == 422 && answer.code() == "idempotency-key-reused"));
    let again = app.post("/v1/hitl/requests", &token, &agent.envelope("k")).await.json();
    assert_eq!((again["request_id"].as_str(), again["duplicate"].as_bool()), (Some(id.as_str()), Some(true)));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_is_free_after_seven_days_to_the_second(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    let first = app.submit(&agent, "k").await;
    let cancel = format!("/v1/agents/a/requests/{first}/cancel");
    assert_eq!(app.post(&cancel, &agent.token(), &json!({})).await.status, 200);
    app.advance(7.0 * DAY - 1.0);
    assert!(key_stands_for(&app, &agent, &first).await);
    app.advance(2.0);
    assert_ne!(app.submit(&agent, "k").await, first);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_late_retry_of_the_same_bytes_gets_its_answer_though_respond_by_has_passed(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    let mut envelope = agent.envelope("k");
    envelope["respond_by"] =
        relaytrace_domain::Timestamp(app.now() + std::time::Duration::from_mins(1)).to_string().into();
    assert_eq!(app.post("/v1/hitl/requests", &agent.token(), &envelope).await.status, 201);
    app.advance(120.0);
    assert_eq!(app.post("/v1/hitl/requests", &agent.token(), &envelope).await.status, 200);
    envelope["client_request_key"] = "another".into();
    let late = app.post("/v1/hitl/requests", &agent.token(), &envelope).await;
    assert_eq!((late.status.as_u16(), late.json()["errors"][0]["pointer"].as_str()), (422, Some("/respond_by")));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_revoked_key_is_refused_by_the_statement_itself(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    // The token is cached as verified; the next statement still asks.
    app.submit(&agent, "first").await;
    let (agent_id, key_id) = (agent.agent_id.parse().unwrap(), agent.key_id.parse().unwrap());
    assert!(app.state.store.revoke_key(&Scope::of_program("test"), &agent_id, &key_id).await.unwrap());
    for key in ["first", "second"] {
        let answer = app.post("/v1/hitl/requests", &agent.token(), &agent.envelope(key)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "unauthenticated"));
    }
    assert_eq!(count(&app.owner, "hitl_requests").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn refused_submissions_store_nothing(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    let foreign = app.agent("b").await;
    let mut broken = agent.envelope("k");
    broken["surplus"] = 1.into();
    let token = agent.token();
    assert_eq!(app.post("/v1/hitl/requests", &token, &broken).await.status, 422);
    assert_eq!(app.post("/v1/hitl/requests", &token, &foreign.envelope("k")).await.status, 403);
    assert_eq!(app.post("/v1/hitl/requests", "no.such.token", &agent.envelope("k")).await.status, 401);
    for table in ["hitl_requests", "request_dedupe", "outbox"] {
        assert_eq!(count(&app.owner, table).await, 0, "{table}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_agent_cancels_once_and_only_its_own(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let (agent, other) = (app.agent("a").await, app.agent("b").await);
    let id = app.submit(&agent, "k").await;
    let body = json!({"reason": "not needed any more"});
    let foreign = app.post(&format!("/v1/agents/b/requests/{id}/cancel"), &other.token(), &body).await;
    assert_eq!(foreign.status, 404);
    let cancel = format!("/v1/agents/a/requests/{id}/cancel");
    for _ in 0..2 {
        let answer = app.post(&cancel, &agent.token(), &body).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            (answer.json()["outcome"].as_str(), answer.json()["cause"].as_str()),
            (Some("cancelled"), Some("agent"))
        );
    }
    assert_eq!(count(&app.owner, "hitl_decisions").await, 1);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn without_a_database_the_answer_is_unavailable_and_quick(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    app.submit(&agent, "k").await;
    app.state.store.close();
    let answer = app.post("/v1/hitl/requests", &agent.token(), &agent.envelope("k2")).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "unavailable"));
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.json()["retryable"].as_bool().unwrap());
    assert!(answer.headers.contains_key("signature"), "errors are signed too");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_disk_that_fails_is_unavailable_and_not_our_fault(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    // What Postgres says when it cannot sync its log.
    let fail = "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'could not fdatasync file' USING ERRCODE = 'io_error'; END $$;
        CREATE TRIGGER fail BEFORE INSERT ON outbox FOR EACH ROW EXECUTE FUNCTION fail()";
    sqlx::raw_sql(fail).execute(&owner).await.unwrap();
    let answer = app.post("/v1/hitl/requests", &agent.token(), &agent.envelope("k")).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "unavailable"));
    assert_eq!(answer.headers["retry-after"], "1");
}

const DAY: f64 = 86_400.0;

async fn key_stands_for(app: &TestApp, agent: &TestAgent, first: &str) -> bool {
    let answer = app.post("/v1/hitl/requests", &agent.token(), &agent.envelope("k")).await;
    answer.status == 200 && answer.json()["request_id"] == first
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_key_is_kept_while_its_request_is_pending_and_a_day_longer(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()));
    let agent = app.agent("a").await;
    let policy = "UPDATE timeout_policies SET respond_within_seconds = 30 * 86400";
    sqlx::query(policy).execute(&owner).await.unwrap();
    let first = app.submit(&agent, "k").await;
    app.advance(8.0 * DAY);
    assert!(key_stands_for(&app, &agent, &first).await, "pending on its eighth day");
    let body = json!({"decision": "approve"});
    let path = format!("/v1/hitl/requests/{first}/decision");
    assert_eq!(app.post(&path, &app.operator("maria"), &body).await.status, 201);
    app.advance(DAY - 1.0);
    assert!(key_stands_for(&app, &agent, &first).await, "decided less than a day ago");
    app.advance(2.0);
    assert_ne!(app.submit(&agent, "k").await, first);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_purge_moves_on_what_is_kept_and_drops_what_is_free(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    let (pending, cancelled) = (app.submit(&agent, "k").await, app.submit(&agent, "cancelled").await);
    let purge = async || app.state.store.drop_expired_dedupe(10).await.unwrap();
    let due = async || -> i64 {
        let query = "SELECT count(*) FROM request_dedupe WHERE expires_at <= $1";
        sqlx::query_scalar(query).bind(app.now()).fetch_one(&owner).await.unwrap()
    };
    app.advance(7.5 * DAY);
    let cancel = format!("/v1/agents/a/requests/{cancelled}/cancel");
    assert_eq!(app.post(&cancel, &agent.token(), &json!({})).await.status, 200);
    assert_eq!((due().await, purge().await, due().await), (2, 0, 0), "both are kept, and looked at no more today");
    assert!(key_stands_for(&app, &agent, &pending).await);
    app.advance(DAY);
    assert_eq!((purge().await, due().await), (1, 0));
    assert!(key_stands_for(&app, &agent, &pending).await);
    assert_ne!(app.submit(&agent, "cancelled").await, cancelled);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn twenty_callers_who_find_a_key_free_get_one_new_request(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("a").await;
    let first = app.submit(&agent, "k").await;
    let cancel = format!("/v1/agents/a/requests/{first}/cancel");
    assert_eq!(app.post(&cancel, &agent.token(), &json!({})).await.status, 200);
    app.advance(8.0 * DAY);
    let (token, envelope) = (agent.token(), agent.envelope("k"));
    let answers = join_all((0..20).map(|_| app.post("/v1/hitl/requests", &token, &envelope))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert!(answers.iter().all(|answer| answer.json()["request_id"] == answers[0].json()["request_id"]));
    assert_eq!(count(&app.owner, "hitl_requests").await, 2);
}
