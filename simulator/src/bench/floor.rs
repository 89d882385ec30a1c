//! The floor: a database of its own in which pgbench does what the service's statements do, and the rows that both
//! sides find prepared.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::time::sleep;

use super::database::{Database, Limit, Ran, Run, measure};
use super::kind::Kind;
use super::rows::{Batch, ROWS_AT_ONCE, variables};
use super::scripts::Scripts;

/// Connections that prepare rows.
const PREPARING: usize = 4;

/// One of the two databases, and the means to run statements in it.
#[derive(Clone, Debug)]
pub struct Side<'a> {
    pub database: Database,
    pub scripts: &'a Scripts,
    pub folder: &'a Path,
    /// Names this side's scripts.
    pub name: &'static str,
}

impl Side<'_> {
    /// Makes a database with the schema of the service's and the same agents.
    pub async fn create_like(&self, service: &Database, migrations: &Path) -> Result<()> {
        let name = self.name;
        service.psql(&format!("CREATE DATABASE {name}")).await.context("cannot make a database for pgbench")?;
        let listing = fs::read_dir(migrations).with_context(|| format!("cannot read {}", migrations.display()))?;
        let mut files: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
        files.sort();
        for file in files {
            let statements = fs::read_to_string(&file)?;
            self.database.psql(&statements).await.with_context(|| format!("cannot apply {}", file.display()))?;
        }
        // The migrations have made one tenant.
        let others = "(SELECT * FROM tenants WHERE tenant_id <> 'default')";
        for (table, rows) in [("tenants", others), ("agents", "agents"), ("agent_keys", "agent_keys")] {
            let rows = service.psql(&format!("COPY {rows} TO STDOUT")).await?;
            self.database.psql(&format!("COPY {table} FROM STDIN;\n{rows}\\.\n")).await?;
        }
        Ok(())
    }

    /// Prepares pending requests.
    pub async fn prepare_pending(&self, batch: Batch, rows: Range<u64>) -> Result<()> {
        let statements = rows.start / ROWS_AT_ONCE..rows.end / ROWS_AT_ONCE;
        self.run_all(&self.scripts.prepared(batch)?, statements).await?;
        self.forget_events(batch).await
    }

    /// Prepares decided requests whose deliveries are ready.
    pub async fn prepare_decided(&self, batch: Batch, rows: Range<u64>) -> Result<()> {
        self.prepare_pending(batch, rows.clone()).await?;
        self.run_all(&self.scripts.measured(Kind::Decide, batch)?, rows).await?;
        self.forget_events(batch).await
    }

    /// Makes every delivery of the batch ready, as if no poll had come by. Within the last second, as decisions do: the
    /// service does not look far back for them.
    pub async fn make_ready(&self, batch: Batch) -> Result<()> {
        self.update_deliveries(
            batch,
            "state = 'ready', attempt = 0, visible_at = now() - random() * interval '1 second', \
                delivery_id = NULL, lease_expires_at = NULL, result = NULL, expires_at = now() + interval '1 day'",
        )
        .await
    }

    /// Leases every delivery of the batch; its attempt has the request's id.
    pub async fn make_leased(&self, batch: Batch) -> Result<()> {
        self.update_deliveries(
            batch,
            "state = 'leased', attempt = 1, delivery_id = request_id, result = NULL, \
                lease_expires_at = now() + interval '1 hour', visible_at = now() + interval '1 hour'",
        )
        .await
    }

    async fn update_deliveries(&self, batch: Batch, set: &str) -> Result<()> {
        self.database.psql(&format!("UPDATE deliveries SET {set} WHERE {}", batch.condition())).await?;
        Ok(())
    }

    /// Leaves the tables as a server finds them that has run for a while, and the log ready for what comes.
    pub async fn settle(&self) -> Result<()> {
        self.database.psql("VACUUM (ANALYZE);\nCHECKPOINT;").await?;
        Ok(())
    }

    /// How many rows of the batch have gone through this statement.
    pub async fn work_done(&self, kind: Kind, batch: Batch) -> Result<u64> {
        let rows = batch.condition();
        let query = match kind {
            Kind::Submit => format!("SELECT count(*) FROM hitl_requests WHERE {rows}"),
            Kind::Decide => format!("SELECT count(*) FROM hitl_decisions WHERE {rows}"),
            Kind::Poll => format!("SELECT coalesce(sum(attempt), 0) FROM deliveries WHERE {rows}"),
            Kind::Acknowledge => format!("SELECT count(*) FROM deliveries WHERE state = 'acknowledged' AND {rows}"),
            // That the agents were found; what they poll for is nothing.
            Kind::EmptyPoll => {
                let agents = batch.group.condition();
                format!("SELECT count(*) FROM agent_polls WHERE {agents}")
            }
        };
        self.database.count(&query).await
    }

    /// Waits until the service has published what it wrote; how many events it was behind.
    pub async fn wait_for_events(&self) -> Result<u64> {
        /// The sweep publishes what the service has let go of, some seconds later.
        const LONGEST: Duration = Duration::from_mins(1);
        let begun = Instant::now();
        let mut behind = None;
        loop {
            let left = self.database.count("SELECT count(*) FROM outbox").await?;
            let behind = *behind.get_or_insert(left);
            if left == 0 {
                return Ok(behind);
            }
            ensure!(begun.elapsed() < LONGEST, "a minute after the load {left} events are not yet published");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Measures a kind. `started` hears pgbench's process id.
    pub async fn measure(
        &self,
        kind: Kind,
        batch: Batch,
        clients: usize,
        times: (Duration, Duration),
        started: impl FnOnce(u32),
    ) -> Result<Ran> {
        let script = self.write(&self.scripts.measured(kind, batch)?)?;
        let (warm_up, measured) = times;
        let limit = Limit::Seconds((warm_up + measured).as_secs());
        let run = Run { script: &script, clients, limit, is_volatile: false, variables: &variables(clients) };
        measure(self.database.pgbench(&run)?, warm_up, started).await
    }

    async fn run_all(&self, script: &str, transactions: Range<u64>) -> Result<()> {
        if transactions.is_empty() {
            return Ok(());
        }
        let script = self.write(script)?;
        let limit = Limit::TransactionsEach((transactions.end - transactions.start).div_ceil(PREPARING as u64));
        let mut variables = variables(PREPARING);
        variables.push(("n", (transactions.start / PREPARING as u64).to_string()));
        let run = Run { script: &script, clients: PREPARING, limit, is_volatile: true, variables: &variables };
        measure(self.database.pgbench(&run)?, Duration::ZERO, |_| ()).await?;
        Ok(())
    }

    /// Prepared rows are nobody's news.
    async fn forget_events(&self, batch: Batch) -> Result<()> {
        self.database.psql(&format!("DELETE FROM outbox WHERE {}", batch.condition())).await?;
        Ok(())
    }

    fn write(&self, script: &str) -> Result<PathBuf> {
        let path = self.folder.join(format!("{}.pgbench", self.name));
        fs::write(&path, script)?;
        Ok(path)
    }
}
