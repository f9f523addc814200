//! `wrangler dev` as a project's scripts and the reference's tests start it: what it prints, what it takes over, and its end.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use berth_tests::client::Client;
use berth_tests::run::Run;
use berth_tests::scenario::Outcome;
use berth_tests::{ports, wait};
use nix::sys::signal::Signal;

use super::{AppDir, CHANGE_EVERY, UP_WITHIN, end_by, expect_nothing_left, groups_of};

const CONFIGURATION: &str = r#"{
  "name": "project",
  "main": "src/index.ts",
  "compatibility_date": "2026-01-31",
  "durable_objects": { "bindings": [{ "name": "ROOM", "class_name": "Room" }] },
  "migrations": [{ "tag": "v1", "new_sqlite_classes": ["Room"] }]
}"#;

/// A program that answers with a word and its secret.
fn program(word: &str) -> String {
    format!(
        "import {{ DurableObject }} from 'cloudflare:workers';
export class Room extends DurableObject {{ hello() {{ console.log('the object is asked'); return 1; }} }}
export default {{ async fetch(request: Request, env: any): Promise<Response> {{
    console.log('handling', new URL(request.url).pathname);
    await env.ROOM.getByName('a').hello();
    console.error('answered\\nin two lines');
    return new Response(`{word} ${{env.KEY}}`);
}} }};"
    )
}

#[test]
fn wrangler_dev_prints_what_is_looked_for_takes_changes_and_ends() -> Outcome {
    Ok(stands_in()?)
}

fn stands_in() -> Result<()> {
    let run = Run::current()?;
    let mut app = AppDir::make(&run, "wrangler")?;
    fs::remove_file(app.directory.join("berth.toml"))?;
    for directory in ["src", "node_modules/.bin"] {
        fs::create_dir_all(app.directory.join(directory))?;
    }
    fs::write(app.directory.join("wrangler.jsonc"), CONFIGURATION)?;
    fs::write(app.directory.join("src/index.ts"), program("first"))?;
    fs::write(app.directory.join(".dev.vars"), "KEY=\"of who works on it\"\n")?;
    symlink(app.directory.join("berth"), app.directory.join("node_modules/.bin/wrangler"))?;
    let address = ports::free_address()?;
    let mut dev = start(&app, address.port())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let used = runtime.block_on(used(&app, &mut dev, Client::of(address), address.port()));
    app.find_state();
    let groups = groups_of(&run, &app.state);
    let ended = end_by(&mut dev, Signal::SIGTERM);
    used.and(ended).with_context(|| format!("`wrangler dev` said:\n{}\n{}", printed(&app), app.log()))?;
    expect_nothing_left(&app, &groups, address.port())
}

/// Standard output apart, as whoever looks for lines in it has it.
fn start(app: &AppDir, port: u16) -> Result<Child> {
    let mut command = Command::new(app.directory.join("node_modules/.bin/wrangler"));
    command.args(["dev", "--port", &port.to_string(), "--show-interactive-dev-session=false"]);
    command.current_dir(&app.directory).env_remove("BERTH_ADMIN_SOCKET").env_remove("CLOUDFLARE_ENV");
    command.stdin(Stdio::null()).stdout(fs::File::create(app.directory.join("printed"))?);
    command.stderr(fs::File::create(app.directory.join("dev.log"))?);
    command.spawn().context("start `wrangler dev`")
}

fn printed(app: &AppDir) -> String {
    fs::read_to_string(app.directory.join("printed")).unwrap_or_default()
}

async fn used(app: &AppDir, dev: &mut Child, client: Client, port: u16) -> Result<()> {
    let ready = format!("Ready on http://127.0.0.1:{port}\n");
    wait::until("it to be ready", UP_WITHIN, async || {
        if let Some(status) = dev.try_wait()? {
            return Ok(Err(anyhow::anyhow!("it has ended: {status}")));
        }
        ensure!(printed(app) == ready, "{:?}", printed(app));
        Ok(Ok(()))
    })
    .await??;
    // From then on everything answers.
    let answer = client.get("/x").await?.success()?;
    ensure!(answer.text == "first of who works on it", "{answer:?}");
    let expected = format!("{ready}handling /x\nthe object is asked\nanswered\nin two lines\n");
    wait::until("its lines, as they are, once and in order", UP_WITHIN, async || {
        ensure!(printed(app) == expected, "{:?}", printed(app));
        Ok(())
    })
    .await?;
    let (mut changes, mut last) = (0, None::<Instant>);
    wait::until("a change to be taken over", UP_WITHIN, async || {
        // A change before its first look is none to it.
        if last.is_none_or(|last| last.elapsed() > CHANGE_EVERY) {
            changes += 1;
            fs::write(app.directory.join("src/index.ts"), program(&format!("change {changes}")))?;
            last = Some(Instant::now());
        }
        let answer = client.get("/y").await?.success()?;
        ensure!(answer.text.starts_with("change "), "{answer:?}");
        Ok(())
    })
    .await
}
