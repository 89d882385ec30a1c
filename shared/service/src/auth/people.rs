//! People's tokens: the issuers, and the person whom a token describes (contract, "Operators, administrators and owners").

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::Person;
use super::issuer::Issuer;
use super::tokens::{TokenRules, Unverified, Validity};
use relaytrace_domain::{Error, Result, TenantId, without_case};

/// Where a token has what we ask of it: RFC 6901 pointers into its claims.
#[derive(Clone, Debug)]
pub struct ClaimPlaces {
    /// The roles, a list or one text with spaces between them.
    pub roles: String,
    /// The groups, likewise.
    pub groups: String,
    /// The tenant; `None`: tokens name none.
    pub tenant: Option<String>,
}

impl Default for ClaimPlaces {
    fn default() -> Self {
        Self { roles: "/roles".into(), groups: "/groups".into(), tenant: None }
    }
}

/// Everybody who says who people are.
#[derive(Debug)]
pub struct Issuers {
    all: Vec<Issuer>,
    places: ClaimPlaces,
    /// Of a token that names none.
    default_tenant: Option<TenantId>,
}

/// One issuer of one tenant.
impl From<Issuer> for Issuers {
    fn from(issuer: Issuer) -> Self {
        Self { all: vec![issuer], places: ClaimPlaces::default(), default_tenant: Some(TenantId::default()) }
    }
}

impl Issuers {
    /// Issuers whose tokens have their claims at these places. A person of whom neither the issuer nor the token names the
    /// tenant is of the default one, and nobody where there is none.
    ///
    /// # Errors
    /// A sentence for the configuration: a name or an `iss` is there twice.
    pub fn new(all: Vec<Issuer>, places: ClaimPlaces, default_tenant: Option<TenantId>) -> Result<Self, &'static str> {
        let names: BTreeSet<_> = all.iter().map(|issuer| issuer.binding().name.as_str()).collect();
        let issuers: BTreeSet<_> = all.iter().map(Issuer::iss).collect();
        match (names.len() == all.len(), issuers.len() == all.len()) {
            (true, true) => Ok(Self { all, places, default_tenant }),
            (false, _) => Err("has a name twice"),
            (true, false) => Err("has an issuer twice"),
        }
    }

    /// The tenant whose administrators see to the deployment itself.
    #[must_use]
    pub fn home_tenant(&self) -> TenantId {
        self.default_tenant.clone().unwrap_or_default()
    }

    /// The issuer whose tokens have this `iss`.
    pub(crate) fn of(&self, iss: &str) -> Option<&Issuer> {
        self.all.iter().find(|issuer| issuer.iss() == iss)
    }

    /// The person whose token this issuer's keys verify, and when it is good.
    pub(super) async fn verify(
        &self,
        issuer: &Issuer,
        token: &str,
        unverified: &Unverified,
        rules: &TokenRules,
        now: DateTime<Utc>,
    ) -> Result<(Person, Validity)> {
        let claims = issuer.verify(token, unverified, rules, now).await?;
        Ok((self.person(issuer, &claims)?, rules.validity(&unverified.claims.times)))
    }

    /// The person that these claims describe. A shape that is not a role's is no role, not a wrong token.
    fn person(&self, issuer: &Issuer, claims: &Value) -> Result<Person> {
        let text = |name| claims.get(name).and_then(Value::as_str);
        let (sub, name) = (text("sub").unwrap_or_default(), text("name"));
        if sub.is_empty() || [Some(sub), name].into_iter().flatten().any(has_nul) {
            return Err(Error::Unauthenticated("sub or name cannot be stored"));
        }
        let binding = issuer.binding();
        let id = if self.all.len() > 1 { format!("{}|{sub}", binding.name) } else { sub.to_owned() };
        let roles = list_of(claims.pointer(&self.places.roles));
        let has_role = |name: &str| roles.iter().any(|role| role == name);
        // No envelope can name what cannot be stored.
        let email = text("email").filter(|text| !has_nul(text));
        let user_name = text("preferred_username").filter(|text| !has_nul(text));
        let known_as: BTreeSet<_> =
            [Some(id.as_str()), Some(sub), email, user_name].into_iter().flatten().map(without_case).collect();
        Ok(Person {
            tenant: self.tenant(issuer, claims)?,
            name: name.map(str::to_owned),
            email: email.map(str::to_owned),
            is_operator: has_role("operator"),
            is_admin: has_role("admin"),
            is_owner: has_role("owner") && binding.owners,
            groups: list_of(claims.pointer(&self.places.groups)).into_iter().filter(|group| !has_nul(group)).collect(),
            known_as: known_as.into_iter().collect(),
            id,
        })
    }

    /// An issuer that is bound to a tenant speaks for no other, whatever its tokens say.
    fn tenant(&self, issuer: &Issuer, claims: &Value) -> Result<TenantId> {
        if let Some(tenant) = &issuer.binding().tenant {
            return Ok(tenant.clone());
        }
        let named = self.places.tenant.as_ref().and_then(|place| claims.pointer(place));
        match (named, &self.default_tenant) {
            (Some(Value::String(tenant)), _) => {
                tenant.parse().map_err(|_| Error::Unauthenticated("the tenant is not named as tenants are"))
            }
            (Some(_), _) => Err(Error::Unauthenticated("the tenant is not a text")),
            (None, Some(tenant)) => Ok(tenant.clone()),
            (None, None) => Err(Error::Unauthenticated("no tenant")),
        }
    }
}

