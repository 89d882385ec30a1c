//! Operators as their tokens describe them.

use chrono::{DateTime, Utc};
use relaytrace_domain::{ActorKind, Result, TenantId};

use crate::Scope;
use crate::database::Database;

/// Operators that one page looks through at the most: a text that few of them have is searched page by page.
const LOOKED_THROUGH: i64 = 2_000;

/// What a token says of an operator.
#[derive(Clone, Debug)]
pub struct OperatorSeen<'a> {
    /// Their tenant.
    pub tenant: &'a TenantId,
    /// Their id.
    pub id: &'a str,
    /// The token's `name`.
    pub name: Option<&'a str>,
    /// The token's `email`.
    pub email: Option<&'a str>,
    /// The token's groups.
    pub groups: &'a [String],
    /// Other identifiers, in lower case.
    pub known_as: &'a [String],
}

/// A known operator.
#[derive(Clone, Debug)]
pub struct OperatorRecord {
    /// Their id.
    pub operator_id: String,
    /// As their latest token gave it.
    pub name: Option<String>,
    /// As their latest token gave it.
    pub email: Option<String>,
    /// As their latest token gave them.
    pub groups: Vec<String>,
    /// `active` or `blocked`.
    pub status: String,
    /// Their first call.
    pub first_seen_at: DateTime<Utc>,
    /// Their latest call, to about a minute.
    pub seen_at: DateTime<Utc>,
    /// When they were blocked.
    pub blocked_at: Option<DateTime<Utc>>,
    /// Who did it.
    pub blocked_by: Option<String>,
}

/// A page of operators.
#[derive(Clone, Debug, Default)]
pub struct OperatorPage {
    /// In the order of their ids.
    pub items: Vec<OperatorRecord>,
    /// Where there are no more items, and the search goes on after this id.
    pub looked_until: Option<String>,
}

impl Database {
    /// Notes an operator who calls. Whether they are blocked.
    pub async fn note_operator(&self, seen: &OperatorSeen<'_>) -> Result<bool> {
        let noted = self
            .one(|| {
                sqlx::query_file!(
                    "sql/note_operator.sql",
                    self.clock().for_database(),
                    seen.tenant.as_str(),
                    seen.id,
                    seen.name,
                    seen.email,
                    seen.groups,
                    seen.known_as,
                )
            })
            .await?;
        Ok(noted.is_blocked)
    }

    /// Whether a person is blocked.
    pub async fn is_blocked(&self, tenant: &TenantId, id: &str) -> Result<bool> {
        Ok(self.one(|| sqlx::query_file!("sql/operator_blocked.sql", tenant.as_str(), id)).await?.is_blocked)
    }

    /// Operators after this id whose id, name, address or group has this text in it, at most `limit`.
    pub async fn operators(
        &self,
        scope: &Scope,
        after: Option<&str>,
        text: Option<&str>,
        limit: i64,
    ) -> Result<OperatorPage> {
        let (after, text) = (after.unwrap_or_default(), text.map(str::to_lowercase));
        let rows = self
            .all(|| {
                sqlx::query_file!(
                    "sql/operators.sql",
                    scope.tenant.as_str(),
                    after,
                    text.as_deref(),
                    limit,
                    LOOKED_THROUGH
                )
            })
            .await?;
        let mut page = OperatorPage::default();
        for row in rows {
            page.looked_until = row.looked_until;
            let (Some(operator_id), Some(status)) = (row.operator_id, row.status) else { continue };
            let (Some(first_seen_at), Some(seen_at)) = (row.first_seen_at, row.seen_at) else { continue };
            page.items.push(OperatorRecord {
                operator_id,
                name: row.name,
                email: row.email,
                groups: row.groups.unwrap_or_default(),
                status,
                first_seen_at,
                seen_at,
                blocked_at: row.blocked_at,
                blocked_by: row.blocked_by,
            });
        }
        Ok(page)
    }

    /// Blocks an operator or lets them in again. `None`: nobody of this id was seen.
    pub async fn set_operator(&self, scope: &Scope, id: &str, status: &str) -> Result<Option<OperatorRecord>> {
        self.optional(|| {
            sqlx::query_file_as!(
                OperatorRecord,
                "sql/set_operator.sql",
                self.clock().for_database(),
                scope.tenant.as_str(),
                id,
                status,
                scope.actor.kind as ActorKind,
                &scope.actor.id,
                scope.actor.name.as_deref(),
            )
        })
        .await
    }
}
