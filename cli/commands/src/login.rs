//! `relaytrace login`: an operator's token from the organisation's issuer, as a public client (RFC 8252, RFC 7636, RFC 8628).

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use clap::Args;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use url::{Host, Url, form_urlencoded};
use uuid::Uuid;

use crate::exit::{FAILED, Fault, Result};
use crate::people::{Person, http, said};
use crate::settings::{Settings, write_private};
use crate::terminal::{err, out, safe_line};

/// How long a person may take at the issuer.
const PATIENCE: Duration = Duration::from_mins(10);
/// Longest wait for the rest of a request that has begun.
const OF_A_REQUEST: Duration = Duration::from_secs(5);
/// Longest request line that is read, in bytes.
const LONGEST_LINE: u64 = 16 << 10;
/// RFC 8628, section 3.4.
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// RFC 8628, section 3.2: between two questions, where the issuer says nothing.
const INTERVAL: Duration = Duration::from_secs(5);

/// Options of `login`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "The issuer and the client there are RELAYTRACE_ISSUER and RELAYTRACE_CLIENT_ID, or those of the relay's operator page.
The token is kept in a file that only you may read (RELAYTRACE_OPERATOR_TOKEN_FILE), and sent to RELAYTRACE_URL only.

Examples:
  relaytrace login                       in a browser on this machine
  relaytrace login --device              in a browser anywhere
  relaytrace login --token-stdin < file  with a token that you have"
)]
pub struct Options {
    /// Sign in with a browser on another machine.
    #[arg(long)]
    device: bool,
    /// Read the token from standard input.
    #[arg(long, conflicts_with = "device")]
    token_stdin: bool,
}

/// Signs in, and says as whom.
pub async fn run(settings: &Settings, options: &Options) -> Result<()> {
    let token = if options.token_stdin {
        let read = std::io::read_to_string(std::io::stdin()).map_err(|error| Fault::usage(error.to_string()))?;
        let token = read.trim();
        token.strip_prefix("Bearer ").unwrap_or(token).to_owned()
    } else {
        let issuer = Issuer::find(settings).await?;
        if options.device { issuer.by_device().await? } else { issuer.by_loopback().await? }
    };
    // Nothing is kept that the relay does not take.
    let me = Person::with_token(settings, &token)?.call(reqwest::Method::GET, "/v1/hitl/me", None).await?;
    let is_known = me.status != 401;
    let who = match me.ok() {
        Ok(me) => format!("signed in as {}", safe_line(me["name"].as_str().or(me["id"].as_str()).unwrap_or_default())),
        Err(refused) if is_known => format!("signed in, and not as an operator: {}", refused.said),
        Err(refused) => {
            return Err(Fault { said: format!("the relay does not take this token: {}", refused.said), ..refused });
        }
    };
    let file = settings.operator_token_file();
    write_private(&file, &token)?;
    out!("{who}; the token is in {}", file.display());
    Ok(())
}

/// The organisation's issuer, and this program's name there.
struct Issuer {
    http: reqwest::Client,
    client_id: String,
    scope: String,
    endpoints: Value,
}

impl Issuer {
    async fn find(settings: &Settings) -> Result<Self> {
        let http = http()?;
        let of_page = match (settings.get("ISSUER"), settings.get("CLIENT_ID")) {
            (Some(_), Some(_)) => String::new(),
            _ => text(&http, &format!("{}/", settings.url()?)).await?,
        };
        let meta = |name: &str| meta(&of_page, name);
        let missing = || {
            let what = "the relay names no issuer to sign in at: set RELAYTRACE_ISSUER and RELAYTRACE_CLIENT_ID, or use --token-stdin";
            Fault::usage(what)
        };
        let issuer = settings.get("ISSUER").or_else(|| meta("issuer")).ok_or_else(missing)?;
        let client_id = settings.get("CLIENT_ID").or_else(|| meta("client")).ok_or_else(missing)?;
        let scope = settings.get("SCOPE").or_else(|| meta("scope")).unwrap_or_else(|| "openid profile".to_owned());
        let issuer = issuer.trim_end_matches('/');
        secure(issuer)?;
        let found = text(&http, &format!("{issuer}/.well-known/openid-configuration")).await?;
        let endpoints: Value = serde_json::from_str(&found)
            .map_err(|error| Fault::unreachable(format!("{issuer} describes itself in no JSON: {error}")))?;
        if endpoints["issuer"].as_str().map(|named| named.trim_end_matches('/')) != Some(issuer) {
            return Err(Fault::unreachable(format!("{issuer} describes another issuer")));
        }
        Ok(Self { http, client_id, scope, endpoints })
    }

