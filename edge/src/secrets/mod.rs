//! The secrets of apps and of stores that apps share, and passwords for registries: encrypted in the store, and decrypted
//! with the keys of the key file for loading a program, starting a container, signing an event, or a login at a registry.
//! Owns the keys in memory; the rest of the edge knows only names.
//!
//! Nothing decrypted is cached: each access reads the store and decrypts, which takes microseconds. The key file is
//! read when the edge starts, on request, and whenever a key is missing: so a new or restored file takes effect by
//! itself.

pub(crate) mod command;
mod file;
mod keys;
mod registries;
mod rotation;
mod sealed;
mod stamp;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use berth_common::clock::wall_ms;
use berth_common::ids::{AppName, SecretName, StoreName};
use berth_common::image::Registry;
use berth_common::secret::Secret;
use berth_common::spec::{
    MAX_ENV_BYTES, MAX_SECRET_BYTES, MAX_SECRET_STORES, MAX_SECRETS, Secrets as Bindings, StoredSecret,
};
use berth_store::{self as store, KeyId, SecretHolder, SecretRecord, Store, StoreError, Write};
use tokio::sync::{Mutex, watch};

use self::file::KeyFile;
use self::keys::Keys;
use self::registries::MAX_REGISTRIES;
use self::sealed::About;

pub(crate) use self::file::{DEFAULT_NAME, KeyFileError};
pub(crate) use self::registries::{RegistryView, check_login};
pub(crate) use self::rotation::Rotated;
pub(crate) use self::stamp::Stamp;

/// Why a secret was not read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    /// There are no keys.
    #[error("secrets are not available: {0}")]
    NoKeys(#[from] KeyFileError),
    /// There is no such secret.
    #[error("{holder} has no secret `{name}`: `berth secret put {name} {}` puts it", .holder.option())]
    Missing { holder: SecretHolder, name: SecretName },
    /// It is encrypted with a key that is not in the file.
    #[error(
        "the secret `{name}` of {holder} cannot be read: it is encrypted with the key {key}, which the key file {} \
         does not hold; bring that file back, or put the secret again: `berth secret put {name} {}`", .file.display(),
        .holder.option()
    )]
    OtherKey { holder: SecretHolder, name: SecretName, key: KeyId, file: PathBuf },
    /// The stored value was modified.
    #[error(
        "the secret `{name}` of {holder} cannot be read: it is damaged; put it again: `berth secret put {name} {}`",
        .holder.option()
    )]
    Damaged { holder: SecretHolder, name: SecretName },
    /// The value cannot be that of an environment variable.
    #[error("{0}")]
    BadValue(String),
    #[error("{0} has {MAX_SECRETS} secrets, which is the most it can have")]
    TooMany(SecretHolder),
    #[error("the edge has {MAX_SECRET_STORES} stores of secrets, which is the most it can have")]
    TooManyStores,
    /// The user or password for a registry is not valid.
    #[error("{0}")]
    BadLogin(&'static str),
    #[error("the edge knows users of {MAX_REGISTRIES} registries, which is the most it can")]
    TooManyRegistries,
    /// The password for a registry cannot be used.
    #[error(
        "the password of `{username}` for {registry} cannot be read: it is encrypted with a key that the key file does not hold, \
         or damaged; give it again: `berth registries login {registry}`"
    )]
    LoginUnreadable { registry: Registry, username: String },
    /// The environment variables of a container are too large together.
    #[error(
        "with its secrets the environment takes {0} bytes; at most {MAX_ENV_BYTES} are allowed for all names and values"
    )]
    TooLarge(usize),
    #[error("the system has no random bytes")]
    NoRandomness,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SecretView {
    pub(crate) name: SecretName,
    pub(crate) created_ms: u64,
    pub(crate) updated_ms: u64,
    pub(crate) version: u64,
    pub(crate) readable: bool,
}

/// The keys as last read, or why there are none.
type KeyRing = Result<Keys, KeyFileError>;

/// All secrets of an edge.
pub(crate) struct Secrets {
    store: Arc<dyn Store>,
    file: KeyFile,
    /// The lock is held only to read or replace the keys.
    keys: RwLock<Arc<KeyRing>>,
    /// Held for a whole change, until it is durable, so that there is one at a time. Nothing else takes it.
    changing: Mutex<()>,
    changed: watch::Sender<()>,
}

impl Secrets {
    /// The secrets of this store with this key file. Logs the state of the keys; the edge can run in any case.
    pub(crate) fn open(store: Arc<dyn Store>, key_file: PathBuf) -> Result<Self, StoreError> {
        let file = KeyFile::at(key_file);
        let keys = RwLock::new(Arc::new(file.read()));
        let secrets =
            Self { store, file, keys, changing: Mutex::default(), changed: watch::Sender::default() };
        secrets.announce()?;
        Ok(secrets)
    }

