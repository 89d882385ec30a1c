//! Submissions that wait for one another: written together, answered each by itself.

use std::net::SocketAddr;

use futures_util::future::join_all;
use relaytrace_service::runtime;
use relaytrace_store::{MIGRATOR, Scope, WRITERS};
use relaytrace_testing::{Answer, TestAgent, TestApp, until, until_blocked};
use serde_json::Value;
use sqlx::{PgPool, Postgres, Transaction};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;

/// Keys of the agent `blocker` that somebody else is about to take: submissions of these keep every writer waiting.
async fn block(owner: &PgPool) -> Transaction<'static, Postgres> {
    let mut blocking = owner.begin().await.expect("a transaction");
    let keys = "INSERT INTO request_dedupe
        SELECT 'blocker', 'blocked-' || n, '', gen_random_uuid(), now() FROM generate_series(1, $1) AS n";
    let writers = i32::try_from(WRITERS).expect("few");
    sqlx::query(keys).bind(writers).execute(&mut *blocking).await.expect("keys");
    blocking
}

/// Sends the envelopes while every writer waits, so that they are written together; and how many statements that took.
async fn submit_together(app: &TestApp, submissions: &[(&TestAgent, Value)]) -> (Vec<Answer>, i64) {
    let blocker = app.agent("blocker").await;
    app.submit(&blocker, "first-use").await;
    let reset = "SELECT pg_stat_statements_reset(0, oid, 0) FROM pg_database WHERE datname = current_database()";
    sqlx::query(reset).execute(&app.owner).await.expect("a reset");
    let blocking = block(&app.owner).await;
    let blocked = async {
        let one_by_one = (1..=WRITERS).map(|number| {
            let (app, blocker) = (app, &blocker);
            async move {
                until_blocked(&app.owner, number - 1).await;
                app.submit(blocker, &format!("blocked-{number}")).await
            }
        });
        join_all(one_by_one).await
    };
    let others = async {
        until_blocked(&app.owner, WRITERS).await;
        let sent = submissions
            .iter()
            .map(async |(agent, envelope)| app.post("/v1/hitl/requests", &agent.token(), envelope).await);
        join_all(sent).await
    };
    let release = async {
        until(async || app.state.store.waiting() == WRITERS + submissions.len()).await;
        blocking.rollback().await.expect("released");
    };
    let (_, answers, ()) = tokio::join!(blocked, others, release);
    let statements = "SELECT COALESCE(sum(calls), 0)::bigint FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND query LIKE '%relaytrace: submit %'";
    let statements: i64 = sqlx::query_scalar(statements).fetch_one(&app.owner).await.expect("a count");
    (answers, statements - i64::try_from(WRITERS).expect("few"))
}

async fn app(owner: &PgPool) -> TestApp {
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(owner).await.expect("the extension");
    TestApp::new(owner, ingest::router())
}

async fn count(owner: &PgPool, table: &str) -> i64 {
    let count = sqlx::query_scalar(sqlx::AssertSqlSafe(format!("SELECT count(*) FROM {table}")));
    count.fetch_one(owner).await.expect("a count")
}

