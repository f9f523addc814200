//! What the entry shows, and classes of the configuration that it lacks.

use super::{program, project, refusal, remarks};
use crate::{Base, EntryClass};

const INDEX: &str = "src/index.ts";
const BOUND: &str = r#"{"name": "a", "main": "src/index.ts", "compatibility_date": "2025-11-17",
"containers": [{"class_name": "My", "image": "./Dockerfile"}],
"durable_objects": {"bindings": [{"name": "MY", "class_name": "My"}]},
"migrations": [{"tag": "v1", "new_sqlite_classes": ["My", "Old"]}]}"#;

/// An entry for that configuration, and what is said of it.
const ENTRIES: &[(&str, &str)] = &[
    (
        "export class My {} export class Mo {}; export default {}",
        "wrangler.json:4:59: the class `Old` is not exported by src/index.ts; expected it there",
    ),
    (
        "class My {} export class Old {} export default {}",
        "wrangler.json:3:63: the class `My` is not exported by src/index.ts; expected `export` before `class My`",
    ),
    (
        "import { My } from './other'; new My(); export class Old {} export default {}",
        "wrangler.json:3:63: the class `My` is not exported by src/index.ts; expected `export { My }`",
    ),
    (
        "export class Mi {} export class Old {} export default {}",
        "wrangler.json:3:63: the class `My` is not exported by src/index.ts; did you mean `Mi`?",
    ),
    (
        "export const My = {}; export class Old {} export default {}",
        "wrangler.json:3:63: `My` is exported by src/index.ts, and is no class",
    ),
    (
        "export default class My {}; export class Old {}",
        "wrangler.json:3:63: the class `My` is not exported by src/index.ts; expected `export` before `class My`",
    ),
];

