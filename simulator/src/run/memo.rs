//! The tables of the pilot's memo, between two markers; the words around them are people's.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::criteria::{CRITERIA, milliseconds};
use super::pilot::overall;
use super::report::{Report, mark, number};

const BEGIN: &str = "<!-- pilot: written by make pilot -->\n";
const END: &str = "<!-- end of pilot -->\n";

/// Writes the tables anew.
pub fn write(document: &Path, reports: &[Report]) -> Result<()> {
    let text = std::fs::read_to_string(document).with_context(|| format!("cannot read {}", document.display()))?;
    let (before, rest) = text.split_once(BEGIN).with_context(|| format!("{} has no tables", document.display()))?;
    let (_, after) = rest.split_once(END).context("the tables have no end")?;
    let written = format!("{before}{BEGIN}{}{END}{after}", tables(reports)?);
    std::fs::write(document, written).with_context(|| format!("cannot write {}", document.display()))
}

fn tables(reports: &[Report]) -> Result<String> {
    let mut text = String::new();
    let Some(first) = reports.first() else { return Ok(text) };
    writeln!(text, "Begun {}, seed {}, on {}.\n", first.began, first.seed, first.environment.describe())?;
    criteria(&mut text, reports)?;
    scenarios(&mut text, reports)?;
    latencies(&mut text, reports)?;
    failures(&mut text, reports)?;
    Ok(text)
}

fn criteria(text: &mut String, reports: &[Report]) -> Result<()> {
    writeln!(text, "| criterion | bound | {} | all scenarios |\n|---|---|---|---|", reports[0].scenario)?;
    for (criterion, name, bound) in CRITERIA {
        let value = reports[0].verdict(criterion).map_or("", |verdict| &verdict.value).replace('|', "\\|");
        let all = mark(overall(reports, criterion));
        writeln!(text, "| {} {name} | {bound} | {value} | {all} |", number(criterion))?;
    }
    Ok(())
}

fn scenarios(text: &mut String, reports: &[Report]) -> Result<()> {
    let numbers: Vec<_> = CRITERIA.iter().map(|(criterion, ..)| number(*criterion)).collect();
    writeln!(text, "\n| scenario | {} | handoffs | calls lost | broken |", numbers.join(" | "))?;
    writeln!(text, "|---|{}---|---|---|", "---|".repeat(numbers.len()))?;
    for report in reports {
        let states: Vec<_> = CRITERIA
            .iter()
            .map(|(criterion, ..)| report.verdict(*criterion).map_or("", |verdict| mark(verdict.state)))
            .collect();
        let faults: Vec<_> =
            report.faults.iter().map(|fault| format!("{} for {:.1} s", fault.what, fault.until - fault.at)).collect();
        let name = &report.scenario;
        let (handoffs, lost) = (report.handoffs.values().sum::<u64>(), report.lost());
        writeln!(
            text,
            "| [{name}](pilot/{name}.md) | {} | {handoffs} | {lost} | {} |",
            states.join(" | "),
            faults.join("; ")
        )?;
    }
    writeln!(text, "\n`----`: not measured in that scenario, which says nothing.")?;
    Ok(())
}

fn latencies(text: &mut String, reports: &[Report]) -> Result<()> {
    writeln!(
        text,
        "\n| from the moment when it was due | scenario | count | p50 | p90 | p99 | p99.9 |\n|---|---|---|---|---|---|---|"
    )?;
    for report in reports {
        for (name, latency) in &report.latencies {
            let [p50, p90, p99, p99_9] = [latency.p50, latency.p90, latency.p99, latency.p99_9].map(milliseconds);
            let (scenario, count) = (&report.scenario, latency.count);
            writeln!(text, "| {name} | {scenario} | {count} | {p50} | {p90} | {p99} | {p99_9} |")?;
        }
    }
    Ok(())
}

fn failures(text: &mut String, reports: &[Report]) -> Result<()> {
    let all = reports.iter().flat_map(|report| report.verdicts.iter().map(move |verdict| (&report.scenario, verdict)));
    for (scenario, verdict) in all {
        if let Some(first) = &verdict.first_failure {
            writeln!(text, "\n{scenario}, criterion {}: {}. First: {first}", number(verdict.criterion), verdict.value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let document = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(document.path(), format!("before\n{BEGIN}old\n{END}after\n")).unwrap();
        write(document.path(), &[]).unwrap();
        assert_eq!(std::fs::read_to_string(document.path()).unwrap(), format!("before\n{BEGIN}{END}after\n"));
        std::fs::write(document.path(), "no markers").unwrap();
        assert!(write(document.path(), &[]).is_err());
    }
}
