//! Groups of variables that belong together.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine};
use secrecy::SecretString;
use sqlx::postgres::PgConnectOptions;

use super::reader::Reader;
use super::values::{SHORTEST_SECRET, collector, origin, page_url};
use super::{Login, PageSettings};
use crate::auth::BearerMaster;
use crate::database_url;
use crate::http::ServerLimits;
use crate::needs::{DatabaseAuthority, Needs};
use crate::traces::TraceSettings;
use relaytrace_domain::signing::{AttestationKeys, Attestor};
use relaytrace_reach::{ChannelKeys, ReachConfig, Smtp, WebPushKey};

impl Reader {
    /// The database as the process uses it, and as those authorities do that have connections of their own.
    pub(super) fn databases(
        &mut self,
        needs: &Needs,
    ) -> (Option<PgConnectOptions>, BTreeMap<DatabaseAuthority, PgConnectOptions>) {
        let of_all = self.optional("DATABASE_URL", database_url::parse);
        let mut own = BTreeMap::new();
        for authority in DatabaseAuthority::ALL {
            let Some(database) = self.optional(authority.variable(), database_url::parse) else { continue };
            if needs.authorities.is_empty() || needs.authorities.contains(&authority) {
                own.insert(authority, database);
            }
        }
        let is_covered = needs.authorities.iter().all(|of| own.contains_key(of));
        let database = of_all.or_else(|| own.values().next().filter(|_| is_covered).cloned());
        if database.is_none() && !self.is_set("DATABASE_URL") {
            let variables: Vec<_> = needs.authorities.iter().map(|authority| authority.variable()).collect();
            self.faults.push(format!("DATABASE_URL is required, or instead of it {}", variables.join(" and ")));
        }
        (database, own)
    }

    /// The public keys that may attest decisions, and the private ones of this process.
    pub(super) fn attestations(&mut self, needs: &Needs) -> (AttestationKeys, Attestor) {
        let decides = !needs.causes.is_empty();
        let list = |text: &str| {
            let jwks = serde_json::from_str(text).map_err(|_| "is not a JWK set")?;
            AttestationKeys::from_jwks(&jwks)
        };
        let Some(listed) = self.needed(decides || needs.receipts, "ATTESTATION_JWKS", list) else {
            self.needed(decides, "ATTESTATION_KEY", |_| Ok::<_, &str>(()));
            return Default::default();
        };
        let key = |text: &str| Attestor::from_pem(&SecretString::from(text), &listed);
        let Some(attestor) = self.needed(decides, "ATTESTATION_KEY", key) else { return (listed, Attestor::default()) };
        for cause in needs.causes.iter().filter(|cause| !attestor.speaks_for(cause.as_str())) {
            let cause = cause.as_str();
            self.faults.push(format!("ATTESTATION_KEY holds no key that ATTESTATION_JWKS lists for the cause {cause}"));
        }
        (listed, attestor)
    }

    /// Held by those functions only that make bearer keys.
    pub(super) fn bearer_master(&mut self, needs: &Needs) -> Option<Arc<BearerMaster>> {
        if !needs.bearer {
            return None;
        }
        self.optional("BEARER_MASTER", |text| match BASE64_STANDARD.decode(text) {
            Ok(secret) if secret.len() >= SHORTEST_SECRET => Ok(Arc::new(BearerMaster::new(secret.into()))),
            _ => Err("must be base64 of at least 32 bytes"),
        })
    }

    pub(super) fn server(&mut self) -> ServerLimits {
        let of = ServerLimits::default();
        let mut seconds = |name, default: Duration| Duration::from_secs(self.number(name, default.as_secs(), 1, 3_600));
        ServerLimits {
            header_timeout: seconds("HEADER_TIMEOUT_SECONDS", of.header_timeout),
            body_timeout: seconds("BODY_TIMEOUT_SECONDS", of.body_timeout),
            idle_timeout: seconds("IDLE_TIMEOUT_SECONDS", of.idle_timeout),
            grace: seconds("GRACE_SECONDS", of.grace),
            max_connections: self.number("MAX_CONNECTIONS", of.max_connections, 1, 1_000_000),
        }
    }

