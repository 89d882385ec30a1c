//! What a client is configured with: the same variables as the other SDKs.

use crate::credentials::Credentials;
use crate::error::{Error, Result};

/// The address of the relay, and who asks there.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `RELAYTRACE_URL`.
    pub url: String,
    /// From `RELAYTRACE_AGENT_ID`, `RELAYTRACE_RESPONSE_SECRET`, and either `RELAYTRACE_TOKEN` (a bearer key) or
    /// `RELAYTRACE_KEY_ID` and `RELAYTRACE_PRIVATE_KEY` (PEM, or the path of a file).
    pub credentials: Credentials,
}

impl Settings {
    /// From the environment.
    ///
    /// # Errors
    /// [`Error::Configuration`] with the variable that is missing or wrong.
    pub fn from_env() -> Result<Self> {
        Self::from_variables(|name| std::env::var(name).ok())
    }

    /// From variables that are kept elsewhere, such as a file. An empty one counts as unset.
    ///
    /// # Errors
    /// As [`Settings::from_env`].
    pub fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let read = |name: &str| {
            let text = read(&format!("RELAYTRACE_{name}"))?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let missing = |name: &str, what: &str| Error::Configuration(format!("RELAYTRACE_{name} is not set: {what}"));
        let url = read("URL").ok_or_else(|| missing("URL", "the relay's address, such as http://127.0.0.1:8080"))?;
        let agent_id = read("AGENT_ID").ok_or_else(|| missing("AGENT_ID", "the agent that the key belongs to"))?;
        let secret = read("RESPONSE_SECRET").ok_or_else(|| {
            missing("RESPONSE_SECRET", "answers are verified with it; it was given when the key was registered")
        })?;
        let credentials = match (read("TOKEN"), read("KEY_ID"), read("PRIVATE_KEY")) {
            (Some(_), _, Some(_)) => {
                let both = "both RELAYTRACE_TOKEN and RELAYTRACE_PRIVATE_KEY are set: unset the one that is not meant";
                return Err(Error::Configuration(both.to_owned()));
            }
            (Some(token), _, None) => Credentials::bearer(&agent_id, &token, &secret)?,
            (None, Some(key_id), Some(key)) => Credentials::new(&agent_id, &key_id, &pem_of(&key)?, &secret)?,
            (None, key_id, _) => {
                let rest = if key_id.is_none() { "RELAYTRACE_KEY_ID" } else { "RELAYTRACE_PRIVATE_KEY" };
                let none = format!("there is no key: set RELAYTRACE_TOKEN to a bearer key, or {rest} as well");
                return Err(Error::Configuration(none));
            }
        };
        Ok(Self { url, credentials })
    }
}

/// The key itself, or what the file at this path holds. Environment files often carry line ends as `\n`.
fn pem_of(text: &str) -> Result<String> {
    if text.starts_with("-----BEGIN") {
        return Ok(text.replace("\\n", "\n"));
    }
    std::fs::read_to_string(text).map_err(|error| {
        Error::Configuration(format!("RELAYTRACE_PRIVATE_KEY is neither PEM nor a file that can be read: {error}"))
    })
}
