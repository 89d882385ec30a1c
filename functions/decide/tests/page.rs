//! How the page is served, and which other origins may read the operators' routes.

use axum::body::Body;
use http::{HeaderMap, Request};
use relaytrace_service::config::{Login, PageSettings};
use relaytrace_store::MIGRATOR;
use relaytrace_testing::{Answer, TestApp};
use sqlx::PgPool;

fn app(owner: &PgPool, page: PageSettings) -> TestApp {
    let routes = || ingest::router().merge(decide::router());
    let mut app = TestApp::new(owner, routes());
    app.state.page = std::sync::Arc::new(page);
    app.router = relaytrace_service::http::service(routes(), app.state.clone());
    app
}

async fn at_host(app: &TestApp, path: &str, host: &str) -> Answer {
    app.send(Request::get(path).header("host", host).body(Body::empty()).expect("a request")).await
}

async fn page(app: &TestApp) -> (String, String) {
    let answer = at_host(app, "/", "localhost").await;
    let policy = answer.headers["content-security-policy"].to_str().expect("text").to_owned();
    (String::from_utf8(answer.bytes).expect("text"), policy)
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn only_the_local_stacks_page_honours_a_token_in_its_link(owner: PgPool) {
    let (html, _) = page(&app(&owner, PageSettings::default())).await;
    assert!(html.contains(r#"<meta name="relaytrace-local" content="">"#));
    let (html, _) = page(&app(&owner, PageSettings { is_local: true, ..PageSettings::default() })).await;
    assert!(html.contains(r#"<meta name="relaytrace-local" content="1">"#));
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_local_stack_answers_to_this_machines_names_only(owner: PgPool) {
    let local = app(&owner, PageSettings { is_local: true, ..PageSettings::default() });
    for host in ["localhost", "localhost:8080", "127.0.0.1", "127.0.0.1:1"] {
        assert_eq!(at_host(&local, "/", host).await.status, 200, "{host}");
    }
    for path in ["/", "/healthz", "/v1/hitl/requests", "/no/route"] {
        for host in ["evil.test", "evil.test:8080", "localhost.evil.test", "[::1]:8080", ""] {
            assert_eq!(at_host(&local, path, host).await.status, 421, "{path} {host}");
        }
        assert_eq!(local.get(path, "").await.status, 421, "{path}, without Host");
    }
    assert_eq!(at_host(&app(&owner, PageSettings::default()), "/", "relay.test").await.status, 200);
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_page_may_talk_to_the_issuer_that_it_signs_in_at_and_to_no_other(owner: PgPool) {
    let (html, policy) = page(&app(&owner, PageSettings::default())).await;
    assert!(html.contains(r#"<meta name="relaytrace-client" content="">"#));
    assert!(policy.contains("connect-src 'self' ;"), "{policy}");
    let login = Login {
        issuer: "https://issuer.test/realm".into(),
        origin: "https://issuer.test".into(),
        client_id: r#"page"><script>"#.into(),
        scope: "openid".into(),
    };
    let (html, policy) = page(&app(&owner, PageSettings { login: Some(login), ..PageSettings::default() })).await;
    assert!(html.contains(r#"<meta name="relaytrace-issuer" content="https://issuer.test/realm">"#));
    assert!(html.contains(r#"<meta name="relaytrace-client" content="page&quot;><script>">"#));
    assert!(policy.contains("connect-src 'self' https://issuer.test;"), "{policy}");
}

const OURS: &str = "https://page.test";

async fn from_origin(app: &TestApp, method: &str, path: &str, origin: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("origin", origin);
    let request = request
        .header("authorization", format!("Bearer {}", app.operator("maria")))
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type,x-other");
    app.send(request.body(Body::empty()).expect("a request")).await
}

fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let all = headers.get_all(name).iter().flat_map(|value| value.to_str().expect("text").split(','));
    let mut all: Vec<_> = all.map(|value| value.trim().to_ascii_lowercase()).collect();
    all.sort();
    all
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn a_page_of_a_configured_origin_may_read_and_decide(owner: PgPool) {
    let app = app(&owner, PageSettings { origins: vec![OURS.parse().unwrap()], ..PageSettings::default() });
    let asked = from_origin(&app, "OPTIONS", "/v1/hitl/requests/0/decision", OURS).await;
    assert_eq!(asked.status, 200);
    assert_eq!(values(&asked.headers, "access-control-allow-origin"), [OURS]);
    assert_eq!(values(&asked.headers, "access-control-allow-methods"), ["delete", "get", "post", "put"]);
    assert_eq!(
        values(&asked.headers, "access-control-allow-headers"),
        ["authorization", "content-type", "if-match", "if-none-match"]
    );
    assert!(!asked.headers.contains_key("access-control-allow-credentials"));
    // Problems too: the page has to read them.
    for (path, status) in [("/v1/hitl/requests", 200), ("/v1/hitl/requests/0", 404)] {
        let answer = from_origin(&app, "GET", path, OURS).await;
        assert_eq!(answer.status, status);
        assert_eq!(values(&answer.headers, "access-control-allow-origin"), [OURS]);
        assert_eq!(values(&answer.headers, "access-control-expose-headers"), ["date", "etag", "retry-after"]);
        assert!(values(&answer.headers, "vary").contains(&"origin".to_owned()));
    }
}

#[sqlx::test(migrator = "MIGRATOR")]
async fn no_other_origin_and_no_other_route_is_admitted(owner: PgPool) {
    let open = app(&owner, PageSettings { origins: vec![OURS.parse().unwrap()], ..PageSettings::default() });
    let closed = app(&owner, PageSettings::default());
    let queue = "/v1/hitl/requests";
    for (app, path, origin) in [
        (&open, queue, "https://other.test"),
        (&open, queue, "https://page.test.other.test"),
        (&open, queue, "http://page.test"),
        (&open, queue, "https://page.test:8443"),
        (&open, queue, "null"),
        (&open, "/v1/agents/a/decisions/poll", OURS),
        (&open, "/.well-known/jwks.json", OURS),
        (&closed, queue, OURS),
        (&closed, queue, "null"),
    ] {
        for method in ["OPTIONS", "GET"] {
            let answer = from_origin(app, method, path, origin).await;
            let admitted = answer.headers.get("access-control-allow-origin");
            assert_eq!(admitted, None, "{method} {path} from {origin}");
        }
    }
}
