//! What the commands are configured with: the SDKs' variables, and a file for those that are not set.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use relaytrace_client::{Client, Patience};

use crate::exit::{Fault, Result};

/// Variables that belong together: of a key, all come from where one of it is set.
const OF_A_KEY: [&str; 5] = ["AGENT_ID", "KEY_ID", "PRIVATE_KEY", "TOKEN", "RESPONSE_SECRET"];
/// Members of the file that nobody else may read.
const SECRETS: [&str; 3] = ["token", "private_key", "response_secret"];
/// Members that the file may have.
const KNOWN: [&str; 10] = [
    "url",
    "agent_id",
    "key_id",
    "private_key",
    "token",
    "response_secret",
    "issuer",
    "client_id",
    "scope",
    "operator_token_file",
];

/// Variables and the file's members together; a variable wins.
#[derive(Debug, Default)]
pub struct Settings {
    file: BTreeMap<String, String>,
}

impl Settings {
    /// Reads `$RELAYTRACE_CONFIG`, or `config.toml` in the folder of the user's configuration, if there is one.
    pub fn load() -> Result<Self> {
        let path = std::env::var_os("RELAYTRACE_CONFIG").map_or_else(|| folder().join("config.toml"), PathBuf::from);
        match fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path, &text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Fault::usage(format!("{} cannot be read: {error}", path.display()))),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let wrong = |what: String| Fault::usage(format!("{}: {what}", path.display()));
        let file: BTreeMap<String, String> = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if let Some(other) = file.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(wrong(format!("there is no setting {other}; there are {}", KNOWN.join(", "))));
        }
        let mode = fs::metadata(path).map(|file| file.mode()).unwrap_or_default();
        let is_secret = |name: &&String| {
            SECRETS.contains(&name.as_str()) && (*name != "private_key" || file[*name].starts_with("-----BEGIN"))
        };
        if let Some(secret) = file.keys().find(is_secret).filter(|_| mode & 0o077 != 0) {
            return Err(wrong(format!("it holds {secret}, and others may read it: chmod 600 {}", path.display())));
        }
        Ok(Self { file })
    }

    /// A setting by the name of its variable without `RELAYTRACE_`.
    pub fn get(&self, name: &str) -> Option<String> {
        let variable = |name: &str| std::env::var(format!("RELAYTRACE_{name}")).ok().filter(|text| !text.is_empty());
        let is_of_environment = OF_A_KEY.contains(&name) && OF_A_KEY.iter().any(|other| variable(other).is_some());
        variable(name)
            .or_else(|| self.file.get(&name.to_lowercase()).filter(|_| !is_of_environment).cloned())
            .map(|text| text.trim().to_owned())
            .filter(|text| !text.is_empty())
    }

    /// The relay's address, without a slash at its end.
    pub fn url(&self) -> Result<String> {
        let url = self.get("URL").ok_or_else(|| {
            Fault::usage("RELAYTRACE_URL is not set: the relay's address, such as http://127.0.0.1:8080")
        })?;
        Ok(url.trim_end_matches('/').to_owned())
    }

    /// The agent's client.
    pub fn client(&self, patience: Patience) -> Result<Client> {
        let read = |name: &str| self.get(name.trim_start_matches("RELAYTRACE_"));
        let settings = relaytrace_client::Settings::from_variables(read)?;
        Ok(Client::with_patience(&settings.url, settings.credentials, patience)?)
    }

    /// Where the operator's token is kept.
    pub fn operator_token_file(&self) -> PathBuf {
        self.get("OPERATOR_TOKEN_FILE").map_or_else(|| folder().join("operator-token"), PathBuf::from)
    }
}

/// The page of a request, for people.
pub fn link(url: &str, request_id: impl std::fmt::Display) -> String {
    format!("{url}/?id={request_id}")
}

fn folder() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    base.unwrap_or_default().join("relaytrace")
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    let written = || -> std::io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
            fs::create_dir_all(folder)?;
            fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        }
        // One that was left behind might be readable by others.
        drop(fs::remove_file(&draft));
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    };
    written().map_err(|error| Fault::failed(format!("{} cannot be written: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_secret_is_the_owners_alone_and_unknown_settings_are_named() {
        let path = std::env::temp_dir().join(format!("relaytrace-config-{}.toml", std::process::id()));
        let text = "url = \"http://127.0.0.1:9\"\ntoken = \"rtk_k_secret\"\n";
        write_private(&path, text).unwrap();
        let read = Settings::parse(&path, text).unwrap();
        assert_eq!(read.file["token"], "rtk_k_secret");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = Settings::parse(&path, text).unwrap_err();
        assert!(refused.said.contains("chmod 600"), "{}", refused.said);
        assert!(Settings::parse(&path, "url = \"http://127.0.0.1:9\"\n").is_ok());
        let unknown = Settings::parse(&path, "adress = \"\"").unwrap_err();
        assert!(unknown.said.contains("adress") && unknown.said.contains("url"), "{}", unknown.said);
        fs::remove_file(&path).unwrap();
    }
}
