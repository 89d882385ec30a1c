//! One call: sent, verified, and sent again while that may help (contract, "Errors").

use std::sync::Arc;
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use jsonwebtoken::get_current_timestamp as now;
use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::Patience;
use crate::credentials::Credentials;
use crate::error::{Error, Problem, Result};
use crate::observe::{Observer, Response, Try};
use crate::signature::Received;

/// Longest body that is read; the contract keeps answers under 1 MB.
const LONGEST_BODY: usize = 4 << 20;
/// A token that is refused so often will not be accepted by trying.
const REFUSED_TOKENS: usize = 3;

#[derive(Clone, Debug)]
pub struct Caller {
    inner: Arc<Inner>,
    observer: Option<Arc<dyn Observer>>,
}

#[derive(Debug)]
struct Inner {
    base: Url,
    credentials: Credentials,
    patience: Patience,
    http: reqwest::Client,
}

/// What became of one try.
enum Failed {
    /// It may be sent again, not before this time has passed.
    Again { why: String, after: Option<Duration> },
    /// It was not signed, because the service does not know whose answer it would be.
    Unauthenticated(String),
    /// It is settled.
    Final(Error),
}

impl Caller {
    pub fn new(base_url: &str, credentials: Credentials, patience: Patience) -> Result<Self> {
        let base = Url::parse(base_url)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| Error::Configuration(format!("{base_url} is no http or https address")))?;
        let http = reqwest::Client::builder()
            .user_agent(concat!("relaytrace-client/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(patience.per_try)
            // An answer is the service's own or none.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::Configuration(error.to_string()))?;
        Ok(Self { inner: Arc::new(Inner { base, credentials, patience, http }), observer: None })
    }

    /// How long its calls may take.
    pub fn patience(&self) -> Patience {
        self.inner.patience
    }

    /// The same, with its tries told to the observer.
    pub fn observed(&self, observer: Arc<dyn Observer>) -> Self {
        Self { inner: self.inner.clone(), observer: Some(observer) }
    }

    pub fn agent_id(&self) -> &str {
        self.inner.credentials.agent_id()
    }

    /// Any call but a poll.
    pub async fn call<T: DeserializeOwned>(&self, method: Method, path: &str, body: Option<&[u8]>) -> Result<T> {
        self.until_answered(method, path, body, Duration::ZERO).await
    }

    /// A call that the service lets wait for so long.
    pub async fn poll<T: DeserializeOwned>(&self, path: &str, waits: Duration) -> Result<T> {
        self.until_answered(Method::GET, path, None, waits).await
    }

    /// Something that anyone may read; it is not signed.
    pub async fn open<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let lost = |error: reqwest::Error| Error::GaveUp { tries: 1, last: said(&error) };
        let response =
            self.inner.http.get(self.url(path)?).timeout(self.inner.patience.per_try).send().await.map_err(lost)?;
        response.error_for_status().map_err(lost)?.json().await.map_err(lost)
    }

    async fn until_answered<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
        waits: Duration,
    ) -> Result<T> {
        let mut tries = 0;
        let mut refused_tokens = 0;
        let give_up_at = Instant::now() + self.inner.patience.in_all + waits;
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(10))
            .with_jitter()
            .without_max_times();
        let attempt = || {
            tries += 1;
            self.once(&method, path, body, waits)
        };
        let outcome = attempt
            .retry(backoff)
            .when(|failed| match failed {
                Failed::Final(_) => false,
                Failed::Again { .. } => Instant::now() < give_up_at,
                Failed::Unauthenticated(_) => {
                    refused_tokens += 1;
                    refused_tokens < REFUSED_TOKENS
                }
            })
            .adjust(|failed, pause| match failed {
                Failed::Again { after: Some(after), .. } => pause.map(|pause| pause.max(*after)),
                _ => pause,
            })
            .await;
        outcome.map_err(|failed| match failed {
            Failed::Final(error) => error,
            Failed::Again { why, .. } => Error::GaveUp { tries, last: why },
            Failed::Unauthenticated(why) => Error::NotAuthenticated(why),
        })
    }

    async fn once<T: DeserializeOwned>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&[u8]>,
        waits: Duration,
    ) -> Result<T, Failed> {
        let Inner { credentials, patience, http, .. } = &*self.inner;
        let nonce = Uuid::new_v4().simple().to_string();
        let token = credentials.token(now()).map_err(Failed::Final)?;
        let mut request = http
            .request(method.clone(), self.url(path).map_err(Failed::Final)?)
            .bearer_auth(token)
            .header("relaytrace-nonce", &nonce)
            .timeout(patience.per_try + waits);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_vec());
        }
        let tried = |response| Try { method: method.as_str(), path, nonce: &nonce, response };
        let Answer { status, headers, body } = match exchange(request).await {
            Ok(answer) => answer,
            Err(why) => {
                self.tell(&tried(Err(&why)));
                return Err(Failed::Again { why, after: None });
            }
        };
        let received = Received { status: status.as_u16(), headers: &headers, body: &body };
        let verified = credentials.expected(method.as_str(), &nonce, now().cast_signed()).verify(received);
        let verified = verified.as_ref().copied();
        self.tell(&tried(Ok(Response { status: status.as_u16(), headers: &headers, body: &body, verified })));
        match verified {
            Ok(()) if status.is_success() => serde_json::from_slice(&body)
                .map_err(|error| Failed::Final(Error::Contract(format!("{method} {path}: {error}")))),
            Ok(()) => Err(refused(&body)),
            Err(_) if status == StatusCode::UNAUTHORIZED => Err(Failed::Unauthenticated(clock_difference(&headers))),
            Err(unverified) => Err(Failed::Again { why: format!("{status}, and {unverified}"), after: None }),
        }
    }

    fn tell(&self, tried: &Try<'_>) {
        if let Some(observer) = &self.observer {
            observer.tried(tried);
        }
    }

    /// `path` below the base address.
    fn url(&self, path: &str) -> Result<Url> {
        let base = self.inner.base.as_str().trim_end_matches('/');
        Url::parse(&format!("{base}{path}")).map_err(|error| Error::Configuration(format!("{path}: {error}")))
    }
}

/// What came back.
struct Answer {
    status: StatusCode,
    headers: header::HeaderMap,
    body: Vec<u8>,
}

/// Sends a request and reads the whole answer; why there is none.
async fn exchange(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let lost = |error: reqwest::Error| said(&error);
    let mut response = request.send().await.map_err(lost)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_BODY {
            return Err(format!("an answer of more than {LONGEST_BODY} bytes"));
        }
    }
    Ok(Answer { status: response.status(), headers: std::mem::take(response.headers_mut()), body })
}

/// A verified problem document.
fn refused(body: &[u8]) -> Failed {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) if problem.retryable => {
            Failed::Again { why: problem.to_string(), after: problem.retry_after_ms.map(Duration::from_millis) }
        }
        Ok(problem) => Failed::Final(Error::Refused(Box::new(problem))),
        Err(error) => Failed::Final(Error::Contract(format!("a problem document: {error}"))),
    }
}

/// A clock that is off is the usual reason why a good key's token is refused.
fn clock_difference(headers: &header::HeaderMap) -> String {
    let theirs = headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let theirs = theirs.and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok());
    match theirs.map(|theirs| now().cast_signed() - theirs.timestamp()) {
        Some(seconds) if seconds.abs() > 30 => format!("this machine's clock is {seconds} s off the service's"),
        _ => "the key is not known there, revoked, or its agent disabled".to_owned(),
    }
}

/// An error with its causes, in a line.
fn said(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
