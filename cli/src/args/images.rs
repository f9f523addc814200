//! Arguments of `berth images`, `berth registries` and `berth build`.

use std::ffi::OsString;
use std::path::PathBuf;

use berth_common::image::{Named, Registry, Tag};
use berth_common::manifest::ImageSource;
use clap::{Args as ClapArgs, Subcommand};

use super::{AdminArgs, EXIT_CODES, Show};
use crate::ids::ImageName;

const PUSH_EXAMPLES: &str = "\
Examples:
  berth images push ./server                        as server:latest
  berth images push . web:1                         built from the Dockerfile here
  berth images push oci:./layout team/web:1
  berth images push docker-archive:./web.tar web:1

Exit codes:
  0  it worked
  1  it did not work
  2  what was given is wrong";

const PULL_EXAMPLES: &str = "\
Examples:
  berth images pull alpine                          docker.io/library/alpine:latest
  berth images pull ghcr.io/me/web:1                berth.toml then names it berth:ghcr.io/me/web:1

Exit codes:
  0  it worked
  1  it did not work
  2  what was given is wrong";

const COPY_EXAMPLES: &str = "\
Examples:
  berth images copy berth:web:1 berth:web:stable             another tag
  berth images copy berth:web:1 ghcr.io/me/web:1             to another registry
  berth images copy ghcr.io/me/web:1 berth:web:1             from there, under a name of one's own

Exit codes:
  0  it worked
  1  it did not work
  2  what was given is wrong";

const BUILD_EXAMPLES: &str = "\
Examples:
  berth build                                       build, and show the digests
  berth build -p --tag v1                           also push, as APP/CLASS:v1
  berth build -- --build-arg VERSION=1 --pull       with arguments for docker, podman or buildah

Exit codes:
  0  it worked
  1  it did not work
  2  what was given is wrong";

const LOGIN_EXAMPLES: &str = "\
Examples:
  berth registries login ghcr.io -u me                       asks for the password
  cat token | berth registries login ghcr.io -u me --password-stdin

Exit codes:
  0  it worked
  1  it did not work
  2  what was given is wrong";

#[derive(Debug, Subcommand)]
pub(crate) enum Images {
    /// List the images of the edge's registry
    #[command(after_help = EXIT_CODES)]
    List(Show),
    /// Show one image: what it consists of, who uses it, and which nodes have it
    #[command(after_help = EXIT_CODES)]
    Info {
        #[command(flatten)]
        image: OneImage,
        #[command(flatten)]
        show: Show,
    },
    /// Push an image from this machine to the edge's registry
    ///
    /// Only what the edge lacks is sent. Broken off, it goes on when it is done again.
    #[command(after_help = PUSH_EXAMPLES)]
    Push {
        /// As `image` in berth.toml: a static binary, a root directory, a Dockerfile or a directory that holds one, `oci:` and
        /// a layout, `docker-archive:` and an archive
        source: ImageSource,
        /// What to call it there: REPOSITORY[:TAG] [default: the source's name, and `latest`]
        #[arg(value_parser = named)]
        name: Option<Named>,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Have the edge pull an image from another registry, and keep it with its tag
    ///
    /// With the user that this machine's Docker configuration knows for the registry, or else the one that the edge knows.
    #[command(after_help = PULL_EXAMPLES)]
    Pull {
        /// The image: HOST/REPOSITORY[:TAG|@DIGEST], where Docker's users may leave out what they are used to
        reference: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Delete an image: a tag, or with a digest the image and all its tags
    ///
    /// Refused while a version of an app uses it. The room that it takes is free after `berth images gc`.
    #[command(after_help = EXIT_CODES)]
    Delete {
        #[command(flatten)]
        image: OneImage,
        /// Also an image that versions of apps use: their containers do not start any more where no node has it
        #[arg(long)]
        force: bool,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Remove what nobody needs: images that have no tag and that no version of an app uses
    ///
    /// An edge does that by itself now and then. What was pushed within the last hour stays.
    #[command(after_help = EXIT_CODES)]
    Gc {
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        show: Show,
    },
    /// Copy an image between the edge's registry and others, or within it
    ///
    /// Each side is `berth:REPOSITORY:TAG`, or a reference of another registry. Goes through the edge, not through this machine.
    #[command(after_help = COPY_EXAMPLES)]
    Copy {
        /// What to copy
        from: String,
        /// Where to
        to: String,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Which image of the edge.
#[derive(Debug, ClapArgs)]
pub(crate) struct OneImage {
    /// The image: REPOSITORY[:TAG|@DIGEST]. The first digits of a digest are enough, as `berth images list` shows them
    #[arg(value_name = "IMAGE")]
    pub(crate) image: ImageName,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Registries {
    /// Give the edge a user and a password for another registry
    ///
    /// The registry is asked whether it takes them. The password is read from the terminal or from standard input, never from
    /// the command line, which other users could see. The edge keeps it encrypted, as it does secrets.
    #[command(after_help = LOGIN_EXAMPLES)]
    Login {
        /// The registry, such as ghcr.io or registry.example.com:5000
        host: Registry,
        /// The user [default: asked for]
        #[arg(long, short)]
        username: Option<String>,
        /// Read the password, or a token in its place, from standard input
        #[arg(long, requires = "username")]
        password_stdin: bool,
        /// Do not ask the registry whether it takes them
        #[arg(long)]
        no_verify: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// List the registries that the edge knows users of
    #[command(after_help = EXIT_CODES)]
    List(Show),
    /// Have the edge forget the user of a registry
    #[command(after_help = EXIT_CODES)]
    Logout {
        /// The registry
        host: Registry,
        /// Only shows what would be done
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Arguments of `berth build`.
#[derive(Debug, ClapArgs)]
#[command(after_help = BUILD_EXAMPLES)]
pub(crate) struct Build {
    /// The directory that holds berth.toml or a wrangler configuration
    #[arg(default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Also push the images to the edge's registry
    #[arg(long, short)]
    pub(crate) push: bool,
    /// The tag that pushed images get [default: none; `berth images gc` removes them in time]
    #[arg(long, value_name = "TAG", requires = "push")]
    pub(crate) tag: Option<Tag>,
    /// What docker, podman or buildah gets besides
    #[arg(last = true, value_name = "ARGS")]
    pub(crate) args: Vec<OsString>,
    #[command(flatten)]
    pub(crate) admin: AdminArgs,
}

/// An image of the edge, which may be written as in berth.toml.
fn named(text: &str) -> Result<Named, String> {
    let name = text.strip_prefix("berth:").unwrap_or(text);
    name.parse().map_err(|error| format!("{error}"))
}
