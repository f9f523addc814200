//! Encryption of one secret, bound to its app or store, its name and its key: under another name it does not decrypt.
//!
//! AES-256-GCM with a random nonce. A key may encrypt 2^32 values before a nonce is likely to repeat (NIST SP 800-38D
//! §8.3); no edge comes near that.

use berth_common::ids::SecretName;
use berth_common::image::Registry;
use berth_common::secret::Secret;
use berth_store::{KeyId, Sealed, SecretHolder};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use super::keys::Key;

/// Part of the authenticated data of secrets, which separates them from other kinds.
const PURPOSE: &[u8] = b"berth secret 1";
/// The same for secrets of stores.
const STORE_PURPOSE: &[u8] = b"berth store secret 1";
/// The same for passwords of registries.
const REGISTRY_PURPOSE: &[u8] = b"berth registry 1";

/// Encryption failed, which happens only if the system has no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the secret cannot be encrypted: the system has no random bytes")]
pub(crate) struct NotSealed;

/// The value does not match its authenticated data.
#[derive(Debug, thiserror::Error)]
#[error("it does not match its key, its app or store and its name")]
pub(crate) struct NotOpened;

/// What a value belongs to: encrypted for one purpose, it does not decrypt for another.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    purpose: &'static [u8],
    names: [&'a str; 2],
}

impl<'a> About<'a> {
    /// A secret of an app or a store.
    pub(super) fn secret(holder: &'a SecretHolder, name: &'a SecretName) -> Self {
        let purpose = match holder {
            SecretHolder::App(_) => PURPOSE,
            SecretHolder::Store(_) => STORE_PURPOSE,
        };
        Self { purpose, names: [holder.name(), name.as_str()] }
    }

    /// The password of a user at a registry.
    pub(super) fn registry(registry: &'a Registry, username: &'a str) -> Self {
        Self { purpose: REGISTRY_PURPOSE, names: [registry.as_str(), username] }
    }

    /// The authenticated data, each part with its length before it.
    fn associated(&self, key: KeyId) -> Vec<u8> {
        let mut bytes = Vec::new();
        let [first, second] = self.names;
        for part in [self.purpose, first.as_bytes(), second.as_bytes(), key.as_bytes()] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part);
        }
        bytes
    }
}

/// Encrypts a value.
pub(super) fn seal(key: &Key, about: About<'_>, value: &Secret) -> Result<Sealed, NotSealed> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).map_err(|_| NotSealed)?;
    let plain = value.expose().as_bytes();
    // Allocated with room for the tag: a buffer that grows leaves a copy of the value in memory.
    let mut text = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
    text.extend_from_slice(plain);
    let sealing = cipher(key).ok_or(NotSealed)?;
    sealing
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(about.associated(key.id())),
            &mut text,
        )
        .map_err(|_| NotSealed)?;
    Ok(Sealed { key: key.id(), nonce: nonce.to_vec(), ciphertext: text })
}

/// Decrypts a value.
pub(super) fn open(key: &Key, about: About<'_>, sealed: &Sealed) -> Result<Secret, NotOpened> {
    let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(|_| NotOpened)?;
    let mut text = Zeroizing::new(sealed.ciphertext.clone());
    let about = Aad::from(about.associated(sealed.key));
    let opening = cipher(key).ok_or(NotOpened)?;
    let length = opening.open_in_place(nonce, about, &mut text).map_err(|_| NotOpened)?.len();
    text.truncate(length);
    String::from_utf8(std::mem::take(&mut *text)).map(Secret::new).map_err(|error| {
        drop(Zeroizing::new(error.into_bytes()));
        NotOpened
    })
}

fn cipher(key: &Key) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, key.bytes()).ok().map(LessSafeKey::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (SecretHolder, SecretName) {
        (app("a"), "API_KEY".parse().unwrap())
    }

    fn app(name: &str) -> SecretHolder {
        SecretHolder::App(name.parse().unwrap())
    }

    #[test]
    fn a_secret_decrypts_only_with_its_key_app_and_name() {
        let key = Key::random().unwrap();
        let (app, name) = names();
        for text in ["", "x", "größe\n", &"x".repeat(64 << 10)] {
            let secret = Secret::new(text.to_owned());
            let (app_b, store) = (self::app("b"), SecretHolder::Store("a".parse().unwrap()));
            let sealed = seal(&key, About::secret(&app, &name), &secret).unwrap();
            assert!(open(&key, About::secret(&store, &name), &sealed).is_err(), "a store of the app's name");
            assert_eq!(open(&key, About::secret(&app, &name), &sealed).unwrap(), secret);
            assert!(open(&Key::random().unwrap(), About::secret(&app, &name), &sealed).is_err());
            assert!(open(&key, About::secret(&app_b, &name), &sealed).is_err());
            assert!(open(&key, About::secret(&app, &"API".parse().unwrap()), &sealed).is_err());
            let other = Sealed { key: Key::random().unwrap().id(), ..sealed };
            assert!(open(&key, About::secret(&app, &name), &other).is_err());
        }
    }

    #[test]
    fn a_secret_does_not_decrypt_as_a_registry_password() {
        let key = Key::random().unwrap();
        let (app, name) = names();
        let (registry, secret) = (app.name().parse().unwrap(), Secret::new("x".to_owned()));
        let sealed = seal(&key, About::secret(&app, &name), &secret).unwrap();
        assert!(open(&key, About::registry(&registry, name.as_str()), &sealed).is_err());
        let sealed = seal(&key, About::registry(&registry, name.as_str()), &secret).unwrap();
        assert!(open(&key, About::registry(&registry, name.as_str()), &sealed).is_ok());
        assert!(open(&key, About::registry(&registry, "other"), &sealed).is_err());
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let key = Key::random().unwrap();
        let (app, name) = names();
        let sealed = seal(&key, About::secret(&app, &name), &Secret::new("a value".to_owned())).unwrap();
        for index in 0..sealed.ciphertext.len() {
            let mut damaged = sealed.clone();
            damaged.ciphertext[index] ^= 1;
            assert!(open(&key, About::secret(&app, &name), &damaged).is_err(), "byte {index}");
        }
        for index in 0..sealed.nonce.len() {
            let mut damaged = sealed.clone();
            damaged.nonce[index] ^= 1;
            assert!(open(&key, About::secret(&app, &name), &damaged).is_err(), "byte {index}");
        }
        for (nonce, ciphertext) in
            [(Vec::new(), sealed.ciphertext.clone()), (sealed.nonce.clone(), Vec::new())]
        {
            assert!(
                open(&key, About::secret(&app, &name), &Sealed { nonce, ciphertext, key: sealed.key })
                    .is_err()
            );
        }
    }

    #[test]
    fn two_encryptions_of_one_value_differ_and_reveal_nothing_of_it() {
        let key = Key::random().unwrap();
        let (app, name) = names();
        let secret = Secret::new("very secret".to_owned());
        let (one, two) = (
            seal(&key, About::secret(&app, &name), &secret).unwrap(),
            seal(&key, About::secret(&app, &name), &secret).unwrap(),
        );
        assert!(one.nonce != two.nonce && one.ciphertext != two.ciphertext);
        let text = format!("{one:?} {secret:?} {}", serde_json::to_string(&one).unwrap());
        assert!(!text.contains("very") && !one.ciphertext.windows(4).any(|part| part == b"very"), "{text}");
    }
}
