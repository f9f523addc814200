//! Manifests, configurations and names of images: any bytes are read within the bounds or refused, and names survive
//! their way out and in again.

#![no_main]

use std::fmt;
use std::str::FromStr;

use berth_common::image::{Architecture, Digest, Named, Reference, Registry, Repository, Tag};
use berth_images::manifest::{Config, MAX_LAYERS, MAX_MANIFESTS, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let config = Config::read(bytes);
    if let Ok(config) = &config {
        assert!(config.cwd.starts_with('/') && config.diff_ids.len() <= MAX_LAYERS);
    }
    match Manifest::read(bytes) {
        Ok(Manifest::Image(image)) => {
            assert!(image.layers.len() <= MAX_LAYERS && i64::try_from(image.bytes()).is_ok());
            if let Ok(config) = &config {
                let _ = image.layers_of(config);
            }
        }
        Ok(Manifest::Index(index)) => {
            assert!(index.manifests.len() <= MAX_MANIFESTS);
            let chosen = Architecture::of_name("amd64").and_then(|of| index.choose(of));
            assert!(chosen.is_none_or(|chosen| index.manifests.contains(chosen)));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        round_trip::<Digest>(text);
        round_trip::<Repository>(text);
        round_trip::<Tag>(text);
        round_trip::<Registry>(text);
        round_trip::<Named>(text);
        round_trip::<Reference>(text);
    }
});

fn round_trip<T: FromStr + fmt::Display + fmt::Debug + PartialEq>(text: &str) {
    if let Ok(name) = text.parse::<T>() {
        assert_eq!(name.to_string().parse::<T>().ok().as_ref(), Some(&name), "{text:?} became {name}");
    }
}
