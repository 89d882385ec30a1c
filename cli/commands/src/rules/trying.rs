//! `relaytrace admin rules try`: a draft over what was asked before, page by page.

use std::path::PathBuf;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Method;
use serde_json::{Value, json};

use super::Draft;
use crate::exit::{Fault, Result};
use crate::people::Person;
use crate::settings::{Settings, link};
use crate::terminal::{duration, err, now, out};

/// Spans that the time is cut into, so that it can be said how far a trial is.
const SPANS: i32 = 40;
/// Where no bar is seen a line comes after so many of them.
const SPANS_OF_A_LINE: u64 = 10;
/// Requests of one call.
const AT_ONCE: i32 = 2_000;
/// Examples that are shown.
const EXAMPLES: usize = 100;
/// As a shell says of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Options of `admin rules try`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "It says how many requests the rules would have approved, rejected and asked, where that differs from what happened, and
lists first what a person rejected and the rules would approve. Nothing changes.

`same` are requests that end alike, and those that a person would be asked, and was. `at_most` counts as not reached.
Ctrl-C ends it with what was tried so far, and exit code 130.

  relaytrace admin rules try -f rules.yaml
  relaytrace admin rules try -f rules.yaml --from 90d --to 30d
  relaytrace admin rules try -f rules.yaml --from 2026-11-01T00:00:00Z --shadow-as-enforced --json"
)]
pub struct Options {
    /// The file of rules, as `admin apply` takes it (`-`: standard input).
    #[arg(short = 'f', long, value_name = "FILE")]
    file: PathBuf,
    /// Requests submitted from then on: a time as RFC 3339, or how long ago, such as 30d.
    #[arg(long, default_value = "30d", value_name = "TIME", value_parser = moment)]
    from: DateTime<Utc>,
    /// Requests submitted before then. Default: now.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    to: Option<DateTime<Utc>>,
    /// Rules in shadow act, as they would once they are enforced.
    #[arg(long)]
    shadow_as_enforced: bool,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// A time, or how long ago one was.
fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    let ago = |text| duration(text).ok().map(|ago| now() - ago);
    let time = ago(text).or_else(|| DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()));
    time.ok_or_else(|| format!("{text:?} is no time such as 30d or 2026-11-01T00:00:00Z"))
}

/// What all pages together say.
#[derive(Debug, Default)]
struct Total {
    counts: serde_json::Map<String, Value>,
    tried: u64,
    same: u64,
    differs: u64,
    examples: Vec<Value>,
    /// The time down to which everything was tried.
    back_to: Option<DateTime<Utc>>,
}

/// Tries the draft; gives the exit code.
pub async fn run(settings: &Settings, options: &Options) -> Result<u8> {
    let mut draft = Draft::read(&options.file)?;
    if options.shadow_as_enforced {
        draft.rules.iter_mut().filter(|rule| rule["mode"] == "shadow").for_each(|rule| rule["mode"] = "enforce".into());
    }
    draft.document()?;
    let person = Person::admin(settings)?;
    let (from, to) = (options.from, options.to.unwrap_or_else(now));
    // Each of the spans has a beginning before its end.
    if to - from < TimeDelta::microseconds(SPANS.into()) {
        return Err(Fault::usage("--from must be before --to"));
    }
    let mut total = Total::default();
    let is_whole = tokio::select! {
        whole = all(&person, &draft, from, to, &mut total) => whole.map(|()| true)?,
        stopped = tokio::signal::ctrl_c() => stopped.is_err(),
    };
    if options.json {
        out!("{}", total.as_json(is_whole));
    } else {
        total.tell(&person.url, from, to);
    }
    if is_whole {
        return Ok(0);
    }
    let back_to = total.back_to.unwrap_or(to);
    err!("relaytrace: interrupted; what was submitted before {} was not all tried", written(back_to));
    Ok(INTERRUPTED)
}

fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// All pages of all spans, the newest first.
async fn all(person: &Person, draft: &Draft, from: DateTime<Utc>, to: DateTime<Utc>, total: &mut Total) -> Result<()> {
    let bar = Bar::new();
    let start = |span: i32| from + (to - from) * span / SPANS;
    for span in (0..SPANS).rev() {
        let (begins, ends) = (start(span), start(span + 1));
        let mut body = json!({"rules": draft.rules, "from": written(begins), "to": written(ends), "limit": AT_ONCE});
        loop {
            let mut page = person.send(Method::POST, "/v1/admin/rules/try", &body).await?;
            total.add(&mut page);
            bar.0.set_message(format!("{} tried, {} differ", total.tried, total.differs));
            body["cursor"] = page["next_cursor"].take();
            if body["cursor"].is_null() {
                break;
            }
        }
        total.back_to = Some(begins);
        bar.0.inc(1);
        // No terminal, or one where no bar is wanted (NO_COLOR, TERM=dumb).
        if bar.0.is_hidden() && bar.0.position().is_multiple_of(SPANS_OF_A_LINE) {
            err!("relaytrace: {} tried, {} differ, back to {}", total.tried, total.differs, written(begins));
        }
    }
    Ok(())
}

/// A line that goes away with the trial; seen on a terminal only.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::with_draw_target(Some(SPANS.unsigned_abs().into()), ProgressDrawTarget::stderr());
        // No colours.
        if let Ok(style) = ProgressStyle::with_template("{bar:24} {percent:>3} %  {elapsed}  {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

impl Total {
    fn add(&mut self, page: &mut Value) {
        let number = |value: &Value| value.as_u64().unwrap_or_default();
        self.tried += number(&page["tried"]);
        self.same += number(&page["same"]);
        self.differs += number(&page["differs"]);
        for (what, count) in page["counts"].as_object().into_iter().flatten() {
            let before = self.counts.get(what).map(number).unwrap_or_default();
            self.counts.insert(what.clone(), (before + number(count)).into());
        }
        self.examples.extend(page["examples"].as_array_mut().into_iter().flatten().map(Value::take));
        self.examples.sort_by_key(rank);
        self.examples.truncate(EXAMPLES);
    }

    fn as_json(&self, is_whole: bool) -> Value {
        json!({"tried": self.tried, "counts": self.counts, "same": self.same, "differs": self.differs,
            "examples": self.examples, "whole": is_whole})
    }

    fn tell(&self, url: &str, from: DateTime<Utc>, to: DateTime<Utc>) {
        out!("tried    {} requests from {} to {}", self.tried, written(from), written(to));
        for what in ["approved", "rejected", "asked", "failed", "skipped"] {
            out!("{what:<8} {}", self.counts.get(what).unwrap_or(&Value::from(0)));
        }
        out!("same     {}", self.same);
        out!("differs  {}", self.differs);
        for example in &self.examples {
            let word = |member: &str| example[member].as_str().unwrap_or("-").to_owned();
            let (was, would, rule) = (word("was"), word("would"), word("rule"));
            out!("  was {was:<9} would be {would:<8} {rule}  {}", link(url, word("request_id")));
        }
    }
}

/// What was rejected and would be approved comes first, then the other way round, then other differences.
fn rank(example: &Value) -> u8 {
    match (example["was"].as_str().unwrap_or_default(), example["would"].as_str().unwrap_or_default()) {
        ("rejected", "approved") => 0,
        ("approved", "rejected") => 1,
        (was, would) if was != would && would != "failed" => 2,
        (_, "failed") => 3,
        _ => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_add_up_and_what_matters_most_comes_first() {
        let example = |was: &str, would: &str| json!({"request_id": was, "was": was, "would": would, "rule": null});
        let page = |examples: Vec<Value>| json!({"tried": 3, "counts": {"approved": 1, "asked": 2}, "same": 2, "differs": 1, "examples": examples});
        let mut total = Total::default();
        total.add(&mut page(vec![example("approved", "approved"), example("pending", "approved")]));
        total.add(&mut page(vec![example("rejected", "approved"), example("approved", "rejected")]));
        assert_eq!((total.tried, total.same, total.differs), (6, 4, 2));
        assert_eq!(total.counts["asked"], 4);
        let order: Vec<_> = total.examples.iter().map(|example| example["was"].as_str().unwrap()).collect();
        assert_eq!(order, ["rejected", "approved", "pending", "approved"]);
    }

    #[test]
    fn a_time_is_a_moment_or_how_long_ago_it_was() {
        assert_eq!(moment("2026-11-01T01:00:00+01:00").map(written), Ok("2026-11-01T00:00:00.000000Z".to_owned()));
        assert!(moment("30d").is_ok_and(|time| (now() - time).num_days() == 30));
        for wrong in ["", "yesterday", "2026-11-01", "30"] {
            assert!(moment(wrong).is_err(), "{wrong}");
        }
    }
}
