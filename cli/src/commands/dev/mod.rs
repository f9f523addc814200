//! `berth dev`: an app on this machine, with an edge and nodes as child processes, until Ctrl-C.
//!
//! ```text
//!  checked ──▶ prepared ──▶ started ──all nodes connected──▶ deployed ──▶ running
//!     │ bad        │             │ a child ends, or too slow      │          │ signal, or a child ends
//!     ▼            ▼             ▼                                ▼          ▼
//!   exit 2       exit 1        ending: edge, then agents, then supervisors (which end all containers)
//! ```

mod daemons;
mod identity;
mod keys;
mod place;
mod process;
mod urls;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Result, anyhow, bail};

use super::secret::make_if_missing;
use crate::admin::Admin;
use crate::app::{App, MANIFEST};
use crate::args::Dev;
use crate::commands::logs;
use crate::output;

use crate::prefetch::Terms;
use crate::signals::Signals;
use daemons::Daemons;
use identity::Credentials;
use keys::{Key, Keys};
use place::Place;

/// How long edge and nodes may take until they know each other; a first start prepares the machine.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How often is asked whether they do: the edge has no way to call back.
const READY_INTERVAL: Duration = Duration::from_millis(50);

/// How often the app's files are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: &Dev) -> Result<()> {
    let app = App::in_directory(&args.dir)?;
    let mut signals = Signals::new()?;
    let place = Place::prepare(&args.dir, args.nodes)?;
    let credentials = Credentials::issue(&place)?;
    let mut daemons = Daemons::default();
    let outcome = tokio::select! {
        outcome = serve(args, &app, &place, &credentials, &mut daemons) => outcome,
        () = signals.next() => Ok(()),
    };
    if let Err(error) = &outcome {
        // Said at once: ending everything takes a moment.
        eprintln!("berth dev: {error:#}");
    }
    daemons.stop(&mut signals).await;
    outcome.map_err(|_| anyhow!("everything that was started has been ended"))
}

/// Starts everything and stays until something ends that should not.
async fn serve(
    args: &Dev,
    app: &App,
    place: &Place,
    credentials: &Credentials,
    daemons: &mut Daemons,
) -> Result<()> {
    let listen = daemons::choose_address(args.listen)?;
    make_if_missing(&place.edge_state()).await?;
    daemons.start_all(place, credentials, listen).await?;
    let admin = Admin::at(place.admin_socket());
    wait_until_ready(&admin, args.nodes, daemons).await?;
    eprintln!("packing and deploying {} ...", app.manifest.name);
    tokio::select! {
        deployed = app.deploy(&admin, Terms::default()) => deployed?.warn(),
        died = daemons.first_death() => return Err(died),
    };
    for line in urls::describe(&app.manifest, listen) {
        output::line(line)?;
    }
    let mut keys = Keys::open();
    let hint = if keys.are_there() {
        "r rebuilds and restarts, q or Ctrl-C ends everything"
    } else {
        "Ctrl-C ends everything"
    };
    eprintln!("logs are in {}; {hint}", place.logs().display());
    tokio::select! {
        died = daemons.first_death() => Err(died),
        () = rebuild_on_demand(args, &admin, &mut keys) => Ok(()),
        () = logs::follow_app(&admin, &app.manifest.name), if !args.quiet_containers => Ok(()),
    }
}

/// Deploys again whenever the app's files have changed or somebody asks for it, until somebody wants to leave.
async fn rebuild_on_demand(args: &Dev, admin: &Admin, keys: &mut Keys) {
    let mut seen = Stamp::of(&args.dir);
    loop {
        tokio::select! {
            key = keys.next() => match key {
                Key::Quit => return,
                Key::Rebuild => {}
            },
            () = changed(&args.dir, &seen) => eprintln!("files have changed"),
        }
        seen = Stamp::of(&args.dir);
        match rebuild(args, admin).await {
            Ok(line) => eprintln!("{line}"),
            // It can be put right while everything runs on.
            Err(error) => eprintln!("{error:#}"),
        }
    }
}

/// Packs and deploys what is there now, and ends the containers of what was there before.
async fn rebuild(args: &Dev, admin: &Admin) -> Result<String> {
    let app = App::in_directory(&args.dir)?;
    let deployed = app.deploy(admin, Terms { now: true, ..Terms::default() }).await?;
    deployed.warn();
    Ok(deployed.describe("deployed"))
}

/// When the app's files were last changed; directories only as far as what is directly in them.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(Vec<Option<SystemTime>>);

impl Stamp {
    fn of(directory: &Path) -> Self {
        let files = match App::in_directory(directory) {
            Ok(app) => app.files(),
            Err(_) => vec![directory.join(MANIFEST)],
        };
        let changed = |file: &PathBuf| std::fs::metadata(file).and_then(|found| found.modified()).ok();
        Self(files.iter().map(changed).collect())
    }
}

/// Waits until the files have changed, and are not being written any more.
async fn changed(directory: &Path, seen: &Stamp) {
    let mut last = Stamp(Vec::new());
    loop {
        tokio::time::sleep(WATCH_INTERVAL).await;
        let now = Stamp::of(directory);
        if now != *seen && now == last {
            return;
        }
        last = now;
    }
}

/// Waits until the edge answers and every node is connected to it.
async fn wait_until_ready(admin: &Admin, nodes: u16, daemons: &mut Daemons) -> Result<()> {
    eprintln!("waiting for the edge and {nodes} node(s) ...");
    let ready = async {
        while !all_connected(admin, nodes).await {
            tokio::time::sleep(READY_INTERVAL).await;
        }
    };
    let waited = tokio::select! {
        waited = tokio::time::timeout(READY_TIMEOUT, ready) => waited,
        died = daemons.first_death() => return Err(died),
    };
    if waited.is_err() {
        bail!("not all nodes were connected after {READY_TIMEOUT:?}\n{}", daemons.last_words());
    }
    Ok(())
}

async fn all_connected(admin: &Admin, nodes: u16) -> bool {
    let connected = admin.nodes().await.map(|list| list.nodes.iter().filter(|node| node.connected).count());
    admin.health().await.is_ok() && connected.is_ok_and(|connected| connected == usize::from(nodes))
}
