//! What is kept whatever happens: races, time, and who gets in.

use super::registry::Drill;

/// In the order of the promises.
pub const DRILLS: &[Drill] = &[];
