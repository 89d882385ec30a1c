//! Browsers of operators that are told what is asked (contract, "Browsers").

use chrono::{DateTime, Utc};
use relaytrace_domain::{Digest, Error, GroupName, Priority, RequestId, Result, SubscriptionId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Scope;
use crate::database::Database;

/// Push subscriptions of an operator at the most.
const MOST_BROWSERS: i64 = 20;
/// Tries to set one that others set at the same moment.
const TRIES: usize = 5;
/// Kinds of events that a browser is told after: what asks for an answer of its owner's.
const TOLD: [&str; 3] = ["requested", "escalated", "rerouted"];

/// Which requests a browser is told of, of those that its owner may decide: all that is named must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowserMatch {
    /// Assigned to one of these groups of operators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupName>>,
    /// Of these priorities.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priorities: Option<Vec<Priority>>,
}

/// A push subscription that is to be set.
#[derive(Clone, Debug)]
pub struct NewBrowser {
    /// Its endpoint and keys, JSON.
    pub config: String,
    /// Of its endpoint: the same browser has the same.
    pub target: Digest,
    /// Which requests.
    pub matching: BrowserMatch,
}

/// A stored push subscription.
#[derive(Clone, Debug)]
pub struct BrowserRecord {
    /// The owner's own name of it.
    pub subscription_id: SubscriptionId,
    /// Which requests, JSON.
    pub matching: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last set.
    pub updated_at: DateTime<Utc>,
}

impl BrowserRecord {
    /// Which requests.
    ///
    /// # Errors
    /// [`Error::Internal`] where it is not as subscriptions are stored.
    pub fn matching(&self) -> Result<BrowserMatch> {
        serde_json::from_str(&self.matching).map_err(Error::internal)
    }
}

/// An event that a browser is told of.
pub(crate) struct BrowserTold {
    pub listener_id: Uuid,
    pub request_id: RequestId,
    pub seq: i32,
    pub kind: String,
}

/// Whether the browser got another owner after the statement had begun (`listeners_one_owner`).
fn is_another_owners(error: &Error) -> bool {
    let Error::Internal(source) = error else { return false };
    let database = source.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    database.is_some_and(|database| database.constraint() == Some("listeners_one_owner"))
}

impl Database {
    /// The caller's own push subscriptions.
    pub async fn browsers(&self, scope: &Scope) -> Result<Vec<BrowserRecord>> {
        self.all(|| sqlx::query_file_as!(BrowserRecord, "sql/browsers_of.sql", scope.tenant.as_str(), &scope.actor.id))
            .await
    }

    /// Makes a push subscription of the caller's or changes it. The browser is told for nobody else from then on.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the caller has as many as they may.
    pub async fn set_browser(&self, scope: &Scope, id: &SubscriptionId, new: &NewBrowser) -> Result<BrowserRecord> {
        let matching = serde_json::to_string(&new.matching).map_err(Error::internal)?;
        let told = TOLD.map(str::to_owned);
        for _ in 0..TRIES {
            match self.try_to_set_browser(scope, id, new, &matching, &told).await {
                // Another person has turned it on at the same moment: theirs is seen now, and ends.
                Err(error) if is_another_owners(&error) => {}
                set => return set?.ok_or(Error::Conflict("you have as many push subscriptions as you may have")),
            }
        }
        Err(Error::Unavailable(anyhow::anyhow!("other people turned the browser on each time")))
    }

    async fn try_to_set_browser(
        &self,
        scope: &Scope,
        id: &SubscriptionId,
        new: &NewBrowser,
        matching: &str,
        told: &[String],
    ) -> Result<Option<BrowserRecord>> {
        self.optional(|| {
            sqlx::query_file_as!(
                BrowserRecord,
                "sql/set_browser.sql",
                self.clock().for_database(),
                scope.tenant.as_str(),
                &scope.actor.id,
                id.as_str(),
                &new.config,
                &new.target.0[..],
                matching,
                told,
                MOST_BROWSERS,
            )
        })
        .await
    }

    /// Ends a push subscription of the caller's. Ending it again is no error.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there was none of this name.
    pub async fn remove_browser(&self, scope: &Scope, id: &SubscriptionId) -> Result<()> {
        let standing = self
            .optional(|| {
                sqlx::query_file!(
                    "sql/remove_browser.sql",
                    self.clock().for_database(),
                    scope.tenant.as_str(),
                    &scope.actor.id,
                    id.as_str(),
                )
            })
            .await?;
        standing.map(drop).ok_or(Error::NotFound)
    }

    /// Ends the push subscriptions whose owners were not seen for 14 days.
    pub async fn end_browsers(&self) -> Result<()> {
        self.execute(|| sqlx::query_file!("sql/end_browsers.sql", self.clock().for_database())).await?;
        Ok(())
    }

    /// The browsers that are told of these events (request, entry, kind).
    pub(crate) async fn browsers_to_tell(&self, events: &[(RequestId, i32, &str)]) -> Result<Vec<BrowserTold>> {
        let asked: Vec<_> = events.iter().filter(|(_, _, kind)| TOLD.contains(kind)).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = asked.iter().map(|(id, _, _)| id.0).collect();
        let seqs: Vec<_> = asked.iter().map(|(_, seq, _)| *seq).collect();
        let kinds: Vec<_> = asked.iter().map(|(_, _, kind)| (*kind).to_owned()).collect();
        self.all(|| {
            sqlx::query_file_as!(
                BrowserTold,
                "sql/browsers_to_tell.sql",
                self.clock().for_database(),
                &ids,
                &seqs,
                &kinds,
            )
        })
        .await
    }
}
