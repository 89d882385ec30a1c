//! Secrets and authorities of each function: it gets the secrets that it needs and connects with its own authority.

use std::collections::BTreeSet;

use relaytrace_domain::Cause;
pub use relaytrace_store::DatabaseAuthority;

/// What the functions of a process need; of several functions, what any of them does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one secret that is needed or not")]
pub struct Needs {
    /// Authorities that they connect as.
    pub authorities: BTreeSet<DatabaseAuthority>,
    /// They sign receipts.
    pub receipts: bool,
    /// They answer agents, whose responses are signed with secrets derived from the master secret.
    pub responses: bool,
    /// They make bearer keys.
    pub bearer: bool,
    /// They hold secrets of channels and of agents' push.
    pub channels: bool,
    /// They send mail.
    pub mail: bool,
    /// They send messages to browsers.
    pub web_push: bool,
    /// Causes that they decide for.
    pub causes: Vec<Cause>,
}

impl Needs {
    /// A function of this authority.
    #[must_use]
    pub fn of(authority: DatabaseAuthority) -> Self {
        Self { authorities: [authority].into(), ..Self::default() }
    }

    /// It signs receipts.
    #[must_use]
    pub fn receipts(self) -> Self {
        Self { receipts: true, ..self }
    }

    /// It answers agents.
    #[must_use]
    pub fn responses(self) -> Self {
        Self { responses: true, ..self }
    }

    /// It makes bearer keys.
    #[must_use]
    pub fn bearer(self) -> Self {
        Self { bearer: true, ..self }
    }

    /// It holds secrets of channels and of agents' push.
    #[must_use]
    pub fn channels(self) -> Self {
        Self { channels: true, ..self }
    }

    /// It sends mail.
    #[must_use]
    pub fn mail(self) -> Self {
        Self { mail: true, ..self }
    }

    /// It sends messages to browsers.
    #[must_use]
    pub fn web_push(self) -> Self {
        Self { web_push: true, ..self }
    }

    /// It decides for these causes.
    #[must_use]
    pub fn causes(self, causes: &[Cause]) -> Self {
        Self { causes: causes.to_vec(), ..self }
    }

    /// What both need.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.authorities.extend(other.authorities);
        self.causes.extend(other.causes);
        Self {
            receipts: self.receipts || other.receipts,
            responses: self.responses || other.responses,
            bearer: self.bearer || other.bearer,
            channels: self.channels || other.channels,
            mail: self.mail || other.mail,
            web_push: self.web_push || other.web_push,
            ..self
        }
    }
}
