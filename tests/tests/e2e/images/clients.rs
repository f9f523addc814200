//! Common clients of registries, against the edge's registry.

use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::isolated::Isolated;
use berth_tests::programs::HELLO;
use berth_tests::registry::{self, Registry, USER};
use berth_tests::scenario::{Outcome, scenario};

use super::{app, ask, image_of};

/// The programs, an image of the test's in a compressed layout, and a registry that they may push to.
struct Desk {
    tools: Isolated,
    registry: Registry,
    layout: String,
}

/// A cluster with one node and a registry.
fn with_registry(steps: impl AsyncFnOnce(&mut Cluster, SocketAddr) -> Result<()>) -> Outcome {
    let (address, edge_options) = Registry::free_address()?;
    let setup = Setup { edge_options, ..Setup::nodes(1) };
    scenario(setup, async |cluster| steps(cluster, address).await)
}

async fn desk(cluster: &Cluster, address: SocketAddr) -> Result<Desk> {
    let tools = Isolated::prepare(&cluster.directory().join("tools"))?;
    let registry = Registry::of(cluster, address).await?;
    let plain = image_of(cluster, "demo", &[("noise", 100_000)])?;
    let layout = format!("oci:{}", tools.path("demo").display());
    tools.run(&["skopeo", "copy", "--quiet", "--dest-compress", &plain, &layout]).await?;
    Ok(Desk { tools, registry, layout })
}

impl Desk {
    /// skopeo's name for a path of its own in this form.
    fn target(&self, form: &str, name: &str) -> String {
        let tag = if form == "docker-archive" { ":demo/app:1" } else { "" };
        format!("{form}:{}{tag}", self.tools.path(name).display())
    }

    async fn copy(&self, from: &str, to: &str) -> Result<()> {
        let options = ["skopeo", "copy", "--quiet", "--src-tls-verify=false", "--dest-tls-verify=false"];
        self.tools.run(&[&options[..], &[from, to]].concat()).await.map(drop)
    }

    /// The manifest of an image, and its configuration, as they are.
    async fn documents(&self, image: &str) -> Result<[String; 2]> {
        let raw = ["skopeo", "inspect", "--tls-verify=false", "--raw"];
        let manifest = self.tools.run(&[&raw[..], &[image]].concat()).await?;
        Ok([manifest, self.tools.run(&[&raw[..], &["--config", image]].concat()).await?])
    }
}

#[test]
fn a4_skopeo_copies_layouts_archives_and_directories_in_and_out() -> Outcome {
    with_registry(async |cluster, address| {
        let desk = desk(cluster, address).await?;
        desk.registry.log_in(&desk.tools).await?;
        let original = desk.documents(&desk.layout).await?;
        for form in ["oci", "dir", "docker-archive"] {
            let (source, back) =
                (desk.target(form, &format!("{form}-in")), desk.target(form, &format!("{form}-out")));
            let there = desk.registry.docker(&format!("copies/{form}:1"));
            desk.copy(&desk.layout, &source).await?;
            desk.copy(&source, &there).await.with_context(|| format!("push from {form}"))?;
            desk.copy(&there, &back).await.with_context(|| format!("pull to {form}"))?;
            let [stored, returned] = [desk.documents(&there).await?, desk.documents(&back).await?];
            ensure!(stored[1] == original[1], "{form}: another configuration: {}", stored[1]);
            ensure!(returned[1] == original[1], "{form}: another configuration came back: {}", returned[1]);
            // An archive has its layers uncompressed, and so another manifest.
            if form != "docker-archive" {
                ensure!(stored[0] == original[0], "{form}: another manifest: {}", stored[0]);
                ensure!(returned[0] == original[0], "{form}: another manifest came back: {}", returned[0]);
            }
        }
        super::expect_sound_blobs(cluster)?;
        ensure!(super::uploads(cluster).is_empty(), "uploads are left: {:?}", super::uploads(cluster));
        Ok(())
    })
}

