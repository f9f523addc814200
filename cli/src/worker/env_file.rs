//! The format of `.dev.vars` and `.env`, read as dotenv 16 of npm does, which is what wrangler reads them with. Its expression is
//!
//! ```text
//! ^\s*(?:export\s+)?([\w.-]+)(?:\s*=\s*?|:\s+?)(\s*'(?:\\'|[^'])*'|… " …|… ` …|[^#\r\n]+)?\s*(?:#.*)?$
//! ```
//!
//! and what follows does what that does, blanks over several lines and quotes that never end included, without going over a text
//! again and again.

use berth_common::secret::Secret;

/// What a value may stand in.
const QUOTES: [char; 3] = ['\'', '"', '`'];

/// A variable of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileVariable {
    /// The line that its name is in, from 1.
    pub(crate) line: usize,
    /// Any of the names that the format has, also some that no secret can have. It may be a piece of a value that somebody has forgotten
    /// to put into quotes, so it is not for messages.
    pub(crate) name: String,
    pub(crate) value: Secret,
}

/// All variables in the order of their lines. Lines that are none count for nothing.
pub(crate) fn variables(text: &str) -> Vec<FileVariable> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut found = Vec::new();
    let (mut at, mut counted, mut line) = (0, 0, 1);
    loop {
        at = skip(&text, at, is_blank);
        if at == text.len() {
            return found;
        }
        line += text[counted..at].matches('\n').count();
        counted = at;
        let end = match assignment(&text, at) {
            Some(Assignment { name, value, end }) => {
                found.push(FileVariable { line, name: name.to_owned(), value: Secret::new(value) });
                end
            }
            None => at,
        };
        // What is left of the line is a comment, or nothing.
        at = skip(&text, end, |c| c != '\n');
    }
}

/// A name with its value.
struct Assignment<'t> {
    name: &'t str,
    value: String,
    /// Where the value ends in the text.
    end: usize,
}

/// The one that begins here, perhaps behind `export`, which may also be the name itself.
fn assignment(text: &str, at: usize) -> Option<Assignment<'_>> {
    let exported = text[at..].strip_prefix("export").filter(|rest| rest.starts_with(is_blank));
    let exported = exported.map(|rest| skip(text, text.len() - rest.len(), is_blank));
    exported.and_then(|at| named(text, at)).or_else(|| named(text, at))
}

fn named(text: &str, at: usize) -> Option<Assignment<'_>> {
    let end = skip(text, at, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
    let name = Some(&text[at..end]).filter(|name| !name.is_empty())?;
    let at = behind_sign(text, end)?;
    let end = quoted_end(text, at).unwrap_or_else(|| skip(text, at, |c| !matches!(c, '#' | '\n')));
    Some(Assignment { name, value: unquoted(&text[at..end]), end })
}

/// Where a value begins whose name ends here: behind `=`, or behind `:` and a blank.
fn behind_sign(text: &str, end: usize) -> Option<usize> {
    let equals = skip(text, end, is_blank);
    if text[equals..].starts_with('=') {
        return Some(equals + 1);
    }
    let blank = text[end..].strip_prefix(':')?.chars().next().filter(|c| is_blank(*c))?;
    Some(end + 1 + blank.len_utf8())
}

/// The end of a value in quotes, if there is one and nothing but a comment is behind it on its line. A quote behind a backslash ends
/// it only where no later one does.
fn quoted_end(text: &str, at: usize) -> Option<usize> {
    let inner = skip(text, at, is_blank);
    let quote = text[inner..].chars().next().filter(|c| QUOTES.contains(c))?;
    let inner = inner + 1;
    let mut ends = Vec::new();
    for (index, _) in text[inner..].match_indices(quote) {
        ends.push(inner + index + 1);
        if !text[..inner + index].ends_with('\\') {
            break;
        }
    }
    let closes = |end: &usize| {
        let behind = skip(text, *end, |c| is_blank(c) && c != '\n');
        behind == text.len() || text[behind..].starts_with(['#', '\n'])
    };
    ends.into_iter().rev().find(closes)
}

