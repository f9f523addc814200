//! The maps of sparse files: GNU's old format, and the three versions in PAX headers.

use super::error::LayerError;
use super::header::{length, number};

/// Most pieces of a sparse file: each is one write, and the list is kept in memory. Images of disks have some
/// thousands.
pub(super) const MAX_PIECES: usize = 65_536;

/// One piece of data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// All pieces, in order and without overlaps; and the size including holes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) pieces: Vec<Piece>,
    pub(super) size: u64,
}

const UNSOUND: LayerError = LayerError::Archive("the map of a sparse file contradicts itself");

impl Map {
    /// From alternating offsets and lengths, for this many bytes of data.
    pub(super) fn new(numbers: &[u64], size: u64, data: u64) -> Result<Self, LayerError> {
        if !numbers.len().is_multiple_of(2) {
            return Err(UNSOUND);
        }
        let pieces = numbers.chunks_exact(2).map(|pair| Piece { offset: pair[0], length: pair[1] });
        let map = Self { pieces: pieces.collect(), size };
        map.check(data)?;
        Ok(map)
    }

    fn check(&self, data: u64) -> Result<(), LayerError> {
        let (mut end, mut sum) = (0, 0_u64);
        for piece in &self.pieces {
            if piece.offset < end {
                return Err(UNSOUND);
            }
            end = piece.offset.checked_add(piece.length).ok_or(UNSOUND)?;
            sum = sum.checked_add(piece.length).ok_or(UNSOUND)?;
        }
        if end > self.size || sum != data { Err(UNSOUND) } else { Ok(()) }
    }
}

/// Size of one piece in GNU's old format, in bytes.
const PIECE_BYTES: usize = 24;

/// Adds the pieces of one block in GNU's old format. An empty one is the last.
pub(super) fn gnu_pieces(block: &[u8], numbers: &mut Vec<u64>) -> Result<(), LayerError> {
    for piece in block.chunks_exact(PIECE_BYTES).take_while(|piece| piece[0] != 0 && piece[12] != 0) {
        numbers.push(length(number(&piece[..12])?)?);
        numbers.push(length(number(&piece[12..])?)?);
    }
    bounded(numbers)
}

pub(super) fn bounded(numbers: &[u64]) -> Result<(), LayerError> {
    if numbers.len() > MAX_PIECES * 2 {
        return Err(LayerError::Archive("a sparse file has more than 65536 pieces"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_be_in_order_and_fit() {
        assert!(Map::new(&[0, 5, 10, 5], 15, 10).is_ok());
        assert!(Map::new(&[], 15, 0).is_ok());
        for (numbers, size, data) in [
            (&[0, 5, 4, 5][..], 15, 10),
            (&[10, 5, 0, 5], 15, 10),
            (&[0, 5, 10, 6], 15, 11),
            (&[0, 5], 15, 6),
            (&[0], 15, 0),
            (&[u64::MAX, 1], u64::MAX, 1),
            (&[0, u64::MAX, u64::MAX, 1], u64::MAX, 0),
        ] {
            assert!(Map::new(numbers, size, data).is_err(), "{numbers:?}");
        }
    }
}
