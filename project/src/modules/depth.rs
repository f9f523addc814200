//! How deeply a text may be nested, estimated before it is parsed: the compiler calls itself for each level, and a stack that is
//! full ends the process. Reads tokens only, and rather counts too much.

use super::STACK_BYTES;

/// What one level may take of the stack, in bytes: twice of what the worst takes in a build without optimisation.
const LEVEL_BYTES: usize = 32 << 10;
/// Most levels of a module. Programs that people write have a hundred, and what programs write rarely a thousand. Some of the
/// compiler's work grows with the square of it.
pub(crate) const MAX_LEVELS: usize = STACK_BYTES / LEVEL_BYTES;

/// The first place that is nested too deeply, as an offset.
pub(crate) fn too_deep(text: &str) -> Option<usize> {
    let mut scan = Scan {
        bytes: text.as_bytes(),
        at: 0,
        open: Vec::new(),
        outer: 0,
        chain: 0,
        last: Last::Start,
        no_expression: 0,
    };
    scan.run()
}

/// What a token before means for the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing yet, or the end of a statement: what follows begins one.
    Start,
    /// A value is complete: an operator may follow.
    Value,
    /// A block, object or class is complete.
    Block,
    /// A value has to follow.
    Operator,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Plain,
    /// Of a statement such as `if (…)`: what follows is within the statement.
    Head,
    /// Within a template.
    Template,
}

struct Scan<'t> {
    bytes: &'t [u8],
    at: usize,
    /// Open brackets, each with the chain that it is in.
    open: Vec<(Bracket, usize)>,
    /// The sum of those chains.
    outer: usize,
    /// Levels of the statement so far, within the innermost bracket.
    chain: usize,
    last: Last,
    /// No regular expression ends before this offset, where one was looked for in vain.
    no_expression: usize,
}

/// Words after which a value has to follow, or a statement within the statement.
const PREFIXES: [&str; 27] = [
    "typeof",
    "void",
    "delete",
    "await",
    "new",
    "yield",
    "keyof",
    "readonly",
    "infer",
    "unique",
    "asserts",
    "do",
    "else",
    "in",
    "of",
    "instanceof",
    "as",
    "satisfies",
    "extends",
    "implements",
    "is",
    "async",
    "case",
    "return",
    "throw",
    "import",
    "export",
];
/// Words whose brackets are the head of a statement that goes on behind them.
const HEADS: [&str; 5] = ["if", "while", "for", "with", "switch"];
/// Words that go on with what is before them.
const INFIX: [&str; 9] = ["else", "in", "of", "instanceof", "as", "satisfies", "extends", "implements", "is"];

