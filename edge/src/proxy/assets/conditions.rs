//! Whether a request for a file is answered with all of it, with a part of it, or without it: the conditions of RFC 9110
//! §13, in their order, and which ranges count. Does not know files.

use std::time::SystemTime;

use http::header::{
    CONTENT_ENCODING, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};
use http::{Method, StatusCode};

/// Headers of a request that make its answer depend on what the client has.
const CONDITIONAL: [HeaderName; 6] =
    [IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE];

/// What is sent of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// All of it.
    Whole,
    /// This range, if the file has it.
    Part(HeaderValue),
    /// Only a head with this status: 304 or 412.
    Nothing(StatusCode),
}

/// Whether an answer may depend on what the client has.
pub(super) fn are_in(request: &HeaderMap) -> bool {
    CONDITIONAL.iter().any(|name| request.contains_key(name))
}

/// Removes the headers that [`answer`] has judged.
pub(super) fn remove(request: &mut HeaderMap) {
    for name in &CONDITIONAL {
        request.remove(name);
    }
}

/// Names the encoding in the entity tag: each encoding of a file is a representation of its own, and has a strong tag of
/// its own (RFC 9110 §8.8.3.3).
pub(super) fn tag_encoding(response: &mut HeaderMap) {
    let (Some(tag), Some(encoding)) = (response.get(ETAG), response.get(CONTENT_ENCODING)) else { return };
    let (Ok(tag), Ok(encoding)) = (tag.to_str(), encoding.to_str()) else { return };
    let Some(opaque) = tag.strip_suffix('"') else { return };
    if let Ok(tagged) = HeaderValue::try_from(format!("{opaque}-{encoding}\"")) {
        response.insert(ETAG, tagged);
    }
}

/// Judges a request by the head that it would be answered with, had it no conditions (RFC 9110 §13.2.2).
pub(super) fn answer(method: &Method, request: &HeaderMap, current: &HeaderMap) -> Answer {
    if let Some(status) = failed(request, current) {
        return Answer::Nothing(status);
    }
    match one_range(request) {
        // Ranges are defined for GET only (§14.2).
        Some(range) if *method == Method::GET && is_still(request, current) => Answer::Part(range.clone()),
        _ => Answer::Whole,
    }
}

