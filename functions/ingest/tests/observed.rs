//! What those who run the service see: scrapes while the database is there and while it is not, and spans of calls.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::post;
use http::{Request, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use relaytrace_service::AppState;
use relaytrace_service::runtime;
use relaytrace_service::traces::{TraceSettings, Traces};
use relaytrace_testing::{Answer, TestAgent, TestApp};
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

const FREE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A served process: it is told to stop, and has stopped.
struct Served {
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

impl Served {
    fn start(router: Router, state: AppState) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = async move {
            runtime::serve(router, &state, FREE, async { drop(stopped.await) }).await.expect("served");
        };
        Self { stop, ended: tokio::spawn(serving) }
    }

    async fn stop(self) {
        drop(self.stop);
        self.ended.await.expect("an end");
    }
}

async fn scraped(state: &AppState) -> String {
    let address = loop {
        match state.metrics.address() {
            Some(address) => break address,
            None => tokio::task::yield_now().await,
        }
    };
    let answer = reqwest::get(format!("http://{address}/metrics")).await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK);
    answer.text().await.expect("a text")
}

#[sqlx::test(migrator = "relaytrace_store::MIGRATOR")]
async fn a_scrape_has_the_database_while_it_answers(owner: PgPool) {
    let mut app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("agent-1").await;
    app.state.metrics_address = Some(FREE);
    let served = Served::start(app.router.clone(), app.state.clone());
    app.submit(&agent, "k").await;
    let text = scraped(&app.state).await;
    assert!(text.contains("relaytrace_pending{priority=\"P2\"} 1.0\n"), "{text}");
    assert!(text.contains("relaytrace_outbox_rows"), "{text}");
    let counted = "relaytrace_http_request_duration_seconds_count\
        {function=\"ingest\",route=\"/v1/hitl/requests\",status=\"201\"} 1\n";
    assert!(text.contains(counted), "{text}");
    served.stop().await;
}

#[sqlx::test(migrator = "relaytrace_store::MIGRATOR")]
async fn a_scrape_goes_on_without_the_database(owner: PgPool) {
    let mut app = TestApp::new(&owner, ingest::router());
    app.state.metrics_address = Some(FREE);
    // Somebody who takes connections and says nothing.
    let silent = TcpListener::bind(FREE).await.expect("a port");
    let url = format!("postgres://nobody@{}/none", silent.local_addr().expect("an address"));
    app.state.store = relaytrace_store::Store::connect_lazily(url.parse().expect("a URL"), 1, app.state.clock.clone());
    let served = Served::start(app.router.clone(), app.state.clone());
    let text = tokio::time::timeout(Duration::from_secs(30), scraped(&app.state)).await.expect("an answer");
    assert!(!text.contains("relaytrace_pending"), "{text}");
    assert!(text.contains("relaytrace_scrape_failures_total 1\n"), "{text}");
    assert!(text.contains("relaytrace_pool_connections{state=\"idle\"}"), "{text}");
    served.stop().await;
}

/// Spans that a collector was sent.
type Collected = Arc<Mutex<Vec<Span>>>;

/// A collector: a real server that reads what it is sent.
async fn collector() -> (String, Collected) {
    async fn take(State(collected): State<Collected>, body: Bytes) -> StatusCode {
        let request = ExportTraceServiceRequest::decode(body).expect("an export");
        let scopes = request.resource_spans.into_iter().flat_map(|of| of.scope_spans);
        collected.lock().expect("whole").extend(scopes.flat_map(|of| of.spans));
        StatusCode::OK
    }
    let collected = Collected::default();
    let router = Router::new().route("/v1/traces", post(take)).with_state(collected.clone());
    let listener = TcpListener::bind(FREE).await.expect("a port");
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (endpoint, collected)
}

fn traced(endpoint: String, share: f64) -> Traces {
    Traces::new(Some(&TraceSettings { endpoint, follows_caller: true, share }))
}

