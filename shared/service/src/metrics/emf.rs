//! The same measures on AWS Lambda: lines of CloudWatch's embedded metric format on standard output, before the answer,
//! because nothing runs after it.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write as _;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::exposition::Labels;

/// Some values of one metric with the same labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) labels: Labels,
    /// 1 to 100.
    pub(super) values: Vec<f64>,
}

impl Sample {
    /// Its line. The labels are its one set of dimensions.
    fn line(self, namespace: &str, at: DateTime<Utc>) -> String {
        let unit = if self.name.ends_with("_seconds") { "Seconds" } else { "Count" };
        let dimensions: Vec<_> = self.labels.iter().map(|(name, _)| *name).collect();
        let mut members = Map::new();
        members.insert(
            "_aws".to_owned(),
            json!({
                "Timestamp": at.timestamp_millis(),
                "CloudWatchMetrics": [{
                    "Namespace": namespace,
                    "Dimensions": [dimensions],
                    "Metrics": [{"Name": self.name, "Unit": unit}],
                }],
            }),
        );
        members.extend(self.labels.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))));
        let value = match self.values.as_slice() {
            [value] => json!(value),
            values => json!(values),
        };
        members.insert(self.name.to_owned(), value);
        Value::Object(members).to_string()
    }
}

/// Writes a line for each.
pub(super) fn write(samples: Vec<Sample>, namespace: &str, at: DateTime<Utc>) {
    let lines: String = samples.into_iter().map(|sample| sample.line(namespace, at) + "\n").collect();
    // Whole, so that lines of calls that end together do not mix.
    let mut output = std::io::stdout().lock();
    drop(output.write_all(lines.as_bytes()).and_then(|()| output.flush()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &'static str, labels: Labels, values: &[f64]) -> Value {
        let at = DateTime::from_timestamp_millis(1_795_348_800_123).expect("a time");
        let sample = Sample { name, labels, values: values.to_vec() };
        serde_json::from_str(&sample.line("RelayTrace", at)).expect("JSON")
    }

    #[test]
    fn a_line_names_its_metric_its_unit_and_its_dimensions() {
        let labels = vec![("priority", "P1".to_owned()), ("cause", "operator".to_owned())];
        let expected = json!({
            "_aws": {
                "Timestamp": 1_795_348_800_123_i64,
                "CloudWatchMetrics": [{
                    "Namespace": "RelayTrace",
                    "Dimensions": [["priority", "cause"]],
                    "Metrics": [{"Name": "relaytrace_decision_seconds", "Unit": "Seconds"}],
                }],
            },
            "priority": "P1",
            "cause": "operator",
            "relaytrace_decision_seconds": [1.5, 2.0],
        });
        assert_eq!(line("relaytrace_decision_seconds", labels, &[1.5, 2.0]), expected);
        let plain = line("relaytrace_outbox_rows", Labels::new(), &[3.0]);
        assert_eq!(plain["relaytrace_outbox_rows"], 3.0);
        assert_eq!(plain["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([[]]));
        assert_eq!(plain["_aws"]["CloudWatchMetrics"][0]["Metrics"][0]["Unit"], "Count");
    }
}
