//! Configurations and what is said of them.

mod hostile;
mod lineage;
mod own;

use std::path::Path;

use super::parse::Language;
use super::*;
use crate::report::Refused;

fn files(language: Language, text: &str, own: Option<&str>) -> Files {
    let name = if language == Language::Json { "wrangler.jsonc" } else { "wrangler.toml" };
    let own = own.map(|text| Source::new(Path::new("berth.toml"), text.into()));
    Files { source: Source::new(Path::new(name), text.into()), language, own }
}

fn read_all(files: &Files, environment: Option<&str>) -> (Option<Config>, Result<Vec<String>, Refused>) {
    let mut report = Report::default();
    let config = read(&mut report, files, environment);
    let remarks = report.finish();
    (config, remarks.map(|remarks| remarks.iter().map(ToString::to_string).collect()))
}

fn config(text: &str, environment: Option<&str>) -> (Config, Vec<String>) {
    let (config, remarks) = read_all(&files(Language::Json, text, None), environment);
    (config.expect("a configuration"), remarks.unwrap_or_else(|refused| panic!("{refused}")))
}

/// A configuration that is good but for what is added to it, on its second line.
fn with(more: &str) -> String {
    format!("{{\"name\": \"a\", \"main\": \"a.ts\", \"compatibility_date\": \"2025-11-17\",\n{more}}}")
}

fn refusal(text: &str, own: Option<&str>, environment: Option<&str>) -> String {
    let (_, remarks) = read_all(&files(Language::Json, text, own), environment);
    remarks.expect_err(text).to_string()
}

const WHOLE: &str = r#"{
  // The template's, with more.
  "$schema": "node_modules/wrangler/config-schema.json",
  "name": "containers-template",
  "main": "./src/index.ts",
  "compatibility_date": "2025-10-08",
  "compatibility_flags": ["nodejs_compat"],
  "account_id": "0",
  "logpush": false,
  "observability": { "enabled": true },
  "vars": { "GREETING": "hello", "LIST": [1, 2.5, null, { "a": true }] },
  "secrets": { "required": ["API_KEY"] },
  "secrets_store_secrets": [{ "binding": "STORED", "store_id": "s", "secret_name": "n" }],
  "containers": [
    {
      "class_name": "MyContainer",
      "name": "mine",
      "image": "./Dockerfile",
      "image_build_context": "..",
      "image_vars": { "A": "b" },
      "instance_type": { "vcpu": 0.25, "memory_mib": 512, "disk_mb": 2000 },
      "max_instances": 10,
      "rollout_kind": "full_auto",
    },
    { "class_name": "Other", "image": "registry.cloudflare.com/0123/other:1.0", "instances": 3 },
  ],
  "durable_objects": {
    "bindings": [
      { "class_name": "MyContainer", "name": "MY_CONTAINER" },
      { "class_name": "Other", "name": "OTHER", "script_name": "containers-template" },
    ],
  },
  "migrations": [{ "tag": "v1", "new_sqlite_classes": ["MyContainer", "Other"] }],
  "triggers": { "crons": ["*/5 * * * *"] },
  "assets": { "directory": "./public", "binding": "ASSETS", "not_found_handling": "single-page-application", "run_worker_first": ["/api/*"] },
  "routes": ["example.com/api/*", { "pattern": "shop.example.com", "custom_domain": true }, "*example.org/*"],
  "limits": { "cpu_ms": 50 },
  "rules": [{ "type": "Text", "globs": ["**/*.md"], "fallthrough": true }],
  "kv_namespaces": [],
}"#;

#[test]
fn a_whole_configuration_is_read() {
    let (config, remarks) = config(WHOLE, None);
    assert_eq!(config.name.as_str(), "containers-template");
    let main = config.main.as_ref().unwrap();
    assert_eq!((main.path.as_path(), main.position.line), (Path::new("src/index.ts"), 5));
    assert_eq!(config.vars["LIST"], Var::Json(serde_json::json!([1, 2.5, null, { "a": true }])));
    let container = &config.containers[0];
    assert_eq!(container.image.to_string(), "Dockerfile");
    assert_eq!((container.resources.cpu_sixteenths, container.resources.memory_bytes), (4, 512 << 20));
    assert_eq!((container.max_instances, container.build_vars["A"].as_str()), (Some(10), "b"));
    assert_eq!(config.containers[1].image.to_string(), "berth:other:1.0");
    assert_eq!(config.containers[1].max_instances, Some(3));
    let hosts: Vec<_> = config.routes.iter().map(|route| (route.hosts.len(), route.path.as_str())).collect();
    assert_eq!(hosts, [(1, "/api/*"), (1, "/*"), (2, "/*")]);
    assert_eq!(config.limits, Limits { cpu_ms: Some(50), subrequests: None });
    assert!(matches!(&config.lineage, Lineage::Migrations(steps) if steps.len() == 1));
    assert_eq!(
        remarks,
        [
            "note: wrangler.jsonc:8:3: these keys mean nothing to Berth: account_id, logpush",
            "note: wrangler.jsonc:23:7: these keys mean nothing to Berth: containers.rollout_kind",
            "note: wrangler.jsonc:25:94: containers.instances is taken as max_instances = 3",
        ]
    );
}

