//! Leases. Polls that look at the same time share a statement, as writes do. A lease outlives its caller: a poll that hangs
//! up costs no session, and its leased deliveries are due again at once.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use relaytrace_domain::{AgentId, ClientRequestKey, Error, Failure, Permit, RequestId, Result, Written};
use uuid::Uuid;

use crate::Caller;
use crate::batches::{Row, alone, column};
use crate::chain::digest;
use crate::database::Database;
use crate::deliveries::{Delivered, LeaseOrder, Leased};
use crate::measures::BatchKind;
use crate::writers::Store;

/// Leased deliveries on their way to their poll. Dropped before the poll has them, they are given back.
#[derive(Debug)]
pub struct OnItsWay {
    leased: Option<Leased>,
    /// Where it is given back; `None`: nothing was due.
    database: Option<Database>,
}

impl OnItsWay {
    pub(crate) fn new(leased: Leased, database: &Database) -> Self {
        let database = (!leased.deliveries.is_empty()).then(|| database.clone());
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
        let (Some(leased), Some(database)) = (self.leased.take(), self.database.take()) else { return Vec::new() };
        release(&database, &leased).await;
        leased.deliveries.into_iter().map(|delivered| delivered.request_id).collect()
    }
}

impl Drop for OnItsWay {
    fn drop(&mut self) {
        let (Some(leased), Some(database)) = (self.leased.take(), self.database.take()) else { return };
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

/// A poll's look at the database.
#[derive(Debug)]
struct Polling {
    caller: Caller,
    limit: i64,
    look_ahead: Duration,
}

impl Polling {
    /// Bytes that a statement of several is reckoned to take for it: most polls find little.
    fn size(&self) -> usize {
        256 + 400 * usize::try_from(self.limit).unwrap_or_default()
    }
}

/// A poll for whatever is due for its agent.
#[derive(Debug)]
pub(crate) struct AnyDue(Polling);

/// A poll for named requests.
#[derive(Debug)]
pub(crate) struct Named {
    polling: Polling,
    request_ids: Vec<Uuid>,
}

impl Row for AnyDue {
    type Written = OnItsWay;
    type Key<'a> = &'a AgentId;
    const KIND: BatchKind = BatchKind::Lease;

    /// Two polls of one agent would find the same deliveries.
    fn key(&self) -> &AgentId {
        &self.0.caller.agent_id
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    async fn ready(database: &Database) -> Result<()> {
        database.polls.ready().await
    }

    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<OnItsWay>>> {
        let (now, unseen_ends) = (database.clock().now(), database.connections.unseen_ends());
        let scans = column(rows, |row| database.due.begin(&row.0.caller.agent_id, now, unseen_ends));
        let key_ids = column(rows, |row| row.0.caller.key_id.as_str());
        let agent_ids = column(rows, |row| row.0.caller.agent_id.as_str());
        let limits = column(rows, |row| row.0.limit);
        let since: Vec<_> = scans.iter().map(|scan| scan.from).collect();
        let ahead = column(rows, |row| row.0.look_ahead.as_secs_f64());
        let found = database
            .all_for_polls(|| {
                sqlx::query_file_as!(
                    Found,
                    "sql/lease.sql",
                    database.clock().for_database(),
                    &key_ids as &[&str],
                    &agent_ids as &[&str],
                    &limits,
                    &since as &[Option<DateTime<Utc>>],
                    &ahead,
                    database.rules.lease_seconds,
                    database.rules.max_attempts,
                    Failure::DeliveryUnacknowledged.pause().as_secs_f64(),
                )
            })
            .await?;
        let mut looks = Look::of_each(found, rows.len())?;
        for (scan, look) in scans.into_iter().zip(&looks) {
            if let Some(look) = look {
                scan.record(look.leased.polled_at, look.first_visible_at);
            }
        }
        Ok(looks.drain(..).map(|look| look.map(|look| OnItsWay::new(look.leased, database))).collect())
    }
}

impl Row for Named {
    type Written = OnItsWay;
    type Key<'a> = &'a [Uuid];
    const KIND: BatchKind = BatchKind::LeaseNamed;

    fn key(&self) -> &[Uuid] {
        &self.request_ids
    }

    fn size(&self) -> usize {
        self.polling.size()
    }

    async fn ready(database: &Database) -> Result<()> {
        database.polls.ready().await
    }

    async fn write(database: &Database, rows: &[&Self]) -> Result<Vec<Option<OnItsWay>>> {
        let key_ids = column(rows, |row| row.polling.caller.key_id.as_str());
        let agent_ids = column(rows, |row| row.polling.caller.agent_id.as_str());
        let limits = column(rows, |row| row.polling.limit);
        let ahead = column(rows, |row| row.polling.look_ahead.as_secs_f64());
        let place = |at: usize| i32::try_from(at).map_err(Error::internal);
        let (mut firsts, mut lasts, mut request_ids) = (Vec::new(), Vec::new(), Vec::new());
        for row in rows {
            firsts.push(place(request_ids.len() + 1)?);
            request_ids.extend_from_slice(&row.request_ids);
            lasts.push(place(request_ids.len())?);
        }
        let found = database
            .all_for_polls(|| {
                sqlx::query_file_as!(
                    Found,
                    "sql/lease_named.sql",
                    database.clock().for_database(),
                    &key_ids as &[&str],
                    &agent_ids as &[&str],
                    &limits,
                    &ahead,
                    &firsts,
                    &lasts,
                    &request_ids,
                    database.rules.lease_seconds,
                    database.rules.max_attempts,
                    Failure::DeliveryUnacknowledged.pause().as_secs_f64(),
                )
            })
            .await?;
        let looks = Look::of_each(found, rows.len())?;
        Ok(looks.into_iter().map(|look| look.map(|look| OnItsWay::new(look.leased, database))).collect())
    }
}

/// A row of a lease's statement: a poll, and one of its deliveries if it has any.
struct Found {
    number: i64,
    now: DateTime<Utc>,
    has_more: bool,
    next_visible_at: Option<DateTime<Utc>>,
    first_visible_at: Option<DateTime<Utc>>,
    request_id: Option<RequestId>,
    attempt: Option<i32>,
    replayed: Option<bool>,
    delivery_id: Option<Uuid>,
    lease_expires_at: Option<DateTime<Utc>>,
    client_request_key: Option<ClientRequestKey>,
    action_type: Option<String>,
    entry: Option<Vec<u8>>,
    prev_hash: Option<Vec<u8>>,
    hash: Option<Vec<u8>>,
    resume: Option<Vec<u8>>,
    written_action: Option<Vec<u8>>,
    written_response: Option<Vec<u8>>,
    submitted: Option<Vec<u8>>,
    submitted_hash: Option<Vec<u8>>,
    is_from_before: Option<bool>,
    permit_expires_at: Option<DateTime<Utc>>,
}

/// What a poll found.
struct Look {
    leased: Leased,
    /// The first that was due, leased by another or not; `None` also where the poll named its requests.
    first_visible_at: Option<DateTime<Utc>>,
}

impl Look {
    /// What each of so many polls found; `None`: its key or agent is not active.
    fn of_each(found: Vec<Found>, polls: usize) -> Result<Vec<Option<Self>>> {
        let mut looks: Vec<Option<Self>> = std::iter::repeat_with(|| None).take(polls).collect();
        for row in found {
            let place = usize::try_from(row.number - 1).ok().and_then(|at| looks.get_mut(at));
            let place =
                place.ok_or_else(|| Error::internal(anyhow::anyhow!("a lease for a poll that is not there")))?;
            let look = place.get_or_insert_with(|| Self {
                leased: Leased {
                    polled_at: row.now,
                    has_more: row.has_more,
                    next_visible_at: row.next_visible_at,
                    deliveries: Vec::new(),
                },
                first_visible_at: row.first_visible_at,
            });
            look.leased.deliveries.extend(row.delivered()?);
        }
        Ok(looks)
    }
}

impl Found {
    fn delivered(self) -> Result<Option<Delivered>> {
        let (Some(request_id), Some(client_request_key), Some(action_type), Some(delivery_id), Some(until)) =
            (self.request_id, self.client_request_key, self.action_type, self.delivery_id, self.lease_expires_at)
        else {
            return Ok(None);
        };
        Ok(Some(Delivered {
            request_id,
            client_request_key,
            action_type,
            entry: self.entry.unwrap_or_default(),
            prev_hash: digest(self.prev_hash.unwrap_or_default())?,
            hash: digest(self.hash.unwrap_or_default())?,
            submitted: self.submitted.unwrap_or_default(),
            submitted_hash: digest(self.submitted_hash.unwrap_or_default())?,
            is_from_before: self.is_from_before.unwrap_or_default(),
            resume: self.resume,
            permit: self.permit_expires_at.map(Permit::from),
            written: Written::stored(self.written_action, self.written_response)?,
            attempt: self.attempt.unwrap_or_default(),
            replayed: self.replayed.unwrap_or_default(),
            lease: Some((delivery_id, until)),
        }))
    }
}

impl Store {
    /// Leases due deliveries for a poll. Concurrent polls get disjoint sets. Where the caller hangs up, the statement
    /// goes on, and its leases are given back.
    ///
    /// The lease is committed asynchronously: a lease lost in a crash only causes a redelivery.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] where the key or agent is no longer active.
    pub async fn lease(&self, order: &LeaseOrder<'_>) -> Result<Leased> {
        let polling = Polling { caller: order.caller.clone(), limit: order.limit, look_ahead: order.look_ahead };
        let (store, request_ids) = (self.clone(), order.request_ids.map(<[Uuid]>::to_vec));
        let looking = tokio::spawn(async move {
            match request_ids {
                None => store.write(|batched| &batched.looking, &Arc::new(AnyDue(polling))).await,
                Some(request_ids) => store.look_for(Arc::new(Named { polling, request_ids })).await,
            }
        });
        let found = looking.await.map_err(Error::internal)??;
        let on_its_way = found.ok_or(Error::Unauthenticated("the key is revoked or its agent disabled"))?;
        on_its_way.take().ok_or_else(|| Error::internal(anyhow::anyhow!("a lease was taken twice")))
    }

    /// Polls of one request each share a statement. Lists that have a request in common must not.
    async fn look_for(&self, named: Arc<Named>) -> Result<Option<OnItsWay>> {
        match *named.request_ids {
            [_] => self.write(|batched| &batched.naming, &named).await,
            _ => alone(self, &*named).await,
        }
    }
}

impl Database {
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
