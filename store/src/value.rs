//! The layout of a value in the store: with a checksum over key and value, split into pieces that sled keeps in its log
//! file (it would put larger values into files of their own, which it does not sync).
//!
//! ```text
//! key ‖ 0: | version 1 | checksum 8 | length 4 | first piece |    key ‖ n: | piece n |    (integers big-endian)
//! ```

use sha2::{Digest, Sha256};

use super::StoreError;

/// Bytes of one piece: sled stores values up to 128 KiB inline.
const PIECE_BYTES: usize = 64 * 1024;
/// The version of this layout.
const VERSION: u8 = 1;
const SUM_BYTES: usize = 8;
const HEADER_BYTES: usize = 1 + SUM_BYTES + 4;
const INDEX_BYTES: usize = 2;

/// A key of the database, with its value.
pub(super) type Piece = (Vec<u8>, Vec<u8>);

/// Splits a value into pieces.
pub(super) fn pieces(key: &[u8], value: &[u8]) -> Result<Vec<Piece>, StoreError> {
    let length = u32::try_from(value.len()).map_err(|_| damaged(key, "it is too long"))?;
    let (first, rest) = value.split_at(value.len().min(PIECE_BYTES));
    let mut head = Vec::with_capacity(HEADER_BYTES + first.len());
    head.push(VERSION);
    head.extend(checksum(key, value));
    head.extend(length.to_be_bytes());
    head.extend(first);
    let mut pieces = vec![(piece_key(key, 0), head)];
    for (index, piece) in (1..).zip(rest.chunks(PIECE_BYTES)) {
        pieces.push((piece_key(key, index), piece.to_vec()));
    }
    Ok(pieces)
}

/// Reads a value; `get` returns its pieces.
pub(super) fn read<V: AsRef<[u8]>>(
    key: &[u8],
    get: impl Fn(&[u8]) -> Result<Option<V>, StoreError>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(head) = get(&piece_key(key, 0))? else { return Ok(None) };
    let (sum, length, first) = split_head(key, head.as_ref())?;
    let mut value = first.to_vec();
    let mut index = 0_u16;
    while value.len() < length {
        index = index.checked_add(1).ok_or_else(|| damaged(key, "it has too many pieces"))?;
        let piece = get(&piece_key(key, index))?.ok_or_else(|| damaged(key, "a piece is missing"))?;
        value.extend(piece.as_ref());
    }
    if value.len() != length || checksum(key, &value) != sum {
        return Err(damaged(key, "its checksum does not match"));
    }
    Ok(Some(value))
}

fn split_head<'a>(key: &[u8], head: &'a [u8]) -> Result<([u8; SUM_BYTES], usize, &'a [u8]), StoreError> {
    let short = || damaged(key, "its head is cut off");
    let (version, rest) = head.split_first().ok_or_else(short)?;
    if *version != VERSION {
        return Err(damaged(key, "another version of Berth wrote it"));
    }
    let (sum, rest) = rest.split_first_chunk().ok_or_else(short)?;
    let (length, first) = rest.split_first_chunk().ok_or_else(short)?;
    Ok((*sum, u32::from_be_bytes(*length) as usize, first))
}

/// The length of a value in bytes, from its first piece.
pub(super) fn length_of(key: &[u8], head: &[u8]) -> Result<usize, StoreError> {
    split_head(key, head).map(|(_, length, _)| length)
}

/// The key of the value that this piece belongs to, if it is the first one.
pub(super) fn first_piece_of(piece_key: &[u8]) -> Option<&[u8]> {
    piece_key.strip_suffix(&[0; INDEX_BYTES])
}

/// The key of the piece with this number.
pub(super) fn piece_key(key: &[u8], index: u16) -> Vec<u8> {
    [key, &index.to_be_bytes()].concat()
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; SUM_BYTES] {
    let digest = Sha256::new().chain_update(key).chain_update(value).finalize();
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&digest[..SUM_BYTES]);
    sum
}

fn damaged(key: &[u8], reason: &str) -> StoreError {
    StoreError::Damaged { what: shown(key), reason: reason.to_owned() }
}

/// What a key's value is called: some keys are text, and some begin with an id.
pub(super) fn shown(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) if !text.chars().any(char::is_control) => format!("value under the key {text:?}"),
        _ => format!("value under the key {} (hexadecimal)", hex::encode(key)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read_from(map: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Option<Vec<u8>>, StoreError> {
        read(b"k", |key| Ok(map.get(key).cloned()))
    }

    #[test]
    fn values_of_every_length_come_back() {
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let value: Vec<u8> = (0..=255).cycle().take(length).collect();
            let map: BTreeMap<_, _> = pieces(b"k", &value).unwrap().into_iter().collect();
            assert!(map.values().all(|piece| piece.len() < 128 * 1024));
            assert_eq!(read_from(&map).unwrap(), Some(value));
        }
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let map: BTreeMap<_, _> = pieces(b"k", b"a value").unwrap().into_iter().collect();
        let (key, whole) = map.first_key_value().unwrap();
        for index in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[index] ^= 0x10;
            let map = BTreeMap::from([(key.clone(), damaged)]);
            assert!(matches!(read_from(&map), Err(StoreError::Damaged { .. })), "byte {index}");
        }
    }

    #[test]
    fn a_missing_piece_and_another_keys_value_are_noticed() {
        let mut map: BTreeMap<_, _> = pieces(b"k", &[7; 2 * PIECE_BYTES]).unwrap().into_iter().collect();
        map.pop_last();
        assert!(matches!(read_from(&map), Err(StoreError::Damaged { .. })));
        let moved = pieces(b"j", b"x").unwrap().remove(0).1;
        let map = BTreeMap::from([(piece_key(b"k", 0), moved)]);
        assert!(matches!(read_from(&map), Err(StoreError::Damaged { .. })));
    }
}
