//! The keys that secrets are encrypted with, and the text format of the key file. Pure: `file` reads and writes it.
//!
//! ```text
//! berth-secret-keys 1                 the form; lines that begin with `#` are for people
//! 0123456789abcdef 64 hex digits      a key after its id, the oldest first; the last one is current
//! ```

use std::fmt;

use berth_store::{KEY_ID_BYTES, KeyId};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Length of a key, in bytes: that of AES-256.
pub(super) const KEY_BYTES: usize = 32;
/// Most keys in a file: each interrupted rotation leaves one.
const MAX_KEYS: usize = 64;
/// The first line of a file.
const FIRST_LINE: &str = "berth-secret-keys 1";
/// A comment in the file, for people.
const ADVICE: &str = "# Whoever reads this file reads the edge's secrets, and without it nobody does: keep a copy in a safe place.\n";

/// A key. Wiped when it is dropped, and never shown.
#[derive(Clone)]
pub(crate) struct Key {
    id: KeyId,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl Key {
    fn of(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let digest =
            Sha256::new().chain_update(b"berth secret key").chain_update(bytes.as_slice()).finalize();
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&digest[..KEY_ID_BYTES]);
        Self { id: KeyId::from_bytes(id), bytes }
    }

    /// A new key. None if the system has no random bytes.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        SystemRandom::new().fill(&mut *bytes).ok()?;
        Some(Self::of(bytes))
    }

    pub(crate) fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

/// The keys of a file: at least one; the last one is current.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    older: Vec<Key>,
    current: Key,
}

impl Keys {
    pub(super) fn only(current: Key) -> Self {
        Self { older: Vec::new(), current }
    }

    /// The key that new secrets are encrypted with.
    pub(crate) fn current(&self) -> &Key {
        &self.current
    }

    pub(crate) fn get(&self, id: KeyId) -> Option<&Key> {
        self.all().find(|key| key.id == id)
    }

    /// The ids of the keys, the oldest first.
    pub(crate) fn ids(&self) -> Vec<KeyId> {
        self.all().map(Key::id).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        self.older.iter().chain([&self.current])
    }

    /// These keys and a newer one, unless there are too many.
    pub(super) fn and(mut self, newer: Key) -> Result<Self, String> {
        if self.older.len() + 2 > MAX_KEYS {
            return Err(format!("it holds {MAX_KEYS} keys, which is the most there can be"));
        }
        self.older.push(std::mem::replace(&mut self.current, newer));
        Ok(self)
    }

    /// The current key, and of the older ones only these.
    pub(crate) fn keep(mut self, ids: &[KeyId]) -> Self {
        self.older.retain(|key| ids.contains(&key.id));
        self
    }

    /// Parses the text of a file. Errors describe the problem, and never contain a key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line.trim()) != Some(FIRST_LINE) {
            return Err(format!("its first line is not `{FIRST_LINE}`"));
        }
        let said = |(_, line): &(usize, &str)| !line.trim().is_empty() && !line.starts_with('#');
        let keys = lines.filter(said).map(|(index, line)| {
            parse_line(line).ok_or_else(|| format!("line {} holds no key after its id", index + 1))
        });
        let mut older: Vec<Key> = keys.collect::<Result<_, _>>()?;
        let current = older.pop().ok_or("it holds no key")?;
        if older.len() >= MAX_KEYS {
            return Err(format!("it holds more than {MAX_KEYS} keys"));
        }
        Ok(Self { older, current })
    }

    /// The text of a file with these keys.
    pub(super) fn text(&self) -> Zeroizing<String> {
        // Allocated at full size: a buffer that grows leaves copies of keys in memory.
        let line_bytes = 2 * (KEY_ID_BYTES + KEY_BYTES) + 2;
        let bytes = FIRST_LINE.len() + 1 + ADVICE.len() + (self.older.len() + 1) * line_bytes;
        let mut text = Zeroizing::new(String::with_capacity(bytes));
        text.push_str(FIRST_LINE);
        text.push('\n');
        text.push_str(ADVICE);
        for key in self.all() {
            text.push_str(&key.id.to_string());
            text.push(' ');
            text.push_str(&Zeroizing::new(hex::encode(*key.bytes)));
            text.push('\n');
        }
        text
    }
}

fn parse_line(line: &str) -> Option<Key> {
    let (id, digits) = line.trim().split_once(' ')?;
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(digits.trim(), &mut *bytes).ok()?;
    let key = Key::of(bytes);
    (id.parse() == Ok(key.id)).then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::random().unwrap()
    }

    #[test]
    fn keys_survive_a_round_trip_and_the_last_one_is_current() {
        let (one, two) = (key(), key());
        let keys = Keys::only(one.clone()).and(two.clone()).unwrap();
        let read = Keys::parse(&keys.text()).unwrap();
        assert_eq!(read.ids(), [one.id(), two.id()]);
        assert_eq!((read.current().id(), read.current().bytes()), (two.id(), two.bytes()));
        assert_eq!(read.get(one.id()).unwrap().bytes(), one.bytes());
        assert_eq!(read.clone().keep(&[one.id()]).ids(), [one.id(), two.id()]);
        assert_eq!(read.keep(&[]).ids(), [two.id()]);
    }

    #[test]
    fn a_damaged_text_is_refused_without_being_shown() {
        let keys = Keys::only(key());
        let text = keys.text();
        let digits = hex::encode(*keys.current().bytes);
        let other = format!("{:016x}", 7);
        for bad in [
            String::new(),
            text.replace("keys 1", "keys 2"),
            text.replace(&digits, &digits[1..]),
            text.replace(&digits, &hex::encode([7; KEY_BYTES])),
            text.replace(&keys.current().id().to_string(), &other),
            format!("{FIRST_LINE}\n# nothing\n"),
        ] {
            let error = Keys::parse(&bad).unwrap_err();
            assert!(!error.contains(&digits[..8]), "{error}");
        }
    }

    #[test]
    fn the_number_of_keys_is_limited_and_none_is_shown() {
        let mut keys = Keys::only(key());
        for _ in 1..MAX_KEYS {
            keys = keys.and(key()).unwrap();
        }
        assert!(Keys::parse(&keys.text()).is_ok());
        assert!(!format!("{keys:?}").contains(&hex::encode(*keys.current().bytes)));
        assert!(keys.and(key()).is_err());
    }
}
