//! The text of metrics: families of samples in the format of Prometheus, or in OpenMetrics. Pure.

use std::fmt::{Display, Write};

use serde::{Deserialize, Serialize};

/// A format of metrics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The text format of Prometheus, version 0.0.4
    #[default]
    Prometheus,
    /// OpenMetrics, version 1.0.0
    #[value(name = "openmetrics")]
    OpenMetrics,
}

impl Format {
    /// The media type of a text in this format.
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that a reader likes best, by its `Accept` (RFC 9110, 12.5.1): OpenMetrics only if it is named and nothing
    /// else is preferred to it.
    pub(super) fn accepted(accept: &str) -> Self {
        let (mut plain, mut open) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let (name, parameters) = (parts.next().unwrap_or_default(), parts);
            let (quality, version) = quality_and_version(parameters);
            match name.to_ascii_lowercase().as_str() {
                "application/openmetrics-text" if matches!(version, None | Some("1.0.0")) => open = quality.max(open),
                "text/plain" | "text/*" | "*/*" => plain = quality.max(plain),
                _ => {}
            }
        }
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }
}

fn quality_and_version<'a>(parameters: impl Iterator<Item = &'a str>) -> (f64, Option<&'a str>) {
    let (mut quality, mut version) = (1.0, None);
    for (name, value) in parameters.filter_map(|parameter| parameter.split_once('=')) {
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => quality = value.trim().parse().unwrap_or(0.0),
            "version" => version = Some(value.trim().trim_matches('"')),
            _ => {}
        }
    }
    (quality, version)
}

/// What the samples of a family are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Only rises. Its name ends with `_total`.
    Counter,
    Gauge,
    /// Always 1: what is told is in the labels. Its name ends with `_info`.
    Info,
    Histogram,
}

/// Something that samples are told of, with the labels that all of them bear.
#[derive(Debug)]
pub(super) struct Subject<T> {
    labels: Labels,
    of: T,
}

impl<T> Subject<T> {
    pub(super) fn new(of: T, labels: Labels) -> Self {
        Self { labels, of }
    }
}

impl<'a, T> Subject<&'a T> {
    /// Each of `all`, with its labels.
    pub(super) fn each(all: &'a [T], labels: impl Fn(&T) -> Labels) -> Vec<Self> {
        all.iter().map(|of| Self::new(of, labels(of))).collect()
    }
}

/// Labels, as they are written.
#[derive(Debug, Default)]
pub(super) struct Labels(String);

impl Labels {
    /// These labels and another one.
    pub(super) fn and(mut self, name: &str, value: impl Display) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0 += name;
        self.0 += "=\"";
        for character in value.to_string().chars() {
            match character {
                '\\' => self.0 += "\\\\",
                '"' => self.0 += "\\\"",
                '\n' => self.0 += "\\n",
                other => self.0.push(other),
            }
        }
        self.0.push('"');
        self
    }
}

/// A text of metrics that is being written.
#[derive(Debug)]
pub(super) struct Text {
    format: Format,
    written: String,
}

impl Text {
    pub(super) fn new(format: Format) -> Self {
        Self { format, written: String::new() }
    }

    /// A counter that each subject has one of.
    pub(super) fn counter<T, V: Display>(
        &mut self,
        name: &'static str,
        help: &str,
        subjects: &[Subject<T>],
        value: impl Fn(&T) -> V,
    ) {
        self.family(Kind::Counter, name, help, subjects, |of, samples| samples.one(value(of)));
    }

    /// A gauge that each subject has one of.
    pub(super) fn gauge<T, V: Display>(
        &mut self,
        name: &'static str,
        help: &str,
        subjects: &[Subject<T>],
        value: impl Fn(&T) -> V,
    ) {
        self.family(Kind::Gauge, name, help, subjects, |of, samples| samples.one(value(of)));
    }

