//! The issuer's keys, fetched from it. Known keys stay usable while the issuer is away.
//!
//! No call waits for a fetch whose answer it does not need, and no fetch is made by a call: one task of this process
//! fetches at a time. A failure is remembered for a while, so that no second call waits for a dead issuer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;
use url::Url;

use super::IssuerKeys;
use relaytrace_domain::{Error, Result};

/// Keys behind a URL.
#[derive(Debug)]
pub(super) struct Remote {
    url: Url,
    client: reqwest::Client,
    state: Mutex<State>,
    /// Told at the end of each fetch.
    fetched: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    keys: Option<(Arc<IssuerKeys>, DateTime<Utc>)>,
    is_fetching: bool,
    /// Fetches that have failed since the last that did not.
    failures: u32,
    /// No fetch before then.
    not_before: Option<DateTime<Utc>>,
}

impl Remote {
    /// Fetched keys are used without asking again for so long.
    const FRESH_FOR: TimeDelta = TimeDelta::minutes(5);
    /// And for so long where the issuer does not answer: better than an outage of the issuer becoming ours.
    const STALE_FOR: TimeDelta = TimeDelta::hours(1);
    /// A kid that is not among them makes us ask again, at most this often.
    const ASK_AGAIN_AFTER: TimeDelta = TimeDelta::seconds(10);
    const FETCH_TIMEOUT: Duration = Duration::from_secs(2);
    /// Pause after a failure; it doubles with each.
    const PAUSE: TimeDelta = TimeDelta::seconds(1);
    const LONGEST_PAUSE: TimeDelta = TimeDelta::minutes(1);
    /// Longest JWK set.
    const MAX_BYTES: usize = 1024 * 1024;

