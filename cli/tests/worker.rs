//! `berth check` and `berth deploy` of a Workers project: the real program, against an edge that only remembers what it is sent.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use berth_common::image::Digest;
use serde_json::{Value, json};

/// What an edge has been sent.
#[derive(Default)]
struct Kept {
    files: BTreeMap<String, Vec<u8>>,
    app: Option<Value>,
    /// Method and path of each request but the one for its health.
    asked: Vec<String>,
}

/// An edge that takes everything.
struct Edge {
    directory: tempfile::TempDir,
    kept: Arc<Mutex<Kept>>,
}

impl Edge {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("s")).unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let known = Arc::clone(&kept);
        // Ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let known = Arc::clone(&known);
                std::thread::spawn(move || serve(&stream.unwrap(), &known));
            }
        });
        Self { directory, kept }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("s")
    }

    /// The requests since this was last asked.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.kept.lock().unwrap().asked)
    }
}

/// Answers requests until the client closes the connection.
fn serve(stream: &UnixStream, kept: &Mutex<Kept>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).unwrap_or(0) == 0 {
                return;
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let mut words = head.split(' ');
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let answer = answer(&mut kept.lock().unwrap(), method, path, body);
        let answer = answer.map(|answer| answer.to_string());
        let status = if answer.is_some() { "200 OK" } else { "204 No Content" };
        let text = answer.unwrap_or_default();
        let length =
            if text.is_empty() { String::new() } else { format!("content-length: {}\r\n", text.len()) };
        if write!(&*stream, "HTTP/1.1 {status}\r\n{length}\r\n{text}").is_err() {
            return;
        }
    }
}

fn answer(kept: &mut Kept, method: &str, path: &str, body: Vec<u8>) -> Option<Value> {
    if path == "/v1/health" {
        return Some(json!({"status": "ok", "version": "0", "listen": "127.0.0.1:8080"}));
    }
    let short = path.split(['?', ':']).next().unwrap_or_default();
    kept.asked.push(format!("{method} {short}"));
    if let Some(digest) = path.strip_prefix("/v1/files/sha256") {
        assert_eq!(Digest::of(&body).to_string(), format!("sha256{digest}"));
        kept.files.insert(format!("sha256{digest}"), body);
        return None;
    }
    if short.contains("/secrets/") {
        return None;
    }
    if short.ends_with("/secrets") {
        let secret = json!({"name": "KEY", "created_ms": 1, "updated_ms": 1, "version": 1, "readable": true, "used_by": []});
        return Some(json!({"secrets": [secret]}));
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    if path == "/v1/files/missing" {
        let all = body["digests"].as_array().unwrap().iter();
        let missing: Vec<&Value> =
            all.filter(|digest| !kept.files.contains_key(digest.as_str().unwrap())).collect();
        return Some(json!({"missing": missing}));
    }
    let unchanged = kept.app.as_ref() == Some(&body);
    let app = body["name"].clone();
    kept.app = Some(body);
    Some(
        json!({"app": app, "version": 1, "created_ms": 1, "current": true, "classes": 0, "routes": 0, "ended": 0,
        "missing_secrets": [], "missing_store_secrets": [], "unchanged": unchanged, "unplaceable": []}),
    )
}

fn berth(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command
        .args(arguments)
        .current_dir(directory)
        .env_remove("BERTH_ADMIN_SOCKET")
        .env_remove("BERTH_ADMIN_URL");
    command.output().unwrap()
}

/// Copies the example.
fn example() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/worker");
    for name in ["wrangler.jsonc", "src/index.ts", "src/greet.ts", "public/index.html", "public/page.js"] {
        let to = directory.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from.join(name), to).unwrap();
    }
    directory
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_project_is_checked_compiled_sent_and_deployed_and_sent_once() {
    let (edge, project) = (Edge::start(), example());
    let socket = edge.socket().display().to_string();
    let checked = berth(project.path(), &["check"]);
    assert_eq!(
        text(&checked.stdout),
        "wrangler.jsonc: app worker, modules: 2, static files: 2\n",
        "{checked:?}"
    );
    let checked = berth(project.path(), &["deploy", "--dry-run", "--json", "--admin-socket", &socket]);
    let found: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((&found["name"], &found["modules"]), (&json!("worker"), &json!(2)));
    assert_eq!(edge.asked(), [""; 0]);

    let deploy = |arguments: &[&str]| {
        let arguments = [&["deploy", "--admin-socket", &socket], arguments].concat();
        let done = berth(project.path(), &arguments);
        assert!(done.status.success(), "{}", text(&done.stderr));
        text(&done.stdout)
    };
    let told = deploy(&[]);
    assert!(
        told.starts_with("deployed worker version 1: modules: 2, static files: 2\nhttp://127.0.0.1:8080/"),
        "{told}"
    );
    let mut asked = edge.asked();
    asked.retain(|asked| asked != "PUT /v1/files/sha256");
    let once = ["GET /v1/apps/worker/secrets", "POST /v1/files/missing", "PUT /v1/apps/worker"];
    assert_eq!(asked, once);
    {
        let kept = edge.kept.lock().unwrap();
        let spec: berth_common::spec::AppSpec = serde_json::from_value(kept.app.clone().unwrap()).unwrap();
        assert!(spec.content().all(|(_, digest)| kept.files.contains_key(&digest.to_string())));
        assert_eq!(spec.content().count(), kept.files.len());
        let program = spec.program.unwrap();
        // What was put for the app is in `env`, whether the configuration lists it or not.
        assert_eq!(program.secrets[&"KEY".parse().unwrap()].as_str(), "KEY");
        let entry = program.modules.iter().find(|module| module.name == program.entry).unwrap();
        let source = text(&kept.files[&entry.digest.to_string()]);
        assert!(source.contains("async fetch(") && !source.contains(": Request"), "{source}");
        let page = spec.assets.unwrap().files["/index.html"];
        assert!(text(&kept.files[&page.to_string()]).contains("<h1>"));
    }
    // Again: nothing is sent, and it is the same.
    assert!(deploy(&[]).starts_with("worker is unchanged"));
    assert_eq!(edge.asked(), once);
    // One file of them has changed.
    fs::write(project.path().join("src/greet.ts"), "export const greet = (a: string, b: string) => a + b;\n")
        .unwrap();
    assert!(deploy(&[]).starts_with("deployed worker"));
    let sent = edge.asked().iter().filter(|asked| *asked == "PUT /v1/files/sha256").count();
    assert!((1..=2).contains(&sent), "{sent}");
    // An environment is an app of its own.
    assert!(deploy(&["--env", "french"]).starts_with("deployed worker-french"));
}

