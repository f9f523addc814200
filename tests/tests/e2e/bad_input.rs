//! Mistakes of users and programs are reported at once, and have no effect.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use berth_tests::app::App;
use berth_tests::cluster::Setup;
use berth_tests::scenario::{Outcome, scenario};
use berth_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A `berth.toml` with one fault in each of these lines.
const FAULTY: &str = r#"nmae = "hello"
[[containers]]
class_name = "Hello"
image = "./nowhere"
default_port = 8080
sleep_after = "10 minuets"
instance_type = { vcpu = 0.25, memory = "much", disk = "1GB" }
enable_internet = false
colour = "red"
"#;
/// The lines, and a part of the error about each.
const FAULTS: [(u32, &str); 5] =
    [(1, "did you mean `name`"), (4, "nowhere"), (6, "duration"), (7, "size"), (9, "colour")];

/// An archive whose list names a file that is not there, with characters that steer a terminal.
const HOSTILE_NAME: &str = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}x.tar";
/// How long the edge may wait for more of a body: a minute, and time to notice.
const BODY_IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a container may take to sleep after that.
const SLEEP_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests that are not HTTP, or whose length or host is ambiguous.
const MALFORMED: [(&str, &str); 8] = [
    ("no request line", "hello\r\n\r\n"),
    ("a header without a colon", "GET /container/1 HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n"),
    (
        "two lengths",
        "POST /container/1 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ),
    ("a user in the host", "GET /container/1 HTTP/1.1\r\nhost: u:p@a\r\n\r\n"),
    ("a user in the target", "GET http://u@a/container/1 HTTP/1.1\r\nhost: a\r\n\r\n"),
    ("a port that is none", "GET /container/1 HTTP/1.1\r\nhost: a:port\r\n\r\n"),
    (
        "chunks in chunks",
        "POST /container/1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    ),
    ("a length that is no number", "POST /container/1 HTTP/1.1\r\nhost: a\r\ncontent-length: ten\r\n\r\n"),
];

#[test]
fn malformed_http_is_answered_with_400_and_the_connection_closed() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        for (fault, request) in MALFORMED {
            let answer = client.raw(request.as_bytes()).await.with_context(|| fault.to_owned())?;
            ensure!(answer.starts_with("HTTP/1.1 400 "), "{fault} was answered with {answer:?}");
        }
        let coded =
            "POST /container/1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n";
        let answer = client.raw(coded.as_bytes()).await?;
        ensure!(answer.starts_with("HTTP/1.1 501 "), "a coding that is not known: {answer:?}");
        ensure!(cluster.admin().objects().await?.is_empty(), "a malformed request has started something");
        client.get("/container/1").await?.success().map(drop)
    })
}

/// Heads that give the length twice, in either order and with blanks where RFC 9112 allows them. After each comes a body in
/// chunks that is over at once, and what a server that believed the length would take for the rest of it.
const TWO_LENGTHS: [&str; 5] = [
    "content-length: 47\r\ntransfer-encoding: chunked\r\n",
    "transfer-encoding: chunked\r\nContent-LENGTH: 47\r\n",
    "content-length:47\r\nx: y\r\nTransfer-Encoding:\t chunked \r\n",
    "content-length: \t47 \r\ntransfer-encoding:  chunked\r\n",
    "transfer-encoding: chunked\r\ncontent-length: many\r\n",
];

#[test]
fn a_length_beside_chunks_is_dropped_and_the_connection_closed() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        let client = cluster.client();
        for lengths in TWO_LENGTHS {
            let smuggled = "GET /container/1/status/418 HTTP/1.1\r\nhost: a\r\n\r\n";
            let head = format!("POST /container/1/headers HTTP/1.1\r\nhost: a\r\n{lengths}\r\n");
            let answer = client.raw(format!("{head}0\r\n\r\n{smuggled}").as_bytes()).await?;
            ensure!(answer.starts_with("HTTP/1.1 200 "), "{lengths:?} was answered with {answer:?}");
            ensure!(!answer.contains("418"), "a second request was answered after {lengths:?}: {answer:?}");
            let passed = answer.to_lowercase();
            let body = passed.split("\r\n\r\n").nth(1).context("no body")?;
            let both = body.contains("content-length") && body.contains("transfer-encoding");
            ensure!(!both && !body.contains("47") && !body.contains("many"), "the app was given {body}");
            // After a request that is sound, the same on one connection.
            let sound = "POST /container/1/sink HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
            let answer = client.raw(format!("{sound}{head}0\r\n\r\n{smuggled}").as_bytes()).await?;
            ensure!(answer.matches("HTTP/1.1 200 ").count() == 2 && !answer.contains("418"), "{answer:?}");
        }
        Ok(())
    })
}

#[test]
fn an_upgrade_to_anything_but_websocket_is_not_passed_on() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App::default()).await?;
        for protocol in ["h2c", "h2c, websocket", "TLS/1.0", "websocket2"] {
            let request = format!(
                "GET /container/1/headers HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\n\
                 upgrade: {protocol}\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
            );
            let answer = cluster.client().raw(request.as_bytes()).await?.to_lowercase();
            ensure!(answer.starts_with("http/1.1 200 "), "{protocol}: {answer}");
            let body = answer.split("\r\n\r\n").nth(1).context("no body")?;
            ensure!(!body.contains("upgrade:") && !body.contains("http2-settings"), "the app saw {body}");
        }
        Ok(())
    })
}

