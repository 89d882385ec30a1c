//! Calls of people: operators and administrators, with a token of their issuer.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use reqwest::{Method, StatusCode, header, redirect};
use serde_json::Value;

use crate::exit::{FAILED, Fault, Result, UNREACHABLE, USAGE};
use crate::settings::Settings;

/// Limit for one call.
const PATIENCE: Duration = Duration::from_secs(30);

/// A person's client.
#[derive(Debug)]
pub struct Person {
    http: reqwest::Client,
    /// The relay's address, without a slash at its end.
    pub url: String,
    token: String,
}

/// An answer of the relay.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// The body; null where there is none.
    pub body: Value,
}

impl Person {
    /// The operator who signed in, or whose token `RELAYTRACE_OPERATOR_TOKEN_FILE` holds.
    pub fn operator(settings: &Settings) -> Result<Self> {
        Self::with_token(settings, &token_of(&settings.operator_token_file())?)
    }

    /// The administrator whose token `RELAYTRACE_ADMIN_TOKEN_FILE` holds, or else who signed in.
    pub fn admin(settings: &Settings) -> Result<Self> {
        let file = settings.get("ADMIN_TOKEN_FILE").map_or_else(|| settings.operator_token_file(), Into::into);
        Self::with_token(settings, &token_of(&file)?)
    }

    /// Who holds this token.
    pub fn with_token(settings: &Settings, token: &str) -> Result<Self> {
        Ok(Self { http: http()?, url: settings.url()?, token: token.to_owned() })
    }

    /// A call, whatever its answer.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer> {
        self.call_if(method, path, body, None).await
    }

    /// A call that does nothing unless this version stands, whatever its answer.
    pub async fn call_if(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        version: Option<&str>,
    ) -> Result<Answer> {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).bearer_auth(&self.token);
        if let Some(version) = version {
            request = request.header(header::IF_MATCH, version);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let lost = |error: reqwest::Error| {
            Fault::unreachable(format!("{} cannot be reached: {}. Check RELAYTRACE_URL", self.url, said(&error)))
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json = kind.contains("json");
        let bytes = response.bytes().await.map_err(lost)?;
        let body = if bytes.is_empty() { Some(Value::Null) } else { serde_json::from_slice(&bytes).ok() };
        match body {
            Some(body) if is_json || body.is_null() => Ok(Answer { status, body }),
            _ => {
                let what =
                    format!("{} answered {status} with no JSON: it is no relay, or a proxy answers for it", self.url);
                Err(Fault::unreachable(what))
            }
        }
    }

    /// The body of a GET that worked.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.call(Method::GET, path, None).await?.ok()
    }

    /// The items of all pages of a list.
    pub async fn all(&self, path: &str) -> Result<Vec<Value>> {
        let (mut items, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut page = self.get(&format!("{path}?limit=200{cursor}")).await?;
            items.extend(page["items"].as_array_mut().into_iter().flatten().map(Value::take));
            let Some(next) = page["next_cursor"].as_str() else { return Ok(items) };
            cursor = format!("&cursor={}", url::form_urlencoded::byte_serialize(next.as_bytes()).collect::<String>());
        }
    }

    /// The body of a mutation that worked.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        self.call(method, path, Some(body)).await?.ok()
    }
}

impl Answer {
    /// The body of a 2xx answer; else the problem, in words.
    pub fn ok(self) -> Result<Value> {
        let Self { status, body } = self;
        if status.is_success() {
            return Ok(body);
        }
        let text = |member: &str| body[member].as_str().unwrap_or_default().to_owned();
        let faults = body["errors"].as_array().into_iter().flatten();
        let mut said =
            faults.fold(format!("{} {}: {}", status.as_u16(), text("code"), text("detail")), |said, fault| {
                let part = |member: &str| fault[member].as_str().unwrap_or_default();
                let pointer = if part("pointer").is_empty() { "the body" } else { part("pointer") };
                format!("{said}\n  {pointer}: {}", part("detail"))
            });
        if let Some(decision) = body["decision"].as_object() {
            let by = decision.get("decided_by").unwrap_or(&Value::Null);
            let by = by["name"].as_str().or(by["id"].as_str()).unwrap_or_default();
            let outcome = decision.get("outcome").and_then(Value::as_str).unwrap_or_default();
            said = format!(
                "{said}
  {outcome} by {by} stands"
            );
        }
        let code = match status {
            StatusCode::UNAUTHORIZED => {
                said += ". Sign in again: relaytrace login";
                FAILED
            }
            StatusCode::UNPROCESSABLE_ENTITY => USAGE,
            StatusCode::TOO_MANY_REQUESTS => UNREACHABLE,
            status if status.is_server_error() => UNREACHABLE,
            _ => FAILED,
        };
        Err(Fault { said, code })
    }
}

/// Follows nothing: a token goes to the address that was named.
pub fn http() -> Result<reqwest::Client> {
    let agent = concat!("relaytrace-cli/", env!("CARGO_PKG_VERSION"));
    let client = reqwest::Client::builder().user_agent(agent).timeout(PATIENCE).redirect(redirect::Policy::none());
    client.build().map_err(|error| Fault::failed(error.to_string()))
}

/// An error with its causes, in a line.
pub fn said(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn token_of(file: &Path) -> Result<String> {
    let unusable = |why: String| Fault::usage(format!("{}: {why}", file.display()));
    let token = fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Fault::usage("nobody has signed in: relaytrace login"),
        _ => unusable(error.to_string()),
    })?;
    if fs::metadata(file).is_ok_and(|file| file.mode() & 0o007 != 0) {
        return Err(unusable("everybody may read this token: chmod 600 it".into()));
    }
    let token = token.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable("it holds no token".into()));
    }
    Ok(token.to_owned())
}
