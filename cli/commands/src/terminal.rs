//! What people read: text that cannot act on their terminal, times, and the line that says how long there is.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::task::AbortHandle;

/// Between two looks at the clock of a progress line.
const TICK: Duration = Duration::from_secs(1);

/// Text of others: control characters, and those that turn the direction of writing, are shown and not obeyed.
pub fn safe(text: &str) -> String {
    let is_plain = |c: char| c == '\n' || c == '\t' || !(c.is_control() || turns(c));
    text.chars().fold(String::with_capacity(text.len()), |mut safe, c| {
        if is_plain(c) {
            safe.push(c);
        } else {
            safe.extend(c.escape_unicode());
        }
        safe
    })
}

/// As [`safe`], in one line.
pub fn safe_line(text: &str) -> String {
    safe(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// Characters without a shape of their own that change how the rest is seen.
fn turns(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// A line on standard output. On a terminal it cannot act; whoever has closed the stream does not stop the command.
pub fn print_out(text: &str) {
    let mut stream = std::io::stdout();
    let shown = if stream.is_terminal() { safe(text) } else { text.to_owned() };
    drop(writeln!(stream, "{shown}").and_then(|()| stream.flush()));
}

/// A line on standard error, where nothing stops the command either.
pub fn print_err(text: &str) {
    drop(writeln!(std::io::stderr(), "{text}"));
}

/// [`print_out`] of a format.
macro_rules! out {
    ($($text:tt)*) => { $crate::terminal::print_out(&format!($($text)*)) };
}
/// [`print_err`] of a format.
macro_rules! err {
    ($($text:tt)*) => { $crate::terminal::print_err(&format!($($text)*)) };
}
pub(crate) use {err, out};

/// This machine's time.
#[expect(clippy::disallowed_methods, reason = "a command's clock is the real one")]
pub fn now() -> DateTime<Utc> {
    Utc::now()
}

/// What is left until then: `3:04`, `2 h 03 min`, `1 d 2 h`.
pub fn left(until: DateTime<Utc>) -> String {
    let seconds = (until - now()).num_seconds().max(0);
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60) {
        (0, 0, minutes) => format!("{minutes}:{:02}", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes:02} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// `90s`, `10m`, `2h`, `1d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time such as 90s, 10m, 2h or 1d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// Says on standard error who is waited for: a line that counts down on a terminal, a plain line elsewhere.
#[derive(Debug, Default)]
pub struct Progress(Option<AbortHandle>);

impl Progress {
    /// Of a question that may be answered at this address until then.
    pub fn show(&mut self, link: &str, until: DateTime<Utc>) {
        self.end();
        if !std::io::stderr().is_terminal() {
            err!("relaytrace: waiting for an operator until {}: {link}", until.format("%Y-%m-%d %H:%M:%S UTC"));
            return;
        }
        let link = link.to_owned();
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            loop {
                tick.tick().await;
                // Back to the start of the line, and what was there before is erased.
                drop(write!(std::io::stderr(), "\r\u{1b}[2KWaiting for an operator, {} left: {link}", left(until)));
            }
        });
        self.0 = Some(task.abort_handle());
    }

    /// Takes the line away.
    pub fn end(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
            drop(write!(std::io::stderr(), "\r\u{1b}[2K"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_others_cannot_act_on_the_terminal() {
        assert_eq!(safe_line("a\u{1b}[2Jb\rc\u{202e}d\u{9b}e\nf"), "a\\u{1b}[2Jb\\u{d}c\\u{202e}d\\u{9b}e\\nf");
        assert_eq!(safe("über 3 €\n"), "über 3 €\n");
    }

    #[test]
    fn times_are_read_and_shown() {
        assert_eq!(duration("10m"), Ok(Duration::from_mins(10)));
        assert_eq!(duration("1d"), Ok(Duration::from_hours(24)));
        for wrong in ["", "m", "10", "-1s", "1.5h", "10 m", "10ü"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        for (seconds, shown) in [(-5, "0:00"), (65, "1:05"), (7_385, "2 h 03 min"), (93_700, "1 d 2 h")] {
            assert_eq!(left(now() + chrono::TimeDelta::seconds(seconds) + chrono::TimeDelta::milliseconds(500)), shown);
        }
    }
}
