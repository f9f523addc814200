//! `berth logs`: the output of containers, past and live.
//!
//! Containers may write anything: on a terminal control characters are shown as their codes, unless `--raw` asks for
//! them. Elsewhere, and with `--json`, everything is passed on unchanged.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use berth_api::client::encode;
use berth_api::logs::{LogLine, LogObject};
use berth_common::clock::wall_ms;
use berth_common::ids::{AppName, ObjectId};
use berth_common::shown::{shown, shown_lines};
use berth_common::wire::logs::LogStream;

use serde_json::Value;

use crate::admin::Admin;
use crate::args::Logs;
use crate::{ids, output};

/// Pause before `berth dev` follows the output again after the connection has ended, and between looks for an object.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Styles of the two other streams on a terminal: yellow, and faint.
const STDERR: &str = "\x1b[33m";
const REMARK: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

pub(crate) async fn run(args: &Logs) -> Result<()> {
    let admin = args.show.admin.edge()?;
    tokio::select! {
        shown = find_and_show(&admin, args) => shown,
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
    }
}

async fn find_and_show(admin: &Admin, args: &Logs) -> Result<()> {
    let of = match (&args.object, &args.app) {
        (Some(object), _) => {
            let id = ids::object(admin, object).await?;
            if args.follow {
                wait_for(admin, object, id).await?;
            }
            format!("containers/{id}")
        }
        (None, Some(app)) => format!("apps/{app}"),
        (None, None) => bail!("name an object, or an app with --app"),
    };
    show(admin, &path(args, &of), args).await
}

/// Waits until an object that is named by its app and class has had a container. One without an app would be waited for in
/// vain.
async fn wait_for(admin: &Admin, object: &str, id: ObjectId) -> Result<()> {
    let Some(key) = ids::object_key(object)? else { return Ok(()) };
    let mut told = false;
    loop {
        let found: Result<Value, _> = admin.get(&format!("/v1/containers/{id}")).await;
        match found {
            Err(error) if error.is_missing() => {}
            found => return Ok(found.map(drop)?),
        }
        if !told {
            ids::expect_class(admin, &key.app, &key.class).await?;
            output::note!("waiting for {object}, which has had no container yet ...");
            told = true;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

fn path(args: &Logs, of: &str) -> String {
    let since = args.since.as_ref().map(|since| format!("&since={}", encode(since)));
    let tail = args.tail.map(|tail| format!("&tail={tail}"));
    let follow = args.follow;
    format!("/v1/{of}/logs?follow={follow}{}{}", since.unwrap_or_default(), tail.unwrap_or_default())
}

async fn show(admin: &Admin, path: &str, args: &Logs) -> Result<()> {
    let mut lines = admin.lines(path).await?;
    let look = Look { escapes: io::stdout().is_terminal() && !args.raw, ..Look::of_stdout() };
    loop {
        let next = lines.next().await;
        match next.with_context(|| format!("the edge at {admin} is gone"))? {
            Some(lines) if args.show.json => print(lines.iter().map(|line| line_of(line)))?,
            Some(lines) => print(lines.iter().map(|line| human(line, look, true)))?,
            None if args.follow => bail!("the edge at {admin} is gone: it ended the answer"),
            None => return Ok(()),
        }
    }
}

fn line_of(line: &[u8]) -> Result<String> {
    Ok(String::from_utf8(line.to_vec())?)
}

fn print(lines: impl Iterator<Item = Result<String>>) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&line?);
        text.push('\n');
    }
    print_whole(&text)
}

/// Writes lines at once.
fn print_whole(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    Ok(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())?)
}

/// Where the output of an app is shown while it is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Containers {
    /// What containers write is shown among the rest, and whose it is.
    Among,
    /// It goes to standard error, so that standard output is the program's alone.
    Beside,
    /// It is not shown.
    Hidden,
}

/// Shows what an app writes from a moment on, until dropped. Without timestamps, because it is live: lines of containers behind
/// whose they are, those of programs as they are.
pub(crate) async fn follow_app(admin: &Admin, app: &AppName, since_ms: u64, containers: Containers) {
    let mut since_ms = since_ms;
    loop {
        // An error is ignored: what is not shown here is still in the logs.
        let _ = follow_once(admin, &format!("/v1/apps/{app}/logs?follow=true&since={since_ms}"), containers)
            .await;
        tokio::time::sleep(RETRY_PAUSE).await;
        since_ms = wall_ms();
    }
}

async fn follow_once(admin: &Admin, path: &str, containers: Containers) -> Result<()> {
    let mut lines = admin.lines(path).await?;
    let look = Look::of_stdout();
    while let Some(lines) = lines.next().await? {
        let mut text = String::new();
        for line in lines {
            match (live(&line, look)?, containers) {
                (Live::Program(line), _) | (Live::Container(line), Containers::Among) => {
                    text.push_str(&line);
                    text.push('\n');
                }
                (Live::Container(line), Containers::Beside) => output::remark(line),
                (Live::Container(_), Containers::Hidden) => {}
            }
        }
        print_whole(&text)?;
    }
    Ok(())
}

/// A line as it is shown while it is followed.
enum Live {
    Program(String),
    Container(String),
}

fn live(line: &[u8], look: Look) -> Result<Live> {
    let read: LogLine = parse(line)?;
    if read.object.is_some() || read.stream == LogStream::Berth {
        return human(line, look, false).map(Live::Container);
    }
    let text = if look.escapes { shown_lines(&read.text).into_owned() } else { read.text };
    Ok(Live::Program(text))
}

