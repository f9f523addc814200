//! `.dev.vars` and `.env`: the secrets of a Workers project while it is worked on, in the files that wrangler reads them from. They
//! are texts in `env`, before variables of the same name, and only `berth dev` knows them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use berth_common::ids::SecretName;
use berth_common::secret::Secret;
use berth_common::spec::{MAX_SECRET_BYTES, MAX_SECRETS};
use berth_project::Config;

use crate::failure::bad_input;
use crate::output;

/// Largest of these files, in bytes: some values of the greatest length, and more than anybody writes by hand.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The secrets by name.
pub(super) type Vars = BTreeMap<SecretName, Secret>;

/// Reads what is there. `.dev.vars.ENV` takes the place of `.dev.vars`; without both, all files of `.env` count, the more exact one
/// before the others. Where the configuration lists secrets, only those are taken.
pub(super) fn read(directory: &Path, config: &Config) -> Result<Vars> {
    let environment = config.environment.as_deref();
    let mut vars = Vars::new();
    for file in files(directory, environment) {
        add(&directory.join(&file), &mut vars)?;
    }
    if !config.secrets_required.is_empty() {
        let listed =
            |name: &SecretName| config.secrets_required.iter().any(|known| known.as_str() == name.as_str());
        vars.retain(|name, _| listed(name));
    }
    ensure!(vars.len() <= MAX_SECRETS, bad(directory, &format!("expected at most {MAX_SECRETS} secrets")));
    Ok(vars)
}

/// The files that count, the most exact one last.
fn files(directory: &Path, environment: Option<&str>) -> Vec<String> {
    let of = |name: &str| environment.map(|environment| format!("{name}.{environment}"));
    let there = |name: &String| directory.join(name).is_file();
    let dev_vars = of(".dev.vars").into_iter().chain([".dev.vars".to_owned()]).find(there);
    if let Some(file) = dev_vars {
        return vec![file];
    }
    let local = of(".env").map(|name| format!("{name}.local"));
    let all = [Some(".env".to_owned()), of(".env"), Some(".env.local".to_owned()), local];
    all.into_iter().flatten().filter(there).collect()
}

fn add(file: &Path, vars: &mut Vars) -> Result<()> {
    for Line { number, name, value } in lines(&text(file)?) {
        let Ok(name) = name.parse::<SecretName>() else {
            let why = "a name has ASCII letters, digits and `_`, the first no digit";
            output::note!("warning: {}:{number}: it is left out: {why}", file.display());
            continue;
        };
        let long = value.len() > MAX_SECRET_BYTES || value.contains('\0');
        let rule = format!("{name}: expected a value of up to {MAX_SECRET_BYTES} bytes without zero bytes");
        ensure!(!long, bad(file, &format!("line {number}: {rule}")));
        vars.insert(name, Secret::new(value));
    }
    Ok(())
}

fn text(file: &Path) -> Result<String> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(_) if text.len() as u64 > MAX_FILE_BYTES => {
            Err(bad(file, &format!("is longer than {MAX_FILE_BYTES} bytes")))
        }
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(bad(file, "is not UTF-8")),
        Err(error) => Err(bad(file, &format!("cannot be read: {error}"))),
    }
}

fn bad(file: &Path, what: &str) -> anyhow::Error {
    bad_input(anyhow!("{}: {what}", file.display()))
}

/// The names and values in a text as of these files.
pub(crate) fn pairs(text: &str) -> impl Iterator<Item = (String, String)> {
    lines(text).into_iter().map(|line| (line.name, line.value))
}

/// A name and its value, with the number of its line.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    number: usize,
    name: String,
    value: String,
}

/// The lines of a file, as the libraries of the reference read them: `NAME=VALUE`, perhaps behind `export`; a value may stand in
/// quotes, and then go over several lines; `#` begins a comment. Other lines count for nothing.
fn lines(text: &str) -> Vec<Line> {
    let mut found = Vec::new();
    let (mut rest, mut number) = (text, 1);
    while !rest.is_empty() {
        let line = rest.split_inclusive('\n').next().unwrap_or(rest);
        let mut taken = line.len();
        if let Some((name, value)) = split(line) {
            // A value in quotes goes to their end, wherever that is.
            let start = line.len() - value.len();
            let quoted = quoted(&rest[start..]);
            let value = match quoted {
                Some((value, bytes)) => {
                    let end = start + bytes;
                    let tail = rest[end..].find('\n').map_or(rest.len(), |at| end + at + 1);
                    taken = tail;
                    value
                }
                None => bare(value),
            };
            found.push(Line { number, name: name.to_owned(), value });
        }
        number += rest[..taken].matches('\n').count();
        rest = &rest[taken..];
    }
    found
}

