//! Who calls: what a token is asked before anything is looked up for it, and what holds while servers are away.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic as their tests may")]

use std::sync::Arc;

use http::HeaderMap;
use relaytrace_service::auth::{Authenticator, Issuer, IssuerKeys, Principal, TokenRules};
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{TestAgent, TestApp, TestKey};
use serde_json::{Value, json};
use sqlx::PgPool;

const POLL: &str = "/v1/agents/a/decisions/poll";

fn changed(agent: &TestAgent, changes: &Value) -> Value {
    let mut claims = agent.claims();
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn without_postgres_a_known_agents_answer_is_signed(owner: PgPool) {
    let app = TestApp::new(&owner, poll::router());
    let agent = app.agent("a").await;
    for _ in 0..2 {
        assert_eq!(app.get(POLL, &agent.token()).await.status, 200);
    }
    app.state.store.close();
    // Whether the key is active is asked again after half a minute.
    for seconds in [1.0, 31.0, 300.0] {
        app.advance(seconds);
        let answer = app.get(POLL, &agent.token()).await;
        assert_eq!(answer.status, 503);
        assert!(answer.headers.contains_key("signature"), "after {seconds} s");
    }
    // Only who has the key gets that.
    let forged = TestKey::generate().token(&agent.key_id, &agent.claims());
    let answer = app.get(POLL, &forged).await;
    assert_eq!(answer.status, 401);
    assert!(!answer.headers.contains_key("signature"));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_key_is_looked_up_for_a_token_that_none_could_make_good(owner: PgPool) {
    let app = TestApp::new(&owner, poll::router());
    let agent = app.agent("a").await;
    let now = app.now().timestamp();
    // A look-up would be answered 503 from here on.
    app.state.store.close();
    let stranger = TestKey::generate();
    assert_eq!(app.get(POLL, &stranger.token("unknown", &agent.claims())).await.status, 503);
    for changes in [
        json!({"aud": "other"}),
        json!({"aud": ["other"]}),
        json!({"aud": 7}),
        json!({"exp": now - 31}),
        json!({"iat": now - 1_000}),
        json!({"iat": now + 31}),
        json!({"nbf": now + 31}),
        json!({"iat": null}),
        json!({"sub": "b"}),
        json!({"iss": "No Agent", "sub": "No Agent"}),
        json!({"sub": null}),
    ] {
        let token = stranger.token("unknown", &changed(&agent, &changes));
        assert_eq!(app.get(POLL, &token).await.status, 401, "{changes}");
    }
    let token = stranger.token("no key id!", &agent.claims());
    assert_eq!(app.get(POLL, &token).await.status, 401);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn clocks_may_differ_by_the_leeway(owner: PgPool) {
    let app = TestApp::new(&owner, poll::router());
    let agent = app.agent("a").await;
    let now = app.now().timestamp();
    for (behind, status) in [(8, 200), (29, 200), (-29, 200), (-31, 401)] {
        let claims = changed(&agent, &json!({"iat": now - behind, "exp": now - behind + 300}));
        let answer = app.get(POLL, &agent.key.token(&agent.key_id, &claims)).await;
        assert_eq!(answer.status, status, "{behind} s behind");
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn roles_of_any_shape_are_roles_or_none_and_never_a_wrong_token(owner: PgPool) {
    let app = TestApp::new(&owner, decide::router());
    for (roles, status) in [
        (json!(["operator"]), 200),
        (json!("operator admin"), 200),
        (json!("admin"), 403),
        (json!(["operator", 7]), 403),
        (json!(null), 403),
        (json!(7), 403),
    ] {
        let token = app.person_with(&json!({"sub": "maria", "roles": roles, "name": 7}));
        assert_eq!(app.get("/v1/hitl/requests", &token).await.status, status, "{roles}");
    }
    // 190 groups are a token of some 12 KiB.
    let groups: Vec<_> = (0..190).map(|number| format!("{number:040}")).collect();
    let token = app.person_with(&json!({"sub": "maria", "roles": ["operator"], "groups": groups}));
    assert!((10_000..16_384).contains(&token.len()), "{}", token.len());
    assert_eq!(app.get("/v1/hitl/requests", &token).await.status, 200);
    let more: Vec<_> = (0..400).map(|number| format!("{number:040}")).collect();
    let token = app.person_with(&json!({"sub": "maria", "roles": ["operator"], "groups": more}));
    assert_eq!(app.get("/v1/hitl/requests", &token).await.status, 401);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn of_two_keys_with_one_kid_the_one_that_signed_is_found(owner: PgPool) {
    let app = TestApp::new(&owner, poll::router());
    let (ours, other) = (TestKey::generate(), TestKey::generate());
    let with = |key: &TestKey, name: &str, value: &str| {
        let mut jwk = key.jwk("k");
        jwk[name] = value.into();
        jwk
    };
    let now = app.now().timestamp();
    let claims = json!({"iss": "https://issuer", "sub": "maria", "aud": "relaytrace", "roles": ["operator"],
        "groups": "a b", "iat": now, "exp": now + 60});
    for keys in [
        [with(&other, "use", "enc"), with(&ours, "use", "sig")],
        [with(&ours, "use", "sig"), with(&other, "use", "enc")],
        [other.jwk("k"), ours.jwk("k")],
        [with(&other, "alg", "RS256"), ours.jwk("k")],
    ] {
        let keys = IssuerKeys::parse(json!({"keys": keys}).to_string().as_bytes()).unwrap();
        let rules = TokenRules { audience: "relaytrace".into(), max_lifetime_seconds: 900, leeway_seconds: 30 };
        let issuer = Issuer::pinned("https://issuer".into(), keys);
        let state = &app.state;
        let (store, masters) = (state.store.clone(), state.master_secrets.clone());
        let authenticator = Authenticator::new(rules, store.clone(), Some(store), issuer.into(), masters);
        let mut headers = HeaderMap::new();
        headers.insert("authorization", format!("Bearer {}", ours.token("k", &claims)).parse().unwrap());
        let principal: Arc<Principal> = authenticator.authenticate(&headers).await.expect("verified");
        let Principal::Person(person) = &*principal else { panic!("{principal:?}") };
        assert!(person.is_operator);
        assert_eq!(person.groups, ["a", "b"]);
    }
}

/// Who may not ask at all is told so, whatever they ask; what a route knows is told to those whom it answers.
#[sqlx::test(migrator = "MIGRATOR")]
async fn an_unknown_parameter_is_judged_after_the_role(owner: PgPool) {
    let app = TestApp::new(&owner, ingest::router().merge(decide::router()).merge(poll::router()));
    let (agent, operator) = (app.agent("a").await, app.operator("maria"));
    let token = agent.token();
    for (path, token, status) in [
        ("/v1/hitl/requests?form=x", &token, 403),
        ("/v1/hitl/requests?form=x", &operator, 422),
        ("/v1/agents/b/decisions/poll?form=x", &token, 403),
        ("/v1/agents/a/decisions/poll?form=x", &operator, 403),
        ("/v1/agents/a/decisions/poll?form=x", &token, 422),
        ("/v1/hitl/me?form=x", &token, 403),
        ("/v1/hitl/me?form=x", &operator, 422),
    ] {
        assert_eq!(app.get(path, token).await.status, status, "{path}");
    }
    let wrong_method = app.call("DELETE", "/v1/hitl/requests?form=x", &operator, &serde_json::json!({})).await;
    assert_eq!(wrong_method.status, 405);
}
