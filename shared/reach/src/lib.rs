//! How others are reached: agents by signed webhooks, people by channels and in their browsers (contract, "Reach").
//!
//! Every URL that came through the API is called through one guard ([`Egress`]). What the environment names (the mail
//! server) is not its business.

mod egress;
mod mail;
mod message;
mod seal;
mod sender;
mod stored;
mod web_push;
mod webhook;

use std::sync::{Arc, OnceLock};

use url::Url;

pub use egress::{Egress, EgressRules, Lookup, LookupResult, UNCALLABLE, Uncallable};
pub use mail::{Smtp, is_address};
pub use message::{About, Message, Resolved, without_links};
pub use seal::ChannelKeys;
pub use sender::{Failed, Sender, Target};
pub use stored::{PushSecrets, channel_place, channel_target, instance_place, push_place};
pub use web_push::{Handling, Subscription, WebPushHosts, WebPushKey};
pub use webhook::WebhookSecret;

/// What a deployment says of how others are reached.
#[derive(Debug, Default)]
pub struct ReachConfig {
    /// What may be called beside public addresses by https.
    pub egress: EgressRules,
    /// Secrets of channels are kept under these; `None`: there are no channels.
    pub keys: Option<ChannelKeys>,
    /// How mails are sent; `None`: none are.
    pub smtp: Option<Smtp>,
    /// Where the operator page is, for the link of a message.
    pub page_url: Option<Url>,
    /// Push services of browsers that may be called.
    pub web_push_hosts: WebPushHosts,
    /// What browsers subscribe with; `None`: none are told anything.
    pub web_push_public: Option<String>,
    /// Messages to browsers are signed with it.
    pub web_push_key: Option<Arc<WebPushKey>>,
}

/// The configuration and, from the first message on, its clients.
#[derive(Debug, Default)]
pub struct Reach {
    /// The configuration.
    pub config: ReachConfig,
    sender: OnceLock<Sender>,
}

impl Reach {
    /// Nothing is built before it is needed.
    #[must_use]
    pub fn new(config: ReachConfig) -> Self {
        Self { config, sender: OnceLock::new() }
    }

    /// What sends messages.
    pub fn sender(&self) -> &Sender {
        self.sender.get_or_init(|| Sender::new(&self.config))
    }

    /// The page's address of a request.
    #[must_use]
    pub fn link(&self, request_id: relaytrace_domain::RequestId) -> Option<String> {
        let mut url = self.config.page_url.clone()?;
        url.set_query(Some(&format!("id={request_id}")));
        Some(url.into())
    }
}
