//! Transfers of images from and to other registries. The response is lines of JSON, each a [`TransferLine`].

use berth_common::image::{Architecture, Digest};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;
use crate::registries::Credentials;

/// The image to pull.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct PullOrder {
    /// `host/repository:tag` or `host/repository@sha256:...`; the short forms of Docker are accepted.
    pub reference: String,
    /// The login for the registry; by default the one that the edge has stored for it.
    #[serde(default)]
    pub credentials: Option<Credentials>,
    /// Only the image for this architecture, if there are several.
    #[serde(default)]
    pub platform: Option<Architecture>,
    /// Keep the tag, so that the image is kept. Without it the image is kept while a version of an app uses it.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub tag: bool,
}

/// The image to copy.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct CopyOrder {
    /// The source: `berth:repository:tag` for an image of this edge, or a reference in another registry.
    pub from: String,
    /// The destination, in the same form.
    pub to: String,
    /// The login for the source registry; by default the one that the edge has stored for it.
    #[serde(default)]
    pub from_credentials: Option<Credentials>,
    /// The login for the destination registry; by default the one that the edge has stored for it.
    #[serde(default)]
    pub to_credentials: Option<Credentials>,
}

/// A line of the response.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum TransferLine {
    /// The progress of a blob.
    Step(Step),
    /// The last line of a transfer that succeeded.
    Done { done: Done },
    /// The last line of a transfer that failed.
    Failed { error: Problem },
}

/// The direction of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// From another registry.
    Pull,
    /// To another registry.
    Push,
}

/// The progress of one blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Step {
    pub phase: Phase,
    /// The digest of the blob.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub blob: Digest,
    /// Bytes that were transferred.
    pub done: u64,
    /// Size of the blob, in bytes.
    pub total: u64,
}

/// The result of a transfer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Done {
    /// The repository of the image: of this edge, or with the other registry's host before it.
    pub repository: String,
    /// The digest of its manifest there.
    #[cfg_attr(feature = "schema", schema(value_type = String))]
    pub digest: Digest,
    /// Total size of the image, in bytes.
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
