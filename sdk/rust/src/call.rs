//! One call: sent, verified, and sent again while that may help (contract, "Errors").

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use jsonwebtoken::get_current_timestamp as now;
use reqwest::{Method, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::Patience;
use crate::about::{About, Answer, is_instance_of};
use crate::credentials::Credentials;
use crate::error::{Error, Lost, Problem, Result};
use crate::observe::{Observer, Response, Try};
use crate::signature::{Received as Signed, Unverified};

/// Longest body that is read; the contract keeps answers under 1 MB.
const LONGEST_BODY: usize = 4 << 20;
/// A token that is refused so often, or a clock that is wrong so often, will not be right by trying.
const HOPELESS_TRIES: usize = 3;
/// Code of the refusal of what an administrator holds.
const FROZEN: &str = "frozen";
/// How far the two clocks may be apart, in seconds (contract, "Tokens").
const LEEWAY: i64 = 30;

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
    /// An answer that counted has come from there before.
    was_answered: AtomicBool,
}

/// The result of one try.
enum Failed {
    /// It may be sent again, not before this time has passed.
    Again { lost: Lost, why: String, after: Option<Duration> },
    /// An unsigned 401: the service does not know whose secret would sign it.
    Unauthenticated(Error),
    /// It was signed by another clock.
    Clock { ahead_seconds: i64 },
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
        let was_answered = AtomicBool::new(false);
        Ok(Self { inner: Arc::new(Inner { base, credentials, patience, http, was_answered }), observer: None })
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

    /// Any call but a poll. An answer about something else counts as none.
    pub async fn call<T: DeserializeOwned + Answer>(
        &self,
        method: Method,
        path: &str,
        body: Option<&[u8]>,
        about: &About<'_>,
    ) -> Result<T> {
        self.until_answered(&Call { method, path, body, waits: Duration::ZERO, about }).await
    }

    /// A call that the service lets wait for so long.
    pub async fn poll<T: DeserializeOwned + Answer>(
        &self,
        path: &str,
        waits: Duration,
        about: &About<'_>,
    ) -> Result<T> {
        self.until_answered(&Call { method: Method::GET, path, body: None, waits, about }).await
    }

    /// A mutation that the service lets wait for so long.
    pub async fn post_waiting<T: DeserializeOwned + Answer>(
        &self,
        path: &str,
        body: &[u8],
        waits: Duration,
        about: &About<'_>,
    ) -> Result<T> {
        self.until_answered(&Call { method: Method::POST, path, body: Some(body), waits, about }).await
    }

    /// Something that anyone may read; it is not signed.
    pub async fn open<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let lost = |error: reqwest::Error| Error::NoAnswer { tries: 1, why: met(&error), last: said(&error) };
        let response =
            self.inner.http.get(self.url(path)?).timeout(self.inner.patience.per_try).send().await.map_err(lost)?;
        response.error_for_status().map_err(lost)?.json().await.map_err(lost)
    }

    async fn until_answered<T: DeserializeOwned + Answer>(&self, call: &Call<'_>) -> Result<T> {
        let mut tries = 0;
        let mut hopeless = 0;
        let begun = Instant::now();
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(Duration::from_secs(10))
            .with_jitter()
            .without_max_times();
        let attempt = || {
            tries += 1;
            self.once(call)
        };
        let outcome = attempt
            .retry(backoff)
            .when(|failed| match failed {
                Failed::Final(_) => false,
                Failed::Again { lost, .. } => {
                    hopeless += usize::from(lost.is_hopeless() && !self.was_answered());
                    hopeless < HOPELESS_TRIES
                }
                Failed::Unauthenticated(_) | Failed::Clock { .. } => {
                    hopeless += 1;
                    hopeless < HOPELESS_TRIES
                }
            })
            .adjust(|failed, pause| {
                let Failed::Again { after, .. } = failed else { return pause };
                let pause = pause?.max(after.unwrap_or_default());
                // None: there is no time for another try.
                (begun.elapsed() + pause < self.limit(call)).then_some(pause)
            })
            .await;
        outcome.map_err(|failed| match failed {
            Failed::Final(error) | Failed::Unauthenticated(error) => error,
            Failed::Again { lost, why, .. } => Error::NoAnswer { tries, why: lost, last: why },
            Failed::Clock { ahead_seconds } => Error::WrongClock { ahead_seconds },
        })
    }

    fn was_answered(&self) -> bool {
        self.inner.was_answered.load(Ordering::Relaxed)
    }

    /// How long this call is tried: an address that has never answered, for as long as a relay takes to start.
    fn limit(&self, call: &Call<'_>) -> Duration {
        let Patience { in_all, first_contact, .. } = self.inner.patience;
        if self.was_answered() { in_all + call.waits } else { in_all.min(first_contact) }
    }

    async fn once<T: DeserializeOwned + Answer>(&self, call: &Call<'_>) -> Result<T, Failed> {
        let Inner { credentials, patience, http, .. } = &*self.inner;
        let Call { method, path, body, waits, about } = call;
        let nonce = Uuid::new_v4().simple().to_string();
        let token = credentials.token(now()).map_err(Failed::Final)?;
        let mut request = http
            .request(method.clone(), self.url(path).map_err(Failed::Final)?)
            .bearer_auth(token)
            .header("relaytrace-nonce", &nonce)
            .timeout(patience.per_try + *waits);
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_vec());
        }
        let tried = |response| Try { method: method.as_str(), path, nonce: &nonce, response };
        let Received { status, headers, body } = match exchange(request).await {
            Ok(answer) => answer,
            Err((lost, why)) => {
                self.tell(&tried(Err(&why)));
                return Err(Failed::Again { lost, why, after: None });
            }
        };
        let signed = Signed { status: status.as_u16(), headers: &headers, body: &body };
        let verified = credentials.expected(method.as_str(), &nonce, now().cast_signed()).verify(signed);
        let verified = verified.as_ref().copied();
        self.tell(&tried(Ok(Response { status: status.as_u16(), headers: &headers, body: &body, verified })));
        if verified.is_ok() {
            self.inner.was_answered.store(true, Ordering::Relaxed);
        }
        match verified {
            Ok(()) if status.is_success() => {
                let answer: T = serde_json::from_slice(&body)
                    .map_err(|error| Failed::Final(Error::ContractBroken(format!("{method} {path}: {error}"))))?;
                answer.check(about).map_err(|other| of_another_question(status, &other))?;
                Ok(answer)
            }
            Ok(()) => Err(refused(&body, status, path, about)),
            Err(Unverified::Stale { age }) => Err(Failed::Clock { ahead_seconds: *age }),
            Err(_) if is_unauthenticated(status, &headers) => Err(Failed::Unauthenticated(unauthenticated(&headers))),
            Err(unverified) => {
                let lost = unsigned(status, &headers, unverified);
                Err(Failed::Again { lost, why: format!("{status}, and {unverified}"), after: None })
            }
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

/// What is asked.
struct Call<'a> {
    method: Method,
    /// Below the base address, with its query.
    path: &'a str,
    body: Option<&'a [u8]>,
    /// How long the service may wait before it answers.
    waits: Duration,
    /// What its answer has to be about.
    about: &'a About<'a>,
}

