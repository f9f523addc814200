//! A case: a directory with a Workers project, and the steps that it is driven through.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::directory;

/// One case.
#[derive(Debug)]
pub struct Case {
    /// The name of its directory, which is its app's too.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// What is done with it.
    pub drive: Drive,
}

/// `drive.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drive {
    /// What it is about.
    pub about: String,
    /// Whether others may run meanwhile.
    #[serde(default)]
    pub timing: Timing,
    /// Why the truth is written by hand rather than recorded.
    pub by_hand: Option<String>,
    /// What is done, in order.
    pub steps: Vec<Step>,
}

/// How a case bears others beside it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Timing {
    /// Others may run meanwhile.
    #[default]
    Together,
    /// It has the server to itself, which it restarts.
    Alone,
}

/// One step.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// A request and its whole answer.
    Ask(Ask),
    /// A WebSocket from its beginning to its end.
    Socket(SocketStep),
    /// Several at once. Answers are kept in the order in which they are written.
    Together {
        /// Requests and WebSockets.
        together: Vec<Single>,
    },
    /// A pause, for what goes on without requests.
    Wait {
        /// How long, in milliseconds.
        wait_ms: u64,
    },
    /// The server is killed and started again.
    Restart {
        /// Why.
        restart: String,
    },
}

/// A step that can go on beside others.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Single {
    /// A request and its whole answer.
    Ask(Ask),
    /// A WebSocket from its beginning to its end.
    Socket(SocketStep),
}

/// A request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Path and query.
    pub ask: String,
    /// `GET` where there is none.
    pub method: Option<String>,
    /// Headers besides `host`.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Option<String>,
    /// When the client goes away without waiting for the answer, in milliseconds.
    pub leave_after_ms: Option<u64>,
    /// What the step is called where the same is asked for more than once.
    pub name: Option<String>,
}

/// A WebSocket.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketStep {
    /// Path and query.
    pub socket: String,
    /// Headers besides those of the handshake.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// What is done with it.
    #[serde(default, rename = "do")]
    pub acts: Vec<Act>,
    /// What the step is called where the same is opened more than once.
    pub name: Option<String>,
}

/// What is done with a WebSocket.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Sends a text.
    Send(String),
    /// Sends bytes.
    SendBytes(Vec<u8>),
    /// Waits for so many messages, or the end.
    Receive(usize),
    /// Closes with a code and a reason.
    Close(u16, String),
    /// Closes without either.
    CloseSilently,
    /// Waits, in milliseconds.
    WaitMs(u64),
}

impl Ask {
    /// What the step is called.
    pub fn title(&self) -> String {
        let method = self.method.as_deref().unwrap_or("GET");
        self.name.clone().unwrap_or_else(|| format!("{method} {}", self.ask))
    }
}

impl SocketStep {
    /// What the step is called.
    pub fn title(&self) -> String {
        self.name.clone().unwrap_or_else(|| format!("socket {}", self.socket))
    }
}

impl Case {
    /// All cases by name, or the one of this name.
    pub fn all(only: Option<&str>) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory().join("cases"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if only.is_none_or(|only| only == name) {
                found.push(Self::read(&name)?);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        ensure!(
            only.is_none() || !found.is_empty(),
            "there is no case {only:?} in {}",
            directory().display()
        );
        Ok(found)
    }

    fn read(name: &str) -> Result<Self> {
        let directory = directory().join("cases").join(name);
        let drive = json_file(&directory.join("drive.json"))?;
        let drive = serde_json::from_value(drive).with_context(|| format!("{name}: drive.json"))?;
        Ok(Self { name: name.to_owned(), directory, drive })
    }

    /// The host that its requests are for.
    pub fn host(&self) -> String {
        format!("{}.test", self.name)
    }

    /// What workerd answers.
    pub fn truth_file(&self) -> PathBuf {
        self.directory.join("truth.json")
    }
}

/// The content of a file of JSON.
pub fn json_file(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}