/// The status of a condition that does not hold.
fn failed(request: &HeaderMap, current: &HeaderMap) -> Option<StatusCode> {
    let modified = date(current, LAST_MODIFIED);
    let holds = if request.contains_key(IF_MATCH) {
        lists(request, IF_MATCH, current, is_strong)
    } else {
        date(request, IF_UNMODIFIED_SINCE).zip(modified).is_none_or(|(since, modified)| modified <= since)
    };
    if !holds {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let has_it = if request.contains_key(IF_NONE_MATCH) {
        lists(request, IF_NONE_MATCH, current, |_| true)
    } else {
        date(request, IF_MODIFIED_SINCE).zip(modified).is_some_and(|(since, modified)| modified <= since)
    };
    has_it.then_some(StatusCode::NOT_MODIFIED)
}

/// The range, if there is one only, in bytes. Several would be sent as parts of one body, which nobody needs: the whole
/// is always right. Other units are not known here, and do not count (§14.2).
fn one_range(request: &HeaderMap) -> Option<&HeaderValue> {
    let mut ranges = request.get_all(RANGE).iter();
    let (range, None) = (ranges.next()?, ranges.next()) else { return None };
    let (unit, set) = range.to_str().ok()?.split_once('=')?;
    (unit.eq_ignore_ascii_case("bytes") && !set.contains(',')).then_some(range)
}

/// Whether the part that a client has is one of what there is now: by the same strong tag, or exactly the same date
/// (§13.1.5). Without `If-Range` it does not ask.
fn is_still(request: &HeaderMap, current: &HeaderMap) -> bool {
    let mut had = request.get_all(IF_RANGE).iter();
    match (had.next(), had.next()) {
        (None, _) => true,
        (Some(_), Some(_)) => false,
        (Some(had), None) if is_tag(had) => is_strong(had.as_bytes()) && current.get(ETAG) == Some(had),
        (Some(_), None) => {
            date(request, IF_RANGE).is_some_and(|had| date(current, LAST_MODIFIED) == Some(had))
        }
    }
}

fn is_tag(value: &HeaderValue) -> bool {
    value.as_bytes().starts_with(b"\"") || value.as_bytes().starts_with(b"W/")
}

fn is_strong(tag: &[u8]) -> bool {
    tag.starts_with(b"\"")
}

/// Whether a list of tags has the current one among those that count, or `*`.
fn lists(request: &HeaderMap, name: HeaderName, current: &HeaderMap, counts: impl Fn(&[u8]) -> bool) -> bool {
    let current = current.get(ETAG).map(HeaderValue::as_bytes);
    let values = request.get_all(name);
    values.iter().any(|value| {
        value == "*"
            || tags(value.as_bytes()).any(|tag| counts(tag) && Some(opaque(tag)) == current.map(opaque))
    })
}

/// A tag without its mark for weakness.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// The tags of a list; a comma within quotes belongs to a tag.
fn tags(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let parts = list.split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    });
    parts.map(<[u8]>::trim_ascii)
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "\"1.2-3-gzip\"";
    const BEFORE: &str = "Sat, 28 Nov 2026 20:00:00 GMT";
    const MODIFIED: &str = "Sat, 28 Nov 2026 20:00:01 GMT";
    const AFTER: &str = "Sat, 28 Nov 2026 20:00:02 GMT";

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn judged(method: Method, of: &[(&'static str, &str)]) -> Answer {
        let mut current = headers(&[("etag", "\"1.2-3\""), ("content-encoding", "gzip")]);
        current.extend(headers(&[("last-modified", MODIFIED)]));
        tag_encoding(&mut current);
        answer(&method, &headers(of), &current)
    }

    fn part(range: &str) -> Answer {
        Answer::Part(HeaderValue::from_str(range).unwrap())
    }

    #[test]
    fn a_part_is_sent_only_of_what_the_client_has_the_rest_of() {
        let range = ("range", "bytes=5-");
        let weak = format!("W/{TAG}");
        let cases: [(&str, bool); 9] = [
            (TAG, true),
            ("\"1.2-3\"", false),
            ("\"1.2-3-br\"", false),
            (&weak, false),
            ("\"other\"", false),
            (MODIFIED, true),
            (BEFORE, false),
            (AFTER, false),
            ("nonsense", false),
        ];
        for (had, same) in cases {
            let expected = if same { part("bytes=5-") } else { Answer::Whole };
            assert_eq!(judged(Method::GET, &[range, ("if-range", had)]), expected, "{had}");
        }
        let twice = [range, ("if-range", TAG), ("if-range", "\"other\"")];
        assert_eq!(judged(Method::GET, &twice), Answer::Whole);
        assert_eq!(judged(Method::GET, &[("if-range", TAG)]), Answer::Whole);
    }

    #[test]
    fn one_range_of_bytes_counts_and_everything_else_is_the_whole() {
        for range in ["bytes=0-4", "bytes=5-", "bytes=-5", "Bytes=1-2", "bytes=9-2"] {
            assert_eq!(judged(Method::GET, &[("range", range)]), part(range), "{range}");
            assert_eq!(judged(Method::HEAD, &[("range", range)]), Answer::Whole, "{range}");
        }
        for range in ["bytes=0-4,6-9", "bytes=0-0, -1", "lines=1-2", "bytes", ""] {
            assert_eq!(judged(Method::GET, &[("range", range)]), Answer::Whole, "{range}");
        }
        let two = [("range", "bytes=0-4"), ("range", "bytes=5-9")];
        assert_eq!(judged(Method::GET, &two), Answer::Whole);
    }

    #[test]
    fn conditions_have_an_order() {
        let weak = format!("W/{TAG}");
        let many = format!("\"a,b\", {TAG}");
        let (fresh, failed) = (Some(StatusCode::NOT_MODIFIED), Some(StatusCode::PRECONDITION_FAILED));
        type Case<'a> = (&'a [(&'static str, &'a str)], Option<StatusCode>);
        let cases: [Case<'_>; 17] = [
            (&[], None),
            (&[("if-none-match", TAG)], fresh),
            (&[("if-none-match", &weak)], fresh),
            (&[("if-none-match", &many)], fresh),
            (&[("if-none-match", "*")], fresh),
            (&[("if-none-match", "\"a\""), ("if-none-match", TAG)], fresh),
            (&[("if-none-match", "\"1.2-3\"")], None),
            (&[("if-none-match", "\"a\""), ("if-modified-since", AFTER)], None),
            (&[("if-modified-since", MODIFIED)], fresh),
            (&[("if-modified-since", BEFORE)], None),
            (&[("if-modified-since", "yesterday")], None),
            (&[("if-match", TAG)], None),
            (&[("if-match", &weak)], failed),
            (&[("if-match", TAG), ("if-unmodified-since", BEFORE)], None),
            (&[("if-match", "\"a\""), ("if-none-match", TAG)], failed),
            (&[("if-unmodified-since", BEFORE)], failed),
            (&[("if-unmodified-since", MODIFIED), ("if-none-match", TAG)], fresh),
        ];
        for (of, status) in cases {
            for method in [Method::GET, Method::HEAD] {
                let expected = status.map_or(Answer::Whole, Answer::Nothing);
                assert_eq!(judged(method, of), expected, "{of:?}");
            }
        }
        // What a client has already is not sent again in part either.
        assert_eq!(
            judged(Method::GET, &[("range", "bytes=0-1"), ("if-none-match", TAG)]),
            Answer::Nothing(StatusCode::NOT_MODIFIED)
        );
    }
}