fn has_nul(text: &str) -> bool {
    text.contains('\0')
}

/// A list of texts, or one text with spaces between its parts; any other shape is an empty list (contract, "Operators,
/// administrators and owners").
fn list_of(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(text)) => text.split_whitespace().map(str::to_owned).collect(),
        Some(Value::Array(items)) => {
            let texts = items.iter().map(|item| item.as_str().map(str::to_owned));
            texts.collect::<Option<_>>().unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::auth::{Binding, IssuerKeys};

    #[test]
    fn roles_are_a_list_or_one_text_and_nothing_else() {
        for (claim, roles) in [
            (json!(["operator", "admin"]), vec!["operator", "admin"]),
            (json!("operator  admin"), vec!["operator", "admin"]),
            (json!("operator"), vec!["operator"]),
            (json!(["operator", 7]), vec![]),
            (json!(null), vec![]),
            (json!(7), vec![]),
            (json!({"operator": true}), vec![]),
            (json!(""), vec![]),
        ] {
            assert_eq!(list_of(Some(&claim)), roles, "{claim}");
        }
        assert!(list_of(None).is_empty());
    }

    fn issuers(bindings: &[(&str, Option<&str>, bool)], default_tenant: Option<&str>) -> Issuers {
        let all = bindings.iter().map(|(name, tenant, owners)| {
            let tenant = tenant.map(|tenant| tenant.parse().unwrap());
            let binding = Binding { name: (*name).into(), audience: None, tenant, owners: *owners };
            Issuer::pinned(format!("https://{name}"), IssuerKeys::default()).bound(binding)
        });
        let places = ClaimPlaces { tenant: Some("/tenant".into()), ..ClaimPlaces::default() };
        Issuers::new(all.collect(), places, default_tenant.map(|tenant| tenant.parse().unwrap())).unwrap()
    }

    fn person(issuers: &Issuers, of: &str, claims: &Value) -> Result<Person> {
        issuers.person(issuers.of(&format!("https://{of}")).unwrap(), claims)
    }

    #[test]
    fn the_tenant_is_the_issuers_else_the_tokens_else_the_default_else_nobody_s() {
        let several = issuers(&[("a", Some("acme"), false), ("b", None, false)], None);
        let tenant = |of: &str, claims: Value| person(&several, of, &claims).map(|person| person.tenant.to_string());
        assert_eq!(tenant("a", json!({"sub": "s"})).unwrap(), "acme");
        assert_eq!(tenant("a", json!({"sub": "s", "tenant": "beta"})).unwrap(), "acme");
        assert_eq!(tenant("b", json!({"sub": "s", "tenant": "beta"})).unwrap(), "beta");
        for wrong in [json!({"sub": "s"}), json!({"sub": "s", "tenant": 7}), json!({"sub": "s", "tenant": "Beta"})] {
            assert!(matches!(tenant("b", wrong), Err(Error::Unauthenticated(_))));
        }
        let one = issuers(&[("a", None, false)], Some("default"));
        assert_eq!(person(&one, "a", &json!({"sub": "s"})).unwrap().tenant, TenantId::default());
    }

    #[test]
    fn ids_of_several_issuers_differ_and_owners_are_believed_of_some_only() {
        let several = issuers(&[("a", Some("acme"), false), ("b", Some("acme"), true)], None);
        let claims = json!({"sub": "S|1", "roles": ["owner"], "email": "S@x.org"});
        let (of_a, of_b) = (person(&several, "a", &claims).unwrap(), person(&several, "b", &claims).unwrap());
        assert_eq!((of_a.id.as_str(), of_a.is_owner), ("a|S|1", false));
        assert_eq!((of_b.id.as_str(), of_b.is_owner), ("b|S|1", true));
        assert_eq!(of_a.known_as, ["a|s|1", "s@x.org", "s|1"]);
        assert_eq!(person(&issuers(&[("a", Some("acme"), false)], None), "a", &claims).unwrap().id, "S|1");
    }
}
