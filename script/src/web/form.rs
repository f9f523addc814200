//! The parts of a body of `multipart/form-data`.

use std::borrow::Cow;

use rquickjs::{Ctx, Function, IntoJs, Object, Result, TypedArray, Value};

use super::text::{Usv, is_token, quoted};
use crate::raw;

/// How many bytes a boundary may have: no client makes longer ones, and the search takes as long as both lengths say.
const MAX_BOUNDARY: usize = 256;
/// How many bytes the head of a part may have.
const MAX_HEAD: usize = 16 * 1024;

/// Of each part: its name, the name of its file, its media type, and where it begins and ends.
#[derive(Default, Debug, PartialEq)]
struct Parts {
    names: Vec<String>,
    files: Vec<Option<String>>,
    types: Vec<String>,
    spans: Vec<usize>,
}

pub(super) fn add<'js>(ctx: &Ctx<'js>, table: &Object<'js>) -> Result<()> {
    table.set("multipart", Function::new(ctx.clone(), multipart)?)
}

/// The parts as an object of lists, or the text of why they are none.
fn multipart<'js>(ctx: Ctx<'js>, bytes: TypedArray<'js, u8>, boundary: Usv) -> Result<Value<'js>> {
    match raw::with_bytes(&bytes, move |bytes| split(bytes, &boundary.0)) {
        Err(text) => text.into_js(&ctx),
        Ok(parts) => {
            let lists = Object::new(ctx)?;
            lists.set("names", parts.names)?;
            lists.set("files", parts.files)?;
            lists.set("types", parts.types)?;
            lists.set("spans", parts.spans)?;
            Ok(lists.into_value())
        }
    }
}

const NO_FIRST: &str = "No initial boundary string (or you have a truncated message).";
const NO_NEXT: &str = "No subsequent boundary string after multipart message.";
const NO_LINE_END: &str = "Boundary string was not succeeded by CRLF, LF, or '--'.";
const NO_HEAD_END: &str = "No multipart message header termination found.";
const BAD_HEAD: &str = "FormData part had invalid headers.";
const NO_DISPOSITION: &str = "No valid Content-Disposition header found in FormData part.";
const NO_NAME: &str = "Content-Disposition header in FormData part is missing a name.";

/// What there is of a form, or the text of why it is none.
type Outcome<T> = std::result::Result<T, String>;

/// A line ends with a line feed, or with both, as clients differ. What stands before the first boundary and after the last is
/// nothing of the form.
fn split(bytes: &[u8], boundary: &str) -> Outcome<Parts> {
    if boundary.len() > MAX_BOUNDARY {
        return Err("The boundary of the multipart/form-data is too long.".to_owned());
    }
    let first = format!("--{boundary}").into_bytes();
    let between = [b"\n", first.as_slice()].concat();
    let mut at = find(bytes, &first, 0).ok_or(NO_FIRST)? + first.len();
    let mut parts = Parts::default();
    while let Some(head) = after_boundary(&bytes[at..])?.map(|skipped| at + skipped) {
        let (body, name, file, media) = head_of(bytes, head)?;
        // The line end of the empty line may be the one that the boundary begins with.
        let line_end = find(bytes, &between, body - 1).ok_or(NO_NEXT)?;
        let end = if line_end > body && bytes[line_end - 1] == b'\r' { line_end - 1 } else { line_end };
        parts.names.push(name);
        parts.files.push(file);
        parts.types.push(media);
        parts.spans.extend([body, end.max(body)]);
        at = line_end + between.len();
    }
    Ok(parts)
}

/// How many bytes of the line end there are after a boundary; none after the last.
fn after_boundary(rest: &[u8]) -> Outcome<Option<usize>> {
    match rest {
        [b'-', b'-', ..] => Ok(None),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\n', ..] => Ok(Some(1)),
        [] => Err(NO_NEXT.to_owned()),
        _ => Err(NO_LINE_END.to_owned()),
    }
}

type Head = (usize, String, Option<String>, String);

