//! `berth-edge store`: exports, imports and verifies the store of an edge that is not running.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use berth_store::{self as store, Contents};

use crate::config::StoreCommand;

/// Mode of an export: only its owner may read it, because it contains environment variables of containers.
const EXPORT_MODE: u32 = 0o600;

/// Runs one of the commands.
pub(crate) fn run(command: &StoreCommand) -> Result<()> {
    match command {
        StoreCommand::Export { store, output } => export(&store.state.join("store"), output.as_deref()),
        StoreCommand::Import { store, input, replace } => {
            import(&store.state.join("store"), input.as_deref(), *replace)
        }
        StoreCommand::Verify { store } => verify(&store.state.join("store")),
    }
}

fn export(directory: &Path, output: Option<&Path>) -> Result<()> {
    let contents = match output {
        None => store::export(directory, io::stdout().lock())?,
        Some(path) => {
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(EXPORT_MODE).open(path);
            let file = file.with_context(|| format!("cannot make {}", path.display()))?;
            let exported = store::export(directory, &file).and_then(|contents| {
                file.sync_all()?;
                Ok(contents)
            });
            if exported.is_err() {
                // An incomplete export is removed: it could not be imported.
                let _ = fs::remove_file(path);
            }
            exported?
        }
    };
    print_contents("exported", contents);
    Ok(())
}

fn import(directory: &Path, input: Option<&Path>, replace: bool) -> Result<()> {
    let (contents, aside) = match input {
        None => store::import(directory, io::stdin().lock(), replace)?,
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            store::import(directory, BufReader::new(file), replace)?
        }
    };
    if let Some(aside) = aside {
        eprintln!("the store that was there is now {}", aside.display());
    }
    print_contents("imported", contents);
    Ok(())
}

fn verify(directory: &Path) -> Result<()> {
    print_contents("sound:", store::verify(directory)?);
    Ok(())
}

fn print_contents(what: &str, contents: Contents) {
    let Contents {
        apps,
        tokens,
        objects,
        values,
        schedules,
        events,
        secrets,
        usage,
        images,
        tags,
        registries,
    } = contents;
    eprintln!(
        "{what} {apps} apps, {tokens} tokens, {objects} objects, {values} values, {schedules} schedules, {events} events to be \
         told, {secrets} secrets (sealed), {usage} records of usage, {images} images with {tags} tags (without their content), {registries} \
         users of registries (sealed)"
    );
}
