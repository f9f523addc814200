//! The records of a PAX extended header, for values that do not fit an entry's own header. The last record of a key
//! counts, and an empty value removes earlier ones.

use super::error::LayerError;
use super::header::length;

/// Prefix of keys of extended attributes.
const XATTR: &[u8] = b"SCHILY.xattr.";
/// Prefix of keys of sparse files.
const SPARSE: &[u8] = b"GNU.sparse.";
/// Most extended attributes of an entry: each is looked for among the others. Files have a few.
const MAX_XATTRS: usize = 256;

/// A time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
}

/// The values of an extended header.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<i64>,
    pub(super) gid: Option<i64>,
    pub(super) mtime: Option<Time>,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: PaxSparse,
}

/// Its values about a sparse file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct PaxSparse {
    /// Whether the map is at the start of the data (version 1.0).
    pub(super) map_in_data: bool,
    pub(super) name: Option<Vec<u8>>,
    /// The size including holes.
    pub(super) size: Option<u64>,
    /// The map: offsets and lengths in turn (versions 0.0 and 0.1).
    pub(super) map: Vec<u64>,
}

impl Pax {
    pub(super) fn read(mut bytes: &[u8]) -> Result<Self, LayerError> {
        let mut pax = Self::default();
        while !bytes.is_empty() {
            let (key, value, rest) = record(bytes).ok_or(MALFORMED)?;
            pax.take(key, value)?;
            bytes = rest;
        }
        Ok(pax)
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerError> {
        match key {
            b"path" => self.path = some(value).map(<[u8]>::to_vec),
            b"linkpath" => self.link = some(value).map(<[u8]>::to_vec),
            b"size" => self.size = some(value).map(|value| decimal(value).and_then(length)).transpose()?,
            b"uid" => self.uid = some(value).map(decimal).transpose()?,
            b"gid" => self.gid = some(value).map(decimal).transpose()?,
            b"mtime" => self.mtime = some(value).map(time).transpose()?,
            _ => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    self.take_xattr(name, value)?;
                } else if let Some(key) = key.strip_prefix(SPARSE) {
                    self.sparse.take(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn take_xattr(&mut self, name: &[u8], value: &[u8]) -> Result<(), LayerError> {
        self.xattrs.retain(|(other, _)| other != name);
        if self.xattrs.len() == MAX_XATTRS {
            return Err(LayerError::Archive("an entry has more than 256 extended attributes"));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

impl PaxSparse {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<(), LayerError> {
        match key {
            b"major" => self.map_in_data = value == b"1",
            b"name" => self.name = Some(value.to_vec()),
            b"size" | b"realsize" => self.size = Some(length(decimal(value)?)?),
            b"offset" | b"numbytes" => self.map.push(length(decimal(value)?)?),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').map(|value| length(decimal(value)?));
                self.map = numbers.collect::<Result<_, _>>()?;
            }
            _ => {}
        }
        Ok(())
    }
}

const MALFORMED: LayerError = LayerError::Archive("an extended header is malformed");

/// The first record (`LENGTH KEY=VALUE` and a line feed) as key and value, and the rest. The length is authoritative: a
/// value may contain line feeds.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(MAX_LENGTH_DIGITS).position(|byte| *byte == b' ')?;
    let (record, rest) = bytes.split_at_checked(std::str::from_utf8(&bytes[..space]).ok()?.parse().ok()?)?;
    let line = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = line.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&line[..equals], &line[equals + 1..]);
    (!key.is_empty() && !key.contains(&0)).then_some((key, value, rest))
}

/// Longest length of a record, with the space: more digits than any that fits into memory has.
const MAX_LENGTH_DIGITS: usize = 20;

fn some(value: &[u8]) -> Option<&[u8]> {
    Some(value).filter(|value| !value.is_empty())
}

pub(super) fn decimal(value: &[u8]) -> Result<i64, LayerError> {
    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or(MALFORMED)
}

/// Seconds, with a fraction or without, before 1970 or after.
fn time(value: &[u8]) -> Result<Time, LayerError> {
    let (whole, fraction) = match value.iter().position(|byte| *byte == b'.') {
        Some(point) => (&value[..point], &value[point + 1..]),
        None => (value, &b""[..]),
    };
    let (seconds, nanoseconds) = (decimal(whole)?, nanoseconds(fraction)?);
    if whole.starts_with(b"-") && nanoseconds > 0 {
        // The fraction of a negative time counts backwards; a file's nanoseconds count forwards from the second before.
        return Ok(Time { seconds: seconds.saturating_sub(1), nanoseconds: NANOSECONDS - nanoseconds });
    }
    Ok(Time { seconds, nanoseconds })
}

const NANOSECONDS: u32 = 1_000_000_000;

fn nanoseconds(fraction: &[u8]) -> Result<u32, LayerError> {
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(MALFORMED);
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    Ok(digits.fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn records(records: &[(&str, &[u8])]) -> Vec<u8> {
        records.iter().flat_map(|(key, value)| super::super::tests::archive::record(key, value)).collect()
    }

    #[test]
    fn values_may_have_line_feeds_and_the_last_counts() {
        let bytes = records(&[
            ("SCHILY.xattr.user.a", b"one\ntwo=\0"),
            ("path", b"first"),
            ("path", b"a\nb"),
            ("size", b"9"),
            ("uid", b"7"),
            ("uid", b""),
            ("comment", b"x"),
        ]);
        let pax = Pax::read(&bytes).unwrap();
        assert_eq!(pax.path.unwrap(), b"a\nb");
        assert_eq!((pax.size, pax.uid), (Some(9), None));
        assert_eq!(pax.xattrs, [(b"user.a".to_vec(), b"one\ntwo=\0".to_vec())]);
    }

    #[test]
    fn malformed_records_are_refused() {
        for bad in [
            &b"5 a=b\n"[..],
            b"7 a=b\n",
            b"6 a=b\nx",
            b"06 a=b",
            b"6 =ab\n",
            b"6 abc\n",
            b"99999999999999999999999 a=b\n",
            b"-6 a=b\n",
            b"0 \n",
            b" a=b\n",
            b"\n",
            b"10 size=-1\n",
            b"10 size=1x\n",
            b"12 mtime=1.x\n",
        ] {
            assert!(Pax::read(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn times_have_nanoseconds_on_both_sides_of_1970() {
        let of = |text: &str| time(text.as_bytes()).map(|time| (time.seconds, time.nanoseconds));
        assert_eq!(of("1350244992.023960108").unwrap(), (1_350_244_992, 23_960_108));
        assert_eq!(of("1.5").unwrap(), (1, 500_000_000));
        assert_eq!(of("-1.25").unwrap(), (-2, 750_000_000));
        assert_eq!(of("-3").unwrap(), (-3, 0));
        assert_eq!(of("1.1234567899").unwrap(), (1, 123_456_789));
    }
}