/// Where the part's content begins, and what its head says. Of a header that is there more than once, the first counts.
fn head_of(bytes: &[u8], start: usize) -> Outcome<Head> {
    let limit = bytes.len().min(start + MAX_HEAD);
    let (lines, length) = head_lines(&bytes[start..limit]).ok_or(NO_HEAD_END)?;
    let (mut disposition, mut media) = (None, None);
    for line in lines.lines() {
        let (name, value) = line.split_once(':').filter(|(name, _)| is_token(name)).ok_or(BAD_HEAD)?;
        match name.to_ascii_lowercase().as_str() {
            "content-disposition" => disposition = disposition.or(Some(value)),
            "content-type" => media = media.or(Some(value)),
            _ => {}
        }
    }
    let disposition = disposition.ok_or(NO_DISPOSITION)?;
    let kind = disposition.split(';').next().unwrap_or_default().trim();
    if kind != "form-data" {
        return Err(format!(
            "Content-Disposition header for FormData part must have the value \"form-data\", possibly followed by parameters. Got: \"{kind}\""
        ));
    }
    let name = quoted(disposition, "name").ok_or(NO_NAME)?;
    Ok((start + length, name, quoted(disposition, "filename"), media.unwrap_or_default().trim().to_owned()))
}

/// The lines of a head, and how many bytes they have with the empty one that ends them.
fn head_lines(bytes: &[u8]) -> Option<(Cow<'_, str>, usize)> {
    let crlf = find(bytes, b"\n\r\n", 0).map(|at| (at, 3));
    let lf = find(bytes, b"\n\n", 0).map(|at| (at, 2));
    let (at, ending) = match (crlf, lf) {
        (Some(one), Some(other)) => one.min(other),
        (one, other) => one.or(other)?,
    };
    Some((String::from_utf8_lossy(&bytes[..at]), at + ending))
}

/// Where `needle` begins, from `start` on.
fn find(hay: &[u8], needle: &[u8], start: usize) -> Option<usize> {
    let last = *needle.last()?;
    let mut at = start;
    while let Some(end) = at.checked_add(needle.len()).filter(|end| *end <= hay.len()) {
        if hay[end - 1] == last && &hay[at..end] == needle {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parts_and_their_heads() {
        let body = b"preamble\r\n--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\ncontent-type: t/s\r\nContent-Disposition: form-data; name=\"b\"; filename=\"f.txt\"\r\n\r\n\r\n--x--\r\n";
        let parts = split(body, "x").expect("parts");
        assert_eq!(parts.names, ["a", "b"]);
        assert_eq!(parts.files, [None, Some("f.txt".to_owned())]);
        assert_eq!(parts.types, ["", "t/s"]);
        let content = |i: usize| &body[parts.spans[2 * i]..parts.spans[2 * i + 1]];
        assert_eq!((content(0), content(1)), (&b"1"[..], &b""[..]));
    }

    #[test]
    fn what_is_no_form() {
        const NAMED: &str = "Content-Disposition: form-data; name=\"a\"";
        for (body, text) in [
            ("a".to_owned(), NO_FIRST),
            ("--x".to_owned(), NO_NEXT),
            ("--x\r\n".to_owned(), NO_HEAD_END),
            ("--xy\r\n".to_owned(), NO_LINE_END),
            ("--x\r\nA: b\r\n\r\n1\r\n--x--".to_owned(), NO_DISPOSITION),
            ("--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--".to_owned(), NO_NAME),
            ("--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1\r\n--x--".to_owned(), NO_NAME),
            (format!("--x\r\n{NAMED}\r\nno header\r\n\r\n1\r\n--x--"), BAD_HEAD),
            (format!("--x\r\n{NAMED}\r\n\r\n1"), NO_NEXT),
            (format!("--x\r\n{NAMED}\r\n\r\n1\r\n--x"), NO_NEXT),
            (format!("--x\r\n{NAMED}"), NO_HEAD_END),
        ] {
            assert_eq!(split(body.as_bytes(), "x").expect_err(&body), text, "{body}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(parts in proptest::collection::vec("(--x|\r\n|Content-Disposition: form-data; name=\"a\"|\\PC{0,3}|--)", 0..12)) {
            let body = parts.concat();
            if let Ok(parts) = split(body.as_bytes(), "x") {
                prop_assert!(parts.spans.chunks(2).all(|span| span[0] <= span[1] && span[1] <= body.len()));
            }
        }
    }
}