    /// A family, with what `write` tells of each subject. Without samples there is nothing of it.
    pub(super) fn family<T>(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &str,
        subjects: &[Subject<T>],
        write: impl Fn(&T, &mut Samples<'_>),
    ) {
        let start = self.written.len();
        self.head(kind, name, help);
        let head_end = self.written.len();
        for subject in subjects {
            write(&subject.of, &mut Samples { written: &mut self.written, name, labels: &subject.labels.0 });
        }
        if self.written.len() == head_end {
            self.written.truncate(start);
        }
    }

    /// In OpenMetrics a family's name goes without the suffix of its samples' names.
    fn head(&mut self, kind: Kind, name: &str, help: &str) {
        let (word, family) = match (self.format, kind) {
            (Format::Prometheus, Kind::Counter) => ("counter", name),
            (Format::Prometheus, Kind::Gauge | Kind::Info) => ("gauge", name),
            (Format::OpenMetrics, Kind::Counter) => ("counter", name.trim_end_matches("_total")),
            (Format::OpenMetrics, Kind::Gauge) => ("gauge", name),
            (Format::OpenMetrics, Kind::Info) => ("info", name.trim_end_matches("_info")),
            (_, Kind::Histogram) => ("histogram", name),
        };
        self.push(format_args!("# TYPE {family} {word}\n"));
        let unit = ["seconds", "bytes", "ratio"].into_iter().find(|unit| family.ends_with(unit));
        if let (Format::OpenMetrics, Some(unit)) = (self.format, unit) {
            self.push(format_args!("# UNIT {family} {unit}\n"));
        }
        self.push(format_args!("# HELP {family} {help}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        // Writing to a string can't fail.
        let _ = self.written.write_fmt(text);
    }

    /// The whole text.
    pub(super) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.written += "# EOF\n";
        }
        self.written
    }
}

/// Where the samples of one family and one subject are written.
#[derive(Debug)]
pub(super) struct Samples<'a> {
    written: &'a mut String,
    name: &'static str,
    labels: &'a str,
}

