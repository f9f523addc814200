//! How far long work is, on standard error: a bar on a terminal, nothing elsewhere.

use std::fmt::Display;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// How often the bar moves although nothing is done.
const TICK: Duration = Duration::from_millis(100);
/// What it looks like.
const STYLE: &str = "{spinner} {prefix} {pos}/{len} {wide_msg} {elapsed}";

/// Work of several steps. The bar is gone once this is.
pub(crate) struct Steps(ProgressBar);

impl Steps {
    pub(crate) fn new(what: &'static str, count: usize) -> Self {
        let bar = ProgressBar::new(count as u64).with_prefix(what);
        if let Ok(style) = ProgressStyle::with_template(STYLE) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// Does one step, and shows what it works on meanwhile.
    pub(crate) fn run<T>(&self, what: impl Display, step: impl FnOnce() -> T) -> T {
        self.0.set_message(what.to_string());
        let done = step();
        self.0.inc(1);
        done
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
