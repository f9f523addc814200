//! How many objects that have never run the requests of clients may start: one bucket for each client address, class and
//! app (the generic cell rate algorithm, whose buckets are one number each).
//!
//! The table of buckets is bounded. A bucket that is full again says nothing and may go; as long as none is, addresses
//! without a bucket share one, so that a flood of addresses neither grows the table nor resets anybody's count.
//!
//! Does not know which objects are new.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use berth_common::connections::client_network;
use berth_common::ids::{AppName, ClassName, ObjectKey};
use berth_common::spec::{Rate, StartRates};

/// Most buckets: a hundred bytes each, and more clients than one edge has that name new objects within two minutes.
const MAX_BUCKETS: usize = 65_536;
const MINUTE_US: u64 = 60_000_000;

/// Who asks for an object, and the rates that its app sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// None where limits by address do not apply: processes of this machine.
    pub(crate) address: Option<IpAddr>,
    pub(crate) rates: StartRates,
}

/// A new object may not be started now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany {
    /// Whose limit it is, in words.
    pub(crate) whose: &'static str,
    pub(crate) retry: Duration,
}

/// The buckets of an edge.
#[derive(Debug)]
pub(crate) struct StartLimits {
    began: Instant,
    buckets: Mutex<Buckets>,
}

/// Whose starts a bucket counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Whose {
    Address(AppName, IpAddr),
    /// All addresses that have no bucket because there are too many.
    Others(AppName),
    Class(AppName, ClassName),
    App(AppName),
}

#[derive(Debug, Default)]
struct Buckets {
    /// When each bucket will be full again, in microseconds. One that is full is the same as none.
    full_us: HashMap<Whose, u64>,
    /// The same, the earliest first.
    by_time: BTreeSet<(u64, Whose)>,
}

impl Default for StartLimits {
    fn default() -> Self {
        Self { began: Instant::now(), buckets: Mutex::default() }
    }
}

impl StartLimits {
    /// Counts the start of a new object against every limit that applies, or against none if one of them is reached.
    pub(crate) fn admit(&self, asker: &Asker, key: &ObjectKey) -> Result<(), TooMany> {
        let now_us = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.buckets().admit(asker, key, now_us)
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buckets {
    fn admit(&mut self, asker: &Asker, key: &ObjectKey, now_us: u64) -> Result<(), TooMany> {
        let StartRates { per_address, per_class, per_app } = asker.rates;
        let address = asker.address.map(client_network).zip(per_address);
        let address = address.map(|(address, rate)| (self.of_address(&key.app, address, now_us), rate));
        let class = per_class.map(|rate| (Whose::Class(key.app.clone(), key.class.clone()), rate));
        let app = per_app.map(|rate| (Whose::App(key.app.clone()), rate));
        let mut taken = Vec::new();
        for (whose, rate) in address.into_iter().chain(class).chain(app) {
            let full_us = self.take(&whose, rate, now_us)?;
            taken.push((whose, full_us));
        }
        for (whose, full_us) in taken {
            self.set(whose, full_us);
        }
        Ok(())
    }

    /// When the bucket will be full again once one more is taken from it.
    fn take(&self, whose: &Whose, rate: Rate, now_us: u64) -> Result<u64, TooMany> {
        let one_us = MINUTE_US / u64::from(rate.per_minute.max(1));
        let all_us = one_us * u64::from(rate.burst.max(1));
        let full_us = self.full_us.get(whose).copied().unwrap_or(0).max(now_us) + one_us;
        match full_us.checked_sub(now_us + all_us) {
            None | Some(0) => Ok(full_us),
            Some(early_us) => Err(TooMany { whose: whose.words(), retry: Duration::from_micros(early_us) }),
        }
    }

    fn set(&mut self, whose: Whose, full_us: u64) {
        if let Some(before_us) = self.full_us.insert(whose.clone(), full_us) {
            self.by_time.remove(&(before_us, whose.clone()));
        }
        self.by_time.insert((full_us, whose));
    }

    /// The bucket of an address: its own, if there is one or room for one.
    fn of_address(&mut self, app: &AppName, address: IpAddr, now_us: u64) -> Whose {
        let own = Whose::Address(app.clone(), address);
        if self.full_us.len() < MAX_BUCKETS || self.full_us.contains_key(&own) || self.drop_full(now_us) {
            return own;
        }
        Whose::Others(app.clone())
    }

    /// Drops the buckets that are full again; false if there was none.
    fn drop_full(&mut self, now_us: u64) -> bool {
        let before = self.full_us.len();
        while self.by_time.first().is_some_and(|(full_us, _)| *full_us <= now_us) {
            if let Some((_, whose)) = self.by_time.pop_first() {
                self.full_us.remove(&whose);
            }
        }
        self.full_us.len() < before
    }
}

impl Whose {
    fn words(&self) -> &'static str {
        match self {
            Self::Address(..) => "one client address",
            Self::Others(_) => "all other client addresses together",
            Self::Class(..) => "the class",
            Self::App(_) => "the app",
        }
    }
}

#[cfg(test)]
mod tests {
    use berth_common::ids::ObjectName;

