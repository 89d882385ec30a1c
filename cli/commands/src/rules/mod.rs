//! Rules as a file: tested without a relay, tried on what was asked before, and applied.

mod applying;
mod cases;
mod testing;
mod trying;

use std::path::Path;

use clap::Subcommand;
use relaytrace_domain::ParseError;
use relaytrace_domain::rules::RulesDocument;
use serde_json::{Value, json};

use crate::exit::{Fault, Result};
pub use applying::apply;
pub use cases::Case;
pub use testing::must_pass;

/// Digits that a floating-point number is sure to hold.
const SURE_DIGITS: usize = 15;

/// Rules, without a relay.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Run the cases of a file of rules, without a relay: for pull requests.
    Test(testing::Options),
}

/// Rules of a relay.
#[derive(Clone, Debug, Subcommand)]
pub enum AdminCommand {
    /// Say what a file of rules would have done with what was asked before. Nothing changes.
    Try(trying::Options),
}

/// Runs `rules …`; gives the exit code.
pub fn run(command: &Command) -> Result<u8> {
    let Command::Test(options) = command;
    testing::run(options)
}

/// Runs `admin rules …`; gives the exit code.
pub async fn run_as_admin(settings: &crate::settings::Settings, command: &AdminCommand) -> Result<u8> {
    let AdminCommand::Try(options) = command;
    trying::run(settings, options).await
}

/// The rules that a file has.
#[derive(Debug)]
pub struct Draft {
    /// In their order.
    pub rules: Vec<Value>,
    /// Why; `None`: the file does not say.
    pub note: Option<String>,
    /// What must hold of them.
    pub tests: Vec<Case>,
}

impl Draft {
    /// The draft of a file that must have one.
    fn read(file: &Path) -> Result<Self> {
        let missing = || Fault::usage(format!("{}: it has no rules", file.display()));
        crate::admin::read(file)?.take_draft().ok_or_else(missing)
    }

    /// The document that these rules are, checked as the relay checks it.
    pub fn document(&self) -> Result<RulesDocument> {
        if let Some((pointer, number)) =
            self.rules.iter().enumerate().find_map(|(place, rule)| inexact(rule, format!("/rules/{place}")))
        {
            let what = format!("{pointer}: {number} is not exact as a number of YAML: write it as a text, in quotes");
            return Err(Fault::usage(what));
        }
        let body = json!({"note": self.note.as_deref().unwrap_or_default(), "rules": self.rules});
        RulesDocument::parse(body.to_string().as_bytes()).map_err(|error| Fault::usage(self.faults(error)))
    }

    /// Every fault in a line of its own, with the name of its rule.
    fn faults(&self, error: ParseError) -> String {
        let faults = match error {
            ParseError::Invalid(faults) => faults,
            ParseError::Malformed(detail) => return format!("the rules are not valid: {detail}"),
        };
        let said = faults.listed().iter().fold("the rules are not valid".to_owned(), |said, fault| {
            let place = fault.pointer.split('/').nth(2).and_then(|place| place.parse::<usize>().ok());
            let name = place.and_then(|place| self.rules.get(place)?["name"].as_str());
            let of = name.map(|name| format!(" ({name})")).unwrap_or_default();
            format!("{said}\n  {}{of}: {}", fault.pointer, fault.detail)
        });
        if faults.more() > 0 { format!("{said}\n  and {} more", faults.more()) } else { said }
    }

    /// The names of the rules that are in force.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().filter(|rule| rule["mode"] == "enforce").filter_map(|rule| rule["name"].as_str())
    }
}

/// A number that may be another one than the file says.
fn inexact(value: &Value, pointer: String) -> Option<(String, String)> {
    match value {
        Value::Number(number) if number.is_f64() => {
            let text = number.to_string();
            let mantissa = text.split(['e', 'E']).next().unwrap_or_default();
            let digits: String = mantissa.chars().filter(char::is_ascii_digit).collect();
            (digits.trim_start_matches('0').len() > SURE_DIGITS).then_some((pointer, text))
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(place, item)| inexact(item, format!("{pointer}/{place}")))
        }
        Value::Object(members) => members.iter().find_map(|(name, value)| {
            inexact(value, format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1")))
        }),
        _ => None,
    }
}
