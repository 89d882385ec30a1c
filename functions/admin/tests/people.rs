//! Operators who are blocked, and tenants that are suspended, in the same process and in another one.

use http::StatusCode;
use relaytrace_service::http::Routes;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestApp, until};
use serde_json::json;
use sqlx::PgPool;

fn routes() -> Routes {
    admin::router().merge(decide::router()).merge(ingest::router())
}

async fn count(owner: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(owner).await.expect("a count")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_block_ends_delegations_and_claims_and_is_in_force_within_a_minute(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let other = app.another_process(routes(), "nats://127.0.0.1:1");
    let (maria, ada) = (app.operator("maria"), app.person("ada", &["admin"]));
    for process in [&app, &other] {
        assert_eq!(process.get("/v1/hitl/me", &maria).await.status, StatusCode::OK);
    }
    until(async || count(&owner, "SELECT count(*) FROM operators WHERE operator_id = 'maria'").await == 1).await;
    for statement in [
        "INSERT INTO delegations (tenant_id, delegation_id, delegator_id, delegate_id, groups, starts_at, until, reason, created_at)
         SELECT 'default', id, delegator, delegate, '{ops}', now(), now() + interval '1 day', 'x', now()
         FROM (VALUES ('by', 'maria', 'jonas'), ('to', 'jonas', 'maria'), ('neither', 'jonas', 'lea')) d (id, delegator, delegate)",
        "INSERT INTO claims (request_id, tenant_id, operator_id, claimed_until)
         SELECT gen_random_uuid(), 'default', id, now() + interval '1 hour' FROM unnest('{maria,jonas}'::text[]) id",
    ] {
        sqlx::query(statement).execute(&owner).await.unwrap();
    }
    let path = "/v1/admin/operators/maria";
    let blocked = app.call("PATCH", path, &ada, &json!({"status": "blocked"})).await;
    assert_eq!((blocked.status, blocked.json()["blocked_by"].as_str()), (StatusCode::OK, Some("ada")));
    assert_eq!(count(&owner, "SELECT count(*) FROM delegations WHERE ended_at IS NULL").await, 1);
    assert_eq!(count(&owner, "SELECT count(*) FROM claims").await, 1);
    let logged = "SELECT count(*) FROM admin_log WHERE action = 'operator.blocked' AND subject = 'maria'
        AND details @> '{\"delegations_ended\": 2, \"claims_ended\": 1}'";
    assert_eq!(count(&owner, logged).await, 1);

    // What a process knows of a person is at most 40 s old, also where the call comes after a long silence.
    app.advance(41.0);
    for process in [&app, &other] {
        assert_eq!(process.get("/v1/hitl/requests", &maria).await.code(), "forbidden");
    }
    app.call("PATCH", path, &ada, &json!({"status": "active"})).await;
    app.advance(41.0);
    assert_eq!(other.get("/v1/hitl/me", &maria).await.status, StatusCode::OK);
    assert_eq!(count(&owner, "SELECT count(*) FROM delegations WHERE ended_at IS NULL").await, 1, "they stay ended");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_suspension_is_in_force_within_five_seconds_in_every_process(owner: PgPool) {
    let app = TestApp::new(&owner, routes());
    let other = app.another_process(routes(), "nats://127.0.0.1:1");
    let (agent, maria) = (app.agent("a").await, app.operator("maria"));
    let submit = async |process: &TestApp, key: &str| {
        process.post("/v1/hitl/requests", &agent.token(), &agent.envelope(key)).await.status
    };
    assert_eq!((submit(&app, "1").await, submit(&other, "2").await), (StatusCode::CREATED, StatusCode::CREATED));
    for (status, code) in [("suspended", StatusCode::UNAUTHORIZED), ("active", StatusCode::OK)] {
        sqlx::query("UPDATE tenants SET status = $1").bind(status).execute(&owner).await.unwrap();
        app.advance(4.5);
        for process in [&app, &other] {
            assert_eq!(process.get("/v1/hitl/requests", &maria).await.status, code, "{status}");
        }
    }
    sqlx::query("UPDATE tenants SET submissions_per_minute = 2").execute(&owner).await.unwrap();
    app.advance(4.5);
    let taken = [submit(&app, "3").await, submit(&app, "4").await, submit(&app, "5").await];
    assert_eq!(taken, [StatusCode::CREATED, StatusCode::CREATED, StatusCode::TOO_MANY_REQUESTS]);
    assert_eq!(submit(&other, "6").await, StatusCode::CREATED, "each process counts for itself");
}
