//! The ids of objects: 24 bytes that a name or chance gives, and 8 by which the namespace recognises them.

use ring::hmac::{HMAC_SHA256, Key, sign};

use crate::message::{ObjectClass, ObjectId};

/// Bytes of an id that are its own; the others follow from them.
pub(super) const OWN_BYTES: usize = 24;

fn key(class: &ObjectClass) -> Key {
    Key::new(HMAC_SHA256, &class.key)
}

/// The id with these bytes.
pub(super) fn of_bytes(class: &ObjectClass, own: [u8; OWN_BYTES]) -> ObjectId {
    let mut id = [0; 32];
    id[..OWN_BYTES].copy_from_slice(&own);
    let seal = sign(&key(class), &[&b"id"[..], &own].concat());
    id[OWN_BYTES..].copy_from_slice(&seal.as_ref()[..32 - OWN_BYTES]);
    ObjectId(id)
}

/// The id of the object with this name: always the same.
pub(super) fn of_name(class: &ObjectClass, name: &str) -> ObjectId {
    let tag = sign(&key(class), &[b"name", name.as_bytes()].concat());
    let mut own = [0; OWN_BYTES];
    own.copy_from_slice(&tag.as_ref()[..OWN_BYTES]);
    of_bytes(class, own)
}

/// Whether the id is one of this namespace.
pub(super) fn belongs(class: &ObjectClass, id: ObjectId) -> bool {
    let mut own = [0; OWN_BYTES];
    own.copy_from_slice(&id.0[..OWN_BYTES]);
    of_bytes(class, own) == id
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(key: u8) -> ObjectClass {
        ObjectClass { name: "Room".to_owned(), key: [key; 32], container: false }
    }

    #[test]
    fn a_name_has_one_id_in_each_namespace_and_each_knows_its_own() {
        let (one, other) = (class(1), class(2));
        let id = of_name(&one, "a");
        assert_eq!(id, of_name(&ObjectClass { name: "Renamed".to_owned(), ..one.clone() }, "a"));
        assert_ne!(id, of_name(&one, "b"));
        assert_ne!(id, of_name(&other, "a"));
        assert!(belongs(&one, id) && !belongs(&other, id));
        let mut changed = id;
        changed.0[0] ^= 1;
        assert!(!belongs(&one, changed));
        assert!(belongs(&one, of_bytes(&one, [9; OWN_BYTES])));
    }
}
