//! Programs, and what they come to when they run.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::engine::run;
use super::{Disk, names, program, project, remarks};
use crate::{Mode, read};

/// Files, and what the program leaves in `out`.
type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], &'c str);

fn check(cases: &[Case<'_>]) {
    let mut wrong = Vec::new();
    for (what, files, expected) in cases {
        let found = run(&program(files));
        if found != *expected {
            wrong.push(format!("{what}\n  found:    {found}\n  expected: {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

const INDEX: &str = "src/index.ts";

#[test]
fn typescript_becomes_javascript_that_means_the_same() {
    check(&[
        (
            "enums, namespaces and types",
            &[(
                INDEX,
                "enum Color { Red = 1, Blue = 'b' as any }
                 const enum Size { S = 4 }
                 namespace N { export const a: number = 1; }
                 type T = { a: string }; interface I extends T {}
                 declare const nothing: string; abstract class A<T> { abstract f(): T }
                 function g<const T extends readonly unknown[]>(this: void, a?: T): asserts a {}
                 const x = <T,>(y: T) => y!; let v = x(3) as number satisfies number;
                 export { type T, I }; export default {};
                 globalThis.out = [Color.Red, Color[1], Size.S, N.a, v, A.name];",
            )],
            r#"[1,"Red",4,1,3,"A"]"#,
        ),
        (
            "parameter properties and fields",
            &[(
                INDEX,
                "class A { declare z: number; y?: string; static s = 1; #p = 2; constructor(private a: number, readonly b = 2) {} get p() { return this.#p } }
                 const a: any = new A(1); export default {};
                 globalThis.out = [a.a, a.b, 'y' in a, 'z' in a, A.s, a.p];",
            )],
            "[1,2,true,false,1,2]",
        ),
        (
            "names of classes are kept",
            &[(
                INDEX,
                "import { DurableObject } from 'cloudflare:workers';
                 const make = () => class extends DurableObject {};
                 export class Kept extends make() { name() { return this.constructor.name } }
                 export default {}; globalThis.out = [Kept.name, new Kept({} as any, {}).name()];",
            )],
            r#"["Kept","Kept"]"#,
        ),
        (
            "decorators in the way of TypeScript",
            &[(
                INDEX,
                "const log: string[] = [];
                 const cls = (c: any) => { log.push(c.name); c.marked = true; return c };
                 const meth = (name: string) => (t: any, k: string, d: any) => { log.push(name + k); const f = d.value; d.value = function () { return f.call(this) + 1 } };
                 const prop = (t: any, k: string) => { log.push('p' + k) };
                 const param = (t: any, k: string, i: number) => { log.push(k + i) };
                 @cls export class D { @prop f = 1; @meth('a') @meth('b') m() { return 1 } n(@param x: number) {} }
                 export default {}; globalThis.out = [log, new D().m(), (D as any).marked, D.name];",
            )],
            r#"[["pf","bm","am","n0","D"],3,true,"D"]"#,
        ),
        (
            "imports that are only types are not there",
            &[
                (INDEX, "import { A, type B } from './types'; import type { C } from './nowhere'; import D from './types'; let a: A, b: B, c: C, d: D; globalThis.out = 1; export default {}"),
                ("src/types.ts", "export interface A {}; export type B = 1; throw new Error('is run')"),
            ],
            "1",
        ),
        (
            "types are passed on through modules, and are nothing there",
            &[
                (INDEX, "export { T, value } from './one'; import { value } from './one'; globalThis.out = value; export default {}"),
                ("src/one.ts", "export { T, U } from './two'; import { V } from './two'; export { V }; export const value = 7"),
                ("src/two.ts", "export { T } from './three'; export type U = 1; export interface V {}"),
                ("src/three.ts", "export type T = string"),
            ],
            "7",
        ),
    ]);
}

#[test]
fn jsx_calls_what_the_configuration_says() {
    let classic = r#"{"name": "a", "main": "i.jsx", "compatibility_date": "2025-11-17", "jsx_factory": "h", "jsx_fragment": "F"}"#;
    let runtime =
        "export const jsx = (t, p) => [t, p]; export const jsxs = jsx; export const Fragment = 'f';";
    let package = r#"{"name": "ui", "exports": {"./jsx-runtime": "./rt.js"}}"#;
    let main = r#"{"name": "a", "main": "i.tsx", "compatibility_date": "2025-11-17"}"#;
    check(&[
        (
            "functions that are there",
            &[
                ("wrangler.json", classic),
                (
                    "i.jsx",
                    "const h = (...a) => a, F = 'F'; globalThis.out = <><a b='1'>x</a></>; export default {}",
                ),
            ],
            r#"["F",null,["a",{"b":"1"},"x"]]"#,
        ),
        (
            "a runtime that is imported",
            &[
                ("wrangler.json", main),
                (
                    "tsconfig.json",
                    "{\"compilerOptions\": {\"jsx\": \"react-jsx\", /* and */ \"jsxImportSource\": \"ui\",}}",
                ),
                ("i.tsx", "globalThis.out = <a b={1}>{'x' as string}</a>; export default {}"),
                ("node_modules/ui/package.json", package),
                ("node_modules/ui/rt.js", runtime),
            ],
            r#"["a",{"b":1,"children":"x"}]"#,
        ),
    ]);
}

/// The traps of the reference's package for containers: modules without `"type"`, imports without extensions, maps by names of
/// classes, setters that are static.
const PACKAGE: [(&str, &str); 4] = [
    (
        "node_modules/@cloudflare/containers/package.json",
        r#"{"name": "@cloudflare/containers", "version": "0.3.7", "exports": {".": {"types": "./dist/index.d.ts", "import": "./dist/index.js", "require": "./dist/index.js"}}}"#,
    ),
    (
        "node_modules/@cloudflare/containers/dist/index.js",
        "export { Container } from './lib/container';\nexport { getContainer } from './lib/utils';\n//# sourceMappingURL=index.js.map",
    ),
    (
        "node_modules/@cloudflare/containers/dist/lib/container.js",
        "import { DurableObject } from 'cloudflare:workers';\nimport { key } from './helpers';\nconst handlers = new Map();\nexport class Container extends DurableObject {\n static set outbound(h) { handlers.set(this.name, h) }\n static get outbound() { return handlers.get(this.name) }\n sleepAfter = '10m';\n find() { return [key, handlers.get(this.constructor.name), this.sleepAfter] }\n}",
    ),
    (
        "node_modules/@cloudflare/containers/dist/lib/utils.js",
        "export function getContainer(b, n = 'singleton') { return b.getByName(n) }",
    ),
];

#[test]
fn a_package_of_modules_that_does_not_say_so_is_used() {
    let mut files = PACKAGE.to_vec();
    files.push(("node_modules/@cloudflare/containers/dist/lib/helpers.js", "export const key = 'k';"));
    files.push((
        INDEX,
        "import { Container, getContainer } from '@cloudflare/containers';
        export class MyContainer extends Container<Env> { override sleepAfter = '2m' }
        MyContainer.outbound = 'mine';
        globalThis.out = [new MyContainer({}, {}).find(), getContainer({ getByName: (n: string) => n })];
        export default { fetch() {} };",
    ));
    let program = program(&files);
    assert_eq!(run(&program), r#"[["k","mine","2m"],"singleton"]"#);
    assert_eq!(
        names(&program),
        [
            "node_modules/@cloudflare/containers/dist/index.js",
            "node_modules/@cloudflare/containers/dist/lib/container.js",
            "node_modules/@cloudflare/containers/dist/lib/helpers.js",
            "node_modules/@cloudflare/containers/dist/lib/utils.js",
            "src/index.ts",
        ]
    );
}

#[test]
fn typescript_in_a_file_of_javascript_is_read_with_a_note() {
    let config = r#"{"name": "a", "main": "i.js", "compatibility_date": "2025-11-17"}"#;
    let project = project(&[
        ("wrangler.json", config),
        (
            "i.js",
            "import x from './x.mjs'; export default { async fetch(request: Request) {} }; globalThis.out = x",
        ),
        ("x.mjs", "const x: number = 3; export default x"),
    ]);
    assert_eq!(run(&project.program.clone().unwrap()), "3");
    assert_eq!(
        remarks(&project),
        [
            "note: i.js:1:1: is TypeScript, though its name ends otherwise; it is read as such",
            "note: x.mjs:1:1: is TypeScript, though its name ends otherwise; it is read as such",
        ]
    );
}

#[test]
fn modules_are_found_as_bundlers_find_them() {
    check(&[
        (
            "extensions that are left out, directories, and names of what TypeScript becomes",
            &[
                (INDEX, "import a from './a'; import b from './b.js'; import c from './c'; import d from '../d/index.js'; globalThis.out = [a, b, c, d]; export default {}"),
                ("src/a.ts", "export default 'a.ts'"),
                ("src/a.js", "export default 'a.js'"),
                ("src/b.ts", "export default 'b.ts'"),
                ("src/c/index.tsx", "export default 'c'"),
                ("d/index.ts", "export default 'd'"),
            ],
            r#"["a.ts","b.ts","c","d"]"#,
        ),
        (
            "conditions of packages, in the package's order",
            &[
                (INDEX, "import p from 'p'; import q from 'p/q'; import inner from 'p/inner'; globalThis.out = [p, q, inner]; export default {}"),
                ("node_modules/p/package.json", r##"{"exports": {".": {"node": "./no.js", "workerd": "./workerd.js", "import": "./no.js"}, "./*": {"require": "./no.js", "browser": "./sub/*.js"}}, "imports": {"#x": {"worker": "./x.js", "default": "./no.js"}}}"##),
                ("node_modules/p/workerd.js", "export default 'workerd'"),
                ("node_modules/p/sub/q.js", "export default 'q'"),
                ("node_modules/p/sub/inner.js", "export { default } from '#x'"),
                ("node_modules/p/x.js", "export default 'x'"),
            ],
            r#"["workerd","q","x"]"#,
        ),
        (
            "fields of packages",
            &[
                (INDEX, "import a from 'a'; import b from 'b'; import * as c from 'c'; globalThis.out = [a, b, Object.keys(c)]; export default {}"),
                ("node_modules/a/package.json", r#"{"main": "./no.js", "module": "./module.js"}"#),
                ("node_modules/a/module.js", "export default 'module'"),
                ("node_modules/b/package.json", r#"{"main": "./main.js", "browser": {"./main.js": "./browser.js", "fs": false}}"#),
                ("node_modules/b/browser.js", "import fs from 'fs'; export default ['browser', fs]"),
                ("node_modules/c/package.json", r#"{"browser": {"./index.js": false}}"#),
            ],
            r#"["module",["browser",{}],["default"]]"#,
        ),
        (
            "aliases, paths and replacements",
            &[
                ("wrangler.json", r#"{"name": "a", "main": "src/index.ts", "compatibility_date": "2025-11-17", "alias": {"old": "./src/new.ts", "node:fs": "./src/fs.ts"}, "define": {"VERSION": "\"1.0\"", "a.b": "{ c: 1 }"}}"#),
                ("tsconfig.json", r#"{"compilerOptions": {"baseUrl": ".", "paths": {"@/*": ["./src/lib/*"]}}}"#),
                (INDEX, "import n from 'old'; import l from '@/l'; import fs from 'node:fs'; declare const VERSION: string, a: any; globalThis.out = [n, l, fs, VERSION, a.b.c, process.env.NODE_ENV]; export default {}"),
                ("src/new.ts", "export default 'new'"),
                ("src/fs.ts", "export default 'fs'"),
                ("src/lib/l.ts", "export default 'l'"),
            ],
            r#"["new","l","fs","1.0",1,"production"]"#,
        ),
        (
            "JSON, texts and bytes",
            &[
                ("wrangler.json", r#"{"name": "a", "main": "src/index.ts", "compatibility_date": "2025-11-17", "rules": [{"type": "Text", "globs": ["**/*.md"]}]}"#),
                (INDEX, "import json, { version, default as again } from './j.json'; import t from './t.txt'; import m from './m.md'; import d from './d.bin';
                    globalThis.out = [json.version, version, again === json, Object.keys(json), t, m, Array.from(new Uint8Array(d))]; export default {}"),
                ("src/j.json", r#"{"version": 1, "__proto__": {"x": 1}, "default": 2, "a b": 3}"#),
                ("src/t.txt", "\u{2028}\"`${x}\\n\n"),
                ("src/m.md", "# m"),
                ("src/d.bin", "\u{1}ab"),
            ],
            "[1,1,true,[\"version\",\"__proto__\",\"default\",\"a b\"],\"\u{2028}\\\"`${x}\\\\n\\n\",\"# m\",[1,97,98]]",
        ),
        (
            "modules of the runtime, and circles",
            &[
                ("wrangler.json", r#"{"name": "a", "main": "src/index.ts", "compatibility_date": "2025-11-17", "compatibility_flags": ["nodejs_compat"]}"#),
                (INDEX, "import { Buffer } from 'node:buffer'; import { Buffer as bare } from 'buffer'; import * as a from './a'; export const x = 1; globalThis.out = [Buffer.of, bare.of, a.f()]; export default {}"),
                ("src/a.ts", "import { x } from './index'; export const f = () => x"),
                ("node_modules/buffer/package.json", "{}"),
                ("node_modules/buffer/index.js", "throw 1"),
            ],
            r#"["node","node",1]"#,
        ),
        (
            "what imports say of the kind of their modules",
            &[
                (INDEX, "import j from './j.json' with { type: 'json' }; export { default as k } from './j.json' with { type: 'json' };
                    const d = await import('./j.json', { with: { type: 'json' } }); globalThis.out = [j, d.default]; export default {}"),
                ("src/j.json", "[1]"),
            ],
            "[[1],[1]]",
        ),
        (
            "dynamic imports, and waiting at the top",
            &[
                (INDEX, "const { default: a } = await import('./a'); const b = await import(`./b`); globalThis.out = [a, b.default, b.x]; export default {}"),
                ("src/a.ts", "export default await Promise.resolve('a')"),
                ("src/b.js", "module.exports = { x: 1 }"),
            ],
            r#"["a",{"x":1},1]"#,
        ),
    ]);
}

#[test]
fn programs_can_tell_whether_they_are_worked_on() {
    let disk = Disk::of(&[(INDEX, "globalThis.out = process.env.NODE_ENV; export default {}")]);
    for (mode, expected) in [(Mode::Production, "\"production\""), (Mode::Development, "\"development\"")] {
        let program = read(disk.0.path(), None, mode).unwrap().program.unwrap();
        assert_eq!(run(&program), expected);
        assert_eq!(program.files, [Path::new(INDEX)]);
    }
}

#[test]
fn a_project_may_be_a_part_of_another() {
    let disk = Disk::of(&[
        ("apps/one/wrangler.json", r#"{"name": "a", "main": "i.ts", "compatibility_date": "2025-11-17"}"#),
        (
            "apps/one/i.ts",
            "import a from 'shared'; import b from 'hoisted'; globalThis.out = [a, b]; export default {}",
        ),
        ("packages/shared/package.json", r#"{"name": "shared", "exports": "./src/index.ts"}"#),
        ("packages/shared/src/index.ts", "const a: string = 'shared'; export default a"),
        ("node_modules/hoisted/index.js", "export default 'hoisted'"),
    ]);
    symlink("../packages/shared", disk.path("node_modules/shared")).unwrap();
    let program = read(&disk.path("apps/one"), None, Mode::Production).unwrap().program.unwrap();
    assert_eq!(run(&program), r#"["shared","hoisted"]"#);
    assert_eq!(
        names(&program),
        ["../../node_modules/hoisted/index.js", "../../packages/shared/src/index.ts", "i.ts"]
    );
}

#[test]
fn a_program_may_be_of_toml_and_an_app_without_one() {
    let toml = "name = \"a\"\nmain = \"i.js\"\ncompatibility_date = \"2025-11-17\"\n";
    assert_eq!(
        run(&program(&[("wrangler.toml", toml), ("i.js", "globalThis.out = 1; export default {}")])),
        "1"
    );
    let assets = r#"{"name": "a", "compatibility_date": "2025-11-17", "assets": {"directory": "public"}}"#;
    assert_eq!(project(&[("wrangler.jsonc", assets)]).program, None);
}
