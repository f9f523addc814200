//! The metrics page in the text format of Prometheus: families of series. Rendered for each request from current
//! values.

use std::fmt;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, prometheus_text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::cells::Histogram;

/// The format of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Suffix of the names of counters.
const TOTAL: &str = "_total";

/// Names and values of labels.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A metrics page.
#[derive(Debug, Default)]
pub struct Page(Vec<Family>);

/// The series of one name.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    series: Vec<(Vec<(&'static str, String)>, Value)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The value of a series.
#[derive(Debug, Clone)]
pub enum Value {
    /// A whole number.
    Whole(u64),
    /// Another number.
    Real(f64),
    /// Durations.
    Histogram(Box<Histogram>),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Whole(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Whole(number.into())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Whole(number as u64)
    }
}

impl From<bool> for Value {
    fn from(is_so: bool) -> Self {
        Self::Whole(is_so.into())
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Real(number)
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        Self::Real(duration.as_secs_f64())
    }
}

impl From<Histogram> for Value {
    fn from(histogram: Histogram) -> Self {
        Self::Histogram(Box::new(histogram))
    }
}

impl Page {
    /// Adds a counter; its name ends with `_total`.
    pub fn counter(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, Kind::Counter)
    }

    /// Adds a gauge.
    pub fn gauge(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, Kind::Gauge)
    }

    /// Adds a histogram of durations, in seconds.
    pub fn histogram(&mut self, name: &'static str, help: &'static str) -> &mut Family {
        self.family(name, help, Kind::Histogram)
    }

    fn family(&mut self, name: &'static str, help: &'static str, kind: Kind) -> &mut Family {
        self.0.push_mut(Family { name, help, kind, series: Vec::new() })
    }

    /// The page as text.
    pub fn text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        // Writing to a `String` does not fail.
        let _ = prometheus_text::encode(&mut text, &registry);
        text
    }
}

impl Family {
    /// The only series, which has no labels.
    pub fn is(&mut self, value: impl Into<Value>) {
        self.with(&[], value);
    }

    /// One of several series.
    pub fn with(&mut self, labels: Labels<'_>, value: impl Into<Value>) -> &mut Self {
        let labels = labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.series.push((labels, value.into()));
        self
    }
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, kind, series } in &self.0 {
            let (name, kind) = match kind {
                // The encoder appends the suffix again.
                Kind::Counter => (name.strip_suffix(TOTAL).unwrap_or(name), MetricType::Counter),
                Kind::Gauge => (*name, MetricType::Gauge),
                Kind::Histogram => (*name, MetricType::Histogram),
            };
            let mut family = encoder.encode_descriptor(name, help, None, kind)?;
            for (labels, value) in series {
                value.encode(kind, &mut family.encode_family(labels)?)?;
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, kind: MetricType, series: &mut MetricEncoder<'_>) -> fmt::Result {
        match (self, kind) {
            (Self::Whole(number), MetricType::Counter) => {
                series.encode_counter::<NoLabelSet, _, f64>(number, None)
            }
            (Self::Real(number), MetricType::Counter) => {
                series.encode_counter::<NoLabelSet, _, f64>(number, None)
            }
            (Self::Whole(number), _) => series.encode_gauge(number),
            (Self::Real(number), _) => series.encode_gauge(number),
            (Self::Histogram(h), _) => {
                series.encode_histogram::<NoLabelSet>(h.sum_s(), h.count(), &h.buckets(), None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::Durations;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.counter("x_requests_total", "Requests").with(&[("app", "a\"b\\c\nd")], 7_u64);
        page.gauge("x_ready", "Readiness").is(true);
        page.counter("x_none_total", "None yet");
        page.gauge("x_age_seconds", "Age").is(Duration::from_millis(1500));
        let expected = "# HELP x_requests_total Requests\n# TYPE x_requests_total counter\n\
                        x_requests_total{app=\"a\\\"b\\\\c\\nd\"} 7\n\
                        # HELP x_ready Readiness\n# TYPE x_ready gauge\nx_ready 1\n\
                        # HELP x_none_total None yet\n# TYPE x_none_total counter\n\
                        # HELP x_age_seconds Age\n# TYPE x_age_seconds gauge\nx_age_seconds 1.5\n";
        assert_eq!(page.text(), expected);
    }

    #[test]
    fn the_buckets_of_a_histogram_add_up() {
        let durations = Durations::default();
        durations.note(Duration::from_micros(1500));
        durations.note(Duration::from_secs(60));
        let mut page = Page::default();
        page.histogram("x_seconds", "Time").with(&[("app", "a")], durations.read());
        let text = page.text();
        for line in [
            "x_seconds_bucket{app=\"a\",le=\"0.001\"} 0",
            "x_seconds_bucket{app=\"a\",le=\"0.002\"} 1",
            "x_seconds_bucket{app=\"a\",le=\"30\"} 1",
            "x_seconds_bucket{app=\"a\",le=\"+Inf\"} 2",
            "x_seconds_sum{app=\"a\"} 60.0015",
            "x_seconds_count{app=\"a\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
        }
    }
}