fn statuses(answers: &[Answer]) -> Vec<u16> {
    answers.iter().map(|answer| answer.status.as_u16()).collect()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_waits_is_written_together_and_answered_each_by_itself(owner: PgPool) {
    let app = app(&owner).await;
    let (agent, revoked) = (app.agent("a").await, app.agent("b").await);
    let standing = app.submit(&agent, "standing").await;
    app.submit(&revoked, "first-use").await;
    let (agent_id, key_id) = (revoked.agent_id.parse().unwrap(), revoked.key_id.parse().unwrap());
    assert!(app.state.store.revoke_key(&Scope::of_program("test"), &agent_id, &key_id).await.unwrap());
    let (mut other, mut late) = (agent.envelope("new-1"), agent.envelope("late"));
    other["title"] = "another".into();
    late["respond_by"] = "2020-01-01T00:00:00Z".into();
    let submissions = [
        (&agent, agent.envelope("new-1")),
        (&revoked, revoked.envelope("new-1")),
        (&agent, agent.envelope("new-2")),
        (&agent, agent.envelope("new-1")),
        (&agent, other),
        (&agent, late),
        (&agent, agent.envelope("standing")),
    ];
    let (answers, statements) = submit_together(&app, &submissions).await;
    assert_eq!(statuses(&answers), [201, 401, 201, 200, 422, 422, 200]);
    assert_eq!(statements, 1 + 2, "all at once, then by itself what has the key of another");
    let codes = [1, 4, 5].map(|index: usize| answers[index].code());
    assert_eq!(codes, ["unauthenticated", "idempotency-key-reused", "validation-failed"]);
    assert_eq!(answers[0].json()["request_id"], answers[3].json()["request_id"]);
    assert_eq!(answers[6].json()["request_id"], standing.as_str());
    for answer in &answers {
        assert!(answer.headers.contains_key("signature") || answer.status == 401);
    }
    // Two of "first-use", those that blocked, the standing one, and the new ones.
    let stored = i64::try_from(WRITERS).expect("few") + 2 + 1 + 2;
    for table in ["hitl_requests", "request_envelopes", "request_dedupe", "approval_chain", "outbox"] {
        assert_eq!(count(&owner, table).await, stored, "{table}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_the_database_refuses_fails_alone(owner: PgPool) {
    let app = app(&owner).await;
    let (agent, capped) = (app.agent("a").await, app.agent("c").await);
    app.submit(&agent, "first-use").await;
    app.submit(&capped, "first-use").await;
    sqlx::query("UPDATE agent_caps SET max_pending = 2 WHERE agent_id = 'c'").execute(&owner).await.expect("a cap");
    let poison = "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'poisoned' USING ERRCODE = 'data_exception'; END $$;
        CREATE TRIGGER poison BEFORE INSERT ON hitl_requests FOR EACH ROW WHEN (new.title = 'poison')
            EXECUTE FUNCTION poison()";
    sqlx::raw_sql(poison).execute(&owner).await.expect("a trigger");
    let mut poisoned = agent.envelope("poisoned");
    poisoned["title"] = "poison".into();
    let mut submissions = vec![(&agent, poisoned)];
    submissions.extend((0..3).map(|number| (&agent, agent.envelope(&format!("k{number}")))));
    submissions.extend((0..5).map(|number| (&capped, capped.envelope(&format!("k{number}")))));
    let (answers, statements) = submit_together(&app, &submissions).await;
    let statuses = statuses(&answers);
    assert_eq!(statuses[..4], [500, 201, 201, 201]);
    let within_cap = statuses[4..].iter().filter(|status| **status == 201).count();
    let over_cap = statuses[4..].iter().filter(|status| **status == 429).count();
    assert_eq!((within_cap, over_cap), (2, 3));
    assert_eq!(statements, 5, "each that was written had a statement of its own");
    let pending: i32 = sqlx::query_scalar("SELECT pending FROM agent_caps WHERE agent_id = 'c'")
        .fetch_one(&owner)
        .await
        .expect("the counter");
    assert_eq!(pending, 2);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn stopping_writes_what_waits(owner: PgPool) {
    let app = app(&owner).await;
    let (agent, blocker) = (app.agent("a").await, app.agent("blocker").await);
    app.submit(&agent, "first-use").await;
    app.submit(&blocker, "first-use").await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address");
    let (stop, stopped) = oneshot::channel();
    let (router, state) = (app.router.clone(), app.state.clone());
    let server = tokio::spawn(async move {
        runtime::serve(router, &state, free, async { drop(stopped.await) }).await.expect("served");
    });
    until(async || tokio::net::TcpStream::connect(free).await.is_ok()).await;
    let blocking = block(&owner).await;
    let mut calls = Vec::new();
    for number in 1..=WRITERS {
        calls.push(tokio::spawn(post(free, blocker.token(), blocker.envelope(&format!("blocked-{number}")))));
        until_blocked(&owner, number).await;
    }
    calls.extend((0..10).map(|n| tokio::spawn(post(free, agent.token(), agent.envelope(&format!("k{n}"))))));
    until(async || app.state.store.waiting() == WRITERS + 10).await;
    stop.send(()).expect("it listens");
    until(async || app.state.events.is_stopping()).await;
    blocking.rollback().await.expect("released");
    for call in calls {
        let answer = call.await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    }
    server.await.expect("it stopped");
}

/// One call over a connection of its own.
async fn post(to: SocketAddr, token: String, envelope: Value) -> String {
    let body = envelope.to_string();
    let request = format!(
        "POST /v1/hitl/requests HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
        content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut connection = tokio::net::TcpStream::connect(to).await.expect("a connection");
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("an answer");
    answer
}