/// A submission of a caller with this `traceparent`.
async fn submit_within(app: &TestApp, agent: &TestAgent, traceparent: &str) -> Answer {
    let request = Request::post("/v1/hitl/requests")
        .header("authorization", format!("Bearer {}", agent.token()))
        .header("content-type", "application/json")
        .header("traceparent", traceparent);
    app.send(request.body(Body::from(agent.envelope("told").to_string())).expect("a request")).await
}

fn attribute(span: &Span, name: &str) -> String {
    let found = span.attributes.iter().find(|attribute| attribute.key == name);
    found.map_or_else(String::new, |attribute| format!("{:?}", attribute.value))
}

#[sqlx::test(migrator = "relaytrace_store::MIGRATOR")]
async fn a_call_is_a_span_of_its_callers_trace_and_tells_nothing_else(owner: PgPool) {
    let (endpoint, collected) = collector().await;
    let mut app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("agent-1").await;
    app.state.traces = traced(endpoint, 0.0);
    app.router = relaytrace_service::http::service(ingest::router(), app.state.clone());
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let submitted = submit_within(&app, &agent, &format!("00-{trace_id}-00f067aa0ba902b7-01")).await;
    assert_eq!(submitted.status, StatusCode::CREATED);
    // Of no caller that records: by the share, which is nothing.
    app.submit(&agent, "untold").await;
    let request_id = submitted.json()["request_id"].as_str().expect("an id").to_owned();
    Served::start(app.router.clone(), app.state.clone()).stop().await;

    let spans = std::mem::take(&mut *collected.lock().expect("whole"));
    let [span] = spans.as_slice() else { panic!("{spans:?}") };
    assert_eq!(span.name, "POST /v1/hitl/requests");
    assert_eq!(
        (hex::encode(&span.trace_id), hex::encode(&span.parent_span_id)),
        (trace_id.into(), "00f067aa0ba902b7".into())
    );
    assert!(attribute(span, "http.response.status_code").contains("201"));
    assert!(attribute(span, "relaytrace.request_id").contains(&request_id));
    let names: Vec<_> = span.attributes.iter().map(|attribute| attribute.key.as_str()).collect();
    let known = ["http.route", "http.request.method", "http.response.status_code", "relaytrace.request_id"];
    assert_eq!(names, known);
    // The event carries the span on.
    let stored: Vec<Option<String>> =
        sqlx::query_scalar("SELECT traceparent FROM outbox ORDER BY created_at, request_id")
            .fetch_all(&owner)
            .await
            .expect("rows");
    let expected = format!("00-{trace_id}-{}-01", hex::encode(&span.span_id));
    assert!(stored.contains(&Some(expected)), "{stored:?}");
}

#[sqlx::test(migrator = "relaytrace_store::MIGRATOR")]
async fn a_collector_that_says_nothing_delays_neither_answers_nor_the_end(owner: PgPool) {
    let silent = TcpListener::bind(FREE).await.expect("a port");
    let mut app = TestApp::new(&owner, ingest::router());
    let agent = app.agent("agent-1").await;
    app.state.traces = traced(format!("http://{}/v1/traces", silent.local_addr().expect("an address")), 1.0);
    app.router = relaytrace_service::http::service(ingest::router(), app.state.clone());
    for number in 0..3 {
        app.submit(&agent, &format!("k{number}")).await;
    }
    let served = Served::start(app.router.clone(), app.state.clone());
    let (stopped, accepted) = tokio::join!(served.stop(), silent.accept());
    let ((), (export, _)) = (stopped, accepted.expect("an export"));
    // It has stopped, and the export is still waited for: its connection is open.
    export.readable().await.expect("it was sent");
    let mut head = vec![0; 1 << 16];
    while export.try_read(&mut head).is_ok_and(|read| read > 0) {}
    let rest = export.try_read(&mut head).map_err(|error| error.kind());
    assert_eq!(rest, Err(std::io::ErrorKind::WouldBlock));
}
