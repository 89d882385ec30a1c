//! The configuration: the environment, read once, all faults reported together, secrets never printed.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `DATABASE_URL` | Postgres, as a login role that is a member of `relaytrace_app`, or of the function's own authority | this or the next |
//! | `DATABASE_URL_AGENT`, `DATABASE_URL_PEOPLE`, `DATABASE_URL_OPS` | the same for one authority each: as a member of `relaytrace_agent` (ingest, poll, bridge), `relaytrace_people` (decide), `relaytrace_ops` (timeout-sweep, notify, replay, admin) | `DATABASE_URL` |
//! | `DATABASE_MAX_CONNECTIONS` | pool size | 16; on Lambda 2 |
//! | `DATABASE_SETTINGS` | where limits and planning are set: `role` (by `migrate`), or `connection` where the role cannot be altered and no pooler is between | `role` |
//! | `NATS_URL` | NATS with JetStream; servers of one cluster comma-separated; `user:password@` or `token@` before the host, percent-encoded | required |
//! | `NATS_CREDENTIALS` | contents of a `.creds` file, instead of a user in `NATS_URL` | none |
//! | `NATS_REPLICAS` | replicas of the stream | 1 |
//! | `DEPLOYMENT_NAME` | `iss` of receipts | required |
//! | `MASTER_SECRETS` | `id:base64`, at least 32 bytes each, comma-separated; new keys use the first | required by ingest, poll, bridge, admin; a function without it knows no agents |
//! | `BEARER_MASTER` | base64 of at least 32 bytes; bearer keys are derived from it | admin and bridge make no bearer keys; no other function reads it |
//! | `RECEIPT_KEY` | Ed25519 private key, PKCS#8 PEM; `ingest` without one leaves what rules decide to polls | required by poll, decide |
//! | `RECEIPT_OLD_KEYS` | JWK set: public halves of earlier receipt keys | none |
//! | `ATTESTATION_KEY` | Ed25519 private key of this function, PKCS#8 PEM; several functions in one process: a block for each | required by ingest, bridge, decide, timeout-sweep, admin |
//! | `ATTESTATION_JWKS` | JWK set: public halves of all functions' attestation keys, each with its `causes`; earlier ones too | required by these and poll |
//! | `ISSUERS` | who says who people are: a JSON list of `{name, issuer, jwks \| jwks_url, audience?, tenant?, owners?}`; `issuer` is the `iss` of its tokens, `audience` their `aud`, `tenant` the only one that it speaks for, `owners: true` lets it name owners | this or the next |
//! | `ISSUER` | the single issuer's `iss`, https; it names no owners | |
//! | `ISSUER_JWKS_URL` | where its keys are, https | this or the next |
//! | `ISSUER_JWKS` | its keys, as a JWK set | |
//! | `ROLES_CLAIM`, `GROUPS_CLAIM` | JSON pointers to a person's roles and groups in their token | `/roles`, `/groups` |
//! | `TENANT_CLAIM` | JSON pointer to a person's tenant, where their issuer is bound to none | `/tenant` with `ISSUERS`; with `ISSUER` tokens name none |
//! | `DEFAULT_TENANT` | tenant of a token that names none; it must exist. Its administrators run sweeps by HTTP | `default` with `ISSUER`; with `ISSUERS` such a token is refused, and the administrators are those of `default` |
//! | `TOKEN_AUDIENCE` | `aud` of every token | `relaytrace` |
//! | `AGENT_TOKEN_MAX_SECONDS` | longest life of an agent's token | 900 |
//! | `TOKEN_LEEWAY_SECONDS` | how far clocks may differ, at most 30 | 30 |
//! | `LEASE_SECONDS` | how long a poll holds a decision | 30 |
//! | `DELIVERY_MAX_ATTEMPTS` | the attempt after which a retry dead-letters | 20 |
//! | `DELIVERY_MAX_AGE_SECONDS` | a decision that nobody acknowledges is dead-lettered then | 86400 |
//! | `PERMIT_SECONDS` | how long an approval may be used where its timeout policy does not say, 10 to 86400; an envelope only shortens it | 3600 |
//! | `OUTCOME_SECONDS` | after so long without a report a used approval's outcome is unknown | 3600 |
//! | `ALLOW_AUTO_APPROVE` | `true`: policies may let a timeout approve, and rules may approve; else such a timeout rejects, and people are asked | `false` |
//! | `DEDUPE_SECONDS` | how long a `client_request_key` is kept from its submission, at most 34560000 (400 days) | 604800 |
//! | `POLL_MAX_WAIT_SECONDS` | longest wait of a call, at most 55 | 55 |
//! | `HOOK_WAIT_SECONDS` | longest time that a harness's hook is held, at most 600; its own timeout must be longer | 50 |
//! | `MAX_PARKED_PER_AGENT` | calls of one agent that wait at a time, in each process | 256 |
//! | `CHANNEL_KEY` | base64 of 32 bytes; secrets of channels, of agents' push and of instances are encrypted with it; earlier ones after it, comma-separated | there are no channels and no push; no function but admin, bridge and notify reads it |
//! | `EGRESS_ALLOW` | what URLs of the API may name beside public addresses by https: hosts and networks (`address/bits`), comma-separated, `http://` before one where plain http may be used | none |
//! | `PAGE_URL` | where the operator page is, https: the link of messages | messages have no link |
//! | `SMTP_URL` | the mail server, `smtps://user:password@host` or `smtp://host:port?tls=required` | there are no channels by mail; no function but admin and notify reads it |
//! | `SMTP_FROM` | who writes, such as `RelayTrace <relay@example.org>` | required with `SMTP_URL` |
//! | `VAPID_PUBLIC_KEY` | base64url of a P-256 public key: what browsers of operators subscribe with; read by decide | browsers are told nothing |
//! | `VAPID_PRIVATE_KEY` | its private half, PKCS#8 PEM; messages to browsers are signed with it | messages to browsers are dead letters; no function but notify reads it |
//! | `VAPID_SUBJECT` | whom push services write to, `mailto:` and an address, or an https URL | required with `VAPID_PRIVATE_KEY` |
//! | `WEB_PUSH_HOSTS` | push services that browsers may name, comma-separated, `*.` before one for what is below it; read by decide and notify | those of Chrome, Firefox, Safari and Edge |
//! | `CORS_ALLOWED_ORIGINS` | origins that the operator page is also served from, comma-separated | none |
//! | `LOGIN_CLIENT_ID` | the operator page's client at the first issuer (OIDC, public, PKCE) | tokens are pasted |
//! | `LOGIN_SCOPE` | what the page asks the issuer for | `openid profile` |
//! | `MAX_BODY_BYTES` | longest body of a request, at most 524288 | 524288 |
//! | `PORT`, `BIND_ADDRESS` | plain HTTP | 8080, `0.0.0.0` |
//! | `METRICS_PORT` | plain HTTP: port of `GET /metrics`; 0 takes a free one and logs it | there is none |
//! | `METRICS_ADDRESS` | where that listens; it asks nobody who they are | `127.0.0.1` |
//! | `METRICS_NAMESPACE` | on Lambda: namespace of the metrics in CloudWatch | `RelayTrace` |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | the collector of traces, by OTLP over HTTP (protobuf); `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is its full URL | no traces |
//! | `OTEL_TRACES_SAMPLER`, `OTEL_TRACES_SAMPLER_ARG` | which traces: `always_on`, `always_off`, `traceidratio`, or one of them after `parentbased_`; the share of `traceidratio` | `parentbased_always_on`, 1 |
//! | `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` | as OpenTelemetry has them | none, `relaytrace`, none |
//! | `MAX_CONNECTIONS` | plain HTTP: connections at the same time | 10000 |
//! | `HEADER_TIMEOUT_SECONDS` | plain HTTP: longest for the head of a request | 10 |
//! | `BODY_TIMEOUT_SECONDS` | plain HTTP: longest for its body | 30 |
//! | `IDLE_TIMEOUT_SECONDS` | plain HTTP: longest silence of a connection; longer than the load balancer's | 75 |
//! | `GRACE_SECONDS` | plain HTTP: from the signal to stop until connections are cut | 8 |
//! | `LOG_FORMAT` | `json` or `text` | `json`; `text` in a terminal |
//! | `RUST_LOG` | log filter | `info` |
//!
//! Where `RELAYTRACE_DEV_JSON` names the description of a running local stack, and `DATABASE_URL` is not set, it gives what
//! the environment does not. White space around a value does not count. Nothing has a default that would let someone in.

