//! The operator page and the API's description: static, compiled in.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use include_dir::{Dir, include_dir};
use relaytrace::http::Path;
use relaytrace::{AppState, Error, Result};

static PAGE: Dir = include_dir!("$CARGO_MANIFEST_DIR/page");
/// Generated from the code; `make check` compares.
static OPENAPI: &str = include_str!("../../../openapi.json");

const POLICY: &str = "default-src 'self'; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; \
                      form-action 'none'; require-trusted-types-for 'script'";

pub async fn index(State(state): State<AppState>) -> Result<Response> {
    let page = PAGE.get_file("index.html").and_then(|file| file.contents_utf8()).ok_or(Error::NotFound)?;
    let is_local = if state.page.is_local { "1" } else { "" };
    // Only the local stack's own page honours a token in the URL's fragment.
    let page = page.replace(
        r#"<meta name="relaytrace-local" content="">"#,
        &format!(r#"<meta name="relaytrace-local" content="{is_local}">"#),
    );
    Ok(static_file("text/html; charset=utf-8", page.into_bytes()))
}

pub async fn asset(Path(name): Path<String>) -> Result<Response> {
    let file = PAGE.get_file(&name).filter(|_| name != "index.html").ok_or(Error::NotFound)?;
    let content_type = match name.rsplit('.').next() {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => return Err(Error::NotFound),
    };
    Ok(static_file(content_type, file.contents().to_vec()))
}

/// This description
#[utoipa::path(
    get, path = "/openapi.json", tag = "decide",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
pub async fn openapi() -> Response {
    static_file("application/json", OPENAPI.as_bytes().to_vec())
}

fn static_file(content_type: &'static str, body: Vec<u8>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, body).into_response()
}
