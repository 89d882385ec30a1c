//! The issuer of people's tokens accepts connections and says nothing, while strangers send tokens with made-up kids.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hyper::{Method, StatusCode};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, get_current_timestamp};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until};

use crate::drill::proxy::Proxy;
use crate::drill::scene::Scene;
use crate::drill::service::Service;
use crate::drill::{Verdict, enough};
use crate::http::{Connection, bearer};
use crate::keys::NewKey;

const OPERATORS: usize = 12;
/// What an issuer that hangs may cost an operator whose key is known.
const MOST: Duration = Duration::from_millis(50);
/// Tokens a second with made-up kids, and how many of them wait at the most.
const JUNK_PER_SECOND: u32 = 100;
const JUNK_AT_ONCE: usize = 400;
/// From one call of an operator to the next.
const PAUSE: Duration = Duration::from_millis(20);
const CERTIFICATES: &str = "\
    openssl req -x509 -nodes -days 2 -newkey rsa:2048 -subj /CN=authority -keyout authority.key -out authority.pem && \
    openssl req -x509 -nodes -days 2 -newkey rsa:2048 -subj /CN=issuer -CA authority.pem -CAkey authority.key \
        -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 \
        -keyout issuer.key -out issuer.pem";

/// An issuer's key, and a web server over TLS that has its public half; stopped when dropped.
struct Issuer {
    key: EncodingKey,
    claims: serde_json::Value,
    server: Child,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

impl Issuer {
    /// Starts it on this port. Its files, and the authority of its certificate, are in the scene's folder.
    fn start(scene: &Scene<'_>, port: u16) -> Result<Self> {
        let made = Command::new("sh").args(["-c", CERTIFICATES]).current_dir(scene.folder()).output()?;
        ensure!(made.status.success(), "no certificates: {}", String::from_utf8_lossy(&made.stderr));
        let key = EncodingKey::from_ed_der(&NewKey::generate()?.pkcs8);
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA)?;
        jwk.common.key_id = Some("known".to_owned());
        std::fs::write(scene.folder().join("jwks.json"), serde_json::to_vec(&JwkSet { keys: vec![jwk] })?)?;
        let server = Command::new("openssl")
            .args(["s_server", "-quiet", "-WWW", "-cert", "issuer.pem", "-key", "issuer.key", "-accept"])
            .arg(port.to_string())
            .current_dir(scene.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("openssl serves the issuer's keys")?;
        let claims = json!({"iss": ISSUER, "aud": "relaytrace", "roles": ["operator"]});
        Ok(Self { key, claims, server })
    }

