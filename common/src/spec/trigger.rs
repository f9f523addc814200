//! Hooks that receive events of objects, callbacks that alarms and schedules run, and crons.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cron::Cron;
use crate::ids::{CallbackName, ClassName, ObjectName};

/// Most callbacks of a class.
pub const MAX_CALLBACKS: usize = 64;
/// Most crons of an app.
pub const MAX_CRONS: usize = 256;
/// Longest body of a callback's request, in bytes.
pub const MAX_ACTION_BODY_BYTES: usize = 64 * 1024;
/// Longest URL of a hook, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Who is told of the lives of a class's objects.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HooksSpec {
    /// Where events are posted: `https://` or `http://`, without a user or fragment.
    pub url: String,
    /// The name of the secret that they are signed with.
    pub secret: String,
    /// The kinds of events that are told.
    pub events: BTreeSet<HookKind>,
}

/// Kinds of events.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HookKind {
    /// An instance takes requests.
    Start,
    /// An instance ended that had been started.
    Stop,
    /// An instance could not be started, or failed.
    Error,
    /// An instance has had no activity for `sleep_after`: the answer may keep it.
    ActivityExpired,
    /// A callback with `hook = true` is due.
    Callback,
}

impl HookKind {
    /// The kinds that a class can subscribe to, by their names in `berth.toml`.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("start", Self::Start),
        ("stop", Self::Stop),
        ("error", Self::Error),
        ("activity_expired", Self::ActivityExpired),
    ];
    /// The kinds that a class subscribes to by default.
    pub const USUAL: [Self; 3] = [Self::Start, Self::Stop, Self::Error];

    /// Its name in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Error => "error",
            Self::ActivityExpired => "activity_expired",
            Self::Callback => "callback",
        }
    }
}

/// What is done when something is due.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The object's instance gets a request, and is started for it if need be.
    Request(RequestAction),
    /// The object's instance is started, unless it lives.
    Start {
        /// Added to the environment of its class. Values may hold placeholders.
        #[serde(default)]
        env: BTreeMap<String, String>,
    },
    /// The class's hook is told.
    Hook,
}

/// A request to an instance.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestAction {
    /// Its method.
    pub method: String,
    /// Its path, with a query or without. May hold placeholders.
    pub path: String,
    /// Its body, in place of the payload of what is due.
    #[serde(default)]
    pub body: Option<String>,
    /// The port, where it is not the class's default.
    #[serde(default)]
    pub port: Option<u16>,
}

/// Leaves the values of the environment and bodies out: they may be secrets.
impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request(request) => write!(f, "Request({} {})", request.method, request.path),
            Self::Start { env } => f.debug_struct("Start").field("env", &env.keys()).finish(),
            Self::Hook => f.write_str("Hook"),
        }
    }
}

/// Something that is done again and again.
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CronSpec {
    /// When, in UTC.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub cron: Cron,
    /// The class of the object.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub class: ClassName,
    /// The object's name.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub object: ObjectName,
    /// What.
    pub action: Action,
}

/// The methods that an action's request may have.
pub const ACTION_METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

impl Action {
    /// What is wrong with it, if anything, and with which part.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Request(request) => request.fault(),
            Self::Start { env } => {
                let bad = env.iter().find(|(name, value)| {
                    name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
                });
                bad.map(|(name, _)| {
                    ("env", format!("{name:?} cannot name a variable, or its value holds a zero byte"))
                })
            }
            Self::Hook => None,
        }
    }
}

impl RequestAction {
    fn fault(&self) -> Option<(&'static str, String)> {
        // Values of placeholders have only characters that are allowed in a path.
        let path = fill(&self.path, 0);
        if let Some(fault) = super::path_fault(&path) {
            return Some(("path", fault.to_owned()));
        }
        if path.contains('#') {
            return Some(("path", "may not hold `#`".to_owned()));
        }
        if !ACTION_METHODS.contains(&self.method.as_str()) {
            return Some(("method", format!("{:?} is none of {}", self.method, ACTION_METHODS.join(", "))));
        }
        if self.body.as_ref().is_some_and(|body| body.len() > MAX_ACTION_BODY_BYTES) {
            return Some(("body", format!("is longer than {MAX_ACTION_BODY_BYTES} bytes")));
        }
        (self.port == Some(0)).then(|| ("port", "must not be 0".to_owned()))
    }
}

/// Replaces the placeholders `{scheduled_time}` (RFC 3339, in UTC) and `{scheduled_ms}` (milliseconds since 1970) with
/// the time that the action was due.
pub fn fill(text: &str, scheduled_ms: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_millis(scheduled_ms);
    let time = humantime::format_rfc3339_seconds(time).to_string();
    text.replace("{scheduled_time}", &time).replace("{scheduled_ms}", &scheduled_ms.to_string())
}

impl HooksSpec {
    /// What is wrong with it, if anything, and with which part.
    pub fn fault(&self) -> Option<(&'static str, String)> {
        if let Some(fault) = url_fault(&self.url) {
            return Some(("url", fault.to_owned()));
        }
        if self.secret.is_empty() {
            return Some(("secret", "must name a secret, with which events are signed".to_owned()));
        }
        self.events
            .contains(&HookKind::Callback)
            .then(|| ("events", "`callback` is told without being named".to_owned()))
    }
}

/// What is wrong with the URL of a hook, as far as can be checked without resolving its host.
fn url_fault(url: &str) -> Option<&'static str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(rest) = rest else { return Some("must start with https:// or http://") };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    if authority.is_empty() || authority.starts_with(':') {
        Some("names no host")
    } else if authority.contains('@') {
        Some("must not hold a user or password: events are signed instead")
    } else if url.contains('#') {
        Some("must not hold a fragment")
    } else if url.len() > MAX_URL_BYTES {
        Some("is longer than 2048 bytes")
    } else if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("may only hold visible ASCII characters")
    } else {
        None
    }
}

/// A callback that a class declares.
pub type Callbacks = BTreeMap<CallbackName, Action>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_become_the_moment() {
        let text = fill("/run?at={scheduled_time}&ms={scheduled_ms}", 1_769_860_800_000);
        assert_eq!(text, "/run?at=2026-01-31T12:00:00Z&ms=1769860800000");
    }

    #[test]
    fn addresses_of_hooks_are_checked() {
        for good in ["https://example.com/hook?a=b", "http://127.0.0.1:80", "https://[::1]:8443/"] {
            assert_eq!(url_fault(good), None, "{good}");
        }
        for bad in [
            "ftp://x",
            "https://",
            "https:///x",
            "https://u:p@x/",
            "https://x/#y",
            "https://x/ä",
            "https://:80",
        ] {
            assert!(url_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn actions_are_checked_and_hide_values() {
        let request = |method: &str, path: &str| {
            Action::Request(RequestAction {
                method: method.to_owned(),
                path: path.to_owned(),
                body: None,
                port: None,
            })
        };
        assert_eq!(request("POST", "/a/{scheduled_ms}").fault(), None);
        assert_eq!(request("post", "/a").fault().unwrap().0, "method");
        assert_eq!(request("GET", "a").fault().unwrap().0, "path");
        let start = Action::Start { env: BTreeMap::from([("KEY".to_owned(), "hidden".to_owned())]) };
        assert!(start.fault().is_none() && !format!("{start:?}").contains("hidden"));
    }
}
