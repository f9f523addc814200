//! Places in a program's modules, led back to the files that they were made of, by source maps. A map that is none leaves places
//! as they are.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use berth_common::image::Digest;
use berth_common::spec::{Program, ProgramModule};
use serde::Deserialize;

/// Most modules whose maps are read for one text: a stack has some ten frames.
const MAX_MAPS: usize = 16;
/// Most lines of one text that are led back: all of a stack, but not whatever a program writes.
const MAX_PLACES: usize = 64;
/// Most bytes of maps that are gone through for one text, each map once.
const MAX_MAPS_BYTES: usize = 32 << 20;

/// A source map, as far as it is needed (ECMA-426).
#[derive(Debug, Deserialize)]
struct SourceMap {
    sources: Vec<Option<String>>,
    mappings: String,
}

/// A line and a column of a module, both from 1.
type At = (u32, u32);
/// The source, and the line and column in it, from 1.
type Original<'a> = (Option<&'a str>, i64, i64);

/// The text with the places of modules that have a map (`index.js:3:14`) replaced by those in their sources. `read` gets a map.
pub(super) fn led_back(text: &str, program: &Program, read: impl Fn(&Digest) -> Option<Vec<u8>>) -> String {
    let mut left = MAX_PLACES;
    let lines: Vec<(&str, Option<(&ProgramModule, Place)>)> = text
        .split('\n')
        .map(|line| {
            let found = (left > 0).then(|| of_line(line, program)).flatten();
            left -= usize::from(found.is_some());
            (line, found)
        })
        .collect();
    let maps = maps(lines.iter().filter_map(|(_, found)| found.as_ref()), read);
    let lines = lines.iter().map(|(line, found)| {
        let led = found.as_ref().and_then(|(module, place)| replaced(line, module, place, &maps));
        led.unwrap_or_else(|| (*line).to_owned())
    });
    lines.collect::<Vec<String>>().join("\n")
}

/// The place in a line, and the module that it is of: the one with the longest name, as one may end as another does.
fn of_line<'a>(line: &str, program: &'a Program) -> Option<(&'a ProgramModule, Place)> {
    let mapped = program.modules.iter().filter(|module| module.map.is_some());
    let found = mapped.filter_map(|module| Some((module, place(line, &module.name)?)));
    found.max_by_key(|(module, _)| module.name.len())
}

/// What places are in their sources, by the name of their module, with its map.
type Maps<'a> = HashMap<&'a str, (SourceMap, HashMap<At, (i64, i64, i64)>)>;

/// The maps of the modules of these places, gone through.
fn maps<'a>(
    places: impl Iterator<Item = &'a (&'a ProgramModule, Place)>,
    read: impl Fn(&Digest) -> Option<Vec<u8>>,
) -> Maps<'a> {
    let mut wanted = BTreeMap::<&str, (Option<&Digest>, BTreeSet<At>)>::new();
    for (module, place) in places {
        let of_module = wanted.entry(&module.name).or_insert((module.map.as_ref(), BTreeSet::new()));
        of_module.1.insert((place.line, place.column));
    }
    let mut left = MAX_MAPS_BYTES;
    let mut found = HashMap::new();
    for (name, (digest, wanted)) in wanted.into_iter().take(MAX_MAPS) {
        let Some(bytes) = digest.and_then(&read).filter(|bytes| bytes.len() <= left) else { continue };
        left -= bytes.len();
        let Ok(map) = serde_json::from_slice::<SourceMap>(&bytes) else { continue };
        let originals = map.originals(&wanted).unwrap_or_default();
        found.insert(name, (map, originals));
    }
    found
}

/// The line with its place in the source.
fn replaced(line: &str, module: &ProgramModule, place: &Place, maps: &Maps<'_>) -> Option<String> {
    let (map, originals) = maps.get(module.name.as_str())?;
    let (name, at, column) = map.named(*originals.get(&(place.line, place.column))?)?;
    let name = name.unwrap_or(&module.name);
    Some(format!("{}{name}:{at}:{column}{}", &line[..place.begins], &line[place.ends..]))
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
    /// Source, line and column, from 0, of places. All segments up to the last place are gone through once: source, line and column are
    /// counted on from each to the next, over all lines. `None`: it is no map.
    fn originals(&self, wanted: &BTreeSet<At>) -> Option<HashMap<At, (i64, i64, i64)>> {
        let (mut at, mut found) = ((0_i64, 0_i64, 0_i64), HashMap::new());
        let last = wanted.last().map_or(0, |(line, _)| *line);
        for (line, segments) in (1..=last).zip(self.mappings.split(';')) {
            let columns: Vec<At> = wanted.range((line, 1)..=(line, u32::MAX)).copied().collect();
            let mut generated = 0_i64;
            for segment in segments.split(',').filter(|segment| !segment.is_empty()) {
                let fields = fields(segment)?;
                generated = generated.checked_add(*fields.first()?)?;
                let [_, source, to_line, to_column, ..] = fields[..] else { continue };
                at = (at.0.checked_add(source)?, at.1.checked_add(to_line)?, at.2.checked_add(to_column)?);
                // The last one that begins at or before the place.
                for place in &columns {
                    if generated < i64::from(place.1) || !found.contains_key(place) {
                        found.insert(*place, at);
                    }
                }
            }
        }
        Some(found)
    }

    fn named(&self, (source, line, column): (i64, i64, i64)) -> Option<Original<'_>> {
        let name = self.sources.get(usize::try_from(source).ok()?)?.as_deref();
        Some((name, line.checked_add(1)?, column.checked_add(1)?))
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

    #[test]
    fn of_a_long_text_so_many_lines_are_led_back_and_each_map_is_read_once() {
        let reads = std::cell::Cell::new(0);
        let read = |_: &Digest| {
            reads.set(reads.get() + 1);
            Some(br#"{"sources": ["a.ts"], "mappings": "AAAA"}"#.to_vec())
        };
        let text = vec!["    at src/index.ts:1:1"; MAX_PLACES + 5].join("\n");
        let led = led_back(&text, &program(), read);
        assert_eq!(led.matches("at a.ts:1:1").count(), MAX_PLACES);
        assert_eq!((led.lines().count(), reads.get()), (MAX_PLACES + 5, 1));
    }

    #[test]
    fn maps_that_are_too_long_together_are_left_out() {
        let read = |_: &Digest| Some(vec![b' '; MAX_MAPS_BYTES + 1]);
        let stack = "    at f (src/index.ts:2:12)";
        assert_eq!(led_back(stack, &program(), read), stack);
    }
}
