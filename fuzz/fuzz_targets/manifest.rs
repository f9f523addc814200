//! `berth.toml`: any text is a manifest or refused with places that are in the text. A manifest's routes survive
//! their text form.

#![no_main]

use std::path::Path;

use berth_common::manifest::Manifest;
use berth_common::spec::PathPattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match Manifest::parse(Path::new("berth.toml"), text) {
        Ok(manifest) => manifest.routes.iter().for_each(|route| {
            assert_eq!(PathPattern::new(&route.path.to_string()).as_ref(), Ok(&route.path));
        }),
        Err(problems) => assert!(!problems.to_string().is_empty()),
    }
});