#[test]
fn bad_input_is_told_at_once_with_exit_code_2_and_asks_no_edge() {
    let (edge, project) = (Edge::start(), example());
    let socket = edge.socket().display().to_string();
    let config = project.path().join("wrangler.jsonc");
    let sound = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        sound.replace("\"vars\"", "\"ai\": {\"binding\": \"AI\"},\n  \"crons\": 1,\n  \"vars\""),
    )
    .unwrap();
    fs::write(project.path().join("src/greet.ts"), "export const greet = ;\nimport './none';\n").unwrap();
    for command in [&["check"][..], &["deploy", "--admin-socket", &socket], &["deploy", "--dry-run"]] {
        let done = berth(project.path(), command);
        let told = text(&done.stderr);
        assert_eq!((done.status.code(), text(&done.stdout)), (Some(2), String::new()), "{command:?}: {told}");
        for place in ["wrangler.jsonc:5:", "src/greet.ts:1:"] {
            assert!(told.lines().any(|line| line.starts_with(place)), "{command:?}: {told}");
        }
    }
    fs::write(&config, sound).unwrap();
    let done = berth(project.path(), &["deploy", "--env", "none", "--admin-socket", &socket]);
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    assert_eq!(edge.asked(), [""; 0]);
}

#[test]
fn a_link_called_wrangler_is_one() {
    let (edge, project) = (Edge::start(), example());
    let link = project.path().join("node_modules/.bin/wrangler");
    fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_berth"), &link).unwrap();
    let wrangler = |arguments: &[&str]| {
        let mut command = Command::new(&link);
        command.args(arguments).current_dir(project.path()).env("BERTH_ADMIN_SOCKET", edge.socket());
        command.env_remove("BERTH_ADMIN_URL").env_remove("CLOUDFLARE_ENV").output().unwrap()
    };
    let version = wrangler(&["--version"]);
    assert_eq!(text(&version.stdout), format!("{}\n", env!("CARGO_PKG_VERSION")), "{version:?}");
    let types = wrangler(&["types"]);
    assert!(types.status.success(), "{types:?}");
    let written = fs::read_to_string(project.path().join("worker-configuration.d.ts")).unwrap();
    assert!(written.contains("GREETING: string;"), "{written}");
    let deployed =
        wrangler(&["deploy", "./src/index.ts", "--minify", "--var", "GREETING:Salut", "--env", "french"]);
    assert!(text(&deployed.stdout).starts_with("deployed worker-french"), "{deployed:?}");
    let spec = edge.kept.lock().unwrap().app.clone().unwrap();
    assert_eq!(spec["program"]["vars"]["GREETING"], json!({"text": "Salut"}));
    edge.asked();
    let named = wrangler(&["secret", "list", "--name", "other"]);
    assert_eq!(serde_json::from_slice::<Value>(&named.stdout).unwrap()[0]["type"], "secret_text");
    fs::write(project.path().join("all.json"), r#"{"A": "1", "B": null}"#).unwrap();
    let bulk = wrangler(&["secret", "bulk", "all.json"]);
    assert_eq!(text(&bulk.stdout), "secrets of worker: put 1, deleted 1\n", "{bulk:?}");
    let once =
        ["GET /v1/apps/other/secrets", "PUT /v1/apps/worker/secrets/A", "DELETE /v1/apps/worker/secrets/B"];
    assert_eq!(edge.asked(), once);
    for (arguments, word) in [
        (&["kv", "key", "list"][..], "wrangler kv: not supported"),
        (&["deploy", "--remote"], "--remote: not supported"),
        (&["deploy", "src/other.ts"], "src/other.ts: the entry module is"),
        (&["dev", "--no-such-option"], "--no-such-option"),
        (&["dev", "--config", "other.json"], "--config other.json: there is no such file"),
    ] {
        let refused = wrangler(arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
        assert!(text(&refused.stderr).contains(word), "{arguments:?}: {refused:?}");
    }
    assert_eq!(edge.asked(), [""; 0]);
}

/// Runs `berth wrangler` in a directory, against an edge.
fn wrangler(edge: &Edge, directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_berth"));
    command.arg("wrangler").args(arguments).current_dir(directory).env("BERTH_ADMIN_SOCKET", edge.socket());
    command.env_remove("BERTH_ADMIN_URL").env_remove("CLOUDFLARE_ENV").output().unwrap()
}

#[test]
fn a_configuration_that_is_named_counts_for_every_command() {
    let (edge, project) = (Edge::start(), example());
    let sound = fs::read_to_string(project.path().join("wrangler.jsonc")).unwrap();
    // Another configuration beside the usual one, under a name that wrangler does not look for.
    let other = sound.replace("\"worker\"", "\"other\"").replace("GREETING", "OTHER");
    fs::write(project.path().join("other.jsonc"), other).unwrap();
    // From elsewhere, so that paths in it are of its directory and not of the current one.
    let elsewhere = project.path().join("elsewhere/deep");
    fs::create_dir_all(&elsewhere).unwrap();
    let named = ["-c", "../../other.jsonc"];
    let run = |arguments: &[&str]| {
        let done = wrangler(&edge, &elsewhere, &[arguments, &named].concat());
        assert!(done.status.success(), "{arguments:?}: {}", text(&done.stderr));
        text(&done.stdout)
    };
    let deployed = run(&["deploy", "../../src/index.ts"]);
    assert!(deployed.starts_with("deployed other version 1: modules: 2, static files: 2"), "{deployed}");
    edge.asked();
    run(&["secret", "list"]);
    fs::write(elsewhere.join("all.env"), "A=1").unwrap();
    run(&["secret", "bulk", "all.env"]);
    run(&["secret", "delete", "A"]);
    let asked =
        ["GET /v1/apps/other/secrets", "PUT /v1/apps/other/secrets/A", "DELETE /v1/apps/other/secrets/A"];
    assert_eq!(edge.asked(), asked);
    // The file of types is where it is asked for, and imports the entry from there.
    run(&["types", "types.d.ts"]);
    let types = fs::read_to_string(elsewhere.join("types.d.ts")).unwrap();
    assert!(types.contains("OTHER: string;") && types.contains("import(\"../../src/index\")"), "{types}");
    assert!(!project.path().join("types.d.ts").exists());
    for (arguments, word) in [
        (&["deploy", "src/index.ts", "-c", "../../other.jsonc"][..], "the entry module is"),
        (&["containers", "list", "-c", "none.jsonc"], "--config none.jsonc: there is no such file"),
        (&["secret", "list", "-c", "../../src/index.ts"], "expected a file whose name ends in"),
    ] {
        let refused = wrangler(&edge, &elsewhere, arguments);
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {refused:?}");
        assert!(text(&refused.stderr).contains(word), "{arguments:?}: {refused:?}");
    }
}

#[test]
fn an_edge_beside_the_named_configuration_is_found() {
    let (edge, project) = (Edge::start(), example());
    let beside = project.path().join(".berth/dev/edge");
    fs::create_dir_all(&beside).unwrap();
    std::os::unix::fs::symlink(edge.socket(), beside.join("admin.sock")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = project.path().join("wrangler.jsonc").display().to_string();
    let done = berth(elsewhere.path(), &["wrangler", "secret", "list", "--config", &config]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(edge.asked(), ["GET /v1/apps/worker/secrets"]);
}

#[test]
fn values_of_secrets_are_in_no_output() {
    let (edge, project) = (Edge::start(), example());
    for (name, content) in [
        ("bad.json", r#"{"A": "hidden", "B": hidden}"#),
        ("bad.env", "KEY=-----BEGIN\nhidden.x==\n"),
        ("good.json", r#"{"A": "hidden"}"#),
    ] {
        fs::write(project.path().join(name), content).unwrap();
    }
    for arguments in [
        &["secret", "bulk", "bad.json"][..],
        &["secret", "bulk", "bad.env"],
        &["secret", "bulk", "good.json"],
        &["secret", "put", "KEY", "hidden"],
        &["secret", "put", "KEY=hidden"],
        &["secrets-store", "secret", "create", "shop", "--name", "KEY", "--value", "hidden"],
    ] {
        let done = wrangler(&edge, project.path(), arguments);
        assert!(!format!("{} {}", text(&done.stdout), text(&done.stderr)).contains("hidden"), "{done:?}");
    }
    assert_eq!(edge.asked(), ["PUT /v1/apps/worker/secrets/A"]);
}
