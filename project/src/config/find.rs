//! Finds the files of a configuration in a directory, and reads them, bounded.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use super::Files;
use super::parse::{Language, MAX_BYTES};
use crate::report::{Problem, Report, Source, Weight};

/// In the order in which wrangler looks for them.
const NAMES: [(&str, Language); 3] = [
    ("wrangler.json", Language::Json),
    ("wrangler.jsonc", Language::Json),
    ("wrangler.toml", Language::Toml),
];
/// What wrangler has no key for.
pub(super) const OWN: &str = "berth.toml";

/// Whether there is a configuration.
pub(crate) fn is_there(directory: &Path) -> bool {
    NAMES.iter().any(|(name, _)| directory.join(name).is_file())
}

/// The first configuration that there is, and Berth's own beside it.
pub(crate) fn find(report: &mut Report, directory: &Path) -> Option<Files> {
    let there: Vec<_> = NAMES.iter().filter(|(name, _)| directory.join(name).is_file()).collect();
    let Some((name, language)) = there.first() else {
        let message = "there is no configuration; expected a wrangler.jsonc, wrangler.json or wrangler.toml";
        report.add(whole(Path::new("."), message));
        return None;
    };
    if let Some((other, _)) = there.get(1) {
        let message = format!("{name} is read, and {other} is not; expected one of the two");
        report.remark(Weight::Warning, whole(Path::new(other), message));
    }
    let source = read(report, directory, name);
    let own = if directory.join(OWN).is_file() { read(report, directory, OWN) } else { None };
    Some(Files { source: source?, language: *language, own })
}

fn read(report: &mut Report, directory: &Path, name: &str) -> Option<Source> {
    match read_bounded(&directory.join(name), MAX_BYTES) {
        Ok(text) => Some(Source::new(Path::new(name), text.into())),
        Err(fault) => {
            report.add(whole(Path::new(name), fault));
            None
        }
    }
}

/// The text of a file, or why there is none.
pub(crate) fn read_bounded(path: &Path, most: usize) -> Result<String, String> {
    let bytes = read_bytes(path, most)?;
    String::from_utf8(bytes)
        .map_err(|error| format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to()))
}

/// The content of a file, or why there is none.
pub(crate) fn read_bytes(path: &Path, most: usize) -> Result<Vec<u8>, String> {
    // What is no file may never end, or never begin.
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return Err("is not a file".to_owned());
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let read = File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() > most => Err(format!("is longer than {most} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Err("is not there".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn whole(file: &Path, message: impl Into<String>) -> Problem {
    Problem { file: PathBuf::from(file), position: None, message: message.into() }
}
