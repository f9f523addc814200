//! Images on their way from and to other registries. The answer comes in lines of JSON, each a [`TransferLine`].

use berth_common::image::{Architecture, Digest};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::registries::Credentials;

/// An image that is wanted.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PullOrder {
    /// `host/repository:tag` or `host/repository@sha256:...`; what Docker's users leave out may be left out.
    pub reference: String,
    /// Who asks the registry; without, the user that the edge knows there.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Only the image for this machine, where there are several.
    #[serde(default)]
    pub platform: Option<Architecture>,
    /// Keep the tag, so that the image stays. Without, it stays for as long as a version of an app uses it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub tag: bool,
}

/// An image that is to go somewhere else.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CopyOrder {
    /// `berth:repository:tag` for an image of this edge, or a reference of another registry.
    pub from: String,
    /// The same.
    pub to: String,
    /// Who asks the registry that it comes from; without, the user that the edge knows there.
    #[serde(default)]
    pub from_credentials: Option<Credentials>,
    /// Who asks the registry that it goes to; without, the user that the edge knows there.
    #[serde(default)]
    pub to_credentials: Option<Credentials>,
}

/// A line of the answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum TransferLine {
    /// How far a blob is.
    Step(Step),
    /// The last line of a transfer that is done.
    Done { done: Done },
    /// The last line of one that failed.
    Failed { error: Problem },
}

/// Which way a blob goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// From another registry.
    Pull,
    /// To another registry.
    Push,
}

/// How far one blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Step {
    pub phase: Phase,
    /// Its digest.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub blob: Digest,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes that it has.
    pub total: u64,
}

/// What became of a transfer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Done {
    /// Where the image is: a repository of this edge, or with the other registry's name before it.
    pub repository: String,
    /// Of its manifest there.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    /// Bytes of all that it consists of.
    pub bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_steps_and_an_end() {
        let digest = Digest::of(b"x");
        let read = |text: String| serde_json::from_str::<TransferLine>(&text).unwrap();
        let step = format!(r#"{{"phase":"pull","blob":"{digest}","done":1,"total":2}}"#);
        assert!(matches!(read(step), TransferLine::Step(Step { done: 1, .. })));
        let done = format!(r#"{{"done":{{"repository":"r.example/a","digest":"{digest}","bytes":3}}}}"#);
        assert!(matches!(read(done), TransferLine::Done { done: Done { bytes: 3, .. } }));
        let failed = r#"{"error":{"title":"no","status":502,"type":"about:blank"}}"#;
        assert!(matches!(read(failed.to_owned()), TransferLine::Failed { .. }));
    }
}
