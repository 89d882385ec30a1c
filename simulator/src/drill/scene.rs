//! The scene of a drill: servers that it may break, a database of its own, and processes of the service.

use std::cell::Cell;
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use hyper::header::HeaderValue;
use relaytrace_servers::{Durability, Nats, Postgres, free_port, scratch_folder};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::task::block_in_place;

use super::client::Client;
use super::history::History;
use super::service::{Service, beside_us};
use crate::agent::Agent;
use crate::http::{Connection, bearer};

/// The servers of one lane. A drill that breaks them puts them right again.
pub struct Servers {
    postgres: Postgres,
    nats: Nats,
    folder: TempDir,
}

impl Servers {
    /// Starts both. Blocks.
    pub fn start() -> Result<Self> {
        let folder = scratch_folder()?;
        let postgres = Postgres::start(&folder.path().join("postgres"), Durability::Durable)?;
        // The default sync interval, as in production: Postgres is the truth.
        let nats = Nats::start(&folder.path().join("nats"), Durability::Throwaway)?;
        Ok(Self { postgres, nats, folder })
    }

    /// Starts what a drill that failed has left stopped.
    pub fn restore(&mut self) -> Result<()> {
        block_in_place(|| self.postgres.start_again().and_then(|()| self.nats.start_again()))
    }
}

/// A person with a token.
#[derive(Clone, Debug)]
pub struct Person {
    /// The token's `sub`.
    pub id: String,
    /// The header `Authorization`.
    pub token: HeaderValue,
}

/// A drill's scene.
pub struct Scene<'a> {
    /// The servers. Their methods block: `tokio::task::block_in_place`.
    pub postgres: &'a mut Postgres,
    /// NATS.
    pub nats: &'a mut Nats,
    /// The history of the drill's clients.
    pub history: Arc<History>,
    /// How much to do, in the drill's own unit.
    pub count: u64,
    /// Part of `make test`: waits are to be short too.
    pub is_short: bool,
    /// An administrator.
    pub admin: Person,
    /// Fifty operators.
    pub operators: Vec<Person>,
    /// What a function is configured with; a drill's own values are added to it.
    pub environment: HashMap<String, String>,
    /// Name of the database, and of the drill.
    pub database: String,
    folder: PathBuf,
    agents_made: Cell<usize>,
}

/// What `relaytrace-local prepare` says.
#[derive(Deserialize)]
struct Description {
    operators: Vec<Described>,
    admin: Token,
    environment: HashMap<String, String>,
}

#[derive(Deserialize)]
struct Described {
    id: String,
    token: String,
    #[serde(default)]
    tenant: Option<String>,
}

#[derive(Deserialize)]
struct Token {
    token: String,
}

impl<'a> Scene<'a> {
    /// Makes the database and all that a service needs; starts no service yet.
    pub fn set(name: &str, count: u64, is_short: bool, servers: &'a mut Servers) -> Result<Self> {
        let Servers { postgres, nats, folder } = servers;
        let folder = folder.path().join(name);
        block_in_place(|| prepare(postgres, nats, name, &folder))?;
        let text = std::fs::read_to_string(folder.join("dev.json"))?;
        let described: Description = serde_json::from_str(&text).context("dev.json is not what it should be")?;
        let person = |described: Described| {
            let token = bearer(&described.token)?;
            anyhow::Ok(Person { id: described.id, token })
        };
        // Agents of drills are.
        let is_of_default =
            |described: &Described| described.tenant.as_deref().is_none_or(|tenant| tenant == "default");
        Ok(Self {
            history: Arc::default(),
            count,
            is_short,
            admin: person(Described { id: "admin".to_owned(), token: described.admin.token, tenant: None })?,
            operators: described.operators.into_iter().filter(is_of_default).map(person).collect::<Result<_>>()?,
            environment: described.environment,
            database: name.to_owned(),
            folder,
            agents_made: Cell::new(0),
            postgres,
            nats,
        })
    }

    /// Starts all functions in one process, with these variables in place of the scene's own.
    pub async fn start_service(&self, variables: &[(&str, &str)]) -> Result<Service> {
        let mut service = self.process("relaytrace", &["serve"], variables)?;
        service.start().await?;
        Ok(service)
    }

    /// One function, its own binary, with these variables: to be started.
    pub fn function(&self, name: &str, variables: &[(&str, &str)]) -> Result<Service> {
        self.process(name, &[], variables)
    }

    /// A program of the workspace with these arguments, its own free port, and these variables: to be started.
    pub fn process(&self, program: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Service> {
        let port = free_port(None)?;
        let mut command = Command::new(beside_us(program)?);
        command.args(arguments).env_clear().envs(&self.environment);
        command.env("PORT", port.to_string()).env("LOG_FORMAT", "json").env("RUST_LOG", "info");
        command.envs(variables.iter().copied());
        let log = self.folder.join(format!("{program}-{port}.log"));
        Ok(Service::new(command, SocketAddr::from((Ipv4Addr::LOCALHOST, port)), log))
    }

    /// Registers more agents through the service: `<drill>-1` and so on.
    pub async fn agents(&self, service: &Service, number: usize) -> Result<Vec<Agent>> {
        let mut connection = Connection::open(service.address()).await?;
        let mut agents = Vec::with_capacity(number);
        for _ in 0..number {
            self.agents_made.update(|made| made + 1);
            let id = format!("{}-{}", self.database, self.agents_made.get());
            agents.push(Agent::register(&mut connection, &self.admin.token, id).await?);
        }
        Ok(agents)
    }

    /// A client of the service, whose calls are in the history.
    pub fn client(&self, service: &Service) -> Client {
        Client::new(service.address(), self.history.clone())
    }

    /// Runs statements as the database's owner; the answer is psql's unaligned output.
    pub fn sql(&self, statements: &str) -> Result<String> {
        block_in_place(|| self.postgres.psql(&self.database, statements))
    }

    /// The one number that a query gives.
    pub fn number(&self, query: &str) -> Result<u64> {
        let said = self.sql(query)?;
        said.trim().parse().with_context(|| format!("{query} gave {said:?}"))
    }

    /// Where logs are written.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn prepare(postgres: &Postgres, nats: &Nats, name: &str, folder: &Path) -> Result<()> {
    postgres.create_database_if_missing(name)?;
    std::fs::create_dir_all(folder)?;
    let prepared = Command::new(beside_us("relaytrace-local")?)
        .arg("prepare")
        .args(["--database-url", &postgres.url(name), "--nats-url", &nats.url()])
        .arg("--dir")
        .arg(folder)
        .output()?;
    let words = String::from_utf8_lossy(&prepared.stderr);
    ensure!(prepared.status.success(), "the database could not be prepared: {words}");
    Ok(())
}
