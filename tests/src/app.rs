//! The app that scenarios deploy: examples/hello with a scenario's settings, as a `berth.toml`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use crate::programs::HELLO;

/// The settings that a scenario may change. Everything else is as in the example.
#[derive(Debug, Clone)]
pub struct App {
    /// The program that is its image.
    pub program: &'static str,
    /// An image in place of that program, as `berth.toml` names it.
    pub image: Option<String>,
    /// Its name; two apps of a cluster need two.
    pub name: &'static str,
    /// First part of its paths: `/PREFIX/{id}/...`.
    pub prefix: &'static str,
    /// How long an instance stays without activity.
    pub sleep_after: &'static str,
    /// How long requests wait for its port.
    pub port_timeout: &'static str,
    /// Virtual CPUs of an instance, a multiple of 1/16.
    pub vcpu: f64,
    /// Memory of an instance.
    pub memory: &'static str,
    /// Disk of an instance.
    pub disk: &'static str,
    /// Most instances at once.
    pub max_instances: Option<u32>,
    /// Replaces the image's own entrypoint.
    pub entrypoint: Option<Vec<&'static str>>,
    /// Whether it may reach the internet.
    pub internet: bool,
    /// Sections of its own, before all others.
    pub first: &'static str,
    /// Lines of its own, in the class's section.
    pub more: &'static str,
    /// Memory of all instances together.
    pub limit_memory: &'static str,
    /// Environment.
    pub env: BTreeMap<&'static str, &'static str>,
}

impl Default for App {
    fn default() -> Self {
        Self {
            program: HELLO,
            image: None,
            name: "hello",
            prefix: "container",
            sleep_after: "10m",
            port_timeout: "20s",
            vcpu: 1.0,
            memory: "128MiB",
            disk: "1GB",
            max_instances: None,
            entrypoint: None,
            internet: false,
            first: "",
            more: "",
            limit_memory: "100TB",
            env: BTreeMap::new(),
        }
    }
}

impl App {
    /// Its `berth.toml`, with the image at this path.
    pub fn manifest(&self, image: &Path) -> String {
        let image = self.image.clone().unwrap_or_else(|| image.display().to_string());
        let Self {
            name,
            prefix,
            sleep_after,
            port_timeout,
            vcpu,
            memory,
            disk,
            internet,
            first,
            more,
            limit_memory,
            ..
        } = self;
        let mut text = format!(
            "name = \"{name}\"\n\n{first}\n\n[limits]\nmemory = \"{limit_memory}\"\nvcpu = 1000\ndisk = \"100TB\"\n\n[[containers]]\nclass_name = \"Hello\"\nimage = {image:?}\n\
             instance_type = {{ vcpu = {vcpu}, memory = \"{memory}\", disk = \"{disk}\" }}\ndefault_port = 8080\n\
             sleep_after = \"{sleep_after}\"\nport_timeout = \"{port_timeout}\"\nenable_internet = {internet}\n{more}\n"
        );
        // Writing to a text cannot fail.
        if let Some(max) = self.max_instances {
            let _ = writeln!(text, "max_instances = {max}");
        }
        if let Some(words) = &self.entrypoint {
            let _ = writeln!(text, "entrypoint = {words:?}");
        }
        let _ = writeln!(text, "\n[containers.env]");
        for (name, value) in &self.env {
            let _ = writeln!(text, "{name} = {value:?}");
        }
        let _ = write!(
            text,
            "\n[[routes]]\npath = \"/{prefix}/{{id}}/*\"\nclass = \"Hello\"\nobject = \"{{id}}\"\n"
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use berth_common::manifest::Manifest;

    #[test]
    fn every_wish_is_in_a_manifest_that_berth_reads() {
        let app = App {
            max_instances: Some(3),
            entrypoint: Some(vec!["/app/hello", "-v"]),
            env: BTreeMap::from([("NEVER_LISTEN", "1")]),
            ..App::default()
        };
        let manifest =
            Manifest::parse(Path::new("berth.toml"), &app.manifest(Path::new("/x/hello"))).unwrap();
        let class = &manifest.classes[0];
        assert_eq!((class.resources.cpu_sixteenths, class.max_instances), (16, Some(3)));
        assert_eq!(class.entrypoint.as_ref().unwrap()[1], "-v");
        assert_eq!(class.env["NEVER_LISTEN"], "1");
        assert!(manifest.routes[0].path.captures("/container/7/x").is_some());
    }
}
