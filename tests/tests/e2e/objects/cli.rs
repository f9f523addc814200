//! The command as a person uses it, at a terminal of tmux; and an edge's store, copied and brought back.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::client::Client;
use berth_tests::cluster::Setup;
use berth_tests::programs::{DAEMONS, HELLO};
use berth_tests::run::Run;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::{cgroup, host, ports, wait};

/// How long `berth dev` may take until it answers, and to end.
const UP_WITHIN: Duration = Duration::from_secs(60);
const DOWN_WITHIN: Duration = Duration::from_secs(30);

/// A terminal, closed when this is dropped.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    fn open(directory: &Path) -> Result<Self> {
        let terminal = Self { socket: directory.join("tmux") };
        terminal.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            "180",
            "-y",
            "50",
            "-c",
            &directory.to_string_lossy(),
            "sh",
        ])?;
        Ok(terminal)
    }

    fn tmux(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(&self.socket).args(words).stdin(Stdio::null());
        let output = command.output().context("run tmux, which the tests need")?;
        ensure!(output.status.success(), "tmux {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn enter(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line])?;
        self.key("Enter")
    }

    fn key(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-S", "-200"])
    }

    async fn until(&self, wanted: &str, within: Duration) -> Result<String> {
        wait::until(&format!("{wanted:?} on the terminal"), within, async || {
            let screen = self.screen()?;
            ensure!(screen.contains(wanted), "the screen shows:\n{screen}");
            Ok(screen)
        })
        .await
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.tmux(&["kill-server"]);
    }
}

/// A directory with the programs, for a person at a terminal.
fn desk(run: &Run, name: &str) -> Result<PathBuf> {
    let directory = run.directory().join(name);
    run.machine().make_directory(&directory)?;
    for program in DAEMONS.into_iter().chain([HELLO]) {
        fs::hard_link(run.programs().join(program), directory.join(program))?;
    }
    Ok(directory)
}

/// What is left of `berth dev` in its directory: processes that were started from there.
fn processes(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if let Ok(program) = fs::read_link(entry.path().join("exe"))
            && program.starts_with(directory)
        {
            found.push(program.display().to_string());
        }
    }
    found
}

async fn until_nothing_runs(directory: &Path) -> Result<()> {
    wait::until("everything to end", DOWN_WITHIN, async || {
        let left = processes(directory);
        ensure!(left.is_empty(), "left: {left:?}");
        Ok(())
    })
    .await
}

#[test]
fn a_person_at_a_terminal_goes_from_init_to_a_running_app_and_leaves_nothing() -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    let run = Run::current()?;
    Ok(runtime.block_on(at_a_terminal(&run))?)
}

async fn at_a_terminal(run: &Run) -> Result<()> {
    let directory = desk(run, "terminal")?;
    let terminal = Terminal::open(&directory)?;
    let port = ports::free_address()?.port();
    terminal.enter(&format!("./berth init app --image {}/{HELLO}", directory.display()))?;
    terminal.until("next: berth dev", UP_WITHIN).await?;
    let dev = format!("clear; ./berth dev app --listen 127.0.0.1:{port}");

    // Ctrl-C at every stage: while it prepares, while it waits for its nodes, and later.
    for pause_ms in [50, 400, 1_500] {
        terminal.enter(&dev)?;
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        terminal.key("C-c")?;
        until_nothing_runs(&directory).await.with_context(|| format!("Ctrl-C after {pause_ms} ms"))?;
    }

    // What an earlier one has written is not taken for this one's.
    terminal.enter("clear; echo all''ended")?;
    terminal.until("allended", UP_WITHIN).await?;
    terminal.enter(&dev)?;
    terminal.until("r rebuilds", UP_WITHIN).await?;
    let client = Client::of(([127, 0, 0, 1], port).into());
    let first = client.get("/container/1").await?.success()?.instance()?;
    let socket = fs::read_link(directory.join("app/.berth/dev/edge/admin.sock"));
    let socket = socket.unwrap_or_else(|_| directory.join("app/.berth/dev/edge/admin.sock"));
    let output = Command::new(directory.join("berth"))
        .args(["containers", "list"])
        .env("BERTH_ADMIN_SOCKET", &socket)
        .output()?;
    let list = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(list.contains("app/App/1") && list.contains("healthy") && !list.contains('\u{1b}'), "{list}");

    // `r` builds anew and ends what ran; a changed file does the same.
    terminal.key("r")?;
    terminal.until("told to end: 1", UP_WITHIN).await?;
    wait::until("a new container", UP_WITHIN, async || {
        ensure!(client.get("/container/1").await?.success()?.instance()? != first, "it is the old one");
        Ok(())
    })
    .await?;
    let manifest = directory.join("app/berth.toml");
    let text = fs::read_to_string(&manifest)?;
    fs::write(&manifest, format!("{text}\n# changed\n"))?;
    terminal.until("files have changed", UP_WITHIN).await?;
    wait::until("a second deployment", UP_WITHIN, async || {
        let screen = terminal.screen()?;
        ensure!(screen.matches("deployed app").count() == 2, "{screen}");
        Ok(())
    })
    .await?;

    // Bytes to the container's port, from a shell.
    // A server may take the end of the request stream as the end of the connection: it is sent a little later.
    let connect = "(printf 'GET /x/instance HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\n\\r\\n'; sleep 1) | ./berth connect app/App/1 8080";
    let output = Command::new("sh")
        .args(["-c", connect])
        .current_dir(&directory)
        .env("BERTH_ADMIN_SOCKET", &socket)
        .output()?;
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(answer.contains("200 OK"), "{answer}{}", String::from_utf8_lossy(&output.stderr));

    terminal.key("q")?;
    until_nothing_runs(&directory).await?;
    // The terminal's settings are restored for the shell.
    terminal.enter("clear; stty -a | tr ' ;' '\\n\\n' | grep -x -e icanon -e echo")?;
    terminal.until("icanon\necho", Duration::from_secs(5)).await?;
    drop(terminal);
    clean_up(run, socket.ancestors().nth(2).context("no state")?)
}

