//! Which app a command is for: its name, behind `--app` or without.

use berth_common::ids::AppName;
use clap::Args as ClapArgs;

/// An app, which must be named.
#[derive(Debug, ClapArgs)]
pub(crate) struct OneApp {
    /// The app
    #[arg(value_name = "APP", required_unless_present = "named_app")]
    app: Option<AppName>,
    /// The same
    #[arg(
        long = "app",
        id = "named_app",
        value_name = "APP",
        conflicts_with = "app",
        hide_short_help = true
    )]
    named: Option<AppName>,
}

/// An app, or all of them.
#[derive(Debug, ClapArgs)]
pub(crate) struct AnyApp {
    /// Only this app
    #[arg(value_name = "APP")]
    app: Option<AppName>,
    /// The same
    #[arg(
        long = "app",
        id = "named_app",
        value_name = "APP",
        conflicts_with = "app",
        hide_short_help = true
    )]
    named: Option<AppName>,
}

impl OneApp {
    /// Its name.
    pub(crate) fn name(&self) -> anyhow::Result<&AppName> {
        let name = self.app.as_ref().or(self.named.as_ref());
        name.ok_or_else(|| anyhow::anyhow!("name an app"))
    }
}

impl AnyApp {
    /// Its name, if one is given.
    pub(crate) fn name(&self) -> Option<&AppName> {
        self.app.as_ref().or(self.named.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Args;

    #[test]
    fn an_app_is_named_with_its_option_or_without() {
        let parsed = |words: &[&str]| Args::try_parse_from(["berth"].iter().chain(words)).is_ok();
        for command in [&["versions"][..], &["rollback"], &["crons"], &["apps", "delete"]] {
            assert!(
                parsed(&[command, &["a"]].concat()) && parsed(&[command, &["--app", "a"]].concat()),
                "{command:?}"
            );
            assert!(!parsed(command) && !parsed(&[command, &["a", "--app", "a"]].concat()), "{command:?}");
        }
        for command in [&["containers", "list"][..], &["usage"], &["secret", "list"]] {
            assert!(
                parsed(&[command, &["a"]].concat()) && parsed(&[command, &["--app", "a"]].concat()),
                "{command:?}"
            );
            assert!(parsed(command) && !parsed(&[command, &["a", "--app", "a"]].concat()), "{command:?}");
        }
    }
}
