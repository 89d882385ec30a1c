//! What is kept while something breaks: processes, servers, disks, networks.

mod idle_transaction;
mod killed_service;

use super::registry::Drill;

/// In the order of the promises.
pub const DRILLS: &[Drill] = &[
    Drill {
        name: "killed-service",
        promise: "Every submission that got a 2xx survives kill -9 of the service; none is doubled.",
        does: "Kills the service with SIGKILL at random moments under load and starts it again.",
        unit: "kills",
        full: 200,
        short: 6,
        run: |scene| Box::pin(killed_service::run(scene)),
    },
    Drill {
        name: "idle-transaction",
        promise: "While a transaction left idle pins dead rows, p99 of an empty poll stays within 2x.",
        does: "Lets one agent's handoffs pass while a transaction is open, and times its empty polls before and after, \
               and those of an agent without rows.",
        unit: "handoffs",
        full: 100_000,
        short: 2_000,
        run: |scene| Box::pin(idle_transaction::run(scene)),
    },
];
