//! The way back from what runs to what was written.

use super::program;
use crate::Program;

/// Lines of a module and the lines of its file that they come from, both from zero.
fn lines(program: &Program, module: &str) -> Vec<(usize, i64)> {
    let map: serde_json::Value = serde_json::from_str(program.modules[module].map.as_ref().unwrap()).unwrap();
    let (mut line, mut found) = (0, Vec::new());
    for (index, group) in map["mappings"].as_str().unwrap().split(';').enumerate() {
        for segment in group.split(',').filter(|segment| !segment.is_empty()) {
            let numbers = numbers(segment);
            if let Some(step) = numbers.get(2) {
                line += step;
                found.push((index, line));
            }
        }
    }
    found
}

fn numbers(segment: &str) -> Vec<i64> {
    let (mut numbers, mut value, mut shift) = (Vec::new(), 0_i64, 0);
    for byte in segment.bytes() {
        let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let digit = i64::try_from(alphabet.iter().position(|one| *one == byte).unwrap()).unwrap();
        value |= (digit & 31) << shift;
        shift += 5;
        if digit & 32 == 0 {
            numbers.push(if value & 1 == 1 { -(value >> 1) } else { value >> 1 });
            (value, shift) = (0, 0);
        }
    }
    numbers
}

/// The line of a module that has this, from zero.
fn line_of(text: &str, mark: &str) -> usize {
    text.lines().position(|line| line.contains(mark)).unwrap()
}

#[test]
fn each_line_leads_back_to_its_own() {
    let written = "interface A {\n  a: string;\n}\n\nexport default {\n  fetch(): A {\n    throw new Error('mark');\n  },\n};\n";
    let program = program(&[
        ("src/index.ts", &format!("import './c.cjs';\n{written}")),
        (
            "src/c.cjs",
            "// above\nconst a = require('./j.json');\n\nfunction f() {\n  throw new Error('mark' + a);\n}\n",
        ),
        ("src/j.json", "1"),
    ]);
    for (module, from) in [("src/index.ts", 7), ("src/c.cjs?body", 4)] {
        let line = line_of(&program.modules[module].source, "mark");
        assert!(
            lines(&program, module).contains(&(line, from)),
            "{module} {line}: {:?}",
            lines(&program, module)
        );
        let map: serde_json::Value =
            serde_json::from_str(program.modules[module].map.as_ref().unwrap()).unwrap();
        assert_eq!(map["sources"][0], module.trim_end_matches("?body"));
    }
    assert!(program.modules["src/c.cjs"].map.is_none());
}