fn parse(line: &[u8]) -> Result<LogLine> {
    serde_json::from_slice(line).context("a line of the answer is not what this version expects")
}

/// How lines are shown.
#[derive(Debug, Clone, Copy)]
struct Look {
    colours: bool,
    /// Control characters are shown as their codes.
    escapes: bool,
}

impl Look {
    /// Both on a terminal; colours only unless NO_COLOR is set.
    fn of_stdout() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let terminal = io::stdout().is_terminal();
        Self { colours: terminal && !unwanted, escapes: terminal }
    }
}

/// A line for people.
fn human(line: &[u8], look: Look, with_time: bool) -> Result<String> {
    let line = parse(line)?;
    let whose = match &line.object {
        Some(LogObject { class, name, .. }) => format!("{class}/{name}"),
        None => line.node.to_string(),
    };
    let text = if look.escapes { shown(&line.text) } else { line.text.as_str().into() };
    let (whose, stream) =
        (if look.escapes { shown(&whose) } else { whose.as_str().into() }, line.stream.name());
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(line.time_ms)).filter(|_| with_time);
    let time = time.map(|time| format!("{} ", humantime::format_rfc3339_millis(time))).unwrap_or_default();
    let (before, behind) = match line.stream {
        _ if !look.colours => ("", ""),
        LogStream::Stderr => (STDERR, PLAIN),
        LogStream::Berth => (REMARK, PLAIN),
        _ => ("", ""),
    };
    Ok(format!("{before}{time}{whose} {stream} {text}{behind}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIPE: Look = Look { colours: false, escapes: false };

    fn terminal() -> Look {
        Look { colours: true, escapes: true }
    }

    fn line(stream: &str, text: &str) -> Vec<u8> {
        let line = serde_json::json!({
            "time_ms": 1_769_860_800_123_u64, "stream": stream, "text": text, "node": "n1", "app": "hello",
            "class": "Hello", "name": "7", "id": "00".repeat(16), "instance": "11".repeat(16), "newer": 1,
        });
        line.to_string().into_bytes()
    }

    #[test]
    fn a_line_is_shown_with_its_time_object_and_stream() {
        let shown = human(&line("stdout", "hi"), PIPE, true).unwrap();
        assert_eq!(shown, "2026-01-31T12:00:00.123Z Hello/7 stdout hi");
        assert_eq!(human(&line("stdout", "hi"), terminal(), false).unwrap(), "Hello/7 stdout hi");
        assert_eq!(
            human(&line("stderr", "hi"), terminal(), false).unwrap(),
            "\x1b[33mHello/7 stderr hi\x1b[0m"
        );
        let remark = br#"{"time_ms":0,"stream":"berth","text":"gone","node":"n1"}"#;
        assert_eq!(human(remark, PIPE, false).unwrap(), "n1 berth gone");
    }

    #[test]
    fn a_container_does_not_steer_the_terminal_unless_its_bytes_are_wanted() {
        let hostile = line("stdout", "a\x1b[2J\u{202e}b");
        assert_eq!(human(&hostile, terminal(), false).unwrap(), r"Hello/7 stdout a\u{1b}[2J\u{202e}b");
        assert_eq!(human(&hostile, PIPE, false).unwrap(), "Hello/7 stdout a\x1b[2J\u{202e}b");
    }

    #[test]
    fn lines_of_programs_are_shown_as_they_are() {
        let of = |text: &str, look| match live(text.as_bytes(), look).unwrap() {
            Live::Program(text) => ("program", text),
            Live::Container(text) => ("container", text),
        };
        let program =
            r#"{"time_ms":0,"stream":"stderr","text":"onStart hook called\n  at\u001b[2J","node":"dev"}"#;
        assert_eq!(of(program, PIPE), ("program", "onStart hook called\n  at\u{1b}[2J".to_owned()));
        assert_eq!(of(program, terminal()), ("program", "onStart hook called\n  at\\u{1b}[2J".to_owned()));
        let remark = r#"{"time_ms":0,"stream":"berth","text":"gone","node":"n1"}"#;
        assert_eq!(of(remark, PIPE).0, "container");
        let container = String::from_utf8(line("stdout", "hi")).unwrap();
        assert_eq!(of(&container, PIPE), ("container", "Hello/7 stdout hi".to_owned()));
    }

    #[test]
    fn what_is_asked_for_becomes_a_path() {
        use clap::Parser;
        let parsed = |args: &[&str]| {
            let args = ["berth", "logs"].iter().chain(args).copied();
            match crate::args::Args::try_parse_from(args).map(|args| args.command) {
                Ok(crate::args::Command::Logs(args)) => Some(path(&args, "apps/hello")),
                _ => None,
            }
        };
        let id = "000102030405060708090a0b0c0d0e0f";
        let asked = parsed(&[id, "-f", "--since", "10m", "--tail", "3"]).unwrap();
        assert_eq!(asked, "/v1/apps/hello/logs?follow=true&since=10m&tail=3");
        assert_eq!(parsed(&["--app", "hello"]).unwrap(), "/v1/apps/hello/logs?follow=false");
        assert_eq!(parsed(&[]), None);
        assert_eq!(parsed(&[id, "--app", "hello"]), None);
    }
}