    fn announce(&self) -> Result<(), StoreError> {
        let names = self.store.secret_names(None)?;
        match &*self.keys() {
            Ok(keys) => {
                let mut unreadable = 0_usize;
                for (holder, name) in &names {
                    let record = self.store.secret(holder, name)?;
                    unreadable +=
                        usize::from(record.is_some_and(|record| keys.get(record.sealed.key).is_none()));
                }
                if unreadable > 0 {
                    tracing::error!(
                        key_file = %self.file.path().display(), secrets = names.len(), unreadable,
                        "secrets are encrypted with keys that the key file does not hold: what needs them does not start"
                    );
                }
                tracing::info!(key = %keys.current().id(), secrets = names.len(), "secrets are available");
            }
            Err(KeyFileError::Missing(path)) if names.is_empty() => {
                tracing::info!(key_file = %path.display(), "no key file: secrets are not available");
            }
            Err(error) => tracing::error!(%error, secrets = names.len(), "secrets are not available"),
        }
        Ok(())
    }

    /// Notified when the value of any secret may have changed.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The value of a secret of an app or a store. Takes some microseconds, or one disk access.
    pub(crate) fn get(
        &self,
        holder: impl Into<SecretHolder>,
        name: &SecretName,
    ) -> Result<Secret, SecretError> {
        let holder = holder.into();
        let record = self.record(&holder, name)?;
        let known = self.keys();
        if let Ok(keys) = &*known
            && keys.get(record.sealed.key).is_some()
        {
            return self.open_record(keys, &record);
        }
        match &*self.reload() {
            // Read again: it may have been encrypted with a newer key in the meantime.
            Ok(keys) => self.open_record(keys, &self.record(&holder, name)?),
            Err(error) => Err(error.clone().into()),
        }
    }

    fn record(&self, holder: &SecretHolder, name: &SecretName) -> Result<SecretRecord, SecretError> {
        let record = self.store.secret(holder, name)?;
        record.ok_or_else(|| SecretError::Missing { holder: holder.clone(), name: name.clone() })
    }

    fn open_record(&self, keys: &Keys, record: &SecretRecord) -> Result<Secret, SecretError> {
        let SecretRecord { holder, name, sealed, .. } = record;
        let Some(key) = keys.get(sealed.key) else {
            let (holder, name, file) = (holder.clone(), name.clone(), self.file.path().to_owned());
            return Err(SecretError::OtherKey { holder, name, key: sealed.key, file });
        };
        sealed::open(key, About::secret(holder, name), sealed)
            .map_err(|_| SecretError::Damaged { holder: holder.clone(), name: name.clone() })
    }

    /// Adds the secrets of an app to an environment, by their variables. After an error the environment must not be
    /// used.
    pub(crate) fn add_to(
        &self,
        env: &mut BTreeMap<String, String>,
        app: &AppName,
        bindings: &Bindings,
    ) -> Result<(), SecretError> {
        for (variable, name) in bindings {
            env.insert(variable.to_string(), self.get(app, name)?.expose().to_owned());
        }
        let bytes = env.iter().map(|(name, value)| name.len() + value.len()).sum();
        if !bindings.is_empty() && bytes > MAX_ENV_BYTES { Err(SecretError::TooLarge(bytes)) } else { Ok(()) }
    }

    /// Those of these names that the app has no secret for, without duplicates and in order.
    pub(crate) fn missing(
        &self,
        app: &AppName,
        names: impl Iterator<Item = SecretName>,
    ) -> Result<Vec<SecretName>, StoreError> {
        let (mut missing, app) = (Vec::new(), SecretHolder::from(app));
        for name in names.collect::<BTreeSet<_>>() {
            if self.store.secret(&app, &name)?.is_none() {
                missing.push(name);
            }
        }
        Ok(missing)
    }

