//! The text of a scrape (OpenMetrics 1.0).

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use relaytrace_store::Seen;

/// Media type of the text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// All series of one name.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    values: Values,
}

/// What its series are.
#[derive(Debug)]
pub(super) enum Values {
    Histograms(Vec<(Labels, Seen)>),
    Gauges(Vec<(Labels, f64)>),
    Counter(u64),
}

impl Family {
    pub(super) fn new(name: &'static str, help: &'static str, values: Values) -> Self {
        Self { name, help, values }
    }

    /// Name, labels and value of each, where they are gauges.
    pub(super) fn gauges(self) -> Vec<(&'static str, Labels, f64)> {
        match self.values {
            Values::Gauges(all) => all.into_iter().map(|(labels, value)| (self.name, labels, value)).collect(),
            Values::Histograms(_) | Values::Counter(_) => Vec::new(),
        }
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        // The encoder adds the unit to the name.
        let (name, unit) = match self.name.strip_suffix("_seconds") {
            Some(name) => (name, Some(&Unit::Seconds)),
            None => (self.name, None),
        };
        let kind = match self.values {
            Values::Histograms(_) => MetricType::Histogram,
            Values::Gauges(_) => MetricType::Gauge,
            Values::Counter(_) => MetricType::Counter,
        };
        let mut series = encoder.encode_descriptor(name, self.help, unit, kind)?;
        match &self.values {
            Values::Histograms(all) => all.iter().try_for_each(|(labels, Seen { buckets, count, sum })| {
                each(&mut series, labels, |one| one.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None))
            }),
            Values::Gauges(all) => {
                all.iter().try_for_each(|(labels, value)| each(&mut series, labels, |one| one.encode_gauge(value)))
            }
            Values::Counter(count) => series.encode_counter::<NoLabelSet, u64, u64>(count, None),
        }
    }
}

/// Encodes one series; without labels it has no braces either.
fn each(
    series: &mut MetricEncoder<'_>,
    labels: &Labels,
    encode: impl FnOnce(&mut MetricEncoder<'_>) -> fmt::Result,
) -> fmt::Result {
    if labels.is_empty() { encode(series) } else { encode(&mut series.encode_family(labels)?) }
}

#[derive(Debug)]
struct Families(Vec<Family>);

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// The whole text.
///
/// # Errors
/// None that a text in memory can have.
pub(super) fn text(families: Vec<Family>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Families(families)));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_is_openmetrics() {
        let seen = Seen { buckets: vec![(0.5, 2), (f64::INFINITY, 1)], count: 3, sum: 4.5 };
        let labels = vec![("route", "/v1/{id}".to_owned())];
        let families = vec![
            Family::new("relaytrace_x_seconds", "What it takes", Values::Histograms(vec![(labels, seen)])),
            Family::new("relaytrace_y", "How many", Values::Gauges(vec![(Labels::new(), 2.0)])),
            Family::new("relaytrace_z", "How often", Values::Counter(7)),
        ];
        let expected = "# HELP relaytrace_x_seconds What it takes\n\
            # TYPE relaytrace_x_seconds histogram\n\
            # UNIT relaytrace_x_seconds seconds\n\
            relaytrace_x_seconds_sum{route=\"/v1/{id}\"} 4.5\n\
            relaytrace_x_seconds_count{route=\"/v1/{id}\"} 3\n\
            relaytrace_x_seconds_bucket{le=\"0.5\",route=\"/v1/{id}\"} 2\n\
            relaytrace_x_seconds_bucket{le=\"+Inf\",route=\"/v1/{id}\"} 3\n\
            # HELP relaytrace_y How many\n\
            # TYPE relaytrace_y gauge\n\
            relaytrace_y 2.0\n\
            # HELP relaytrace_z How often\n\
            # TYPE relaytrace_z counter\n\
            relaytrace_z_total 7\n\
            # EOF\n";
        assert_eq!(text(families).expect("a text"), expected);
    }
}