    /// A new token of a person, whose signature nobody has seen yet. One with another kid is none.
    fn token(&self, key_id: &str, number: u64) -> Result<String> {
        let mut claims = self.claims.clone();
        let now = get_current_timestamp();
        (claims["sub"], claims["jti"]) = (format!("operator-{}", number % 50).into(), number.into());
        (claims["iat"], claims["exp"]) = (now.into(), (now + 300).into());
        let header = Header { kid: Some(key_id.to_owned()), ..Header::new(Algorithm::EdDSA) };
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

/// `iss` of its tokens.
const ISSUER: &str = "https://silent-issuer.relaytrace.invalid";

pub async fn run(scene: &mut Scene<'_>) -> Verdict {
    scene.environment.remove("ISSUERS");
    scene.environment.insert("ISSUER".to_owned(), ISSUER.to_owned());
    let port = relaytrace_servers::free_port(None)?;
    let (issuer, proxy) = (Arc::new(Issuer::start(scene, port)?), Proxy::to(port).await?);
    let url = format!("https://127.0.0.1:{}/jwks.json", proxy.port());
    let authority = scene.folder().join("authority.pem").display().to_string();
    let service = scene.start_service(&[("ISSUER_JWKS_URL", url.as_str()), ("SSL_CERT_FILE", &authority)]).await?;
    until_known(&service, &issuer).await?;

    let time = Duration::from_secs(scene.count);
    let well = ask(&service, &issuer, time.div_f32(4.0).max(Duration::from_secs(2))).await?;
    proxy.swallow();
    let silent = ask(&service, &issuer, time / 2).await?;
    let junk = Junk::start(&service, &issuer);
    let beside_junk = ask(&service, &issuer, time / 2).await?;
    let (sent, accepted) = junk.stop().await;
    proxy.forward();

    let did = format!(
        "{} s of an issuer that says nothing, {} calls of operators with known keys, each a new token: beyond a call \
         without a token p99 is {:.1} ms before, {:.1} ms meanwhile, {:.1} ms beside {sent} tokens with made-up kids; \
         slowest {} ms",
        scene.count,
        silent.calls + beside_junk.calls,
        well.beyond(),
        silent.beyond(),
        beside_junk.beyond(),
        silent.slowest.max(beside_junk.slowest).as_millis(),
    );
    ensure!(accepted == 0, "{did}: {accepted} made-up tokens were accepted");
    let most = well.beyond().max(0.0) + MOST.as_secs_f64() * 1e3;
    for phase in [&silent, &beside_junk] {
        ensure!(phase.beyond() <= most, "{did}: more than {MOST:?} beyond what it was before");
    }
    enough(silent.calls.min(beside_junk.calls), 20 * scene.count, "calls")?;
    enough(sent, u64::from(JUNK_PER_SECOND) * scene.count / 8, "tokens with made-up kids")?;
    Ok(did)
}

/// Waits until the service has fetched the keys.
async fn until_known(service: &Service, issuer: &Issuer) -> Result<()> {
    let begun = Instant::now();
    let mut connection = Connection::open(service.address()).await?;
    loop {
        let request = connection.request(Method::GET, "/v1/hitl/me", &bearer(&issuer.token("known", 0)?)?);
        let answer = connection.send(request, Bytes::new()).await?;
        if answer.status == StatusCode::OK {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&answer.body).into_owned();
        ensure!(begun.elapsed() < Duration::from_secs(30), "the issuer's keys do not come: {} {said}", answer.status);
        sleep(Duration::from_millis(200)).await;
    }
}

/// How long calls took.
struct Phase {
    calls: u64,
    slowest: Duration,
    /// Of calls with a token, and of calls of the same connections that need none, one after the other.
    with: Vec<Duration>,
    without: Vec<Duration>,
}

impl Phase {
    /// What a token costs: how much later the 99th of 100 calls is answered than without one, in milliseconds. What a busy
    /// machine adds, it adds to both.
    fn beyond(&self) -> f64 {
        let p99 = |times: &Vec<Duration>| {
            let mut times = times.clone();
            times.sort_unstable();
            times.get(times.len() * 99 / 100).map_or(0.0, Duration::as_secs_f64) * 1e3
        };
        p99(&self.with) - p99(&self.without)
    }
}

/// Operators call for so long, each with a new token each time.
async fn ask(service: &Service, issuer: &Arc<Issuer>, time: Duration) -> Result<Phase> {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let until = Instant::now() + time;
    let mut operators = JoinSet::new();
    for _ in 0..OPERATORS {
        let (issuer, mut connection) = (issuer.clone(), Connection::open(service.address()).await?);
        operators.spawn(async move {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            while Instant::now() < until {
                let token = bearer(&issuer.token("known", NUMBER.fetch_add(1, Ordering::Relaxed))?)?;
                for (path, times) in [("/v1/hitl/me", &mut with), ("/healthz", &mut without)] {
                    let begun = Instant::now();
                    let request = connection.request(Method::GET, path, &token);
                    connection.send(request, Bytes::new()).await?.expect(StatusCode::OK)?;
                    times.push(begun.elapsed());
                }
                sleep(PAUSE).await;
            }
            anyhow::Ok((with, without))
        });
    }
    let mut phase = Phase { calls: 0, slowest: Duration::ZERO, with: Vec::new(), without: Vec::new() };
    while let Some(done) = operators.join_next().await {
        let (with, without) = done??;
        phase.calls += with.len() as u64;
        phase.slowest = with.iter().copied().max().unwrap_or_default().max(phase.slowest);
        phase.with.extend(with);
        phase.without.extend(without);
    }
    Ok(phase)
}

/// Strangers with made-up kids, until told to stop.
struct Junk {
    running: Arc<AtomicBool>,
    sending: tokio::task::JoinHandle<(u64, u64)>,
}

impl Junk {
    fn start(service: &Service, issuer: &Arc<Issuer>) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let (address, issuer, is_running) = (service.address(), issuer.clone(), running.clone());
        let sending = tokio::spawn(async move {
            let (places, accepted) = (Arc::new(Semaphore::new(JUNK_AT_ONCE)), Arc::new(AtomicU64::new(0)));
            let (begun, mut sent) = (tokio::time::Instant::now(), 0_u32);
            while is_running.load(Ordering::Relaxed) {
                sleep_until(begun + Duration::from_secs(1) * sent / JUNK_PER_SECOND).await;
                let Ok(place) = places.clone().acquire_owned().await else { break };
                let Ok(Ok(token)) = issuer.token(&format!("made-up-{sent}"), u64::from(sent)).map(|it| bearer(&it))
                else {
                    break;
                };
                let accepted = accepted.clone();
                tokio::spawn(async move {
                    // Whether it is answered is not what is looked at, but an OK must not be among the answers.
                    if let Ok(mut connection) = Connection::open(address).await {
                        let request = connection.request(Method::GET, "/v1/hitl/me", &token);
                        let answer = connection.send(request, Bytes::new()).await;
                        let is_accepted = answer.is_ok_and(|answer| answer.status.is_success());
                        accepted.fetch_add(u64::from(is_accepted), Ordering::Relaxed);
                    }
                    drop(place);
                });
                sent += 1;
            }
            // All places are free when all are answered.
            drop(places.acquire_many(u32::try_from(JUNK_AT_ONCE).unwrap_or(1)).await);
            (u64::from(sent), accepted.load(Ordering::Relaxed))
        });
        Self { running, sending }
    }

    /// How many were sent, and how many of them were accepted.
    async fn stop(self) -> (u64, u64) {
        self.running.store(false, Ordering::Relaxed);
        self.sending.await.unwrap_or_default()
    }
}
