//! A stack that is prepared: its database migrated, its agent registered, and described in `dev.json`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use relaytrace_domain::{Clock, KeyRights, KeyScope};
use relaytrace_service::auth::{KeyAlg, PublicKey, token_digest};
use relaytrace_service::config::Config;
use relaytrace_service::events::Publishing;
use relaytrace_service::{AppState, DatabaseAuthority};
use relaytrace_store::{NewKey, Scope};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use crate::PrepareOptions;
use crate::development::{AgentSecrets, OTHER_TENANT, Person, Secrets, write_private};

/// The functions' own login. It is a member of `relaytrace_app` and owns nothing.
const SERVICE_ROLE: &str = "relaytrace_service";
/// An agent's token lives 15 minutes: the description of the stack gets a new one well before.
const REFRESH_DESCRIPTION: Duration = Duration::from_mins(5);

/// Where a stack is reached from outside of it.
#[derive(clap::Args, Clone, Debug)]
pub struct Addresses {
    /// Of the functions, without a slash at the end.
    #[arg(long)]
    pub base_url: String,
    /// Of the database, as its owner.
    #[arg(long)]
    pub database_url: String,
    /// Of NATS.
    #[arg(long)]
    pub nats_url: String,
}

/// See the module.
pub struct Prepared {
    /// What the functions share.
    pub state: AppState,
    /// What the functions are configured with.
    pub environment: HashMap<String, String>,
    secrets: Secrets,
    addresses: Addresses,
    description: PathBuf,
}

