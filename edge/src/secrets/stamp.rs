//! Whether what somebody sees of secrets is still the same, without keeping what it is.

use berth_common::ids::SecretName;
use berth_store::SecretHolder;
use sha2::{Digest, Sha256};

use super::{SecretError, Secrets};

/// What can be read of some secrets at one time: equal to a later one as long as each has the same value, is missing still, or
/// still cannot be read. Encrypted anew, a value is the same. Tells nothing of the values, and is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    digest: [u8; 32],
    unreadable: bool,
}

impl Stamp {
    /// Whether one that is there could not be read: that may be otherwise without its being changed, when its key is back.
    pub(crate) fn has_unreadable(&self) -> bool {
        self.unreadable
    }
}

impl Secrets {
    /// The stamp of these, in their order. Reads as many times from the store.
    pub(crate) fn stamp(&self, named: impl Iterator<Item = (SecretHolder, SecretName)>) -> Stamp {
        let (mut digest, mut unreadable) = (Sha256::new(), false);
        for (holder, name) in named {
            match self.get(holder, &name) {
                Ok(value) => {
                    let value = value.expose().as_bytes();
                    digest.update([0]);
                    digest.update((value.len() as u64).to_be_bytes());
                    digest.update(value);
                }
                Err(SecretError::Missing { .. }) => digest.update([1]),
                Err(_) => {
                    unreadable = true;
                    digest.update([2]);
                }
            }
        }
        Stamp { digest: digest.finalize().into(), unreadable }
    }
}
