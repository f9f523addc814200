//! The parts of a body of `multipart/form-data`.

use rquickjs::{Ctx, Function, IntoJs, Object, Result, TypedArray, Value};

use super::text::{Usv, parameter};
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

/// A line ends with a line feed, or with both, as clients differ.
fn split(bytes: &[u8], boundary: &str) -> std::result::Result<Parts, &'static str> {
    const NO_FIRST: &str = "No initial boundary string (or you have a truncated message).";
    const NO_LAST: &str = "No final boundary string (or you have a truncated message).";
    if boundary.len() > MAX_BOUNDARY {
        return Err("The boundary of the multipart/form-data is too long.");
    }
    let first = format!("--{boundary}").into_bytes();
    let between = [b"\n", first.as_slice()].concat();
    let mut at = if bytes.starts_with(&first) {
        first.len()
    } else {
        find(bytes, &between, 0).ok_or(NO_FIRST)? + between.len()
    };
    let mut parts = Parts::default();
    loop {
        let rest = &bytes[at..];
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        let head = at + rest.iter().position(|b| *b == b'\n').ok_or(NO_LAST)? + 1;
        let (body, name, file, media) = head_of(bytes, head)?;
        // The line end of the empty line may be the one that the boundary begins with.
        let line_end = find(bytes, &between, body - 1).ok_or(NO_LAST)?;
        let end = if line_end > body && bytes[line_end - 1] == b'\r' { line_end - 1 } else { line_end };
        parts.names.push(name);
        parts.files.push(file);
        parts.types.push(media);
        parts.spans.extend([body, end.max(body)]);
        at = line_end + between.len();
    }
}

type Head = (usize, String, Option<String>, String);

/// Where the part's content begins, and what its head says.
fn head_of(bytes: &[u8], start: usize) -> std::result::Result<Head, &'static str> {
    const NO_HEAD: &str = "No end of the headers of a FormData part (or you have a truncated message).";
    let limit = bytes.len().min(start + MAX_HEAD);
    let (mut disposition, mut media) = (None, String::new());
    let mut at = start;
    loop {
        let line = &bytes[at..limit];
        let length = line.iter().position(|b| *b == b'\n').ok_or(NO_HEAD)?;
        let text = String::from_utf8_lossy(&line[..length]);
        at += length + 1;
        let Some((name, value)) = text.trim_end().split_once(':') else {
            if text.trim_end().is_empty() {
                break;
            }
            continue;
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "content-disposition" => disposition = Some(value.to_owned()),
            "content-type" => media = value.trim().to_owned(),
            _ => {}
        }
    }
    let disposition = disposition.ok_or("No valid Content-Disposition header found in FormData part.")?;
    if !disposition.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("form-data")) {
        return Err(
            "Content-Disposition header for FormData part must have the value \"form-data\", possibly followed by parameters.",
        );
    }
    let name = parameter(&disposition, "name")
        .ok_or("No name in the Content-Disposition header of a FormData part.")?;
    Ok((at, name, parameter(&disposition, "filename"), media))
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
        let body = b"preamble\r\n--x\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\ncontent-type: t/s\r\nContent-Disposition: form-data; name=b; filename=\"f.txt\"\r\n\r\n\r\n--x--\r\n";
        let parts = split(body, "x").expect("parts");
        assert_eq!(parts.names, ["a", "b"]);
        assert_eq!(parts.files, [None, Some("f.txt".to_owned())]);
        assert_eq!(parts.types, ["", "t/s"]);
        let content = |i: usize| &body[parts.spans[2 * i]..parts.spans[2 * i + 1]];
        assert_eq!((content(0), content(1)), (&b"1"[..], &b""[..]));
    }

    #[test]
    fn what_is_no_form() {
        for (body, text) in [
            ("a", "No initial boundary"),
            ("--x", "No final boundary"),
            ("--x\r\nA: b\r\n\r\n1\r\n--x--", "No valid Content-Disposition"),
            ("--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--", "No name"),
            ("--x\r\nContent-Disposition: form-data; name=a\r\n\r\n1", "No final boundary"),
            ("--x\r\nContent-Disposition: form-data; name=a", "No end of the headers"),
        ] {
            let refused = split(body.as_bytes(), "x").expect_err(body);
            assert!(refused.starts_with(text), "{body}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(parts in proptest::collection::vec("(--x|\r\n|Content-Disposition: form-data; name=a|\\PC{0,3}|--)", 0..12)) {
            let body = parts.concat();
            if let Ok(parts) = split(body.as_bytes(), "x") {
                prop_assert!(parts.spans.chunks(2).all(|span| span[0] <= span[1] && span[1] <= body.len()));
            }
        }
    }
}
