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

/// Copies of a request, `many` of them, each due a second after the one before, and after all that are there, of this tenant.
async fn copy(app: &TestApp, request_id: &str, many: i32, tenant: &str) {
    let copies = "
        WITH first AS (SELECT * FROM hitl_requests WHERE request_id = $1::uuid),
        copies AS MATERIALIZED (SELECT n, gen_random_uuid() AS request_id FROM generate_series(1, $2) n),
        requests AS (
            INSERT INTO hitl_requests SELECT copy.* FROM first, copies c,
            LATERAL jsonb_populate_record(first::hitl_requests, jsonb_build_object('request_id', c.request_id,
                'client_request_key', 'copy-' || $3 || c.n, 'tenant_id', $3,
                'respond_by', first.respond_by + ((SELECT count(*) FROM hitl_requests) + c.n) * interval '1 second')) copy)
        INSERT INTO request_envelopes SELECT c.request_id, e.envelope, e.resume
        FROM copies c, first JOIN request_envelopes e USING (request_id)";
    sqlx::query(copies).bind(request_id).bind(many).bind(tenant).execute(&app.owner).await.expect("copies");
}

async fn counts(app: &TestApp) -> Value {
    app.get(&format!("{QUEUE}?limit=1"), &app.operator("maria")).await.json()["counts"].clone()
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_pending_is_counted_up_to_ten_thousand_of_each_priority(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    assert_eq!(counts(&app).await, serde_json::json!({"pending": 1, "P1": 0, "P2": 1, "P3": 0}));
    copy(&app, &id, 9_998, "default").await;
    assert_eq!(counts(&app).await, serde_json::json!({"pending": 9_999, "P1": 0, "P2": 9_999, "P3": 0}));
    copy(&app, &id, 4, "default").await;
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

async fn analyze(app: &TestApp) {
    sqlx::raw_sql("VACUUM ANALYZE hitl_requests").execute(&app.owner).await.expect("vacuum");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn counting_costs_no_more_with_ten_times_as_much_pending(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    let statement = include_str!("../../../shared/store/sql/pending_counts.sql");
    let parameters = ["10000", "'default'"];
    copy(&app, &id, 12_000, "default").await;
    analyze(&app).await;
    let few = app.blocks_read(statement, &parameters).await;
    copy(&app, &id, 108_000, "default").await;
    analyze(&app).await;
    let many = app.blocks_read(statement, &parameters).await;
    assert!(many <= few * 2, "{many} blocks, {few} with a tenth of it");
}

/// Statements about the queue of a tenant, as in `shared/store/sql`, and their parameters for 50 requests of the default one.
const OF_A_TENANT: [(&str, &str, &[&str]); 4] = [
    ("pending_counts", include_str!("../../../shared/store/sql/pending_counts.sql"), &["10000", "'default'"]),
    (
        "queue",
        include_str!("../../../shared/store/sql/queue.sql"),
        &[
            "'{pending,decided}'",
            "'{1,2,3}'",
            "NULL",
            "NULL",
            "NULL",
            "50",
            "20000",
            "NULL",
            "NULL",
            "NULL",
            "NULL",
            "NULL",
            "NULL",
            "NULL",
            "NULL",
            "0",
            "NULL",
            "NULL",
            "NULL",
            "NULL",
            "'default'",
        ],
    ),
    (
        "sla",
        include_str!("../../../shared/store/sql/sla.sql"),
        &["'default'", "now() - interval '1 day'", "now() + interval '1 day'", "'priority'", "100000", "100"],
    ),
    ("pending_to_end", include_str!("../../../shared/store/sql/pending_to_end.sql"), &["'default'", "NULL", "50"]),
];

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_tenants_queue_costs_no_more_with_what_other_tenants_have(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    sqlx::raw_sql("INSERT INTO tenants (tenant_id) VALUES ('acme')").execute(&app.owner).await.expect("a tenant");
    copy(&app, &id, 30, "default").await;
    analyze(&app).await;
    let mut alone = vec![];
    for (_, statement, parameters) in OF_A_TENANT {
        alone.push(app.blocks_read(statement, parameters).await);
    }
    copy(&app, &id, 20_000, "acme").await;
    analyze(&app).await;
    for ((name, statement, parameters), alone) in OF_A_TENANT.into_iter().zip(alone) {
        let beside = app.blocks_read(statement, parameters).await;
        // A level more of each index that is looked into.
        assert!(beside <= alone * 2 + 20, "{name}: {beside} blocks, {alone} without the other tenant");
    }
}