#[test]
fn a4_a_layer_that_the_registry_has_is_not_sent_again() -> Outcome {
    with_registry(async |cluster, address| {
        let desk = desk(cluster, address).await?;
        desk.registry.log_in(&desk.tools).await?;
        let first = desk.registry.push(&desk.tools, &desk.layout, "once/a:1").await?;
        let stored = super::expect_sound_blobs(cluster)?;
        let second = desk.registry.push(&desk.tools, &desk.layout, "twice/b:1").await?;
        ensure!(first == second, "one image has two digests: {first} and {second}");
        let more = super::expect_sound_blobs(cluster)? - stored;
        ensure!(more == 0, "{more} bytes more are stored for the same image under another name");
        Ok(())
    })
}

#[test]
fn a4_podman_pulls_pushes_and_pulls_again() -> Outcome {
    with_registry(async |cluster, address| {
        let Desk { tools, registry, layout } = desk(cluster, address).await?;
        let plain = "--tls-verify=false";
        let host = address.to_string();
        tools.run(&["podman", "login", plain, "-u", USER, "-p", registry.token(), &host]).await?;
        registry.push(&tools, &layout, "podman/app:1").await?;
        let (pushed, again) = (registry.image("podman/app:1"), registry.image("podman/again:2"));
        let id = tools.run(&["podman", "pull", "--quiet", plain, &pushed]).await?;
        tools.run(&["podman", "push", "--quiet", plain, &id, &format!("docker://{again}")]).await?;
        tools.run(&["podman", "rmi", "--all", "--force"]).await?;
        let returned = tools.run(&["podman", "pull", "--quiet", plain, &again]).await?;
        ensure!(id == returned, "{id} was pushed, and {returned} came back");
        cluster.deploy(&app("podman", "berth:podman/again:2".to_owned())).await?;
        ask(cluster, "podman", "x").await
    })
}

/// What buildah builds: from nothing; and in stages, from an image of the registry.
async fn build(desk: &Desk, cluster: &Cluster) -> Result<()> {
    let context = desk.tools.path("context");
    fs::create_dir_all(&context)?;
    fs::copy(cluster.program(HELLO), context.join("hello"))?;
    fs::write(context.join("page"), "page")?;
    let base = desk.registry.image("built/plain:1");
    let stages = format!(
        "FROM {base} AS tools\nFROM scratch AS pages\nCOPY page /pages/page\nFROM scratch\n\
         COPY --from=tools /app/hello /bin/hello\nCOPY --from=pages /pages /srv\nENV GREETING=built\nUSER 1000:1000\n\
         ENTRYPOINT [\"/bin/hello\"]\n"
    );
    let plain = "FROM scratch\nCOPY hello /app/hello\nENTRYPOINT [\"/app/hello\"]\n".to_owned();
    for (name, dockerfile) in [("plain", plain), ("stages", stages)] {
        let file = context.join(format!("Dockerfile.{name}"));
        fs::write(&file, dockerfile)?;
        let (file, tag) = (file.to_string_lossy(), desk.registry.image(&format!("built/{name}:1")));
        let bud = ["buildah", "bud", "--quiet", "--tls-verify=false", "--tag", &tag, "--file", &*file];
        desk.tools.run(&[&bud[..], &[&*context.to_string_lossy()]].concat()).await?;
        desk.tools.run(&["buildah", "push", "--quiet", "--tls-verify=false", &tag]).await?;
    }
    Ok(())
}

#[test]
fn a4_what_buildah_builds_is_pushed_deployed_and_answers() -> Outcome {
    with_registry(async |cluster, address| {
        let desk = desk(cluster, address).await?;
        desk.registry.log_in(&desk.tools).await?;
        build(&desk, cluster).await?;
        for (name, image) in [("plain", "berth:built/plain:1"), ("stages", "berth:built/stages:1")] {
            cluster.deploy(&app(name, image.to_owned())).await?;
            ask(cluster, name, "x").await?;
        }
        let greeting = cluster.client().get("/stages/x/env/GREETING").await?.success()?.text;
        ensure!(greeting == "built", "the image's environment is not there: {greeting}");
        Ok(())
    })
}

