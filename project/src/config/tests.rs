//! Configurations and what is said of them.

use std::path::Path;

use proptest::prelude::*;

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
            "note: wrangler.jsonc:3:3: these keys mean nothing to Berth: $schema, account_id",
            "note: wrangler.jsonc:22:7: these keys mean nothing to Berth: containers.rollout_kind",
            "note: wrangler.jsonc:24:94: containers.instances is taken as max_instances = 3",
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

/// Migrations and bindings to `A`, and what is said of them.
const LINEAGES: &[(&str, &str)] = &[
    (r#"{"tag": "v1", "new_sqlite_classes": ["A"]}"#, ""),
    (r#"{"tag": "v1", "new_classes": ["A"]}"#, ""),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["B"]}, {"tag": "v2", "renamed_classes": [{"from": "B", "to": "A"}]}"#,
        "",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["A"]}, {"tag": "v2", "deleted_classes": ["A"]}, {"tag": "v3", "new_sqlite_classes": ["A"]}"#,
        "",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["A"]}, {"tag": "v2", "renamed_classes": [{"from": "A", "to": "C"}], "new_sqlite_classes": ["A"]}"#,
        "",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["Zebra"]}"#,
        "2:62: no migration makes the class `A`; expected { \"tag\": \"v2\", \"new_sqlite_classes\": [\"A\"] } at the end of `migrations`",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["A"]}, {"tag": "v1"}"#,
        "3:68: the migration \"v1\" is there twice; expected another tag",
    ),
    (
        r#"{"tag": "", "new_sqlite_classes": ["A"]}"#,
        "3:24: migrations.tag is empty; expected a name for the step",
    ),
    (
        r#"{"new_sqlite_classes": ["A"]}"#,
        "3:16: migrations.tag is missing; expected a name for the step, such as \"v1\"",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["A"], "new_classes": ["A"]}"#,
        "3:75: the class `A` is there already; expected it to be new once",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["A"]}, {"tag": "v2", "deleted_classes": ["A"]}"#,
        "2:62: the class `A` cannot be used: it was deleted by the migration \"v2\"",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["A"]}, {"tag": "v2", "renamed_classes": [{"from": "A", "to": "C"}]}"#,
        "2:62: the class `A` cannot be used: it was renamed to `C` by the migration \"v2\"",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["A"], "deleted_classes": ["B"]}"#,
        "3:79: the class `B` cannot be deleted: no migration before makes it",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["A", "B"]}, {"tag": "v2", "renamed_classes": [{"from": "B", "to": "A"}, {"from": "B", "to": "C"}]}"#,
        "3:99: the class `B` cannot be renamed: there is a class `A` already\n3:125: the class `B` cannot be renamed: it was renamed to `A` by the migration \"v2\"",
    ),
    (
        r#"{"tag": "v1", "new_sqlite_classes": ["A"], "transferred_classes": [{"from": "A"}]}"#,
        "3:82: migrations.transferred_classes: objects cannot come from another app",
    ),
];

#[test]
fn migrations_are_checked_against_each_other_and_bindings() {
    compare(LINEAGES, |migrations| {
        let bindings = "{\"bindings\": [{\"name\": \"A\", \"class_name\": \"A\"}]}";
        let text = with(&format!("\"durable_objects\": {bindings},\n\"migrations\": [{migrations}]"));
        let (_, remarks) = read_all(&files(Language::Json, &text, None), None);
        remarks.err().map(|refused| refused.to_string())
    });
}

