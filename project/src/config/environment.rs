//! The configuration of one environment: its own keys over those of the top level that it takes over. Checks which keys
//! there are, and knows nothing of their values.

use super::keys::{self, Reach, Use};
use super::section::{Reading, Section, hint};
use crate::report::{named, quoted};
use crate::value::{Entry, Node, Table, Value};

/// Most environments of one file.
const MAX_ENVIRONMENTS: usize = 256;

/// The keys that count.
pub(super) struct View<'t> {
    top: &'t Table,
    own: Option<Section<'t>>,
    /// The environment's name.
    pub(super) environment: Option<&'t str>,
}

/// A value, and its full name.
pub(super) struct Found<'t> {
    pub(super) node: &'t Node,
    pub(super) path: String,
}

impl<'t> View<'t> {
    /// Looks for the environment, and tells of all keys that are not as they should be.
    pub(super) fn of(reading: &mut Reading<'_>, top: &'t Table, environment: Option<&str>) -> Self {
        let declared = environments(reading, top);
        let found = environment.map(|name| (name, declared.iter().find(|(known, _)| *known == name)));
        if let Some((name, None)) = found {
            missing_environment(reading, top, name, &declared);
        }
        let chosen = found.and_then(|(_, found)| found.cloned());
        let view = Self {
            top,
            environment: chosen.as_ref().map(|(name, _)| *name),
            own: chosen.map(|(_, own)| own),
        };
        view.check_keys(reading);
        view
    }

    /// The value that counts, if there is one.
    pub(super) fn get(&self, key: &str) -> Option<Found<'t>> {
        if let Some(own) = &self.own
            && let Some(node) = own.get(key)
        {
            return Some(Found { node, path: own.key(key) });
        }
        let reach = keys::known(key).map_or(Reach::TopLevel, |(reach, _)| reach);
        let from_top = self.own.is_none() || reach != Reach::Own;
        self.top.get(key).filter(|_| from_top).map(|node| Found { node, path: key.to_owned() })
    }

    /// The same, but not if it is only null, which is as if it were not there.
    pub(super) fn given(&self, key: &str) -> Option<Found<'t>> {
        self.get(key).filter(|found| found.node.value != Value::Null)
    }

    /// The value of the environment itself.
    pub(super) fn own(&self, key: &str) -> Option<&'t Node> {
        self.own.as_ref().and_then(|own| own.get(key))
    }

    /// Where the configuration that counts begins.
    pub(super) fn at(&self) -> usize {
        self.own.as_ref().map_or(0, |own| own.at)
    }

    fn check_keys(&self, reading: &mut Reading<'_>) {
        let mut meaningless = Meaningless::default();
        for entry in &self.top.entries {
            self.check_key(reading, entry, None, &mut meaningless);
        }
        if let Some(own) = &self.own {
            for entry in &own.table.entries {
                self.check_key(reading, entry, Some(own), &mut meaningless);
            }
        }
        meaningless.tell(reading);
    }

    fn check_key(
        &self,
        reading: &mut Reading<'_>,
        entry: &Entry,
        own: Option<&Section<'_>>,
        meaningless: &mut Meaningless,
    ) {
        let path = own.map_or_else(|| entry.key.clone(), |own| own.key(&entry.key));
        let Some((reach, used)) = keys::known(&entry.key) else {
            if !reading.report.is_full() {
                let hint = hint(&entry.key, &keys::names(own.is_some()));
                // All of them would be a page long.
                let hint = if hint.starts_with("known are") { "it is ignored" } else { &hint };
                reading.warn(entry.at, format!("{} is not a known key; {hint}", named(&path)));
            }
            return;
        };
        let hidden = own.is_none() && self.own.is_some() && reach == Reach::Own;
        match used {
            _ if own.is_some() && reach == Reach::TopLevel => self.misplaced(reading, entry, &path),
            _ if hidden => self.not_inherited(reading, entry),
            Use::Used => {}
            Use::Meaningless => meaningless.add(entry.at, path),
            Use::Lacking(_) if entry.node.is_empty() => {}
            Use::Lacking(instead) => {
                reading.wrong(entry.at, format!("{} cannot be had: {instead}", named(&path)));
            }
        }
    }

    fn misplaced(&self, reading: &mut Reading<'_>, entry: &Entry, path: &str) {
        let message = if entry.key == "env" {
            "an environment cannot have environments; expected it at the top level".to_owned()
        } else {
            format!("{} counts only at the top level; expected it there", named(path))
        };
        reading.wrong(entry.at, message);
    }

    fn not_inherited(&self, reading: &mut Reading<'_>, entry: &Entry) {
        let name = self.environment.unwrap_or_default();
        if self.own(&entry.key).is_none() && !entry.node.is_empty() {
            let key = named(&entry.key);
            let message = format!(
                "{key} of the top level is not taken over by the environment {}; repeat it in `env.{name}` if it is meant",
                quoted(name)
            );
            reading.warn(entry.at, message);
        }
    }
}

/// Keys that mean nothing, told of once.
#[derive(Default)]
pub(super) struct Meaningless(Option<(usize, Vec<String>)>);

/// Most keys that one note names.
const MAX_NAMED: usize = 20;

impl Meaningless {
    pub(super) fn add(&mut self, at: usize, path: String) {
        let (_, paths) = self.0.get_or_insert((at, Vec::new()));
        if !paths.contains(&path) && paths.len() < MAX_NAMED {
            paths.push(path);
        }
    }

    pub(super) fn tell(self, reading: &mut Reading<'_>) {
        if let Some((at, paths)) = self.0 {
            reading.note(at, format!("these keys mean nothing to Berth: {}", paths.join(", ")));
        }
    }
}

type Declared<'t> = Vec<(&'t str, Section<'t>)>;

fn environments<'t>(reading: &mut Reading<'_>, top: &'t Table) -> Declared<'t> {
    let Some(node) = top.get("env") else { return Vec::new() };
    let Some(section) = reading.section(node, "env") else { return Vec::new() };
    if section.table.entries.len() > MAX_ENVIRONMENTS {
        let message =
            format!("{} environments; expected at most {MAX_ENVIRONMENTS}", section.table.entries.len());
        reading.wrong(node.at, message);
    }
    let entries = section.table.entries.iter().take(MAX_ENVIRONMENTS);
    entries
        .filter_map(|entry| {
            let own = reading.section(&entry.node, &section.key(&entry.key))?;
            Some((entry.key.as_str(), own))
        })
        .collect()
}

fn missing_environment(reading: &mut Reading<'_>, top: &Table, name: &str, declared: &Declared<'_>) {
    let names: Vec<&str> = declared.iter().map(|(name, _)| *name).collect();
    let hint = if names.is_empty() { "there is none at all".to_owned() } else { hint(name, &names) };
    let at = top.entry("env").map_or(0, |entry| entry.at);
    reading.wrong(at, format!("there is no environment {}; {hint}", quoted(name)));
}
