//! Projects that are refused, and what is said of them.

use super::{Disk, refusal};

const INDEX: &str = "src/index.ts";

/// A text of the entry, with what is said of it.
const ENTRIES: &[(&str, &str)] = &[
    ("import './nothing'; export default {}", "src/index.ts:1:8: `./nothing` leads to no file"),
    (
        "import x from 'nothing'; export default x",
        "src/index.ts:1:15: `nothing` leads to nothing: the package `nothing` is not installed; run `npm install`",
    ),
    (
        "import x from '@a/b/c'; export default x",
        "src/index.ts:1:15: `@a/b/c` leads to nothing: the package `@a/b` is not installed; run `npm install`",
    ),
    (
        "import x from 'there/inner'; export default x",
        "src/index.ts:1:15: `there/inner` cannot be imported: the package `there` does not export `./inner` for Workers",
    ),
    (
        "import x from 'types'; export default x",
        "src/index.ts:1:15: `types` leads to nothing in the package `types`; does it have more than types?",
    ),
    (
        "export default {};\n\nconst m = await import('./a.wasm')",
        "src/index.ts:3:24: `./a.wasm` cannot be imported: Berth cannot run WebAssembly",
    ),
    (
        "import w from './a.wasm?module'; export default w",
        "src/index.ts:1:15: `./a.wasm?module` cannot be imported: `?module` at its end means nothing",
    ),
    (
        "import './a.css'; export default {}",
        "src/index.ts:1:8: `./a.css` cannot be imported: no rule of the configuration says what a file is that ends in .css",
    ),
    (
        "import fs from 'node:fs'; export default fs",
        "src/index.ts:1:16: `node:fs` cannot be imported: Berth does not have node:fs",
    ),
    (
        "import fs from 'fs/promises'; export default fs",
        "src/index.ts:1:16: `fs/promises` cannot be imported: Berth does not have node:fs/promises",
    ),
    (
        "import path from 'node:path'; export default path",
        "src/index.ts:1:18: `node:path` cannot be imported: it needs \"nodejs_compat\" in `compatibility_flags`",
    ),
    (
        "import e from 'cloudflare:email'; export default e",
        "src/index.ts:1:15: `cloudflare:email` cannot be imported: Berth does not have cloudflare:email",
    ),
    (
        "import e from 'https://esm.sh/x'; export default e",
        "src/index.ts:1:15: `https://esm.sh/x` cannot be imported: modules cannot be loaded from the network; install it as a package",
    ),
    (
        "import { DurableObjects } from 'cloudflare:workers'; export class A extends DurableObjects {}; export default {}",
        "src/index.ts:1:10: `DurableObjects` is not exported by cloudflare:workers; did you mean `DurableObject`?",
    ),
    (
        "import { helo } from './good'; helo(); export default {}",
        "src/index.ts:1:10: `helo` is not exported by src/good.ts; did you mean `hello`?",
    ),
    (
        "import good from './good'; good(); export default {}",
        "src/index.ts:1:8: there is no default export in src/good.ts",
    ),
    (
        "import { a } from './j.json'; import { b } from './t.txt'; export default [a, b]",
        "src/index.ts:1:10: `a` is not exported by src/j.json\nsrc/index.ts:1:40: `b` is not exported by src/t.txt",
    ),
    (
        "import j from './bad.json'; export default j",
        "src/bad.json:2:6: cannot be read as JSON: expected `:`",
    ),
    ("export default {\n  fetch( { }\n}", "src/index.ts:3:1: Expected `,` or `)` but found `}`"),
    ("let a; let a; export default {}", "src/index.ts:1:5: Identifier `a` has already been declared"),
    (
        "export default /(/",
        "src/index.ts:1:17: Invalid regular expression: Unterminated capturing group; Add the missing closing delimiter",
    ),
    (
        "import a = require('./good'); a.hello(); export default {}",
        "src/index.ts:1:20: there is no `require` in a module with `import` or `export`; expected `import … from` for `./good`",
    ),
    (
        "export = { fetch() {} }",
        "src/index.ts:1:1: exports nothing; expected `export default { async fetch(request, env) { … } }`",
    ),
    (
        "import w from 'cloudflare:workers'; export default w",
        "src/index.ts:1:8: there is no default export in cloudflare:workers",
    ),
    (
        "export default { fetch() { return await 1 } }",
        "src/index.ts:1:35: `await` is only allowed within async functions and at the top levels of modules; Either remove this `await` or add the `async` keyword to the enclosing function",
    ),
    ("enum A { B = } export default {}", "src/index.ts:1:14: Unexpected token"),
    (
        "addEventListener('fetch', e => e.respondWith(new Response()))",
        "src/index.ts:1:1: programs that add listeners cannot be run; expected `export default { async fetch(request, env) { … } }`",
    ),
    (
        "console.log(1)",
        "src/index.ts:1:1: exports nothing; expected `export default { async fetch(request, env) { … } }`",
    ),
    ("", "src/index.ts:1:1: exports nothing; expected `export default { async fetch(request, env) { … } }`"),
];