impl Samples<'_> {
    /// The only sample.
    pub(super) fn one(&mut self, value: impl Display) {
        self.line("", None, value);
    }

    /// A sample with another label, whose value needs no escapes.
    pub(super) fn labelled(&mut self, label: &str, of: impl Display, value: impl Display) {
        self.line("", Some((label, &of)), value);
    }

    /// A sample for each of the states, with 1 for the present one.
    pub(super) fn states(&mut self, label: &str, all: &[&str], present: &str) {
        for state in all {
            self.labelled(label, state, u8::from(*state == present));
        }
    }

    /// That there is something of which `labels` tell.
    pub(super) fn info(&mut self, labels: &Labels) {
        let all = [self.labels, &labels.0].into_iter().filter(|labels| !labels.is_empty());
        let line = format_args!("{}{{{}}} 1\n", self.name, all.collect::<Vec<_>>().join(",")).to_string();
        *self.written += &line;
    }

    /// A histogram: how often it was measured, the sum, and how often it was at most so much, in order.
    pub(super) fn histogram(&mut self, count: u64, sum: f64, cumulative: impl Iterator<Item = (f64, u64)>) {
        for (bound, count) in cumulative {
            self.line("_bucket", Some(("le", &bound)), count);
        }
        self.line("_bucket", Some(("le", &"+Inf")), count);
        self.line("_sum", None, sum);
        self.line("_count", None, count);
    }

    fn line(&mut self, suffix: &str, label: Option<(&str, &dyn Display)>, value: impl Display) {
        let (name, labels) = (self.name, self.labels);
        let comma = if labels.is_empty() { "" } else { "," };
        // Writing to a string can't fail.
        let _ = match label {
            Some((label, of)) => writeln!(self.written, "{name}{suffix}{{{labels}{comma}{label}=\"{of}\"}} {value}"),
            None if labels.is_empty() => writeln!(self.written, "{name}{suffix} {value}"),
            None => writeln!(self.written, "{name}{suffix}{{{labels}}} {value}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(format: Format) -> String {
        let mut text = Text::new(format);
        let of = |name: &str, value| Subject::new(value, Labels::default().and("name", name));
        let subjects = [of("a", 1), of("b", 2)];
        text.counter("lb_bytes_total", "Bytes.", &subjects, |value| value * 10);
        text.gauge("lb_open", "Open.", &[Subject::new(7, Labels::default())], |value| *value);
        text.family(Kind::Gauge, "lb_never", "Never told.", &subjects, |_, _| {});
        text.family(
            Kind::Info,
            "lb_build_info",
            "What runs.",
            &[Subject::new((), Labels::default())],
            |(), samples| {
                samples.info(&Labels::default().and("version", "1"));
            },
        );
        text.family(Kind::Gauge, "lb_health", "Health.", &subjects[..1], |_, samples| {
            samples.states("state", &["up", "down"], "down");
        });
        text.family(Kind::Histogram, "lb_wait_seconds", "Waited.", &subjects[..1], |_, samples| {
            samples.histogram(3, 2.5, [(0.000064, 1), (1.048576, 2)].into_iter());
        });
        text.finish()
    }

    #[test]
    fn the_format_of_prometheus_names_families_as_their_samples() {
        let expected = "\
# TYPE lb_bytes_total counter
# HELP lb_bytes_total Bytes.
lb_bytes_total{name=\"a\"} 10
lb_bytes_total{name=\"b\"} 20
# TYPE lb_open gauge
# HELP lb_open Open.
lb_open 7
# TYPE lb_build_info gauge
# HELP lb_build_info What runs.
lb_build_info{version=\"1\"} 1
# TYPE lb_health gauge
# HELP lb_health Health.
lb_health{name=\"a\",state=\"up\"} 0
lb_health{name=\"a\",state=\"down\"} 1
# TYPE lb_wait_seconds histogram
# HELP lb_wait_seconds Waited.
lb_wait_seconds_bucket{name=\"a\",le=\"0.000064\"} 1
lb_wait_seconds_bucket{name=\"a\",le=\"1.048576\"} 2
lb_wait_seconds_bucket{name=\"a\",le=\"+Inf\"} 3
lb_wait_seconds_sum{name=\"a\"} 2.5
lb_wait_seconds_count{name=\"a\"} 3
";
        assert_eq!(write(Format::Prometheus), expected);
    }

    #[test]
    fn openmetrics_has_units_and_an_end_and_families_without_suffixes() {
        let text = write(Format::OpenMetrics);
        let heads: Vec<_> = text.lines().filter(|line| line.starts_with('#')).collect();
        let expected = [
            "# TYPE lb_bytes counter",
            "# UNIT lb_bytes bytes",
            "# HELP lb_bytes Bytes.",
            "# TYPE lb_open gauge",
            "# HELP lb_open Open.",
            "# TYPE lb_build info",
            "# HELP lb_build What runs.",
            "# TYPE lb_health gauge",
            "# HELP lb_health Health.",
            "# TYPE lb_wait_seconds histogram",
            "# UNIT lb_wait_seconds seconds",
            "# HELP lb_wait_seconds Waited.",
            "# EOF",
        ];
        assert_eq!(heads, expected);
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        let (open, plain): (Vec<_>, Vec<_>) = (samples(&text), samples(&write(Format::Prometheus)));
        assert_eq!(open, plain);
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn what_would_end_a_label_is_escaped() {
        let labels = Labels::default().and("subject", "CN=\"a\\b\"\nü").and("other", 1);
        assert_eq!(labels.0, "subject=\"CN=\\\"a\\\\b\\\"\\nü\",other=\"1\"");
    }

    #[test]
    fn the_reader_chooses_the_format() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5, \
            text/plain;version=0.0.4;q=0.4,*/*;q=0.3";
        let cases = [
            (prometheus_2, Format::OpenMetrics),
            (prometheus_3, Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.3", Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text;version=2.0.0,*/*", Format::Prometheus),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;q=0.2,text/plain", Format::Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Prometheus),
            ("", Format::Prometheus),
            (";;=,q=,application/openmetrics-text;q=x", Format::Prometheus),
        ];
        for (accept, expected) in cases {
            assert_eq!(Format::accepted(accept), expected, "{accept}");
        }
    }
}
