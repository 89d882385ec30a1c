//! The guard: the one client for URLs that came through the API (contract, "Calls to addresses from the API").
//!
//! https, or what `EGRESS_ALLOW` names; no address that is not everybody's; no redirects, no proxies. A name is looked up
//! once for a connection, its answer is sifted, and only an address that is left is connected to: an answer that is
//! another one a moment later changes nothing. Time and bytes are bounded. Whatever fails has one text.

mod addresses;
mod rules;

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use url::{Host, Url};

pub use rules::EgressRules;

/// Longest call, from the look-up of the name to the end of the answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for the rest of an answer that nobody reads, so that its connection can be used again.
const DRAIN: Duration = Duration::from_millis(200);
/// Bytes of an answer at the most.
const MOST_BYTES: usize = 16 * 1024;
/// Longest URL.
const LONGEST_URL: usize = 2_000;

/// What is said of a URL that may not be called or does not answer, whatever the reason: it tells nobody what is inside.
pub const UNCALLABLE: &str = "the address cannot be called, or did not answer as it should";

/// A call that did not succeed. Says nothing of why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{UNCALLABLE}")]
pub struct Uncallable;

/// What a look-up finds.
pub type LookupResult = Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>>;

/// Looks names up: the system, or a test.
pub trait Lookup: Debug + Send + Sync {
    /// The addresses of a name.
    fn lookup(&self, name: &str) -> LookupResult;
}

/// The system's resolver.
#[derive(Debug)]
struct System;

impl Lookup for System {
    fn lookup(&self, name: &str) -> LookupResult {
        let name = name.to_owned();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Looks a name up and leaves only addresses that may be called.
#[derive(Debug)]
struct Sifting {
    rules: EgressRules,
    lookup: Arc<dyn Lookup>,
    is_plain: bool,
}

impl Resolve for Sifting {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let found = self.lookup.lookup(&name);
        let (rules, is_plain) = (self.rules.clone(), self.is_plain);
        Box::pin(async move {
            let is_named = rules.names(&name, is_plain);
            let admitted: Vec<SocketAddr> = found
                .await?
                .into_iter()
                .filter(|address| is_named || rules.admits(*address, is_plain))
                // The URL's own port takes the place of 0.
                .map(|address| SocketAddr::new(address, 0))
                .collect();
            if admitted.is_empty() {
                return Err(Uncallable.into());
            }
            Ok(Box::new(admitted.into_iter()) as Addrs)
        })
    }
}

/// The answer to a call.
#[derive(Debug)]
pub struct Reply {
    /// Its status.
    pub status: StatusCode,
    response: Response,
}

/// The client; cheap to clone.
#[derive(Clone, Debug)]
pub struct Egress {
    rules: EgressRules,
    secure: Client,
    plain: Client,
}

impl Egress {
    /// A client with these rules.
    #[must_use]
    pub fn new(rules: EgressRules) -> Self {
        Self::looking_up(rules, System)
    }

    /// A client that looks names up so.
    ///
    /// # Panics
    /// Where no TLS client can be built, which is a fault of the build.
    #[must_use]
    pub fn looking_up(rules: EgressRules, lookup: impl Lookup + 'static) -> Self {
        let lookup: Arc<dyn Lookup> = Arc::new(lookup);
        let build = |is_plain: bool| {
            Client::builder()
                .https_only(!is_plain)
                .redirect(Policy::none())
                .no_proxy()
                .referer(false)
                .timeout(DEADLINE)
                .pool_idle_timeout(Duration::from_secs(20))
                .pool_max_idle_per_host(16)
                .user_agent("RelayTrace")
                .dns_resolver(Sifting { rules: rules.clone(), lookup: lookup.clone(), is_plain })
                .build()
                .expect("a TLS client")
        };
        Self { secure: build(false), plain: build(true), rules }
    }

    /// Whether a URL may be called, as far as the URL says: a name's addresses are looked at when it is called.
    ///
    /// # Errors
    /// [`Uncallable`].
    pub fn check(&self, text: &str) -> Result<Url, Uncallable> {
        self.rules.check(text)
    }

    /// Sends a body, and gives the answer if there is one in time.
    ///
    /// # Errors
    /// [`Uncallable`].
    pub async fn post(&self, url: &str, headers: HeaderMap, body: Vec<u8>) -> Result<Reply, Uncallable> {
        let url = self.check(url)?;
        let client = if url.scheme() == "http" { &self.plain } else { &self.secure };
        let host = url.host_str().unwrap_or_default().to_owned();
        match client.post(url).headers(headers).body(body).send().await {
            Ok(response) => Ok(Reply { status: response.status(), response }),
            Err(error) => {
                // The host and the kind of failure: never the path, which may be a secret.
                tracing::debug!(host, error = ?error.without_url(), "a call did not succeed");
                Err(Uncallable)
            }
        }
    }
}

impl Reply {
    /// The whole body.
    ///
    /// # Errors
    /// [`Uncallable`] where it is longer than 16 KiB, or does not end in time.
    pub async fn body(mut self) -> Result<Vec<u8>, Uncallable> {
        let mut body = Vec::new();
        while let Some(chunk) = self.response.chunk().await.map_err(|_| Uncallable)? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err(Uncallable);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The status; of the body only what is there already.
    pub async fn finish(self) -> StatusCode {
        let status = self.status;
        drop(tokio::time::timeout(DRAIN, self.body()).await);
        status
    }
}

impl EgressRules {
    fn check(&self, text: &str) -> Result<Url, Uncallable> {
        let url = Url::parse(text).map_err(|_| Uncallable)?;
        let is_plain = match url.scheme() {
            "https" => false,
            "http" => true,
            _ => return Err(Uncallable),
        };
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_admitted = match url.host() {
            Some(Host::Ipv4(address)) => self.admits(address.into(), is_plain),
            Some(Host::Ipv6(address)) => self.admits(address.into(), is_plain),
            Some(Host::Domain(name)) => !is_plain || self.may_be_plain(name),
            None => false,
        };
        if text.len() > LONGEST_URL || has_user || !is_admitted {
            return Err(Uncallable);
        }
        Ok(url)
    }
}
