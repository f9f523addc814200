//! `berth dev`: an app on this machine, with an edge and nodes as child processes, until Ctrl-C.
//!
//! ```text
//!  checked ──▶ prepared ──▶ started ──all nodes connected──▶ deployed ──▶ running
//!     │ bad        │             │ a child ends, or too slow      │          │ signal, or a child ends
//!     ▼            ▼             ▼                                ▼          ▼
//!   exit 2       exit 1        ending: edge, then agents, then supervisors (which end all containers)
//! ```
//!
//! What fails, and what happens then:
//! * `berth.toml`, an image that it names, or a Workers project is wrong: exit code 2, nothing was started.
//! * Another `berth dev` runs for this directory: exit code 1, it keeps running.
//! * A daemon ends by itself, at any time: its log's end is shown, the others are ended, exit code 1.
//! * A daemon does not end in its time: it is killed, and named.
//! * The first deployment fails: everything is ended, exit code 1. A later one: it is reported, and the version before runs on.
//! * This process is killed: the daemons see the end of their standard input and end by themselves.

mod background;
mod down;
mod home;
mod keys;
mod location;
mod watch;

use std::time::Duration;

use anyhow::{Result, anyhow, bail};

use berth_api::images::{Collection, Swept};
use berth_cluster::{Daemons, ready};
use berth_common::clock::wall_ms;
use berth_common::spec::{AppSpec, ImageRef};
use berth_common::telemetry;
use berth_project::Mode;

use super::secret::make_if_missing;
use crate::admin::Admin;
use crate::args::{AsWrangler, Dev, DevCommand};
use crate::commands::logs::{self, Containers};
use crate::deployable::Deployable;
use crate::output;
use crate::prefetch::{self, Terms};
use crate::signals::Signals;
use crate::urls;
use crate::worker::Given;
use background::Background;
use home::Home;
use keys::{Key, Keys};
use watch::{Stamp, Watched};

/// How long edge and nodes may take until they know each other; a first start prepares the machine.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest `stop_grace` here: the author waits for every restart.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// The file in the state directory that holds the names of the secrets that the edge has of a project's files.
const GIVEN: &str = "given-secrets";
/// How long ending may take in good order in place of wrangler, whose callers kill everything after two seconds.
const WRANGLER_END: Duration = Duration::from_millis(1_000);

pub(crate) async fn run(args: &Dev) -> Result<()> {
    match &args.command {
        Some(DevCommand::Down(args)) => return down::run(args).await,
        None => {}
    }
    let watched = Watched::of(args);
    // Before anything is read, so that a change during the start is seen too.
    let seen = watched.look().await;
    let app = read(args)?;
    app.remark();
    if args.detach && !args.background {
        return background::start().await;
    }
    if let Some(fault) = telemetry::fault() {
        // The daemons tell it in their logs, which nobody looks at while all goes well.
        output::note!("warning: {fault}");
    }
    let mut signals = Signals::new()?;
    let mut background = args.background.then(Background::enter).transpose()?;
    let home = Home::open(args)?;
    let mut daemons = Daemons::default();
    let outcome = tokio::select! {
        outcome = serve(args, &app, &home, &mut daemons, &mut background, (&watched, seen)) => outcome,
        () = signals.next() => Ok(()),
    };
    if let Err(error) = &outcome {
        // Printed first, because ending everything takes a moment.
        output::note!("berth dev: {error:#}");
    }
    stop(args, &mut daemons, &mut signals).await;
    outcome.map_err(|_| anyhow!("everything that was started has been ended"))
}

/// Reads the app, or the Workers project, as one that is worked on.
fn read(args: &Dev) -> Result<Deployable> {
    let environment = args.env.as_deref();
    let Some(AsWrangler { project, vars }) = &args.as_wrangler else {
        return Deployable::read(&args.at.dir, environment, Mode::Development);
    };
    let mut app = Deployable::project(project, environment, Mode::Development)?;
    app.set_vars(vars);
    Ok(app)
}

/// Ends everything that runs; at once when another signal comes.
async fn stop(args: &Dev, daemons: &mut Daemons, signals: &mut Signals) {
    if daemons.have_ended() {
        return;
    }
    output::note!("ending edge, agents and containers ... (Ctrl-C again to do it at once)");
    let haste = async {
        tokio::select! {
            () = signals.next() => {}
            () = tokio::time::sleep(WRANGLER_END) , if args.as_wrangler.is_some() => {}
        }
    };
    for late in daemons.stop(haste).await {
        output::note!("{late}; it was killed");
    }
}

/// Starts everything and stays until something ends that should not.
async fn serve(
    args: &Dev,
    app: &Deployable,
    home: &Home,
    daemons: &mut Daemons,
    background: &mut Option<Background>,
    watched: (&Watched, Stamp),
) -> Result<()> {
    match background {
        None => {
            let up = bring_up(args, app, home, daemons).await?;
            stay(args, app, home, up, daemons, watched).await
        }
        Some(background) => {
            tokio::select! {
                up = bring_up(args, app, home, daemons) => up?,
                () = background.abandoned() => bail!("who started this is gone"),
            };
            background.ready(&home.state().log("dev"))?;
            Err(daemons.first_death().await)
        }
    }
}

/// What runs.
struct Up {
    admin: Admin,
    /// The secrets that the edge has of the project's files.
    given: Given,
    /// The images that its containers are made of.
    images: Vec<ImageRef>,
    /// Before the app was there, in milliseconds since 1970.
    since_ms: u64,
}

