//! Sends a message to where it is meant for.

use std::fmt;
use std::sync::Arc;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use crate::ReachConfig;
use crate::egress::{Egress, UNCALLABLE, Uncallable};
use crate::mail::Mailer;
use crate::message::Message;
use crate::web_push::{self, Handling, Subscription, WebPushHosts, WebPushKey};
use crate::webhook::{self, WebhookSecret};

/// Characters of a text block of Slack's at the most.
const LONGEST_BLOCK: usize = 3_000;

/// Where a message goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// A webhook, signed by each of these secrets (Standard Webhooks).
    Webhook {
        /// Where.
        url: String,
        /// The newest first; earlier ones while they are valid.
        secrets: Vec<WebhookSecret>,
    },
    /// An incoming webhook of Slack, whose URL is its secret.
    Slack {
        /// Where.
        url: SecretString,
    },
    /// Mail.
    Email {
        /// Addresses.
        to: Vec<String>,
    },
    /// A browser.
    Browser {
        /// Where.
        to: Subscription,
        /// How its push service treats the message.
        handling: Handling,
    },
}

/// A message was not taken. Says nothing of why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{UNCALLABLE}")]
pub enum Failed {
    /// The receiver says that it will never take one (410; a push service also 404).
    Gone,
    /// It may the next time.
    Refused,
}

impl From<Uncallable> for Failed {
    fn from(_: Uncallable) -> Self {
        Self::Refused
    }
}

/// The clients that send.
pub struct Sender {
    egress: Egress,
    mailer: Option<Mailer>,
    web_push_hosts: WebPushHosts,
    web_push_key: Option<Arc<WebPushKey>>,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("egress", &self.egress).finish_non_exhaustive()
    }
}

impl Sender {
    /// The clients of a deployment.
    #[must_use]
    pub fn new(config: &ReachConfig) -> Self {
        let mailer = config.smtp.as_ref().and_then(Mailer::new);
        Self {
            egress: Egress::new(config.egress.clone()),
            mailer,
            web_push_hosts: config.web_push_hosts.clone(),
            web_push_key: config.web_push_key.clone(),
        }
    }

    /// The guarded client.
    #[must_use]
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Sends a message once.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn send(&self, target: &Target, message: &Message, now: DateTime<Utc>) -> Result<(), Failed> {
        let status = match target {
            Target::Webhook { url, secrets } => self.call(url, secrets, message, now).await?.finish().await,
            Target::Slack { url } => {
                let mut headers = HeaderMap::new();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                let body = slack(message).to_string().into_bytes();
                self.egress.post(url.expose_secret(), headers, body).await?.finish().await
            }
            Target::Email { to } => {
                let sent = match &self.mailer {
                    Some(mailer) => mailer.send(to, message).await,
                    None => Err(anyhow!("there is no SMTP_URL")),
                };
                return sent.map_err(|error| {
                    tracing::debug!(error = format!("{error:#}"), "a mail was not taken");
                    Failed::Refused
                });
            }
            Target::Browser { to, handling } => match self.push(to, handling, message, now).await? {
                // RFC 8030, section 7.3: a subscription that has expired may be 404.
                StatusCode::NOT_FOUND => StatusCode::GONE,
                status => status,
            },
        };
        match status {
            status if status.is_success() => Ok(()),
            StatusCode::GONE => Err(Failed::Gone),
            _ => Err(Failed::Refused),
        }
    }

    async fn push(
        &self,
        to: &Subscription,
        handling: &Handling,
        message: &Message,
        now: DateTime<Utc>,
    ) -> Result<StatusCode, Failed> {
        let Some(key) = &self.web_push_key else {
            tracing::debug!("there is no VAPID_PRIVATE_KEY");
            return Err(Failed::Refused);
        };
        // Again: what is stored may be older than the list of hosts.
        if !to.is_at(&self.egress, &self.web_push_hosts) {
            return Err(Failed::Refused);
        }
        let (headers, body) = web_push::request(key, to, handling, message.json(), now).map_err(|error| {
            tracing::error!(error = ?error, "a message to a browser cannot be written");
            Failed::Refused
        })?;
        Ok(self.egress.post(&to.endpoint, headers, body).await?.finish().await)
    }

    /// Asks a webhook whether it is meant: it answers with exactly the challenge.
    ///
    /// # Errors
    /// [`Failed`].
    pub async fn verify(
        &self,
        url: &str,
        secrets: &[WebhookSecret],
        message: &Message,
        challenge: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Failed> {
        let reply = self.call(url, secrets, message, now).await?;
        if !reply.status.is_success() {
            return Err(Failed::Refused);
        }
        let answered: Value = serde_json::from_slice(&reply.body().await?).map_err(|_| Failed::Refused)?;
        if answered == json!({"challenge": challenge}) { Ok(()) } else { Err(Failed::Refused) }
    }

    async fn call(
        &self,
        url: &str,
        secrets: &[WebhookSecret],
        message: &Message,
        now: DateTime<Utc>,
    ) -> Result<crate::egress::Reply, Failed> {
        let body = message.json();
        let headers = webhook::headers(secrets, &message.id, now, &body).map_err(|_| Failed::Refused)?;
        Ok(self.egress.post(url, headers, body).await?)
    }
}

/// A message for an incoming webhook: plain text, in which nothing is a link or a mention, and one link that is ours.
fn slack(message: &Message) -> Value {
    let cut = |text: &str| text.chars().take(LONGEST_BLOCK).collect::<String>();
    let plain = |text: &str| json!({"type": "plain_text", "text": cut(text), "emoji": false});
    let mut blocks = vec![json!({"type": "section", "text": plain(&message.text())})];
    if let Some(link) = &message.link {
        let link = format!("<{}|Open in RelayTrace>", escaped(link).replace('|', "%7C"));
        blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": link, "verbatim": true}}));
    }
    // What a phone shows; it is read as Slack's markup.
    json!({"text": escaped(&cut(&message.subject)), "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

/// Slack's own escapes.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slack_gets_plain_text_and_one_link() {
        let message = Message {
            id: "m".into(),
            at: DateTime::default(),
            payload: json!({}),
            subject: "[P1] Asked: a & b <c>".into(),
            lines: vec!["*a*".into(), "<b>".into()],
            link: Some("https://page.example/?id=1".into()),
        };
        let told = slack(&message);
        assert_eq!(told["text"], "[P1] Asked: a &amp; b &lt;c&gt;");
        assert_eq!(told["blocks"][0]["text"], json!({"type": "plain_text", "text": "*a*\n<b>", "emoji": false}));
        assert_eq!(told["blocks"][1]["text"]["text"], "<https://page.example/?id=1|Open in RelayTrace>");
        assert_eq!(told["blocks"].as_array().unwrap().len(), 2);
    }
}
