//! What is kept while something breaks: processes, servers, disks, networks.

mod killed_service;

use super::registry::Drill;

/// In the order of the promises.
pub const DRILLS: &[Drill] = &[Drill {
    name: "killed-service",
    promise: "Every submission that got a 2xx survives kill -9 of the service; none is doubled.",
    does: "Kills the service with SIGKILL at random moments under load and starts it again.",
    unit: "kills",
    full: 200,
    short: 6,
    run: |scene| Box::pin(killed_service::run(scene)),
}];
