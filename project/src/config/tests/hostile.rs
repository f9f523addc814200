//! Configurations that would take time, memory or the process, if they could.

use proptest::prelude::*;

use super::*;

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
