//! Migrations, exports, bindings and containers against each other.

use super::*;

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
