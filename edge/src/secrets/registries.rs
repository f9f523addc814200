//! Logins for registries of images: encrypted like secrets, and rotated with them.

use berth_common::clock::wall_ms;
use berth_common::image::Registry;
use berth_common::secret::Secret;
use berth_registry::remote::{Login, LoginError, Logins};
use berth_store::{self as store, RegistryRecord, StoreError, Write};

use super::keys::Keys;
use super::rotation::Rotated;
use super::sealed::{self, About};
use super::{SecretError, Secrets};

/// Most registries with a login: they are listed on one page.
pub(super) const MAX_REGISTRIES: usize = 256;
/// Longest user name, in bytes.
const MAX_USERNAME_BYTES: usize = 256;
/// Longest password, in bytes: some are tokens, and a few are keys.
const MAX_PASSWORD_BYTES: usize = 16 << 10;

/// A login without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistryView {
    pub(crate) registry: Registry,
    pub(crate) username: String,
    pub(crate) updated_ms: u64,
    pub(crate) readable: bool,
}

fn open(record: &RegistryRecord, keys: &Keys) -> Result<Secret, SecretError> {
    let RegistryRecord { registry, username, sealed, .. } = record;
    let about = About::registry(registry, username);
    let opened = keys.get(sealed.key).and_then(|key| sealed::open(key, about, sealed).ok());
    let (registry, username) = (registry.clone(), username.clone());
    opened.ok_or(SecretError::LoginUnreadable { registry, username })
}

impl Secrets {
    /// The login for a registry, if there is one. Takes some microseconds, or one disk access.
    pub(crate) fn login(&self, registry: &Registry) -> Result<Option<Login>, SecretError> {
        let Some(record) = self.store.registry(registry)? else { return Ok(None) };
        let known = self.keys();
        let opened = match &*known {
            Ok(keys) if keys.get(record.sealed.key).is_some() => open(&record, keys),
            _ => match &*self.reload() {
                Ok(keys) => open(&record, keys),
                Err(error) => Err(error.clone().into()),
            },
        };
        opened.map(|password| Some(Login { username: record.username, password }))
    }

    /// All registries with a login.
    pub(crate) fn registries(&self) -> Result<Vec<RegistryView>, StoreError> {
        let keys = self.keys();
        let view = |record: RegistryRecord| {
            let readable = keys.as_ref().as_ref().is_ok_and(|keys| open(&record, keys).is_ok());
            let RegistryRecord { registry, username, updated_ms, .. } = record;
            RegistryView { registry, username, updated_ms, readable }
        };
        Ok(self.store.registries()?.into_iter().map(view).collect())
    }

    /// Sets the login for a registry. Returns once that is durable.
    pub(crate) async fn put_login(&self, registry: Registry, login: Login) -> Result<(), SecretError> {
        check_login(&login)?;
        let _changing = self.changing.lock().await;
        let known = self.store.registries()?;
        if known.len() >= MAX_REGISTRIES && known.iter().all(|record| record.registry != registry) {
            return Err(SecretError::TooManyRegistries);
        }
        // As for secrets: refused if the key file is gone.
        let sealed = match &*self.reload() {
            Ok(keys) => {
                let about = About::registry(&registry, &login.username);
                sealed::seal(keys.current(), about, &login.password)
            }
            Err(error) => return Err(error.clone().into()),
        };
        let sealed = sealed.map_err(|_| SecretError::NoRandomness)?;
        let record = RegistryRecord { registry, username: login.username, updated_ms: wall_ms(), sealed };
        tracing::info!(registry = %record.registry, user = %record.username, "login of a registry kept");
        Ok(store::write(&*self.store, Write::Registry(record)).await?)
    }

    /// Deletes the login for a registry. Returns once that is durable; false if there is none.
    pub(crate) async fn delete_login(&self, registry: &Registry) -> Result<bool, StoreError> {
        let _changing = self.changing.lock().await;
        if self.store.registry(registry)?.is_none() {
            return Ok(false);
        }
        store::write(&*self.store, Write::RemoveRegistry(registry.clone())).await?;
        tracing::info!(%registry, "login of a registry deleted");
        Ok(true)
    }

    /// Adds to a plan what a rotation would do with the passwords.
    pub(super) fn try_registries(&self, keys: &Keys, plan: &mut Rotated) -> Result<(), SecretError> {
        for record in self.store.registries()? {
            if open(&record, keys).is_ok() {
                plan.rotated += 1;
            } else {
                plan.in_use.push(record.sealed.key);
                plan.unreadable_registries.push(record.registry);
            }
        }
        Ok(())
    }

    /// Encrypts all passwords with the current key. The caller holds `changing`.
    pub(super) async fn rotate_registries(&self, keys: &Keys, done: &mut Rotated) -> Result<(), SecretError> {
        let mut writes = Vec::new();
        for record in self.store.registries()? {
            if record.sealed.key == done.current {
                continue;
            }
            match open(&record, keys) {
                Ok(password) => {
                    let about = About::registry(&record.registry, &record.username);
                    let sealed = sealed::seal(keys.current(), about, &password);
                    let sealed = sealed.map_err(|_| SecretError::NoRandomness)?;
                    writes.push(Write::Registry(RegistryRecord { sealed, ..record }));
                }
                Err(error) => {
                    tracing::warn!(%error, "a password for a registry stays under its old key");
                    done.in_use.push(record.sealed.key);
                    done.unreadable_registries.push(record.registry);
                }
            }
        }
        done.rotated += writes.len();
        if writes.is_empty() { Ok(()) } else { Ok(store::commit(&*self.store, writes).await?) }
    }
}

impl Logins for Secrets {
    fn login(&self, registry: &Registry) -> Result<Option<Login>, LoginError> {
        Self::login(self, registry).map_err(|error| match error {
            SecretError::NoKeys(_) => LoginError::Unavailable(error.to_string()),
            SecretError::Store(error) => LoginError::Store(error),
            error => LoginError::Unreadable(error.to_string()),
        })
    }
}

/// Refuses logins that no registry can accept.
pub(crate) fn check_login(login: &Login) -> Result<(), SecretError> {
    let Login { username, password } = login;
    if username.is_empty() || username.len() > MAX_USERNAME_BYTES {
        return Err(SecretError::BadLogin("the name of the user has no or more than 256 bytes"));
    }
    if username.contains(':') || username.chars().any(char::is_control) {
        return Err(SecretError::BadLogin("the name of the user holds a colon or control characters"));
    }
    let length = password.expose().len();
    if length == 0 || length > MAX_PASSWORD_BYTES {
        return Err(SecretError::BadLogin("the password has no or more than 16384 bytes"));
    }
    Ok(())
}
