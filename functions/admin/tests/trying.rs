//! Trials of rules over many stored requests: what is read is bounded, and what is erased is skipped.

use std::time::Duration;

use relaytrace_domain::Timestamp;
use relaytrace_store::{MIGRATOR, erase};
use relaytrace_testing::{TestAgent, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

async fn app(owner: &PgPool) -> (TestApp, TestAgent) {
    let routes = admin::router().merge(ingest::router()).merge(decide::router()).merge(poll::router());
    let app = TestApp::new(owner, routes);
    let agent = app.agent("a").await;
    (app, agent)
}

/// A page of the trial of one rule that is about everything, over a day around now.
async fn tried(app: &TestApp, limit: i32, cursor: &Value) -> Value {
    let day = Duration::from_hours(24);
    let body = json!({
        "rules": [{"name": "all", "mode": "enforce", "match": {"arguments": {"/amount": {"exists": true}}}, "then": {"ask": {}}}],
        "from": Timestamp(app.now() - day), "to": Timestamp(app.now() + day), "limit": limit, "cursor": cursor,
    });
    let answer = app.post("/v1/admin/rules/try", &app.person("root", &["admin"]), &body).await;
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.bytes));
    answer.json()
}

/// Copies of a request, of this tenant, with ids of the same time.
async fn copy(app: &TestApp, request_id: &str, many: i32, tenant: &str) {
    let copies = "
        WITH first AS (SELECT * FROM hitl_requests WHERE request_id = $1::uuid),
        copies AS MATERIALIZED (
            SELECT n, (left($1, 19) || substr(gen_random_uuid()::text, 20))::uuid AS request_id FROM generate_series(1, $2) n
        ),
        requests AS (
            INSERT INTO hitl_requests SELECT copy.* FROM first, copies c,
            LATERAL jsonb_populate_record(first::hitl_requests, jsonb_build_object('request_id', c.request_id,
                'client_request_key', 'copy-' || $3 || c.n, 'tenant_id', $3)) copy)
        INSERT INTO request_envelopes SELECT c.request_id, e.envelope, e.resume
        FROM copies c, first JOIN request_envelopes e USING (request_id)";
    sqlx::query(copies).bind(request_id).bind(many).bind(tenant).execute(&app.owner).await.expect("copies");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn what_is_erased_is_skipped(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    let id = app.submit(&agent, "k1").await;
    app.submit(&agent, "k2").await;
    let reject = json!({"decision": "reject", "reason": "No"});
    let decided = app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), &reject).await;
    assert_eq!(decided.status, 201);
    let delivered = app.get("/v1/agents/a/decisions/poll", &agent.token()).await.json()["decisions"][0].clone();
    let accepted = json!({"delivery_id": delivered["delivery_id"], "result": "accepted"});
    let acknowledged = app.post(&format!("/v1/agents/a/decisions/{id}/ack"), &agent.token(), &accepted).await;
    assert_eq!(acknowledged.status, 200);
    assert_eq!(erase(&owner.connect_options(), app.now() + Duration::from_hours(1), false).await.expect("erased"), 1);

    let trial = tried(&app, 10, &Value::Null).await;
    assert_eq!((&trial["tried"], &trial["counts"]["skipped"], &trial["same"]), (&json!(2), &json!(1), &json!(1)));
    let suggest = json!({"request_id": id});
    let refused = app.post("/v1/admin/rules/suggest", &app.person("root", &["admin"]), &suggest).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (409, "conflict"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn pages_go_on_beyond_what_is_others_and_have_everything_once(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    let id = app.submit(&agent, "k").await;
    sqlx::raw_sql("INSERT INTO tenants (tenant_id) VALUES ('acme')").execute(&owner).await.expect("a tenant");
    copy(&app, &id, 45_000, "acme").await;
    copy(&app, &id, 4_999, "default").await;
    let (mut tried_in_all, mut pages, mut cursor) = (0, 0, Value::Null);
    loop {
        let page = tried(&app, 2_000, &cursor).await;
        tried_in_all += page["tried"].as_u64().expect("a number");
        pages += 1;
        cursor = page["next_cursor"].clone();
        if cursor.is_null() {
            break;
        }
    }
    assert_eq!(tried_in_all, 5_000);
    assert!((3..=6).contains(&pages), "{pages} pages");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_page_costs_no_more_with_ten_times_as_much_stored(owner: PgPool) {
    let (app, agent) = app(&owner).await;
    let id = app.submit(&agent, "k").await;
    let analyzed = async || {
        sqlx::raw_sql("VACUUM ANALYZE hitl_requests, request_envelopes").execute(&owner).await.expect("vacuum");
    };
    let statement = include_str!("../../../shared/store/sql/stored_asks.sql");
    let first = format!("'{}00000000000'", &id[..25]);
    let last = "'ffffffff-ffff-7fff-bfff-ffffffffffff'";
    let parameters = ["'default'", &first, last, "'-infinity'", "'infinity'", "20000", "500", "16777216"];
    copy(&app, &id, 4_000, "default").await;
    analyzed().await;
    let few = app.blocks_read(statement, &parameters).await;
    copy(&app, &id, 40_000, "default").await;
    analyzed().await;
    let many = app.blocks_read(statement, &parameters).await;
    assert!(many <= few * 2, "{many} blocks, {few} with a tenth of it");
}
