//! `berth-edge store`: exports, imports and verifies the store of an edge that is not running.
//!
//! The store stays its edge's: run by root, all of it is done as the user whose the state directory is. Opening a store
//! makes files in it too, so that holds for exports and checks as well. Files elsewhere are opened and made as root.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use berth_store::{self as store, Contents, Damage};
use nix::unistd::{Gid, Uid, geteuid, setegid, seteuid, setgroups};

use crate::config::StoreCommand;

/// Mode of an export: only its owner may read it, because it contains environment variables of containers.
const EXPORT_MODE: u32 = 0o600;

/// Runs one of the commands.
pub(crate) fn run(command: &StoreCommand) -> Result<()> {
    match command {
        StoreCommand::Export { store, output, without_damaged } => {
            export(&store.state, output.as_deref(), *without_damaged)
        }
        StoreCommand::Import { store, input, replace, dry_run: false } => {
            import(&store.state, open(input.as_deref())?, *replace)
        }
        StoreCommand::Import { store, input, replace, dry_run: true } => {
            try_import(&store.state, open(input.as_deref())?, *replace)
        }
        StoreCommand::Verify { store } => verify(&store.state),
    }
}

/// This process as the owner of a state directory, until it is dropped.
struct AsOwner {
    was_root: bool,
}

impl AsOwner {
    /// Only root becomes another user. One who may not use the directory is told so when it is opened.
    fn of(state: &Path) -> Result<Self> {
        let root = Self { was_root: false };
        let Some(found) = fs::metadata(state).ok().filter(|_| geteuid().is_root()) else { return Ok(root) };
        if found.uid() == 0 {
            return Ok(root);
        }
        let (user, group) = (Uid::from_raw(found.uid()), Gid::from_raw(found.gid()));
        setgroups(&[group])
            .and_then(|()| setegid(group))
            .and_then(|()| seteuid(user))
            .with_context(|| format!("cannot become the owner of {} (user {user})", state.display()))?;
        Ok(Self { was_root: true })
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        if self.was_root {
            // What fails here ends in an error of permissions later, not in more rights.
            let _ = seteuid(Uid::from_raw(0)).and_then(|()| setegid(Gid::from_raw(0)));
        }
    }
}

fn export(state: &Path, output: Option<&Path>, without_damaged: bool) -> Result<()> {
    let directory = &state.join("store");
    let (contents, damage) = match output {
        None => {
            let _owner = AsOwner::of(state)?;
            store::export(directory, io::stdout().lock(), without_damaged)?
        }
        Some(path) => {
            let file = fs::OpenOptions::new().write(true).create_new(true).mode(EXPORT_MODE).open(path);
            let file = file.with_context(|| format!("cannot make {}", path.display()))?;
            let owner = AsOwner::of(state);
            let exported = owner.and_then(|_owner| {
                let exported = store::export(directory, &file, without_damaged)?;
                file.sync_all()?;
                Ok(exported)
            });
            if exported.is_err() {
                // An incomplete export is removed: it could not be imported.
                let _ = fs::remove_file(path);
            }
            exported?
        }
    };
    print_damage("left out", &damage);
    print_contents("exported", contents);
    Ok(())
}

/// An export: this file, or standard input.
fn open(input: Option<&Path>) -> Result<Box<dyn BufRead>> {
    Ok(match input {
        None => Box::new(io::stdin().lock()),
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            Box::new(BufReader::new(file))
        }
    })
}

fn try_import(state: &Path, input: Box<dyn BufRead>, replace: bool) -> Result<()> {
    let _owner = AsOwner::of(state)?;
    let directory = &state.join("store");
    let (contents, replaces) = store::try_import(directory, input, replace)?;
    if replaces {
        eprintln!("the store that is in {} would be set aside", directory.display());
    }
    print_contents("would be imported:", contents);
    Ok(())
}

fn import(state: &Path, input: Box<dyn BufRead>, replace: bool) -> Result<()> {
    let directory = &state.join("store");
    let made = !state.exists();
    let owner = AsOwner::of(state)?;
    let (contents, aside) = store::import(directory, input, replace)?;
    drop(owner);
    if made && geteuid().is_root() {
        let state = state.display();
        eprintln!("{state} was made, and is root's: give it to the edge's user (chown -R USER: {state})");
    }
    if let Some(aside) = aside {
        eprintln!("the store that was there is now {}", aside.display());
    }
    print_contents("imported", contents);
    Ok(())
}

fn verify(state: &Path) -> Result<()> {
    let _owner = AsOwner::of(state)?;
    let (contents, damage) = store::verify(&state.join("store"))?;
    print_damage("damaged", &damage);
    print_contents("sound:", contents);
    ensure!(
        damage.count == 0,
        "{} entries are damaged: an export with --without-damaged has everything else, and an import of it makes a sound store",
        damage.count
    );
    Ok(())
}

fn print_damage(what: &str, Damage { named, count, .. }: &Damage) {
    named.iter().for_each(|error| eprintln!("{what}: {error}"));
    let more = count - named.len() as u64;
    if more > 0 {
        eprintln!("{what}: {more} more");
    }
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
        files,
        registries,
        states,
    } = contents;
    eprintln!(
        "{what} {apps} apps, {tokens} tokens, {objects} objects, {values} values, {schedules} schedules, {events} events to be \
         told, {secrets} secrets (sealed), {usage} records of usage, {images} images with {tags} tags (without their content), {files} \
         files of apps (without their content), {registries} users of registries (sealed), {states} objects of programs that keep \
         something"
    );
}
