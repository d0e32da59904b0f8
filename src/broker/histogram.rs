//! Counts of durations by size, as Prometheus' histograms have them.

use super::count::Count;
use std::time::Duration;

/// A histogram that one task writes and others read.
pub(crate) struct Histogram {
    /// The upper limits of the buckets, in nanoseconds and ascending. Longer durations have a bucket of their own.
    limits: &'static [u64],
    counts: Box<[Count]>,
    /// Sum of all durations, in nanoseconds; 64 bits are 584 years.
    sum: Count,
}

impl Histogram {
    pub(super) fn new(limits: &'static [u64]) -> Self {
        let counts = std::iter::repeat_with(Count::default);
        Self {
            limits,
            counts: counts.take(limits.len() + 1).collect(),
            sum: Count::default(),
        }
    }

    /// Counts a duration.
    pub(super) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let shorter = self.limits.iter().take_while(|limit| nanos > **limit);
        if let Some(count) = self.counts.get(shorter.count()) {
            count.add(1);
        }
        self.sum.add(nanos);
    }

    /// Returns the upper limit of each bucket in seconds, with the number of durations up to it. The last has no limit,
    /// so its number is that of all.
    pub(crate) fn buckets(&self) -> impl Iterator<Item = (Option<f64>, u64)> {
        let limits = self.limits.iter().map(|&limit| Some(seconds(limit)));
        let mut sum = 0;
        limits
            .chain([None])
            .zip(&self.counts)
            .map(move |(limit, count)| {
                sum += count.get();
                (limit, sum)
            })
    }

    /// Returns the sum of all durations in seconds.
    pub(crate) fn sum(&self) -> f64 {
        seconds(self.sum.get())
    }
}

fn seconds(nanos: u64) -> f64 {
    nanos as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_counts_the_durations_up_to_its_limit_and_the_last_all() {
        let histogram = Histogram::new(&[1_000_000, 10_000_000]);
        for micros in [0, 1000, 1001, 10_000, 10_001, 5_000_000] {
            histogram.record(Duration::from_micros(micros));
        }
        let buckets: Vec<_> = histogram.buckets().collect();
        assert_eq!(buckets, [(Some(0.001), 2), (Some(0.01), 4), (None, 6)]);
        assert!((histogram.sum() - 5.022_002).abs() < 1e-9);
    }
}