#[test]
fn classes_that_the_configuration_needs_are_exported() {
    let mut wrong = Vec::new();
    for (text, expected) in ENTRIES {
        let said =
            refusal(&[("wrangler.json", BOUND), (INDEX, text), ("src/other.ts", "export class My {}")]);
        if said != *expected {
            wrong.push(format!("{text}\n  said:     {said:?}\n  expected: {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for good in [
        "export { My, My as Old } from './other'; export default {}",
        "export * from './other'; export class Old {} export default {}",
        "import { My } from './other'; export { My }; export const Old = class {}; export default {}",
        "export * from './c.cjs'; export default {}",
        "let My = make(); export { My, My as Old }; function make() { return class {} } export default {}",
    ] {
        program(&[
            ("wrangler.json", BOUND),
            (INDEX, good),
            ("src/other.ts", "export class My {}"),
            ("src/c.cjs", "exports.My = exports.Old = class {}"),
        ]);
    }
}

#[test]
fn what_classes_extend_is_followed_through_modules() {
    let program = program(&[
        (INDEX, "export { A, B } from './a'; import * as w from 'cloudflare:workers'; export class C extends w.WorkerEntrypoint {}
            export class D extends mix() {} export class E {} export class F extends F2 {} class F2 extends F {} function mix() { return E }
            export const G = class extends C {}; export class My extends Container {} import { Container } from '@cloudflare/containers';
            export function no() {} export default class extends C { scheduled() {} }"),
        ("src/a.ts", "import { DurableObject as D } from 'cloudflare:workers'; class Base extends D {} export class A extends Base {}; export { B } from './b'"),
        ("src/b.js", "import Default from './default'; export class B extends Default {}"),
        ("src/default.ts", "import { RpcTarget } from 'cloudflare:workers'; export default class extends RpcTarget {}"),
        ("node_modules/@cloudflare/containers/package.json", r#"{"main": "index.js"}"#),
        ("node_modules/@cloudflare/containers/index.js", "export { Container } from './lib.js'"),
        ("node_modules/@cloudflare/containers/lib.js", "import { DurableObject } from 'cloudflare:workers'; export class Container extends DurableObject {}"),
    ]);
    let class = |name: &str, base| EntryClass { name: name.to_owned(), base };
    assert_eq!(
        program.classes,
        [
            class("A", Base::DurableObject),
            class("B", Base::RpcTarget),
            class("C", Base::WorkerEntrypoint),
            class("D", Base::Unknown),
            class("E", Base::None),
            class("F", Base::Unknown),
            class("G", Base::WorkerEntrypoint),
            class("My", Base::Container),
        ]
    );
    assert!(program.handlers.open && program.handlers.names.contains("scheduled"));
}

#[test]
fn handlers_are_those_of_the_default_export() {
    for (text, names, open) in [
        ("export default { fetch() {}, async scheduled() {}, 'queue': 1 }", "fetch queue scheduled", false),
        (
            "export default { fetch: app.fetch, ...more } satisfies ExportedHandler<Env>; const app: any = {}, more = {}",
            "fetch",
            true,
        ),
        ("const handler = { fetch() {} } as ExportedHandler; export default handler", "fetch", false),
        ("const handler = { fetch() {} }; export { handler as default }", "fetch", false),
        ("export { default } from './other'", "fetch", false),
        ("export default new Hono(); class Hono {}", "", true),
        ("export default class { fetch() {} static no() {} queue = 1 }", "fetch queue", true),
        ("export default function () {}", "", false),
    ] {
        let program = program(&[(INDEX, text), ("src/other.ts", "export default { fetch() {} }")]);
        let found: Vec<&str> = program.handlers.names.iter().map(String::as_str).collect();
        assert_eq!((found.join(" ").as_str(), program.handlers.open), (names, open), "{text}");
    }
}

#[test]
fn likely_mistakes_are_warned_of() {
    let crons = r#"{"name": "a", "main": "src/index.ts", "compatibility_date": "2025-11-17", "triggers": {"crons": ["* * * * *"]}}"#;
    let read = project(&[("wrangler.json", crons), (INDEX, "export default { fetch() {} }")]);
    assert_eq!(
        remarks(&read),
        [
            "warning: wrangler.json: there are crons, and the default export of src/index.ts has no `scheduled`"
        ]
    );
    let read = project(&[(INDEX, "export const a = 1")]);
    assert_eq!(
        remarks(&read),
        [
            "warning: src/index.ts:1:1: has no default export, and so handles no requests; expected `export default { async fetch(request, env) { … } }`"
        ]
    );
    let read = project(&[
        ("wrangler.json", BOUND),
        (INDEX, "export class My {} export class Old {} export default {}"),
    ]);
    assert_eq!(
        remarks(&read),
        [
            "warning: wrangler.json:2:46: the class `My` has a container, and extends nothing; expected `extends Container`"
        ]
    );
    let read = project(&[(INDEX, "const name = './x'; export default { fetch: () => import(name) }")]);
    assert_eq!(
        remarks(&read),
        [
            "note: src/index.ts:1:51: what is imported here is known only when it runs; it will not be found then"
        ]
    );
}

/// A program beside the package for containers, and what is said of it.
fn beside_the_package(text: &str) -> Vec<String> {
    let package = "node_modules/@cloudflare/containers";
    remarks(&project(&[
        (INDEX, text),
        (&format!("{package}/package.json"), r#"{"main": "index.js"}"#),
        (
            &format!("{package}/index.js"),
            "export class Container { startContainer() {} manualStart = false }",
        ),
    ]))
}

#[test]
fn what_the_package_for_containers_does_not_have_is_warned_of() {
    let said = beside_the_package(
        "import { Container } from '@cloudflare/containers';
export class Job extends Container { manualStart = true }
export default { scheduled(_, env) { return env.JOB.getByName('a').startContainer({}) } }",
    );
    let [property, call] = said.as_slice() else { panic!("{said:?}") };
    assert!(
        property.starts_with(
            "warning: src/index.ts:2:38: no version of `@cloudflare/containers` has `manualStart`"
        )
    );
    assert!(call.starts_with(
        "warning: src/index.ts:3:68: no version of `@cloudflare/containers` has `startContainer()`"
    ));
    for own in [
        "import { Container } from '@cloudflare/containers'; export class Job extends Container { startContainer() {} manualStart = 1; on() { return this.manualStart } }
        export default { fetch(_, env) { return env.JOB.getByName('a').startContainer() } }",
        "import { Container } from '@cloudflare/containers'; export { Container }; class Own { manualStart = 1 } export default new Own()",
    ] {
        assert_eq!(beside_the_package(own), [""; 0], "{own}");
    }
    let without = "class Base {} export class Job extends Base { manualStart = 1 } export default { fetch(_, env) { return env.JOB.startContainer() } }";
    assert_eq!(remarks(&project(&[(INDEX, without)])), [""; 0]);
}
