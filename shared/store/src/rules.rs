//! Rules: the document of a tenant and its versions (contract, "Rules").

use chrono::{DateTime, Utc};
use relaytrace_domain::rules::RulesDocument;
use relaytrace_domain::{ActorKind, Error, Result, TenantId};

use crate::Scope;
use crate::database::Database;

/// A stored version.
#[derive(Clone, Debug)]
pub struct RulesRecord {
    /// 1, then without gaps.
    pub version: i32,
    /// The list of rules, JSON.
    pub document: Vec<u8>,
    /// Why.
    pub note: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// The administrator.
    pub created_by: String,
    /// The administrator's name as the token gave it.
    pub created_by_name: Option<String>,
}

impl Database {
    /// A version of the tenant's rules; `None`: the newest.
    pub async fn rules_of(&self, tenant: &TenantId, version: Option<i32>) -> Result<Option<RulesRecord>> {
        self.optional(|| sqlx::query_file_as!(RulesRecord, "sql/rules.sql", tenant.as_str(), version)).await
    }

    /// Makes the next version of the caller's rules, where `expected` stands (0: none); the same document again is the
    /// version that stands. It counts for every submission that begins after this.
    ///
    /// # Errors
    /// [`Error::VersionChanged`].
    pub async fn set_rules(&self, scope: &Scope, expected: i32, document: &RulesDocument) -> Result<RulesRecord> {
        let made = self
            .optional(|| {
                sqlx::query_file_as!(
                    RulesRecord,
                    "sql/set_rules.sql",
                    self.clock().for_database(),
                    scope.tenant.as_str(),
                    expected,
                    document.text.as_slice(),
                    document.note.as_str(),
                    scope.actor.kind as ActorKind,
                    &scope.actor.id,
                    scope.actor.name.as_deref(),
                )
            })
            .await?;
        if let Some(made) = made {
            return Ok(made);
        }
        let standing = self.rules_of(&scope.tenant, None).await?;
        let is_same = |rules: &RulesRecord| rules.document == document.text && rules.note == document.note.as_str();
        standing.filter(is_same).ok_or(Error::VersionChanged)
    }
}
