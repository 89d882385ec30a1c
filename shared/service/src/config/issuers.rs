//! Who says who people are: `ISSUERS`, or the single `ISSUER`.

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;

use super::reader::Reader;
use super::values::{https, issuer_keys, one_line, pointer};
use crate::auth::{Binding, ClaimPlaces, Issuer, Issuers};
use relaytrace_domain::TenantId;

/// One of `ISSUERS`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    issuer: String,
    jwks: Option<Box<RawValue>>,
    jwks_url: Option<String>,
    audience: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    owners: bool,
}

impl Entry {
    fn issuer(self) -> Result<Issuer, String> {
        let is_name = (1..=64).contains(&self.name.len())
            && self.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
        if !is_name {
            return Err("name must be 1 to 64 characters of A-Z, a-z, 0-9 and . _ -".into());
        }
        let of = |member: &str, rule: &str| format!("{}: {member} {rule}", self.name);
        https(&self.issuer).map_err(|rule| of("issuer", rule))?;
        let audience = self.audience.as_deref().map(one_line).transpose().map_err(|rule| of("audience", rule))?;
        let tenant = self.tenant.as_deref().map(str::parse::<TenantId>).transpose();
        let tenant = tenant.map_err(|rule| of("tenant", &rule.to_string()))?;
        let issuer = match (&self.jwks, &self.jwks_url) {
            (Some(keys), None) => {
                let keys = issuer_keys(keys.get()).map_err(|rule| of("jwks", rule))?;
                Issuer::pinned(self.issuer.clone(), keys)
            }
            (None, Some(url)) => {
                let url = https(url).map_err(|rule| of("jwks_url", rule))?;
                Issuer::remote(self.issuer.clone(), url).map_err(|error| of("jwks_url", &error.to_string()))?
            }
            _ => return Err(of("jwks or jwks_url", "is required, and only one of them")),
        };
        Ok(issuer.bound(Binding { audience, tenant, owners: self.owners, name: self.name }))
    }
}

fn entries(text: &str) -> Result<Vec<Entry>, String> {
    let entries: Vec<Entry> = serde_json::from_str(text)
        .map_err(|error| format!("must be a JSON list of {{name, issuer, jwks or jwks_url, …}}: {error}"))?;
    if entries.is_empty() { Err("names no issuer".into()) } else { Ok(entries) }
}

fn all_of(text: &str) -> Result<Vec<Issuer>, String> {
    entries(text)?.into_iter().map(Entry::issuer).collect()
}

impl Reader {
    /// `ISSUERS`, and where it is not set the single `ISSUER`, all of whose people are of one tenant.
    pub(super) fn issuers(&mut self) -> Option<Issuers> {
        let defaults = ClaimPlaces::default();
        let tenant_claim = self.optional("TENANT_CLAIM", pointer);
        let default_tenant = self.optional("DEFAULT_TENANT", str::parse::<TenantId>);
        let places = ClaimPlaces {
            roles: self.optional("ROLES_CLAIM", pointer).unwrap_or(defaults.roles),
            groups: self.optional("GROUPS_CLAIM", pointer).unwrap_or(defaults.groups),
            tenant: tenant_claim,
        };
        if self.is_set("ISSUERS") {
            let all = self.optional("ISSUERS", all_of)?;
            let tenant = places.tenant.or(Some("/tenant".into()));
            let issuers = Issuers::new(all, ClaimPlaces { tenant, ..places }, default_tenant);
            return issuers.map_err(|fault| self.faults.push(format!("ISSUERS {fault}"))).ok();
        }
        let issuer = self.issuer()?;
        Issuers::new(vec![issuer], places, Some(default_tenant.unwrap_or_default())).ok()
    }

    /// Where the operator page signs people in: the first issuer. Its faults are found where it is required.
    pub(super) fn login_issuer(&self) -> Option<(String, Url)> {
        let first = |text: &String| entries(text).ok()?.into_iter().next().map(|entry| entry.issuer);
        let issuer = match self.variables.get("ISSUERS").filter(|text| !text.trim().is_empty()) {
            Some(text) => first(text)?,
            None => self.variables.get("ISSUER")?.trim().to_owned(),
        };
        https(&issuer).ok().map(|url| (issuer, url))
    }

    fn issuer(&mut self) -> Option<Issuer> {
        let iss = self.required("ISSUER", |text| https(text).map(|_| text.to_owned()));
        let pinned = self.optional("ISSUER_JWKS", issuer_keys);
        let url = self.optional("ISSUER_JWKS_URL", https);
        match (iss, pinned, url) {
            (Some(iss), Some(keys), None) => Some(Issuer::pinned(iss, keys)),
            (Some(iss), None, Some(url)) => {
                let issuer = Issuer::remote(iss, url);
                issuer.map_err(|error| self.faults.push(format!("ISSUER_JWKS_URL: {error}"))).ok()
            }
            (_, pinned, url) => {
                if pinned.is_some() == url.is_some() {
                    self.faults.push("one of ISSUER_JWKS_URL and ISSUER_JWKS is required, and only one".into());
                }
                None
            }
        }
    }
}
