//! Authorities: the functions' database roles, and the writes granted to each.

/// An authority: what its role's grants and policies let a function write (`sql/grants.sql`). The application's role is
/// their union.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DatabaseAuthority {
    /// `relaytrace_agent`: what agents do, by ingest, poll and bridge.
    Agent,
    /// `relaytrace_people`: what operators do, by decide.
    People,
    /// `relaytrace_ops`: what administrators and time do, by timeout-sweep, replay and admin.
    Ops,
}

impl DatabaseAuthority {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Agent, Self::People, Self::Ops];

    /// What its role's name ends with.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::People => "people",
            Self::Ops => "ops",
        }
    }

    /// The variable of its connections.
    #[must_use]
    pub fn variable(self) -> &'static str {
        match self {
            Self::Agent => "DATABASE_URL_AGENT",
            Self::People => "DATABASE_URL_PEOPLE",
            Self::Ops => "DATABASE_URL_OPS",
        }
    }
}