    /// Where to listen for scrapes, where there are any.
    pub(super) fn metrics(&mut self) -> Option<SocketAddr> {
        let address = self.optional("METRICS_ADDRESS", |text| text.parse().map_err(|_| "must be an IP address"));
        let port = self.optional("METRICS_PORT", |text| text.parse().map_err(|_| "must be from 0 to 65535"))?;
        Some(SocketAddr::new(address.unwrap_or(IpAddr::from([127, 0, 0, 1])), port))
    }

    /// Where spans go (OpenTelemetry, "Environment Variable Specification").
    pub(super) fn traces(&mut self) -> Option<TraceSettings> {
        let base = self.optional("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
        let own = self.optional("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", collector);
        let base = base.map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        let share = self.number("OTEL_TRACES_SAMPLER_ARG", 1.0, 0.0, 1.0);
        let sampler = self.optional("OTEL_TRACES_SAMPLER", |text| {
            let of = text.strip_prefix("parentbased_");
            let share = match of.unwrap_or(text) {
                "always_on" => 1.0,
                "always_off" => 0.0,
                "traceidratio" => share,
                _ => return Err("must be always_on, always_off or traceidratio, perhaps after parentbased_"),
            };
            Ok((of.is_some(), share))
        });
        let (follows_caller, share) = sampler.unwrap_or((true, 1.0));
        Some(TraceSettings { endpoint: own.or(base)?, follows_caller, share })
    }

    pub(super) fn page(&mut self) -> PageSettings {
        let origins = self.optional("CORS_ALLOWED_ORIGINS", |text| text.split(',').map(origin).collect());
        let text = |text: &str| Ok::<_, &str>(text.to_owned());
        let client_id = self.optional("LOGIN_CLIENT_ID", text);
        let issuer = self.login_issuer();
        let scope = self.optional("LOGIN_SCOPE", text).unwrap_or("openid profile".into());
        let login = issuer.zip(client_id).map(|((issuer, url), client_id)| {
            let origin = url.origin().ascii_serialization();
            Login { issuer, origin, client_id, scope }
        });
        PageSettings { is_local: false, origins: origins.unwrap_or_default(), login }
    }

    /// What messages to browsers are signed with.
    fn web_push_key(&mut self) -> Option<WebPushKey> {
        let subject = self.needed(self.is_set("VAPID_PRIVATE_KEY"), "VAPID_SUBJECT", WebPushKey::check_subject);
        self.optional("VAPID_PRIVATE_KEY", |text| {
            WebPushKey::from_pem(&SecretString::from(text), subject.unwrap_or_default())
        })
    }

    /// What browsers subscribe with, and where they are reached. Browsers keep what they have subscribed with: its private half
    /// is the one that is configured.
    fn web_push_public(&mut self, reach: &mut ReachConfig) {
        reach.web_push_hosts = self.optional("WEB_PUSH_HOSTS", str::parse).unwrap_or_default();
        reach.web_push_public = self.optional("VAPID_PUBLIC_KEY", WebPushKey::check_public);
        if let (Some(key), Some(public)) = (&reach.web_push_key, &reach.web_push_public)
            && key.public() != public
        {
            self.faults.push("VAPID_PUBLIC_KEY is not that of VAPID_PRIVATE_KEY".into());
        }
    }

    /// How others are reached. Its secrets are held by those functions only that reach them.
    pub(super) fn reach(&mut self, needs: &Needs) -> ReachConfig {
        let egress = self.optional("EGRESS_ALLOW", str::parse).unwrap_or_default();
        let page_url = self.optional("PAGE_URL", page_url);
        let mut reach = ReachConfig { egress, page_url, ..ReachConfig::default() };
        if needs.channels {
            reach.keys = self.optional("CHANNEL_KEY", ChannelKeys::parse);
        }
        if needs.web_push {
            reach.web_push_key = self.web_push_key().map(Arc::new);
        }
        self.web_push_public(&mut reach);
        if needs.mail {
            let from = self.needed(self.is_set("SMTP_URL"), "SMTP_FROM", Smtp::check_from);
            let url = self.optional("SMTP_URL", Smtp::check_url);
            reach.smtp = url.zip(from).map(|(url, from)| Smtp::new(url, from));
        }
        reach
    }
}
