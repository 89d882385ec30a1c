//! Channels and pushes as they are stored: what administrators see of them, and the secret beside it.

use chrono::{DateTime, TimeDelta, Utc};
use relaytrace_domain::{AgentId, ChannelId, Error, KeyId, Result, TenantId};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::sender::Target;
use crate::webhook::WebhookSecret;

/// How long a secret is valid after the next one was made.
const OVERLAP: TimeDelta = TimeDelta::hours(24);
/// Earlier secrets that are kept at the most.
const MOST_EARLIER: usize = 8;

/// Where a channel's secret is sealed for.
#[must_use]
pub fn channel_place(tenant: &TenantId, channel_id: &ChannelId) -> String {
    format!("channel/{tenant}/{channel_id}")
}

/// Where the secrets of an agent's push are sealed for.
#[must_use]
pub fn push_place(agent_id: &AgentId) -> String {
    format!("push/{agent_id}")
}

/// Where the secret of an instance's receiver is sealed for.
#[must_use]
pub fn instance_place(key_id: &KeyId) -> String {
    format!("instance/{key_id}")
}

/// Where a stored channel's messages go.
///
/// # Errors
/// [`Error::Internal`] where it is not as channels are stored.
pub fn channel_target(kind: &str, config: &Value, secret: Option<SecretString>) -> Result<Target> {
    let broken = || Error::internal(anyhow::anyhow!("a stored channel is not as channels are stored"));
    match (kind, secret) {
        ("webhook", Some(secret)) => {
            let url = config["url"].as_str().ok_or_else(broken)?.to_owned();
            let secret = secret.expose_secret().parse::<WebhookSecret>().map_err(|_| broken())?;
            Ok(Target::Webhook { url, secrets: vec![secret] })
        }
        ("slack", Some(url)) => Ok(Target::Slack { url }),
        ("email", _) => {
            let to = config["to"].as_array().ok_or_else(broken)?;
            Ok(Target::Email { to: to.iter().filter_map(Value::as_str).map(str::to_owned).collect() })
        }
        _ => Err(broken()),
    }
}

/// The secrets of an agent's push: the newest, and earlier ones for 24 hours after they were replaced, so that a call whose
/// answer was lost may be repeated.
#[derive(Clone, Debug, Default)]
pub struct PushSecrets(Vec<(WebhookSecret, Option<DateTime<Utc>>)>);

impl PushSecrets {
    /// Reads what was stored.
    ///
    /// # Errors
    /// [`Error::Internal`] where nothing of ours was.
    pub fn read(stored: &SecretString) -> Result<Self> {
        let broken = || Error::internal(anyhow::anyhow!("secrets of a push are not as they are stored"));
        let items: Vec<(String, Option<DateTime<Utc>>)> =
            serde_json::from_str(stored.expose_secret()).map_err(|_| broken())?;
        let secrets = items.into_iter().map(|(text, until)| Ok((text.parse().map_err(|_| broken())?, until)));
        secrets.collect::<Result<_>>().map(Self)
    }

    /// As they are stored.
    #[must_use]
    pub fn stored(&self) -> SecretString {
        let items: Vec<_> =
            self.0.iter().map(|(secret, until)| json!([secret.text().expose_secret(), until])).collect();
        Value::from(items).to_string().into()
    }

    /// A new secret before them; those that stood until now are valid for 24 hours more.
    #[must_use]
    pub fn with(self, secret: WebhookSecret, now: DateTime<Utc>) -> Self {
        let earlier = self.0.into_iter().map(|(secret, until)| (secret, until.unwrap_or(now + OVERLAP)));
        let earlier = earlier.filter(|(_, until)| *until > now).take(MOST_EARLIER);
        let earlier = earlier.map(|(secret, until)| (secret, Some(until)));
        Self([(secret, None)].into_iter().chain(earlier).collect())
    }

    /// Those that are valid, the newest first.
    #[must_use]
    pub fn valid(&self, now: DateTime<Utc>) -> Vec<WebhookSecret> {
        let is_valid = |until: &Option<DateTime<Utc>>| until.is_none_or(|until| until > now);
        self.0.iter().filter(|(_, until)| is_valid(until)).map(|(secret, _)| secret.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_valid_for_a_day_after_it_was_replaced() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let texts = |secrets: &PushSecrets, at| -> Vec<String> {
            secrets.valid(at).iter().map(|secret| secret.text().expose_secret().to_owned()).collect()
        };
        let first = PushSecrets::default().with(WebhookSecret::generate().unwrap(), now);
        let one = texts(&first, now);
        let both = first.with(WebhookSecret::generate().unwrap(), now);
        let both = PushSecrets::read(&both.stored()).unwrap();
        let two = texts(&both, now);
        assert_eq!((one.len(), two.len(), &two[1]), (1, 2, &one[0]));
        assert_eq!(texts(&both, now + OVERLAP), two[..1]);
        // An answer that was lost takes no secret away from who has it.
        let third = both.with(WebhookSecret::generate().unwrap(), now + TimeDelta::hours(1));
        assert_eq!(texts(&third, now + TimeDelta::hours(23))[1..], two[..]);
        assert_eq!(texts(&third, now + TimeDelta::hours(24))[1..], two[..1]);
    }
}
