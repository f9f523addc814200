//! Digests, whole and in parts.

use std::cell::RefCell;

use rquickjs::function::Opt;
use rquickjs::{Ctx, Exception, Function, Result, TypedArray, Value};
use sha2::digest::{Digest, DynDigest};

use crate::raw;

type Bytes<'js> = TypedArray<'js, u8>;

/// The digests that there are. MD5 is no part of the specification: the reference has it, for those who need it for old formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hash {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// Runs an expression with `$D` as the digest's type.
macro_rules! hashed {
    ($hash:expr, $D:ident => $run:expr) => {
        match $hash {
            crate::web::subtle::hash::Hash::Md5 => {
                type $D = md5::Md5;
                $run
            }
            crate::web::subtle::hash::Hash::Sha1 => {
                type $D = sha1::Sha1;
                $run
            }
            crate::web::subtle::hash::Hash::Sha256 => {
                type $D = sha2::Sha256;
                $run
            }
            crate::web::subtle::hash::Hash::Sha384 => {
                type $D = sha2::Sha384;
                $run
            }
            crate::web::subtle::hash::Hash::Sha512 => {
                type $D = sha2::Sha512;
                $run
            }
        }
    };
}
pub(super) use hashed;

impl Hash {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "MD5" => Self::Md5,
            "SHA-1" => Self::Sha1,
            "SHA-256" => Self::Sha256,
            "SHA-384" => Self::Sha384,
            "SHA-512" => Self::Sha512,
            _ => return None,
        })
    }

    pub(super) fn of(self, data: &[u8]) -> Vec<u8> {
        hashed!(self, D => D::digest(data).to_vec())
    }

    /// Bytes of a digest.
    pub(super) fn size(self) -> usize {
        hashed!(self, D => <D as Digest>::output_size())
    }

    fn begin(self) -> Box<dyn DynDigest> {
        hashed!(self, D => Box::new(D::new()))
    }
}

fn named(ctx: &Ctx<'_>, name: &str) -> Result<Hash> {
    Hash::named(name).ok_or_else(|| Exception::throw_type(ctx, "There is no such digest."))
}

pub(super) fn digest<'js>(ctx: Ctx<'js>, name: String, data: Bytes<'js>) -> Result<Bytes<'js>> {
    let hash = named(&ctx, &name)?;
    let digest = raw::with_bytes(&data, move |data| hash.of(data));
    raw::bytes(&ctx, &digest)
}

/// A function that takes bytes in, and without any gives the digest or the checksum of all.
pub(super) fn hasher<'js>(ctx: Ctx<'js>, name: String) -> Result<Function<'js>> {
    let begun = match Crc::named(&name) {
        Some(crc) => Sum::Crc(crc),
        None => Sum::Digest(named(&ctx, &name)?.begin()),
    };
    let state = RefCell::new(begun);
    let run = move |ctx: Ctx<'js>, data: Opt<Bytes<'js>>| -> Result<Value<'js>> {
        let mut state = state.borrow_mut();
        let Some(data) = data.0 else {
            return Ok(raw::bytes(&ctx, &state.end())?.into_value());
        };
        state.update(&raw::copy(&data));
        Ok(Value::new_undefined(ctx))
    };
    Function::new(ctx, run)
}

/// What is added up of a stream.
enum Sum {
    Digest(Box<dyn DynDigest>),
    Crc(Crc),
}

impl Sum {
    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Digest(digest) => digest.update(data),
            Self::Crc(crc) => crc.update(data),
        }
    }

    fn end(&mut self) -> Vec<u8> {
        match self {
            Self::Digest(digest) => digest.finalize_reset().into_vec(),
            Self::Crc(crc) => (!crc.state).to_be_bytes()[8 - crc.bytes..].to_vec(),
        }
    }
}

/// A checksum by a polynomial whose bits are in reverse: those of zip files, of SCTP, and of NVMe.
struct Crc {
    state: u64,
    /// What one byte comes to.
    table: Box<[u64; 256]>,
    bytes: usize,
}

impl Crc {
    fn named(name: &str) -> Option<Self> {
        let (polynomial, bytes) = match name {
            "crc32" => (0xedb8_8320, 4),
            "crc32c" => (0x82f6_3b78, 4),
            "crc64nvme" => (0x9a6c_9329_ac4b_c9b5, 8),
            _ => return None,
        };
        let of_byte = |byte: u64| (0..8).fold(byte, |sum, _| (sum >> 1) ^ (polynomial * (sum & 1)));
        let mut table = Box::new([0; 256]);
        for (byte, sum) in table.iter_mut().enumerate() {
            *sum = of_byte(byte as u64);
        }
        Some(Self { state: u64::MAX >> (64 - 8 * bytes), table, bytes })
    }

    fn update(&mut self, data: &[u8]) {
        for byte in data {
            let [low, ..] = self.state.to_le_bytes();
            self.state = (self.state >> 8) ^ self.table[usize::from(low ^ byte)];
        }
    }
}