mod issuers;
mod parts;
mod reader;
mod settings;
mod values;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_nats::ConnectOptions;
use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;

use crate::auth::{BearerMaster, Issuers, MasterSecrets, TokenRules};
use crate::events::check_config;
use crate::http::{MAX_BODY_BYTES, ServerLimits};
use crate::needs::{DatabaseAuthority, Needs};
use crate::traces::TraceSettings;
use reader::Reader;
use relaytrace_domain::signing::{Attestor, ReceiptKey, ReceiptKeys};
use relaytrace_domain::{DeliveryRules, PermitRules};
use relaytrace_reach::ReachConfig;
pub use settings::{HookRules, Login, NatsConfig, PageSettings, SubmissionRules, TimeoutRules};
use values::{jwk_set, master_secrets, one_line};

/// Everything that a function is configured with.
#[derive(Debug)]
pub struct Config {
    /// Postgres.
    pub database: PgConnectOptions,
    /// The same for authorities that have connections of their own.
    pub authorities: BTreeMap<DatabaseAuthority, PgConnectOptions>,
    /// Pool size.
    pub database_max_connections: usize,
    /// NATS.
    pub nats: NatsConfig,
    /// Response secrets are derived from these.
    pub master_secrets: Arc<MasterSecrets>,
    /// Bearer keys are derived from it.
    pub bearer_master: Option<Arc<BearerMaster>>,
    /// Receipts are signed with these.
    pub receipt_keys: ReceiptKeys,
    /// Decisions are signed with these.
    pub attestor: Attestor,
    /// Whose tokens people carry.
    pub issuers: Issuers,
    /// What every token must be.
    pub token_rules: TokenRules,
    /// How submissions are taken.
    pub submissions: SubmissionRules,
    /// How decisions are delivered.
    pub delivery: DeliveryRules,
    /// How permits are handled.
    pub permits: PermitRules,
    /// What a timeout may do.
    pub timeouts: TimeoutRules,
    /// How hooks are answered.
    pub hooks: HookRules,
    /// How the operator page is served.
    pub page: PageSettings,
    /// How others are reached.
    pub reach: ReachConfig,
    /// Longest body of a request, in bytes.
    pub max_body_bytes: usize,
    /// Plain HTTP: where to listen.
    pub listen: (IpAddr, u16),
    /// Plain HTTP: where to listen for scrapes.
    pub metrics: Option<SocketAddr>,
    /// Lambda: namespace of what is measured.
    pub metrics_namespace: String,
    /// Where spans go.
    pub traces: Option<TraceSettings>,
    /// Plain HTTP: what callers may take up.
    pub server: ServerLimits,
}

