//! Any text: what is read is written so that it is read alike.

use proptest::prelude::*;

use super::parse::parse;
use super::parts;
use super::set::set;

/// What URLs are made of, and what they are not.
const ALPHABET: &str =
    "(http|https|file|some|blob|xn--|localhost|%2e|[:/\\\\?#@\\[\\]%.|abCZ019 é\t\u{0}'^`-]){0,12}";

const PARTS: &[&str] =
    &["protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];

proptest! {
    #[test]
    fn what_is_read_is_written_alike(text in ALPHABET, base in ALPHABET) {
        for base in [None, parse(&base, None)] {
            if let Some(url) = parse(&text, base.as_ref()) {
                let again = parse(&url.href(), None).map(|url| parts(&url));
                prop_assert_eq!(again, Some(parts(&url)));
            }
        }
    }

    #[test]
    fn what_is_set_is_written_alike(text in ALPHABET, part in prop::sample::select(PARTS), value in ALPHABET) {
        if let Some(mut url) = parse(&text, None) {
            set(&mut url, part, &value);
            let again = parse(&url.href(), None).map(|url| parts(&url));
            prop_assert_eq!(again, Some(parts(&url)));
        }
    }
}
