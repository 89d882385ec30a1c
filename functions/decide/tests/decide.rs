//! Deciding against a real database.

use futures_util::future::join_all;
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestAgent, TestApp};
use serde_json::{Value, json};
use sqlx::PgPool;

async fn app(owner: PgPool) -> (TestApp, TestAgent) {
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()));
    let agent = app.agent("a").await;
    (app, agent)
}

fn path(id: &str) -> String {
    format!("/v1/hitl/requests/{id}/decision")
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_late_approval_is_refused_before_any_sweep(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    app.advance(4.0 * 3_600.0);
    let late = app.post(&path(&id), &app.operator("maria"), &json!({"decision": "approve"})).await;
    assert_eq!((late.status.as_u16(), late.code().as_str()), (409, "expired"));
    let detail = app.get(&format!("/v1/hitl/requests/{id}"), &app.operator("maria")).await.json();
    assert_eq!((detail["status"].as_str(), &detail["decision"]), (Some("pending"), &Value::Null));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn whoever_an_agent_acts_for_is_known_by_sub_address_and_user_name_whatever_their_case(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let claims = json!({
        "sub": "Sub-7", "email": "Maria.K@Example.com", "preferred_username": "mariaÄ", "roles": ["operator"],
    });
    let maria = app.person_with(&claims);
    let approve = json!({"decision": "approve"});
    for (number, id) in ["sub-7", "SUB-7", "maria.k@example.com", "MARIAä"].into_iter().enumerate() {
        let mut envelope = agent.envelope(&format!("k{number}"));
        envelope["on_behalf_of"] = json!({"id": id});
        let asked = app.post("/v1/hitl/requests", &agent.token(), &envelope).await;
        assert_eq!(asked.status, 201, "{}", String::from_utf8_lossy(&asked.bytes));
        let path = path(asked.json()["request_id"].as_str().expect("an id"));
        assert_eq!(app.post(&path, &maria, &approve).await.code(), "own-request", "{id}");
        // It only ever blocks: another person's approval, and this one's rejection, are as they are elsewhere.
        let (token, body) = if number % 2 == 0 {
            (app.operator("jonas"), approve.clone())
        } else {
            (maria.clone(), json!({"decision": "reject", "reason": "not mine"}))
        };
        assert_eq!(app.post(&path, &token, &body).await.status, 201, "{id}");
    }
    let mut envelope = agent.envelope("another");
    envelope["on_behalf_of"] = json!({"id": "maria.k@example.org", "name": "Maria K."});
    let asked = app.post("/v1/hitl/requests", &agent.token(), &envelope).await.json();
    let path = path(asked["request_id"].as_str().expect("an id"));
    assert_eq!(app.post(&path, &maria, &approve).await.status, 201);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn fifty_racing_operators_make_one_decision(owner: PgPool) {
    let (app, agent) = app(owner).await;
    for round in 0..5 {
        let id = app.submit(&agent, &format!("k{round}")).await;
        let answers = join_all((0..50).map(|number| {
            let (app, path) = (&app, path(&id));
            async move {
                let decision = if number % 2 == 0 { "approve" } else { "reject" };
                let body = json!({"decision": decision, "reason": format!("operator {number}")});
                app.post(&path, &app.operator(&format!("op-{number}")), &body).await
            }
        }))
        .await;
        let winners: Vec<_> = answers.iter().filter(|answer| answer.status == 201).collect();
        assert_eq!(winners.len(), 1);
        let standing = winners[0].json();
        for loser in answers.iter().filter(|answer| answer.status != 201) {
            assert_eq!((loser.status.as_u16(), loser.code().as_str()), (409, "already-decided"));
            assert_eq!(loser.json()["decision"], standing);
        }
    }
    let decided: i64 =
        sqlx::query_scalar("SELECT count(*) FROM outbox WHERE kind = 'decided'").fetch_one(&app.owner).await.unwrap();
    assert_eq!(decided, 5);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_same_answer_again_is_no_second_decision(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    let (maria, body) = (app.operator("maria"), json!({"decision": "reject", "reason": "too much"}));
    assert_eq!(app.post(&path(&id), &maria, &body).await.status, 201);
    assert_eq!(app.post(&path(&id), &maria, &body).await.status, 200);
    assert_eq!(app.post(&path(&id), &app.operator("jonas"), &body).await.code(), "already-decided");
    let other = json!({"decision": "reject", "reason": "another"});
    assert_eq!(app.post(&path(&id), &maria, &other).await.code(), "already-decided");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn another_action_than_the_one_seen_is_refused(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    let body = json!({"decision": "approve", "action_digest": format!("sha256:{}", "0".repeat(64))});
    assert_eq!(app.post(&path(&id), &app.operator("maria"), &body).await.code(), "action-mismatch");
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_applications_role_cannot_change_what_is_final(owner: PgPool) {
    let (app, agent) = app(owner).await;
    let id = app.submit(&agent, "k").await;
    app.post(&path(&id), &app.operator("maria"), &json!({"decision": "approve"})).await;
    for table in ["hitl_decisions", "approval_chain"] {
        for statement in [
            format!("DELETE FROM {table}"),
            format!("UPDATE {table} SET request_id = request_id"),
            format!("TRUNCATE {table}"),
        ] {
            let mut connection = app.owner.acquire().await.unwrap();
            let by_owner =
                sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&mut *connection).await.unwrap_err();
            assert_eq!(by_owner.as_database_error().unwrap().code().unwrap(), "23001", "{statement}");
            sqlx::query("SET ROLE relaytrace_app").execute(&mut *connection).await.unwrap();
            let by_app =
                sqlx::query(sqlx::AssertSqlSafe(statement.clone())).execute(&mut *connection).await.unwrap_err();
            assert_eq!(by_app.as_database_error().unwrap().code().unwrap(), "42501", "{statement}");
            sqlx::query("RESET ROLE").execute(&mut *connection).await.unwrap();
        }
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_queue_pages_through_everything_in_order(owner: PgPool) {
    let (app, agent) = app(owner).await;
    for number in 0..30 {
        let mut envelope = agent.envelope(&format!("k{number}"));
        envelope["priority"] = format!("P{}", number % 3 + 1).into();
        let answer = app.post("/v1/hitl/requests", &agent.token(), &envelope).await;
        if number % 5 == 0 {
            let id = answer.json()["request_id"].as_str().unwrap().to_owned();
            app.post(&path(&id), &app.operator("maria"), &json!({"decision": "approve"})).await;
        }
        app.advance(1.0);
    }
    for (status, expected) in [("pending", 24), ("decided", 6), ("all", 30)] {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let page =
                app.get(&format!("/v1/hitl/requests?status={status}&limit=7{cursor}"), &app.operator("m")).await.json();
            items.extend(page["items"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let key = |item: &Value| {
            let members = if status == "decided" {
                ["decided_at", "decided_at", "request_id"]
            } else {
                ["priority", "respond_by", "request_id"]
            };
            members.map(|member| item[member].as_str().unwrap().to_owned())
        };
        let mut keys: Vec<_> = items.iter().map(key).collect();
        if status == "decided" {
            keys.reverse(); // the newest decision comes first
        }
        assert_eq!(keys.len(), expected, "{status}");
        assert!(keys.is_sorted_by(|a, b| a < b), "{status}: {keys:?}");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn an_unchanged_queue_answers_304(owner: PgPool) {
    let (app, agent) = app(owner).await;
    app.submit(&agent, "k").await;
    let maria = app.operator("maria");
    let first = app.get("/v1/hitl/requests", &maria).await;
    let ask = async |tag: &http::HeaderValue| {
        let request = http::Request::get("/v1/hitl/requests").header("authorization", format!("Bearer {maria}"));
        app.send(request.header("if-none-match", tag).body(axum::body::Body::empty()).unwrap()).await
    };
    let again = ask(&first.headers["etag"]).await;
    assert_eq!((again.status.as_u16(), again.bytes.len()), (304, 0));
    app.submit(&agent, "k2").await;
    assert_eq!(ask(&first.headers["etag"]).await.status, 200);
}
