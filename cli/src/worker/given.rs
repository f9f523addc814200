//! The secrets that a cluster of `berth dev` has of a project's files. Only what has changed is put, since whatever is put has programs
//! started anew; and what is in the files no more is deleted, also what an earlier start has put. What was put by hand stays.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use berth_common::ids::{AppName, SecretName};
use berth_common::secret::Secret;

use super::vars::Vars;
use crate::admin::Admin;

/// What the edge was given.
#[derive(Debug)]
pub(crate) struct Given {
    /// Holds the names, a line `APP/NAME` for each, and no values.
    file: PathBuf,
    /// With their values, as far as these are known: those of an earlier start are not.
    known: BTreeMap<(AppName, SecretName), Option<Secret>>,
}

impl Given {
    /// Goes on from an earlier start. What its file does not tell is not known.
    pub(crate) fn open(file: PathBuf) -> Self {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let read = |line: &str| {
            let (app, name) = line.split_once('/')?;
            Some(((app.parse().ok()?, name.parse().ok()?), None))
        };
        Self { known: text.lines().filter_map(read).collect(), file }
    }

    /// Has an app have these secrets.
    pub(super) async fn give(&mut self, admin: &Admin, app: &AppName, vars: &Vars) -> Result<()> {
        for name in self.gone(app, vars) {
            match admin.delete(&path(app, &name)).await {
                // Somebody else has deleted it.
                Err(error) if !error.is_missing() => Err(error).with_context(|| told(&name))?,
                _ => drop(self.known.remove(&(app.clone(), name))),
            }
        }
        for (name, value) in self.missing(app, vars) {
            // Its name is kept before it is put: one that is not would be deleted by nobody.
            self.known.insert((app.clone(), name.clone()), None);
            self.keep()?;
            let put = admin.put(&path(app, &name), value.expose().as_bytes().to_vec()).await;
            put.with_context(|| told(&name))?;
            self.known.insert((app.clone(), name), Some(value));
        }
        self.keep()
    }

    /// What the app was given and is not to have any more.
    fn gone(&self, app: &AppName, vars: &Vars) -> Vec<SecretName> {
        let of_app = self.known.keys().filter(|(known, _)| known == app).map(|(_, name)| name);
        of_app.filter(|name| !vars.contains_key(*name)).cloned().collect()
    }

    /// What the app does not have, or with another value.
    fn missing(&self, app: &AppName, vars: &Vars) -> Vars {
        let has = |name: &SecretName, value: &Secret| {
            self.known.get(&(app.clone(), name.clone())).is_some_and(|known| known.as_ref() == Some(value))
        };
        vars.iter()
            .filter(|(name, value)| !has(name, value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    fn keep(&self) -> Result<()> {
        let lines: String = self.known.keys().map(|(app, name)| format!("{app}/{name}\n")).collect();
        fs::write(&self.file, lines).with_context(|| format!("cannot write {}", self.file.display()))
    }
}

fn path(app: &AppName, name: &SecretName) -> String {
    format!("/v1/apps/{app}/secrets/{name}")
}

fn told(name: &SecretName) -> String {
    format!("the secret {name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars(pairs: &[(&str, &str)]) -> Vars {
        let read = |(name, value): &(&str, &str)| (name.parse().unwrap(), Secret::new((*value).to_owned()));
        pairs.iter().map(read).collect()
    }

    fn names<'a>(names: impl IntoIterator<Item = &'a SecretName>) -> String {
        names.into_iter().map(SecretName::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn only_what_has_changed_is_put_and_what_is_gone_is_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("given");
        let mut given = Given::open(file.clone());
        let (app, other) = ("a".parse().unwrap(), "b".parse().unwrap());
        let first = vars(&[("A", "1"), ("B", "secret-2")]);
        assert_eq!(
            (names(given.missing(&app, &first).keys()), given.gone(&app, &first)),
            ("A B".to_owned(), vec![])
        );
        for (name, value) in first.clone() {
            given.known.insert((app.clone(), name), Some(value));
        }
        given.keep().unwrap();
        assert!(given.missing(&app, &first).is_empty(), "nothing has changed");
        let second = vars(&[("A", "2"), ("C", "3")]);
        assert_eq!(names(given.missing(&app, &second).keys()), "A C");
        assert_eq!(names(&given.gone(&app, &second)), "B");
        // Another app's are its own.
        assert_eq!(
            (names(given.missing(&other, &first).keys()), given.gone(&other, &first)),
            ("A B".to_owned(), vec![])
        );
        // The next start knows the names, and no values.
        assert!(!fs::read_to_string(&file).unwrap().contains("secret-2"));
        let again = Given::open(file);
        assert_eq!(names(again.missing(&app, &first).keys()), "A B");
        assert_eq!(names(&again.gone(&app, &second)), "B");
    }
}
