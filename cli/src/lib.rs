//! The functions that one process can serve together.

use relaytrace_service::http::Routes;
use strum::{EnumIter, EnumString, IntoEnumIterator as _, IntoStaticStr};

/// A function of RelayTrace, named as its own binary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, EnumString, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Function {
    /// Agents submit requests and cancel them.
    Ingest,
    /// Agents fetch decisions and acknowledge them.
    Poll,
    /// Agents ask by protocols that others have defined.
    Bridge,
    /// Operators see the queue and decide; the operator page.
    Decide,
    /// Timeouts, escalations and leftovers.
    TimeoutSweep,
    /// People and agents are told what has happened.
    Notify,
    /// Deliveries and events are sent again.
    Replay,
    /// Agents, keys, policies, stuck work.
    Admin,
}

impl Function {
    /// Every function, in the order of the contract's table of endpoints.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Its routes.
    pub fn routes(self) -> Routes {
        match self {
            Self::Ingest => ingest::router(),
            Self::Poll => poll::router(),
            Self::Bridge => bridge::router(),
            Self::Decide => decide::router(),
            Self::TimeoutSweep => timeout_sweep::router(),
            Self::Notify => notify::router(),
            Self::Replay => replay::router(),
            Self::Admin => admin::router(),
        }
    }
}

/// The routes of these functions together.
pub fn routes(functions: impl IntoIterator<Item = Function>) -> Routes {
    functions.into_iter().fold(Routes::default(), |routes, function| routes.merge(function.routes()))
}
