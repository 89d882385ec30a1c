//! Preparation of a database by its owner: migrations, roles, grants, settings. Safe to repeat, and to run several
//! times at once.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rand::RngExt as _;
use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};

use crate::DatabaseAuthority;
use crate::pool;

/// The migrations of `migrations/`.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations");

/// What the functions' login role is set to (`ALTER ROLE … SET`). Of the role, not of the session: that is kept behind a
/// transaction pooler, too.
///
/// Limits: the server ends a statement, a wait for a lock and a forgotten transaction before the caller gives up, and a
/// statement whose connection is gone. So a call that was answered 503 is not done later.
///
/// Plans: every statement here finds its rows by an index, with tables of any size. So it is planned once for each
/// connection, for any parameters, independently of the tables' contents: planning costs several times the execution.
pub const ROLE_SETTINGS: [(&str, &str); 9] = [
    ("statement_timeout", pool::STATEMENT_TIMEOUT),
    ("lock_timeout", pool::LOCK_TIMEOUT),
    ("idle_in_transaction_session_timeout", pool::STATEMENT_TIMEOUT),
    ("client_connection_check_interval", "500"),
    ("plan_cache_mode", "force_generic_plan"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("jit", "off"),
];

const GRANTS: &str = include_str!("../sql/grants.sql");

/// Roles belong to the whole cluster: another database's `migrate` may change the same one at the same time. So often it
/// is tried again.
const TRIES: u32 = 20;
/// Longest pause until it is.
const PAUSE: Duration = Duration::from_millis(100);

/// What the names of a deployment's roles begin with: `relaytrace` for `relaytrace_app`. Deployments that share a cluster
/// and not their authority have one each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolePrefix(String);

impl Default for RolePrefix {
    fn default() -> Self {
        Self("relaytrace".into())
    }
}

impl FromStr for RolePrefix {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_well_formed = text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.len() <= 40
            && text.bytes().all(is_plain);
        if is_well_formed { Ok(Self(text.into())) } else { Err("must be [a-z][a-z0-9_]{0,39}") }
    }
}

impl RolePrefix {
    /// The role that every login role of the functions is a member of.
    #[must_use]
    pub fn app(&self) -> String {
        format!("{}_app", self.0)
    }

    /// The role of one authority.
    #[must_use]
    pub fn of(&self, authority: DatabaseAuthority) -> String {
        format!("{}_{}", self.0, authority.name())
    }

    /// A script that names the roles of the default deployment, for this one.
    fn apply(&self, script: &str) -> String {
        let roles = ["app", "agent", "people", "ops"];
        roles.iter().fold(script.to_owned(), |script, role| {
            script.replace(&format!("relaytrace_{role}"), &format!("{}_{role}", self.0))
        })
    }
}

/// Applies missing migrations, as the owner, and makes the roles and their grants: each time, because a dump holds no
/// roles.
///
/// # Errors
/// What Postgres refuses, with the command of a superuser where the owner's rights do not suffice.
pub async fn migrate(owner: &PgConnectOptions, roles: &RolePrefix) -> anyhow::Result<()> {
    let mut connection = alone(owner).await?;
    drop_unfinished_indexes(&mut connection).await?;
    MIGRATOR.run(&mut connection).await?;
    for role in [roles.app()].into_iter().chain(DatabaseAuthority::ALL.map(|authority| roles.of(authority))) {
        if !exists(&mut connection, &role).await? {
            as_owner(&mut connection, &[Command::new("CREATE ROLE %I NOLOGIN", &role)]).await?;
        }
    }
    let mut transaction = connection.begin().await?;
    if *roles != RolePrefix::default() {
        // The migrations have granted it to the default deployment's.
        let revoke = "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM relaytrace_app;
            REVOKE ALL ON SCHEMA public FROM relaytrace_app";
        sqlx::raw_sql(revoke).execute(&mut *transaction).await?;
    }
    sqlx::raw_sql(AssertSqlSafe(roles.apply(GRANTS))).execute(&mut *transaction).await?;
    transaction.commit().await?;
    connection.close().await.map_err(Into::into)
}