    use super::*;

    const SECOND_US: u64 = 1_000_000;

    fn key(app: &str, class: &str) -> ObjectKey {
        let name = ObjectName::new("x").unwrap();
        ObjectKey { app: app.parse().unwrap(), class: class.parse().unwrap(), name }
    }

    fn rate(per_minute: u32, burst: u32) -> Option<Rate> {
        Some(Rate { per_minute, burst })
    }

    fn asker(address: &str) -> Asker {
        let rates = StartRates { per_address: rate(60, 3), per_class: None, per_app: None };
        Asker { address: Some(address.parse().unwrap()), rates }
    }

    #[test]
    fn an_address_has_its_burst_and_then_its_rate() {
        let (mut buckets, key) = (Buckets::default(), key("a", "C"));
        let mut ask = |address: &str, now_us| buckets.admit(&asker(address), &key, now_us);
        for _ in 0..3 {
            ask("192.0.2.1", 0).unwrap();
        }
        let refused = ask("192.0.2.1", 0).unwrap_err();
        assert_eq!(refused, TooMany { whose: "one client address", retry: Duration::from_secs(1) });
        assert_eq!(ask("192.0.2.1", SECOND_US / 4).unwrap_err().retry, Duration::from_millis(750));
        ask("192.0.2.2", 0).unwrap();
        ask("192.0.2.1", SECOND_US).unwrap();
        ask("192.0.2.1", SECOND_US).unwrap_err();
        for _ in 0..3 {
            ask("192.0.2.1", 60 * SECOND_US).unwrap();
        }
        ask("192.0.2.1", 60 * SECOND_US).unwrap_err();
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_apps_count_apart() {
        let mut buckets = Buckets::default();
        for n in 0..3 {
            buckets.admit(&asker(&format!("2001:db8::{n}")), &key("a", "C"), 0).unwrap();
        }
        buckets.admit(&asker("2001:db8::ffff:1"), &key("a", "C"), 0).unwrap_err();
        buckets.admit(&asker("2001:db8:0:1::1"), &key("a", "C"), 0).unwrap();
        buckets.admit(&asker("2001:db8::1"), &key("b", "C"), 0).unwrap();
    }

    #[test]
    fn what_one_limit_refuses_counts_against_no_other() {
        let mut buckets = Buckets::default();
        let rates = StartRates { per_address: rate(60, 5), per_class: rate(60, 2), per_app: rate(60, 3) };
        let mut ask = |class: &str, address: Option<&str>| {
            let address = address.map(|text| text.parse().unwrap());
            buckets.admit(&Asker { address, rates }, &key("a", class), 0).map_err(|error| error.whose)
        };
        assert_eq!(ask("C", Some("192.0.2.1")), Ok(()));
        assert_eq!(ask("C", None), Ok(()));
        assert_eq!(ask("C", Some("192.0.2.1")), Err("the class"));
        assert_eq!(ask("D", None), Ok(()));
        for _ in 0..9 {
            assert_eq!(ask("D", Some("192.0.2.1")), Err("the app"));
        }
        let own = Whose::Address("a".parse().unwrap(), "192.0.2.1".parse().unwrap());
        assert_eq!(buckets.full_us[&own], SECOND_US);
    }

    #[test]
    fn without_rates_nothing_is_kept() {
        let mut buckets = Buckets::default();
        let rates = StartRates { per_address: None, per_class: None, per_app: None };
        let asker = Asker { address: Some([192, 0, 2, 1].into()), rates };
        (0..1000).for_each(|_| buckets.admit(&asker, &key("a", "C"), 0).unwrap());
        assert!(buckets.full_us.is_empty() && buckets.by_time.is_empty());
    }

    #[test]
    fn a_flood_of_addresses_neither_grows_the_table_nor_resets_a_count() {
        let (mut buckets, key) = (Buckets::default(), key("a", "C"));
        for _ in 0..3 {
            buckets.admit(&asker("192.0.2.1"), &key, 0).unwrap();
        }
        let mut refused = 0;
        for n in 0..u32::try_from(MAX_BUCKETS).unwrap() + 1000 {
            let address = IpAddr::V4((0x0a00_0000 + n).into());
            let asker = Asker { address: Some(address), ..asker("192.0.2.1") };
            refused += usize::from(buckets.admit(&asker, &key, 1).is_err());
        }
        // Those without a bucket share one of three, and the last three of the first addresses have theirs.
        assert_eq!(refused, 1000 + 1 - 3);
        assert_eq!((buckets.full_us.len(), buckets.by_time.len()), (MAX_BUCKETS + 1, MAX_BUCKETS + 1));
        buckets.admit(&asker("192.0.2.1"), &key, 2).unwrap_err();
        // Once buckets are full again, they make room.
        buckets.admit(&asker("198.51.100.1"), &key, 2 * SECOND_US).unwrap();
        assert!(buckets.full_us.len() < 10, "{}", buckets.full_us.len());
        buckets.admit(&asker("192.0.2.1"), &key, 2 * SECOND_US).unwrap();
    }
}
