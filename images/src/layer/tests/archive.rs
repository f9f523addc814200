//! Writes archives that no honest program would.

/// An archive in the making.
#[derive(Default, Clone)]
pub(crate) struct Tar(Vec<u8>);

/// An entry, with everything said as it is.
#[derive(Clone)]
pub(crate) struct E<'a> {
    pub(crate) kind: u8,
    pub(crate) path: &'a [u8],
    pub(crate) link: &'a [u8],
    pub(crate) mode: u64,
    pub(crate) ids: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) data: &'a [u8],
    /// What the block says of the data's length, if it lies.
    pub(crate) size: Option<u64>,
}

impl Default for E<'_> {
    fn default() -> Self {
        let (link, data) = (&b""[..], &b""[..]);
        Self { kind: b'0', path: b"", link, mode: 0o644, ids: (0, 0), mtime: 1_000_000, data, size: None }
    }
}

impl Tar {
    pub(crate) fn file(self, path: &str, data: &str) -> Self {
        self.entry(E { path: path.as_bytes(), data: data.as_bytes(), ..E::default() })
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        self.entry(E { kind: b'5', path: path.as_bytes(), mode: 0o755, ..E::default() })
    }

    pub(crate) fn symlink(self, path: &str, link: &str) -> Self {
        self.entry(E { kind: b'2', path: path.as_bytes(), link: link.as_bytes(), ..E::default() })
    }

    pub(crate) fn hardlink(self, path: &str, link: &str) -> Self {
        self.entry(E { kind: b'1', path: path.as_bytes(), link: link.as_bytes(), ..E::default() })
    }

    /// An extended header with these records.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records.iter().flat_map(|(key, value)| record(key, value)).collect();
        self.entry(E { kind: b'x', path: b"PaxHeaders/x", data: &data, ..E::default() })
    }

    pub(crate) fn long(self, kind: u8, name: &[u8]) -> Self {
        self.entry(E { kind, path: b"././@LongLink", data: &[name, b"\0"].concat(), ..E::default() })
    }

    /// Names that are too long for the block have an entry of their own before it.
    pub(crate) fn entry(mut self, entry: E<'_>) -> Self {
        if entry.path.len() > 100 {
            self = self.long(b'L', entry.path);
        }
        if entry.link.len() > 100 {
            self = self.long(b'K', entry.link);
        }
        let size = entry.size.unwrap_or(entry.data.len() as u64);
        self.block(block(&entry, size)).data(entry.data)
    }

    pub(crate) fn block(mut self, mut block: [u8; 512]) -> Self {
        seal(&mut block);
        self.0.extend(block);
        self
    }

    pub(crate) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// With the blocks that mark its end.
    pub(crate) fn done(mut self) -> Vec<u8> {
        self.0.extend([0; 1024]);
        self.0
    }

    pub(crate) fn cut(self, length: usize) -> Vec<u8> {
        self.0[..length].to_vec()
    }
}

/// A block that describes an entry, in GNU's form, without its checksum.
pub(crate) fn block(entry: &E<'_>, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    put(&mut block[..100], entry.path);
    number(&mut block[100..108], entry.mode);
    number(&mut block[108..116], entry.ids.0);
    number(&mut block[116..124], entry.ids.1);
    number(&mut block[124..136], size);
    number(&mut block[136..148], entry.mtime);
    block[156] = entry.kind;
    put(&mut block[157..257], entry.link);
    put(&mut block[257..265], b"ustar  \0");
    block
}

fn put(field: &mut [u8], bytes: &[u8]) {
    let length = bytes.len().min(field.len());
    field[..length].copy_from_slice(&bytes[..length]);
}

/// Octal where it fits, and binary where it does not.
pub(crate) fn number(field: &mut [u8], number: u64) {
    let octal = format!("{number:0width$o}", width = field.len() - 1);
    if octal.len() < field.len() {
        return put(field, octal.as_bytes());
    }
    let (start, last) = (field.len().saturating_sub(8), number.to_be_bytes());
    field.fill(0);
    let length = field.len() - start;
    field[start..].copy_from_slice(&last[8 - length..]);
    field[0] |= 0x80;
}

fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    put(&mut block[148..156], format!("{sum:06o}\0 ").as_bytes());
}

/// One record of an extended header.
pub(crate) fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
    let mut length = body.len();
    while length != body.len() + length.to_string().len() {
        length = body.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &body].concat()
}