impl Scan<'_> {
    fn run(&mut self) -> Option<usize> {
        let mut head = false;
        while let Some(&byte) = self.bytes.get(self.at) {
            let before = self.at;
            let lines = self.skip_blanks();
            if self.at > before {
                self.lines(lines);
                continue;
            }
            let was_head = std::mem::take(&mut head);
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' | b'\\' | 0x80.. => head = self.word(was_head),
                b'0'..=b'9' => self.number(),
                b'"' | b'\'' => self.string(byte),
                b'`' => self.template_start(),
                b'(' | b'[' | b'{' => self.open(byte, was_head),
                b')' | b']' | b'}' => self.close(byte),
                b';' | b',' => self.end_of_statement(),
                b'/' if self.last != Last::Value && self.last != Last::Block => self.expression_or_slash(),
                _ => self.operator(byte),
            }
            if self.outer + self.chain + self.open.len() > MAX_LEVELS {
                return Some(before);
            }
        }
        None
    }

    /// Skips blanks and comments; whether there was the end of a line.
    fn skip_blanks(&mut self) -> bool {
        let mut lines = false;
        loop {
            match (self.bytes.get(self.at), self.bytes.get(self.at + 1)) {
                (Some(b'\n'), _) => {
                    lines = true;
                    self.at += 1;
                }
                (Some(byte), _) if byte.is_ascii_whitespace() => self.at += 1,
                (Some(b'/'), Some(b'/')) => self.skip_to(b"\n"),
                (Some(b'/'), Some(b'*')) => {
                    self.skip_to(b"*/");
                    self.at = (self.at + 2).min(self.bytes.len());
                }
                _ => return lines,
            }
        }
    }

    fn skip_to(&mut self, end: &[u8]) {
        let rest = &self.bytes[self.at..];
        let found = rest.windows(end.len()).position(|window| window == end);
        self.at += found.unwrap_or(rest.len());
    }

    /// After the end of a line the next token decides whether the statement goes on.
    fn lines(&mut self, lines: bool) {
        let next = self.bytes.get(self.at).copied().unwrap_or(b';');
        let begins = next.is_ascii_alphanumeric()
            || matches!(next, b'_' | b'$' | b'"' | b'\'' | b'!' | b'~' | b'@' | b'}' | 0x80..);
        if lines && self.last == Last::Value && begins && !INFIX.contains(&self.peek_word()) {
            self.chain = 0;
            self.last = Last::Start;
        }
    }

    fn peek_word(&self) -> &str {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| !is_word(*byte)).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..end]).unwrap_or_default()
    }

    /// Whether it is the word of a head.
    fn word(&mut self, within_head: bool) -> bool {
        let word = self.peek_word();
        let length = word.len().max(1);
        let (head, prefix, infix) = (HEADS.contains(&word), PREFIXES.contains(&word), INFIX.contains(&word));
        // `for await (…)` is still a head.
        let head = head || (within_head && word == "await");
        if matches!(self.last, Last::Start | Last::Block) && !infix {
            self.chain = 0;
        }
        if head || prefix || self.last == Last::Value {
            self.chain += 1;
        }
        self.last = if head || prefix { Last::Operator } else { Last::Value };
        self.at += length;
        while self.bytes.get(self.at).is_some_and(|byte| is_word(*byte)) {
            self.at += 1;
        }
        head
    }

    fn number(&mut self) {
        while self.bytes.get(self.at).is_some_and(|byte| is_word(*byte) || *byte == b'.') {
            self.at += 1;
        }
        self.value();
    }

    fn value(&mut self) {
        if matches!(self.last, Last::Start | Last::Block) {
            self.chain = 0;
        }
        self.last = Last::Value;
    }

    fn string(&mut self, quote: u8) {
        self.at += 1;
        while let Some(&byte) = self.bytes.get(self.at) {
            match byte {
                b'\\' => self.at += 2,
                b'\n' => break,
                _ => self.at += 1,
            }
            if byte == quote {
                break;
            }
        }
        self.value();
    }

    /// `/`, where a value has to follow: a regular expression, if it ends on its line.
    fn expression_or_slash(&mut self) {
        let (mut at, mut class) = (self.at + 1, false);
        if at <= self.no_expression {
            return self.operator(b'/');
        }
        loop {
            match self.bytes.get(at) {
                None | Some(b'\n') => {
                    self.no_expression = at;
                    return self.operator(b'/');
                }
                Some(b'\\') => at += 1,
                Some(b'[') => class = true,
                Some(b']') => class = false,
                Some(b'/') if !class => break,
                Some(_) => {}
            }
            at += 1;
        }
        self.at = at + 1;
        self.value();
    }

    fn template_start(&mut self) {
        if matches!(self.last, Last::Value | Last::Block) {
            self.chain += 1;
        }
        self.at += 1;
        self.template();
    }

    /// Goes on in a template, to its end or to the next value in it.
    fn template(&mut self) {
        while let Some(&byte) = self.bytes.get(self.at) {
            self.at += 1;
            match (byte, self.bytes.get(self.at)) {
                (b'\\', _) => self.at += 1,
                (b'`', _) => break,
                (b'$', Some(b'{')) => {
                    self.at += 1;
                    return self.push(Bracket::Template);
                }
                _ => {}
            }
        }
        self.last = Last::Value;
    }

    fn open(&mut self, byte: u8, head: bool) {
        // A call, or an element of a value, is one level around it.
        if byte != b'{' && matches!(self.last, Last::Value | Last::Block) {
            self.chain += 1;
        }
        self.at += 1;
        self.push(if head { Bracket::Head } else { Bracket::Plain });
    }

    fn push(&mut self, bracket: Bracket) {
        self.open.push((bracket, self.chain));
        self.outer += self.chain;
        self.chain = 0;
        self.last = Last::Start;
    }

    fn close(&mut self, byte: u8) {
        self.at += 1;
        let (bracket, chain) = self.open.pop().unwrap_or((Bracket::Plain, 0));
        self.outer -= chain.min(self.outer);
        self.chain = chain;
        self.last = match (bracket, byte) {
            (Bracket::Template, _) => return self.template(),
            (Bracket::Head, _) => Last::Operator,
            (_, b'}') => Last::Block,
            _ => Last::Value,
        };
    }

    fn end_of_statement(&mut self) {
        self.at += 1;
        // An `else` goes on even behind it.
        self.last = Last::Start;
    }

    fn operator(&mut self, byte: u8) {
        let run = self.bytes[self.at..].iter().take(3).take_while(|next| **next == byte).count();
        // These stand before a value, as often as they like.
        let alone = matches!(byte, b'!' | b'~' | b'+' | b'-' | b'<' | b'@' | b'#');
        let length = if alone { 1 } else { run.max(1) };
        if self.last == Last::Start {
            self.chain = 0;
        }
        self.chain += 1;
        self.last = Last::Operator;
        self.at += length;
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(text: &str) -> usize {
        let mut scan = Scan {
            bytes: text.as_bytes(),
            at: 0,
            open: Vec::new(),
            outer: 0,
            chain: 0,
            last: Last::Start,
            no_expression: 0,
        };
        let mut most = 0;
        assert_eq!(scan.run(), None);
        while scan.at < text.len() {
            scan.at += 1;
        }
        most = most.max(scan.outer + scan.chain + scan.open.len());
        most
    }

    #[test]
    fn statements_begin_anew() {
        let line = "const a = b.c(d => ({ e: f[0] ? `${g}` : /[/]x/ }))";
        for end in ["\n", ";", ";\n", "\n// it's\n", " /* ` */\n"] {
            assert_eq!(too_deep(&format!("{line}{end}").repeat(20_000)), None, "{end:?}");
        }
        for text in [
            "if (a) { b() }\n",
            "function f() { return 1 }\n",
            "class A { b = 1\n c() {}\n }\n",
            "a(1, 2, 3)\n",
            "x[1]\n",
        ] {
            assert_eq!(too_deep(&text.repeat(50_000)), None, "{text:?}");
        }
        assert_eq!(too_deep(&format!("[{}]", "1,".repeat(500_000))), None);
        assert_eq!(too_deep(&format!("({{{}}})", "a: { b: 1 },".repeat(100_000))), None);
        assert!(levels("a\nb") < levels("a + b"));
    }

    #[test]
    fn whatever_nests_is_counted() {
        for one in [
            "(",
            "[",
            "{",
            "a(",
            "!",
            "~",
            "- ",
            "+ ",
            "typeof ",
            "await ",
            "new ",
            "a = ",
            "a => ",
            "a ? b : ",
            "a + ",
            "a ** ",
            "a.",
            "a?.",
            "a[0]",
            "a()",
            "``",
            "`${",
            "if (a) ",
            "if (a) b; else ",
            "if (a) {} else ",
            "for (;;) ",
            "while (1) ",
            "do ",
            "a: ",
            "<a>",
            "void\n",
            "a =\n",
            "async () => ",
            "function a() {",
            "class A extends ",
            "keyof ",
            "a ||\n",
            "a\n.b",
            "a\n?? ",
            "case a: (",
            "@a(",
            "/a/ + ",
            "import(",
            "a as ",
        ] {
            let text = one.repeat(MAX_LEVELS + 2);
            assert!(too_deep(&text).is_some(), "{one:?}");
        }
    }
}
