//! Errors of the command line that do not tell what may be the value of a secret: somebody may have given it where it does not belong,
//! and logs of scripts are read by others.

use std::ffi::OsString;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};

use super::Args;

/// Commands whose words may be values by mistake.
const OF_SECRETS: [&str; 3] = ["secret", "secrets-store", "registries"];
/// What stands in the place of such a word.
const UNTOLD: &str = "…";
/// Longest name of an option that is told, in bytes: longer than any there is.
const NAME_BYTES: usize = 30;

impl Args {
    /// Reads the command line, or ends the process with what is wrong with it.
    pub(crate) fn read(words: &[OsString]) -> Self {
        Self::try_parse_from(words).unwrap_or_else(|error| untold(words, error).exit())
    }
}

/// The error without what may be a value.
fn untold(words: &[OsString], mut error: Error) -> Error {
    let of_secrets = words.iter().skip(1).any(|word| OF_SECRETS.iter().any(|known| word == known));
    if !of_secrets || !error.use_stderr() {
        return error;
    }
    hide(&mut error, ContextKind::InvalidValue);
    if matches!(error.kind(), ErrorKind::UnknownArgument | ErrorKind::InvalidSubcommand) {
        hide(&mut error, ContextKind::InvalidArg);
        hide(&mut error, ContextKind::InvalidSubcommand);
    }
    // Some of these repeat the word.
    for suggested in [
        ContextKind::Suggested,
        ContextKind::SuggestedArg,
        ContextKind::SuggestedCommand,
        ContextKind::SuggestedSubcommand,
        ContextKind::SuggestedValue,
    ] {
        error.remove(suggested);
    }
    error
}

/// Replaces a word of the command line; of an option only what is behind its name.
fn hide(error: &mut Error, kind: ContextKind) {
    let Some(ContextValue::String(word)) = error.get(kind) else { return };
    let option = word.split('=').next().filter(|name| is_name(name));
    let told = option.unwrap_or(UNTOLD).to_owned();
    error.insert(kind, ContextValue::String(told));
}

/// Whether a word reads like the name of an option, which may be mistyped. A key in PEM begins like an option, too.
fn is_name(word: &str) -> bool {
    let name = word.strip_prefix("--").unwrap_or_default();
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.len() <= NAME_BYTES
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(words: &str) -> String {
        let words: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        let error = Args::try_parse_from(&words).unwrap_err();
        untold(&words, error).render().to_string()
    }

    #[test]
    fn no_word_that_may_be_a_value_is_told() {
        for words in [
            "berth secret put KEY hidden",
            "berth secret put KEY=hidden",
            "berth secret put KEY -----BEGIN-hidden-----",
            "berth secret put KEY --1hidden",
            "berth secret hidden",
            "berth secret put KEY --store=-hidden=",
            "berth secret put KEY --value=hidden",
            "berth wrangler secret put KEY hidden",
            "berth wrangler secret put KEY:hidden",
            "berth wrangler secret hidden KEY",
            "berth wrangler secret bulk all.json {\"A\":\"hidden\"}",
            "berth wrangler secrets-store secret create shop --value hidden",
            "berth wrangler secrets-store secret create shop --name KEY=hidden",
            "berth registries put example.org me hidden",
        ] {
            let told = told(words);
            assert!(!told.contains("hidden"), "{words}: {told}");
            assert!(told.starts_with("error: "), "{words}: {told}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_all_the_same() {
        assert!(told("berth secret put KEY --stroe shop").contains("--stroe"));
        assert!(told("berth secret put a-b").contains("<NAME>"), "{}", told("berth secret put a-b"));
        assert!(told("berth secret --help").contains("Usage"));
        assert!(told("berth containers list a b").contains('b'));
    }
}