/// Looks whether containers are left, and removes what `berth dev` keeps for its next start.
fn clean_up(run: &Run, state: &Path) -> Result<()> {
    let name = state.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    for group in cgroup::beginning_with(run.machine().cgroup(), &format!("dev-{name}")) {
        let processes = cgroup::processes(&group);
        ensure!(processes.is_empty(), "still in {}: {processes:?}", group.display());
        cgroup::remove(&group)?;
    }
    let mounts = host::mounts_below(state)?;
    ensure!(mounts.is_empty(), "still mounted: {mounts:?}");
    fs::remove_dir_all(state).with_context(|| format!("remove {}", state.display()))
}

#[test]
fn a_store_is_exported_damaged_refused_and_brought_back() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { sleep_after: "1s", ..App::default() }).await?;
        let client = cluster.client();
        for name in ["a", "b", "größe"] {
            client.get(&format!("/container/{name}")).await?.success()?;
        }
        let state = cluster.directory().join("edge");
        let (state, export) = (state.display().to_string(), cluster.directory().join("edge/export.jsonl"));
        let export = export.display().to_string();
        let berth = async |words: &[&str]| -> Result<(bool, String)> {
            let output = cluster.berth(words).await?;
            Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
        };
        let (fine, text) = berth(&["store", "export", "--state", &state, "--output", &export]).await?;
        ensure!(!fine && text.contains("in use"), "the store of a running edge was read: {text}");

        cluster.kill_edge()?;
        let berth = async |words: &[&str]| -> Result<(bool, String)> {
            let output = cluster.berth(words).await?;
            Ok((output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
        };
        let (fine, text) = berth(&["store", "export", "--state", &state, "--output", &export]).await?;
        ensure!(fine && text.contains("1 apps, 0 tokens, 3 objects"), "{text}");
        let mode = fs::metadata(&export)?.permissions().mode();
        ensure!(mode & 0o077 == 0, "others may read the export: {mode:o}");
        ensure!(berth(&["store", "verify", "--state", &state]).await?.0);
        let (fine, text) = berth(&["store", "import", "--state", &state, "--input", &export]).await?;
        ensure!(!fine && text.contains("--replace"), "{text}");

        // The header of its file describes everything else.
        let file = Path::new(&state).join("store/db");
        let mut bytes = fs::read(&file)?;
        bytes.iter_mut().take(4096).for_each(|byte| *byte ^= 0x5a);
        fs::write(&file, &bytes)?;
        let (fine, text) =
            berth(&["store", "import", "--state", &state, "--input", &export, "--replace"]).await?;
        ensure!(fine && text.contains("store-set-aside-"), "{text}");
        let aside = fs::read_dir(&state)?
            .flatten()
            .find(|e| e.file_name().to_string_lossy().starts_with("store-set-aside"));
        ensure!(aside.is_some(), "the damaged store is gone");
        by_root(&cluster.program("berth-edge"), Path::new(&state))?;
        cluster.start_edge()?;
        cluster.until_connected().await?;
        ensure!(cluster.admin().objects().await?.len() == 3);
        cluster.client().get("/container/a").await?.success()?;
        Ok(())
    })
}

/// What root does with a store leaves it to its edge, which opens it afterwards. Of files elsewhere root can read and write those that
/// the edge's user cannot.
fn by_root(program: &Path, state: &Path) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(state)?.uid();
    let private = tempfile::tempdir().context("a directory that only root can enter")?;
    let export = private.path().join("export.jsonl").display().to_string();
    let state_option = state.display().to_string();
    let by = |words: &[&str]| -> Result<()> {
        let output =
            Command::new(program).arg("store").args(words).args(["--state", &state_option]).output()?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    };
    by(&["export", "--output", &export])?;
    by(&["import", "--input", &export, "--replace"])?;
    by(&["verify"])?;
    for entry in walk(&state.join("store"))? {
        let of = fs::symlink_metadata(&entry)?.uid();
        ensure!(of == owner, "{} is of user {of}, and the edge's is {owner}", entry.display());
    }
    Ok(())
}

/// A directory and all that is in it.
fn walk(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        found.extend(if path.is_dir() { walk(&path)? } else { vec![path] });
    }
    Ok(found)
}
