//! Scripts for pgbench: the service's statements over the rows of a batch.

use std::path::Path;

use anyhow::Result;

use super::kind::Kind;
use super::rows::{Batch, Group, ROWS_AT_ONCE};
use super::statements::{Argument, Statement};

/// The number of the row that a transaction works on.
const ROW: &str = ":i";
/// No transaction of a run has the number of another.
const NEXT_ROW: &str = "\\set i :n * :clients + :client_id\n\\set n :n + 1\n";

/// The statements that are measured.
#[derive(Debug)]
pub struct Scripts {
    submit: Statement,
    decide: Statement,
    lease: Statement,
    acknowledge: Statement,
}

impl Scripts {
    /// Out of the checkout's metadata.
    pub fn find(checkout: &Path) -> Result<Self> {
        Ok(Self {
            submit: Statement::find(checkout, "submit")?,
            decide: Statement::find(checkout, "decide")?,
            lease: Statement::find(checkout, "lease")?,
            acknowledge: Statement::find(checkout, "acknowledge")?,
        })
    }

    /// The statement of one call of this kind, each time for the next row of the batch.
    pub fn measured(&self, kind: Kind, batch: Batch) -> Result<String> {
        let statement = match kind {
            Kind::Submit => self.submit.with(&submit(batch, ROW, |element| format!("ARRAY[{element}]")))?,
            Kind::Decide => self.decide.with(&decide(batch))?,
            Kind::Poll | Kind::EmptyPoll => self.lease.with(&lease(batch.group))?,
            Kind::Acknowledge => self.acknowledge.with(&acknowledge(batch))?,
        };
        Ok(format!("{NEXT_ROW}{statement};\n"))
    }

    /// Submits [`ROWS_AT_ONCE`] rows of the batch with each transaction.
    pub fn prepared(&self, batch: Batch) -> Result<String> {
        let rows =
            format!("generate_series({ROW}::int8 * {ROWS_AT_ONCE}, {ROW}::int8 * {ROWS_AT_ONCE} + {ROWS_AT_ONCE} - 1)");
        let array = |element: &str| format!("ARRAY(SELECT {element} FROM {rows} AS s (number) ORDER BY s.number)");
        let statement = self.submit.with(&submit(batch, "s.number", array))?;
        Ok(format!("{NEXT_ROW}{statement};\n"))
    }
}

fn submit(batch: Batch, row: &str, array: impl Fn(&str) -> String) -> Vec<Argument> {
    let agent = batch.group.agent_sql(row);
    let elements = [
        ("uuid[]", batch.request_sql(row)),
        ("text[]", agent.clone()),
        ("text[]", agent),
        ("text[]", batch.key_sql(row)),
        ("bytea[]", ":digest::bytea".to_owned()),
        ("int2[]", "2::int2".to_owned()),
        ("text[]", ":title::text".to_owned()),
        ("text[]", ":action_type::text".to_owned()),
        ("bytea[]", ":digest::bytea".to_owned()),
        ("timestamptz[]", ":nothing::timestamptz".to_owned()),
        ("bytea[]", ":envelope::bytea".to_owned()),
        ("bytea[]", ":resume::bytea".to_owned()),
        ("text[]", ":traceparent::text".to_owned()),
    ];
    let arrays = elements.into_iter().map(|(kind, element)| (kind, array(&element)));
    let kept_seconds = ("float8", ":kept_seconds".to_owned());
    let nothing = |kind, of: &str| (kind, array(&format!(":nothing::{of}")));
    let offered =
        [nothing("text[]", "text"), nothing("text[]", "text"), nothing("text[]", "text"), nothing("int4[]", "int4")];
    let permit_seconds = ("float8", "3600".to_owned());
    let bridged = [nothing("text[]", "text"), nothing("int8[]", "int8")];
    let first = [now()].into_iter().chain(arrays).chain([kept_seconds]);
    let no_rules = ("jsonb", ":nothing".to_owned());
    first.chain(offered).chain([permit_seconds]).chain(bridged).chain([no_rules]).collect()
}

fn decide(batch: Batch) -> Vec<Argument> {
    let text = |variable: &str| ("text[]", format!("ARRAY[:{variable}::text]"));
    vec![
        now(),
        ("float8", ":max_age_seconds".to_owned()),
        ("uuid[]", format!("ARRAY[{}]", batch.request_sql(ROW))),
        text("outcome"),
        text("operator"),
        text("nothing"),
        ("bytea[]", "ARRAY[:digest::bytea]".to_owned()),
        text("operator"),
        text("operator_id"),
        text("operator_name"),
        text("traceparent"),
        text("nothing"),
        ("text[]", "ARRAY['default'::text]".to_owned()),
        text("attestation"),
        ("float8", "3600".to_owned()),
        ("text[]", "ARRAY['approve'::text]".to_owned()),
        ("text[]", "ARRAY['[]'::text]".to_owned()),
        // Edited action and response, each with its digest.
        ("bytea[]", ":nothing".to_owned()),
        ("bytea[]", ":nothing".to_owned()),
        ("bytea[]", ":nothing".to_owned()),
        ("bytea[]", ":nothing".to_owned()),
        // A stop, and the poll that waits.
        ("text[]", ":nothing".to_owned()),
        ("text[]", ":nothing".to_owned()),
        ("uuid[]", ":nothing".to_owned()),
        ("float8", ":lease_seconds".to_owned()),
        ("int4", ":max_attempts".to_owned()),
        ("float8", ":longest_backoff_seconds".to_owned()),
    ]
}

fn lease(group: Group) -> Vec<Argument> {
    let agent = format!("ARRAY[{}]", group.agent_sql(ROW));
    vec![
        now(),
        ("text[]", agent.clone()),
        ("text[]", agent),
        ("int8[]", "ARRAY[:limit::int8]".to_owned()),
        ("timestamptz[]", "ARRAY[:nothing::timestamptz]".to_owned()),
        ("float8[]", "ARRAY[0::float8]".to_owned()),
        ("float8", ":lease_seconds".to_owned()),
        ("int4", ":max_attempts".to_owned()),
        ("float8", ":longest_backoff_seconds".to_owned()),
    ]
}

fn acknowledge(batch: Batch) -> Vec<Argument> {
    let agent = format!("ARRAY[{}]", batch.group.agent_sql(ROW));
    let request = format!("ARRAY[{}]", batch.request_sql(ROW));
    let nothing = "ARRAY[:nothing::text]".to_owned();
    vec![
        now(),
        ("uuid[]", request.clone()),
        ("uuid[]", request),
        ("text[]", agent.clone()),
        ("text[]", agent),
        ("text[]", "ARRAY[:result::text]".to_owned()),
        ("text[]", nothing.clone()),
        ("text[]", nothing),
        ("text[]", "ARRAY[:traceparent::text]".to_owned()),
        ("int4", ":max_attempts".to_owned()),
        ("float8", ":longest_backoff_seconds".to_owned()),
    ]
}

/// The service leaves the time to the database.
fn now() -> Argument {
    ("timestamptz", ":nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::rows::ASKERS;

    #[test]
    fn the_statements_of_this_checkout_have_the_parameters_known_here() {
        let scripts = Scripts::find(Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()).unwrap();
        for kind in Kind::ALL {
            let script = scripts.measured(kind, Batch { number: 1, group: kind.group() }).unwrap();
            assert!(script.starts_with(NEXT_ROW));
            assert!(script.contains(":nothing"), "{script}");
        }
        let script = scripts.prepared(Batch { number: 1, group: ASKERS }).unwrap();
        assert!(script.contains("generate_series(:i::int8 * 200"));
    }
}