/// A value without its quotes. After a double one `\n` and `\r` are line breaks, whether there is one at the end or not.
fn unquoted(value: &str) -> String {
    let value = value.trim_matches(is_blank);
    let quote = value.chars().next().filter(|c| QUOTES.contains(c));
    let inner = quote.and_then(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value);
    if quote == Some('"') { inner.replace("\\n", "\n").replace("\\r", "\r") } else { inner.to_owned() }
}

/// Where what begins here does not go on.
fn skip(text: &str, at: usize, goes_on: impl Fn(char) -> bool) -> usize {
    text[at..].find(|c| !goes_on(c)).map_or(text.len(), |index| at + index)
}

/// A blank of JavaScript's.
fn is_blank(c: char) -> bool {
    c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The variables of a text as `LINE NAME=VALUE`.
    fn read(text: &str) -> Vec<String> {
        let shown = |found: &FileVariable| format!("{} {}={}", found.line, found.name, found.value.expose());
        variables(text).iter().map(shown).collect()
    }

    #[test]
    fn texts_are_read_as_dotenv_reads_them() {
        // What dotenv 16.3.1 makes of them.
        for (text, expected) in [
            (
                "# a comment\nA=1\n\nexport B = two words # and more\nC=",
                &["2 A=1", "4 B=two words", "5 C="][..],
            ),
            ("A='x # y' # z\nB=\"x # y\"# z\nC=`it's`", &["1 A=x # y", "2 B=x # y", "3 C=it's"]),
            (r"A='a\nb'", &[r"1 A=a\nb"]),
            (r#"A="a\nb\rc\td""#, &["1 A=a\nb\rc\\td"]),
            (r"A=`a\nb`", &[r"1 A=a\nb"]),
            (r"A=a\nb", &[r"1 A=a\nb"]),
            (
                "A=\"first\nsecond\" # end\nB='3\n4'\nC=`5\n\n6`",
                &["1 A=first\nsecond", "3 B=3\n4", "5 C=5\n\n6"],
            ),
            ("A=1\r\nB='2\r\n3'\r\nC=4\rD=5\r\n", &["1 A=1", "2 B=2\n3", "4 C=4", "5 D=5"]),
            ("A=x#y\nB= x y \nC=a=b", &["1 A=x", "2 B=x y", "3 C=a=b"]),
            // Quotes within quotes, and quotes that never end.
            (r#"A="{\"a\": 1}""#, &[r#"1 A={\"a\": 1}"#]),
            ("A=\"C:\\dir\\\"\nB=\"x\"", &["1 A=C:\\dir\\", "2 B=x"]),
            ("A='it's'\nB=\"x\" y\nC='x' 'y'", &["1 A=it's", "2 B=\"x\" y", "3 C=x' 'y"]),
            ("A=\"open\\n\nB='\nC=1", &["1 A=\"open\n", "2 B='", "3 C=1"]),
            // Other signs and names.
            ("A: x\nB:y\nexport=1\nexport =2\nexport\nC=3", &["1 A=x", "3 export=1", "4 export=2", "5 C=3"]),
            ("a.b-c=1\nno line\n- x=1\nä=ü\nÄ B=1\nD=ü", &["1 a.b-c=1", "6 D=ü"]),
            ("\u{feff}A=1\n  B=2\n\tC\t=\t3\nD\n=4", &["1 A=1", "2 B=2", "3 C=3", "4 D=4"]),
            ("A=\n'x'\nB=", &["1 A=x", "3 B="]),
        ] {
            assert_eq!(read(text), expected, "{text:?}");
        }
    }

    #[test]
    fn no_text_is_too_much_and_no_value_is_shown() {
        for hostile in
            ["=", "A", "\"", "A=\"", "A='\\'", "ä=ü", "A=ü'", "export", "export =1", "A:", "A:\u{a0}ü"]
        {
            let shown = format!("{:?}", variables(hostile));
            assert!(!shown.contains('ü'), "{shown}");
        }
        // Each of these would take minutes if its lines were gone over again and again.
        for piece in ["\n", " ", "A='\n", "A=\"\\\"", "A=`\\`\n", "export\n", "A\n\n"] {
            let _ = variables(&piece.repeat((1 << 20) / piece.len()));
        }
    }
}
