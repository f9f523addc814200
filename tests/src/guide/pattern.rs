//! The output of a command as a README shows it, compared literally except that
//!
//! * `…` in a line stands for any text there, of at least one character;
//! * a line that is only `…` stands for any number of lines;
//! * any number of blanks equals one, and blanks at the end of a line are ignored: tables are as wide as their content.

const ANYTHING: char = '…';

/// Whether a pattern describes what was printed, from its first line to its last.
pub(super) fn matches(pattern: &str, printed: &str) -> bool {
    let plain = |text: &str| -> Vec<String> {
        text.trim_end().lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    lines(&plain(pattern), &plain(printed))
}

fn lines(pattern: &[String], printed: &[String]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return printed.is_empty() };
    if first.chars().eq([ANYTHING]) {
        return (0..=printed.len()).any(|skipped| lines(rest, &printed[skipped..]));
    }
    printed.split_first().is_some_and(|(line, others)| is_like(first, line) && lines(rest, others))
}

fn is_like(pattern: &str, line: &str) -> bool {
    let Some((before, behind)) = pattern.split_once(ANYTHING) else { return pattern == line };
    let Some(left) = line.strip_prefix(before) else { return false };
    let ends = left.char_indices().map(|(at, _)| at).skip(1).chain([left.len()]);
    ends.filter(|at| *at > 0).any(|at| is_like(behind, &left[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_is_printed() {
        for (pattern, printed) in [
            ("a\nb\n", "a\nb"),
            ("a…c\n", "abbc\n"),
            ("a … c … e", "a b c d e"),
            ("ID  END\n1  …   x\n", "ID      END\n1 2 3 x   \n"),
            ("…\nlast", "one\ntwo\nlast"),
            ("…\nlast", "last"),
            ("first\n…", "first"),
            ("instance: …", "instance: größe"),
            ("", ""),
        ] {
            assert!(matches(pattern, printed), "{pattern:?} {printed:?}");
        }
    }

    #[test]
    fn anything_else_is_not() {
        for (pattern, printed) in [
            ("a", "a\nb"),
            ("a\nb", "a"),
            ("a", ""),
            ("", "a"),
            ("a…", "a"),
            ("a…c", "abd"),
            ("a…c", "ac"),
            ("…\nlast", "last\nnot"),
            ("a b", "ab"),
        ] {
            assert!(!matches(pattern, printed), "{pattern:?} {printed:?}");
        }
    }
}