#[test]
fn toml_says_the_same_as_json() {
    let text = r#"
name = "a"
main = "src/index.ts"
compatibility_date = 2025-11-17
[vars]
N = 0x10
[[containers]]
class_name = "C"
image = "./Dockerfile"
[[durable_objects.bindings]]
name = "C"
class_name = "C"
[[migrations]]
tag = "v1"
new_sqlite_classes = ["C"]
[env.staging.vars]
N = 2
"#;
    let (config, remarks) = read_all(&files(Language::Toml, text, None), None);
    let config = config.unwrap();
    assert!(remarks.unwrap().is_empty());
    assert_eq!((config.containers.len(), config.objects[0].position.line), (1, 12));
    assert_eq!(config.vars["N"], Var::Json(16.into()));
    assert_eq!(config.compatibility.date, "2025-11-17");

    let (config, remarks) = read_all(&files(Language::Toml, text, None), Some("staging"));
    let config = config.unwrap();
    assert_eq!((config.name.as_str(), config.vars["N"].clone()), ("a-staging", Var::Json(2.into())));
    assert_eq!(remarks.unwrap().len(), 2, "containers and bindings are not taken over");

    let (_, refused) = read_all(&files(Language::Toml, "name = \nmain = 1", None), None);
    assert!(refused.unwrap_err().to_string().starts_with("wrangler.toml:1:8: cannot be read as TOML: "));
}

#[test]
fn environments_take_over_some_keys_and_have_others_of_their_own() {
    let text = r#"{ "name": "a", "main": "a.ts", "compatibility_date": "2025-11-17", "routes": ["a.example/*"],
        "vars": { "A": "top" }, "define": { "X": "1" },
        "env": {
          "one": { "vars": { "A": "one" } },
          "two": { "name": "b", "route": "b.example/*", "compatibility_date": "2026-01-01", "vars": {} },
          "bad": { "alias": {}, "env": {}, "vrs": {}, "workers_dev": true }
        } }"#;
    let (one, remarks) = config(text, Some("one"));
    assert_eq!((one.name.as_str(), one.vars["A"].clone()), ("a-one", Var::Text("one".into())));
    assert_eq!((one.routes.len(), one.environment.as_deref()), (1, Some("one")));
    assert_eq!(
        remarks,
        [
            "warning: wrangler.jsonc:2:33: `define` of the top level is not taken over by the environment \"one\"; repeat it in `env.one` if it is meant"
        ]
    );
    let (top, _) = config(text, None);
    assert_eq!((top.name.as_str(), top.environment), ("a", None));

    let two = refusal(text, None, Some("two"));
    assert_eq!(
        two,
        "wrangler.jsonc:5:42: env.two.route and `routes` are both there; expected one of the two"
    );
    let bad = refusal(text, None, Some("bad"));
    assert_eq!(
        bad,
        "wrangler.jsonc:6:20: `env.bad.alias` counts only at the top level; expected it there\n\
         wrangler.jsonc:6:33: an environment cannot have environments; expected it at the top level"
    );
    let none = refusal(text, None, Some("onee"));
    assert_eq!(none, "wrangler.jsonc:3:9: there is no environment \"onee\"; did you mean `one`?");
    let none = refusal(&with("\"limits\": {}"), None, Some("one"));
    assert_eq!(none, "wrangler.jsonc:1:1: there is no environment \"one\"; there is none at all");
}

