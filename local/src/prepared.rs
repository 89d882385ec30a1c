//! A database that is ready for the functions: schema, their login role, an agent; and its description.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context as _;
use relaytrace::auth::{KeyAlg, PublicKey};
use relaytrace::config::Config;
use relaytrace::events::Publishing;
use relaytrace::{AppState, Clock};
use serde_json::json;
use url::Url;

use crate::PrepareOptions;
use crate::development::{AGENT_ID, Secrets, write_private};

/// The functions' own login. It is a member of `relaytrace_app` and owns nothing.
const SERVICE_ROLE: &str = "relaytrace_service";

/// A prepared database, and what the functions are configured with.
pub struct Prepared {
    /// State of the functions over it.
    pub state: AppState,
    /// Where the functions are to be found.
    pub base_url: String,
    secrets: Secrets,
    environment: HashMap<String, String>,
    owner: Url,
    nats_url: String,
}

/// Prepares a database and describes the stack that can be served over it.
pub fn run(options: &PrepareOptions) -> anyhow::Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let PrepareOptions { database_url, nats_url, port, dir } = options;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let prepared = tokio.block_on(Prepared::new(dir, database_url, nats_url, *port))?;
    write_private(&dir.join("dev.json"), &prepared.describe()?.to_string())
}

impl Prepared {
    /// Migrates the database as its owner, makes the functions' role and the agent of the description. What is there
    /// already stays.
    pub async fn new(dir: &Path, owner: &str, nats_url: &str, port: u16) -> anyhow::Result<Self> {
        let owner = Url::parse(owner).context("the database must be given as a URL")?;
        let as_owner = owner.as_str().parse()?;
        relaytrace::store::migrate(&as_owner).await?;
        relaytrace::store::make_login_role(&as_owner, SERVICE_ROLE).await?;
        let secrets = Secrets::load_or_make(&dir.join("secrets.json"))?;
        let mut as_service = owner.clone();
        as_service.set_username(SERVICE_ROLE).ok().context("the database's URL takes no user")?;
        let environment = secrets.environment(as_service.as_str(), nats_url)?;
        let mut variables = environment.clone();
        // The rules of delivery and tokens can be tried out: `LEASE_SECONDS=2 make run`.
        variables.extend(std::env::vars().filter(|(name, _)| !environment.contains_key(name)));
        let state = AppState::new(Config::from_variables(variables)?, &Clock::system(), Publishing::Behind);
        let base_url = format!("http://127.0.0.1:{port}");
        let prepared = Self { state, base_url, secrets, environment, owner, nats_url: nats_url.to_owned() };
        prepared.register_agent().await?;
        Ok(prepared)
    }

    /// The agent of the description.
    async fn register_agent(&self) -> anyhow::Result<()> {
        let Self { state, secrets, .. } = self;
        let agent_id = AGENT_ID.parse()?;
        if state.store.agent(&agent_id).await?.is_some_and(|agent| !agent.keys.is_empty()) {
            return Ok(());
        }
        state.store.register_agent(&agent_id, "The agent of this checkout").await?;
        let key = PublicKey::from_pem(KeyAlg::EdDsa, &secrets.agent_key.public_pem()?).map_err(anyhow::Error::msg)?;
        let (key_id, master_id) = (secrets.agent_key_id.parse()?, state.master_secrets.current());
        state.store.register_key(&agent_id, &key_id, KeyAlg::EdDsa.as_str(), &key.spki, master_id).await?;
        Ok(())
    }

    /// The content of `dev.json`, with fresh tokens.
    pub fn describe(&self) -> anyhow::Result<serde_json::Value> {
        let Self { state, secrets, .. } = self;
        let now = state.clock.now().timestamp();
        let masters = &state.master_secrets;
        let (agent_id, key_id) = (AGENT_ID.parse()?, secrets.agent_key_id.parse()?);
        let operators = secrets.operators(now)?;
        Ok(json!({
            "base_url": self.base_url,
            "database_url": self.owner.as_str(),
            "nats_url": self.nats_url,
            "agent": {
                "agent_id": AGENT_ID,
                "key_id": secrets.agent_key_id,
                "private_key_pem": secrets.agent_key.0,
                "response_secret": masters.response_secret_text(masters.current(), &agent_id, &key_id)?,
                "token": secrets.agent_key.agent_token(AGENT_ID, &secrets.agent_key_id, now)?,
            },
            "operator": operators.first(),
            "operators": operators,
            "admin": {"token": secrets.person("admin", "Admin of this checkout", "admin", now)?},
            "environment": self.environment,
        }))
    }
}
