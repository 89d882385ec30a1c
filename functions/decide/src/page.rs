//! The operator page and the API's description: static, compiled in.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use include_dir::{Dir, include_dir};
use relaytrace_domain::{Error, Result};
use relaytrace_service::AppState;
use relaytrace_service::http::Path;

use crate::conditional;

static PAGE: Dir = include_dir!("$CARGO_MANIFEST_DIR/page");
/// Generated from the code; `make check` compares.
static OPENAPI: &str = include_str!("../../../contract/openapi.json");

pub async fn index(State(state): State<AppState>, asked: HeaderMap) -> Result<Response> {
    let page = PAGE.get_file("index.html").and_then(|file| file.contents_utf8()).ok_or(Error::NotFound)?;
    let mut page = page.to_owned();
    let mut set = |name: &str, value: &str| {
        let value = value.replace('&', "&amp;").replace('"', "&quot;");
        page = page.replace(
            &format!(r#"<meta name="relaytrace-{name}" content="">"#),
            &format!(r#"<meta name="relaytrace-{name}" content="{value}">"#),
        );
    };
    // Only the local stack's own page honours a token in the URL's fragment.
    if state.page.is_local {
        set("local", "1");
    }
    if let Some(login) = &state.page.login {
        set("issuer", &login.issuer);
        set("client", &login.client_id);
        set("scope", &login.scope);
    }
    static_file(&state, &asked, "text/html; charset=utf-8", page.into_bytes())
}

/// The service worker: at the page's own place, as it sees no more than what is below it.
pub async fn service_worker(State(state): State<AppState>, asked: HeaderMap) -> Result<Response> {
    let file = PAGE.get_file("sw.js").ok_or(Error::NotFound)?;
    static_file(&state, &asked, "text/javascript; charset=utf-8", file.contents().to_vec())
}

pub async fn asset(Path(name): Path<String>, State(state): State<AppState>, asked: HeaderMap) -> Result<Response> {
    let file =
        PAGE.get_file(&name).filter(|_| !matches!(name.as_str(), "index.html" | "sw.js")).ok_or(Error::NotFound)?;
    let content_type = match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("webmanifest") => "application/manifest+json",
        _ => return Err(Error::NotFound),
    };
    static_file(&state, &asked, content_type, file.contents().to_vec())
}

/// This description
#[utoipa::path(
    get, path = "/openapi.json", tag = "decide",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub async fn openapi(State(state): State<AppState>, asked: HeaderMap) -> Result<Response> {
    static_file(&state, &asked, "application/json", OPENAPI.as_bytes().to_vec())
}

/// Kept by browsers, and asked about again each time: a new release is seen at once, an unchanged file costs no bytes.
fn static_file(state: &AppState, asked: &HeaderMap, content_type: &'static str, body: Vec<u8>) -> Result<Response> {
    // The page loads its own files, talks to this API and, to sign in, to the issuer.
    let issuer = state.page.login.as_ref().map_or("", |login| &login.origin);
    let policy = format!(
        "default-src 'self'; connect-src 'self' {issuer}; manifest-src 'self'; worker-src 'self'; frame-ancestors 'none'; \
         base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    );
    let policy = HeaderValue::try_from(policy).map_err(Error::internal)?;
    let mut response = conditional::bytes(asked, content_type, "no-cache", body)?;
    response.headers_mut().extend([
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ]);
    Ok(response)
}
