//! The blocks of a README: commands (`sh`), each with what they print (`text`), and excerpts of `berth.toml` (`toml`) or of
//! `wrangler.jsonc` (`jsonc`), which must be in it. A block of any other kind is a mistake: nothing on the page goes unchecked.

use anyhow::{Context, Result, bail, ensure};

/// The first commands of every README, which are skipped: the scenario has started its own cluster.
const PREPARATION: &str = "./dev up\neval \"$(./dev env)\"\n";
/// The first line of a block whose commands are repeated until they print what the README says.
const REPEAT: &str = "# Repeat until it prints this:\n";
const FENCE: &str = "```";

/// Commands, and what they print.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The line of the README where the commands begin.
    pub(super) line: usize,
    pub(super) commands: String,
    pub(super) expected: String,
    /// Whether the commands are repeated until they print that.
    pub(super) repeat: bool,
}

struct Block {
    line: usize,
    kind: String,
    text: String,
}

/// The steps of a README whose example has this `berth.toml` or `wrangler.jsonc`.
pub(super) fn steps(readme: &str, manifest: &str) -> Result<Vec<Step>> {
    let mut blocks = blocks(readme)?;
    let first =
        blocks.iter().position(|block| block.kind == "sh").filter(|at| blocks[*at].text == PREPARATION);
    blocks.remove(first.with_context(|| format!("the first commands must be\n{PREPARATION}"))?);
    let mut blocks = blocks.into_iter();
    let mut steps = Vec::new();
    while let Some(Block { line, kind, text }) = blocks.next() {
        match kind.as_str() {
            "toml" => ensure!(manifest.contains(&text), "line {line}: this is not in berth.toml:\n{text}"),
            "jsonc" => {
                ensure!(has_lines(manifest, &text), "line {line}: this is not in wrangler.jsonc:\n{text}");
            }
            "sh" => {
                let Some(output) = blocks.next().filter(|next| next.kind == "text") else {
                    bail!("line {line}: the commands are not followed by what they print");
                };
                let repeat = text.starts_with(REPEAT);
                steps.push(Step { line, commands: text, expected: output.text, repeat });
            }
            _ => bail!("line {line}: a block of the kind {kind:?}, which nothing checks"),
        }
    }
    ensure!(!steps.is_empty(), "there are no commands");
    Ok(steps)
}

/// Whether all of these lines are there, in this order. There they are further in, and others between them.
fn has_lines(file: &str, lines: &str) -> bool {
    let plain = |line: &str| line.trim().trim_end_matches(',').to_owned();
    let mut there = file.lines().map(plain);
    lines.lines().map(plain).all(|line| there.any(|other| other == line))
}

fn blocks(readme: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (line, content) in (1..).zip(readme.lines()) {
        match (&mut open, content.strip_prefix(FENCE)) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(block), None) => block.text.extend([content, "\n"]),
            (None, Some(kind)) => {
                open = Some(Block { line: line + 1, kind: kind.to_owned(), text: String::new() });
            }
            (None, None) => {}
        }
    }
    ensure!(open.is_none(), "the last block has no end");
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: &str = "# x\n```sh\n./dev up\neval \"$(./dev env)\"\n```\n";

    #[test]
    fn commands_are_read_with_what_they_print() {
        let page = format!(
            "```toml\na = 1\n```\n{UP}text\n```sh\n# Repeat until it prints this:\nb\n```\nand\n```text\nc\n```\n"
        );
        let step =
            Step { line: 11, commands: format!("{REPEAT}b\n"), expected: "c\n".to_owned(), repeat: true };
        assert_eq!(steps(&page, "a = 1\n").unwrap(), [step]);
        let page = page.replace("```toml\na = 1", "```jsonc\n\"a\": 1,\n\"c\": 3");
        assert_eq!(steps(&page, "{\n  \"a\": 1,\n  \"b\": 2,\n  \"c\": 3\n}").unwrap().len(), 1);
        assert!(steps(&page, "{\n  \"c\": 3,\n  \"a\": 1\n}").is_err());
    }

    #[test]
    fn what_nothing_would_check_is_a_mistake() {
        for (page, word) in [
            ("```sh\nls\n```\n```text\nx\n```\n".to_owned(), "first commands"),
            (format!("{UP}```sh\nls\n```\n"), "not followed"),
            (format!("{UP}```sh\nls\n```\n```sh\nls\n```\n"), "not followed"),
            (format!("{UP}```\nls\n```\n"), "nothing checks"),
            (format!("{UP}```text\nls\n```\n"), "nothing checks"),
            (format!("{UP}```toml\na = 2\n```\n"), "not in berth.toml"),
            (format!("{UP}```sh\nls\n"), "no end"),
            (UP.to_owned(), "no commands"),
        ] {
            let error = steps(&page, "a = 1\n").unwrap_err().to_string();
            assert!(error.contains(word), "{page}: {error}");
        }
    }
}
