//! A static file that the edge keeps by its digest: which of its encodings a client gets, and the head that tower-http cannot
//! know, as the file on the disk has no name of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use berth_common::image::Digest;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, ETAG, HeaderMap, HeaderValue, LAST_MODIFIED, VARY};
use http::request::Parts;
use http::{Response, StatusCode};
use mime_guess::Mime;
use tower_http::services::ServeFile;

use super::super::body::ResponseBody;

/// The encodings that files may have, the smaller first, and the endings of their names.
const ENCODINGS: [(&str, &str); 2] = [("br", ".br"), ("gzip", ".gz")];

/// A file by digest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Where the files are.
    blobs: Arc<Path>,
    mime: Mime,
    plain: Digest,
    /// What it is compressed, by the encodings' order.
    encoded: [Option<Digest>; ENCODINGS.len()],
}

impl Stored {
    /// All files of a list, by their paths.
    pub(super) fn all<'a>(
        files: &'a BTreeMap<String, Digest>,
        blobs: &'a Arc<Path>,
    ) -> impl Iterator<Item = (String, Self)> + 'a {
        files.iter().map(move |(path, digest)| {
            let encoded = ENCODINGS.map(|(_, ending)| files.get(&format!("{path}{ending}")).copied());
            let mime = mime_guess::from_path(path).first_or_octet_stream();
            (path.clone(), Self { blobs: Arc::clone(blobs), mime, plain: *digest, encoded })
        })
    }

    /// Responds with it, or with what of it a range asks for.
    pub(super) async fn serve(&self, head: Parts) -> Response<ResponseBody> {
        let chosen = self.choose(&head.headers);
        let digest = chosen.map_or(self.plain, |(_, digest)| digest);
        let service = ServeFile::new_with_mime(self.blobs.join(digest.hex()), &self.mime);
        let mut response = super::run(service, head).await;
        if response.status() == StatusCode::NOT_FOUND {
            tracing::error!(%digest, "a static file of an app is gone from the edge's disk: deploy the app again");
            let mut failed = Response::new(ResponseBody::empty());
            *failed.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return failed;
        }
        let headers = response.headers_mut();
        // The file's own time is when it was last asked for.
        headers.remove(LAST_MODIFIED);
        if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", digest.hex())) {
            headers.insert(ETAG, tag);
        }
        if let Some((encoding, _)) = chosen {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        }
        if self.encoded.iter().any(Option::is_some) {
            headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        response
    }

    /// The encoding that a client likes best of those that there are; none where it likes the file as it is.
    fn choose(&self, request: &HeaderMap) -> Option<(&'static str, Digest)> {
        let there =
            ENCODINGS.iter().zip(&self.encoded).filter_map(|((name, _), digest)| Some((*name, (*digest)?)));
        let liked = there.map(|(name, digest)| (weight(request, name), name, digest));
        // Of equals the first: a maximum would be the last.
        let best = liked.reduce(|best, other| if other.0 > best.0 { other } else { best });
        best.filter(|(weight, ..)| *weight > 0).map(|(_, name, digest)| (name, digest))
    }
}

/// How much a client likes an encoding, in thousandths; 0 for not at all (RFC 9110 §12.5.3).
fn weight(request: &HeaderMap, encoding: &str) -> u16 {
    let values = request.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut any = 0;
    for item in values.flat_map(|value| value.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let said = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let weight = said.map_or(1000, thousandths);
        if name.eq_ignore_ascii_case(encoding) {
            return weight;
        }
        if name == "*" {
            any = weight;
        }
    }
    any
}

/// A weight of up to 1 with up to three digits behind the point; 0 if it is none.
fn thousandths(text: &str) -> u16 {
    let parsed = text.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is from 0 to 1000")]
    parsed.map_or(0, |weight| (weight * 1000.0).round() as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_the_encoding_that_they_like_best() {
        let of = |names: [bool; 2]| Stored {
            blobs: Path::new("/").into(),
            mime: mime_guess::mime::TEXT_CSS,
            plain: Digest::of(b"p"),
            encoded: [0, 1].map(|index| names[index].then(|| Digest::of(b"e"))),
        };
        let chosen = |file: &Stored, accept: &str| {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::try_from(accept).unwrap())]);
            file.choose(&headers).map(|(name, _)| name)
        };
        let both = of([true, true]);
        for (accept, encoding) in [
            ("gzip, br", Some("br")),
            ("gzip;q=1, br;q=0.5", Some("gzip")),
            ("GZIP", Some("gzip")),
            ("*", Some("br")),
            ("*;q=0.1, br;q=0", Some("gzip")),
            ("identity", None),
            ("gzip;q=0, br;q=x", None),
            ("", None),
        ] {
            assert_eq!(chosen(&both, accept), encoding, "{accept}");
        }
        assert_eq!(chosen(&of([false, true]), "br, gzip;q=0.2"), Some("gzip"));
        assert_eq!(chosen(&of([false, false]), "br, gzip"), None);
        assert_eq!(both.choose(&HeaderMap::new()), None);
    }
}
