//! How far away a node is: round-trip times in bands, so that noise does not outweigh room.

/// Where the bands end, in microseconds. Beyond the last is the last band, also for a node that was not measured.
const ENDS_US: [u64; BANDS - 1] = [1_000, 5_000, 20_000, 80_000];
/// The longest round trip that is told from others: a second.
const LONGEST_US: u64 = 1_000_000;
/// How many bands there are.
pub(super) const BANDS: usize = 5;
/// Each measurement counts for one part in so many.
const SMOOTHING: u64 = 8;
/// By how much, in percent, the smoothed time has to be beyond a band's end before the band changes.
const BEYOND_PERCENT: u64 = 20;

/// The round-trip time to a node.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Distance {
    /// Smoothed, in microseconds, with the band that it is in.
    measured: Option<(u64, usize)>,
}

impl Distance {
    pub(super) fn band(self) -> usize {
        self.measured.map_or(BANDS - 1, |(_, band)| band)
    }

    /// A round trip took so long.
    pub(super) fn measure(&mut self, us: u64) {
        // Farther than that makes no difference, and a lost packet is soon forgotten.
        let us = us.min(LONGEST_US);
        self.measured = Some(match self.measured {
            None => (us, band_of(us)),
            Some((smoothed, band)) => {
                let smoothed = (smoothed * (SMOOTHING - 1) + us) / SMOOTHING;
                (smoothed, moved(smoothed, band))
            }
        });
    }
}

fn band_of(us: u64) -> usize {
    ENDS_US.iter().position(|end| us <= *end).unwrap_or(BANDS - 1)
}

/// The band of a time that was in this one.
fn moved(us: u64, band: usize) -> usize {
    let (farther, nearer) = (us * 100 / (100 + BEYOND_PERCENT), us * 100 / (100 - BEYOND_PERCENT));
    if band_of(farther) > band {
        band_of(farther)
    } else if band_of(nearer) < band {
        band_of(nearer)
    } else {
        band
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(distance: &mut Distance, us: u64) -> usize {
        (0..100).for_each(|_| distance.measure(us));
        distance.band()
    }

    #[test]
    fn a_node_that_was_not_measured_is_far_away() {
        assert_eq!(Distance::default().band(), BANDS - 1);
    }

    #[test]
    fn the_band_changes_only_well_beyond_its_end() {
        let mut distance = Distance::default();
        distance.measure(900);
        assert_eq!(distance.band(), 0);
        assert_eq!(settled(&mut distance, 1_100), 0, "noise");
        assert_eq!(settled(&mut distance, 1_300), 1);
        assert_eq!(settled(&mut distance, 900), 1, "noise");
        assert_eq!(settled(&mut distance, 700), 0);
        distance.measure(2_000);
        assert_eq!(distance.band(), 0, "one measurement is none");
        assert_eq!(settled(&mut distance, u64::MAX), BANDS - 1);
        assert_eq!(settled(&mut distance, 3_000), 1);
    }
}
