//! What loads, what does not, and how that is said.

use super::harness::{answer, code, lines, load, refused, running};
use crate::message::{Effect, Limits, Variable};

const TEXT: &str = "const bytes = (text) => Uint8Array.from([...text].map((c) => c.charCodeAt(0)));";

#[test]
fn handlers_and_classes_are_named() {
    let source = "export class A {} export const B = class {}; export function c() {}
        export default { fetch() {}, scheduled() {}, other() {} }";
    let (_, effects) = load(code(&[("index.js", source)])).ok().unwrap();
    let Some(Effect::Loaded(loaded)) = effects.last() else { panic!("{effects:?}") };
    assert_eq!(loaded.handlers, ["fetch", "scheduled"]);
    assert_eq!(loaded.classes, ["A", "B"]);
}

#[test]
fn a_class_may_be_the_default_export() {
    let source = format!(
        "{TEXT} export default class {{ constructor(ctx, env) {{ this.env = env; }} fetch() {{ return {{ body: bytes(this.env.A) }}; }} }}"
    );
    let mut with_env = code(&[("index.js", &source)]);
    with_env.env.push(("A".to_owned(), Variable::Text("of env".to_owned())));
    let (mut bench, _) = load(with_env).ok().unwrap();
    assert_eq!(answer(&bench.get("/")), (200, "of env".to_owned()));
}

#[test]
fn modules_import_each_other_and_nothing_else() {
    let index = "import { b } from './b.js'; export default { async fetch() {
        const late = await import('./c.js');
        let missing; try { await import('node:fs'); } catch (error) { missing = error.message; }
        return { statusText: [b, late.default, missing].join(' ') }; } }";
    let modules = [("index.js", index), ("b.js", "export const b = 'b'"), ("c.js", "export default 'c'")];
    let (mut bench, _) = load(code(&modules)).ok().unwrap();
    let effects = bench.get("/");
    let Some(Effect::Responded(_, response)) = effects.first() else { panic!("{effects:?}") };
    assert_eq!(response.status_text, "b c No such module \"node:fs\", imported from \"index.js\".");
    assert_eq!(refused("import 'cloudflare:none'").error.message, "No such module \"cloudflare:none\".");
    let failed = refused("import 'node:fs'; export default {}");
    assert_eq!(failed.error.message, "No such module \"node:fs\", imported from \"index.js\".");
}

#[test]
fn a_syntax_error_has_its_place() {
    let failed = refused("export default {};\n\nlet 1 = 2;");
    assert_eq!(failed.error.name, "SyntaxError");
    assert_eq!((failed.module.as_deref(), failed.line), (Some("index.js"), Some(3)));
    assert!(failed.column.is_some());
}

#[test]
fn what_the_top_level_throws_has_its_place() {
    let failed = refused("function f() {\n  throw new TypeError('no');\n}\nf();");
    assert_eq!(failed.error.to_string(), "TypeError: no");
    assert_eq!((failed.module.as_deref(), failed.line), (Some("index.js"), Some(2)));
    assert!(failed.error.stack.starts_with("TypeError: no\n    at f (index.js:2:"), "{}", failed.error.stack);
    assert_eq!(refused("throw 'text'").error.message, "text");
    assert_eq!(
        refused("throw { get message() { throw 1; } }").error.message,
        "an error that cannot be described"
    );
}

#[test]
fn the_top_level_asks_for_nothing() {
    for call in [
        "fetch('http://a.example')",
        "setTimeout(() => {}, 1)",
        "host.random(new Uint8Array(1))",
        "host.bodyNew()",
    ] {
        let failed = refused(&format!("{call}; export default {{}}"));
        assert!(
            failed.error.message.starts_with("Disallowed operation called within global scope."),
            "{call}"
        );
    }
}

#[test]
fn the_top_level_has_a_second_and_must_come_to_an_end() {
    let failed = refused("await new Promise(() => {})");
    assert!(failed.error.message.contains("Top-level await"), "{failed:?}");
    let mut endless = code(&[("index.js", "for (;;) {}")]);
    endless.limits = Limits { startup_ms: 50, ..endless.limits };
    assert_eq!(load(endless).err().unwrap().0.error.message, "Script startup exceeded CPU time limit.");
    let failed = refused("const all = []; for (;;) all.push(new Array(1e5).fill(1))");
    assert_eq!(failed.error.message, "Worker exceeded memory limit.");
}

#[test]
fn logs_of_the_top_level_come_first() {
    let (_, effects) = load(code(&[("index.js", "console.log('hello'); export default {}")])).ok().unwrap();
    assert!(matches!(&effects[..], [Effect::Log { event: None, .. }, Effect::Loaded(_)]), "{effects:?}");
    let (_, effects) = *load(code(&[("index.js", "console.log('a'); throw 1")])).err().unwrap();
    assert_eq!(lines(&effects), ["a"]);
}

#[test]
fn hostile_env_is_an_error() {
    for json in ["{", &"[".repeat(1_000_000), "nope", "\"\0\""] {
        let mut with_env = code(&[("index.js", "export default {}")]);
        with_env.env.push(("A".to_owned(), Variable::Json(json.to_owned())));
        assert!(load(with_env).is_err());
    }
    let mut with_env = code(&[(
        "index.js",
        "export default { fetch(r, env) { return { statusText: String(Object.getPrototypeOf(env) === Object.prototype) }; } }",
    )]);
    with_env.env.push(("__proto__".to_owned(), Variable::Json("{\"a\":1}".to_owned())));
    let (mut bench, _) = load(with_env).ok().unwrap();
    let effects = bench.get("/");
    assert!(
        matches!(&effects[0], Effect::Responded(_, response) if response.status_text == "true"),
        "{effects:?}"
    );
}

#[test]
fn code_from_strings_is_not_run() {
    let attempts = [
        "eval('1')",
        "(0, eval)('1')",
        "globalThis.eval('1')",
        "new Function('return 1')",
        "Function('return 1')()",
        "(() => {}).constructor('return 1')",
        "(async () => {}).constructor('return 1')",
        "(function* () {}).constructor('return 1')",
        "(async function* () {}).constructor('return 1')",
        "Object.getPrototypeOf(Object.getPrototypeOf(async () => {}).constructor)('return 1')",
        "Reflect.construct(Function, ['return 1'])",
        "new (class extends Function {})('return 1')",
    ];
    for attempt in attempts {
        let source = format!(
            "{TEXT} export default {{ fetch() {{ try {{ {attempt}; return {{}}; }} catch (error) {{ return {{ body: bytes(String(error)) }}; }} }} }}"
        );
        let said = answer(&running(&source).get("/")).1;
        // The last prototype of all is `Function.prototype`, which runs nothing whatever it is given.
        let refused = said == "EvalError: Code generation from strings disallowed for this context";
        assert!(refused || attempt.starts_with("Object."), "{attempt}: {said}");
    }
    let source = format!(
        "{TEXT} export default {{ fetch() {{ return {{ body: bytes([(() => 1) instanceof Function, Function.name].join()) }}; }} }}"
    );
    assert_eq!(answer(&running(&source).get("/")).1, "true,Function");
}
