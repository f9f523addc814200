//! The entries of a tar archive as a stream: extended headers and long names are combined with an entry's own header.
//! Holds only one entry's header in memory, which is bounded.
//!
//! Where tar implementations differ, archives are read as by Docker and containerd. In particular the size in an
//! extended header applies only to the entry that it describes.

use std::io::{self, BufRead, Read, Write};

use super::error::LayerError;
use super::header::{BLOCK_BYTES, Header, text};
use super::pax::{Pax, PaxSparse, Time, decimal};
use super::sparse::{self, Map};

/// Longest long name and extended header, in bytes: they are kept in memory. Other tools have the same limit.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;
/// Longest line of a sparse file's map: the digits of a number and a line feed.
const MAX_LINE_BYTES: usize = 21;

/// The kind of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Sparse(Map),
    Directory,
    Symlink,
    Hardlink,
    /// Device nodes.
    Device,
    /// Named pipes.
    Fifo,
    /// Any other kind.
    Other(u8),
}

/// One entry, without its data.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) kind: Kind,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: i64,
    pub(super) gid: i64,
    pub(super) mtime: Time,
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Its size once unpacked, in bytes.
    pub(super) size: u64,
}

/// A reader of an archive.
pub(super) struct Archive<R> {
    from: R,
    /// Unread bytes of the current entry's data, and of the padding of its last block.
    left: u64,
    padding: u64,
    /// How many more header blocks are allowed.
    entries_left: u64,
    max_entries: u64,
}

/// Metadata of an entry from the headers before its own.
#[derive(Default)]
struct Said {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    pax: Option<Pax>,
}

impl<R: BufRead> Archive<R> {
    pub(super) fn new(from: R, max_entries: u64) -> Self {
        Self { from, left: 0, padding: 0, entries_left: max_entries, max_entries }
    }