    fn endpoint(&self, name: &str) -> Result<&str> {
        let missing = || Fault::usage(format!("the issuer has no {name}: sign in the other way"));
        let endpoint = self.endpoints[name].as_str().ok_or_else(missing)?;
        secure(endpoint)?;
        Ok(endpoint)
    }

    /// The authorization code flow with PKCE, back to a port of this machine.
    async fn by_loopback(&self) -> Result<String> {
        let failed = |error: std::io::Error| Fault::failed(format!("no port can be listened on: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(failed)?;
        let redirect_uri = format!("http://127.0.0.1:{}/", listener.local_addr().map_err(failed)?.port());
        let (verifier, state) = (random(), random());
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, verifier.as_bytes()));
        let mut url =
            Url::parse(self.endpoint("authorization_endpoint")?).map_err(|error| Fault::failed(error.to_string()))?;
        url.query_pairs_mut().extend_pairs([
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", &redirect_uri),
            ("scope", &self.scope),
            ("state", &state),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        err!("Open this address in a browser on this machine:\n  {url}");
        let back = timeout(PATIENCE, answered(&listener, &state)).await;
        let code = back.map_err(|_| Fault::failed("nobody signed in"))??;
        let form = [
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", &redirect_uri),
            ("client_id", &self.client_id),
            ("code_verifier", &verifier),
        ];
        token(&self.post("token_endpoint", &form).await?)
    }

    /// The device authorization grant: a code that is typed elsewhere.
    async fn by_device(&self) -> Result<String> {
        let form = [("client_id", self.client_id.as_str()), ("scope", &self.scope)];
        let begun = self.post("device_authorization_endpoint", &form).await?;
        let text = |member: &str| begun[member].as_str().unwrap_or_default();
        let address = if text("verification_uri_complete").is_empty() {
            text("verification_uri")
        } else {
            text("verification_uri_complete")
        };
        if text("device_code").is_empty() || address.is_empty() {
            return Err(Fault::unreachable(format!("the issuer begins no sign-in: {}", fault(&begun))));
        }
        err!("Open {} in a browser, and enter the code {}", safe_line(address), safe_line(text("user_code")));
        let mut interval = begun["interval"].as_u64().map_or(INTERVAL, Duration::from_secs);
        let until = Instant::now() + begun["expires_in"].as_u64().map_or(PATIENCE, Duration::from_secs).min(PATIENCE);
        let form = [("grant_type", DEVICE_GRANT), ("device_code", text("device_code")), ("client_id", &self.client_id)];
        while Instant::now() < until {
            sleep(interval).await;
            let answer = self.post("token_endpoint", &form).await?;
            match answer["error"].as_str() {
                Some("authorization_pending") => {}
                Some("slow_down") => interval += INTERVAL,
                _ => return token(&answer),
            }
        }
        Err(Fault::failed("nobody signed in"))
    }

    async fn post(&self, endpoint: &str, form: &[(&str, &str)]) -> Result<Value> {
        let endpoint = self.endpoint(endpoint)?;
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = self.http.post(endpoint).header("content-type", "application/x-www-form-urlencoded").body(body);
        let lost =
            |error: reqwest::Error| Fault::unreachable(format!("the issuer cannot be reached: {}", said(&error)));
        let answer = request.send().await.map_err(lost)?.bytes().await.map_err(lost)?;
        serde_json::from_slice(&answer).map_err(|_| Fault::unreachable("the issuer answered with no JSON"))
    }
}

/// Tokens and codes go over TLS, or stay on this machine.
fn secure(address: &str) -> Result<()> {
    let is_here = |url: &Url| match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    match Url::parse(address) {
        Ok(url) if url.scheme() == "https" || is_here(&url) => Ok(()),
        _ => Err(Fault::usage(format!("{address} is no https address"))),
    }
}

async fn text(http: &reqwest::Client, url: &str) -> Result<String> {
    let lost = |error: reqwest::Error| Fault::unreachable(format!("{url} cannot be reached: {}", said(&error)));
    http.get(url).send().await.and_then(reqwest::Response::error_for_status).map_err(lost)?.text().await.map_err(lost)
}

/// What the operator page says of itself.
fn meta(page: &str, name: &str) -> Option<String> {
    let start = format!(r#"<meta name="relaytrace-{name}" content=""#);
    let content = page.split_once(&start)?.1.split('"').next()?;
    Some(content.replace("&quot;", "\"").replace("&amp;", "&")).filter(|content| !content.is_empty())
}

fn random() -> String {
    let bytes = [Uuid::new_v4(), Uuid::new_v4()].map(Uuid::into_bytes).concat();
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn token(answer: &Value) -> Result<String> {
    let token = answer["access_token"].as_str().filter(|token| !token.is_empty());
    token
        .map(str::to_owned)
        .ok_or_else(|| Fault { said: format!("the issuer gave no token: {}", fault(answer)), code: FAILED })
}

fn fault(answer: &Value) -> String {
    let said = answer["error_description"].as_str().or(answer["error"].as_str()).unwrap_or("it did not say why");
    safe_line(said)
}

/// The code that the browser brings back. Whatever else comes to the port is not the answer to this sign-in.
async fn answered(listener: &TcpListener, state: &str) -> Result<String> {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { continue };
        let Ok(Some(answer)) = timeout(OF_A_REQUEST, query(&mut stream)).await else { continue };
        if answer.get("state").map(String::as_str) != Some(state) {
            drop(page(&mut stream, "404 Not Found", "This is not the sign-in that was begun.").await);
            continue;
        }
        let refused = answer.get("error_description").or(answer.get("error"));
        let (words, outcome) = match (answer.get("code"), refused) {
            (Some(code), _) => ("Signed in. You may close this tab.", Ok(code.clone())),
            (None, refused) => {
                let why = refused.map_or_else(|| "it did not say why".to_owned(), |why| safe_line(why));
                ("The issuer refused.", Err(Fault::failed(format!("the issuer refused: {why}"))))
            }
        };
        drop(page(&mut stream, "200 OK", words).await);
        return outcome;
    }
}

async fn query(stream: &mut TcpStream) -> Option<HashMap<String, String>> {
    use tokio::io::AsyncReadExt as _;
    let mut line = String::new();
    BufReader::new(stream).take(LONGEST_LINE).read_line(&mut line).await.ok()?;
    let target = line.strip_prefix("GET ")?.split(' ').next()?;
    let query = target.strip_prefix("/?")?;
    Some(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
}

async fn page(stream: &mut TcpStream, status: &str, words: &str) -> std::io::Result<()> {
    let length = words.len();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nreferrer-policy: no-referrer\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(format!("{head}{words}").as_bytes()).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_reached_over_tls_or_on_this_machine() {
        for good in ["https://issuer.example/a", "http://127.0.0.1:9000", "http://localhost", "http://[::1]:1"] {
            assert!(secure(good).is_ok(), "{good}");
        }
        for bad in ["http://issuer.example", "http://127.0.0.1.example", "issuer.example", ""] {
            assert!(secure(bad).is_err(), "{bad}");
        }
        let page = r#"<meta name="relaytrace-client" content="a&amp;b"><meta name="relaytrace-issuer" content="">"#;
        assert_eq!((meta(page, "client").as_deref(), meta(page, "issuer")), (Some("a&b"), None));
    }
}
