//! `berth schema`: the JSON Schema of `berth.toml`. What it cannot express, such as unique names, `berth
//! check` does.

use anyhow::Result;

use crate::output;

const SCHEMA: &str = include_str!("../../berth.schema.json");

pub(crate) fn run() -> Result<()> {
    Ok(output::line(SCHEMA.trim_end())?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use berth_common::manifest::Manifest;
    use serde_json::Value;

    use super::*;

    const ALL_KEYS: &str = include_str!("../../../fuzz/seeds/manifest/all-keys.toml");

    fn valid(text: &str) -> bool {
        let value: Value = toml::from_str(text).unwrap();
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        jsonschema::is_valid(&schema, &value)
    }

    #[test]
    fn what_berth_reads_is_valid_and_what_it_refuses_is_not() {
        let file = Path::new("berth.toml");
        let minimal = "name = \"a\"\n[[containers]]\nclass_name = \"A\"\nimage = \"x\"\ndefault_port = 80\n";
        for good in [
            ALL_KEYS,
            minimal,
            &format!("{minimal}sleep_after = \"5m\"\ninstance_type = \"lite\"\n"),
            &format!("{minimal}sleep_after = \"never\"\nnode_loss = \"never\"\n"),
        ] {
            assert!(Manifest::parse(file, good).is_ok() && valid(good), "{good}");
        }
        for more in [
            "[containers.callbacks.a]\npath = \"x\"",
            "[containers.callbacks.a]\ncolour = 1",
            "[containers.hooks]\nurl = \"https://x\"",
            "[containers.hooks]\nurl = \"ftp://x\"\nsecret = \"K\"",
            "[triggers]\ncrons = [\"* *\"]",
            "[triggers]\ncrons = [{ start = true }]",
            "colour = 1",
            "default_port = 0",
            "sleep_after = true",
            "max_instances = 0",
            "ping_endpoint = \"x\"",
            "instance_type = \"huge\"",
            "capabilities = [\"sys_admin\"]",
            "prepared = 65",
            "regions = []",
            "labels = { gpu = \"a b\" }",
            "spread = \"rack\"",
            "on_node_gone = \"weep\"",
            "node_loss = \"ever\"",
            "secrets = [\"A-B\"]",
        ] {
            let bad = format!(
                "{}{more}\n",
                minimal.replace(
                    "default_port = 80\n",
                    if more.starts_with("default") { "" } else { "default_port = 80\n" }
                )
            );
            assert!(Manifest::parse(file, &bad).is_err() && !valid(&bad), "{bad}");
        }
    }

    /// Every key of a section is in the file with all keys, and known to the schema with a description.
    #[test]
    fn every_key_is_described() {
        let schema: Value = serde_json::from_str(SCHEMA).unwrap();
        let all: Value = toml::from_str(ALL_KEYS).unwrap();
        let sections = [
            ("/properties", vec![&all]),
            ("/$defs/container/properties", all["containers"].as_array().unwrap().iter().collect()),
            ("/$defs/route/properties", all["routes"].as_array().unwrap().iter().collect()),
        ];
        for (pointer_to, tables) in sections {
            let known = schema.pointer(pointer_to).unwrap().as_object().unwrap();
            for (key, described) in known {
                assert!(described["description"].is_string(), "{pointer_to}/{key} has no description");
                assert!(
                    tables.iter().any(|table| table.get(key).is_some()),
                    "{pointer_to}/{key} is not in the file"
                );
            }
        }
    }
}
