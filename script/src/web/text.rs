//! Text and bytes: UTF-8 and the other encodings, names and values of headers.

use std::cell::RefCell;

use encoding_rs::{CoderResult, Decoder, Encoding};
use rquickjs::function::Opt;
use rquickjs::{Array, Ctx, FromJs, Function, Object, Result, String as JsString, TypedArray, Value};

use crate::raw;

type Bytes<'js> = TypedArray<'js, u8>;

/// A string of JavaScript, with U+FFFD for each lone surrogate.
pub(super) struct Usv(pub(super) String);

impl<'js> FromJs<'js> for Usv {
    fn from_js(ctx: &Ctx<'js>, value: Value<'js>) -> Result<Self> {
        let text = JsString::from_value(value)?;
        match text.to_string() {
            Ok(text) => Ok(Usv(text)),
            Err(_) => Ok(Usv(String::from_utf16_lossy(&raw::units(ctx, text.as_value())?))),
        }
    }
}

pub(super) fn add<'js>(ctx: &Ctx<'js>, table: &Object<'js>) -> Result<()> {
    table.set("encode", Function::new(ctx.clone(), |ctx, text: Usv| raw::bytes(&ctx, text.0.as_bytes()))?)?;
    table.set("encodeInto", Function::new(ctx.clone(), encode_into)?)?;
    table.set("decode", Function::new(ctx.clone(), decode)?)?;
    table.set("decodeAll", Function::new(ctx.clone(), decode_all)?)?;
    table.set("encoding", Function::new(ctx.clone(), encoding)?)?;
    table.set("decoder", Function::new(ctx.clone(), decoder)?)?;
    table.set("usv", Function::new(ctx.clone(), |text: Usv| text.0)?)?;
    table.set("headerName", Function::new(ctx.clone(), |name: Usv| header_name(&name.0))?)?;
    table.set("headerValue", Function::new(ctx.clone(), |value: Usv| header_value(value.0))?)?;
    table.set("isToken", Function::new(ctx.clone(), |text: Usv| is_token(&text.0))?)?;
    table.set("asciiLower", Function::new(ctx.clone(), |text: Usv| text.0.to_ascii_lowercase())?)?;
    table.set("asciiUpper", Function::new(ctx.clone(), |text: Usv| text.0.to_ascii_uppercase())?)?;
    table
        .set("parameter", Function::new(ctx.clone(), |text: Usv, name: String| parameter(&text.0, &name))?)?;
    Ok(())
}

/// As much of the text as the view has room for: `[units read, bytes written]`.
fn encode_into<'js>(ctx: Ctx<'js>, text: Usv, to: Bytes<'js>) -> Result<Array<'js>> {
    let mut end = text.0.len().min(raw::len(&to));
    while !text.0.is_char_boundary(end) {
        end -= 1;
    }
    let part = &text.0[..end];
    let written = raw::write(&to, part.as_bytes());
    let counts = Array::new(ctx)?;
    counts.set(0, part.encode_utf16().count())?;
    counts.set(1, written)?;
    Ok(counts)
}

/// UTF-8 with U+FFFD for what is none, without its byte order mark.
fn decode(bytes: Bytes<'_>) -> String {
    raw::with_bytes(&bytes, |bytes| encoding_rs::UTF_8.decode_with_bom_removal(bytes).0.into_owned())
}

/// The same with its byte order mark, as blobs and the parts of forms have it.
fn decode_all(bytes: Bytes<'_>) -> String {
    raw::with_bytes(&bytes, |bytes| encoding_rs::UTF_8.decode_without_bom_handling(bytes).0.into_owned())
}

/// The name of the encoding with this label, in lower case.
fn encoding(label: Usv) -> Option<String> {
    let encoding = Encoding::for_label_no_replacement(label.0.as_bytes())?;
    Some(encoding.name().to_ascii_lowercase())
}