/// The response.
struct Received {
    status: StatusCode,
    headers: header::HeaderMap,
    body: Vec<u8>,
}

/// Sends a request and reads the whole answer; why there is none.
async fn exchange(request: reqwest::RequestBuilder) -> Result<Received, (Lost, String)> {
    let lost = |error: reqwest::Error| (met(&error), said(&error));
    let mut response = request.send().await.map_err(lost)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST_BODY {
            return Err((Lost::Unverified, format!("an answer of more than {LONGEST_BODY} bytes")));
        }
    }
    Ok(Received { status: response.status(), headers: std::mem::take(response.headers_mut()), body })
}

/// A verified problem document.
fn refused(body: &[u8], status: StatusCode, path: &str, about: &About<'_>) -> Failed {
    let problem = match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => problem,
        Err(error) => return Failed::Final(Error::ContractBroken(format!("a problem document: {error}"))),
    };
    if !is_instance_of(&problem.instance, path) {
        return of_another_question(status, &format!("its instance is {}, asked was {path}", problem.instance));
    }
    let stands = problem.decision.as_ref().and_then(|decision| decision["request_id"].as_str()?.parse::<Uuid>().ok());
    if let Some(of) = stands.filter(|of| !about.request_ids.is_empty() && !about.request_ids.contains(of)) {
        return of_another_question(status, &format!("its decision is that of {of}"));
    }
    if problem.retryable {
        let after = problem.retry_after_ms.map(Duration::from_millis);
        let lost = if problem.code == FROZEN { Lost::Frozen } else { Lost::Unavailable };
        return Failed::Again { lost, why: problem.to_string(), after };
    }
    Failed::Final(Error::Refused(Box::new(problem)))
}

/// It says nothing about this call: whether that had an effect is not known.
fn of_another_question(status: StatusCode, difference: &str) -> Failed {
    let why = format!("{status}, and it answers another question: {difference}");
    Failed::Again { lost: Lost::OtherAnswer, why, after: None }
}

/// What an answer means that the service has not signed for this call: it is no outcome, whatever it says.
fn unsigned(status: StatusCode, headers: &header::HeaderMap, unverified: &Unverified) -> Lost {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match status {
        _ if headers.contains_key("signature") => match unverified {
            Unverified::Signature => Lost::WrongSecret,
            _ => Lost::Unverified,
        },
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => Lost::Unavailable,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Lost::WrongUrl,
        _ if status.is_redirection() || !kind.contains("json") => Lost::WrongUrl,
        _ => Lost::Unverified,
    }
}

/// Why nothing came.
fn met(error: &reqwest::Error) -> Lost {
    if error.is_timeout() { Lost::TooSlow } else { Lost::Unreachable }
}

/// Whether the service does not know the caller. A bridge whose answers are always 200 says so in a header.
fn is_unauthenticated(status: StatusCode, headers: &header::HeaderMap) -> bool {
    status == StatusCode::UNAUTHORIZED
        || headers.get("relaytrace-problem").is_some_and(|code| code == "unauthenticated")
}

/// Why a token was refused, as far as this can be told. A wrong clock is the usual reason.
fn unauthenticated(headers: &header::HeaderMap) -> Error {
    let theirs = headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let theirs = theirs.and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok());
    match theirs.map(|theirs| now().cast_signed() - theirs.timestamp()) {
        Some(ahead_seconds) if ahead_seconds.abs() > LEEWAY => Error::WrongClock { ahead_seconds },
        _ => Error::WrongKey("the key is not known there, revoked, or its agent disabled".to_owned()),
    }
}

/// An error with its causes, in a line.
fn said(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
