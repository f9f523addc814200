//! One header block of a tar archive: v7, ustar and GNU. Knows nothing of other blocks.

use super::error::LayerError;

/// Bytes of a block. Everything in an archive begins at a multiple of it.
pub(super) const BLOCK_BYTES: usize = 512;

/// The checksum field.
const CHECKSUM: std::ops::Range<usize> = 148..156;
/// The magic field, which distinguishes GNU and ustar.
const GNU_MAGIC: &[u8] = b"ustar  \0";
const USTAR_MAGIC: &[u8] = b"ustar\0";
/// Where GNU's sparse headers have their first pieces, and the size of one.
pub(super) const SPARSE_PIECES: std::ops::Range<usize> = 386..482;
const SPARSE_MORE: usize = 482;
const SPARSE_SIZE: std::ops::Range<usize> = 483..495;

/// A header block with a valid checksum.
pub(super) struct Header(Box<[u8; BLOCK_BYTES]>);

impl Header {
    /// Checks a block. `None` for a block of zeros, which ends an archive.
    pub(super) fn new(block: Box<[u8; BLOCK_BYTES]>) -> Result<Option<Self>, LayerError> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let said = number(&block[CHECKSUM])?;
        // The checksum field itself counts as spaces. Some old programs summed signed bytes.
        let spaces = i64::from(b' ') * 8;
        let sum = |value: fn(u8) -> i64| -> i64 {
            let of = |bytes: &[u8]| bytes.iter().map(|byte| value(*byte)).sum::<i64>();
            of(&block[..CHECKSUM.start]) + spaces + of(&block[CHECKSUM.end..])
        };
        if said != sum(i64::from) && said != sum(|byte| byte.cast_signed().into()) {
            return Err(LayerError::Archive(
                "a block that should describe an entry has a wrong checksum (gzip, zstd, xz and plain tar are understood)",
            ));
        }
        Ok(Some(Self(block)))
    }

    pub(super) fn kind(&self) -> u8 {
        self.0[156]
    }

    /// The path, joined from prefix and name.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = if self.0[257..].starts_with(USTAR_MAGIC) { text(&self.0[345..500]) } else { b"" };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(super) fn link(&self) -> &[u8] {
        text(&self.0[157..257])
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "masked to twelve bits")]
    pub(super) fn mode(&self) -> Result<u32, LayerError> {
        number(&self.0[100..108]).map(|mode| (mode & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<i64, LayerError> {
        number(&self.0[108..116])
    }

    pub(super) fn gid(&self) -> Result<i64, LayerError> {
        number(&self.0[116..124])
    }

    /// Bytes that follow.
    pub(super) fn size(&self) -> Result<u64, LayerError> {
        length(number(&self.0[124..136])?)
    }

    /// Seconds since 1970.
    pub(super) fn mtime(&self) -> Result<i64, LayerError> {
        number(&self.0[136..148])
    }

    /// The pieces of a sparse file, whether more follow, and the size with the holes.
    pub(super) fn sparse(&self) -> Result<(&[u8], bool, u64), LayerError> {
        if !self.0[257..].starts_with(GNU_MAGIC) {
            return Err(LayerError::Archive("a sparse file in an archive that is not GNU's"));
        }
        let size = length(number(&self.0[SPARSE_SIZE])?)?;
        Ok((&self.0[SPARSE_PIECES], self.0[SPARSE_MORE] != 0, size))
    }
}

/// The bytes before the first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A number that cannot be negative.
pub(super) fn length(number: i64) -> Result<u64, LayerError> {
    u64::try_from(number).map_err(|_| LayerError::Archive("a length is negative"))
}

/// A number: octal digits, or base-256 in two's complement if the first bit is set.
pub(super) fn number(field: &[u8]) -> Result<i64, LayerError> {
    match field.first() {
        Some(first) if first & 0x80 != 0 => binary(field),
        _ => octal(field),
    }
}

fn octal(field: &[u8]) -> Result<i64, LayerError> {
    let bad = || LayerError::Archive("a number is not octal");
    let start = field.iter().position(|byte| !matches!(byte, b' ' | 0)).unwrap_or(field.len());
    let digits = text(&field[start..]).trim_ascii_end();
    // No field has so many digits that this could overflow.
    digits.iter().try_fold(0_i64, |sum, digit| match digit {
        b'0'..=b'7' => Ok(sum << 3 | i64::from(digit - b'0')),
        _ => Err(bad()),
    })
}

fn binary(field: &[u8]) -> Result<i64, LayerError> {
    // The first bit marks base-256, the second is the sign.
    let first = i64::from((field[0] << 1).cast_signed() >> 1);
    field[1..].iter().try_fold(first, |sum, byte| {
        let shifted = sum.checked_mul(256).ok_or(LayerError::Archive("a number is too large"))?;
        Ok(shifted | i64::from(*byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        for (field, expected) in [
            (&b"0000644\0"[..], 0o644),
            (b"   644 \0", 0o644),
            (b"\0\0\0\0", 0),
            (b"77777777777\0", 0o77_777_777_777),
            (b"\x80\0\0\0\0\0\0\x02\0\0\0\0", 2 << 32),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", -1),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", -2),
        ] {
            assert_eq!(number(field).unwrap(), expected, "{field:?}");
        }
        for bad in [&b"0000648\0"[..], b"6 4\0", b"-1\0", b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"]
        {
            assert!(number(bad).is_err(), "{bad:?}");
        }
    }
}
