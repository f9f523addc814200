//! Input that would take time, memory or the process, if it could.

use std::os::unix::fs::symlink;

use nix::sys::stat::Mode as Permissions;
use nix::unistd::mkfifo;
use proptest::prelude::*;

use super::{Disk, exists, refusal};
use crate::Target;

const INDEX: &str = "src/index.ts";

/// Pieces of programs, in any order.
const PIECES: [&str; 56] = [
    "import ",
    "export ",
    "default ",
    "from './b'",
    "from 'cloudflare:workers'",
    "{ a }",
    "* as n ",
    "type ",
    "interface I {}",
    "class A ",
    "extends B ",
    "{ x: number = 1 }",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "<",
    ">",
    "=>",
    "async ",
    "await ",
    "function f",
    "()",
    "`t${",
    "}`",
    "'s'",
    "1",
    "/re/",
    ";",
    "\n",
    ",",
    ".a",
    "?.b",
    "= ",
    "const c ",
    "let ",
    "enum E { F }",
    "namespace N ",
    "declare ",
    "@d ",
    "require('./b')",
    "module.exports ",
    "exports.a ",
    "import('./b')",
    "new ",
    "#p",
    "...r",
    ": T",
    "as const",
    "satisfies U",
    "yield ",
    "throw ",
    "try {} catch {}",
    "<div/>",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn no_program_makes_the_compiler_fail(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 0..24),
        other in proptest::collection::vec(proptest::sample::select(PIECES.to_vec()), 0..12),
        name in proptest::sample::select(vec!["i.ts", "i.tsx", "i.js", "i.cjs", "i.mjs"]),
    ) {
        let config = format!(r#"{{"name": "a", "main": "{name}", "compatibility_date": "2025-11-17"}}"#);
        let disk = Disk::of(&[("wrangler.json", &config), (name, &pieces.concat()), ("b.ts", &other.concat())]);
        match disk.read() {
            Err(refused) => {
                let said = refused.to_string();
                prop_assert!(!said.is_empty() && !said.contains("the compiler failed"), "{said}");
            }
            // What is given out is whole: each import leads to a module that is there.
            Ok(project) => {
                let program = project.program.unwrap();
                prop_assert!(program.modules.contains_key(&program.entry));
                for target in program.modules.values().flat_map(|module| module.imports.values()) {
                    if let Target::Module(name) = target {
                        prop_assert!(program.modules.contains_key(name), "{name}");
                    }
                }
            }
        }
    }
}

#[test]
fn deep_nesting_is_refused_before_it_is_parsed() {
    for (open, close) in [
        ("(", ")"),
        ("[", "]"),
        ("{a:", "}"),
        ("!", ""),
        ("- ", ""),
        ("a=>", "a"),
        ("a?", ":1"),
        ("a.", "b"),
        ("f(", ")"),
        ("`${", "}`"),
        ("1+", "1"),
        ("a=", "1"),
        ("<a>", "</a>"),
        ("new ", "A"),
    ] {
        let text = format!("export default {}1{}", open.repeat(1_000_000), close.repeat(1_000_000));
        let said = refusal(&[(INDEX, &text)]);
        assert!(said.contains("is nested too deeply here; expected at most"), "{open}: {said}");
    }
}

