//! Arguments of `berth containers start`.

use berth_common::ids::{SecretName, VariableName};
use clap::Args as ClapArgs;

use super::secret::binding;
use super::{EXIT_CODES, OneContainer};

#[derive(Debug, ClapArgs)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct StartContainer {
    #[command(flatten)]
    pub(crate) one: OneContainer,
    /// An environment variable, beside those of the class
    ///
    /// With NAME alone the value is taken from berth's own environment, where other users of this machine cannot see it.
    #[arg(long, short, value_name = "NAME[=VALUE]", value_parser = named_variable)]
    pub(crate) env: Vec<(String, String)>,
    /// A secret of the app, and the variable that it becomes, if that has another name
    #[arg(long, value_name = "[VARIABLE=]NAME", value_parser = binding)]
    pub(crate) secret: Vec<(VariableName, SecretName)>,
    /// The program to run and its arguments, one a --entrypoint
    #[arg(long, value_name = "WORD", allow_hyphen_values = true)]
    pub(crate) entrypoint: Vec<String>,
    /// Whether it may reach the internet, if not as its class says
    #[arg(long, value_name = "BOOL")]
    pub(crate) internet: Option<bool>,
}

/// A variable with its value, which may be in our own environment.
fn named_variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, value.to_owned()),
        None => (text, std::env::var(text).map_err(|error| format!("{text}: {error}"))?),
    };
    if name.is_empty() { Err("expected NAME or NAME=VALUE".to_owned()) } else { Ok((name.to_owned(), value)) }
}
