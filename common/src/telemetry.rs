//! Logs of the daemons: events with fields, on standard error.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line of text per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// The environment variable that chooses what is logged, for example `info,berth_edge=debug`.
const VARIABLE: &str = "BERTH_LOG";
/// What is logged without it, and where it cannot be understood.
const DEFAULT: &str = "info";

/// Starts logging to standard error, as `BERTH_LOG` says; without it, and where it cannot be understood, `info`. Called
/// again, it does nothing.
pub fn init(format: Format) {
    let (filter, _) = from_environment();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        Format::Text => {
            builder.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).finish().try_init()
        }
        Format::Json => builder.json().finish().try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// Logs what is wrong with `BERTH_LOG`, if anything is. That is no reason not to start.
pub fn tell_fault() {
    if let Some(fault) = fault() {
        tracing::warn!("{fault}");
    }
}

/// What is wrong with `BERTH_LOG`, for those who start daemons with it.
pub fn fault() -> Option<String> {
    from_environment().1
}

fn from_environment() -> (EnvFilter, Option<String>) {
    let usual = || EnvFilter::new(DEFAULT);
    let Some(text) = std::env::var_os(VARIABLE) else { return (usual(), None) };
    match parse(&text.to_string_lossy()) {
        Ok(filter) => (filter, None),
        Err(reason) => (usual(), Some(format!("{VARIABLE}={text:?} is not used, {DEFAULT} is: {reason}"))),
    }
}

/// A bare word that is no level would be taken for the name of a module, and nothing else would be logged: a mistyped
/// level is refused instead.
fn parse(text: &str) -> Result<EnvFilter, String> {
    let bare = |part: &&&str| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_');
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let wrong = parts.iter().filter(bare).find(|word| word.parse::<LevelFilter>().is_err());
    if let Some(word) = wrong {
        return Err(format!(
            "{word:?} is no level; expected off, error, warn, info, debug or trace, or MODULE=LEVEL, with commas between"
        ));
    }
    let text = parts.join(",");
    EnvFilter::try_new(if text.is_empty() { DEFAULT } else { &text }).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_filter_is_told() {
        for good in
            ["", "info", "DEBUG", "off", "info,berth_edge=debug", " warn , berth_agent=trace", "a::b=info"]
        {
            assert!(parse(good).is_ok(), "{good:?}");
        }
        for bad in ["debgu", "verbose", "info,berth_edge", "berth_edge=loud", "info,=debug,[", "a=b=c"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse("debgu").unwrap_err().contains("\"debgu\" is no level"));
    }
}
