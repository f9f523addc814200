//! Decompresses a layer. Detects gzip, zstd, xz and none by the first bytes, not by the media type. Counts the output,
//! and hashes it if its digest is needed.

use std::io::{self, BufRead, BufReader, Read};

use berth_common::image::{Algorithm, Digest, Hasher};
use flate2::bufread::MultiGzDecoder;
use lzma_rust2::XzReader;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::error::LayerError;

/// Buffer sizes for compressed and decompressed data: larger ones were not faster.
pub(super) const BUFFER_BYTES: usize = 256 << 10;
/// Magic number of gzip.
const GZIP: &[u8] = &[0x1f, 0x8b];
/// Magic number of zstd frames.
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Magic number of skippable zstd frames, whose first byte's low half may be anything (RFC 8878 §3.1.2).
const ZSTD_SKIPPABLE: &[u8] = &[0x50, 0x2a, 0x4d, 0x18];
/// Magic number of xz.
const XZ: &[u8] = &[0xfd, b'7', b'z', b'X', b'Z', 0];
/// Magic number of bzip2, with the first digit of the size of its blocks.
const BZIP2: &[u8] = b"BZh";
/// Most memory for the window of an xz stream and what the decoder needs besides, in KiB: `xz -9` has a window of
/// 64 MiB, and only `--lzma2=dict=` asks for more.
const MAX_XZ_KIB: u32 = (64 << 10) + 1024;
/// Most memory of a decoder, in bytes. That of zstd keeps the window in a ring whose size is the next power of two.
pub const MAX_DECODER_BYTES: u64 = (MAX_XZ_KIB as u64) << 10;
const _: () = assert!(2 * MAX_WINDOW_BYTES <= MAX_DECODER_BYTES);
/// Bytes that tell the compression.
const START_BYTES: u64 = 6;
/// Largest window of a frame, in bytes: it is kept in memory. `zstd` needs 8 MiB up to level 19, and the encoder that
/// most tools for images have 32 MiB at its highest level. Only `--ultra` and `--long` ask for more.
const MAX_WINDOW_BYTES: u64 = 32 << 20;

/// Starts to read a layer.
pub(super) fn decompress<'a>(layer: impl Read + 'a) -> Result<Box<dyn Read + 'a>, LayerError> {
    let mut from = BufReader::with_capacity(BUFFER_BYTES, layer);
    let start = first_bytes(&mut from).map_err(LayerError::read)?;
    let whole = io::Cursor::new(start.clone()).chain(from);
    // One of no bytes is an empty archive: old builders make such layers.
    if start.starts_with(GZIP) {
        Ok(Box::new(MultiGzDecoder::new(whole)))
    } else if is_zstd(&start) {
        Ok(Box::new(Zstd::new(whole)))
    } else if start == XZ {
        Ok(Box::new(XzReader::new_mem_limit(whole, true, MAX_XZ_KIB)))
    } else if start.starts_with(BZIP2) {
        Err(LayerError::Compression("bzip2"))
    } else {
        Ok(Box::new(whole))
    }
}

/// Reads the first bytes, which determine the compression. Short reads are possible.
fn first_bytes(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::new();
    from.take(START_BYTES).read_to_end(&mut start)?;
    Ok(start)
}

fn is_zstd(start: &[u8]) -> bool {
    let skippable = start.first().is_some_and(|first| first & 0xf0 == ZSTD_SKIPPABLE[0])
        && start.get(1..).is_some_and(|rest| rest.starts_with(&ZSTD_SKIPPABLE[1..]));
    start.starts_with(ZSTD) || skippable
}

/// A decoder of all frames of a zstd stream.
struct Zstd<R> {
    from: R,
    frame: FrameDecoder,
}

impl<R: BufRead> Zstd<R> {
    fn new(from: R) -> Self {
        let mut frame = FrameDecoder::new();
        frame.set_max_window_size(MAX_WINDOW_BYTES);
        Self { from, frame }
    }

    /// Begins the next data frame. False at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        while !self.from.fill_buf()?.is_empty() {
            match self.frame.reset(&mut self.from) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.skip(u64::from(length))?,
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(false)
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.from.by_ref().take(length), &mut io::sink())?;
        if skipped < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Decodes until there is output. False at the end of the stream.
    fn fill(&mut self) -> io::Result<bool> {
        while self.frame.can_collect() == 0 {
            if self.frame.is_finished() {
                if !self.next_frame()? {
                    return Ok(false);
                }
            } else {
                let some = ruzstd::decoding::BlockDecodingStrategy::UptoBlocks(1);
                self.frame.decode_blocks(&mut self.from, some).map_err(io::Error::other)?;
            }
        }
        Ok(true)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() || !self.fill()? { Ok(0) } else { self.frame.read(into) }
    }
}

/// Counts what is read, and hashes it if needed. Exceeding the limit is an error, not an end of file.
pub(super) struct Counted<R> {
    from: R,
    left: u64,
    limit: u64,
    hash: Option<Hasher>,
}

/// The limit was exceeded.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
struct TooLarge(u64);

impl<R: Read> Counted<R> {
    pub(super) fn new(from: R, limit: u64, hash: Option<Algorithm>) -> Self {
        Self { from, left: limit, limit, hash: hash.map(Hasher::new) }
    }

    /// The digest of all bytes read.
    pub(super) fn digest(self) -> Option<Digest> {
        self.hash.map(Hasher::digest)
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.left =
            self.left.checked_sub(read as u64).ok_or_else(|| io::Error::other(TooLarge(self.limit)))?;
        if let Some(hash) = &mut self.hash {
            hash.update(&into[..read]);
        }
        Ok(read)
    }
}

impl LayerError {
    /// Why a read failed.
    pub(super) fn read(error: io::Error) -> Self {
        let too_large = error.get_ref().and_then(|error| error.downcast_ref::<TooLarge>());
        match too_large {
            Some(TooLarge(limit)) => Self::Bytes(*limit),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Truncated,
            None if error.kind() == io::ErrorKind::OutOfMemory => Self::Memory(MAX_XZ_KIB),
            None => Self::Read(error),
        }
    }
}
