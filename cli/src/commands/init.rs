//! `berth init`: a first `berth.toml`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use berth_common::ids::AppName;
use berth_common::manifest::ImageSource;

use crate::app::MANIFEST;
use crate::args::Init;
use crate::failure::bad_input;
use crate::output;

pub(crate) fn run(args: &Init) -> Result<()> {
    let name = match &args.name {
        Some(name) => {
            name.parse().map_err(|error| bad_input(anyhow::anyhow!("the name {name:?} {error}")))?
        }
        None => name_of(&args.dir)?,
    };
    fs::create_dir_all(&args.dir).with_context(|| format!("cannot make {}", args.dir.display()))?;
    let file = args.dir.join(MANIFEST);
    match OpenOptions::new().write(true).create_new(true).open(&file) {
        Ok(mut opened) => opened.write_all(manifest(&name, &args.image, args.port).as_bytes())?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            bail!("{} is there already; nothing was changed", file.display())
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {}", file.display())),
    }
    output::line(format_args!("wrote {}", file.display()))?;
    let source: Option<ImageSource> = args.image.parse().ok();
    let missing = matches!(source, Some(ImageSource::Path(path)) if !args.dir.join(&path).exists());
    if missing {
        output::note!(
            "next: put a static binary at {}, or name another image in it; then: berth dev",
            args.image
        );
    } else {
        output::note!("next: berth dev {}", args.dir.display());
    }
    Ok(())
}

/// The directory's name, as far as it can be an app's.
fn name_of(directory: &Path) -> Result<AppName> {
    let absolute = std::path::absolute(directory)?;
    let name = absolute.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let name = name.trim_matches('-').chars().take(63).collect::<String>();
    name.parse().map_err(|_| bad_input(anyhow::anyhow!("the directory's name can be no app's; give --name")))
}

fn manifest(name: &AppName, image: &str, port: u16) -> String {
    // Texts of TOML are written as those of JSON.
    let image = serde_json::Value::from(image);
    format!(
        r#"# What Berth runs, and which requests go where. `berth check` tells what is wrong with it, `berth schema` prints
# its JSON Schema for editors.
name = "{name}"

[[containers]]
class_name = "App"
# A static binary, a directory that holds a whole root file system, a Dockerfile, "oci:" and an image layout, or an image of
# a registry such as "ghcr.io/me/app:1".
image = {image}
# lite, basic, standard-1 to standard-4, or {{ vcpu = 0.25, memory = "512MiB", disk = "1GB" }}
instance_type = "lite"
# The port that the program listens on.
default_port = {port}
# How long a container stays without requests.
sleep_after = "10m"
# Whether it may reach the internet, which is the default.
enable_internet = true

# Each ID in the path is an object with a container of its own: /container/1, /container/2, ...
[[routes]]
path = "/container/{{id}}/*"
class = "App"
object = "{{id}}"
"#
    )
}

#[cfg(test)]
mod tests {
    use berth_common::manifest::Manifest;

    use super::*;

    fn args(dir: &Path) -> Init {
        Init { dir: dir.to_owned(), name: None, image: "./a \"b\"".to_owned(), port: 81 }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("my app");
        run(&args(&dir)).unwrap();
        let text = fs::read_to_string(dir.join(MANIFEST)).unwrap();
        let manifest = Manifest::parse(Path::new(MANIFEST), &text).unwrap();
        assert_eq!(manifest.name.as_str(), "my-app");
        assert_eq!(manifest.classes[0].image.source.path(), Some(Path::new("./a \"b\"")));
        assert_eq!(manifest.classes[0].default_port, Some(81));
    }

    #[test]
    fn nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MANIFEST), "mine").unwrap();
        let init = Init { name: Some("a".to_owned()), ..args(dir.path()) };
        assert!(run(&init).unwrap_err().to_string().contains("is there already"));
        assert_eq!(fs::read_to_string(dir.path().join(MANIFEST)).unwrap(), "mine");
    }
}
