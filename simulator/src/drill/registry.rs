//! Every drill there is: its name, the promise that it proves, and how.

use std::fmt::Write as _;
use std::path::Path;
use std::pin::Pin;

use anyhow::{Context as _, Result, bail};

use super::scene::Scene;
use super::{Verdict, faults, permits, rules};

type Run = for<'a> fn(&'a mut Scene<'_>) -> Pin<Box<dyn Future<Output = Verdict> + 'a>>;

/// One drill.
pub struct Drill {
    /// Kebab-case; what `make drill NAME=…` names.
    pub name: &'static str,
    /// The promise that it proves.
    pub promise: &'static str,
    /// Its procedure.
    pub does: &'static str,
    /// The unit of its count.
    pub unit: &'static str,
    /// Count of `make drill`.
    pub full: u64,
    /// Count of `make test`; 0 where that runs what the drill runs anyway.
    pub short: u64,
    /// Plays it.
    pub run: Run,
}

/// Every drill.
pub fn drills() -> impl Iterator<Item = &'static Drill> {
    faults::DRILLS.iter().chain(rules::DRILLS).chain(permits::DRILLS)
}

/// Prints the list.
pub fn list() {
    for Drill { name, promise, .. } in drills() {
        println!("{name:<24} {promise}");
    }
}

/// The drills of these names, all if there are none.
pub fn choose(names: &[String]) -> Result<Vec<&'static Drill>> {
    if names.is_empty() {
        return Ok(drills().collect());
    }
    let find = |name: &String| {
        let known = || drills().map(|drill| drill.name).collect::<Vec<_>>().join(" ");
        let found = drills().find(|drill| drill.name == name);
        found.with_context(|| format!("there is no drill {name}; there are: {}", known()))
    };
    names.iter().map(find).collect()
}

const BEGIN: &str = "<!-- drills: written by make drill -->\n";
const END: &str = "<!-- end of drills -->\n";

/// Writes the document's table of drills anew, with this drill's verdict; those of others stay.
pub fn record(document: &Path, name: &str, verdict: &str) -> Result<()> {
    let text = std::fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let Some((before, rest)) = text.split_once(BEGIN) else { bail!("{} has no table of drills", document.display()) };
    let (table, after) = rest.split_once(END).context("the table of drills has no end")?;
    let mut written = "| drill | promise | what it does | count: full, short | last verdict of the full form |\n\
                       |---|---|---|---|---|\n"
        .to_owned();
    for Drill { name: of, promise, does, unit, full, short, .. } in drills() {
        let last = table.lines().find(|line| line.starts_with(&format!("| `{of}` |")));
        let last = last.and_then(|line| line.trim_end_matches(" |").rsplit(" | ").next()).unwrap_or("not run yet");
        let last = if *of == name { verdict.replace('|', "\\|") } else { last.to_owned() };
        writeln!(written, "| `{of}` | {promise} | {does} | {full}, {short} {unit} | {last} |")?;
    }
    std::fs::write(document, format!("{before}{BEGIN}{written}{END}{after}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_the_unknown_are_refused_with_a_list() {
        let mut names: Vec<_> = drills().map(|drill| drill.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), drills().count());
        let refused = choose(&["no-such-drill".to_owned()]).err().unwrap().to_string();
        assert!(names.iter().all(|name| refused.contains(name)), "{refused}");
    }

    #[test]
    fn a_recorded_verdict_replaces_its_own_row_only() {
        let document = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&document, format!("before\n{BEGIN}{END}after\n")).unwrap();
        let name = drills().next().unwrap().name;
        for verdict in ["PASS: 1 kills", "PASS: 2 kills"] {
            record(document.path(), name, verdict).unwrap();
        }
        let text = std::fs::read_to_string(&document).unwrap();
        assert!(text.starts_with("before\n") && text.ends_with("after\n"), "{text}");
        assert!(text.contains("2 kills") && !text.contains("1 kills"), "{text}");
        assert_eq!(text.matches("not run yet").count(), drills().count() - 1, "{text}");
    }
}
