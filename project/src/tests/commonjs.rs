//! CommonJS modules among others.

use super::engine::run;
use super::{names, program, refusal};

fn out(files: &[(&str, &str)]) -> String {
    run(&program(files))
}

const INDEX: &str = "src/index.ts";

#[test]
fn what_is_exported_can_be_imported_by_name() {
    let found = out(&[
        (
            INDEX,
            "import def, { a, b, later } from 'p'; import * as all from 'p'; globalThis.out = [def.a, a, b, later, Object.keys(all)]; export default {}",
        ),
        (
            "node_modules/p/index.js",
            "#!/usr/bin/env node\n'use strict';\nexports.a = 1; module.exports.b = 2; Object.defineProperty(exports, 'c', { get() { return 3 } });\nif (typeof window !== 'undefined') return;\n(function () { this.later = 4 }).call(exports);",
        ),
    ]);
    assert_eq!(found, r#"[1,1,2,4,["a","b","c","default","later"]]"#);
}

#[test]
fn a_module_runs_once_when_it_is_first_required() {
    let found = out(&[
        (INDEX, "import './first'; import './second'; globalThis.out = log; export default {}"),
        (
            "src/first.js",
            "globalThis.log = ['first']; const lazy = () => require('./dep'); lazy(); lazy(); log.push('end'); module.exports = 1",
        ),
        ("src/second.js", "log.push('second', require('./dep').x)"),
        ("src/dep.js", "log.push('dep'); exports.x = 'x'"),
    ]);
    assert_eq!(found, r#"["first","dep","end","second","x"]"#);
}

#[test]
fn circles_see_what_is_exported_by_then() {
    let found = out(&[
        (INDEX, "import a from './a.cjs'; globalThis.out = a; export default {}"),
        ("src/a.cjs", "exports.early = 1; const b = require('./b.cjs'); exports.late = 2; exports.b = b;"),
        ("src/b.cjs", "const a = require('./a.cjs'); exports.saw = { ...a }; exports.same = () => a"),
    ]);
    assert_eq!(found, r#"{"early":1,"late":2,"b":{"saw":{"early":1}}}"#);
}

#[test]
fn modules_that_were_compiled_keep_their_default() {
    let compiled = "Object.defineProperty(exports, '__esModule', { value: true }); exports.default = 'd'; exports.n = 1;";
    let package = ("node_modules/p/index.js", compiled);
    let index =
        |name: &'static str| (name, "import d, { n } from 'p'; globalThis.out = [d, n]; export default {}");
    assert_eq!(out(&[index(INDEX), package]), r#"["d",1]"#);
    // To a module as Node has them, the default is all.
    let node = [
        ("wrangler.json", r#"{"name": "a", "main": "i.mjs", "compatibility_date": "2025-11-17"}"#),
        index("i.mjs"),
        package,
    ];
    assert_eq!(out(&node), r#"[{"default":"d","n":1},1]"#);
    let in_package = [
        (INDEX, "import x from 'm'; import y from 'p'; globalThis.out = [x, y]; export default {}"),
        ("node_modules/m/package.json", r#"{"type": "module", "exports": "./i.js"}"#),
        ("node_modules/m/i.js", "import d from 'p'; export default d"),
        package,
    ];
    assert_eq!(out(&in_package), r#"[{"default":"d","n":1},"d"]"#);
}

#[test]
fn other_kinds_of_modules_can_be_required() {
    let found = out(&[
        (
            "wrangler.json",
            r#"{"name": "a", "main": "src/index.ts", "compatibility_date": "2025-11-17", "compatibility_flags": ["nodejs_compat"]}"#,
        ),
        (INDEX, "import c from './c.cjs'; globalThis.out = c; export default {}"),
        (
            "src/c.cjs",
            "const e = require('./e.mjs'); const def = m => m && m.__esModule ? m : { default: m };\nmodule.exports = [e.x, def(e).default, require('./j.json').k, require('./t.txt'), require('buffer').Buffer.of, typeof require('cloudflare:workers').DurableObject, this === module.exports, module.id]",
        ),
        ("src/e.mjs", "export const x = 1; export default 'default'"),
        ("src/j.json", r#"{"k": [2]}"#),
        ("src/t.txt", "text"),
    ]);
    assert_eq!(found, r#"[1,"default",[2],"text","node","function",true,"src/c.cjs"]"#);
}

#[test]
fn names_are_passed_on() {
    let found = out(&[
        (
            INDEX,
            "import { a, b, c } from 'p'; import * as q from 'q'; globalThis.out = [a, b, c, Object.keys(q)]; export default {}",
        ),
        (
            "node_modules/p/index.js",
            "var __exportStar = (m, e) => { for (var k in m) e[k] = m[k] }; __exportStar(require('./a'), exports); exports.c = 3",
        ),
        ("node_modules/p/a.js", "module.exports = require('./b')"),
        ("node_modules/p/b.js", "module.exports = { a: 1, 'b': 2 }"),
        (
            "node_modules/q/index.js",
            "if (process.env.NODE_ENV === 'production') { module.exports = require('./q.min.js') } else { module.exports = require('./q.dev.js') }",
        ),
        ("node_modules/q/q.min.js", "exports.min = 1"),
        ("node_modules/q/q.dev.js", "exports.dev = 1"),
    ]);
    // What another branch would have exported is there as nothing.
    assert_eq!(found, r#"[1,2,3,["default","dev","min"]]"#);
}

#[test]
fn what_is_missing_can_be_handled() {
    let found = out(&[
        (INDEX, "import p from 'p'; globalThis.out = p; export default {}"),
        (
            "node_modules/p/index.js",
            "let fs; try { fs = require('fs') } catch (e) { fs = e.code }\nlet o; try { o = require('optional') } catch (e) { o = e.message }\nlet c; try { const n = 'comp' + 'uted'; c = require(n) } catch (e) { c = e.message }\nmodule.exports = [fs, o, c]",
        ),
    ]);
    let said = "Cannot find module 'optional' in 'node_modules/p/index.js'";
    assert_eq!(found, format!(r#"["MODULE_NOT_FOUND","{said}","{}"]"#, said.replace("optional", "computed")));
    let refused = refusal(&[
        (INDEX, "import 'p'; export default {}"),
        ("node_modules/p/index.js", "const fs = require('fs');\nconst o = require('optional');"),
    ]);
    assert_eq!(
        refused,
        "node_modules/p/index.js:1:20: `fs` cannot be imported: Berth does not have node:fs\n\
         node_modules/p/index.js:2:19: `optional` leads to nothing: the package `optional` is not installed; run `npm install`"
    );
}

#[test]
fn a_name_of_the_wrapper_is_none_of_the_modules() {
    let found = out(&[
        (INDEX, "import p from 'p'; globalThis.out = p; export default {}"),
        (
            "node_modules/p/index.js",
            "var load = 1, state = 2, r0 = 3, run = 4, prepare = 5; module.exports = [load, state, r0, run, prepare, require('./b')] // end",
        ),
        (
            "node_modules/p/b.js",
            "(function (require, module) { require('./not-ours') })(function () {}); exports.ok = 1; // the end",
        ),
    ]);
    assert_eq!(found, r#"[1,2,3,4,5,{"ok":1}]"#);
}

#[test]
fn sloppy_code_is_refused_by_name() {
    let refused =
        refusal(&[(INDEX, "import './s.cjs'; export default {}"), ("src/s.cjs", "with (exports) { x = 1 }")]);
    assert!(
        refused.starts_with("src/s.cjs:1:1: cannot be run within a module, where all code is strict: "),
        "{refused}"
    );
}

#[test]
fn an_entry_may_be_of_commonjs() {
    let config = r#"{"name": "a", "main": "i.js", "compatibility_date": "2025-11-17"}"#;
    let program = program(&[
        ("wrangler.json", config),
        ("i.js", "globalThis.out = 1; module.exports = { fetch() {} }"),
    ]);
    assert_eq!(run(&program), "1");
    assert_eq!(names(&program), ["berth:runtime/commonjs", "i.js", "i.js?body"]);
}