/// A function `(bytes, last) → string | null` that decodes a stream of bytes; null where they are wrong and `fatal` is set.
/// After `last` it begins anew.
fn decoder<'js>(ctx: Ctx<'js>, label: Usv, fatal: bool, keep_mark: bool) -> Result<Function<'js>> {
    let encoding = Encoding::for_label_no_replacement(label.0.as_bytes()).unwrap_or(encoding_rs::UTF_8);
    let fresh = move || {
        if keep_mark {
            encoding.new_decoder_without_bom_handling()
        } else {
            encoding.new_decoder_with_bom_removal()
        }
    };
    let state = RefCell::new(fresh());
    let run = move |bytes: Bytes<'js>, last: Opt<bool>| {
        let (bytes, last) = (raw::copy(&bytes), last.0.unwrap_or(true));
        let mut decoder = state.borrow_mut();
        let text = if fatal {
            decode_strictly(&mut decoder, &bytes, last)
        } else {
            Some(decode_part(&mut decoder, &bytes, last))
        };
        if last || text.is_none() {
            *decoder = fresh();
        }
        text
    };
    Function::new(ctx, run)
}

fn decode_part(decoder: &mut Decoder, bytes: &[u8], last: bool) -> String {
    let mut text = String::with_capacity(decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(bytes.len()));
    let mut rest = bytes;
    loop {
        let (result, read, _) = decoder.decode_to_string(rest, &mut text, last);
        rest = &rest[read..];
        if result == CoderResult::InputEmpty {
            return text;
        }
        text.reserve(rest.len() + 16);
    }
}

fn decode_strictly(decoder: &mut Decoder, bytes: &[u8], last: bool) -> Option<String> {
    let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len())?;
    let mut text = String::with_capacity(room);
    match decoder.decode_to_string_without_replacement(bytes, &mut text, last) {
        (encoding_rs::DecoderResult::InputEmpty, _) => Some(text),
        _ => None,
    }
}

pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

/// The header's name in lower case, if it is one.
fn header_name(name: &str) -> Option<String> {
    is_token(name).then(|| name.to_ascii_lowercase())
}

/// The header's value without space around it, if it is one.
fn header_value(mut value: String) -> Option<String> {
    let space = |c| matches!(c, ' ' | '\t' | '\r' | '\n');
    if value.starts_with(space) || value.ends_with(space) {
        value = value.trim_matches(space).to_owned();
    }
    (!value.contains(['\0', '\r', '\n'])).then_some(value)
}

/// A parameter of a media type (`charset`, `boundary`), its quotes taken off.
pub(super) fn parameter(text: &str, name: &str) -> Option<String> {
    let mut rest = text.split_once(';')?.1;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, after) = value_of(after);
        if key.trim_matches([' ', '\t', ';']).eq_ignore_ascii_case(name) {
            return Some(value);
        }
        rest = after;
    }
}

/// A parameter of a part of a form: it counts only in quotes, and with something between them.
pub(super) fn quoted(text: &str, name: &str) -> Option<String> {
    let mut rest = text.split_once(';')?.1;
    loop {
        let (key, after) = rest.split_once('=')?;
        let (value, left) = value_of(after);
        let closed = after.starts_with('"')
            && after[..after.len() - left.len()].ends_with('"')
            && after.len() - left.len() > 1;
        if key.trim_matches([' ', '\t', ';']).eq_ignore_ascii_case(name) {
            return (closed && !value.is_empty()).then_some(value);
        }
        rest = left;
    }
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_, next)| next)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_media_types() {
        for (text, name, value) in [
            ("multipart/form-data; boundary=abc", "boundary", Some("abc")),
            ("multipart/form-data;boundary=\"a;b\\\"c\"; x=y", "boundary", Some("a;b\"c")),
            ("a/b; x=\"boundary=1\"; Boundary=2", "boundary", Some("2")),
            ("a/b; boundary", "boundary", None),
            ("a/b", "boundary", None),
            ("a/b; charset=\"utf-8", "charset", Some("utf-8")),
        ] {
            assert_eq!(parameter(text, name).as_deref(), value, "{text}");
        }
    }

    #[test]
    fn values_of_headers() {
        assert_eq!(header_value(" \ta b\r\n".to_owned()).as_deref(), Some("a b"));
        assert_eq!(header_value("a\nb".to_owned()), None);
        assert_eq!(header_value("a\0b".to_owned()), None);
        assert_eq!(header_name("X-Ab").as_deref(), Some("x-ab"));
        assert_eq!(header_name("a b"), None);
        assert_eq!(header_name(""), None);
    }
}
