//! Submit, decide, poll and acknowledge cost one round trip to Postgres each, by Postgres's own count.

use relaytrace_store::MIGRATOR;
use relaytrace_testing::{NO_NATS, TestApp, until};
use serde_json::{Value, json};
use sqlx::PgPool;

/// Statements that the application's role ran in this database since the last call: their markers and calls.
async fn statements(owner: &PgPool) -> Vec<(String, i64)> {
    let counted = sqlx::query_as(
        "SELECT COALESCE(substring(query FROM 'relaytrace: (\\w+)'), query), sum(calls)::bigint
        FROM pg_stat_statements s
        WHERE s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND s.userid = 'relaytrace_app'::regrole AND s.toplevel
        GROUP BY 1 ORDER BY 1",
    );
    let counted = counted.fetch_all(owner).await.expect("pg_stat_statements");
    sqlx::query(
        "SELECT pg_stat_statements_reset(0, (SELECT oid FROM pg_database WHERE datname = current_database()), 0)",
    )
    .execute(owner)
    .await
    .expect("a reset");
    counted
}

/// The digest of a request's action as an operator sees it.
async fn digest(app: &TestApp, id: &str) -> Value {
    app.get(&format!("/v1/hitl/requests/{id}"), &app.operator("maria")).await.json()["action_digest"].clone()
}

async fn decide(app: &TestApp, id: &str, body: &Value) -> u16 {
    app.post(&format!("/v1/hitl/requests/{id}/decision"), &app.operator("maria"), body).await.status.as_u16()
}

/// Each process notes once a minute whom it has seen, behind the call.
async fn operator_is_known(processes: &[&TestApp]) {
    for app in processes {
        assert_eq!(app.get("/v1/hitl/me", &app.operator("maria")).await.status, 200);
    }
    let noted = "SELECT COALESCE(sum(calls), 0)::bigint FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND toplevel AND query LIKE '/* relaytrace: note_operator */%'";
    let owner = &processes[0].owner;
    let notes = async || sqlx::query_scalar::<_, i64>(noted).fetch_one(owner).await.expect("a count");
    until(async || notes().await == i64::try_from(processes.len()).expect("few")).await;
}

/// What is attested names its action: where the operator did not say which one they saw, it is remembered by the process
/// that stored it, and looked up by another.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_without_a_digest_costs_another_process_one_look_more(owner: PgPool) {
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&owner).await.expect("the extension");
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()));
    let agent = app.agent("a").await;
    let process = app.another_process(decide::router(), NO_NATS);
    let (here, elsewhere) = (app.submit(&agent, "here").await, app.submit(&agent, "elsewhere").await);
    operator_is_known(&[&app, &process]).await;
    statements(&app.owner).await;
    assert_eq!(decide(&app, &here, &json!({"decision": "approve"})).await, 201);
    assert_eq!(statements(&app.owner).await, [("decide".to_owned(), 1)]);
    assert_eq!(decide(&process, &elsewhere, &json!({"decision": "approve"})).await, 201);
    assert_eq!(statements(&app.owner).await, [("decide".to_owned(), 1), ("decision_standing".to_owned(), 1)]);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn each_call_of_a_handoff_is_one_statement(owner: PgPool) {
    const CALLS: i64 = 5;
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&owner).await.expect("the extension");
    let routes = ingest::router().merge(decide::router()).merge(poll::router());
    let app = TestApp::new(&owner, routes);
    let agent = app.agent("a").await;
    // The key is looked up once, and noted as used.
    app.submit(&agent, "first").await;
    app.submit(&agent, "second").await;
    operator_is_known(&[&app]).await;
    statements(&app.owner).await;

    let mut ids = Vec::new();
    for number in 0..CALLS {
        ids.push(app.submit(&agent, &format!("k{number}")).await);
    }
    assert_eq!(statements(&app.owner).await, [("submit".to_owned(), CALLS)]);

    let digest = digest(&app, &ids[0]).await;
    statements(&app.owner).await;
    // As the page decides: it says which action was seen.
    let body = json!({"decision": "approve", "action_digest": digest});
    for id in &ids {
        assert_eq!(decide(&app, id, &body).await, 201);
    }
    assert_eq!(statements(&app.owner).await, [("decide".to_owned(), CALLS)]);

    let mut deliveries = Vec::new();
    for _ in 0..CALLS {
        let polled = app.get("/v1/agents/a/decisions/poll?limit=1", &agent.token()).await.json();
        deliveries.push(polled["decisions"][0].clone());
    }
    assert_eq!(statements(&app.owner).await, [("lease".to_owned(), CALLS)]);

    for delivery in &deliveries {
        let path = format!("/v1/agents/a/decisions/{}/ack", delivery["request_id"].as_str().unwrap());
        let body = json!({"delivery_id": delivery["delivery_id"], "result": "accepted"});
        assert_eq!(app.post(&path, &agent.token(), &body).await.status, 200);
    }
    assert_eq!(statements(&app.owner).await, [("acknowledge".to_owned(), CALLS)]);
}