    /// The next entry. Skips unread data of the last one.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        let mut said = Said::default();
        loop {
            self.skip_rest()?;
            let Some(header) = self.header()? else {
                let dangling = said.path.is_some() || said.link.is_some() || said.pax.is_some();
                return if dangling { Err(LayerError::Truncated) } else { Ok(None) };
            };
            self.entries_left =
                self.entries_left.checked_sub(1).ok_or(LayerError::Entries(self.max_entries))?;
            match header.kind() {
                b'L' => once(&mut said.path, text(&self.extension(&header)?).to_vec())?,
                b'K' => once(&mut said.link, text(&self.extension(&header)?).to_vec())?,
                b'x' => once(&mut said.pax, Pax::read(&self.extension(&header)?)?)?,
                // A global header: none of its keys is used.
                b'g' => self.begin_data(header.size()?),
                _ => return self.entry(&header, said).map(Some),
            }
        }
    }

    /// Copies the current entry's data.
    pub(super) fn copy(&mut self, to: &mut impl Write) -> Result<(), CopyError> {
        let all = self.left;
        self.copy_some(all, to)
    }

    /// Copies this many bytes of the current entry's data.
    pub(super) fn copy_some(&mut self, mut count: u64, to: &mut impl Write) -> Result<(), CopyError> {
        debug_assert!(count <= self.left, "the map of a sparse file was checked");
        while count > 0 {
            let chunk = self.from.fill_buf().map_err(LayerError::read)?;
            if chunk.is_empty() {
                return Err(LayerError::Truncated.into());
            }
            let length = usize::try_from(count).map_or(chunk.len(), |count| count.min(chunk.len()));
            to.write_all(&chunk[..length]).map_err(CopyError::Write)?;
            self.from.consume(length);
            count -= length as u64;
            self.left -= length as u64;
        }
        Ok(())
    }

    /// How many more entries there may be.
    pub(super) fn entries_left(&mut self) -> &mut u64 {
        &mut self.entries_left
    }

    /// Reads the bytes after the archive, which are part of the digests.
    pub(super) fn drain(&mut self) -> Result<(), LayerError> {
        io::copy(&mut self.from, &mut io::sink()).map(|_| ()).map_err(LayerError::read)
    }

    pub(super) fn into_inner(self) -> R {
        self.from
    }

    fn skip_rest(&mut self) -> Result<(), LayerError> {
        let rest = self.left + self.padding;
        if rest == 0 {
            return Ok(());
        }
        let skipped = io::copy(&mut self.from.by_ref().take(rest), &mut io::sink());
        if skipped.map_err(LayerError::read)? < rest {
            return Err(LayerError::Truncated);
        }
        self.begin_data(0);
        Ok(())
    }

    fn begin_data(&mut self, length: u64) {
        let block = BLOCK_BYTES as u64;
        self.left = length;
        self.padding = (block - length % block) % block;
    }

    /// The next header block; `None` at the end, with or without the end-of-archive blocks.
    fn header(&mut self) -> Result<Option<Header>, LayerError> {
        if self.from.fill_buf().map_err(LayerError::read)?.is_empty() {
            return Ok(None);
        }
        Header::new(self.block()?)
    }

    fn block(&mut self) -> Result<Box<[u8; BLOCK_BYTES]>, LayerError> {
        let mut block = Box::new([0; BLOCK_BYTES]);
        self.from.read_exact(block.as_mut()).map_err(LayerError::read)?;
        Ok(block)
    }

    /// The data of a long name or an extended header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, LayerError> {
        let size = header.size()?;
        if size > MAX_EXTENSION_BYTES {
            return Err(LayerError::Archive("a long name or extended header has more than 1 MiB"));
        }
        self.begin_data(size);
        let mut bytes = Vec::new();
        match self.copy(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(CopyError::Write(error)) => Err(LayerError::Read(error)),
            Err(CopyError::Layer(error)) => Err(error),
        }
    }

    fn entry(&mut self, header: &Header, said: Said) -> Result<Entry, LayerError> {
        let Pax { path, link, size, uid, gid, mtime, xattrs, sparse } = said.pax.unwrap_or_default();
        let stored = size.map_or_else(|| header.size(), Ok)?;
        let kind = header.kind();
        // Some programs write a size for links and directories, which have no data.
        self.begin_data(if matches!(kind, b'1'..=b'6') { 0 } else { stored });
        let path = said.path.or(path).unwrap_or_else(|| header.path());
        let (kind, path) = self.kind(header, path, sparse)?;
        Ok(Entry {
            size: if let Kind::Sparse(map) = &kind { map.size } else { self.left },
            kind,
            path,
            link: said.link.or(link).unwrap_or_else(|| header.link().to_vec()),
            mode: header.mode()?,
            uid: uid.map_or_else(|| header.uid(), Ok)?,
            gid: gid.map_or_else(|| header.gid(), Ok)?,
            mtime: mtime
                .map_or_else(|| header.mtime().map(|seconds| Time { seconds, nanoseconds: 0 }), Ok)?,
            xattrs,
        })
    }

    /// The kind of an entry, and its full path.
    fn kind(
        &mut self,
        header: &Header,
        path: Vec<u8>,
        sparse: PaxSparse,
    ) -> Result<(Kind, Vec<u8>), LayerError> {
        let kind = match header.kind() {
            // v7 tar has no type for directories: their names end with a slash.
            0 | b'0' if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => match sparse.size {
                Some(size) => {
                    let path = sparse.name.unwrap_or(path);
                    let numbers = if sparse.map_in_data { self.map_in_data()? } else { sparse.map };
                    return Ok((Kind::Sparse(Map::new(&numbers, size, self.left)?), path));
                }
                None => Kind::File,
            },
            b'S' => Kind::Sparse(self.gnu_map(header)?),
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'3' | b'4' => Kind::Device,
            b'6' => Kind::Fifo,
            b'5' => Kind::Directory,
            other => Kind::Other(other),
        };
        Ok((kind, path))
    }

    /// The map of GNU's old format, which continues in blocks before the data.
    fn gnu_map(&mut self, header: &Header) -> Result<Map, LayerError> {
        let (pieces, mut more, size) = header.sparse()?;
        let mut numbers = Vec::new();
        sparse::gnu_pieces(pieces, &mut numbers)?;
        while more {
            let block = self.block()?;
            sparse::gnu_pieces(&block[..GNU_PIECES_BYTES], &mut numbers)?;
            more = block[GNU_PIECES_BYTES] != 0;
        }
        Map::new(&numbers, size, self.left)
    }

    /// The map at the start of the data (PAX 1.0): decimal numbers in lines, the count first, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<u64>, LayerError> {
        let before = self.left;
        let count = self.line()?;
        let mut numbers = Vec::new();
        for _ in 0..count.saturating_mul(2) {
            numbers.push(self.line()?);
            sparse::bounded(&numbers)?;
        }
        let block = BLOCK_BYTES as u64;
        let rest = (block - (before - self.left) % block) % block;
        for _ in 0..rest {
            self.byte()?;
        }
        Ok(numbers)
    }

    fn line(&mut self) -> Result<u64, LayerError> {
        let mut digits = Vec::new();
        while digits.len() < MAX_LINE_BYTES {
            match self.byte()? {
                b'\n' => return decimal(&digits).and_then(super::header::length),
                digit => digits.push(digit),
            }
        }
        Err(LayerError::Archive("the map of a sparse file is malformed"))
    }

    /// One byte of the current entry's data.
    fn byte(&mut self) -> Result<u8, LayerError> {
        self.left = self.left.checked_sub(1).ok_or(LayerError::Truncated)?;
        let mut byte = [0];
        self.from.read_exact(&mut byte).map_err(LayerError::read)?;
        Ok(byte[0])
    }
}

/// The byte length of these pieces.
const GNU_PIECES_BYTES: usize = 504;

/// Why data could not be copied: reading the layer failed, or writing.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error(transparent)]
    Write(io::Error),
}

fn once<T>(said: &mut Option<T>, new: T) -> Result<(), LayerError> {
    match said.replace(new) {
        None => Ok(()),
        Some(_) => Err(LayerError::Archive("an entry has two names or extended headers of the same kind")),
    }
}
