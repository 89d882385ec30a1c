//! Known operators as decide and admin show them.

use relaytrace_domain::Timestamp;
use relaytrace_store::OperatorRecord;
use serde::Serialize;
use utoipa::ToSchema;

/// An operator as their latest token described them.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperatorView {
    id: String,
    name: Option<String>,
    email: Option<String>,
    groups: Vec<String>,
    /// `active` or `blocked`.
    status: String,
    first_seen_at: Timestamp,
    /// To about a minute.
    last_seen_at: Timestamp,
    blocked_at: Option<Timestamp>,
    blocked_by: Option<String>,
}

impl From<OperatorRecord> for OperatorView {
    fn from(operator: OperatorRecord) -> Self {
        Self {
            id: operator.operator_id,
            name: operator.name,
            email: operator.email,
            groups: operator.groups,
            status: operator.status,
            first_seen_at: Timestamp(operator.first_seen_at),
            last_seen_at: Timestamp(operator.seen_at),
            blocked_at: operator.blocked_at.map(Timestamp),
            blocked_by: operator.blocked_by,
        }
    }
}
