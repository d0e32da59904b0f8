//! What a run prints: tables for people, and JSON.

use crate::options::Options;
use serde_json::{Map, Value, json};

/// What a workload measured, by name.
pub type Figures = Vec<(&'static str, f64)>;

/// Medians of a workload.
pub struct Row {
    pub workload: String,
    pub ours: Figures,
    /// Those of the other build.
    pub against: Option<Figures>,
}

/// Returns the median.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

/// Returns the median of each figure.
pub fn medians(runs: &[Figures]) -> Figures {
    let names = runs[0].iter().enumerate();
    let median_of = |(place, &(name, _)): (usize, &(&'static str, f64))| {
        let mut values: Vec<f64> = runs.iter().map(|run| run[place].1).collect();
        (name, median(&mut values))
    };
    names.map(median_of).collect()
}

impl Row {
    /// Returns what this build has of each figure for one of the other build.
    fn ratios(&self) -> Option<Figures> {
        let pairs = self.ours.iter().zip(self.against.as_ref()?);
        Some(
            pairs
                .map(|(ours, theirs)| (ours.0, ours.1 / theirs.1))
                .collect(),
        )
    }

    /// Prints the row, after the head of a table if the row before has other figures.
    pub fn print(&self, before: Option<&Self>) {
        let names = |row: &Self| -> Vec<&str> { row.ours.iter().map(|it| it.0).collect() };
        if before.is_none_or(|before| names(before) != names(self)) {
            println!("\n| workload | {} |", names(self).join(" | "));
            println!("| --- |{}", " ---: |".repeat(self.ours.len()));
        }
        let line = |title: &str, figures: &Figures| {
            let values: Vec<String> = figures.iter().map(|it| short(it.1)).collect();
            println!("| {title} | {} |", values.join(" | "));
        };
        line(&self.workload, &self.ours);
        if let (Some(against), Some(ratios)) = (&self.against, self.ratios()) {
            line("against", against);
            line("ratio", &ratios);
        }
    }

    fn json(&self) -> Value {
        let object = |figures: &Figures| -> Value {
            let entries = figures
                .iter()
                .map(|&(name, value)| (name.to_owned(), json!(value)));
            Value::Object(entries.collect::<Map<String, Value>>())
        };
        let mut row = json!({"workload": self.workload, "figures": object(&self.ours)});
        if let (Some(against), Some(ratios)) = (&self.against, self.ratios()) {
            row["against"] = object(against);
            row["ratio"] = object(&ratios);
        }
        row
    }
}

/// Returns all rows as JSON, with what they depend on.
pub fn json(rows: &[Row], options: &Options) -> Value {
    json!({
        "seconds": options.time.as_secs(),
        "runs": options.runs,
        "threads": options.threads,
        "pinned": options.is_pinned,
        "workloads": rows.iter().map(Row::json).collect::<Vec<Value>>(),
    })
}

/// Writes a figure with three digits, or all before the point.
fn short(value: f64) -> String {
    let digits = match value.abs() {
        0.0..1.0 => 3,
        1.0..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    format!("{value:.digits$}")
}