/// The name of a line, and what is behind its `=`.
fn split(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start();
    let exported = line.strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace));
    let (name, value) = exported.unwrap_or(line).split_once('=')?;
    let name = name.trim();
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (!name.is_empty() && name.chars().all(good)).then_some((name, value))
}

/// A value in quotes, and the bytes up to their end. Within double ones `\n` and `\r` are line breaks.
fn quoted(text: &str) -> Option<(String, usize)> {
    let inner = text.trim_start_matches([' ', '\t']);
    let quote = inner.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'))?;
    let inner = &inner[1..];
    let mut before = None;
    let end = inner.char_indices().find(|(_, c)| {
        let ends = *c == quote && before != Some('\\');
        before = Some(*c);
        ends
    });
    let (end, _) = end?;
    let value = &inner[..end];
    let value = if quote == '"' { value.replace("\\n", "\n").replace("\\r", "\r") } else { value.to_owned() };
    Some((value, text.len() - inner.len() + end + 1))
}

fn bare(value: &str) -> String {
    value.split('#').next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn values(text: &str) -> Vec<(usize, String, String)> {
        lines(text).into_iter().map(|Line { number, name, value }| (number, name, value)).collect()
    }

    #[test]
    fn lines_are_read_as_the_references_libraries_do() {
        let text = "# a comment\nA=1\n\nexport B = two words # and more\nC='x # y'\nD=\"a\\nb\"\nE=`it's`\nF=\"first\nsecond\" # end\n\
                    no line\nG=\nH=\"open\nI=a=b\r\n";
        let expected = [
            (2, "A", "1"),
            (4, "B", "two words"),
            (5, "C", "x # y"),
            (6, "D", "a\nb"),
            (7, "E", "it's"),
            (8, "F", "first\nsecond"),
            (11, "G", ""),
            (12, "H", "\"open"),
            (13, "I", "a=b"),
        ];
        let expected =
            expected.map(|(number, name, value)| (number, name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(values(text), expected);
        for hostile in ["=", "A", "\"", "A=\"", "A='\\'", "ä=ü", "A=ü'", "export", "export =1"] {
            let _ = values(hostile);
        }
    }

    #[test]
    fn the_most_exact_files_count() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let read = |environment: Option<&str>| {
            let mut vars = Vars::new();
            for file in files(directory.path(), environment) {
                add(&directory.path().join(file), &mut vars).unwrap();
            }
            let pairs = vars.iter().map(|(name, value)| format!("{name}={}", value.expose()));
            pairs.collect::<Vec<_>>().join(" ")
        };
        write(".env", "A=1\nB=1\nC=1\nD=1");
        write(".env.local", "C=3\nD=3");
        write(".env.e", "B=2\nC=2\nD=2");
        write(".env.e.local", "D=4");
        assert_eq!(read(None), "A=1 B=1 C=3 D=3");
        assert_eq!(read(Some("e")), "A=1 B=2 C=3 D=4");
        write(".dev.vars", "X=1");
        assert_eq!(read(None), "X=1");
        assert_eq!(read(Some("e")), "X=1");
        write(".dev.vars.e", "Y=1\nnot-a-name=2");
        assert_eq!(read(Some("e")), "Y=1");
    }

    #[test]
    fn what_cannot_be_a_secret_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(".dev.vars");
        fs::write(&file, format!("\nA={}", "x".repeat(MAX_SECRET_BYTES + 1))).unwrap();
        let error = add(&file, &mut Vars::new()).unwrap_err().to_string();
        assert!(error.contains(".dev.vars: line 2: A: expected"), "{error}");
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(add(&file, &mut Vars::new()).unwrap_err().to_string().contains("UTF-8"));
        fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
        assert!(add(&file, &mut Vars::new()).unwrap_err().to_string().contains("longer"));
    }
}
