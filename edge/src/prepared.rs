//! The containers that nodes are to keep prepared: of each class that wants some, with its secrets, as far as one
//! message holds.
//!
//! Kept here without the values of secrets. Those are added when a node is sent the list, and the list is sent again
//! when one of them changes, so that prepared containers always equal what a start asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use berth_common::ids::{AppName, ClassName};
use berth_common::spec::{AppSpec, Secrets as Bindings};
use berth_common::wire::call::{Prepare, PrepareTarget};
use berth_common::wire::frame::MAX_FRAME_BYTES;
use tokio::sync::watch;

use crate::secrets::Secrets;

/// Most bytes of the list: it is sent in one frame, with a small envelope.
const MAX_PREPARE_BYTES: usize = MAX_FRAME_BYTES - 1024;

/// Prepared containers of one class, without the values of its secrets.
#[derive(Debug, Clone)]
pub(crate) struct PreparedClass {
    app: AppName,
    class: ClassName,
    stock: PrepareTarget,
    secrets: Bindings,
}

/// The containers that the current versions want prepared.
pub(crate) fn wanted(apps: &BTreeMap<AppName, AppSpec>) -> Vec<PreparedClass> {
    let classes =
        apps.values().flat_map(|app| app.classes.iter().map(|(name, class)| (&app.name, name, class)));
    let wants = classes.filter(|(_, _, class)| class.prepared > 0);
    wants
        .map(|(app, name, class)| PreparedClass {
            app: app.clone(),
            class: name.clone(),
            stock: PrepareTarget { recipe: class.recipe.clone(), count: class.prepared },
            secrets: class.secrets.clone(),
        })
        .collect()
}

/// The prepared containers, and their changes.
#[derive(Clone)]
pub(crate) struct PreparedContainers {
    wanted: watch::Receiver<Arc<[PreparedClass]>>,
    secrets: Arc<Secrets>,
    changes: watch::Receiver<()>,
}

impl PreparedContainers {
    pub(crate) fn new(wanted: watch::Receiver<Arc<[PreparedClass]>>, secrets: Arc<Secrets>) -> Self {
        let changes = secrets.changes();
        Self { wanted, secrets, changes }
    }

    /// Has the list sent again.
    pub(crate) fn mark_changed(&mut self) {
        self.wanted.mark_changed();
    }

    /// Waits for a change, and returns the new list. Pending forever if there will be no change.
    pub(crate) async fn changed(&mut self) -> Prepare {
        let changed = tokio::select! {
            changed = self.wanted.changed() => changed,
            changed = self.changes.changed() => changed,
        };
        if changed.is_err() {
            return std::future::pending().await;
        }
        self.changes.mark_unchanged();
        let wanted = Arc::clone(&self.wanted.borrow_and_update());
        prepare(&wanted, &self.secrets)
    }
}

fn prepare(wanted: &[PreparedClass], secrets: &Secrets) -> Prepare {
    let mut room = MAX_PREPARE_BYTES;
    let mut stocks = Vec::new();
    for PreparedClass { app, class, stock, secrets: bindings } in wanted {
        let mut stock = stock.clone();
        // A start would fail for the same reason, and report it to the client.
        if let Err(error) = secrets.add_to(&mut stock.recipe.env, app, bindings) {
            tracing::warn!(%app, %class, %error, "no containers are kept prepared");
            continue;
        }
        let bytes = serde_json::to_vec(&stock).map_or(usize::MAX, |json| json.len() + 1);
        if let Some(left) = room.checked_sub(bytes) {
            room = left;
            stocks.push(stock);
        } else {
            tracing::warn!(%app, %class, "no containers are kept prepared: there are too many classes");
        }
    }
    Prepare { stocks }
}

#[cfg(test)]
mod tests {
    use berth_common::secret::Secret;
    use berth_common::spec::MAX_ENV_BYTES;
    use berth_common::wire::{call::Call, frame};
    use berth_store::SledStore;
    use berth_store::fixtures::app;

    use super::*;

    fn apps(names: &[&str], value: &str) -> BTreeMap<AppName, AppSpec> {
        let app = |name: &&str| {
            let mut app = app(name, &[]);
            let class = app.classes.values_mut().next().unwrap();
            class.prepared = 1;
            class.recipe.env.insert("K".to_owned(), value.to_owned());
            (app.name.clone(), app)
        };
        names.iter().map(app).collect()
    }

    fn secrets(directory: &tempfile::TempDir) -> Arc<Secrets> {
        let store = Arc::new(SledStore::open(&directory.path().join("store")).unwrap());
        Arc::new(Secrets::with_new_key(store, directory.path()))
    }

    #[test]
    fn nodes_are_sent_as_many_classes_as_one_frame_holds() {
        let directory = tempfile::tempdir().unwrap();
        let value = "x".repeat(MAX_ENV_BYTES - 1);
        let mut apps = apps(&["a0", "a1", "a2", "a3", "a4", "a5"], &value);
        apps.values_mut().next().unwrap().classes.values_mut().next().unwrap().prepared = 0;
        let prepared = prepare(&wanted(&apps), &secrets(&directory));
        assert_eq!(prepared.stocks.len(), 3);
        assert!(frame::encode(&Call::Prepare(prepared)).is_ok());
    }

    #[tokio::test]
    async fn the_list_contains_secrets_and_is_sent_again_when_one_changes() {
        let directory = tempfile::tempdir().unwrap();
        let secrets = secrets(&directory);
        let mut apps = apps(&["a", "b"], "v");
        let class = apps.values_mut().next().unwrap().classes.values_mut().next().unwrap();
        class.secrets.insert("KEY".parse().unwrap(), "S".parse().unwrap());
        let (_tell, receiver) = watch::channel(Arc::from(wanted(&apps)));
        let mut prepared = PreparedContainers::new(receiver, Arc::clone(&secrets));
        prepared.mark_changed();
        // Without the secret, only the other class.
        assert_eq!(prepared.changed().await.stocks.len(), 1);
        for value in ["first-value", "second-value"] {
            let secret = Secret::new(value.to_owned());
            secrets.put("a".parse::<AppName>().unwrap(), "S".parse().unwrap(), secret).await.unwrap();
            let stocks = prepared.changed().await.stocks;
            assert_eq!((stocks.len(), stocks[0].recipe.env["KEY"].as_str()), (2, value));
            assert!(!format!("{stocks:?}{prepared:?}", prepared = prepared.wanted.borrow()).contains(value));
        }
        secrets.delete("a".parse::<AppName>().unwrap(), "S".parse().unwrap()).await.unwrap();
        assert_eq!(prepared.changed().await.stocks.len(), 1);
    }
}
