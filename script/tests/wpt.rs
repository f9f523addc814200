//! The web platform's own tests, in an isolate as events of an app have it: `cargo test -p berth-script --test wpt -- DIR`, where DIR
//! is a checkout of web-platform-tests, or as much of one as is to be run. Without DIR the runner is tried on a sample.
//!
//! What is expected to fail, and what is left out, is in `wpt/expectations.txt`, with the reasons. Anything else that fails, and
//! anything that passes against what is expected, fails the run.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "wpt/expectations.rs"]
mod expectations;
#[path = "wpt/files.rs"]
mod files;
#[path = "wpt/own.rs"]
mod own;
#[path = "wpt/report.rs"]
mod report;
#[path = "wpt/runner.rs"]
mod runner;

use std::path::PathBuf;
use std::process::ExitCode;

use expectations::Expectations;
use report::Report;

/// What is asked for on the command line.
struct Asked {
    dir: PathBuf,
    /// Only files with one of these in their paths; all if there is none.
    only: Vec<String>,
    json: Option<PathBuf>,
    /// Whether what fails as expected is shown as well, and what the tests log.
    verbose: bool,
}

/// `DIR [PART…] [--json FILE] [--verbose]`; nothing without a directory.
fn asked() -> Option<Asked> {
    let (mut words, mut json, mut verbose) = (Vec::new(), None, false);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--json" => json = Some(PathBuf::from(args.next().expect("--json needs a file"))),
            "--verbose" => verbose = true,
            // What a test runner gives to all tests alike.
            flag if flag.starts_with('-') => {}
            word => words.push(word.to_owned()),
        }
    }
    // Cargo gives the name of a single test to all tests: that is no directory.
    let dir = words.first().map(PathBuf::from).filter(|dir| dir.is_dir())?;
    Some(Asked { dir, only: words.split_off(1), json, verbose })
}

fn main() -> ExitCode {
    let expectations = Expectations::read(include_str!("wpt/expectations.txt"));
    let expectations = expectations.unwrap_or_else(|unclear| panic!("expectations.txt, {unclear}"));
    let Some(asked) = asked() else {
        own::check();
        println!("no directory of web-platform-tests is given: the runner was tried on a sample only");
        return ExitCode::SUCCESS;
    };
    let mut report = Report::default();
    for path in files::tests(&asked.dir).expect("the directory can be read") {
        if asked.only.is_empty() || asked.only.iter().any(|part| path.contains(part.as_str())) {
            one(&asked, &expectations, &path, &mut report);
        }
    }
    report.print(asked.verbose);
    if let Some(file) = &asked.json {
        std::fs::write(file, report.json()).expect("the report can be written");
    }
    if report.is_as_expected() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one file, unless it is left out.
fn one(asked: &Asked, expectations: &Expectations, path: &str, report: &mut Report) {
    let family = files::family(path).expect("a file of a family");
    let expected = expectations.of(path);
    if let Some(reason) = expected.is_left_out() {
        return report.left_out(family, path, reason);
    }
    let ran = files::case(&asked.dir, path).map(|case| runner::run(&asked.dir, case));
    match ran {
        Ok(ran) => {
            if asked.verbose {
                ran.lines.iter().for_each(|line| println!("{path}: {line}"));
            }
            report.add(family, path, &expected, ran.subtests);
        }
        Err(error) => report.unreadable(family, path, &error),
    }
}
