//! The versions of one app: a limited number, one of them current. Pure: what is stored and routed follows from it.

use berth_common::ids::{AppName, Version};
use berth_common::spec::{AppSpec, OfApp};
use serde::{Deserialize, Serialize};

/// Versions that are kept of each app: enough to go back after a week of bad deployments.
pub const KEPT_VERSIONS: usize = 10;

/// One version of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppVersion {
    /// Its number, which no other version of the app has or had.
    pub version: Version,
    /// When it was deployed, in milliseconds since 1970.
    pub created_ms: u64,
    /// The specification that was deployed.
    pub spec: AppSpec,
}

/// The highest number that a version of an app had when the app was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVersion {
    /// The app.
    pub app: AppName,
    /// The number.
    pub last: Version,
}

/// An app as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppHistory {
    current: Version,
    /// The oldest first; never empty, and the current one is among them.
    versions: Vec<AppVersion>,
}

impl AppHistory {
    /// The history of an app with a first version.
    pub fn begin(spec: AppSpec, now_ms: u64) -> Self {
        Self::begin_after(Version::default(), spec, now_ms)
    }

    /// The same for an app that had versions up to this number before it was removed.
    pub fn begin_after(last: Version, spec: AppSpec, now_ms: u64) -> Self {
        let version = Version(last.0 + 1);
        Self { current: version, versions: vec![AppVersion { version, created_ms: now_ms, spec }] }
    }

    /// Adds a version, which becomes current.
    #[must_use]
    pub fn deploy(&self, spec: AppSpec, now_ms: u64) -> Self {
        let version = Version(self.newest().0 + 1);
        let mut versions = self.versions.clone();
        versions.push(AppVersion { version, created_ms: now_ms, spec });
        versions.drain(..versions.len().saturating_sub(KEPT_VERSIONS));
        Self { current: version, versions }
    }

    /// Makes this version current; without a number, the newest that is older than the current one.
    pub fn roll_back(&self, to: Option<Version>) -> Option<Self> {
        let older = || self.versions.iter().map(|known| known.version).filter(|v| *v < self.current).max();
        let to = to.or_else(older)?;
        let known = self.versions.iter().any(|known| known.version == to);
        known.then(|| Self { current: to, versions: self.versions.clone() })
    }

    /// The highest number of a version.
    pub fn newest(&self) -> Version {
        self.versions.iter().map(|known| known.version).max().unwrap_or_default()
    }

    /// The version that requests are routed by.
    pub fn current(&self) -> &AppVersion {
        let current = self.versions.iter().find(|known| known.version == self.current);
        // Only a corrupted store has none; the newest is the best substitute.
        current.unwrap_or(&self.versions[self.versions.len() - 1])
    }

    /// All versions, the oldest first, each with whether it is the current one.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = (&AppVersion, bool)> {
        self.versions.iter().map(|known| (known, known.version == self.current))
    }

    /// The version with this number, if it is kept.
    pub fn get(&self, version: Version) -> Option<&AppVersion> {
        self.versions.iter().find(|known| known.version == version)
    }

    /// The specification of the current version, each class with its settings from the app.
    pub fn routed(&self) -> AppSpec {
        let AppVersion { version, spec, .. } = self.current();
        let mut spec = spec.clone();
        let of_app = OfApp { version: *version, limits: spec.limits, logs: spec.logs };
        spec.classes.values_mut().for_each(|class| class.of_app = of_app);
        spec
    }

    /// Whether the history is valid.
    pub fn is_valid(&self) -> bool {
        let name = self.versions.first().map(|first| &first.spec.name);
        self.get(self.current).is_some() && self.versions.iter().all(|v| Some(&v.spec.name) == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::app;

    /// The newest first.
    fn numbers(history: &AppHistory) -> Vec<u64> {
        let mut numbers: Vec<u64> = history.kept().map(|(known, _)| known.version.0).collect();
        numbers.reverse();
        numbers
    }

    #[test]
    fn the_last_ten_versions_are_kept_and_numbers_are_not_reused() {
        let mut history = AppHistory::begin(app("a", &[]), 0);
        for _ in 0..11 {
            history = history.deploy(app("a", &[]), 0);
        }
        assert_eq!(numbers(&history), (3..=12).rev().collect::<Vec<_>>());
        let back = history.roll_back(Some(Version(5))).unwrap();
        assert_eq!(numbers(&back.deploy(app("a", &[]), 0))[0], 13);
    }

    #[test]
    fn the_previous_or_any_kept_version_can_be_rolled_back_to() {
        let history = AppHistory::begin(app("a", &[]), 0);
        assert_eq!(history.roll_back(None), None);
        let third = history.deploy(app("a", &[]), 1).deploy(app("a", &[]), 2);
        let second = third.roll_back(None).unwrap();
        assert_eq!(second.current().version, Version(2));
        assert_eq!(second.roll_back(None).unwrap().current().version, Version(1));
        assert_eq!(second.roll_back(Some(Version(3))).unwrap().current().version, Version(3));
        assert_eq!(second.roll_back(Some(Version(4))), None);
    }

    #[test]
    fn numbers_go_on_where_a_removed_app_of_the_name_ended() {
        let history = AppHistory::begin(app("a", &[]), 0).deploy(app("a", &[]), 1);
        // Also after a rollback it is the newest that counts.
        let last = history.roll_back(None).unwrap().newest();
        assert_eq!(last, Version(2));
        assert_eq!(AppHistory::begin_after(last, app("a", &[]), 2).current().version, Version(3));
    }

    #[test]
    fn classes_know_their_version() {
        let history = AppHistory::begin(app("a", &[]), 0).deploy(app("a", &[]), 1);
        assert!(history.routed().classes.values().all(|class| class.of_app.version == Version(2)));
    }
}
