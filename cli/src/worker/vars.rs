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

use super::env_file::{FileVariable, variables};
use crate::failure::bad_input;
use crate::output;

/// Largest of these files, in bytes: some values of the greatest length, and more than anybody writes by hand.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What a name must be. The name itself is not told: it may be a piece of a value.
pub(crate) const NAME_RULE: &str = "a name has ASCII letters, digits and `_`, the first no digit";

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
    for FileVariable { line, name, value } in variables(&text(file)?) {
        let Ok(name) = name.parse::<SecretName>() else {
            output::note!("warning: {}:{line}: it is left out: {NAME_RULE}", file.display());
            continue;
        };
        let good = value.expose().len() <= MAX_SECRET_BYTES && !value.expose().contains('\0');
        let rule = format!("expected a value of up to {MAX_SECRET_BYTES} bytes without zero bytes");
        ensure!(good, bad(file, &format!("line {line}: {rule}")));
        vars.insert(name, value);
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
        assert!(error.contains(".dev.vars: line 2: expected") && !error.contains("xx"), "{error}");
        fs::write(&file, [0xff, 0xfe]).unwrap();
        assert!(add(&file, &mut Vars::new()).unwrap_err().to_string().contains("UTF-8"));
        fs::write(&file, vec![b'#'; 2 << 20]).unwrap();
        assert!(add(&file, &mut Vars::new()).unwrap_err().to_string().contains("longer"));
    }
}
