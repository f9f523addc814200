//! The bytes of a clone: tags, numbers of variable length, lengths. Knows nothing of the engine.
//!
//! A clone is [`VERSION`], then one value. Each object that a later [`tag::REFERENCE`] may name has a number, in the order in
//! which their tags stand. The same value always gives the same bytes.

use std::fmt;

/// The first byte of each clone.
pub(super) const VERSION: u8 = 1;
/// How deep values may lie in each other, so that neither side of the way can use up the thread's stack.
pub(super) const MAX_DEPTH: usize = 256;

/// How many bytes a clone may have: strings that a value has only once in memory may be written many times.
pub(super) const MAX_BYTES: usize = 64 << 20;

/// What kind of value follows.
pub(super) mod tag {
    pub(crate) const UNDEFINED: u8 = 0;
    pub(crate) const NULL: u8 = 1;
    pub(crate) const FALSE: u8 = 2;
    pub(crate) const TRUE: u8 = 3;
    /// A whole number that is exact in a double and not -0: zigzag.
    pub(crate) const INTEGER: u8 = 4;
    /// Any other number: 8 bytes, little endian, one NaN.
    pub(crate) const DOUBLE: u8 = 5;
    /// Hexadecimal digits as a string of bytes, with a sign.
    pub(crate) const BIGINT: u8 = 6;
    /// UTF-8.
    pub(crate) const TEXT: u8 = 7;
    /// UTF-16 units, little endian: strings with lone surrogates.
    pub(crate) const UNITS: u8 = 8;
    /// The number of an object that came before.
    pub(crate) const REFERENCE: u8 = 9;
    /// A place of an array that holds nothing.
    pub(crate) const HOLE: u8 = 10;
    /// A count of properties, then each: key, value.
    pub(crate) const OBJECT: u8 = 16;
    /// A length, then as many values or holes.
    pub(crate) const ARRAY: u8 = 17;
    /// A length, then as `OBJECT`: arrays with other properties, or with far more holes than values.
    pub(crate) const SPARSE: u8 = 18;
    pub(crate) const DATE: u8 = 19;
    /// Source, flags.
    pub(crate) const REGEXP: u8 = 20;
    /// A count of entries, then each: key, value.
    pub(crate) const MAP: u8 = 21;
    pub(crate) const SET: u8 = 22;
    /// A length, then bytes.
    pub(crate) const BUFFER: u8 = 23;
    /// The view's name, its buffer, its first byte, its length in elements.
    pub(crate) const VIEW: u8 = 24;
    /// Name, message, stack, cause (each a value; a hole where there is none), then as `OBJECT`.
    pub(crate) const ERROR: u8 = 25;
    /// Message, name, stack.
    pub(crate) const DOM_EXCEPTION: u8 = 26;
    /// A primitive in an object of its own.
    pub(crate) const BOXED: u8 = 27;
    /// The media type of a Blob (a value), then a length and bytes.
    pub(crate) const BLOB: u8 = 28;
}

/// Why bytes are no clone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// They end within a value.
    Truncated,
    /// A later version of this format, or none at all.
    Version(u8),
    /// No kind of value has this tag, or not at this place.
    Tag(u8),
    /// A number, length, text or reference that cannot be.
    Content,
    /// Values lie too deep in each other.
    Depth,
    /// Something follows the value.
    Trailing,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Truncated => write!(f, "the value ends too early"),
            Malformed::Version(version) => write!(f, "the value has the unknown format {version}"),
            Malformed::Tag(tag) => write!(f, "the value has an unknown tag {tag}"),
            Malformed::Content => write!(f, "the value has a part that cannot be"),
            Malformed::Depth => write!(f, "the value is nested more than {MAX_DEPTH} deep"),
            Malformed::Trailing => write!(f, "something follows the value"),
        }
    }
}

impl std::error::Error for Malformed {}

/// Appends the parts of values.
#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

impl Writer {
    pub(super) fn tag(&mut self, tag: u8) {
        self.0.push(tag);
    }

    pub(super) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push((number & 0x7f) as u8);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    /// A number as JavaScript has them.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what does not come back unchanged is written as a double"
    )]
    pub(super) fn double(&mut self, double: f64) {
        let whole = double as i64;
        let exact = whole as f64 == double && whole.unsigned_abs() < 1 << 53;
        if exact && !(whole == 0 && double.is_sign_negative()) {
            self.tag(tag::INTEGER);
            return self.number(((whole << 1) ^ (whole >> 63)) as u64);
        }
        self.tag(tag::DOUBLE);
        self.plain_double(double);
    }

    pub(super) fn plain_double(&mut self, double: f64) {
        let one = if double.is_nan() { f64::NAN } else { double };
        self.0.extend_from_slice(&one.to_le_bytes());
    }

    pub(super) fn text(&mut self, units: &[u16]) {
        match String::from_utf16(units) {
            Ok(text) => {
                self.tag(tag::TEXT);
                self.bytes(text.as_bytes());
            }
            Err(_) => {
                self.tag(tag::UNITS);
                self.number(units.len() as u64);
                self.0.extend(units.iter().flat_map(|unit| unit.to_le_bytes()));
            }
        }
    }
}

/// Takes parts of values off the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn tag(&mut self) -> Result<u8, Malformed> {
        let (&tag, rest) = self.0.split_first().ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(tag)
    }

    /// A number in its one shortest form.
    pub(super) fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.tag()?;
            let part = u64::from(byte & 0x7f);
            if (shift == 63 && part > 1) || (byte == 0 && shift > 0) {
                return Err(Malformed::Content);
            }
            number |= part << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed::Content)
    }

    /// A count of things of at least `size` bytes each: never more than there is room for.
    pub(super) fn count(&mut self, size: usize) -> Result<usize, Malformed> {
        let count = usize::try_from(self.number()?).map_err(|_| Malformed::Content)?;
        if count > self.0.len() / size { Err(Malformed::Truncated) } else { Ok(count) }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.count(1)?;
        self.take(count)
    }

    pub(super) fn integer(&mut self) -> Result<f64, Malformed> {
        let raw = self.number()?;
        let whole = (raw >> 1) as i64 ^ -((raw & 1) as i64);
        if whole.unsigned_abs() < 1 << 53 { Ok(whole as f64) } else { Err(Malformed::Content) }
    }

    pub(super) fn plain_double(&mut self) -> Result<f64, Malformed> {
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed::Truncated)?;
        Ok(f64::from_le_bytes(bytes))
    }

    pub(super) fn utf8(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Content)
    }

    pub(super) fn units(&mut self) -> Result<Vec<u16>, Malformed> {
        let count = self.count(2)?;
        Ok(self.take(count * 2)?.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(number: u64) {
            let mut writer = Writer::default();
            writer.number(number);
            prop_assert_eq!(Reader(&writer.0).number(), Ok(number));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let mut reader = Reader(&bytes);
            let _ = (reader.number(), reader.utf8(), reader.units(), reader.integer(), reader.plain_double());
        }
    }

    #[test]
    fn a_number_has_one_form() {
        assert_eq!(Reader(&[0x80, 0x00]).number(), Err(Malformed::Content));
        assert_eq!(Reader(&[0xff; 11]).number(), Err(Malformed::Content));
        assert_eq!(Reader(&[0x80]).number(), Err(Malformed::Truncated));
    }

    #[test]
    fn a_count_is_never_more_than_what_is_there() {
        let mut writer = Writer::default();
        writer.number(u64::MAX);
        assert!(Reader(&writer.0).count(1).is_err());
        assert_eq!(Reader(&[3, 1, 2]).count(1), Err(Malformed::Truncated));
    }
}
