//! Certificates and keys on disk. Keys are created readable by their owner only, and refused if others can read them.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Largest file read, in bytes: a bundle of many certificates is far smaller.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Permission bits that a key file must not have: any for group and others.
const OTHERS: u32 = 0o077;
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;

/// Why a certificate or key file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file exists already, and is never overwritten.
    #[error("{0} exists and is not overwritten: move it away first if a new one is wanted")]
    Exists(PathBuf),
    /// The key can be read by others.
    #[error(
        "{path} holds a private key and has mode {mode:04o}, so others may read it: run `chmod 600 {path}`"
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is too large for certificates or a key.
    #[error("{0} is larger than {MAX_FILE_BYTES} bytes: it is not a PEM file of certificates or a key")]
    TooLarge(PathBuf),
    /// It has no certificate.
    #[error("{0} holds no PEM block `CERTIFICATE`, or a damaged one")]
    NoCertificate(PathBuf),
    /// It has no key.
    #[error("{0} holds no PEM block `PRIVATE KEY`, or a damaged one")]
    NoKey(PathBuf),
}

impl FileError {
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| match source.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists(path.to_owned()),
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }
}

pub(crate) fn make_directory(path: &Path) -> Result<(), FileError> {
    DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
        .map_err(FileError::io("make the directory", path))
}

/// Writes a new key and its certificate, both or neither.
pub(crate) fn write_pair(
    key: (&Path, &str),
    certificate: (&Path, &str),
    directory: &Path,
) -> Result<(), FileError> {
    if certificate.0.exists() {
        return Err(FileError::Exists(certificate.0.to_owned()));
    }
    write_new(key.0, key.1, KEY_MODE)?;
    let rest = write_new(certificate.0, certificate.1, CERTIFICATE_MODE).and_then(|()| sync(directory));
    rest.inspect_err(|_| {
        // The key was made by this call, so removing it loses nothing; a failure to remove it is harmless.
        let _ = std::fs::remove_file(key.0);
    })
}

/// Writes a new key.
pub(crate) fn write_key(path: &Path, text: &str, directory: &Path) -> Result<(), FileError> {
    write_new(path, text, KEY_MODE)?;
    sync(directory)
}

/// Writes a file that may exist, at once: readers see what was there, or the new one, whole.
pub(crate) fn put(path: &Path, text: &str, directory: &Path) -> Result<(), FileError> {
    let new = path.with_extension(format!("new-{}", std::process::id()));
    write_new(&new, text, CERTIFICATE_MODE)?;
    let moved = std::fs::rename(&new, path).map_err(FileError::io("replace", path));
    moved.and_then(|()| sync(directory)).inspect_err(|_| {
        // There is nothing of it left if it was moved.
        let _ = std::fs::remove_file(&new);
    })
}

/// Reads a text of a file that anybody may read. What is no text in it becomes such that is no PEM either.
pub(crate) fn read_text(path: &Path) -> Result<String, FileError> {
    Ok(String::from_utf8_lossy(&read(&open(path)?, path)?).into_owned())
}

/// Replaces a certificate that exists, at once: readers see the old one or the new one, whole.
pub(crate) fn replace(path: &Path, text: &str, directory: &Path) -> Result<(), FileError> {
    drop(open(path)?);
    put(path, text, directory)
}

/// Sets the mode at creation, so that the file is never readable by others.
fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), FileError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(FileError::io("create", path))?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    written.map_err(|error| {
        let _ = std::fs::remove_file(path);
        FileError::io("write", path)(error)
    })
}

fn sync(directory: &Path) -> Result<(), FileError> {
    File::open(directory).and_then(|d| d.sync_all()).map_err(FileError::io("sync", directory))
}

pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let bytes = read(&open(path)?, path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(FileError::NoCertificate(path.to_owned())),
    }
}

pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    let bytes = read_private(path)?;
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|_| FileError::NoKey(path.to_owned()))
}

/// Reads a file that only its owner may read. Checks the permissions of the opened file, not of its path, which could
/// be replaced in between.
pub(crate) fn read_private(path: &Path) -> Result<Vec<u8>, FileError> {
    let file = open(path)?;
    let mode = file.metadata().map_err(FileError::io("look at", path))?.permissions().mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    read(&file, path)
}

fn open(path: &Path) -> Result<File, FileError> {
    File::open(path).map_err(FileError::io("open", path))
}

fn read(file: &File, path: &Path) -> Result<Vec<u8>, FileError> {
    let mut bytes = Vec::new();
    let length =
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(FileError::io("read", path))?;
    if u64::try_from(length).is_ok_and(|length| length <= MAX_FILE_BYTES) {
        Ok(bytes)
    } else {
        Err(FileError::TooLarge(path.to_owned()))
    }
}
