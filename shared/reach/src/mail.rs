//! Mail in plain text, by the deployment's own server (`SMTP_URL`, `SMTP_FROM`).

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::PoolConfig;
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use crate::message::Message;

/// Longest time of one exchange with the server.
const TIMEOUT: Duration = Duration::from_secs(8);
/// Connections to the server at the most.
const MOST_CONNECTIONS: u32 = 4;

/// The mail server, and who writes.
#[derive(Clone)]
pub struct Smtp {
    url: SecretString,
    from: Mailbox,
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp").field("from", &self.from.to_string()).finish_non_exhaustive()
    }
}

impl Smtp {
    /// Reads `SMTP_URL`: `smtps://user:password@host`, or `smtp://host:port?tls=required`.
    ///
    /// # Errors
    /// A sentence for the deployment. A password never goes to another machine in the clear.
    pub fn check_url(text: &str) -> Result<SecretString, &'static str> {
        const RULE: &str = "must be smtps://user:password@host or smtp://host:port?tls=required";
        let url = Url::parse(text).map_err(|_| RULE)?;
        let is_encrypted = url.scheme() == "smtps" || url.query() == Some("tls=required");
        let is_here = match url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            // The scheme is none of the web's: an address may be left as a name.
            Some(Host::Domain(name)) => name == "localhost" || name.starts_with("127."),
            None => return Err(RULE),
        };
        if !matches!(url.scheme(), "smtp" | "smtps") || AsyncSmtpTransport::<Tokio1Executor>::from_url(text).is_err() {
            return Err(RULE);
        }
        if url.password().is_some() && !is_encrypted && !is_here {
            return Err("has a password and no encryption: smtps://, or ?tls=required");
        }
        Ok(text.to_owned().into())
    }

    /// Reads `SMTP_FROM`.
    ///
    /// # Errors
    /// A sentence for the deployment.
    pub fn check_from(text: &str) -> Result<Mailbox, &'static str> {
        text.parse().map_err(|_| "must be an address, such as RelayTrace <relay@example.org>")
    }

    /// The server at this URL, written to by this sender.
    #[must_use]
    pub fn new(url: SecretString, from: Mailbox) -> Self {
        Self { url, from }
    }
}

/// Whether mail can be sent to it.
#[must_use]
pub fn is_address(text: &str) -> bool {
    text.len() <= 254 && text.parse::<Address>().is_ok()
}

/// The connection to the mail server.
pub(crate) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    pub(crate) fn new(smtp: &Smtp) -> Option<Self> {
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(smtp.url.expose_secret()).ok()?;
        let pool = PoolConfig::new().max_size(MOST_CONNECTIONS);
        let transport = builder.timeout(Some(TIMEOUT)).pool_config(pool).build();
        Some(Self { transport, from: smtp.from.clone() })
    }

    /// Sends a message to all of these at once.
    pub(crate) async fn send(&self, to: &[String], message: &Message) -> anyhow::Result<()> {
        let mut mail = lettre::Message::builder().from(self.from.clone()).subject(&message.subject);
        for address in to {
            mail = mail.to(Mailbox::new(None, address.parse()?));
        }
        let text = match &message.link {
            Some(link) => format!("{}\n\n{link}\n", message.text()),
            None => format!("{}\n", message.text()),
        };
        let id = format!("<{}@{}>", message.id, self.from.email.domain());
        let automatic = HeaderName::new_from_ascii_str("Auto-Submitted");
        let mail = mail
            .message_id(Some(id))
            .date(message.at.into())
            .raw_header(HeaderValue::new(automatic, "auto-generated".into()))
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .context("a message that is no mail")?;
        tokio::time::timeout(TIMEOUT, self.transport.send(mail)).await??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_goes_to_another_machine_in_the_clear() {
        for good in [
            "smtps://user:password@mail.example.org",
            "smtp://user:password@mail.example.org:587?tls=required",
            "smtp://127.0.0.1:1025",
            "smtp://user:password@127.0.0.1:1025",
            "smtp://relay.internal:25",
        ] {
            assert!(Smtp::check_url(good).is_ok(), "{good}");
        }
        for bad in ["", "mail.example.org", "https://mail.example.org", "smtp://user:password@mail.example.org"] {
            assert!(Smtp::check_url(bad).is_err(), "{bad}");
        }
        assert!(Smtp::check_from("RelayTrace <relay@example.org>").is_ok());
        assert!(Smtp::check_from("relay").is_err());
    }

    #[test]
    fn nothing_secret_is_printed() {
        let url = Smtp::check_url("smtps://user:hunter2@mail.example.org").unwrap();
        let smtp = Smtp::new(url, Smtp::check_from("relay@example.org").unwrap());
        assert!(!format!("{smtp:?}").contains("hunter2"));
    }
}