    pub(super) fn new(url: Url) -> Result<Self> {
        let client = reqwest::Client::builder()
            .https_only(true)
            .timeout(Self::FETCH_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(Error::internal)?;
        Ok(Self::with_client(url, client))
    }

    fn with_client(url: Url, client: reqwest::Client) -> Self {
        Self { url, client, state: Mutex::default(), fetched: watch::Sender::new(()) }
    }

    /// Keys among which this one is; a token whose kid is known does not wait.
    pub(super) async fn keys_for(self: &Arc<Self>, key_id: &str, now: DateTime<Utc>) -> Result<Arc<IssuerKeys>> {
        let mut fetched = self.fetched.subscribe();
        let is_fetching = {
            let mut state = self.lock();
            let known = state.with(key_id, now);
            if !state.is_fetching && state.wants_a_fetch(known.is_some(), now) {
                state.is_fetching = true;
                tokio::spawn(self.clone().fetch(now));
            }
            if let Some(keys) = known {
                return Ok(keys);
            }
            state.is_fetching
        };
        if is_fetching {
            // The fetch has a time-out of its own; this one is for a process that was frozen meanwhile.
            drop(tokio::time::timeout(2 * Self::FETCH_TIMEOUT, fetched.changed()).await);
        }
        let state = self.lock();
        match state.with(key_id, now) {
            Some(keys) => Ok(keys),
            None if state.is_up_to_date(now) => Err(Error::Unauthenticated("the kid is not among the issuer's keys")),
            None => Err(Error::Unavailable(anyhow::anyhow!("the issuer's keys cannot be fetched"))),
        }
    }

    async fn fetch(self: Arc<Self>, now: DateTime<Utc>) {
        let keys = self.get().await;
        {
            let mut state = self.lock();
            state.is_fetching = false;
            match keys {
                Ok(keys) => {
                    (state.keys, state.failures, state.not_before) = (Some((Arc::new(keys), now)), 0, None);
                }
                Err(error) => {
                    let pause = Self::PAUSE * 2_i32.pow(state.failures.min(6));
                    state.failures += 1;
                    state.not_before = Some(now + pause.min(Self::LONGEST_PAUSE));
                    tracing::warn!(error = format!("{error:#}"), "the issuer's keys cannot be fetched");
                }
            }
        }
        self.fetched.send_replace(());
    }

    async fn get(&self) -> anyhow::Result<IssuerKeys> {
        let mut response = self.client.get(self.url.clone()).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            ensure!(
                body.len() + chunk.len() <= Self::MAX_BYTES,
                "the JWK set is longer than {} bytes",
                Self::MAX_BYTES
            );
            body.extend_from_slice(&chunk);
        }
        Ok(IssuerKeys::parse(&body)?)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn age(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.keys.as_ref().map(|(_, at)| now - *at)
    }

    /// The keys, if this one is among them and they are not too old.
    fn with(&self, key_id: &str, now: DateTime<Utc>) -> Option<Arc<IssuerKeys>> {
        let (keys, at) = self.keys.as_ref()?;
        (now - *at < Remote::STALE_FOR && keys.has(key_id)).then(|| keys.clone())
    }

    fn wants_a_fetch(&self, is_known: bool, now: DateTime<Utc>) -> bool {
        let longest = if is_known { Remote::FRESH_FOR } else { Remote::ASK_AGAIN_AFTER };
        self.age(now).is_none_or(|age| age >= longest) && self.not_before.is_none_or(|at| now >= at)
    }

    /// Whether a kid that is not among the keys is unknown to the issuer, and not only to us.
    fn is_up_to_date(&self, now: DateTime<Utc>) -> bool {
        self.failures == 0 && self.age(now).is_some_and(|age| age < Remote::FRESH_FOR)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// An issuer that serves one key, or accepts connections and says nothing.
    #[derive(Debug, Default)]
    struct TestIssuer {
        is_silent: AtomicBool,
        asked: AtomicUsize,
    }

    impl TestIssuer {
        async fn start() -> (Arc<Self>, Arc<Remote>) {
            const BODY: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"known","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/jwks", listener.local_addr().unwrap()).parse().unwrap();
            let issuer = Arc::new(Self::default());
            let serving = issuer.clone();
            tokio::spawn(async move {
                let mut silent = Vec::new();
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    serving.asked.fetch_add(1, Ordering::Relaxed);
                    if serving.is_silent.load(Ordering::Relaxed) {
                        silent.push(stream);
                        continue;
                    }
                    let _asked = stream.read(&mut [0; 4_096]).await.unwrap();
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{BODY}", BODY.len());
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
            let client = reqwest::Client::builder().timeout(Remote::FETCH_TIMEOUT).no_proxy().build().unwrap();
            (issuer, Arc::new(Remote::with_client(url, client)))
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::Relaxed)
        }
    }

    const START: DateTime<Utc> = DateTime::UNIX_EPOCH;

    #[tokio::test]
    async fn known_keys_are_at_hand_while_the_issuer_says_nothing() {
        let (issuer, remote) = TestIssuer::start().await;
        remote.keys_for("known", START).await.unwrap();
        issuer.is_silent.store(true, Ordering::Relaxed);

        let later = START + TimeDelta::minutes(6);
        let made_up: Vec<_> = (0..8)
            .map(|number| {
                let remote = remote.clone();
                tokio::spawn(async move { remote.keys_for(&format!("x{number}"), later).await })
            })
            .collect();
        tokio::task::yield_now().await;
        for _ in 0..12 {
            let keys = remote.keys_for("known", later).now_or_never().expect("at once, whatever the issuer does");
            assert!(keys.unwrap().has("known"));
        }
        for token in made_up {
            assert!(matches!(token.await.unwrap(), Err(Error::Unavailable(_))));
        }
        assert_eq!(issuer.asked(), 2, "one fetch for all");

        // For an hour, and no longer.
        let at = |minutes| remote.keys_for("known", START + TimeDelta::minutes(minutes));
        assert!(at(59).await.is_ok());
        assert!(matches!(at(60).await, Err(Error::Unavailable(_))));
    }

    #[tokio::test]
    async fn a_failure_is_remembered_for_a_while_and_then_tried_again() {
        let (issuer, remote) = TestIssuer::start().await;
        issuer.is_silent.store(true, Ordering::Relaxed);
        assert!(matches!(remote.keys_for("known", START).await, Err(Error::Unavailable(_))));
        let again = remote.keys_for("known", START).now_or_never().expect("no second wait for a dead issuer");
        assert!(matches!(again, Err(Error::Unavailable(_))));
        assert_eq!(issuer.asked(), 1);

        issuer.is_silent.store(false, Ordering::Relaxed);
        assert!(remote.keys_for("known", START + TimeDelta::seconds(1)).await.is_ok());
    }

    #[tokio::test]
    async fn made_up_kids_make_us_ask_once_in_ten_seconds() {
        let (issuer, remote) = TestIssuer::start().await;
        for (seconds, asked) in [(0, 1), (0, 1), (9, 1), (10, 2), (19, 2)] {
            let found = remote.keys_for("made up", START + TimeDelta::seconds(seconds)).await;
            assert!(matches!(found, Err(Error::Unauthenticated(_))));
            assert_eq!(issuer.asked(), asked, "after {seconds} s");
        }
    }
}
