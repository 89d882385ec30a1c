//! The same measures on AWS Lambda: lines of CloudWatch's embedded metric format on standard output, before the answer,
//! because nothing runs after it.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::io::Write as _;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::exposition::Labels;

/// Values that a line may hold of a metric; what is beyond them CloudWatch does not read.
const MOST_VALUES: usize = 100;

/// Some values of one metric with the same labels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) name: &'static str,
    pub(super) labels: Labels,
    /// One at least.
    pub(super) values: Vec<f64>,
}

impl Sample {
    /// Its lines: as many as its values need.
    fn lines(&self, namespace: &str, at: DateTime<Utc>) -> String {
        self.values.chunks(MOST_VALUES).map(|values| self.line(values, namespace, at) + "\n").collect()
    }

    /// A line with these of its values. The labels are its one set of dimensions.
    fn line(&self, values: &[f64], namespace: &str, at: DateTime<Utc>) -> String {
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
        members.extend(self.labels.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.as_str()))));
        let value = match values {
            [value] => json!(value),
            values => json!(values),
        };
        members.insert(self.name.to_owned(), value);
        Value::Object(members).to_string()
    }
}

/// Writes the lines of each.
pub(super) fn write(samples: &[Sample], namespace: &str, at: DateTime<Utc>) {
    let lines: String = samples.iter().map(|sample| sample.lines(namespace, at)).collect();
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
        serde_json::from_str(&sample.lines("RelayTrace", at)).expect("JSON")
    }

    #[test]
    fn no_line_has_more_values_than_cloudwatch_reads_and_none_is_dropped() {
        let values: Vec<_> = (0..250).map(f64::from).collect();
        let sample = Sample { name: "relaytrace_delivery_seconds", labels: Labels::new(), values: values.clone() };
        let at = DateTime::from_timestamp_millis(1_795_348_800_123).expect("a time");
        let lines = sample.lines("RelayTrace", at);
        let of_lines: Vec<Vec<f64>> = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .map(|line| serde_json::from_value(line["relaytrace_delivery_seconds"].clone()).expect("values"))
            .collect();
        assert_eq!(of_lines.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 50]);
        assert_eq!(of_lines.concat(), values);
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