/// Starts everything, deploys the app, and prints where to reach it.
async fn bring_up(args: &Dev, app: &Deployable, home: &Home, daemons: &mut Daemons) -> Result<Up> {
    let listen = home::choose_address(args.listen)?;
    make_if_missing(&home.state().edge()).await?;
    home.start(listen, daemons).await?;
    let admin = Admin::at(home.state().admin_socket());
    wait_until_ready(&admin, args.nodes, daemons).await?;
    output::note!("packing and deploying {} ...", app.name());
    let since_ms = wall_ms();
    let mut given = Given::open(home.state().path().join(GIVEN));
    let deploying = async {
        app.put_secrets(&admin, &mut given).await?;
        let spec = app.sent(&admin, terms()).await?;
        prefetch::deploy(&admin, &spec, terms()).await?.warn();
        anyhow::Ok(images_of(&spec))
    };
    let images = tokio::select! {
        deployed = deploying => deployed?,
        died = daemons.first_death() => return Err(died),
    };
    prune(&admin).await;
    tell_places(args, app, &urls::base(listen, None))?;
    Ok(Up { admin, given, images, since_ms })
}

/// Where the app is reached: for people, or in one line as programs look for it that start wrangler.
fn tell_places(args: &Dev, app: &Deployable, base: &str) -> Result<()> {
    let places = if args.as_wrangler.is_some() { vec![format!("Ready on {base}")] } else { app.places(base) };
    for line in places {
        output::line(line)?;
    }
    Ok(())
}

fn images_of(spec: &AppSpec) -> Vec<ImageRef> {
    spec.classes.values().map(|class| class.recipe.image.clone()).collect()
}

/// Removes the images of earlier starts that no kept version needs: an edge that only runs for a short time at a time would
/// not come to it. What cannot be removed is tried again the next time.
async fn prune(admin: &Admin) {
    let _ = admin.post::<Swept>("/v1/images/gc", &Collection { dry_run: false }).await;
}

/// Shows the output of the app and redeploys after changes, until the user quits.
async fn stay(
    args: &Dev,
    app: &Deployable,
    home: &Home,
    up: Up,
    daemons: &mut Daemons,
    watched: (&Watched, Stamp),
) -> Result<()> {
    let mut keys = Keys::open();
    let hint = if keys.are_there() {
        "r rebuilds and restarts, q or Ctrl-C ends everything"
    } else {
        "Ctrl-C ends everything"
    };
    output::note!("logs are in {}; {hint}", home.state().logs().display());
    let (admin, since_ms) = (up.admin.clone(), up.since_ms);
    tokio::select! {
        died = daemons.first_death() => Err(died),
        () = rebuild_on_demand(args, up, &mut keys, watched) => Ok(()),
        () = logs::follow_app(&admin, app.name(), since_ms, containers(args)) => Ok(()),
    }
}

fn containers(args: &Dev) -> Containers {
    match (args.quiet_containers, &args.as_wrangler) {
        (true, _) => Containers::Hidden,
        (false, Some(_)) => Containers::Beside,
        (false, None) => Containers::Among,
    }
}

/// How an app is deployed while it is developed: on one machine not all of it may find room, and a container that ignores
/// SIGTERM would keep whoever changes it waiting.
fn terms() -> Terms {
    Terms { allow_unplaceable: true, longest_stop_grace: Some(STOP_GRACE), ..Terms::default() }
}

/// Redeploys whenever the app's files have changed or the user asks for it, until the user quits.
async fn rebuild_on_demand(args: &Dev, mut up: Up, keys: &mut Keys, (watched, mut seen): (&Watched, Stamp)) {
    loop {
        let asked = tokio::select! {
            key = keys.next() => match key {
                Key::Quit => return,
                Key::Rebuild => true,
            },
            () = watched.changed(seen) => {
                output::note!("files have changed");
                false
            }
        };
        seen = watched.look().await;
        match rebuild(args, &mut up, asked).await {
            Ok(line) => output::note!("{line}"),
            // The user can correct it while everything keeps running.
            Err(error) => output::note!("{error:#}"),
        }
    }
}

/// Packs and deploys the current files, and ends the containers of the version before. Those of a program go on where only it has
/// changed, unless the user asks for new ones.
async fn rebuild(args: &Dev, up: &mut Up, asked: bool) -> Result<String> {
    let app = read(args)?;
    app.put_secrets(&up.admin, &mut up.given).await?;
    let spec = app.sent(&up.admin, terms()).await?;
    let anew = asked || !app.keeps_containers() || images_of(&spec) != up.images;
    // Also without a change there is another version then, so that the containers are started anew.
    let deployed = prefetch::deploy(&up.admin, &spec, Terms { now: anew, force: anew, ..terms() }).await?;
    up.images = images_of(&spec);
    deployed.warn();
    app.describe(&deployed)
}

/// Waits until the edge answers and every node is connected to it.
async fn wait_until_ready(admin: &Admin, nodes: u16, daemons: &mut Daemons) -> Result<()> {
    output::note!("waiting for the edge and {nodes} node(s) ...");
    let connected = async || {
        admin.health().await?;
        Ok(admin.nodes().await?.nodes.iter().filter(|node| node.connected).count())
    };
    let waited = tokio::select! {
        waited = ready::until_connected(nodes.into(), READY_TIMEOUT, connected) => waited,
        died = daemons.first_death() => return Err(died),
    };
    waited.map_err(|error| anyhow!("{error:#}\n{}", daemons.log_end()))
}
