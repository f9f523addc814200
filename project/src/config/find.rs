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

/// The directory of a project, and the configuration in it where that is what is named.
pub(crate) fn split(at: &Path) -> (&Path, Option<&Path>) {
    if at.is_dir() || language(at).is_none() {
        return (at, None);
    }
    let directory = at.parent().filter(|directory| !directory.as_os_str().is_empty());
    (directory.unwrap_or(Path::new(".")), at.file_name().map(Path::new))
}

/// What a configuration is written in, by the ending of its name.
fn language(file: &Path) -> Option<Language> {
    match file.extension()?.to_str()? {
        "json" | "jsonc" => Some(Language::Json),
        "toml" => Some(Language::Toml),
        _ => None,
    }
}

/// The configuration that is named, or the first that there is in the directory; and Berth's own beside it.
pub(crate) fn find(report: &mut Report, at: &Path) -> Option<Files> {
    let (directory, named) = split(at);
    let named = named.and_then(|name| Some((name, language(name)?)));
    let (name, language) = named.or_else(|| first(report, directory))?;
    let source = read(report, directory, name);
    let own = directory.join(OWN).is_file() && name != Path::new(OWN);
    let own = if own { read(report, directory, Path::new(OWN)) } else { None };
    Some(Files { source: source?, language, own })
}

/// The first configuration that there is.
fn first(report: &mut Report, directory: &Path) -> Option<(&'static Path, Language)> {
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
    Some((Path::new(name), *language))
}

fn read(report: &mut Report, directory: &Path, name: &Path) -> Option<Source> {
    match read_bounded(&directory.join(name), MAX_BYTES) {
        Ok(text) => Some(Source::new(name, text.into())),
        Err(fault) => {
            report.add(whole(name, fault));
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
