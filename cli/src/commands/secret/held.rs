//! What secrets belong to, apps and stores: their places in the admin API, and what is listed there.

use std::fmt;

use anyhow::Result;
use berth_api::secrets::{SecretList, SharedSecretList};
use berth_common::ids::{AppName, SecretName, StoreName};
use serde_json::Value;

/// An app, or a store of secrets that apps share.
#[derive(Debug, Clone)]
pub(crate) enum Holder {
    App(AppName),
    Store(StoreName),
}

/// A secret as it is listed.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: SecretName,
    pub(super) updated_ms: u64,
    pub(super) version: u64,
    pub(super) readable: bool,
    /// Classes of the app, or apps.
    used_by: Vec<String>,
}

impl Entry {
    /// What uses it, in one line.
    pub(super) fn users(&self) -> String {
        if self.used_by.is_empty() { "-".to_owned() } else { self.used_by.join(", ") }
    }
}

impl Holder {
    /// Where its secrets are listed.
    pub(super) fn list(&self) -> String {
        match self {
            Self::App(app) => format!("/v1/apps/{app}/secrets"),
            Self::Store(store) => format!("/v1/secret-stores/{store}/secrets"),
        }
    }

    /// Where a secret of it is.
    pub(crate) fn path(&self, name: &SecretName) -> String {
        format!("{}/{name}", self.list())
    }

    /// `the app a`.
    pub(super) fn in_full(&self) -> String {
        match self {
            Self::App(app) => format!("the app {app}"),
            Self::Store(store) => format!("the store {store}"),
        }
    }

    /// What uses its secrets.
    pub(super) fn users(&self) -> &'static str {
        match self {
            Self::App(_) => "classes",
            Self::Store(_) => "apps",
        }
    }

    /// Reads a list of its secrets.
    pub(super) fn read(&self, answer: Value) -> Result<Vec<Entry>> {
        Ok(match self {
            Self::App(_) => {
                let list: SecretList = serde_json::from_value(answer)?;
                let entry = |of: berth_api::secrets::SecretEntry| Entry {
                    name: of.name,
                    updated_ms: of.updated_ms,
                    version: of.version,
                    readable: of.readable,
                    used_by: of.used_by.iter().map(ToString::to_string).collect(),
                };
                list.secrets.into_iter().map(entry).collect()
            }
            Self::Store(_) => {
                let list: SharedSecretList = serde_json::from_value(answer)?;
                let entry = |of: berth_api::secrets::SharedSecret| Entry {
                    name: of.name,
                    updated_ms: of.updated_ms,
                    version: of.version,
                    readable: of.readable,
                    used_by: of.used_by.iter().map(ToString::to_string).collect(),
                };
                list.secrets.into_iter().map(entry).collect()
            }
        })
    }
}

/// As what was done names it: an app by its name alone.
impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::App(app) => write!(f, "{app}"),
            Self::Store(_) => f.write_str(&self.in_full()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_and_stores_have_places_of_their_own() {
        let name = "KEY".parse().unwrap();
        let (app, store) = (Holder::App("a".parse().unwrap()), Holder::Store("a".parse().unwrap()));
        assert_eq!(app.path(&name), "/v1/apps/a/secrets/KEY");
        assert_eq!(store.path(&name), "/v1/secret-stores/a/secrets/KEY");
        assert_eq!([app.to_string(), store.to_string()], ["a", "the store a"]);
        let answer = serde_json::json!({"secrets": [{"name": "KEY", "created_ms": 1, "updated_ms": 2, "version": 3,
            "readable": true, "used_by": ["x", "y"]}]});
        for holder in [app, store] {
            let read = holder.read(answer.clone()).unwrap();
            assert_eq!((read.len(), read[0].users().as_str(), read[0].version), (1, "x, y", 3));
        }
    }
}