/// All faults of a configuration, a line each. Values are not in it: they may be secrets.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is not complete:\n  {}", .0.join("\n  "))]
pub struct ConfigFaults(pub Vec<String>);

impl Config {
    /// Reads the environment, else the description of a running local stack.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn from_env(needs: &Needs) -> Result<Self, ConfigFaults> {
        let mut variables: HashMap<String, String> = std::env::vars().collect();
        let path = variables.get("RELAYTRACE_DEV_JSON").filter(|path| !path.is_empty()).cloned();
        if let Some(path) = path
            && !variables.contains_key("DATABASE_URL")
            && !variables.contains_key("AWS_LAMBDA_RUNTIME_API")
        {
            let of_stack = local_stack(&path).map_err(|fault| ConfigFaults(vec![fault]))?;
            // An issuer that is given stands instead of the stack's.
            let is_issuer_given = variables.contains_key("ISSUER");
            for (name, value) in of_stack.into_iter().filter(|(name, _)| !(is_issuer_given && name == "ISSUERS")) {
                variables.entry(name).or_insert(value);
            }
        }
        Self::from_variables(variables, needs)
    }

    /// Reads these variables, as functions with these needs are configured.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn from_variables(variables: HashMap<String, String>, needs: &Needs) -> Result<Self, ConfigFaults> {
        let mut read = Reader { variables, faults: Vec::new() };
        let on_lambda = read.variables.contains_key("AWS_LAMBDA_RUNTIME_API");

        let settings_of_connection = read.optional("DATABASE_SETTINGS", |text| match text {
            "role" => Ok(false),
            "connection" => Ok(true),
            _ => Err("must be role or connection"),
        });
        let (database, authorities) = read.databases(needs);
        let database_max_connections =
            read.number("DATABASE_MAX_CONNECTIONS", if on_lambda { 2 } else { 16 }, 1, 1_000);
        let credentials = read.optional("NATS_CREDENTIALS", |text| {
            let is_usable = ConnectOptions::with_credentials(text).is_ok();
            if is_usable { Ok(SecretString::from(text)) } else { Err("is not the contents of a .creds file") }
        });
        let given = credentials.as_ref().map(ExposeSecret::expose_secret);
        let nats_url = read.required("NATS_URL", |text| check_config(text, given).map(|()| text.to_owned()));
        let replicas = read.number("NATS_REPLICAS", 1, 1, 5);
        let name = read.required("DEPLOYMENT_NAME", one_line);
        let masters = read.needed(needs.responses, "MASTER_SECRETS", master_secrets);
        let bearer_master = read.bearer_master(needs);
        let receipt_key =
            read.needed(needs.receipts, "RECEIPT_KEY", |text| ReceiptKey::from_pem(&SecretString::from(text)));
        let old_keys = read.optional("RECEIPT_OLD_KEYS", jwk_set);
        let (attestations, attestor) = read.attestations(needs);
        let issuers = read.issuers();
        let token_rules = TokenRules {
            audience: read.optional("TOKEN_AUDIENCE", one_line).unwrap_or("relaytrace".into()),
            max_lifetime_seconds: read.number("AGENT_TOKEN_MAX_SECONDS", 900, 1, 86_400),
            leeway_seconds: read.number("TOKEN_LEEWAY_SECONDS", 30, 0, 30),
        };
        let delivery = DeliveryRules {
            lease_seconds: read.number("LEASE_SECONDS", 30.0, 0.1, 3_600.0),
            max_attempts: read.number("DELIVERY_MAX_ATTEMPTS", 20, 1, 1_000),
            max_age_seconds: read.number("DELIVERY_MAX_AGE_SECONDS", 86_400.0, 1.0, 2_592_000.0),
            max_wait_seconds: read.number("POLL_MAX_WAIT_SECONDS", 55, 0, 55),
            max_parked_per_agent: read.number("MAX_PARKED_PER_AGENT", 256, 1, 1_000_000),
        };
        let default = PermitRules::default();
        let permits = PermitRules {
            permit_seconds: read.number("PERMIT_SECONDS", default.permit_seconds, 10.0, 86_400.0),
            outcome_seconds: read.number("OUTCOME_SECONDS", default.outcome_seconds, 1.0, 2_592_000.0),
        };
        let dedupe_seconds = SubmissionRules::default().dedupe_seconds;
        let submissions =
            SubmissionRules { dedupe_seconds: read.number("DEDUPE_SECONDS", dedupe_seconds, 1.0, 400.0 * 86_400.0) };
        let default = HookRules::default();
        let hooks = HookRules { max_wait_seconds: read.number("HOOK_WAIT_SECONDS", default.max_wait_seconds, 0, 600) };
        let timeouts = TimeoutRules { allow_auto_approve: read.flag("ALLOW_AUTO_APPROVE") };
        let page = read.page();
        let reach = read.reach(needs);
        let address =
            read.number("BIND_ADDRESS", IpAddr::from([0, 0, 0, 0]), IpAddr::from([0; 4]), IpAddr::from([0xff; 16]));
        let port = read.number("PORT", 8080, 0, u16::MAX);
        let metrics = read.metrics();
        let metrics_namespace = read.optional("METRICS_NAMESPACE", one_line).unwrap_or("RelayTrace".into());
        let traces = read.traces();
        let max_body_bytes = read.number("MAX_BODY_BYTES", MAX_BODY_BYTES, 1_024, MAX_BODY_BYTES);
        let server = read.server();

        match (database, nats_url, name, issuers) {
            (Some(database), Some(url), Some(name), Some(issuers)) if read.faults.is_empty() => {
                let settled = |database: PgConnectOptions| match settings_of_connection {
                    Some(true) => database.options(relaytrace_store::ROLE_SETTINGS),
                    _ => database,
                };
                let authorities = authorities.into_iter().map(|(of, database)| (of, settled(database))).collect();
                let database = settled(database);
                let old_keys = old_keys.map(|set| set.keys).unwrap_or_default().into_iter();
                let old_keys = old_keys.map(|key| serde_json::to_value(key).unwrap_or_default());
                Ok(Self {
                    database,
                    authorities,
                    database_max_connections,
                    nats: NatsConfig { url, credentials, replicas },
                    master_secrets: Arc::new(masters.unwrap_or_default()),
                    bearer_master,
                    receipt_keys: ReceiptKeys::new(name, receipt_key, old_keys, attestations),
                    attestor,
                    issuers,
                    token_rules,
                    submissions,
                    delivery,
                    permits,
                    timeouts,
                    hooks,
                    page,
                    reach,
                    max_body_bytes,
                    listen: (address, port),
                    metrics,
                    metrics_namespace,
                    traces,
                    server,
                })
            }
            _ => Err(ConfigFaults(read.faults)),
        }
    }
}

/// The variables of the local stack that this file describes.
fn local_stack(path: &str) -> Result<HashMap<String, String>, String> {
    #[derive(serde::Deserialize)]
    struct Description {
        environment: HashMap<String, String>,
    }
    let read = std::fs::read(path).map_err(|error| format!("RELAYTRACE_DEV_JSON: {path} cannot be read: {error}"))?;
    let description = serde_json::from_slice::<Description>(&read);
    let description = description.map_err(|_| format!("RELAYTRACE_DEV_JSON: {path} describes no local stack"))?;
    Ok(description.environment)
}

#[cfg(test)]
mod tests;
