//! The service that a scenario is played on: its address, and the people who use it there.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use chrono::DateTime;
use jsonwebtoken::get_current_timestamp;
use reqwest::{Method, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, sleep};
use url::Url;

/// Longest wait for an answer.
const PER_TRY: Duration = Duration::from_secs(10);
/// And for one to a sweep, which does up to 50 rounds of work.
const PER_SWEEP: Duration = Duration::from_mins(1);
/// Pause before the same call is sent again.
const PAUSE: Duration = Duration::from_millis(50);
/// The most that clocks may differ for tokens to be accepted, in seconds (contract, "Tokens").
const LEEWAY: i64 = 30;

/// Somebody with a token.
#[derive(Clone, Debug, Deserialize)]
pub struct Person {
    /// The token's `sub`.
    pub id: String,
    /// The token.
    pub token: String,
}

/// Where and by whom.
#[derive(Clone, Debug)]
pub struct Target {
    /// Without a slash at the end.
    pub base_url: String,
    /// An administrator's token.
    pub admin: String,
    /// Two at the least.
    pub operators: Vec<Person>,
    /// Any client of the service.
    pub http: reqwest::Client,
}

/// A response with its status and body.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: StatusCode,
    /// Its body; null if that is no JSON.
    pub body: Value,
}

impl Reply {
    /// The problem's code, empty if it is none.
    pub fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

/// A stack's description of itself, `dev.json`.
#[derive(Deserialize)]
struct Description {
    base_url: String,
    operators: Vec<Person>,
    admin: Token,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl Target {
    /// A service at this address.
    pub fn new(base_url: &str, admin: String, operators: Vec<Person>) -> Result<Self> {
        let is_usable = |url: &Url| matches!(url.scheme(), "http" | "https") && url.has_host();
        ensure!(Url::parse(base_url).is_ok_and(|url| is_usable(&url)), "{base_url} is no http or https address");
        let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
        Ok(Self { base_url: base_url.trim_end_matches('/').to_owned(), admin, operators, http })
    }

    /// The stack that this file describes, at another address if one is given.
    pub fn described(path: &Path, base_url: Option<&str>) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let described: Description =
            serde_json::from_str(&text).with_context(|| format!("{} describes no stack", path.display()))?;
        Self::new(base_url.unwrap_or(&described.base_url), described.admin.token, described.operators)
    }

    /// One call. A lost one is an error.
    pub async fn call(&self, token: &str, method: Method, path: &str, body: Option<&Value>) -> Result<Reply> {
        let patience = if path.starts_with("/internal/") { PER_SWEEP } else { PER_TRY };
        let mut request = self.http.request(method, format!("{}{path}", self.base_url)).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.timeout(patience).send().await.map_err(reqwest::Error::without_url)?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(reqwest::Error::without_url)?;
        Ok(Reply { status, body: serde_json::from_slice(&bytes).unwrap_or_default() })
    }

    /// The same call until it is answered with something that does not ask to be tried again.
    pub async fn until_answered(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Reply> {
        let begun = Instant::now();
        loop {
            let answered = self.call(token, method.clone(), path, body).await;
            match answered {
                Ok(reply) if !is_for_later(reply.status) => return Ok(reply),
                Ok(reply) if begun.elapsed() > patience => {
                    bail!("{method} {path} was answered {} for {patience:?}", reply.status)
                }
                Err(error) if begun.elapsed() > patience => {
                    return Err(error.context(format!("{method} {path} was not answered for {patience:?}")));
                }
                _ => sleep(PAUSE).await,
            }
        }
    }

    /// Reads something that must be there.
    pub async fn read(&self, token: &str, path: &str, patience: Duration) -> Result<Value> {
        let reply = self.until_answered(token, Method::GET, path, None, patience).await?;
        ensure!(reply.status == StatusCode::OK, "GET {path}: {} {}", reply.status, reply.body);
        Ok(reply.body)
    }

    /// Whether the service can be used from here: reached, with a clock like ours, and by these people.
    pub async fn check(&self) -> Result<()> {
        let Self { base_url, http, admin, operators } = self;
        let asked = http.get(format!("{base_url}/readyz")).timeout(PER_TRY).send().await;
        let ready = asked.map_err(reqwest::Error::without_url).with_context(|| format!("cannot reach {base_url}"))?;
        if let Some(seconds) = clock_difference(ready.headers())
            && seconds.abs() > LEEWAY
        {
            bail!("this machine's clock is {seconds} s off that of {base_url}: no token of ours would be accepted");
        }
        ensure!(ready.status().is_success(), "{base_url} is not ready: {}", ready.status());
        ensure!(
            operators.len() >= 2,
            "two operators' tokens are needed at the least: --operator-token A --operator-token B"
        );
        self.check_person("an administrator", admin, "/v1/admin/agents?limit=1").await?;
        for Person { id, token } in operators {
            self.check_person(&format!("the operator {id}"), token, "/v1/hitl/requests?limit=1").await?;
        }
        Ok(())
    }

    async fn check_person(&self, who: &str, token: &str, path: &str) -> Result<()> {
        let reply = self.call(token, Method::GET, path, None).await?;
        match reply.status {
            StatusCode::OK => Ok(()),
            StatusCode::UNAUTHORIZED => bail!("{} does not accept the token of {who}", self.base_url),
            StatusCode::FORBIDDEN => bail!("the token of {who} has not that role at {}", self.base_url),
            status => bail!("{} answered {status} to GET {path}, by {who}", self.base_url),
        }
    }
}

/// Whether the call may be answered otherwise when it is sent again (contract, "Errors"); a gateway's words count too.
fn is_for_later(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502..=504)
}

/// By how many seconds our clock is ahead.
fn clock_difference(headers: &header::HeaderMap) -> Option<i64> {
    let theirs = DateTime::parse_from_rfc2822(headers.get(header::DATE)?.to_str().ok()?).ok()?;
    Some(get_current_timestamp().cast_signed() - theirs.timestamp())
}

/// The person of this token; what it says is the service's to check.
pub fn person(token: String) -> Result<Person> {
    let claims = token.split('.').nth(1).and_then(|claims| BASE64_URL_SAFE_NO_PAD.decode(claims).ok());
    let claims: Value = serde_json::from_slice(&claims.context("an operator's token is no JWT")?)?;
    let id = claims["sub"].as_str().context("an operator's token names nobody")?.to_owned();
    Ok(Person { id, token })
}