/// Where ANALYZE found nothing due, the planner took another index for as good, in which are everybody's deliveries.
#[sqlx::test(migrator = "MIGRATOR")]
async fn an_empty_poll_looks_at_few_blocks_whatever_analyze_found(owner: PgPool) {
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&owner).await.expect("the extension");
    let app = TestApp::new(&owner, ingest::router().merge(poll::router()));
    let agent = app.agent("a").await;
    // It pins the dead rows that follow.
    let mut pinning = owner.begin().await.expect("a transaction");
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").execute(&mut *pinning).await.expect("set");
    sqlx::query("SELECT count(*) FROM deliveries").execute(&mut *pinning).await.expect("a snapshot");
    for statement in [
        "INSERT INTO deliveries (request_id, agent_id, visible_at, expires_at)
            SELECT gen_random_uuid(), 'a', now() - interval '1 minute', now() + interval '1 day'
            FROM generate_series(1, 3000)",
        "UPDATE deliveries SET state = 'acknowledged', result = 'accepted'",
        "ANALYZE deliveries",
    ] {
        sqlx::query(statement).execute(&owner).await.expect("handoffs");
    }
    let poll = async || {
        let polled = app.get("/v1/agents/a/decisions/poll", &agent.token()).await.json();
        assert_eq!(polled["decisions"], json!([]));
    };
    // The first one looks at all.
    poll().await;
    statements(&owner).await;
    for _ in 0..10 {
        poll().await;
    }
    let blocks: i64 = sqlx::query_scalar(
        "SELECT (sum(shared_blks_hit + shared_blks_read) / sum(calls))::bigint FROM pg_stat_statements
        WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND query LIKE '/* relaytrace: lease */%'",
    )
    .fetch_one(&owner)
    .await
    .expect("blocks");
    assert!(blocks < 60, "{blocks} blocks a poll");
}

/// Where ANALYZE found nothing pending, or nothing yet, the planner looked through all that is pending for each decision.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_decision_looks_at_no_more_blocks_beside_many_pending_requests(owner: PgPool) {
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&owner).await.expect("the extension");
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()));
    let agent = app.agent("a").await;
    sqlx::query("ANALYZE").execute(&owner).await.expect("analyzed while nothing is there");
    let (alone, beside_many) = (app.submit(&agent, "alone").await, app.submit(&agent, "beside-many").await);
    operator_is_known(&[&app]).await;
    let blocks = async |id: &str| {
        statements(&owner).await;
        assert_eq!(decide(&app, id, &json!({"decision": "approve"})).await, 201);
        let blocks: i64 = sqlx::query_scalar(
            "SELECT (shared_blks_hit + shared_blks_read)::bigint FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND query LIKE '/* relaytrace: decide */%'",
        )
        .fetch_one(&owner)
        .await
        .expect("blocks");
        blocks
    };
    let few = blocks(&alone).await;
    for number in 0..300 {
        app.submit(&agent, &format!("pending-{number}")).await;
    }
    let many = blocks(&beside_many).await;
    assert!(many < few + 30, "{few} blocks, and {many} beside 300 pending requests");
}

/// A poll that names its requests finds them by their key: what else is due for the agent is not looked at.
#[sqlx::test(migrator = "MIGRATOR")]
async fn a_poll_by_request_id_looks_at_as_few_blocks_beside_16000_due_as_beside_100(owner: PgPool) {
    sqlx::query("CREATE EXTENSION pg_stat_statements").execute(&owner).await.expect("the extension");
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()).merge(poll::router()));
    let agent = app.agent("a").await;
    let mut blocks = Vec::new();
    for (number, more) in [100, 15_900].into_iter().enumerate() {
        sqlx::query(
            "INSERT INTO deliveries (request_id, agent_id, visible_at, expires_at)
            SELECT gen_random_uuid(), 'a', now() - interval '1 minute', now() + interval '1 day'
            FROM generate_series(1, $1)",
        )
        .bind(more)
        .execute(&owner)
        .await
        .expect("deliveries");
        sqlx::query("ANALYZE deliveries").execute(&owner).await.expect("analyzed");
        // Plans are kept; those of this backlog are made by connections of its own.
        let process = app.another_process(ingest::router().merge(decide::router()).merge(poll::router()), NO_NATS);
        let mut ids = Vec::new();
        for key in 0..10 {
            ids.push(app.submit(&agent, &format!("{number}-{key}")).await);
        }
        let poll = async |id: &str| {
            let path = format!("/v1/agents/a/decisions/poll?request_id={id}");
            process.get(&path, &agent.token()).await.json()["decisions"].as_array().expect("decisions").len()
        };
        assert_eq!(poll(&ids[0]).await, 0);
        statements(&owner).await;
        for id in &ids {
            assert_eq!(poll(id).await, 0);
            assert_eq!(decide(&app, id, &json!({"decision": "approve"})).await, 201);
            assert_eq!(poll(id).await, 1);
        }
        let of_leases = "SELECT sum(shared_blks_hit + shared_blks_read)::bigint FROM pg_stat_statements
            WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
                AND query LIKE '/* relaytrace: lease_named */%'";
        blocks.push(sqlx::query_scalar::<_, i64>(of_leases).fetch_one(&owner).await.expect("blocks") / 20);
    }
    // An index of more entries is a level deeper.
    assert!(blocks[1] <= blocks[0] + 12, "{blocks:?} blocks a poll");
}
