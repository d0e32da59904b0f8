//! The time that messages take.

use std::time::{Duration, Instant};

/// The time since the start of a run, as messages have it.
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the time in nanoseconds.
    pub fn now(&self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}

/// Distribution of times, in buckets that are at most 1/32 wider than the time.
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
}

/// Buckets for each power of two, as a power of two.
const PRECISION: u32 = 5;

impl Histogram {
    pub fn new() -> Self {
        Self {
            buckets: vec![0; 64 << PRECISION],
            count: 0,
        }
    }

    /// Counts a time in nanoseconds.
    pub fn record(&mut self, time: u64) {
        let power = (time | 1 << PRECISION).ilog2();
        let shift = power - PRECISION;
        let index = (u64::from(shift) << PRECISION) + (time >> shift);
        self.buckets[index as usize] += 1;
        self.count += 1;
    }

    /// Returns the time below which this share of the times is, in milliseconds.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut left = (self.count as f64 * share) as u64;
        for (index, &count) in self.buckets.iter().enumerate() {
            if left < count {
                let shift = (index >> PRECISION).saturating_sub(1);
                let rest = index - (shift << PRECISION);
                return Duration::from_nanos((rest as u64) << shift).as_secs_f64() * 1e3;
            }
            left -= count;
        }
        0.0
    }
}
