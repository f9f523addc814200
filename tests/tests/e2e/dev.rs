//! `berth dev`: everything from one command, and nothing left after Ctrl-C.

mod background;
mod wrangler;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::programs::{DAEMONS, HELLO};
use berth_tests::run::Run;
use berth_tests::scenario::Outcome;
use berth_tests::{cgroup, host, machine, ports, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long it may take until the app answers.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to end everything.
const DOWN_WITHIN: Duration = Duration::from_secs(30);

/// How long a change is given to be seen, which usually takes a second or two, before there is another.
const CHANGE_EVERY: Duration = Duration::from_secs(5);

/// An app's directory and Berth's programs, as `berth dev` needs them.
struct AppDir {
    directory: PathBuf,
    /// Where `berth dev` keeps its state: for root, somewhere else.
    state: PathBuf,
}

impl AppDir {
    fn make(run: &Run, name: &str) -> Result<Self> {
        let directory = run.directory().join(name);
        run.machine().make_directory(&directory)?;
        for program in DAEMONS.into_iter().chain([HELLO]) {
            fs::hard_link(run.programs().join(program), directory.join(program))?;
        }
        fs::write(directory.join("berth.toml"), App::default().manifest(&directory.join(HELLO)))?;
        let state = directory.join(".berth/dev");
        Ok(Self { directory, state })
    }

    /// As an ordinary user: in their own directory, and with their own rights.
    fn start(&self, listen: &str) -> Result<Child> {
        let log = fs::File::create(self.directory.join("dev.log"))?;
        let mut command = self.berth(&["dev", "--nodes", "2", "--listen", listen]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        command.spawn().context("start `berth dev`")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("dev.log")).unwrap_or_default()
    }

    /// A command in this directory, as its user has it.
    fn berth(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.directory.join("berth"));
        command.args(args).current_dir(&self.directory).env_remove("BERTH_ADMIN_SOCKET");
        command
    }

    /// Started by root, the state is elsewhere, and a link to the admin socket leads there.
    fn find_state(&mut self) {
        if let Ok(socket) = fs::read_link(self.state.join("edge/admin.sock"))
            && let Some(state) = socket.ancestors().nth(2)
        {
            self.state = state.to_owned();
        }
    }

    /// Commands without options for edge and app: both are found from the directory, and there is a key file.
    fn put_secret(&self) -> Result<()> {
        let file = self.directory.join("value");
        fs::write(&file, "x")?;
        let mut command = self.berth(&["secret", "put", "API_KEY", "--from-file"]);
        let output = command.arg(&file).output().context("run `berth secret put`")?;
        ensure!(output.status.success(), "berth secret put: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn running(&self) -> Vec<String> {
        let pids = [&self.directory, &self.state].into_iter().flat_map(|path| host::processes_running(path));
        pids.map(host::command_line).collect()
    }
}

impl Drop for AppDir {
    fn drop(&mut self) {
        for path in [&self.state, &self.directory] {
            if let Err(error) = machine::remove_directory(path) {
                eprintln!("{error:#}");
            }
        }
    }
}

#[test]
fn berth_dev_runs_an_app_and_leaves_nothing_after_ctrl_c() -> Outcome {
    Ok(runs_and_ends()?)
}

fn runs_and_ends() -> Result<()> {
    let run = Run::current()?;
    let mut app = AppDir::make(&run, "dev")?;
    let address = ports::free_address()?;
    let mut dev = app.start(&address.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answered = runtime.block_on(answers(Client::of(address), &mut dev));
    let put = app.put_secret();
    app.find_state();
    let groups = groups_of(&run, &app.state);
    let ended = end(&mut dev);
    let log = app.log();
    answered.and(put).and(ended).with_context(|| format!("`berth dev` said:\n{log}"))?;
    let container = format!("http://{address}/container/1");
    ensure!(log.contains(&container), "it does not say where to reach the app:\n{log}");
    expect_nothing_left(&app, &groups, address.port())
}

#[test]
fn berth_dev_sees_a_change_deep_in_a_root_directory() -> Outcome {
    Ok(sees_a_change()?)
}

fn sees_a_change() -> Result<()> {
    let run = Run::current()?;
    let mut app = AppDir::make(&run, "devroot")?;
    let deep = app.directory.join("root/opt/a/b");
    fs::create_dir_all(&deep)?;
    fs::create_dir_all(app.directory.join("root/app"))?;
    fs::copy(run.programs().join(HELLO), app.directory.join("root/app/hello"))?;
    fs::write(deep.join("page.txt"), "one")?;
    let manifest = App { entrypoint: Some(vec!["/app/hello"]), ..App::default() };
    fs::write(app.directory.join("berth.toml"), manifest.manifest(&app.directory.join("root")))?;
    let address = ports::free_address()?;
    let mut dev = app.start(&address.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let seen = runtime.block_on(async {
        answers(Client::of(address), &mut dev).await?;
        // A change before its first look is none to it: there is another one until it has seen one.
        let (mut changes, mut last) = (0, None::<Instant>);
        wait::until("the change to be deployed", UP_WITHIN, async || {
            let log = app.log();
            let seen = log.split_once("files have changed");
            if seen.is_none() && last.is_none_or(|last| last.elapsed() > CHANGE_EVERY) {
                // Of the same length: what tells is the file deep below, not the directory that is named.
                changes += 1;
                fs::write(deep.join("page.txt"), format!("{changes:03}"))?;
                last = Some(Instant::now());
            }
            let (_, after) = seen.context("it has seen no change")?;
            ensure!(after.contains("deployed hello version 2"), "{after}");
            Ok(())
        })
        .await
    });
    app.find_state();
    let groups = groups_of(&run, &app.state);
    let ended = end(&mut dev);
    seen.and(ended).with_context(|| format!("`berth dev` said:\n{}", app.log()))?;
    expect_nothing_left(&app, &groups, address.port())
}

async fn answers(client: Client, dev: &mut Child) -> Result<()> {
    let instance = wait::until("the app to answer", UP_WITHIN, async || {
        if let Some(status) = dev.try_wait()? {
            return Ok(Err(anyhow::anyhow!("`berth dev` has ended: {status}")));
        }
        Ok(Ok(client.get("/container/1").await?.success()?.instance()?))
    })
    .await??;
    let again = client.get("/container/1").await?.success()?.instance()?;
    ensure!(again == instance, "the app has two instances for one ID");
    Ok(())
}

/// Sends Ctrl-C, and waits for the end. If that fails it is killed.
fn end(dev: &mut Child) -> Result<()> {
    end_by(dev, Signal::SIGINT)
}

fn end_by(dev: &mut Child, signal: Signal) -> Result<()> {
    kill(Pid::from_raw(i32::try_from(dev.id())?), signal)?;
    let deadline = Instant::now() + DOWN_WITHIN;
    while Instant::now() < deadline {
        if let Some(status) = dev.try_wait()? {
            ensure!(status.success(), "after {signal} it ended with {status}");
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    dev.kill()?;
    dev.wait()?;
    bail!("it did not end within {DOWN_WITHIN:?} after {signal}")
}

/// The cgroups of its nodes, which its state's name is part of.
fn groups_of(run: &Run, state: &Path) -> Vec<PathBuf> {
    let name = state.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    cgroup::beginning_with(run.machine().cgroup(), &format!("dev-{name}"))
}

fn expect_nothing_left(app: &AppDir, groups: &[PathBuf], port: u16) -> Result<()> {
    let running = app.running();
    ensure!(running.is_empty(), "still running:\n{}", running.join("\n"));
    for group in groups {
        let processes = cgroup::processes(group);
        ensure!(processes.is_empty(), "still in {}: {processes:?}", group.display());
        // The group is delegated for later runs as well, but instances' groups in it are not.
        let instances = cgroup::beginning_with(group, "");
        let instances: Vec<_> = instances.iter().filter(|group| !group.ends_with("supervisor")).collect();
        ensure!(instances.is_empty(), "groups of instances are left: {instances:?}");
        cgroup::remove(group)?;
    }
    for path in [&app.directory, &app.state] {
        let mounts = host::mounts_below(path)?;
        ensure!(mounts.is_empty(), "still mounted: {mounts:?}");
    }
    let free = std::net::TcpListener::bind(("127.0.0.1", port));
    ensure!(free.is_ok(), "something still listens on port {port}");
    Ok(())
}
