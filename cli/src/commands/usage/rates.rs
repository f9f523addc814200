//! What usage costs: a table of rates, and the bill for the usage of each month. No input or output.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use berth_api::usage::UsageSums;
use serde::{Deserialize, Serialize};

/// The default rates.
const BUILT_IN: &str = include_str!("rates.toml");
const BYTES_OF_A_GB: f64 = 1e9;

/// A table of rates.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rates {
    currency: String,
    memory: Rate,
    cpu: Rate,
    disk: Rate,
    egress: Vec<Egress>,
}

/// What one unit costs.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rate {
    price: f64,
    /// Units of each month that cost nothing.
    #[serde(default)]
    included: f64,
}

/// What one GB costs that is sent from some regions.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Egress {
    name: String,
    /// None: for all that no other names.
    #[serde(default)]
    regions: Vec<String>,
    price: f64,
    #[serde(default)]
    included: f64,
}

/// One line of a bill.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Item {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) used: f64,
    /// Of what was used, what costs nothing.
    pub(crate) included: f64,
    /// Of one unit beyond.
    pub(crate) rate: f64,
    pub(crate) price: f64,
}

/// What usage costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Bill {
    pub(crate) currency: String,
    pub(crate) items: Vec<Item>,
    pub(crate) total: f64,
}

impl Rates {
    /// The default rates.
    pub(crate) fn built_in() -> Result<Self> {
        Self::parse(BUILT_IN).context("the built-in rates")
    }

    /// Reads and checks a table.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let rates: Self = toml::from_str(text)?;
        let mut numbers: Vec<(&str, f64)> = Vec::new();
        for (name, rate) in [("memory", rates.memory), ("cpu", rates.cpu), ("disk", rates.disk)] {
            numbers.extend([(name, rate.price), (name, rate.included)]);
        }
        for egress in &rates.egress {
            numbers.extend([(egress.name.as_str(), egress.price), (egress.name.as_str(), egress.included)]);
        }
        for (name, number) in numbers {
            ensure!(number.is_finite() && number >= 0.0, "{name}: {number} is no price and no amount");
        }
        let others = rates.egress.iter().filter(|egress| egress.regions.is_empty()).count();
        ensure!(
            others == 1,
            "egress: exactly one must be without regions, for all others; there are {others}"
        );
        Ok(rates)
    }

    /// The bill for what was used in each month.
    pub(crate) fn bill(&self, months: &[UsageSums]) -> Bill {
        let (memory, cpu, disk) = (self.memory, self.cpu, self.disk);
        let mut items = vec![
            item("memory", "GiB-s", memory, months.iter().map(|month| month.memory_gib_seconds)),
            item("CPU", "vCPU-s", cpu, months.iter().map(|month| month.vcpu_seconds)),
            item("disk", "GB-s", disk, months.iter().map(|month| month.disk_gb_seconds)),
        ];
        for (index, egress) in self.egress.iter().enumerate() {
            let rate = Rate { price: egress.price, included: egress.included };
            let sent = months.iter().map(|month| self.sent(index, &month.sent_bytes_by_region));
            items.push(item(&format!("sent, {}", egress.name), "GB", rate, sent));
        }
        let total = items.iter().map(|item| item.price).sum();
        Bill { currency: self.currency.clone(), items, total }
    }

    /// GB that a rate is for.
    fn sent(&self, index: usize, by_region: &BTreeMap<String, u64>) -> f64 {
        let rate_of = |region: &String| {
            let named = self.egress.iter().position(|egress| egress.regions.contains(region));
            named.or_else(|| self.egress.iter().position(|egress| egress.regions.is_empty()))
        };
        let sent = by_region.iter().filter(|(region, _)| rate_of(region) == Some(index));
        sent.map(|(_, bytes)| *bytes as f64).sum::<f64>() / BYTES_OF_A_GB
    }
}

/// What one thing costs, of which so much was used in each month.
fn item(what: &str, unit: &'static str, rate: Rate, months: impl Iterator<Item = f64>) -> Item {
    let (mut used, mut included) = (0.0, 0.0);
    for month in months {
        used += month;
        included += month.min(rate.included);
    }
    let price = (used - included) * rate.price;
    Item { what: what.to_owned(), unit, used, included, rate: rate.price, price }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn month(hours: f64) -> UsageSums {
        let seconds = hours * 3600.0;
        let sent = BTreeMap::from([("weur".to_owned(), 1_500_000_000_000), ("local".to_owned(), 1)]);
        UsageSums {
            memory_gib_seconds: seconds,
            vcpu_seconds: seconds,
            disk_gb_seconds: seconds,
            sent_bytes_by_region: sent,
            ..UsageSums::default()
        }
    }

    #[test]
    fn what_is_included_is_included_in_each_month() {
        let bill = Rates::built_in().unwrap().bill(&[month(30.0), month(20.0)]);
        let near = |item: &Item, used: f64, included: f64, price: f64| {
            assert!((item.used - used).abs() < 1e-6 && (item.included - included).abs() < 1e-6, "{item:?}");
            assert!((item.price - price).abs() < 1e-9, "{item:?}");
        };
        // 25 GiB-hours and 375 minutes a month; 200 GB-hours are not reached.
        near(&bill.items[0], 50.0 * 3600.0, 45.0 * 3600.0, 5.0 * 3600.0 * 0.000_002_5);
        near(&bill.items[1], 50.0 * 3600.0, 45_000.0, (180_000.0 - 45_000.0) * 0.000_02);
        near(&bill.items[2], 50.0 * 3600.0, 50.0 * 3600.0, 0.0);
        near(&bill.items[3], 3_000.0, 2_000.0, 1_000.0 * 0.025);
        assert!(bill.items[5].used > 0.0, "a region that is not named is for the rate without regions");
        let sum: f64 = bill.items.iter().map(|item| item.price).sum();
        assert!((bill.total - sum).abs() < 1e-9);
    }

    #[test]
    fn rates_that_make_no_sense_are_refused() {
        assert!(Rates::parse(BUILT_IN).is_ok());
        for (was, is) in [
            ("price = 0.0000025", "price = -1.0"),
            ("price = 0.0000025", "price = nan"),
            ("[cpu]", "[cpus]"),
            ("name = \"everywhere else\"", "name = \"x\"\nregions = [\"y\"]"),
        ] {
            let text = BUILT_IN.replacen(was, is, 1);
            assert_ne!(text, BUILT_IN);
            assert!(Rates::parse(&text).is_err(), "{is}");
        }
    }
}