/// Prepares a database and describes the stack that can be served over it.
pub fn run(options: &PrepareOptions) -> anyhow::Result<ExitCode> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let PrepareOptions { database_url, nats_url, port, dir } = options;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    tokio.block_on(async {
        let service_url = migrate(database_url).await?;
        let base_url = format!("http://127.0.0.1:{port}");
        let addresses = Addresses { base_url, database_url: database_url.clone(), nats_url: nats_url.clone() };
        Prepared::new(dir, &service_url, nats_url, addresses).await?.write()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Brings the database up to date, as its owner: the functions' own role could not. The URL that they use it by.
pub async fn migrate(owner_url: &str) -> anyhow::Result<String> {
    let owner = owner_url.parse()?;
    let roles = relaytrace_store::RolePrefix::default();
    relaytrace_store::migrate(&owner, &roles).await?;
    relaytrace_store::prepare_role(&owner, &roles, SERVICE_ROLE, None).await?;
    for authority in DatabaseAuthority::ALL {
        relaytrace_store::prepare_login(&owner, &roles.of(authority), &login_of(authority), None).await?;
    }
    as_login(owner_url, SERVICE_ROLE)
}

/// The login of the functions of one authority.
fn login_of(authority: DatabaseAuthority) -> String {
    format!("{SERVICE_ROLE}_{}", authority.name())
}

/// A database's URL for another login; locally none has a password.
fn as_login(url: &str, login: &str) -> anyhow::Result<String> {
    let mut url = Url::parse(url).context("the database must be given as a URL")?;
    url.set_username(login).ok().context("the database's URL takes no user")?;
    Ok(url.into())
}

impl Prepared {
    /// Prepares the stack whose functions reach their servers at these URLs. Keys are kept in the folder.
    pub async fn new(
        dir: &Path,
        service_database_url: &str,
        service_nats_url: &str,
        addresses: Addresses,
    ) -> anyhow::Result<Self> {
        let secrets = Secrets::load_or_make(&dir.join("secrets.json"))?;
        let mut environment = secrets.environment(service_database_url, service_nats_url)?;
        environment.insert("PAGE_URL".to_owned(), addresses.base_url.clone());
        // `AUTHORITIES=1 make run`: a pool for each authority, as separate deployments of the functions have.
        if std::env::var("AUTHORITIES").is_ok_and(|text| text == "1") {
            for authority in DatabaseAuthority::ALL {
                let url = as_login(service_database_url, &login_of(authority))?;
                environment.insert(authority.variable().to_owned(), url);
            }
        }
        let mut variables = environment.clone();
        // The rules of delivery and tokens can be tried out: `LEASE_SECONDS=2 make run`.
        variables.extend(std::env::vars().filter(|(name, _)| !environment.contains_key(name)));
        let state = AppState::new(
            Config::from_variables(variables, relaytrace_cli::routes(relaytrace_cli::Function::all()).needs())?,
            &Clock::system(),
            Publishing::Behind,
        );
        let administering = state.acting_by(DatabaseAuthority::Ops);
        administering.store.add_tenant(&OTHER_TENANT.parse().map_err(anyhow::Error::msg)?).await?;
        for (tenant, agent_id, keys) in secrets.agents() {
            register_agent(&administering, tenant, agent_id, keys).await?;
        }
        Ok(Self { state, environment, secrets, addresses, description: dir.join("dev.json") })
    }

    /// Token of the first operator.
    pub fn operator_token(&self) -> anyhow::Result<String> {
        let operators = self.secrets.operators(self.state.clock.now().timestamp())?;
        Ok(operators[0]["token"].as_str().unwrap_or_default().to_owned())
    }

    /// The bearer key of the agent, and the secret of the responses to it.
    pub fn bearer(&self) -> anyhow::Result<(String, String)> {
        let (_, agent_id, keys) = self.secrets.agents().next().context("the stack has no agent")?;
        self.bearer_of(agent_id, keys)
    }

    fn bearer_of(&self, agent_id: &str, keys: &AgentSecrets) -> anyhow::Result<(String, String)> {
        let token = bearer_token(&self.state, agent_id, keys)?.expose_secret().to_owned();
        Ok((token, self.response_secret(agent_id, &keys.bearer_key_id)?))
    }

    fn response_secret(&self, agent_id: &str, key_id: &str) -> anyhow::Result<String> {
        let masters = &self.state.master_secrets;
        Ok(masters.response_secret_text(masters.current(), &agent_id.parse()?, &key_id.parse()?)?)
    }

    /// Token of the administrator of a tenant.
    pub fn admin_token(&self, tenant: &str) -> anyhow::Result<String> {
        let id = if tenant == OTHER_TENANT { "acme-admin" } else { "admin" };
        self.person(id, "Admin of this checkout", "admin", tenant)
    }

    fn person(&self, id: &str, name: &str, role: &str, tenant: &str) -> anyhow::Result<String> {
        let person = Person { id, name, role, groups: &[], tenant };
        self.secrets.person(&person, self.state.clock.now().timestamp())
    }

    /// Writes `dev.json`.
    pub fn write(&self) -> anyhow::Result<()> {
        write_private(&self.description, &self.describe()?.to_string())
    }

    /// Writes `dev.json` again and again, for its tokens.
    pub async fn keep_fresh(&self) -> anyhow::Result<()> {
        let mut refresh = tokio::time::interval(REFRESH_DESCRIPTION);
        loop {
            refresh.tick().await;
            self.write()?;
        }
    }

    fn describe(&self) -> anyhow::Result<Value> {
        let Self { state, environment, secrets, addresses, .. } = self;
        let operators = secrets.operators(state.clock.now().timestamp())?;
        let agents = secrets.agents().map(|(_, agent_id, keys)| self.describe_agent(agent_id, keys));
        let agents = agents.collect::<anyhow::Result<Vec<_>>>()?;
        let admins =
            ["default", OTHER_TENANT].map(|tenant| Ok(json!({"tenant": tenant, "token": self.admin_token(tenant)?})));
        Ok(json!({
            "base_url": addresses.base_url,
            "database_url": addresses.database_url,
            "nats_url": addresses.nats_url,
            "agent": agents[0],
            "agents": agents[1..],
            "operator": operators.first(),
            "operators": operators,
            "admin": {"token": self.admin_token("default")?},
            "admins": admins.into_iter().collect::<anyhow::Result<Vec<_>>>()?,
            "owner": {"token": self.person("owner", "Owner of this checkout", "owner", "default")?},
            "metrics_url": state.metrics.address().map(|address| format!("http://{address}/metrics")),
            "environment": environment,
        }))
    }

    fn describe_agent(&self, agent_id: &str, keys: &AgentSecrets) -> anyhow::Result<Value> {
        let now = self.state.clock.now().timestamp();
        let (bearer_token, bearer_response_secret) = self.bearer_of(agent_id, keys)?;
        Ok(json!({
            "agent_id": agent_id,
            "key_id": keys.agent_key_id,
            "private_key_pem": keys.agent_key.0,
            "response_secret": self.response_secret(agent_id, &keys.agent_key_id)?,
            "token": keys.agent_key.agent_token(agent_id, &keys.agent_key_id, now)?,
            "bearer_key_id": keys.bearer_key_id,
            "bearer_token": bearer_token,
            "bearer_response_secret": bearer_response_secret,
        }))
    }
}

fn bearer_token(state: &AppState, agent_id: &str, keys: &AgentSecrets) -> anyhow::Result<SecretString> {
    let master = state.bearer_master.as_ref().context("the stack has no BEARER_MASTER")?;
    Ok(master.token(&agent_id.parse()?, &keys.bearer_key_id.parse()?)?)
}

/// An agent of `.local/dev.json`, with a key that signs its tokens and a bearer key.
async fn register_agent(state: &AppState, tenant: &str, agent_id: &str, keys: &AgentSecrets) -> anyhow::Result<()> {
    let id = agent_id.parse()?;
    let tenant = tenant.parse().map_err(anyhow::Error::msg)?;
    let scope = Scope { tenant, ..Scope::of_program("relaytrace-local") };
    let agent = state.store.agent(&scope, &id).await?;
    if agent.is_none() {
        state.store.register_agent(&scope, &id, &format!("{agent_id} of this checkout")).await?;
    }
    let public = PublicKey::from_pem(KeyAlg::EdDsa, &keys.agent_key.public_pem()?).map_err(anyhow::Error::msg)?;
    let digest = token_digest(&bearer_token(state, agent_id, keys)?).to_vec();
    let bearer_rights =
        KeyRights { scopes: [KeyScope::Ask, KeyScope::Execute, KeyScope::Hook].into(), ..KeyRights::default() };
    let all = [
        (&keys.agent_key_id, KeyAlg::EdDsa, public.spki, KeyRights::default()),
        (&keys.bearer_key_id, KeyAlg::Bearer, digest, bearer_rights),
    ];
    for (key_id, alg, public_key, rights) in all {
        let key_id = key_id.parse()?;
        if agent.as_ref().is_some_and(|agent| agent.keys.iter().any(|key| key.key_id == key_id)) {
            continue;
        }
        let new = NewKey {
            key_id: &key_id,
            agent_id: &id,
            alg: alg.as_str(),
            public_key: &public_key,
            master_id: state.master_secrets.current(),
            rights: &rights,
            expires_at: None,
        };
        state.store.register_key(&scope, &new).await?;
    }
    Ok(())
}