#[test]
fn a4_clients_without_a_valid_token_are_refused() -> Outcome {
    with_registry(async |cluster, address| {
        let Desk { tools, registry, layout } = desk(cluster, address).await?;
        let (host, image) = (address.to_string(), registry.docker("secret/app:1"));
        let login = ["skopeo", "login", "--tls-verify=false", "-u", USER, "-p"];
        let good = registry.token();
        for bad in ["wrong", "berth_00", &good[..good.len() - 1]] {
            let error = tools.refused(&[&login[..], &[bad, &host]].concat()).await?;
            ensure!(error.contains("invalid username/password") || error.contains("unauthorized"), "{error}");
        }
        let push = ["skopeo", "copy", "--quiet", "--dest-tls-verify=false"];
        let pull = ["skopeo", "copy", "--quiet", "--src-tls-verify=false"];
        let there = format!("dir:{}", tools.path("stolen").display());
        let reader = format!("{USER}:{}", registry::token(&cluster.admin(), "read").await?);
        tools.refused(&[&push[..], &[&layout, &image]].concat()).await?;
        tools.refused(&[&push[..], &["--dest-creds", &reader, &layout, &image]].concat()).await?;
        let owner = format!("{USER}:{good}");
        tools.run(&[&push[..], &["--dest-creds", &owner, &layout, &image]].concat()).await?;
        tools.refused(&[&pull[..], &[&image, &there]].concat()).await?;
        tools.refused(&[&pull[..], &["--src-creds", "berth:wrong", &image, &there]].concat()).await?;
        tools.run(&[&pull[..], &["--src-creds", &reader, &image, &there]].concat()).await?;
        let logs = cluster.edge()?.log();
        ensure!(!logs.contains(good), "the edge's log has a token in it");
        Ok(())
    })
}

/// A certificate for this machine's loopback that is its own authority.
fn certificate(directory: &Path) -> Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o755))?;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    fs::write(directory.join("ca.crt"), made.cert.pem())?;
    fs::write(directory.join("registry.key"), made.signing_key.serialize_pem())?;
    Ok(())
}

#[test]
fn a4_over_tls_clients_trust_only_the_registrys_own_certificate() -> Outcome {
    let directory = tempfile::tempdir().context("a directory")?;
    certificate(directory.path())?;
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (address, mut edge_options) = Registry::free_address()?;
    edge_options.push(format!("--registry-cert={}", file("ca.crt")));
    edge_options.push(format!("--registry-key={}", file("registry.key")));
    scenario(Setup { edge_options, ..Setup::nodes(1) }, async |cluster| {
        let Desk { tools, registry, layout } = desk(cluster, address).await?;
        // The key is not theirs.
        let trust = tools.path("trust");
        fs::create_dir_all(&trust)?;
        fs::copy(file("ca.crt"), trust.join("ca.crt"))?;
        let (trust, host) = (trust.to_string_lossy().into_owned(), address.to_string());
        let login = ["podman", "login", "-u", USER, "-p", registry.token(), &host];
        tools.refused(&login).await?;
        tools.run(&[&login[..], &["--cert-dir", &trust]].concat()).await?;
        let image = registry.docker("tls/app:1");
        tools.refused(&["skopeo", "copy", "--quiet", &layout, &image]).await?;
        tools.run(&["skopeo", "copy", "--quiet", "--dest-cert-dir", &trust, &layout, &image]).await?;
        let back = format!("dir:{}", tools.path("back").display());
        tools.run(&["skopeo", "copy", "--quiet", "--src-cert-dir", &trust, &image, &back]).await?;
        cluster.deploy(&app("tls", "berth:tls/app:1".to_owned())).await?;
        ask(cluster, "tls", "x").await
    })
}
