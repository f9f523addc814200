//! Encrypts everything with the newest key: after that the older ones can be removed from the key file, which is up to
//! the caller. Interrupted at any point, it leaves each secret encrypted with a key that is still in the file.

use berth_common::ids::SecretName;
use berth_common::image::Registry;
use berth_store::{self as store, KeyId, SecretHolder, SecretRecord, Write};

use super::keys::Keys;
use super::sealed::{self, About};
use super::{SecretError, Secrets};

/// Secrets that are written at once: a few megabytes at most.
const BATCH: usize = 32;

/// The result of a rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rotated {
    /// The current key, which now encrypts everything that could be decrypted.
    pub(crate) current: KeyId,
    /// How many secrets and registry passwords were encrypted again.
    pub(crate) rotated: usize,
    /// The secrets that could not be decrypted, and are unchanged.
    pub(crate) unreadable: Vec<(SecretHolder, SecretName)>,
    /// The registries whose passwords could not be decrypted, and are unchanged.
    pub(crate) unreadable_registries: Vec<Registry>,
    /// The keys that are still in use: these must stay in the file, besides the current one.
    pub(crate) in_use: Vec<KeyId>,
}

impl Rotated {
    fn none(current: KeyId) -> Self {
        Self {
            current,
            rotated: 0,
            unreadable: Vec::new(),
            unreadable_registries: Vec::new(),
            in_use: Vec::new(),
        }
    }
}

impl Secrets {
    /// Reads the key file and encrypts all secrets with its current key. Returns once that is durable.
    pub(crate) async fn rotate(&self) -> Result<Rotated, SecretError> {
        let _changing = self.changing.lock().await;
        let keys = match &*self.reload() {
            Ok(keys) => keys.clone(),
            Err(error) => return Err(error.clone().into()),
        };
        let current = keys.current().id();
        let mut done = Rotated::none(current);
        for names in self.store.secret_names(None)?.chunks(BATCH) {
            self.rotate_some(&keys, names, &mut done).await?;
        }
        self.rotate_registries(&keys, &mut done).await?;
        done.in_use.sort_unstable();
        done.in_use.dedup();
        tracing::info!(key = %current, rotated = done.rotated, unreadable = done.unreadable.len(), "secrets rotated");
        self.replace_keys(Ok(keys.keep(&done.in_use)));
        Ok(done)
    }

    /// What a rotation to a new key would do. Changes nothing.
    pub(crate) async fn try_rotation(&self) -> Result<Rotated, SecretError> {
        let _changing = self.changing.lock().await;
        let keys = match &*self.reload() {
            Ok(keys) => keys.clone(),
            Err(error) => return Err(error.clone().into()),
        };
        let mut plan = Rotated::none(keys.current().id());
        for (holder, name) in self.store.secret_names(None)? {
            let Some(record) = self.store.secret(&holder, &name)? else { continue };
            if self.open_record(&keys, &record).is_ok() {
                plan.rotated += 1;
            } else {
                plan.unreadable.push((holder, name));
                plan.in_use.push(record.sealed.key);
            }
        }
        self.try_registries(&keys, &mut plan)?;
        plan.in_use.sort_unstable();
        plan.in_use.dedup();
        Ok(plan)
    }

    async fn rotate_some(
        &self,
        keys: &Keys,
        names: &[(SecretHolder, SecretName)],
        done: &mut Rotated,
    ) -> Result<(), SecretError> {
        let mut writes = Vec::new();
        for (holder, name) in names {
            let Some(record) = self.store.secret(holder, name)? else { continue };
            let old = record.sealed.key;
            if old == done.current {
                continue;
            }
            match self.open_record(keys, &record) {
                Ok(value) => {
                    let sealed = sealed::seal(keys.current(), About::secret(holder, name), &value);
                    let sealed = sealed.map_err(|_| SecretError::NoRandomness)?;
                    writes.push(Write::Secret(SecretRecord { sealed, ..record }));
                }
                Err(error) => {
                    tracing::warn!(%error, "a secret stays under its old key");
                    done.unreadable.push((holder.clone(), name.clone()));
                    done.in_use.push(old);
                }
            }
        }
        done.rotated += writes.len();
        if writes.is_empty() { Ok(()) } else { Ok(store::commit(&*self.store, writes).await?) }
    }
}
