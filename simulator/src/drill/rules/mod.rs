//! Drills of rules: races, time, and authentication.

mod batches;
mod deadlines;
mod deciding;
mod forgeries;
mod fuzzing;
mod leaks;
mod leases;
mod offline;
mod races;
mod seven_days;
mod suites;
mod votes;

use super::registry::Drill;

/// In the order of the promises.
pub const DRILLS: &[Drill] = &[
    Drill {
        name: "identical-submissions",
        promise: "100 identical submissions at once make one request; all callers are told the same id.",
        does: "100 connections submit the same envelope at the same moment, with a new key each round.",
        unit: "rounds of 100",
        full: 50,
        short: 3,
        run: |scene| Box::pin(races::identical_submissions(scene)),
    },
    Drill {
        name: "reused-keys",
        promise: "The same key with another envelope is 422, 100 at once; the original stays as it was.",
        does: "100 connections submit other envelopes under a key that is taken, at the same moment, each round.",
        unit: "rounds of 100",
        full: 50,
        short: 3,
        run: |scene| Box::pin(races::reused_keys(scene)),
    },
    Drill {
        name: "seven-days",
        promise: "A key is the same request for 7 days by the database's clock, to the second, and free after them.",
        does: "Moves stored expiries so that they are a second ahead (the database's clock cannot be moved), submits \
               before and after that second, then 20 at once.",
        unit: "keys",
        full: 100,
        short: 10,
        run: |scene| Box::pin(seven_days::run(scene)),
    },
    Drill {
        name: "racing-operators",
        promise: "50 operators at once make one decision; every loser gets 409 with the decision that stands.",
        does: "50 operators approve or reject each request at the same moment.",
        unit: "requests",
        full: 1_000,
        short: 20,
        run: |scene| Box::pin(races::operators(scene)),
    },
    Drill {
        name: "operator-against-sweep",
        promise: "An operator who races the sweep at the deadline: one winner, one `decided` event.",
        does: "Decides at the deadline, earlier after a loss and later after a win, while two sweeps look \
               for what is due.",
        unit: "requests",
        full: 1_000,
        short: 60,
        run: |scene| Box::pin(deadlines::operator_against_sweep(scene)),
    },
    Drill {
        name: "voters",
        promise: "50 voters race for a quorum of 3: three count, the third decides, nobody counts twice; whoever counted may \
                  say the same again.",
        does: "50 operators approve each request at the same moment; then those that counted and others say it again.",
        unit: "requests",
        full: 1_000,
        short: 15,
        run: |scene| Box::pin(votes::voters(scene)),
    },
    Drill {
        name: "voters-against-rejection",
        promise: "Voters race one who rejects: three approvals or one rejection decide, never both, and each vote is kept.",
        does: "Five operators approve each request at the same moment, quorum 3, and one rejects: earlier after a loss, later after a \
               win.",
        unit: "requests",
        full: 1_000,
        short: 30,
        run: |scene| Box::pin(votes::against_rejection(scene)),
    },
    Drill {
        name: "voters-against-sweep",
        promise: "The last voter races the sweep at the deadline: one winner, and a timeout never approves.",
        does: "One operator votes early, the last at the deadline, earlier after a loss and later after a win, while a sweep \
               looks for what is due.",
        unit: "requests",
        full: 1_000,
        short: 60,
        run: |scene| Box::pin(votes::against_sweep(scene)),
    },
    Drill {
        name: "batches",
        promise: "100 answers in one call are answered as 100 calls are, each of its own.",
        does: "An operator answers 100 requests in one call, 100 like them one by one, and 100 on six connections: approvals, \
               votes, rejections, other digests, and what was decided before. The answers are compared, the times noted.",
        unit: "rounds",
        full: 30,
        short: 2,
        run: |scene| Box::pin(batches::beside_single_calls(scene)),
    },
    Drill {
        name: "rule-limits",
        promise: "A rule that may decide 5 an hour decides exactly 5 of 200 submissions at once; the others are asked.",
        does: "200 connections of four agents submit at the same moment, with a new rule each round.",
        unit: "rounds of 200",
        full: 25,
        short: 2,
        run: |scene| Box::pin(deciding::limits(scene)),
    },
    Drill {
        name: "rule-versions",
        promise: "Submissions that race changes of the rules are each under exactly one version, and never under an older one \
                  than stood when they began.",
        does: "40 clients submit to two processes while an administrator makes one version after the other; odd ones approve, even \
               ones reject.",
        unit: "submissions",
        full: 1_000,
        short: 120,
        run: |scene| Box::pin(deciding::versions(scene)),
    },
    Drill {
        name: "shadow-rules",
        promise: "A rule of the shadow never acts, by whatever path a request comes and ends; what it would do is in the entry.",
        does: "Under shadow rules that approve, reject, ask and fail: requests that are approved, taken back and left to their \
               timeout, and those of a bridge.",
        unit: "rounds",
        full: 40,
        short: 4,
        run: |scene| Box::pin(deciding::shadows(scene)),
    },
    Drill {
        name: "overlapping-sweeps",
        promise: "10 sweeps at once expire each due request once, and none early.",
        does: "Runs 10 sweeps at the same moment over requests whose time is over, beside some whose is not.",
        unit: "due requests",
        full: 10_000,
        short: 300,
        run: |scene| Box::pin(deadlines::overlapping_sweeps(scene)),
    },
    Drill {
        name: "late-acknowledgement",
        promise: "A poller that is stopped past its lease: its late ack is refused, the decision was redelivered once.",
        does: "Takes decisions and says nothing until another poller has them; then acknowledges too late.",
        unit: "decisions",
        full: 200,
        short: 20,
        run: |scene| Box::pin(leases::run(scene)),
    },
    Drill {
        name: "forged-decisions",
        promise: "SQL as any one authority writes no decision, vote or entry that is not its functions' own; a decision \
                  without attestation gets no receipt, is not delivered, and holds up nothing.",
        does: "As relaytrace_agent, _people and _ops: foreign causes and kinds, bytes of another kind, earlier times, what \
               was asked, deliveries, policies and triggers. Then whole decisions in SQL, also as relaytrace_app.",
        unit: "rounds",
        full: 20,
        short: 2,
        run: |scene| Box::pin(forgeries::run(scene)),
    },
    Drill {
        name: "forged-tokens",
        promise: "Every forged, expired or foreign token is refused alike; nothing leaks; nobody is called.",
        does: "The token matrix of tests/contract/test_tokens.py.",
        unit: "suite",
        full: 1,
        short: 0,
        run: |scene| Box::pin(suites::tokens(scene)),
    },
    Drill {
        name: "guarded-routes",
        promise: "Every route of openapi.json refuses anonymous callers, tokens of another kind, and forged tokens.",
        does: "tests/contract/test_routes.py: its cases are made of the document that the service serves.",
        unit: "suite",
        full: 1,
        short: 0,
        run: |scene| Box::pin(suites::routes(scene)),
    },
    Drill {
        name: "foreign-verifiers",
        promise: "Responses verify in Python and JavaScript with independent libraries; changed responses are refused.",
        does: "tests/contract/test_signatures.py, test_vectors.py and test_verifiers.py, and tests/verifiers in Node.",
        unit: "suite",
        full: 1,
        short: 0,
        run: |scene| Box::pin(suites::verifiers(scene)),
    },
    Drill {
        name: "offline-verification",
        promise: "Receipts and chains verify offline after key rotations; every tampering is found and located.",
        does: "Rotates the receipt key under requests, exports, then edits, removes, reorders, recomputes and cuts off.",
        unit: "requests",
        full: 300,
        short: 12,
        run: |scene| Box::pin(offline::run(scene)),
    },
    Drill {
        name: "append-only",
        promise: "Decisions and chains cannot be updated, deleted or truncated, by the functions' role or the owner.",
        does: "tests/contract/test_database.py.",
        unit: "suite",
        full: 1,
        short: 0,
        run: |scene| Box::pin(suites::database(scene)),
    },
    Drill {
        name: "fuzzing",
        promise: "No input makes a 5xx or a panic; every error is a problem document with `retryable`.",
        does: "schemathesis on the running service with every kind of token; broken JSON into the parser.",
        unit: "inputs of the parser",
        full: 1_000_000,
        short: 20_000,
        run: |scene| Box::pin(fuzzing::run(scene)),
    },
    Drill {
        name: "nothing-leaked",
        promise: "Logs, dead letters and events hold no token, no key, no signature, no response secret.",
        does: "Load with refusals and failures; then looks for every secret that was in use, and for whatever is shaped \
               like one, in all logs and databases of the drills before it, too.",
        unit: "rounds of refusals",
        full: 50,
        short: 3,
        run: |scene| Box::pin(leaks::run(scene)),
    },
];