#[test]
fn what_is_wrong_with_modules_is_said_with_its_place() {
    let mut wrong = Vec::new();
    for (text, expected) in ENTRIES {
        let disk = Disk::of(&[
            (INDEX, text),
            ("src/good.ts", "export function hello() {}"),
            ("src/j.json", "[1]"),
            ("src/t.txt", "t"),
            ("src/bad.json", "{\n  \"a\"}"),
            ("src/a.wasm", "\0asm"),
            ("src/a.css", ""),
            (
                "node_modules/there/package.json",
                r#"{"exports": {".": "./index.js", "./inner": {"node": "./inner.js"}}}"#,
            ),
            ("node_modules/there/index.js", ""),
            ("node_modules/types/package.json", r#"{"types": "./index.d.ts"}"#),
            ("node_modules/types/index.d.ts", "export interface A {}"),
        ]);
        let said = disk.read().err().map(|refused| refused.to_string()).unwrap_or_default();
        if said != *expected {
            wrong.push(format!("{text}\n  said:     {said:?}\n  expected: {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_refusals_of_all_files_come_at_once() {
    let said = refusal(&[
        ("wrangler.json", r#"{"name": "a b", "main": "src/index.ts", "compatibility_date": "2025-11-17"}"#),
        (INDEX, "import './a'; import './b'; import 'node:fs'; export default {}"),
        ("src/a.ts", "import 'node:net'; const x ="),
        ("src/b.ts", "import 'node:vm'; import { y } from './c'; y()"),
        ("src/c.ts", "export const x = 1"),
    ]);
    // A name that is wrong leaves no configuration to read modules by.
    assert!(said.starts_with("wrangler.json:1:10: name: "), "{said}");
    let said = refusal(&[
        (INDEX, "import './a'; import './b'; import 'node:fs'; export default {}"),
        ("src/a.ts", "import 'node:net'; const x ="),
        ("src/b.ts", "import 'node:vm'; import { y } from './c'; y()"),
        ("src/c.ts", "export const x = 1"),
    ]);
    let places: Vec<&str> = said.lines().map(|line| line.split(": ").next().unwrap()).collect();
    assert_eq!(places, ["src/a.ts:1:29", "src/b.ts:1:8", "src/b.ts:1:28", "src/index.ts:1:36"], "{said}");
}

#[test]
fn there_must_be_a_configuration_and_an_entry() {
    let nothing = tempfile::tempdir().unwrap();
    let said =
        |path: &std::path::Path| crate::read(path, None, crate::Mode::Production).unwrap_err().to_string();
    assert_eq!(
        said(nothing.path()),
        ".: there is no configuration; expected a wrangler.jsonc, wrangler.json or wrangler.toml"
    );
    assert!(said(&nothing.path().join("none")).starts_with(".: there is no configuration"));
    assert_eq!(refusal(&[]), "wrangler.json:1:23: main: there is no file src/index.ts");
    let built = r#"{"name": "a", "main": "dist/i.js", "compatibility_date": "2025-11-17", "build": {"command": "npm run build"}}"#;
    let said = refusal(&[("wrangler.json", built)]);
    assert_eq!(
        said,
        "wrangler.json:1:23: main: there is no file dist/i.js; run `npm run build` first, which may make it"
    );
    let text = r#"{"name": "a", "main": "i.txt", "compatibility_date": "2025-11-17"}"#;
    let said = refusal(&[("wrangler.json", text), ("i.txt", "")]);
    assert_eq!(said, "i.txt: is no program; expected a file that ends in .js, .mjs, .ts or .tsx");
    let python = r#"{"name": "a", "main": "src", "compatibility_date": "2025-11-17"}"#;
    assert_eq!(
        refusal(&[("wrangler.json", python), ("src/a", "")]),
        "wrangler.json:1:23: main: there is no file src"
    );
}

#[test]
fn of_two_configurations_one_is_read() {
    let disk = Disk::of(&[("wrangler.toml", "this is ["), (INDEX, "export default {}")]);
    disk.write("wrangler.jsonc", super::CONFIG);
    let project = disk.read().unwrap();
    let said =
        "warning: wrangler.toml: wrangler.jsonc is read, and wrangler.toml is not; expected one of the two";
    assert_eq!(super::remarks(&project), [said]);
}

#[test]
fn a_configuration_of_typescript_that_is_wrong_is_named() {
    let said = refusal(&[(INDEX, "export default {}"), ("tsconfig.json", r#"{"extends": "./none.json"}"#)]);
    assert!(said.starts_with("tsconfig.json: cannot be used: ") && said.contains("none.json"), "{said}");
    let said = refusal(&[
        (INDEX, "export default {}"),
        ("tsconfig.json", r#"{"extends": "./a.json"}"#),
        ("a.json", r#"{"extends": "./tsconfig.json"}"#),
    ]);
    assert!(said.starts_with("tsconfig.json: cannot be used: "), "{said}");
}
