//! The runner itself, tried on a sample: what needs no tests that are brought.

use std::path::Path;

use crate::expectations::{Expectations, Expected};
use crate::files::Case;
use crate::runner::{self, Status};

/// A harness and two scripts.
const SAMPLE: &str = include_str!("sample.js");

/// Panics where the runner does not do what it is for.
pub(crate) fn check() {
    a_sample_comes_to_what_it_says();
    expectations_are_by_name();
}

fn a_sample_comes_to_what_it_says() {
    let scripts = SAMPLE.split("---\n").enumerate();
    let scripts = scripts.map(|(at, text)| (format!("sample-{at}"), text.to_owned())).collect();
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut subtests = runner::run(&dir, Case { path: "wpt/sample.js".to_owned(), scripts }).subtests;
    subtests.sort_by(|one, other| one.name.cmp(&other.name));
    let seen: Vec<_> = subtests.iter().map(|test| (test.name.as_str(), test.status)).collect();
    let expected = [
        ("it fetches what is beside it", Status::Passed),
        ("it waits\\u{a}for ever", Status::TimedOut),
        ("requests know where they are", Status::Passed),
        ("scripts share what they declare", Status::Passed),
        ("there is no server", Status::Failed),
        ("time passes", Status::Passed),
    ];
    assert_eq!(seen, expected, "{subtests:?}");
}

fn expectations_are_by_name() {
    let text = "[a/*.js]\nfail: one\n    x*y*\n    z\nout: two\n    w\n[a/b.js]\nout: three\n";
    let all = Expectations::read(text).expect("expectations");
    let of = all.of("a/c.js");
    let seen = ["xy", "x-y-", "yx", "z", "zz", "w", ""].map(|name| of.of(name));
    let (pass, fail) = (Expected::Pass, Expected::Fail("one"));
    assert_eq!(seen, [fail, fail, pass, fail, pass, Expected::LeftOut, pass]);
    assert_eq!((of.is_left_out(), all.of("a/b.js").is_left_out()), (None, Some("three")));
    assert_eq!(of.unused(&["xy", "w"]), ["z"]);
    for unclear in ["fail: a", "[a]\n    b", "[a]\nfail:", "[a]\nelse: b"] {
        assert!(Expectations::read(unclear).is_err(), "{unclear}");
    }
}