/// Inputs and what is said of them; all differences at once.
fn compare(cases: &[(&str, &str)], said: impl Fn(&str) -> Option<String>) {
    let mut wrong = Vec::new();
    for (input, expected) in cases {
        let said = said(input).unwrap_or_default().replace("wrangler.jsonc:", "");
        if said != *expected {
            wrong.push(format!("{input}\n  said:     {said:?}\n  expected: {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is added on the second line of a good configuration, and what is then said.
const REFUSED: &[(&str, &str)] = &[
    (r#""main": 1"#, "2:9: main: found a number; expected a text in quotes"),
    (
        r#""main": "/a.ts""#,
        "2:9: main: \"/a.ts\" cannot be used; expected a path from the configuration's directory",
    ),
    (r#""main": "a.py""#, "2:9: main: Python cannot be run; expected a JavaScript or TypeScript module"),
    (
        r#""name": "a b""#,
        "2:9: name: \"a b\" holds the character ' ', which is not allowed; expected up to 63 letters, digits, `-`, `_` and `.`, the first a letter or digit",
    ),
    (
        r#""compatibility_date": "2025-02-30""#,
        "2:23: compatibility_date: \"2025-02-30\" is no date; expected one such as \"2025-11-17\"",
    ),
    (
        r#""kv_namespaces": [{"binding": "K"}]"#,
        "2:1: `kv_namespaces` cannot be had: this version of Berth does not have it; remove it, or keep the state in an object",
    ),
    (
        r#""ai": {"binding": "AI"}"#,
        "2:1: `ai` cannot be had: it is a service of the reference's that Berth does not have; remove it, and call such a service over HTTP",
    ),
    (r#""site": {"bucket": "b"}"#, "2:1: `site` cannot be had: use `assets` with a `directory`"),
    (
        r#""triggers": {"crons": ["* * *"]}"#,
        "2:24: triggers.crons: \"* * *\" is no cron expression of five fields, such as \"*/5 * * * *\": Invalid pattern: Pattern must have 5 fields when seconds are disallowed.",
    ),
    (
        r#""triggers": {"crons": ["0 0 30 2 *"]}"#,
        "2:24: triggers.crons: \"0 0 30 2 *\" never comes: no day is like that",
    ),
    (
        r#""vars": {"A": 1}, "secrets": {"required": ["A", "1"]}"#,
        "2:44: secrets.required: `A` is a name in `env` already, by vars; expected another\n2:49: secrets.required: \"1\" holds the character '1', which is not allowed; expected ASCII letters, digits and `_`, the first no digit",
    ),
    (
        r#""limits": {"cpu_ms": 0}"#,
        "2:22: limits.cpu_ms: 0 is out of range; expected a whole number from 1 to 300000",
    ),
    (
        r#""limits": {"cpu_ms": 1.5}"#,
        "2:22: limits.cpu_ms: 1.5 is out of range; expected a whole number from 1 to 300000",
    ),
    (
        r#""assets": {"binding": "A"}"#,
        "2:11: assets.directory is missing; expected the files' directory, such as \"./public\"",
    ),
    (
        r#""assets": {"directory": "p", "html_handling": "non"}"#,
        "2:47: assets.html_handling: there is no \"non\"; did you mean `none`?",
    ),
    (
        r#""assets": {"directory": "p", "run_worker_first": ["!/a"]}"#,
        "2:50: assets.run_worker_first: all paths are taken out, and none is in; expected also one without `!`",
    ),
    (
        r#""assets": {"directory": "p", "run_worker_first": ["api"]}"#,
        "2:51: assets.run_worker_first: \"api\" is no path; expected it to begin with `/` or `!/`",
    ),
    (
        r#""route": "a.example/*/b""#,
        "2:10: route: \"a.example/*/b\" cannot be matched; expected a path whose only `*` is at its end",
    ),
    (
        r#""route": {"pattern": "a.example/x", "custom_domain": true}"#,
        "2:22: route.pattern: \"a.example/x\" is a custom domain, which has neither a path nor `*`; expected a host alone",
    ),
    (
        r#""route": "a:80/""#,
        "2:10: route: \"a:80/\" cannot be matched: \"a:80\" is not the name of a host, without a port",
    ),
    (
        r#""rules": [{"type": "Txt", "globs": []}]"#,
        "2:20: rules.type: there is no \"Txt\"; did you mean `Text`?",
    ),
    (
        r#""durable_objects": {"bindings": [{"name": "A"}]}"#,
        "2:34: durable_objects.bindings.class_name is missing; expected an exported class, such as \"MyContainer\"",
    ),
    (
        r#""durable_objects": {"bindings": [{"name": "A", "class_name": "B", "script_name": "c"}]}"#,
        "2:62: no migration makes the class `B`; expected { \"tag\": \"v1\", \"new_sqlite_classes\": [\"B\"] } at the end of `migrations`\n2:82: durable_objects.bindings.script_name: objects of another app, `c`, cannot be bound yet; expected a class of this one",
    ),
    (
        r#""containers": [{"class_name": "A", "image": "./D", "prepared": 2}], "migrations": [{"tag": "1", "new_sqlite_classes": ["A"]}]"#,
        "2:52: containers.prepared is not a key of wrangler's; expected it in a berth.toml beside this file, in [[containers]] of the same class_name",
    ),
    (
        r#""containers": [{"class_name": "A", "image": "./D", "instance_type": "lit"}], "migrations": [{"tag": "1", "new_sqlite_classes": ["A"]}]"#,
        "2:69: containers.instance_type: there is no \"lit\"; did you mean `lite`?",
    ),
    (
        r#""containers": [{"class_name": "A", "image": "./D", "instance_type": {"vcpu": 0.3, "memory_mib": 1}}], "migrations": [{"tag": "1", "new_sqlite_classes": ["A"]}]"#,
        "2:78: containers.instance_type.vcpu: expected a multiple of 1/16 (0.0625) up to 256\n2:97: containers.instance_type.memory_mib: 1 is out of range; expected a whole number from 8 to 1048576",
    ),
    (
        r#""containers": [{"class_name": "A", "configuration": {"image": "x"}}], "migrations": [{"tag": "1", "new_sqlite_classes": ["A"]}]"#,
        "2:36: containers.configuration is of an old form; expected its `image` and an `instance_type` in the container itself",
    ),
    (
        r#""containers": [{"class_name": "A"}], "migrations": [{"tag": "1", "new_sqlite_classes": ["A"]}]"#,
        "2:16: containers.image is missing; expected a Dockerfile's path, or an image of a registry",
    ),
    (
        r#""containers": [{"image": "./D"}]"#,
        "2:16: containers.class_name is missing; expected the class whose objects have this container",
    ),
    (r#""define": {"A": 1}"#, "2:17: define.A: found a number; expected a text in quotes"),
];

#[test]
fn what_is_wrong_is_said_with_its_place() {
    compare(REFUSED, |more| Some(refusal(&with(more), None, None)));
}

#[test]
fn keys_that_nobody_knows_are_warned_of_with_the_nearest_one() {
    let text = with(
        r#""compatability_flags": [], "zzz": 1, "durable_objects": {"bindngs": []}, "compatibility_flags": ["nodejs_compatt", "x"]"#,
    );
    let (_, remarks) = config(&text, None);
    assert_eq!(
        remarks,
        [
            "warning: wrangler.jsonc:2:1: `compatability_flags` is not a known key; did you mean `compatibility_flags`?",
            "warning: wrangler.jsonc:2:28: `zzz` is not a known key; it is ignored",
            "warning: wrangler.jsonc:2:58: `durable_objects.bindngs` is not a known key; did you mean `bindings`?",
            "warning: wrangler.jsonc:2:98: compatibility_flags: \"nodejs_compatt\" is not a flag that Berth knows; did you mean `nodejs_compat`?",
            "warning: wrangler.jsonc:2:116: compatibility_flags: \"x\" is not a flag that Berth knows; it changes nothing",
        ]
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let said =
        refusal(r#"{"main": 1, "vars": 2, "routes": [3], "containers": [4], "migrations": {}}"#, None, None);
    let places: Vec<&str> = said.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(places.len(), 7, "{said}");
}

/// Texts that are no configuration, and what is said of them.
const SYNTAX: &[(&str, &str)] = &[
    ("", "1:1: is empty; expected an object such as { \"name\": \"hello\", \"main\": \"src/index.ts\" }"),
    ("[]", "1:1: found a list; expected an object in braces"),
    ("{\n  \"a\": 'b' }", "2:8: cannot be read as JSON with comments: single-quoted strings are not allowed"),
    ("{ a: 1 }", "1:3: cannot be read as JSON with comments: expected string for object property"),
    ("{\"a\": 1e999}", "1:7: 1e999 is too large for a number"),
    ("\u{feff}{\"a\": }", "1:8: cannot be read as JSON with comments: unexpected close brace"),
];

#[test]
fn syntax_is_told_with_its_place() {
    for (text, expected) in SYNTAX {
        assert_eq!(refusal(text, None, None), format!("wrangler.jsonc:{expected}"), "{text}");
    }
}
