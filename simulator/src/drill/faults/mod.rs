//! Drills of faults: processes, servers, disks, networks.

mod black_holes;
mod born_delivered;
mod failing_fsync;
mod frozen_lambda;
mod hang_ups;
mod idle_transaction;
mod key_rotation;
mod killed_batches;
mod killed_service;
mod locked_table;
mod mixed;
mod nats_outage;
mod postgres_restarts;
mod publisher_killed;
mod silent_issuer;
mod told_in_time;
mod wiped_stream;

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
        name: "killed-batches",
        promise: "What is written together is acknowledged and stored as a whole, each row of it: kill -9 amid full \
                  statements loses nothing and leaves nothing in part.",
        does: "Kills the service with SIGKILL while 128 submitters, beside whole handoffs, share its statements.",
        unit: "kills",
        full: 200,
        short: 5,
        run: |scene| Box::pin(killed_batches::run(scene)),
    },
    Drill {
        name: "born-delivered",
        promise: "A decision that finds its agent's poll parked is delivered with it, and kill -9 and hang-ups in between \
                  lose nothing and double nothing.",
        does: "Eight agents park a poll before each decision; every other poll hangs up about when the decision is made, \
               and the service is killed with SIGKILL again and again.",
        unit: "handoffs",
        full: 4_000,
        short: 160,
        run: |scene| Box::pin(born_delivered::run(scene)),
    },
    Drill {
        name: "everything-at-once",
        promise: "Whatever is done at once and whatever is killed meanwhile: no answer with 500, no row stuck, counters \
                  exact, chains whole.",
        does: "12 clients mix submissions, decisions, cancellations, acknowledgements of every kind, dispositions, caps, \
               replays, dead letters, policies and key rotations; the service and Postgres are killed in between.",
        unit: "seconds",
        full: 60,
        short: 10,
        run: |scene| Box::pin(mixed::run(scene)),
    },
    Drill {
        name: "publisher-killed",
        promise: "Every event is on the stream, with at most one effect, though its publisher died after the \
                  acknowledgement.",
        does: "Holds the deletion of acknowledged outbox rows back and kills the service there, again and again.",
        unit: "kills",
        full: 100,
        short: 5,
        run: |scene| Box::pin(publisher_killed::run(scene)),
    },
    Drill {
        name: "nats-outage",
        promise: "Without NATS submit, decide and poll go on; the backlog is out within 60 s of its return.",
        does: "Kills NATS under load, starts it again later, and waits for the outbox.",
        unit: "seconds without NATS",
        full: 120,
        short: 5,
        run: |scene| Box::pin(nats_outage::run(scene)),
    },
    Drill {
        name: "told-in-time",
        promise: "People are told by webhook, mail and push service, in the median within a second of the 201; without NATS \
                  within one sweep.",
        does: "Submits with a receiver of each kind, then kills NATS, submits as much again, and sweeps once.",
        unit: "requests each",
        full: 200,
        short: 8,
        run: |scene| Box::pin(told_in_time::run(scene)),
    },
    Drill {
        name: "wiped-stream",
        promise: "Replay puts every event of the period asked for back on a wiped stream, each once.",
        does: "Makes handoffs in two periods, wipes NATS's store under the running service, and replays one period, \
               then the other.",
        unit: "handoffs",
        full: 4_000,
        short: 100,
        run: |scene| Box::pin(wiped_stream::run(scene)),
    },
    Drill {
        name: "postgres-restarts",
        promise: "Every acknowledged write survives immediate stops of Postgres; meanwhile 503 within 2 s, never a hang; \
                  serving again within 10 s.",
        does: "Stops Postgres with -m immediate under load, and starts it again.",
        unit: "stops",
        full: 20,
        short: 2,
        run: |scene| Box::pin(postgres_restarts::run(scene)),
    },
    Drill {
        name: "failing-fsync",
        promise: "No 2xx for a write that was not stored.",
        does: "Lets every fsync of Postgres fail (strace) under load, and submits meanwhile.",
        unit: "faults",
        full: 20,
        short: 1,
        run: |scene| Box::pin(failing_fsync::run(scene)),
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
    Drill {
        name: "black-holes",
        promise: "No call and no sweep takes longer than its deadline where packets of Postgres or NATS are dropped, not \
                  refused.",
        does: "Lets a proxy swallow every byte to and from Postgres, then NATS, under load; a replay of all events is \
               ordered meanwhile.",
        unit: "seconds each",
        full: 30,
        short: 4,
        run: |scene| Box::pin(black_holes::run(scene)),
    },
    Drill {
        name: "silent-issuer",
        promise: "An issuer that hangs costs operators whose keys are known at most 50 ms, also beside 100 tokens a second \
                  with made-up kids.",
        does: "Lets a proxy swallow every byte to and from the issuer; operators call with a new token each time, and then \
               strangers, too.",
        unit: "seconds",
        full: 600,
        short: 8,
        run: |scene| Box::pin(silent_issuer::run(scene)),
    },
    Drill {
        name: "locked-table",
        promise: "A lock on one table costs the calls that need it, and no others: never more than twice the pool's \
                  sessions, and all is well within 5 s of the release.",
        does: "Takes LOCK TABLE deliveries under 30 pollers, submits, administers and tries to decide meanwhile.",
        unit: "seconds",
        full: 60,
        short: 6,
        run: |scene| Box::pin(locked_table::run(scene)),
    },
    Drill {
        name: "hang-ups",
        promise: "Callers that hang up between request and answer lose nothing and keep no session; the agent learns a \
                  decision within a second of it.",
        does: "Cuts off each kind of call at a random moment, then repeats it as its client would.",
        unit: "handoffs",
        full: 2_000,
        short: 80,
        run: |scene| Box::pin(hang_ups::run(scene)),
    },
    Drill {
        name: "frozen-lambda",
        promise: "A process frozen right after its response: its event is out within one sweep, its next request \
                  succeeds.",
        does: "Runs a function's binary against a stand-in for Lambda's runtime API, which freezes it (SIGSTOP) when its \
               response arrives; the stream did not answer before, and Postgres hangs up meanwhile.",
        unit: "processes",
        full: 8,
        short: 2,
        run: |scene| Box::pin(frozen_lambda::run(scene)),
    },
    Drill {
        name: "key-rotation",
        promise: "Rotating keys under load fails no call; a revoked key is dead within 60 s everywhere.",
        does: "Rotates an agent's key under load on two processes; the last time one of them is frozen (SIGSTOP) while \
               the old key is revoked.",
        unit: "rotations",
        full: 20,
        short: 2,
        run: |scene| Box::pin(key_rotation::run(scene)),
    },
];
