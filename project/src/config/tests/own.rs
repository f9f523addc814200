//! A `berth.toml` beside the configuration.

use super::*;

const ONE_CONTAINER: &str = r#""containers": [{"class_name": "A", "image": "./D", "max_instances": 3}], "migrations": [{"tag": "1", "new_sqlite_classes": ["A"]}]"#;

#[test]
fn berths_own_keys_stand_beside_wranglers() {
    let own = "[[containers]]\nclass_name = \"A\"\nprepared = 2\ncapabilities = [\"chown\"]\ninit = false\nnode_loss = \"30s\"\nregions = [\"eu\"]\nwarm = 1\n";
    let (config, remarks) = read_all(&files(Language::Json, &with(ONE_CONTAINER), Some(own)), None);
    remarks.unwrap();
    let container = &config.unwrap().containers[0];
    assert_eq!((container.prepared, container.warm, container.init), (Some(2), Some(1), Some(false)));
    assert_eq!(container.node_loss, Some(std::time::Duration::from_secs(30).into()));
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
        "3:12: containers.prepared: 65 is out of range; expected a whole number from 0 to 64\nberth.toml:4:13: containers.node_loss: \"1s\" cannot be; expected \"never\" or a time such as \"30s\", from 30s to 30days\nberth.toml:5:17: containers.capabilities: there is no \"sys_admin\"; known are chown, dac_override, fowner, fsetid, kill, setgid, setuid\nberth.toml:6:12: containers.regions: \"a b\" is no name of a region; expected up to 63 letters, digits, `-`, `_` and `.`",
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
