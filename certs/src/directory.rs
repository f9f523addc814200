//! The certificates that lie in a directory.

use std::fs;
use std::path::Path;

use crate::files::{self, FileError};
use crate::identity;
use crate::lifetime::Lifetime;

/// A certificate in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The file's name.
    pub file: String,
    /// Whose it is: a daemon's role and name, the CA, or none that Berth has issued.
    pub of: String,
    /// How long it holds.
    pub lifetime: Lifetime,
}

/// The first certificate of each PEM file in a directory, in order of the names. Files without one are left out.
pub fn certificates_in(directory: &Path) -> Result<Vec<Certificate>, FileError> {
    let entries = fs::read_dir(directory).map_err(FileError::io("read the directory", directory))?;
    let mut found: Vec<Certificate> =
        entries.flatten().filter_map(|entry| read(&entry.path(), entry.file_name().to_str()?)).collect();
    found.sort_by(|one, other| one.file.cmp(&other.file));
    Ok(found)
}

fn read(path: &Path, name: &str) -> Option<Certificate> {
    if !name.ends_with(".pem") {
        return None;
    }
    let certificates = files::read_certificates(path).ok()?;
    let first = certificates.first()?;
    let of = match identity::peer_identity(first) {
        Ok(identity) => identity.to_string(),
        Err(_) if identity::is_authority(first) => "a CA".to_owned(),
        Err(_) => "another".to_owned(),
    };
    Some(Certificate { file: name.to_owned(), of, lifetime: Lifetime::of(first).ok()? })
}
