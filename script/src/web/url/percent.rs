//! Which bytes of a URL's parts are written as `%XX`.

/// What a part does not keep as it is, besides controls and what is beyond ASCII.
#[derive(Debug, Clone, Copy)]
pub(super) enum Set {
    Control,
    Fragment,
    Query,
    SpecialQuery,
    Path,
    UserInfo,
}

impl Set {
    fn has(self, byte: u8) -> bool {
        if !(0x20..0x7f).contains(&byte) {
            return true;
        }
        match self {
            Self::Control => false,
            Self::Fragment => matches!(byte, b' ' | b'"' | b'<' | b'>' | b'`'),
            Self::Query => matches!(byte, b' ' | b'"' | b'#' | b'<' | b'>'),
            Self::SpecialQuery => byte == b'\'' || Self::Query.has(byte),
            Self::Path => matches!(byte, b'?' | b'^' | b'`' | b'{' | b'}') || Self::Query.has(byte),
            Self::UserInfo => {
                matches!(byte, b'/' | b':' | b';' | b'=' | b'@' | b'[' | b'\\' | b']' | b'|')
                    || Self::Path.has(byte)
            }
        }
    }
}

/// A text with what the set has written as `%XX`.
pub(super) fn encode(text: &str, set: Set) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    if !text.bytes().any(|byte| set.has(byte)) {
        return text.to_owned();
    }
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if set.has(byte) {
            encoded.push('%');
            encoded.push(DIGITS[usize::from(byte >> 4)].into());
            encoded.push(DIGITS[usize::from(byte & 15)].into());
        } else {
            encoded.push(byte.into());
        }
    }
    encoded
}
