//! Leases that outlive their caller: a poll that hangs up costs no session, and its leased deliveries are due again at
//! once.

use relaytrace_domain::{Error, RequestId, Result};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::database::Database;
use crate::deliveries::{LeaseOrder, Leased};

/// Leased deliveries on their way to their poll. Dropped before the poll has them, they are given back.
#[derive(Debug)]
pub struct OnItsWay {
    leased: Option<Leased>,
    database: Database,
}

impl OnItsWay {
    pub(crate) fn new(leased: Leased, database: Database) -> Self {
        Self { leased: Some(leased), database }
    }

    /// Gives it to its poll.
    #[must_use]
    pub fn take(mut self) -> Option<Leased> {
        self.leased.take()
    }
}

impl OnItsWay {
    /// Gives it back at once: requests that are due again.
    pub async fn give_back(mut self) -> Vec<RequestId> {
        let Some(leased) = self.leased.take() else { return Vec::new() };
        release(&self.database, &leased).await;
        leased.deliveries.into_iter().map(|delivered| delivered.request_id).collect()
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let Some(leased) = self.leased.take().filter(|leased| !leased.deliveries.is_empty()) else { return };
        let database = self.database.clone();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(async move { release(&database, &leased).await }));
        }
    }
}

async fn release(database: &Database, leased: &Leased) {
    if let Err(error) = database.release_leases(leased).await {
        tracing::debug!(error = format!("{error:#}"), "leases that nobody has end by their time");
    }
}

impl Database {
    /// Leases due deliveries for a poll. Concurrent polls get disjoint sets. Where the caller hangs up, the statement
    /// goes on, and its leases are given back.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active.
    pub async fn lease(&self, order: &LeaseOrder<'_>) -> Result<Leased> {
        let (answer, answered) = oneshot::channel();
        let database = self.clone();
        let (caller, request_ids) = (order.caller.clone(), order.request_ids.map(<[Uuid]>::to_vec));
        let LeaseOrder { limit, look_ahead, .. } = *order;
        tokio::spawn(async move {
            let request_ids = request_ids.as_deref();
            let order = LeaseOrder { caller: &caller, limit, request_ids, look_ahead };
            let leased = database.lease_now(&order).await;
            drop(answer.send(leased.map(|leased| OnItsWay::new(leased, database))));
        });
        let on_its_way = answered.await.map_err(Error::internal)??;
        on_its_way.take().ok_or_else(|| Error::internal(anyhow::anyhow!("a lease was taken twice")))
    }

    async fn release_leases(&self, leased: &Leased) -> Result<()> {
        let ids = leased.deliveries.iter().filter_map(|delivered| Some((delivered.request_id.0, delivered.lease?.0)));
        let (requests, deliveries): (Vec<_>, Vec<_>) = ids.unzip();
        self.all_for_polls(|| {
            sqlx::query_file!("sql/release_leases.sql", self.clock().for_database(), &requests, &deliveries)
        })
        .await?;
        Ok(())
    }
}
