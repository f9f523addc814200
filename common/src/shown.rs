//! Text of others on its way to a terminal or to a person: names of objects and files, messages, lines of containers.
//! Everything that could steer a terminal, or make a text look like another, is shown as its code.

use std::borrow::Cow;

/// A text for one line: control characters but tabs, marks of writing direction, line separators and characters without
/// width are replaced by their escapes, as in `\u{1b}`.
pub fn shown(text: &str) -> Cow<'_, str> {
    replaced(text, steers)
}

/// The same for a text that may have several lines.
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    replaced(text, |c| c != '\n' && steers(c))
}

/// JSON with those characters escaped as JSON does it, so that it means the same. Outside of texts JSON has none but
/// line breaks.
pub fn shown_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|c| c != '\n' && steers(c)) {
        return json.into();
    }
    let mut units = [0; 2];
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !steers(c) {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut units) {
                escaped.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    escaped.into()
}

fn replaced(text: &str, replace: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&replace) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if replace(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

fn steers(c: char) -> bool {
    let direction =
        matches!(c, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let unseen = matches!(
        c,
        '\u{200b}' | '\u{2060}' | '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{e0000}'..='\u{e007f}'
    );
    (c.is_control() && c != '\t') || direction || unseen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_a_terminal() {
        let hostile = "a\x1b]0;title\x07\x1b[2J\r\u{9b}31mb\u{202e}c\td\u{7f}";
        assert_eq!(
            shown(hostile),
            r"a\u{1b}]0;title\u{7}\u{1b}[2J\r\u{9b}31mb\u{202e}c".to_owned() + "\td\\u{7f}"
        );
        assert!(matches!(shown("größe 日本\t✓ 👩‍💻"), Cow::Borrowed(_)));
        assert_eq!(shown("a\nerror: b\u{2028}c"), r"a\nerror: b\u{2028}c");
        assert_eq!(shown_lines("a\nb\u{feff}\x1b"), "a\nb\\u{feff}\\u{1b}");
    }

    #[test]
    fn json_means_the_same() {
        let value = serde_json::json!({ "a\u{9b}": "x\u{202e}\u{e0001}\x1b\n\t\u{7f}y" });
        let pretty = serde_json::to_string_pretty(&value).unwrap();
        let escaped = shown_json(&pretty);
        assert!(!escaped.chars().any(|c| c != '\n' && steers(c)), "{escaped}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        assert!(matches!(shown_json("{\n}"), Cow::Borrowed(_)));
    }
}
