//! Progress: one live line in a terminal, a line every five seconds elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, stderr};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::time::{MissedTickBehavior, interval};

use super::ledger::{Ledger, Mark};

/// How often the live line changes.
const LIVE: Duration = Duration::from_millis(200);
/// How often a line is printed where there is no terminal.
const PLAIN: Duration = Duration::from_secs(5);

/// Shows the run for ever.
pub async fn show(name: String, ledger: Arc<Ledger>, handoffs: usize) {
    let is_live = stderr().is_terminal();
    let bar = ProgressBar::with_draw_target(Some(handoffs as u64), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {elapsed}  {msg}") {
        bar.set_style(style);
    }
    bar.set_prefix(name.clone());
    let _cleared = Cleared(bar.clone());
    let mut ticks = interval(if is_live { LIVE } else { PLAIN });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let line = line(&ledger);
        if is_live {
            bar.set_position(ledger.open().over as u64);
            bar.set_message(line);
        } else {
            eprintln!("{name}: {:>4} s  {line}", ledger.begun().elapsed().as_secs());
        }
    }
}

/// The live line goes away with the run.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn line(ledger: &Ledger) -> String {
    let book = ledger.open();
    let total = |what: Mark| book.seconds.iter().filter_map(|second| second.get(&what)).sum::<u64>();
    let decided: u64 = [Mark::Approved, Mark::Rejected, Mark::Cancelled, Mark::TimedOut].map(total).iter().sum();
    let mut line = format!("asked {}  decided {decided}  finished {}", total(Mark::Asked), total(Mark::Finished));
    if total(Mark::Lost) > 0 {
        let _ = write!(line, "  calls lost {}", total(Mark::Lost));
    }
    if let Some(first) = book.violations.first() {
        let _ = write!(line, "  VIOLATIONS {} ({})", book.violations.len(), first.what);
    }
    line
}
