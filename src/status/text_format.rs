//! Prometheus' text format (version 0.0.4), as `promtool check metrics` wants it.

use std::fmt::{self, Display, Write};

/// The type of a metric family.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        })
    }
}

/// Labels of a sample: pairs of a name and an escaped value, separated by commas.
#[derive(Clone, Default)]
pub(super) struct Labels(String);

impl Labels {
    /// Returns these labels and another one.
    pub(super) fn with(&self, name: &str, value: impl Display) -> Self {
        let mut labels = self.0.clone();
        if !labels.is_empty() {
            labels.push(',');
        }
        let value = value.to_string();
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let written = write!(labels, "{name}=\"{value}\"");
        written.expect("writing to a String cannot fail");
        Self(labels)
    }
}

/// A text of metric families.
#[derive(Default)]
pub(super) struct MetricsText(String);

impl MetricsText {
    /// Begins a family. Its samples must follow before the next one.
    pub(super) fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
        Family { text: self, name }
    }

    /// Writes a family that has one sample, without labels.
    pub(super) fn single(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &str,
        value: impl Display,
    ) {
        self.family(name, kind, help)
            .sample(&Labels::default(), value);
    }

    /// Returns the text.
    pub(super) fn into_string(self) -> String {
        self.0
    }

    fn line(&mut self, line: fmt::Arguments<'_>) {
        let written = writeln!(self.0, "{line}");
        written.expect("writing to a String cannot fail");
    }
}

/// A metric family that is being written.
pub(super) struct Family<'a> {
    text: &'a mut MetricsText,
    name: &'static str,
}

impl Family<'_> {
    /// Writes a sample.
    pub(super) fn sample(&mut self, labels: &Labels, value: impl Display) {
        self.sample_of("", labels, value);
    }

    /// Writes a sample of a part of the family: `_bucket`, `_sum` or `_count`.
    pub(super) fn sample_of(&mut self, part: &str, labels: &Labels, value: impl Display) {
        let (name, Labels(labels)) = (self.name, labels);
        if labels.is_empty() {
            self.text.line(format_args!("{name}{part} {value}"));
        } else {
            self.text
                .line(format_args!("{name}{part}{{{labels}}} {value}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_has_its_help_its_type_and_its_samples() {
        let mut text = MetricsText::default();
        text.single("a_bytes", Kind::Gauge, "Bytes of a.", 7);
        let mut family = text.family("b_total", Kind::Counter, "Number of b.");
        let labels = Labels::default().with("x", 1);
        family.sample(&labels, 2);
        family.sample(&labels.with("y", "a \"b\"\\\n"), 0.5);
        let expected = "# HELP a_bytes Bytes of a.\n# TYPE a_bytes gauge\na_bytes 7\n\
            # HELP b_total Number of b.\n# TYPE b_total counter\nb_total{x=\"1\"} 2\n\
            b_total{x=\"1\",y=\"a \\\"b\\\"\\\\\\n\"} 0.5\n";
        assert_eq!(text.into_string(), expected);
    }
}