#[test]
fn a_body_that_never_comes_is_answered_408_and_keeps_no_container_awake() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        cluster.deploy(&App { sleep_after: "1s", ..App::default() }).await?;
        let mut stream = TcpStream::connect(cluster.address()).await?;
        let head = "PUT /container/1/sink HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc";
        stream.write_all(head.as_bytes()).await?;
        let mut answer = String::new();
        let answered = stream.read_to_string(&mut answer);
        tokio::time::timeout(BODY_IDLE_TIMEOUT, answered).await.context("it waits for ever")??;
        ensure!(answer.starts_with("HTTP/1.1 408 "), "answered {answer}");
        wait::until("the container to sleep", SLEEP_TIMEOUT, async || {
            let object = cluster.admin().object("1").await?;
            ensure!(object.instance.is_none(), "it is awake");
            Ok(())
        })
        .await
    })
}

#[test]
fn strangers_are_told_a_short_reason_and_the_log_has_the_rest() -> Outcome {
    scenario(Setup { short_errors: true, ..Setup::nodes(1) }, async |cluster| {
        cluster.deploy(&App { entrypoint: Some(vec!["/app/secret-command"]), ..App::default() }).await?;
        let answer = cluster.client().get("/container/1").await?;
        let (reason, id) = answer.text.trim_end().split_once(" (error ").context("no number")?;
        ensure!(answer.status == 500 && reason == "the container could not be started", "{answer:?}");
        let id = id.trim_end_matches(')').to_owned();
        let log = cluster.edge()?.log();
        let line = log.lines().find(|line| line.contains(&id)).context("the log does not have the number")?;
        ensure!(line.contains("secret-command"), "{line}");
        Ok(())
    })
}

#[test]
fn a_path_that_no_route_takes_is_not_found() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let before = cluster.client().get("/container/1").await?;
        ensure!(before.status == 404, "before any app is deployed: {}", before.status);
        cluster.deploy(&App::default()).await?;
        for path in ["/", "/container", "/container/", "/elsewhere/1"] {
            let answer = cluster.client().get(path).await?;
            ensure!(answer.status == 404, "{path}: {}", answer.status);
        }
        ensure!(cluster.admin().objects().await?.is_empty(), "an unknown path has started something");
        Ok(())
    })
}

#[test]
fn all_errors_of_a_berth_toml_are_reported_and_nothing_is_started() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let directory = cluster.make_directory("faulty")?;
        fs::write(directory.join("berth.toml"), FAULTY)?;
        let path = directory.to_string_lossy();
        let file = directory.join("berth.toml");
        for args in [["check", &file.to_string_lossy()], ["deploy", &path], ["dev", &path]] {
            let output = cluster.berth(&args).await?;
            let stderr = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.code() == Some(2), "{args:?}: {}: {stderr}", output.status);
            expect_faults(&stderr, &file).with_context(|| format!("{args:?} said:\n{stderr}"))?;
        }
        ensure!(!directory.join(".berth").exists(), "`berth dev` has begun");
        let apps = cluster.admin().get("/v1/apps").await?;
        ensure!(apps["apps"].as_array().is_some_and(Vec::is_empty), "something was deployed: {apps}");
        Ok(())
    })
}

fn expect_faults(stderr: &str, file: &Path) -> Result<()> {
    for (number, args) in FAULTS {
        let location = format!("{}:{number}:", file.display());
        let line = stderr.lines().find(|line| line.contains(&location));
        let line = line.with_context(|| format!("nothing is said of line {number}"))?;
        ensure!(line.contains(args), "of line {number} is not said: {args}");
    }
    Ok(())
}

#[test]
fn a_missing_berth_toml_is_reported_with_its_path() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let directory = cluster.make_directory("empty")?;
        let output = cluster.berth(&["deploy", &directory.to_string_lossy()]).await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2), "{}: {stderr}", output.status);
        ensure!(stderr.contains(&*directory.join("berth.toml").to_string_lossy()), "{stderr}");
        Ok(())
    })
}

/// Fails if the text has a character that steers a terminal.
fn expect_harmless(what: &str, text: &str) -> Result<()> {
    let steers =
        |c: char| c.is_control() && !matches!(c, '\n' | '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
    ensure!(!text.contains(steers), "{what} would steer a terminal: {text:?}");
    Ok(())
}

#[test]
fn texts_of_others_steer_no_terminal() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let more = r#"entrypoint = ["/bin/\u001b[2J\u202enone"]"#;
        cluster.deploy(&App { more, ..App::default() }).await?;
        let answer = cluster.client().get("/container/1").await?;
        ensure!(answer.status == 500 && answer.text.contains("\\u{1b}[2J"), "{answer:?}");
        expect_harmless("the answer", &answer.text)?;
        for args in [
            &["containers", "list"][..],
            &["containers", "list", "--json"],
            &["containers", "info", "hello/Hello/1"],
        ] {
            let output = cluster.berth(args).await?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            expect_harmless("the list", &String::from_utf8_lossy(&output.stdout))?;
        }

        let directory = cluster.make_directory("hostile")?;
        let list = format!("[{{\"Config\": {HOSTILE_NAME:?}, \"RepoTags\": [], \"Layers\": []}}]");
        let list =
            list.replace("\\u{1b}", "\\u001b").replace("\\u{7}", "\\u0007").replace("\\u{202e}", "\\u202e");
        fs::write(directory.join("manifest.json"), list)?;
        let archive = directory.join("x.tar");
        let packed = std::process::Command::new("tar")
            .arg("-cf")
            .arg(&archive)
            .arg("-C")
            .arg(&directory)
            .arg("manifest.json")
            .status()?;
        ensure!(packed.success(), "tar: {packed}");
        let app = App { image: Some(format!("docker-archive:{}", archive.display())), ..App::default() };
        let output = cluster.try_deploy(&app, &[]).await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success() && said.contains("owned"), "{said}");
        expect_harmless("the error", &said)
    })
}
