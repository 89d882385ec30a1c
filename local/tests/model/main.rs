//! A request's life against a plain model of it: random commands, times and failures, real Postgres, and after each
//! command the same answer and the same state.
//!
//! `PROPTEST_CASES` sets the number of histories, `PROPTEST_RNG_SEED` repeats those of a failure.

mod case;
mod commands;
mod model;
mod observed;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use relaytrace_store::MIGRATOR;
use sqlx::PgPool;
use tokio::runtime::Handle;

/// Histories by default.
const CASES: u32 = 50;

#[sqlx::test(migrator = "MIGRATOR")]
async fn the_store_does_what_the_model_does(owner: PgPool) {
    let real = case::Real::new(&owner).await.expect("the functions");
    let mut config = Config { failure_persistence: None, max_shrink_iters: 2_000, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = CASES;
    }
    let seed = match config.rng_seed {
        RngSeed::Fixed(seed) => seed,
        RngSeed::Random => rand::random(),
    };
    config.rng_seed = RngSeed::Fixed(seed);
    let runtime = Handle::current();
    let ran = tokio::task::spawn_blocking(move || {
        TestRunner::new(config).run(&commands::history(), |history| {
            let ran = runtime.block_on(real.run(&history));
            ran.map_err(|difference| TestCaseError::fail(format!("{difference:#}")))
        })
    });
    if let Err(failure) = ran.await.expect("a verdict") {
        panic!("PROPTEST_RNG_SEED={seed}\n{failure}");
    }
}
