//! Permits: the time in which an approval may be used, and its outcome (contract, "Permits").

use chrono::{DateTime, Utc};
use deserr::Deserr;
use serde::Serialize;

use super::stored::stored_as_text;
use super::time::Timestamp;

/// How permits are handled.
#[derive(Clone, Copy, Debug)]
pub struct PermitRules {
    /// How long an approval may be used where its policy does not say, in seconds. An envelope only shortens it.
    pub permit_seconds: f64,
    /// After so many seconds without a report a used permit's outcome is unknown.
    pub outcome_seconds: f64,
}

impl Default for PermitRules {
    fn default() -> Self {
        Self { permit_seconds: 3_600.0, outcome_seconds: 3_600.0 }
    }
}

/// An approval's permit as it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Permit {
    /// Until when the approval may be used.
    pub expires_at: Timestamp,
}

impl From<DateTime<Utc>> for Permit {
    fn from(expires_at: DateTime<Utc>) -> Self {
        Self { expires_at: Timestamp(expires_at) }
    }
}

/// What an executor says of its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserr)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
#[deserr(rename_all = lowercase)]
pub enum Reported {
    /// The action was carried out.
    Succeeded,
    /// It was not, or not whole.
    Failed,
}

stored_as_text!(Reported { Succeeded = "succeeded", Failed = "failed" });
