//! The program that Berth and workerd both run: three routes, each of which goes one step further.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::packages;
use crate::programs::HELLO;

/// Name of the app, and the compatibility date of both.
pub const NAME: &str = "routes";
/// Compatibility date.
pub const DATE: &str = "2026-01-31";
/// Ends the container of the third.
pub const END: &str = "/end/a";
/// The program itself; an object of it; the server in the container of an object.
pub const ROUTES: [(&str, &str); 3] =
    [("worker", "/worker/a"), ("object", "/object/a"), ("container", "/container/a/status/200")];
/// The npm package that containers are programmed with.
const PACKAGE: &str = "@cloudflare/containers@0.3.7";

const SOURCE: &str = r#"import { DurableObject } from "cloudflare:workers";
import { Container, getContainer } from "@cloudflare/containers";
export class Plain extends DurableObject { fetch() { return new Response("x"); } }
export class Box extends Container { defaultPort = 8080; enableInternet = false; }
export default { fetch(request, env) {
    const [, route, id] = new URL(request.url).pathname.split("/");
    switch (route) {
        case "worker": return new Response("x");
        case "end": return getContainer(env.BOX, id).destroy().then(() => new Response("ended"));
        case "object": return env.PLAIN.getByName(id).fetch(request);
        default: return getContainer(env.BOX, id).fetch(request);
    }
} };
"#;

/// Writes the project into this directory, with its packages installed and this program as its image.
pub fn write(directory: &Path, image: &Path) -> Result<()> {
    fs::copy(image, directory.join(HELLO)).context("copy the image's program")?;
    fs::write(directory.join("index.js"), SOURCE)?;
    configure(directory, 0)?;
    fs::write(directory.join("package.json"), r#"{"private": true}"#)?;
    install(directory)
}

/// Writes the configuration of a version: the number is in what the program sees.
pub fn configure(directory: &Path, number: usize) -> Result<()> {
    let configuration = json!({
        "name": NAME, "vars": {"NUMBER": number}, "main": "index.js", "compatibility_date": DATE,
        "containers": [{"class_name": "Box", "image": format!("./{HELLO}"), "max_instances": 2}],
        "durable_objects": {"bindings": [
            {"name": "PLAIN", "class_name": "Plain"}, {"name": "BOX", "class_name": "Box"},
        ]},
        "migrations": [{"tag": "v1", "new_sqlite_classes": ["Plain", "Box"]}],
    });
    fs::write(directory.join("wrangler.json"), configuration.to_string()).context("write wrangler.json")
}

fn install(directory: &Path) -> Result<()> {
    packages::need(&[("npm", "npm")])?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--no-update-notifier", PACKAGE]);
    let output = npm.current_dir(directory).output().context("run npm")?;
    ensure!(output.status.success(), "npm install: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
