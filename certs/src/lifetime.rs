//! How long a certificate holds, and when somebody has to be told that it ends.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;

use crate::identity::{self, IdentityError};

/// The longest time before its end in which a certificate is warned of: a month to renew it.
const LONGEST_WARNING: Duration = Duration::from_secs(30 * 24 * 3600);
/// A certificate is warned of in the last of so many parts of its life, so that short ones are not always.
const WARNED_PART: u32 = 4;

/// The life of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// Not valid before this.
    pub from: SystemTime,
    /// Not valid after this.
    pub until: SystemTime,
}

impl Lifetime {
    /// What a certificate says.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let validity = identity::parse(certificate)?.validity().clone();
        let moment = |seconds: i64| {
            let since_1970 = Duration::from_secs(seconds.unsigned_abs());
            let moment = match seconds {
                0.. => SystemTime::UNIX_EPOCH.checked_add(since_1970),
                _ => SystemTime::UNIX_EPOCH.checked_sub(since_1970),
            };
            moment.ok_or(IdentityError::Malformed)
        };
        Ok(Self {
            from: moment(validity.not_before.timestamp())?,
            until: moment(validity.not_after.timestamp())?,
        })
    }

    /// How much is left, nothing once it is over.
    pub fn left(&self, now: SystemTime) -> Duration {
        self.until.duration_since(now).unwrap_or_default()
    }

    /// Whether it has to be renewed soon: less than a quarter of its life is left, and at most 30 days.
    pub fn is_ending(&self, now: SystemTime) -> bool {
        let whole = self.until.duration_since(self.from).unwrap_or_default();
        self.left(now) < (whole / WARNED_PART).min(LONGEST_WARNING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn the_last_quarter_of_a_life_is_warned_of_and_at_most_a_month() {
        for (days, quiet, warned) in [(365, 31, 29), (40, 11, 9), (4, 2, 0), (3650, 40, 29)] {
            let until = SystemTime::UNIX_EPOCH + DAY * 10_000;
            let life = Lifetime { from: until - DAY * days, until };
            assert!(!life.is_ending(until - DAY * quiet), "{days} days, {quiet} left");
            assert!(life.is_ending(until - DAY * warned), "{days} days, {warned} left");
            assert!(life.is_ending(until + DAY) && life.left(until + DAY).is_zero());
        }
    }
}
