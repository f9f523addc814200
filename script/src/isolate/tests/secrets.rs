//! Secrets of stores in `env`.

use super::edge::{Edge, app};
use crate::message::Variable;

fn with(handler: &str) -> Edge {
    let source = format!(
        "import {{ env as global }} from 'cloudflare:workers';
        export class A {{}} export class B {{}}
        const caught = async (run) => {{ try {{ return await run(); }} catch (error) {{ return String(error); }} }};
        export default {{ async fetch(request, env) {{ const json = (value) => Response.json(value); {handler} }} }}"
    );
    let mut load = app(&source);
    load.flags.push("nodejs_compat".to_owned());
    let there = Variable::StoreSecret(Ok("marmalade".to_owned()));
    let empty = Variable::StoreSecret(Ok(String::new()));
    let absent = Variable::StoreSecret(Err("the store `s` has no secret `n`".to_owned()));
    for (name, variable) in [("THERE", there), ("EMPTY", empty), ("ABSENT", absent)] {
        load.env.push((name.to_owned(), variable));
    }
    let shown = format!("{load:?}");
    assert!(!shown.contains("marmalade") && shown.contains("has no secret"), "{shown}");
    Edge::of(load)
}

#[test]
fn a_secret_of_a_store_is_what_get_resolves_to() {
    let mut edge = with(
        "const promise = env.THERE.get();
        return json([promise instanceof Promise, await promise, await global.THERE.get(), await env.EMPTY.get(), await caught(() => env.ABSENT.get())]);",
    );
    let told = "Error: the store `s` has no secret `n`";
    assert_eq!(edge.get("/"), format!(r#"[true,"marmalade","marmalade","","{told}"]"#));
}

#[test]
fn a_secret_of_a_store_shows_itself_to_nothing_else() {
    let mut edge = with(
        "console.log(env.THERE, { deep: env.THERE });
        const { THERE } = env;
        const detached = THERE.get;
        return json([String(THERE), JSON.stringify(THERE), Object.isFrozen(THERE), Reflect.ownKeys(THERE), `${process.env.THERE}`,
            await caught(() => detached()), await caught(() => new THERE.constructor()), typeof SecretsStoreSecret,
            await caught(() => structuredClone(THERE)), await caught(() => { 'use strict'; THERE.x = 1; })]);",
    );
    let answer = edge.get("/");
    let seen = format!("{answer} {:?}", edge.seen);
    let expected = r#"["[object SecretsStoreSecret]","{}",true,[],"undefined","TypeError: Illegal invocation: function called with incorrect `this` reference.","TypeError: Illegal constructor","undefined","#;
    assert!(answer.starts_with(expected), "{answer}");
    assert!(answer.contains("DataCloneError") && answer.contains("TypeError"), "{answer}");
    assert!(seen.contains("SecretsStoreSecret") && !seen.contains("marmalade"), "{seen}");
}