/// `exports` beside a container named `c`, and what is said of them.
const EXPORTS: &[(&str, &str)] = &[
    (r#""A": {"type": "durable-object", "storage": "sqlite", "container": "c"}"#, ""),
    (
        r#""A": {"type": "durable-object", "storage": "sqlite", "container": "c"}, "Old": {"type": "durable-object", "state": "renamed", "renamed_to": "A"}, "W": {"type": "worker"}"#,
        "",
    ),
    (
        r#""A": {"type": "durable-object", "storage": "sqlite", "container": "d"}"#,
        "3:1: no container has the name `d`; did you mean `c`?\n4:16: containers.class_name is missing; expected the class whose objects have this container",
    ),
    (
        r#""A": {"type": "durable-object", "storage": "legacy-kv", "container": "c"}"#,
        "3:1: the class `A` has a container, and such objects need SQL; expected the storage \"sqlite\"",
    ),
    (
        r#""A": {"type": "durable-object", "container": "c"}"#,
        "3:6: exports.A.storage is missing; expected \"sqlite\"\n4:16: containers.class_name is missing; expected the class whose objects have this container",
    ),
    (
        r#""A": {"type": "durable-object", "storage": "sqlite", "container": "c"}, "B": {"type": "durable-object", "storage": "sqlite", "container": "c"}"#,
        "3:73: the container `c` is that of `A` already",
    ),
    (
        r#""A": {"type": "durable-object", "storage": "sqlite", "container": "c"}, "B": {"type": "durable-object", "state": "renamed", "renamed_to": "C"}"#,
        "3:73: the class `B` is renamed to `C`, which `exports` does not have",
    ),
    (
        r#""A": {"type": "durable-object", "storage": "sqlite", "container": "c"}, "B": {"type": "durable-object", "state": "transferred"}"#,
        "3:114: exports.B.state: objects cannot move between apps",
    ),
    (
        r#""A": {"type": "durable-object", "storage": "sqlite", "container": "c"}, "B": {"type": "workflow"}"#,
        "3:87: exports.B.type: this version of Berth has no workflows",
    ),
];

#[test]
fn exports_take_the_place_of_migrations() {
    compare(EXPORTS, |exports| {
        let containers = "\"containers\": [{\"name\": \"c\", \"image\": \"./D\"}]";
        let text = with(&format!("\"exports\": {{\n{exports}}},\n{containers}"));
        let (config, remarks) = read_all(&files(Language::Json, &text, None), None);
        if remarks.is_ok() {
            assert_eq!(config.unwrap().containers[0].class.as_str(), "A");
        }
        remarks.err().map(|refused| refused.to_string())
    });
    let both = with(
        r#""exports": {"A": {"type": "durable-object", "storage": "sqlite"}}, "migrations": [{"tag": "1"}]"#,
    );
    assert_eq!(
        refusal(&both, None, None),
        "wrangler.jsonc:2:82: `migrations` and `exports` both say what classes there are; expected one of the two"
    );
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

const ONE_CONTAINER: &str = r#""containers": [{"class_name": "A", "image": "./D", "max_instances": 3}], "migrations": [{"tag": "1", "new_sqlite_classes": ["A"]}]"#;

#[test]
fn berths_own_keys_stand_beside_wranglers() {
    let own = "[[containers]]\nclass_name = \"A\"\nprepared = 2\ncapabilities = [\"chown\"]\ninit = false\nnode_loss = \"30s\"\nregions = [\"eu\"]\nwarm = 1\n";
    let (config, remarks) = read_all(&files(Language::Json, &with(ONE_CONTAINER), Some(own)), None);
    remarks.unwrap();
    let container = &config.unwrap().containers[0];
    assert_eq!((container.prepared, container.warm, container.init), (Some(2), Some(1), Some(false)));
    assert_eq!(container.node_loss, Some(NodeLoss::After(std::time::Duration::from_secs(30))));
    assert_eq!(
        (container.regions.as_slice(), container.capabilities.len()),
        ([String::from("eu")].as_slice(), 1)
    );
}

/// A `berth.toml`, and what is said of it.
const OWN: &[(&str, &str)] = &[
    ("name = \"a\"", "1:1: `name` is in wrangler.jsonc too, in line 1; expected it there alone"),
    (
        "routes = []",
        "1:1: `routes` belongs into wrangler.jsonc; beside it this file holds only [[containers]]",
    ),
    (
        "start_rate = 1",
        "1:1: `start_rate` is not a key of this file: beside wrangler.jsonc it holds only [[containers]]",
    ),
    (
        "[[containers]]\nclass_name = \"A\"\nmax_instances = 3",
        "3:1: `containers.max_instances` is in wrangler.jsonc too, in line 2; expected it in one of the two",
    ),
    (
        "[[containers]]\nclass_name = \"A\"\nprepard = 3",
        "3:1: `containers.prepard` cannot be set beside wrangler.jsonc; did you mean `prepared`?",
    ),
    (
        "[[containers]]\nclass_name = \"B\"",
        "2:14: wrangler.jsonc has no container of a class `B`; did you mean `A`?",
    ),
    (
        "[[containers]]\nprepared = 1",
        "1:1: containers.class_name is missing; expected a class of the configuration's `containers`",
    ),
    (
        "[[containers]]\nclass_name = \"A\"\n[[containers]]\nclass_name = \"A\"",
        "4:14: the class `A` is there already; expected it once",
    ),
    (
        "[[containers]]\nclass_name = \"A\"\nprepared = 65\nnode_loss = \"1s\"\ncapabilities = [\"sys_admin\"]\nregions = [\"a b\"]",
        "3:12: containers.prepared: 65 is out of range; expected a whole number from 0 to 64\nberth.toml:4:13: containers.node_loss: \"1s\" cannot be; expected \"never\" or a time such as \"30s\", from 10s to 1day\nberth.toml:5:17: containers.capabilities: there is no \"sys_admin\"; known are chown, dac_override, fowner, fsetid, kill, setgid, setuid\nberth.toml:6:12: containers.regions: \"a b\" is no name of a region; expected up to 63 letters, digits, `-`, `_` and `.`",
    ),
];

#[test]
fn a_key_is_in_one_of_the_two_files() {
    for (own, expected) in OWN {
        assert_eq!(refusal(&with(ONE_CONTAINER), Some(own), None), format!("berth.toml:{expected}"), "{own}");
    }
    let both = ONE_CONTAINER.replace("\"max_instances\"", "\"warm\": 1, \"max_instances\"");
    let said = refusal(&with(&both), Some("[[containers]]\nclass_name = \"A\"\nwarm = 1"), None);
    assert!(said.starts_with("berth.toml:3:1: `containers.warm` is in wrangler.jsonc too, in line 2; expected it in one of the two\nwrangler.jsonc:2:52: "), "{said}");
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

#[test]
fn hostile_configurations_are_bounded() {
    let deep = format!("{{\"vars\": {{\"A\": {}{}}}}}", "[".repeat(200), "]".repeat(200));
    assert!(refusal(&deep, None, None).contains("is nested too deeply; expected at most 64 levels"));
    let deeper = format!("{{\"vars\": {}", "[".repeat(500_000));
    assert!(refusal(&deeper, None, None).contains("cannot be read as JSON with comments"));
    let toml = format!("a = {}", "[".repeat(500_000));
    let (_, refused) = read_all(&files(Language::Toml, &toml, None), None);
    assert!(refused.unwrap_err().to_string().contains("cannot be read as TOML"));
    let wide: String = (0..60_000).map(|n| format!("\"k{n}\": {n},")).collect();
    let (_, remarks) = config(&with(&wide), None);
    assert_eq!(remarks.len(), 100);
    let cyclic = format!("{{{}{}", "\"env\": {\"a\": {".repeat(30), "}}".repeat(30) + "}");
    assert!(refusal(&cyclic, None, Some("a")).contains("an environment cannot have environments"));
}

/// JSON with known and unknown keys, of any shape.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        prop_oneof![Just("a".to_owned()), Just("lite".to_owned()), Just("./src/a.ts".to_owned()), ".{0,12}"]
            .prop_map(Into::into),
    ];
    let key = prop_oneof![
        proptest::sample::select(keys::names(false)).prop_map(str::to_owned),
        proptest::sample::select(vec![
            "class_name",
            "name",
            "bindings",
            "image",
            "tag",
            "new_sqlite_classes",
            "from",
            "to",
            "type",
            "globs",
            "pattern",
            "required",
            "crons",
            "instance_type",
            "a"
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            proptest::collection::btree_map(key.clone(), inner, 0..8)
                .prop_map(|entries| serde_json::Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_fail(text in "[\\[\\]{}\",:/*a-z0-9\n \u{feff}ü]{0,60}") {
        let _ = read_all(&files(Language::Json, &text, Some(&text)), Some("a"));
        let _ = read_all(&files(Language::Toml, &text, Some(&text)), None);
    }

    #[test]
    fn no_value_makes_the_reader_fail(json in any_json(), own in any_json(), environment in proptest::option::of("a")) {
        let (text, own) = (json.to_string(), toml::to_string(&own).unwrap_or_default());
        let (config, remarks) = read_all(&files(Language::Json, &text, Some(&own)), environment.as_deref());
        // Whatever gives nothing has said why.
        prop_assert!(config.is_some() || remarks.is_err());
    }

    #[test]
    fn positions_lie_within_the_text(json in any_json()) {
        let text = serde_json::to_string_pretty(&json).unwrap();
        if let (_, Err(refused)) = read_all(&files(Language::Json, &text, None), None) {
            let lines: Vec<&str> = text.split('\n').collect();
            for problem in &refused.problems {
                let position = problem.position.unwrap();
                prop_assert!(position.line <= lines.len(), "{problem}");
                prop_assert!(position.column <= lines[position.line - 1].chars().count() + 1, "{problem}");
            }
        }
    }
}