/// Makes the functions' login role what it must be, as the owner: there, a member of the application's role, with
/// [`ROLE_SETTINGS`] and, where one is given, with this password. Changes only what is missing.
///
/// # Errors
/// What Postgres refuses, with the command of a superuser where the owner's rights do not suffice.
pub async fn prepare_role(
    owner: &PgConnectOptions,
    roles: &RolePrefix,
    login: &str,
    password: Option<&SecretString>,
) -> anyhow::Result<()> {
    prepare_login(owner, &roles.app(), login, password).await
}

/// The same for a login that is a member of another role: of one authority's.
///
/// # Errors
/// As [`prepare_role`].
pub async fn prepare_login(
    owner: &PgConnectOptions,
    group: &str,
    login: &str,
    password: Option<&SecretString>,
) -> anyhow::Result<()> {
    let mut connection = alone(owner).await?;
    let mut commands = Vec::new();
    if !exists(&mut connection, login).await? {
        commands.push(Command::new("CREATE ROLE %I LOGIN", login));
    }
    if !is_member(&mut connection, login, group).await? {
        commands.push(Command { format: "GRANT %2$I TO %1$I", role: login.into(), value: Some(group.into()) });
    }
    if let Some(password) = password {
        let value = Some(password.expose_secret().to_owned());
        commands.push(Command { format: "ALTER ROLE %I PASSWORD %L", role: login.into(), value });
    }
    let set = settings(&mut connection, login).await?;
    for (setting, value) in ROLE_SETTINGS {
        let wanted = format!("{setting}={value}");
        if !set.contains(&wanted) {
            commands.push(Command { format: "ALTER ROLE %I SET %s", role: login.into(), value: Some(wanted) });
        }
    }
    as_owner(&mut connection, &commands).await?;
    connection.close().await.map_err(Into::into)
}

/// A connection of the owner while no other installation of this database is under way: the lock ends with it.
///
/// Asked for again and again, never waited for: a statement that waits keeps a snapshot, for whose end CREATE INDEX
/// CONCURRENTLY of the other would wait.
pub(crate) async fn alone(owner: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let mut connection = PgConnection::connect_with(owner).await?;
    let lock = "SELECT pg_try_advisory_lock(hashtextextended('relaytrace installation', 0))";
    while !sqlx::query_scalar::<_, bool>(lock).fetch_one(&mut connection).await? {
        tokio::time::sleep(PAUSE).await;
    }
    Ok(connection)
}

