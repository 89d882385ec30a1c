//! Traces for a collector of OpenTelemetry: a span for each call, joined to its caller's.
//!
//! Spans wait in a bounded queue for a thread of their own: an answer never waits for the collector, and what it does not
//! take in time is dropped.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::resource::{EnvResourceDetector, ResourceDetector as _};
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider, Span};
use relaytrace_domain::Error;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::http::RequestOf;
use crate::telemetry::{Parent, TraceContext};

/// Longest call of the collector.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest that stopping waits for the last spans to be taken.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(2);
/// The attribute of a resource that names its service.
const SERVICE_NAME: Key = Key::from_static_str("service.name");

/// Where spans go, and which (`OTEL_*`).
#[derive(Clone, Debug, PartialEq)]
pub struct TraceSettings {
    /// Full URL, with `/v1/traces`.
    pub endpoint: String,
    /// A caller's own decision counts before the share.
    pub follows_caller: bool,
    /// Share of the traces that begin here, 0 to 1.
    pub share: f64,
}

/// The traces of a process; cheap to clone. Off, they cost nothing.
#[derive(Clone, Debug, Default)]
pub struct Traces(Option<Exporting>);

#[derive(Clone, Debug)]
struct Exporting {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Exports as these settings say. Must be called within a runtime.
    #[must_use]
    pub fn new(settings: Option<&TraceSettings>) -> Self {
        let Some(settings) = settings else { return Self::default() };
        match exporting(settings) {
            Ok(exporting) => Self(Some(exporting)),
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "traces are off: they cannot be exported");
                Self::default()
            }
        }
    }

    /// A call begins: the trace that it belongs to, and its span.
    pub(crate) fn begin(&self, headers: &HeaderMap, method: &Method, route: Option<&str>) -> (TraceContext, CallSpan) {
        let header = headers.get("traceparent").and_then(|value| value.to_str().ok());
        let Some(Exporting { tracer, .. }) = &self.0 else {
            return (TraceContext::continue_from(header), CallSpan(None));
        };
        let parent = header.and_then(Parent::parse).map_or_else(Context::new, |parent| remote(&parent));
        let call = SpanBuilder::from_name("call").with_kind(SpanKind::Server);
        let mut span = tracer.build_with_context(call, &parent);
        if span.is_recording() {
            let method = known(method);
            match route {
                Some(route) => {
                    span.update_name(format!("{method} {route}"));
                    span.set_attribute(KeyValue::new("http.route", route.to_owned()));
                }
                None => span.update_name(method),
            }
            span.set_attribute(KeyValue::new("http.request.method", method));
        }
        let context = span.span_context();
        let (trace_id, span_id) = (context.trace_id(), context.span_id());
        let traceparent = format!("00-{trace_id}-{span_id}-{:02x}", context.trace_flags().to_u8());
        (TraceContext { traceparent }, CallSpan(Some(span)))
    }

    /// Hands out what is left, within two seconds.
    pub(crate) async fn shut_down(&self) {
        let Some(Exporting { provider, .. }) = self.0.clone() else { return };
        let (done, ended) = oneshot::channel();
        // Not a task: the runtime would wait for one that blocks.
        std::thread::spawn(move || {
            drop(provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
            done.send(()).unwrap_or_default();
        });
        drop(timeout(SHUTDOWN_TIMEOUT, ended).await);
    }
}

/// The span of a call; it ends with it, also where the caller hangs up.
#[derive(Debug)]
pub(crate) struct CallSpan(Option<Span>);

impl CallSpan {
    /// The call is answered.
    pub(crate) fn end<B>(self, response: &Response<B>, error: Option<&Error>) {
        let Some(mut span) = self.0.filter(Span::is_recording) else { return };
        let status = response.status();
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        if let Some(RequestOf(request_id)) = response.extensions().get() {
            span.set_attribute(KeyValue::new("relaytrace.request_id", request_id.to_string()));
        }
        if let Some(error) = error {
            span.set_attribute(KeyValue::new("error.type", error.answer().code));
        }
        if status.is_server_error() {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

/// A method of the protocol; any other could have any length.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

fn remote(parent: &Parent<'_>) -> Context {
    let trace_id = TraceId::from_hex(parent.trace_id).unwrap_or(TraceId::INVALID);
    let span_id = SpanId::from_hex(parent.span_id).unwrap_or(SpanId::INVALID);
    let flags = if parent.is_sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
    Context::new().with_remote_span_context(SpanContext::new(trace_id, span_id, flags, true, TraceState::NONE))
}

fn exporting(settings: &TraceSettings) -> anyhow::Result<Exporting> {
    let client = reqwest::Client::builder().timeout(EXPORT_TIMEOUT).build()?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Posting { client, runtime: Handle::try_current()? })
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(&settings.endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()?;
    let of_share = Sampler::TraceIdRatioBased(settings.share);
    let sampler = if settings.follows_caller { Sampler::ParentBased(Box::new(of_share)) } else { of_share };
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource())
        .build();
    let tracer = provider.tracer("relaytrace");
    Ok(Exporting { provider, tracer })
}

/// Whose spans they are. `OTEL_SERVICE_NAME` names the service, else `service.name` of `OTEL_RESOURCE_ATTRIBUTES`
/// (OpenTelemetry, "General SDK Configuration"; the SDK has the two the other way round).
fn resource() -> Resource {
    let own = std::env::var("OTEL_SERVICE_NAME").ok().filter(|name| !name.is_empty());
    let of_attributes = || EnvResourceDetector::new().detect().get(&SERVICE_NAME).map(|name| name.to_string());
    let name = own.or_else(of_attributes).filter(|name| !name.is_empty()).unwrap_or_else(|| "relaytrace".to_owned());
    Resource::builder().with_service_name(name).build()
}

/// Posts for a thread that is not of the runtime.
#[derive(Debug)]
struct Posting {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Posting {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let posting = async move {
            let response = client.execute(request.try_into()?).await?;
            let status = response.status();
            Ok::<_, HttpError>(Response::builder().status(status).body(response.bytes().await?)?)
        };
        self.runtime.spawn(posting).await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What another process of this test has to find: the environment is the whole process's.
    const EXPECTED: &str = "EXPECTED_SERVICE_NAME";

    #[test]
    fn a_service_is_named_by_its_own_variable_then_by_its_attributes() {
        let attribute = |name: &str| resource().get(&Key::new(name.to_owned())).map(|value| value.to_string());
        if let Ok(expected) = std::env::var(EXPECTED) {
            assert_eq!(attribute("service.name"), Some(expected));
            assert_eq!(attribute("team").as_deref(), Some("ops"));
            return;
        }
        for (name, attributes, expected) in [
            ("", "team=ops", "relaytrace"),
            ("", "service.name=,team=ops", "relaytrace"),
            ("", "service.name=approvals,team=ops", "approvals"),
            ("relay-eu", "team=ops", "relay-eu"),
            ("relay-eu", "service.name=approvals,team=ops", "relay-eu"),
        ] {
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "traces::tests::a_service_is_named_by_its_own_variable_then_by_its_attributes"])
                .envs([("OTEL_SERVICE_NAME", name), ("OTEL_RESOURCE_ATTRIBUTES", attributes), (EXPECTED, expected)])
                .output()
                .unwrap();
            assert!(output.status.success(), "{name:?} {attributes:?}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }
}