    /// Those of these secrets of stores that are not there, without duplicates and in order.
    pub(crate) fn missing_of_stores<'a>(
        &self,
        named: impl Iterator<Item = &'a StoredSecret>,
    ) -> Result<Vec<StoredSecret>, StoreError> {
        let mut missing = Vec::new();
        for secret in named.collect::<BTreeSet<_>>() {
            if self.store.secret(&SecretHolder::from(&secret.store), &secret.name)?.is_none() {
                missing.push(secret.clone());
            }
        }
        Ok(missing)
    }

    /// The stores, each with how many secrets it has.
    pub(crate) fn stores(&self) -> Result<BTreeMap<StoreName, usize>, StoreError> {
        let mut stores = BTreeMap::new();
        for (holder, _) in self.store.secret_names(None)? {
            if let SecretHolder::Store(store) = holder {
                *stores.entry(store).or_default() += 1;
            }
        }
        Ok(stores)
    }

    /// All secrets of an app or a store, without values.
    pub(crate) fn list(&self, holder: impl Into<SecretHolder>) -> Result<Vec<SecretView>, StoreError> {
        let mut views = Vec::new();
        for (holder, name) in self.store.secret_names(Some(&holder.into()))? {
            let Some(record) = self.store.secret(&holder, &name)? else { continue };
            let SecretRecord { created_ms, updated_ms, version, .. } = record;
            let readable = self.get(holder, &name).is_ok();
            views.push(SecretView { name, created_ms, updated_ms, version, readable });
        }
        Ok(views)
    }

    /// Sets a secret of an app or a store. Returns once that is durable.
    pub(crate) async fn put<H: Into<SecretHolder>>(
        &self,
        holder: H,
        name: SecretName,
        value: Secret,
    ) -> Result<(), SecretError> {
        check_value(value.expose())?;
        let holder = holder.into();
        let _changing = self.changing.lock().await;
        let earlier = self.store.secret(&holder, &name)?;
        if earlier.is_none() {
            self.check_room(&holder)?;
        }
        // Refused if the key file is gone: after a restart nobody could decrypt the secret.
        let sealed = match &*self.reload() {
            Ok(keys) => sealed::seal(keys.current(), About::secret(&holder, &name), &value),
            Err(error) => return Err(error.clone().into()),
        };
        let (updated_ms, version) = (wall_ms(), earlier.as_ref().map_or(0, |record| record.version) + 1);
        let created_ms = earlier.map_or(updated_ms, |record| record.created_ms);
        let sealed = sealed.map_err(|_| SecretError::NoRandomness)?;
        let record = SecretRecord {
            holder: holder.clone(),
            name: name.clone(),
            created_ms,
            updated_ms,
            version,
            sealed,
        };
        store::write(&*self.store, Write::Secret(record)).await?;
        tracing::info!(of = %holder, secret = %name, version, "secret put");
        self.changed.send_replace(());
        Ok(())
    }

    /// Refuses one secret too many, and one store too many. The caller holds `changing`.
    fn check_room(&self, holder: &SecretHolder) -> Result<(), SecretError> {
        let there = self.store.secret_names(Some(holder))?.len();
        if there >= MAX_SECRETS {
            return Err(SecretError::TooMany(holder.clone()));
        }
        let is_new_store = there == 0 && matches!(holder, SecretHolder::Store(_));
        if is_new_store && self.stores()?.len() >= MAX_SECRET_STORES {
            return Err(SecretError::TooManyStores);
        }
        Ok(())
    }

    /// Deletes a secret of an app or a store. Returns once that is durable; false if there is none.
    pub(crate) async fn delete(
        &self,
        holder: impl Into<SecretHolder>,
        name: SecretName,
    ) -> Result<bool, StoreError> {
        let holder = holder.into();
        let _changing = self.changing.lock().await;
        if self.store.secret(&holder, &name)?.is_none() {
            return Ok(false);
        }
        let removal = Write::RemoveSecret { holder: holder.clone(), name: name.clone() };
        store::write(&*self.store, removal).await?;
        tracing::info!(of = %holder, secret = %name, "secret deleted");
        self.changed.send_replace(());
        Ok(true)
    }

    fn keys(&self) -> Arc<KeyRing> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the key file again. If that fails, the keys that were read before are kept.
    fn reload(&self) -> Arc<KeyRing> {
        let (read, known) = (self.file.read(), self.keys());
        let ids = |keys: &KeyRing| keys.as_ref().map(Keys::ids).ok();
        match (&read, &*known) {
            (Err(_), Ok(_)) => Arc::new(read),
            (Ok(_), _) if ids(&read) == ids(&known) => known,
            (Ok(keys), _) => {
                tracing::info!(key = %keys.current().id(), "key file read again");
                self.replace_keys(read)
            }
            (Err(_), Err(_)) => self.replace_keys(read),
        }
    }

    fn replace_keys(&self, keys: KeyRing) -> Arc<KeyRing> {
        let keys = Arc::new(keys);
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keys);
        if keys.is_ok() {
            self.changed.send_replace(());
        }
        keys
    }
}

/// Refuses values that no environment can hold.
fn check_value(value: &str) -> Result<(), SecretError> {
    if value.len() > MAX_SECRET_BYTES {
        let text = format!("the value is {} bytes long; at most {MAX_SECRET_BYTES} are allowed", value.len());
        return Err(SecretError::BadValue(text));
    }
    if value.contains('\0') {
        return Err(SecretError::BadValue("the value holds a zero byte, which no variable can".to_owned()));
    }
    Ok(())
}