#[test]
fn what_is_not_refused_for_its_depth_does_not_end_the_process() {
    let most = crate::modules::MAX_LEVELS;
    for (before, open, middle, close) in [
        ("export default ", "(", "1", ")"),
        ("export default ", "[", "1", "]"),
        ("export default ", "{a:", "1", "}"),
        ("export default ", "!", "1", ""),
        ("export default ", "typeof ", "1", ""),
        ("export default ", "a=>", "1", ""),
        ("export default ", "a=>{return ", "1", "}"),
        ("export default ", "a?1:", "1", ""),
        ("export default ", "a?", "1", ":1"),
        ("export default a", ".b", "", ""),
        ("export default a", "()", "", ""),
        ("export default a", "[0]", "", ""),
        ("export default a", "``", "", ""),
        ("export default a", "!", "", ""),
        ("export default a", " as a", "", ""),
        ("export default ", "1+", "1", ""),
        ("export default ", "1**", "1", ""),
        ("export default ", "a??", "1", ""),
        ("export default ", "f(", "1", ")"),
        ("export default ", "`${", "1", "}`"),
        ("export default ", "new ", "A", ""),
        ("export default ", "async()=>await ", "1", ""),
        ("export default ", "class extends ", "A", "{}"),
        ("export default ", "class{a=", "1", "}"),
        ("export default ", "function(a=", "1", "){}"),
        ("export default ", "<a>", "", "</a>"),
        ("let a; a", "=a", "", ""),
        ("let ", "[", "a", "]"),
        ("let ", "{a:", "b", "}"),
        ("", "{", "", "}"),
        ("", "if(a)", ";", ""),
        ("if(a);", "else if(a);", "", ""),
        ("", "for(;;)", ";", ""),
        ("", "while(1)", ";", ""),
        ("", "try{", "", "}finally{}"),
        ("", "function f(){", "", "}"),
        ("", "switch(1){case 1:", "", "}"),
        ("let a:", "A<", "B", ">"),
        ("let a:", "(a:", "A", ")=>B"),
        ("let a:A", "[]", "", ""),
        ("let a:A", "[B", "", "]"),
        ("let a:", "{a:", "A", "}"),
        ("let a:", "keyof ", "A", ""),
        ("let a:", "A extends B?", "C", ":D"),
        ("type A=", "B|(", "C", ")"),
        ("", "namespace N{", "", "}"),
        ("", "@(", "a", ") class A{}"),
        ("/", "(", "a", ")/"),
        ("/", "(?=", "a", ")/"),
    ] {
        // A little less than is refused, by however much one of them counts.
        let mut count = most;
        let text = loop {
            let text = format!("{before}{}{middle}{}", open.repeat(count), close.repeat(count));
            if crate::modules::too_deep(&text).is_none() || count == 0 {
                break text;
            }
            count -= count.div_ceil(50);
        };
        let name = if open == "<a>" { "i.tsx" } else { "i.ts" };
        let config = format!(r#"{{"name": "a", "main": "{name}", "compatibility_date": "2025-11-17"}}"#);
        // Whatever is said: it is said.
        let _ = Disk::of(&[("wrangler.json", &config), (name, &text)]).read();
    }
}

#[test]
fn a_module_of_twenty_megabytes_is_one_too_long() {
    let text = format!("export default \"{}\"", "x".repeat(20 << 20));
    let said = refusal(&[(INDEX, &text)]);
    assert_eq!(
        said,
        "src/index.ts: all modules together have more than 10 MiB with this one; expected at most that"
    );
    let said = refusal(&[
        (INDEX, "import './a.txt'; import './b.txt'; export default {}"),
        ("src/a.txt", &"x".repeat(8 << 20)),
        ("src/b.txt", &"x".repeat(8 << 20)),
    ]);
    assert!(said.starts_with("src/b.txt: all modules together have more than 10 MiB"), "{said}");
}

#[test]
fn the_number_of_modules_is_bounded() {
    let disk = Disk::of(&[]);
    let imports: String = (0..5001).map(|n| format!("import './m{n}';\n")).collect();
    disk.write(INDEX, format!("{imports}export default {{}}"));
    for n in 0..5001 {
        disk.write(&format!("src/m{n}.js"), "");
    }
    let said = disk.read().unwrap_err().to_string();
    assert_eq!(said, "src/index.ts:5000:8: `./m4999` is one too many: expected at most 5000 modules");
}

#[test]
fn modules_that_all_pass_on_all_names_take_no_time() {
    let mut files: Vec<(String, String)> = Vec::new();
    for n in 0..200 {
        let all: String = (0..200).map(|m| format!("export * from './m{m}';\n")).collect();
        files.push((format!("src/m{n}.ts"), all));
    }
    let names: String = (0..200).map(|n| format!("import {{ n{n} }} from './m{n}'; n{n};\n")).collect();
    files.push((INDEX.to_owned(), format!("{names}export default {{}}")));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    let said = refusal(&files);
    assert!(said.starts_with("src/index.ts:1:10: `n0` is not exported by src/m0.ts"), "{said}");
}

#[test]
fn files_that_are_none_and_links_in_circles_are_named() {
    let disk = Disk::of(&[(
        INDEX,
        "import './pipe.js'; import './loop.js'; import './bytes.js'; import './gone.js'; export default {}",
    )]);
    mkfifo(&disk.path("src/pipe.js"), Permissions::S_IRWXU).unwrap();
    symlink("loop.js", disk.path("src/loop.js")).unwrap();
    symlink("nowhere.js", disk.path("src/gone.js")).unwrap();
    disk.write("src/bytes.js", b"a = '\xff'");
    assert_eq!(
        disk.read().unwrap_err().to_string(),
        "src/bytes.js: is not UTF-8 from byte 5 on\n\
         src/index.ts:1:8: `./pipe.js` leads to no file\n\
         src/index.ts:1:28: `./loop.js` leads to no file\n\
         src/index.ts:1:69: `./gone.js` leads to no file"
    );
    let disk = Disk::of(&[(INDEX, "import 'p'; import 'q'; export default {}")]);
    disk.write("node_modules/p/package.json", "{".repeat(1 << 20));
    disk.write("node_modules/q/index.js", "export {}");
    mkfifo(&disk.path("node_modules/q/package.json"), Permissions::S_IRWXU).unwrap();
    let said = disk.read().unwrap_err().to_string();
    assert!(said.starts_with("src/index.ts:1:8: `p` "), "{said}");
}

#[test]
fn names_that_are_paths_elsewhere_are_only_read() {
    let said = refusal(&[(
        INDEX,
        "import '/etc/passwd'; import '../../../../../../../etc/passwd'; import '\\0'; export default {}",
    )]);
    assert!(exists("/etc/passwd"));
    assert_eq!(said.lines().count(), 3, "{said}");
    assert!(!said.contains("root:"), "{said}");
}

#[test]
fn no_replacement_can_break_out_of_its_place() {
    for define in [r#"{"A": "1; evil()"}"#, r#"{"A": "}"}"#, r#"{"A b": "1"}"#, r#"{"": "1"}"#] {
        let config = format!(
            r#"{{"name": "a", "main": "i.js", "compatibility_date": "2025-11-17", "define": {define}}}"#
        );
        let said = refusal(&[("wrangler.json", &config), ("i.js", "export default A")]);
        assert!(said.contains("define: "), "{define}: {said}");
    }
}
