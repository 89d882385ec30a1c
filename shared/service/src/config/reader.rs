//! Reads variables, and notes every fault.

use std::collections::HashMap;
use std::fmt::Display;
use std::str::FromStr;

/// Variables, and the faults that were found in them.
pub(super) struct Reader {
    pub(super) variables: HashMap<String, String>,
    pub(super) faults: Vec<String>,
}

impl Reader {
    pub(super) fn is_set(&self, name: &str) -> bool {
        self.variables.get(name).is_some_and(|text| !text.trim().is_empty())
    }

    pub(super) fn optional<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.variables.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(fault) => {
                self.faults.push(format!("{name} {fault}"));
                None
            }
        }
    }

    pub(super) fn needed<T, E: Display>(
        &mut self,
        is_needed: bool,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if is_needed { self.required(name, parse) } else { self.optional(name, parse) }
    }

    pub(super) fn required<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if !self.is_set(name) {
            self.faults.push(format!("{name} is required"));
        }
        self.optional(name, parse)
    }

    pub(super) fn number<T: FromStr + PartialOrd + Display + Copy>(
        &mut self,
        name: &str,
        default: T,
        least: T,
        most: T,
    ) -> T {
        let parse = |text: &str| match text.parse() {
            Ok(value) if value >= least && value <= most => Ok(value),
            _ => Err(format!("must be from {least} to {most}")),
        };
        self.optional(name, parse).unwrap_or(default)
    }

    pub(super) fn flag(&mut self, name: &str) -> bool {
        self.optional(name, |text| text.parse::<bool>().map_err(|_| "must be true or false")).unwrap_or_default()
    }
}
