//! Places in a program's modules, led back to the files that they were made of, by source maps. A map that is none leaves places
//! as they are.

use std::collections::HashMap;

use berth_common::image::Digest;
use berth_common::spec::Program;
use serde::Deserialize;

/// Most modules whose maps are read for one text: a stack has some ten frames.
const MAX_MAPS: usize = 16;

/// A source map, as far as it is needed (ECMA-426).
#[derive(Debug, Deserialize)]
struct SourceMap {
    sources: Vec<Option<String>>,
    mappings: String,
}

/// The text with all places of modules that have a map (`index.js:3:14`) replaced by those in their sources. `read` gets a map.
pub(super) fn led_back(text: &str, program: &Program, read: impl Fn(&Digest) -> Option<Vec<u8>>) -> String {
    let mut maps = HashMap::new();
    let mut line = |line: &str| {
        let of_line = program.modules.iter().filter(|module| module.map.is_some());
        let found = of_line.filter_map(|module| Some((module, place(line, &module.name)?)));
        // The longest name: one may end as another does.
        let (module, place) = found.max_by_key(|(module, _)| module.name.len())?;
        if maps.len() >= MAX_MAPS && !maps.contains_key(&module.name) {
            return None;
        }
        let map = maps.entry(module.name.clone()).or_insert_with(|| {
            let bytes = module.map.as_ref().and_then(&read)?;
            serde_json::from_slice::<SourceMap>(&bytes).ok()
        });
        let (source, at) = map.as_ref()?.original(place.line, place.column)?;
        let name = source.unwrap_or(&module.name);
        Some(format!("{}{name}:{}:{}{}", &line[..place.begins], at.0, at.1, &line[place.ends..]))
    };
    let lines: Vec<String> =
        text.split('\n').map(|text| line(text).unwrap_or_else(|| text.to_owned())).collect();
    lines.join("\n")
}

/// A place in a line of text.
struct Place {
    begins: usize,
    ends: usize,
    line: u32,
    column: u32,
}

/// The first place of a module in a line: its name, a line and a column, from 1.
fn place(text: &str, name: &str) -> Option<Place> {
    let begins = text.match_indices(name).map(|(at, _)| at).find(|at| {
        let before = text[..*at].chars().next_back();
        before.is_none_or(|before| before == '(' || before == ' ') && text[at + name.len()..].starts_with(':')
    })?;
    let (line, rest) = number(&text[begins + name.len()..])?;
    let (column, rest) = number(rest)?;
    Some(Place { begins, ends: text.len() - rest.len(), line, column })
}

/// The number behind a colon, and what is behind it.
fn number(text: &str) -> Option<(u32, &str)> {
    let text = text.strip_prefix(':')?;
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

impl SourceMap {
    /// The source, and the line and column in it, of a place; all from 1.
    fn original(&self, line: u32, column: u32) -> Option<(Option<&str>, (i64, i64))> {
        let wanted = usize::try_from(line.checked_sub(1)?).ok()?;
        let column = i64::from(column.checked_sub(1)?);
        // Source, line and column are counted on from each segment to the next, over all lines.
        let (mut source, mut at, mut found) = (0, (0, 0), None);
        for (number, segments) in self.mappings.split(';').enumerate().take(wanted + 1) {
            let mut generated = 0;
            for segment in segments.split(',').filter(|segment| !segment.is_empty()) {
                let fields = fields(segment)?;
                generated += fields.first()?;
                let [_, to_source, to_line, to_column, ..] = fields[..] else { continue };
                (source, at) = (source + to_source, (at.0 + to_line, at.1 + to_column));
                // The last one that begins at or before the place.
                if number == wanted && (generated <= column || found.is_none()) {
                    found = Some((source, at));
                }
            }
        }
        let (source, at) = found?;
        let name = self.sources.get(usize::try_from(source).ok()?)?.as_deref();
        Some((name, (at.0 + 1, at.1 + 1)))
    }
}

/// The numbers of a segment: each in digits of five bits, the lowest first, whose first bit is the sign.
fn fields(segment: &str) -> Option<Vec<i64>> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut fields, mut value, mut shift) = (Vec::new(), 0_i64, 0);
    for character in segment.bytes() {
        let digit = i64::try_from(DIGITS.iter().position(|digit| *digit == character)?).ok()?;
        // Positions fit into 32 bits.
        if shift > 30 {
            return None;
        }
        value |= (digit & 31) << shift;
        shift += 5;
        if digit & 32 == 0 {
            fields.push(if value & 1 == 1 { -(value >> 1) } else { value >> 1 });
            (value, shift) = (0, 0);
        }
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program() -> Program {
        let text = r#"{"entry": "src/index.ts", "compatibility_date": "2026-01-31", "modules": [
            {"name": "src/index.ts", "digest": "sha256:DIGEST", "map": "sha256:DIGEST"},
            {"name": "index.ts", "digest": "sha256:DIGEST"}]}"#;
        serde_json::from_str(&text.replace("DIGEST", &"0".repeat(64))).unwrap()
    }

    #[test]
    fn numbers_are_read() {
        assert_eq!(fields("AAgBC"), Some(vec![0, 0, 16, 1]));
        assert_eq!(fields("D+B"), Some(vec![-1, 31]));
        assert!(fields("?").is_none() && fields("gggggggggA").is_none());
    }

    #[test]
    fn places_in_a_stack_are_led_back_to_their_sources() {
        // The second line is of line 5 from column 3 on, and from its column 11 on of column 9.
        let map =
            br#"{"version": 3, "sources": ["src/index.ts"], "names": [], "mappings": "AAAA;AAIE,UAAM"}"#;
        let read = |_: &Digest| Some(map.to_vec());
        let stack = "TypeError: x\n    at f (src/index.ts:2:12)\n    at src/index.ts:2:4\n    at index.ts:2:4\n    at <anonymous>";
        let expected = "TypeError: x\n    at f (src/index.ts:5:9)\n    at src/index.ts:5:3\n    at index.ts:2:4\n    at <anonymous>";
        assert_eq!(led_back(stack, &program(), read), expected);
        assert_eq!(
            led_back("src/index.ts:2:4: SyntaxError", &program(), read),
            "src/index.ts:5:3: SyntaxError"
        );
    }

    #[test]
    fn a_map_that_is_none_changes_nothing() {
        let stack = "    at f (src/index.ts:2:12)";
        for map in [
            "",
            "{}",
            r#"{"sources": [], "mappings": "AAAA;AAIE"}"#,
            r#"{"sources": ["a"], "mappings": "A;?"}"#,
        ] {
            let read = |_: &Digest| Some(map.as_bytes().to_vec());
            assert_eq!(led_back(stack, &program(), read), stack, "{map}");
        }
        assert_eq!(led_back(stack, &program(), |_| None), stack);
    }
}
