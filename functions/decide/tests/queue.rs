//! The queue over many rows: what is counted and looked at is bounded.

use relaytrace_store::MIGRATOR;
use relaytrace_testing::{NO_NATS, TestAgent, TestApp};
use serde_json::Value;
use sqlx::PgPool;

const QUEUE: &str = "/v1/hitl/requests";

async fn app(owner: PgPool) -> (TestApp, TestAgent) {
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()));
    let agent = app.agent("a").await;
    (app, agent)
}

/// Copies of a request, `many` of them, each due a second after the one before.
async fn copy(app: &TestApp, request_id: &str, many: i32) {
    let copies = "
        WITH first AS (SELECT * FROM hitl_requests WHERE request_id = $1::uuid),
        copies AS MATERIALIZED (SELECT n, gen_random_uuid() AS request_id FROM generate_series(1, $2) n),
        requests AS (
            INSERT INTO hitl_requests SELECT copy.* FROM first, copies c,
            LATERAL jsonb_populate_record(first::hitl_requests, jsonb_build_object('request_id', c.request_id,
                'client_request_key', 'copy-' || c.n, 'respond_by', first.respond_by + c.n * interval '1 second')) copy)
        INSERT INTO request_envelopes SELECT c.request_id, e.envelope, e.resume
        FROM copies c, first JOIN request_envelopes e USING (request_id)";
    sqlx::query(copies).bind(request_id).bind(many).execute(&app.owner).await.expect("copies");
}

async fn counts(app: &TestApp) -> Value {
    app.get(&format!("{QUEUE}?limit=1"), &app.operator("maria")).await.json()["counts"].clone()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_pending_is_counted_up_to_ten_thousand_of_each_priority(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    assert_eq!(counts(&app).await, serde_json::json!({"pending": 1, "P1": 0, "P2": 1, "P3": 0}));
    copy(&app, &id, 9_998).await;
    assert_eq!(counts(&app).await, serde_json::json!({"pending": 9_999, "P1": 0, "P2": 9_999, "P3": 0}));
    copy(&app, &id, 4).await;
    // Much is counted once a second for the whole process: another process, which has counted nothing yet.
    let other = app.another_process(ingest::router().merge(decide::router()), NO_NATS);
    let capped = serde_json::json!({"pending": 10_000, "P1": 0, "P2": 10_000, "P3": 0, "capped": true});
    assert_eq!(counts(&other).await, capped);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn little_that_is_pending_is_counted_anew_for_every_caller(owner: PgPool) {
    let (app, agent) = app(owner).await;
    for pending in 1..=5 {
        app.submit(&agent, &format!("k{pending}")).await;
        assert_eq!(counts(&app).await["pending"], pending);
    }
}

/// Blocks that a count looked at, from Postgres's own plan.
async fn blocks_of(app: &TestApp, statement: &str) -> i64 {
    let explained = format!("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}");
    let plan: Value = sqlx::query_scalar(sqlx::AssertSqlSafe(explained)).fetch_one(&app.owner).await.expect("a plan");
    let plan = &plan[0]["Plan"];
    ["Shared Hit Blocks", "Shared Read Blocks"].iter().map(|name| plan[name].as_i64().expect("a number")).sum()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn counting_costs_no_more_with_ten_times_as_much_pending(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    let statement = include_str!("../../../shared/store/sql/pending_counts.sql")
        .replace("$1::bigint", "10000")
        .replace("$1", "10000")
        .replace("$2", "'default'");
    copy(&app, &id, 12_000).await;
    sqlx::raw_sql("VACUUM ANALYZE hitl_requests").execute(&app.owner).await.expect("vacuum");
    let few = blocks_of(&app, &statement).await;
    copy(&app, &id, 108_000).await;
    sqlx::raw_sql("VACUUM ANALYZE hitl_requests").execute(&app.owner).await.expect("vacuum");
    let many = blocks_of(&app, &statement).await;
    assert!(many <= few * 2, "{many} blocks, {few} with a tenth of it");
}
