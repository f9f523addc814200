//! Many measurements of one thing.

use std::time::Duration;

/// Measurements in one unit.
#[derive(Debug, Clone, Default)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Adds one.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Adds a duration in milliseconds.
    pub fn add_ms(&mut self, duration: Duration) {
        self.add(duration.as_secs_f64() * 1e3);
    }

    /// Adds all of others.
    pub fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The one in the middle.
    pub fn median(&self) -> f64 {
        self.at(50)
    }

    /// The one that so many percent do not exceed (nearest rank); NaN where there is none.
    pub fn at(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_nearest() {
        let mut samples = Samples::default();
        (1..=20).rev().for_each(|value| samples.add(f64::from(value)));
        assert_eq!(
            (samples.at(0), samples.median(), samples.at(95), samples.at(100)),
            (1.0, 10.0, 19.0, 20.0)
        );
        assert!(Samples::default().median().is_nan());
    }
}
