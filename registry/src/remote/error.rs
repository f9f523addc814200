//! Errors of transfers from and to other registries.

use std::time::Duration;

use crate::content::ContentError;
use ::http::StatusCode;
use berth_common::image::{Digest, ImageNameError, Registry};
use berth_images::manifest::ManifestError;

use super::login::LoginError;
use crate::images::ImageError;
use crate::web::WebError;

/// Why a pull or a push failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each says what its fields are")]
pub enum RemoteError {
    /// The registry was not reached.
    #[error(transparent)]
    Web(#[from] WebError),
    /// The connection was lost.
    #[error("the registry's connection broke: {0}")]
    Broken(#[from] hyper::Error),
    /// A response took too long.
    #[error("the registry did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The body came too slowly.
    #[error("the registry is too slow: {bytes} bytes took longer than {} s", .within.as_secs())]
    TooSlow { bytes: usize, within: Duration },
    /// The whole transfer took too long.
    #[error("it took longer than {} minutes, which is the most that it may take; what is there by now need not be moved again", .0.as_secs() / 60)]
    TooLong(Duration),
    /// The registry asks for credentials, and there are none.
    #[error(
        "{registry} requires a login{text}: give it a user and a password with `berth registries login \
         {registry}`"
    )]
    LoginNeeded { registry: Registry, text: ErrorText },
    /// The registry rejects the credentials, or the user lacks the permission.
    #[error("{registry} refuses {whose}{text}")]
    Refused { registry: Registry, whose: String, text: ErrorText },
    /// The registry asks for credentials in an unknown way.
    #[error("{registry} asks for credentials in a way that is not understood ({reason})")]
    Challenge { registry: Registry, reason: String },
    /// The registry does not have it.
    #[error("the registry has no {0}")]
    Missing(String),
    /// An unexpected status.
    #[error("the registry answers {status} when {what} is asked for{text}")]
    Status { what: String, status: StatusCode, text: ErrorText, retry_after: Option<Duration> },
    /// The response violates the specification.
    #[error("the registry's response is not valid: {0}")]
    Invalid(String),
    /// A redirect from HTTPS to HTTP.
    #[error("the registry redirects from HTTPS to {0}, which is not followed")]
    Downgrade(String),
    /// Too many redirects.
    #[error("the registry redirects more than {0} times")]
    TooManyRedirects(usize),
    /// A blob ended early.
    #[error("{what} ended after {found} of {expected} bytes")]
    Cut { what: Digest, found: u64, expected: u64 },
    /// A blob is longer than announced.
    #[error("the registry sends more than the {expected} bytes that {what} has")]
    Overlong { what: String, expected: u64 },
    /// The content has another digest than requested.
    #[error("the registry sends other content than {expected}: it has the digest {found}")]
    Digest { expected: Digest, found: Box<Digest> },
    /// The manifest is not acceptable.
    #[error("{what} of the registry is refused: {error}")]
    Manifest { what: String, error: ManifestError },
    /// None of its architectures runs here.
    #[error("the image is for {found}, and Berth runs {wanted}")]
    Platform { found: String, wanted: String },
    /// The index has too many images.
    #[error("the image is a list of more than {0} images that Berth runs, which is the most there can be")]
    TooManyChildren(usize),
    /// The name is not valid for a repository here.
    #[error("an image of the registry cannot be named here: `{name}` {error}")]
    Name { name: String, error: ImageNameError },
    /// The image to push does not exist here.
    #[error("this edge has no image {0}")]
    NotHere(String),
    /// The digest in the destination is not that of the image.
    #[error("the image is {found}, and cannot be put there under the digest {wanted}")]
    OtherDigest { found: Digest, wanted: Box<Digest> },
    /// The content store failed or refused.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The image store failed or refused.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The login could not be read.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Reading local content failed.
    #[error("reading an image of this edge failed: {0}")]
    Io(#[from] std::io::Error),
    /// The edge itself failed.
    #[error("the edge failed: {0}")]
    Internal(String),
}

impl RemoteError {
    /// Whether a retry may succeed, and the shortest pause that the registry asks for.
    pub(super) fn retry_pause(&self) -> Option<Duration> {
        match self {
            Self::Web(error) => error.is_transient().then_some(Duration::ZERO),
            Self::Broken(_) | Self::TimedOut(_) | Self::TooSlow { .. } | Self::Cut { .. } => {
                Some(Duration::ZERO)
            }
            Self::Status { status, retry_after, .. } => {
                let passes = status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS;
                passes.then_some(retry_after.unwrap_or_default())
            }
            _ => None,
        }
    }
}

/// A registry's own error text, for people: a colon and the text, or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ErrorText(String);

/// Longest text that is shown, in characters: a sentence or two.
const MAX_ERROR_TEXT: usize = 300;

impl ErrorText {
    /// The messages in an error body, in the format of the distribution specification or similar.
    pub(super) fn of(body: &[u8]) -> Self {
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return Self::default() };
        let text = |value: &serde_json::Value| {
            let known = ["message", "details", "code"].iter().find_map(|name| value.get(name)?.as_str());
            known.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let many = body.get("errors").and_then(|errors| errors.as_array());
        let texts: Vec<String> = match many {
            Some(errors) => errors.iter().filter_map(text).collect(),
            None => text(&body).into_iter().collect(),
        };
        // Control characters are removed: it is shown on terminals.
        let shown: String =
            texts.join("; ").chars().filter(|c| !c.is_control()).take(MAX_ERROR_TEXT).collect();
        if shown.is_empty() { Self::default() } else { Self(format!(": {shown}")) }
    }
}

impl std::fmt::Display for ErrorText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_passed_on_without_control_characters() {
        let text = |body: &str| ErrorText::of(body.as_bytes()).to_string();
        assert_eq!(text(r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J"}]}"#), ": no[2J");
        assert_eq!(
            text(r#"{"details":"incorrect username or password"}"#),
            ": incorrect username or password"
        );
        assert_eq!(text(r#"{"errors":[{"code":"DENIED","message":""}]}"#), "");
        assert_eq!(text("<html>"), "");
        assert_eq!(text(&format!(r#"{{"message":"{}"}}"#, "x".repeat(1_000))).len(), 2 + MAX_ERROR_TEXT);
    }
}
