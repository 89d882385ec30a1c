//! What parts of the service are told of the configuration.

use http::HeaderValue;
use secrecy::SecretString;

/// How to reach NATS.
#[derive(Clone, Debug)]
pub struct NatsConfig {
    /// Where; servers of one cluster comma-separated.
    pub url: String,
    /// Contents of a `.creds` file.
    pub credentials: Option<SecretString>,
    /// Replicas of the stream.
    pub replicas: usize,
}

/// How submissions are taken (contract, "Repeated submissions").
#[derive(Clone, Copy, Debug)]
pub struct SubmissionRules {
    /// How long a key is kept from its submission, in seconds.
    pub dedupe_seconds: f64,
}

impl Default for SubmissionRules {
    fn default() -> Self {
        Self { dedupe_seconds: 7.0 * 86_400.0 }
    }
}

/// What is done without a person (contract, "Timeout policies" and "Rules").
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeoutRules {
    /// A policy may let a timeout approve, and a rule may approve.
    pub allow_auto_approve: bool,
}

/// How hooks of agent harnesses are answered (contract, "Claude Code").
#[derive(Clone, Copy, Debug)]
pub struct HookRules {
    /// Longest time that one is held, in seconds.
    pub max_wait_seconds: u64,
}

impl Default for HookRules {
    fn default() -> Self {
        Self { max_wait_seconds: 50 }
    }
}

/// How the operator page is served.
#[derive(Clone, Debug, Default)]
pub struct PageSettings {
    /// It is the local stack's own, which honours a token in the URL's fragment and answers only to this machine's names.
    /// Only `local` sets it.
    pub is_local: bool,
    /// Where the page is served from besides: only pages of these origins may read the operators' routes.
    pub origins: Vec<HeaderValue>,
    /// How it signs operators in; `None`: they paste a token.
    pub login: Option<Login>,
}

/// The page's client at the issuer (OIDC, authorization code with PKCE).
#[derive(Clone, Debug)]
pub struct Login {
    /// The issuer, an https URL.
    pub issuer: String,
    /// Its origin.
    pub origin: String,
    /// The client's id; it is public.
    pub client_id: String,
    /// Scopes, separated by spaces.
    pub scope: String,
}
