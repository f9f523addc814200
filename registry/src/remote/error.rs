//! Why something did not come from another registry, or did not get there.

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
    /// An answer took too long.
    #[error("the registry did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// What was sent came too slowly.
    #[error("the registry is too slow: {bytes} bytes took longer than {} s", .within.as_secs())]
    TooSlow { bytes: usize, within: Duration },
    /// All of it together took too long.
    #[error("it took longer than {} minutes, which is the most that it may take; what is there by now need not be moved again", .0.as_secs() / 60)]
    TooLong(Duration),
    /// The registry wants to know who asks, and nobody told it.
    #[error(
        "{registry} answers nobody it does not know{said}: give it a user and a password with `berth registries login \
         {registry}`"
    )]
    LoginNeeded { registry: Registry, said: Said },
    /// The registry does not take user and password, or the user may not.
    #[error("{registry} refuses the user `{user}`{said}")]
    Refused { registry: Registry, user: String, said: Said },
    /// How to log in is not understood.
    #[error("{registry} asks for credentials in a way that is not understood ({reason})")]
    Challenge { registry: Registry, reason: String },
    /// The registry does not have it.
    #[error("the registry has no {0}")]
    Missing(String),
    /// The registry gives another status than was asked for.
    #[error("the registry answers {status} when {what} is asked for{said}")]
    Status { what: String, status: StatusCode, said: Said, retry_after: Option<Duration> },
    /// The answer is not what the specification wants.
    #[error("the registry's answer makes no sense: {0}")]
    Senseless(String),
    /// A redirect leads out of TLS.
    #[error("the registry leads from TLS to {0}, which is not followed")]
    Downgrade(String),
    /// Redirects lead on and on.
    #[error("the registry leads on more often than {0} times")]
    TooManyRedirects(usize),
    /// A blob ended early.
    #[error("{what} ended after {found} of {expected} bytes")]
    Cut { what: Digest, found: u64, expected: u64 },
    /// More came than was announced.
    #[error("the registry sends more than the {expected} bytes that {what} has")]
    Overlong { what: String, expected: u64 },
    /// Something else came than was asked for.
    #[error("the registry sends something else than {expected}: it has the digest {found}")]
    Digest { expected: Digest, found: Digest },
    /// A manifest is not one that can be taken.
    #[error("{what} of the registry is refused: {error}")]
    Manifest { what: String, error: ManifestError },
    /// No image of it runs here.
    #[error("the image is for {found}, and Berth runs {wanted}")]
    Platform { found: String, wanted: String },
    /// The list is too long.
    #[error("the image is a list of more than {0} images that Berth runs, which is the most there can be")]
    TooManyChildren(usize),
    /// The image cannot have that name here.
    #[error("an image of the registry cannot be named here: `{name}` {error}")]
    Name { name: String, error: ImageNameError },
    /// What is to be pushed is not here.
    #[error("this edge has no image {0}")]
    NotHere(String),
    /// The digest in the name is another than that of the image.
    #[error("the image is {found}, and cannot be put there under the digest {wanted}")]
    OtherDigest { found: Digest, wanted: Digest },
    /// The content was not kept or had.
    #[error(transparent)]
    Content(#[from] ContentError),
    /// The image was not kept or had.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// Who asks could not be found out.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// Reading what is here failed.
    #[error("reading an image of this edge failed: {0}")]
    Io(#[from] std::io::Error),
    /// The edge itself failed.
    #[error("the edge failed: {0}")]
    Internal(String),
}

impl RemoteError {
    /// Whether another try may help, and how soon the registry wants it at the earliest.
    pub(super) fn may_pass(&self) -> Option<Duration> {
        match self {
            Self::Web(error) => error.may_pass().then_some(Duration::ZERO),
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

/// What a registry said about an error, for people: a colon and its words, or nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said(String);

/// Longest text that is passed on, in characters: a sentence or two.
const MAX_SAID: usize = 300;

impl Said {
    /// The messages in the body of an answer, where they are in the form of the distribution specification or close to it.
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
        // It goes to terminals.
        let shown: String = texts.join("; ").chars().filter(|c| !c.is_control()).take(MAX_SAID).collect();
        if shown.is_empty() { Self::default() } else { Self(format!(": {shown}")) }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_registry_says_is_passed_on_without_what_terminals_obey() {
        let said = |body: &str| Said::of(body.as_bytes()).to_string();
        assert_eq!(said(r#"{"errors":[{"code":"DENIED","message":"no\u001b[2J"}]}"#), ": no[2J");
        assert_eq!(
            said(r#"{"details":"incorrect username or password"}"#),
            ": incorrect username or password"
        );
        assert_eq!(said(r#"{"errors":[{"code":"DENIED","message":""}]}"#), "");
        assert_eq!(said("<html>"), "");
        assert_eq!(said(&format!(r#"{{"message":"{}"}}"#, "x".repeat(1_000))).len(), 2 + MAX_SAID);
    }
}