/// What an installation that was cut short has left: CREATE INDEX CONCURRENTLY is not undone by itself.
async fn drop_unfinished_indexes(connection: &mut PgConnection) -> sqlx::Result<()> {
    let query = "SELECT format('DROP INDEX CONCURRENTLY %s', i.indexrelid::regclass) FROM pg_index i
        JOIN pg_class c ON c.oid = i.indexrelid
        WHERE NOT i.indisvalid AND c.relnamespace = 'public'::regnamespace AND c.relkind = 'i'";
    for command in sqlx::query_scalar::<_, String>(query).fetch_all(&mut *connection).await? {
        sqlx::raw_sql(AssertSqlSafe(command)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// A command about a role. None takes parameters; Postgres quotes what goes into it.
struct Command {
    format: &'static str,
    role: String,
    value: Option<String>,
}

impl Command {
    fn new(format: &'static str, role: &str) -> Self {
        Self { format, role: role.into(), value: None }
    }
}

/// Runs commands about roles, again where another `migrate` of the cluster changes the same role.
async fn as_owner(connection: &mut PgConnection, commands: &[Command]) -> anyhow::Result<()> {
    for Command { format, role, value } in commands {
        let command: String = sqlx::query_scalar("SELECT format($1, $2, $3)")
            .bind(format)
            .bind(role)
            .bind(value)
            .fetch_one(&mut *connection)
            .await?;
        for tried in 1.. {
            match sqlx::raw_sql(AssertSqlSafe(command.clone())).execute(&mut *connection).await {
                Ok(_) => break,
                Err(sqlx::Error::Database(error)) if is_there_by_now(&*error) => break,
                Err(sqlx::Error::Database(error)) if is_somebody_elses_turn(&*error) && tried < TRIES => {
                    let pause = rand::rng().random_range(Duration::ZERO..=PAUSE);
                    tokio::time::sleep(pause).await;
                }
                Err(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "42501") => {
                    return refused(connection, commands).await.context(error.message().to_owned());
                }
                Err(error) => return Err(error).with_context(|| format!("{format} ({role})")),
            }
        }
    }
    Ok(())
}

fn is_there_by_now(error: &dyn sqlx::error::DatabaseError) -> bool {
    // CREATE ROLE: duplicate_object, or the unique index of roles where it was made at the same moment.
    error.code().is_some_and(|code| code == "42710" || code == "23505")
}

fn is_somebody_elses_turn(error: &dyn sqlx::error::DatabaseError) -> bool {
    error.message().contains("tuple concurrently")
}

/// What a superuser may run instead, or so that the owner may. Values are left out where they may be a password.
async fn refused(connection: &mut PgConnection, commands: &[Command]) -> anyhow::Result<()> {
    let mut texts = Vec::new();
    for Command { format, role, value } in commands {
        let value = if format.contains("PASSWORD") { Some("…".to_owned()) } else { value.clone() };
        let text = sqlx::query_scalar::<_, String>("SELECT format($1, $2, $3)").bind(format).bind(role).bind(value);
        texts.push(format!("  {};", text.fetch_one(&mut *connection).await?));
    }
    // To be changed or granted, a role wants ADMIN on it (Postgres 16 and newer).
    let touched = commands.iter().map(|command| match &command.value {
        Some(granted) if command.format.starts_with("GRANT") => granted.clone(),
        _ => command.role.clone(),
    });
    let grant: String = sqlx::query_scalar(
        "SELECT COALESCE(
            'GRANT ' || string_agg(DISTINCT quote_ident(rolname), ', ') || ' TO ' || quote_ident(current_user)
                || ' WITH ADMIN OPTION',
            'ALTER ROLE ' || quote_ident(current_user) || ' CREATEROLE')
        FROM pg_roles WHERE rolname = ANY ($1) AND NOT pg_has_role(current_user, oid, 'MEMBER WITH ADMIN OPTION')",
    )
    .bind(touched.collect::<Vec<_>>())
    .fetch_one(&mut *connection)
    .await?;
    bail!(
        "the owner of the database may not change this role. Let a superuser run\n  {grant};\nand repeat this, or run \
         instead\n{}\nA deployment beside another in one cluster has roles of its own: ROLE_PREFIX.",
        texts.join("\n")
    )
}

async fn exists(connection: &mut PgConnection, role: &str) -> sqlx::Result<bool> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)").bind(role).fetch_one(connection).await
}

async fn is_member(connection: &mut PgConnection, login: &str, of: &str) -> sqlx::Result<bool> {
    let query = "SELECT EXISTS (
        SELECT FROM pg_auth_members m
        JOIN pg_roles l ON l.oid = m.member AND l.rolname = $1
        JOIN pg_roles r ON r.oid = m.roleid AND r.rolname = $2
    )";
    sqlx::query_scalar(query).bind(login).bind(of).fetch_one(connection).await
}

/// The settings of a role, in any database: `name=value`.
async fn settings(connection: &mut PgConnection, role: &str) -> sqlx::Result<Vec<String>> {
    let query = "SELECT unnest(s.setconfig) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole
        WHERE r.rolname = $1 AND s.setdatabase = 0";
    sqlx::query_scalar(query).bind(role).fetch_all(connection).await
}
