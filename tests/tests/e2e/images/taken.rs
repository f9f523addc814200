//! Images as Docker and Podman take them, also unusual ones; and what no node could run is refused before it is sent.

use anyhow::{Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::image::{Layout, TAR, TAR_GZIP, architecture, digest};
use berth_tests::scenario::{Outcome, scenario};
use serde_json::{Value, json};

use super::{app, ask, program, refusal};

/// An archive of the file `xz` with five bytes, as `xz` compresses it, in hexadecimal digits; and its digest before that.
const XZ: &str = "fd377a585a000004e6d6b4460200210116000000742fe5a3e027ff005a5d003c1e7c1ba0a25137afc1156b1f467c4a3dda7d\
    0a8e0f54b2b8ec1602c31ab2cef4377d05b8c9c260423b9e94eb449435eecc66a74dc768bb67a639de98b2983edf552b63ec\
    8d8e868f7bb448c01faba25b21163834b0932ffe0000000042992b6a1b3da93800017680500000003185c564b1c467fb0200\
    00000004595a";
const XZ_DIFF: &str = "sha256:961039ef66f72aac64603e72f7e8bb0af28a94603c352cc1c90a7915869fec6f";
/// The first uid that a container cannot have, and the last that it can.
const BEYOND: u64 = 65_536;
const LAST: u64 = 65_535;
const NONDISTRIBUTABLE: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";

/// A layer above the program's.
struct Above {
    kind: &'static str,
    bytes: Vec<u8>,
    diff: String,
}

impl Above {
    fn plain(kind: &'static str, bytes: Vec<u8>) -> Self {
        let diff = digest(&bytes);
        Self { kind, bytes, diff }
    }
}

fn owned(path: &str, uid: u64) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_uid(uid);
    header.set_gid(uid.min(LAST));
    header.set_mode(0o644);
    header.set_size(1);
    header.set_path(path)?;
    header.set_cksum();
    archive.append(&header, &b"x"[..])?;
    Ok(archive.into_inner()?)
}

/// An image of the program and these layers, run like this.
fn image(cluster: &Cluster, name: &str, above: Vec<Above>, config: &Value) -> Result<String> {
    let layout = Layout::create(&cluster.make_directory(&format!("image-{name}"))?)?;
    let below = program(cluster)?.into_bytes()?;
    let (mut layers, mut diffs) = (vec![layout.blob(TAR, &below)?], vec![json!(digest(&below))]);
    for Above { kind, bytes, diff } in above {
        layers.push(layout.blob(kind, &bytes)?);
        diffs.push(json!(diff));
    }
    let image = layout.image_of(&layers, diffs, config, architecture())?;
    layout.finish(&image)
}

#[test]
fn a5_images_are_taken_as_docker_and_podman_take_them() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let xz = Above { kind: TAR_GZIP, bytes: hex::decode(XZ)?, diff: XZ_DIFF.to_owned() };
        let cases = [
            ("no-bytes", vec![Above::plain(TAR, Vec::new())], json!({"Entrypoint": ["/app/hello"]})),
            ("xz", vec![xz], json!({"Entrypoint": ["/app/hello"]})),
            (
                "withheld",
                vec![Above::plain(NONDISTRIBUTABLE, owned("withheld", 0)?)],
                json!({"Entrypoint": ["/app/hello"]}),
            ),
            ("last-id", vec![Above::plain(TAR, owned("last", LAST)?)], json!({"Entrypoint": ["/app/hello"]})),
            ("no-entry", vec![], json!({"Entrypoint": [""], "Cmd": ["/app/hello"]})),
        ];
        for (name, above, config) in cases {
            cluster.deploy(&app(name, image(cluster, name, above, &config)?)).await?;
            ask(cluster, name, "x").await?;
        }
        Ok(())
    })
}

#[test]
fn a5_what_no_node_could_unpack_is_refused_before_anything_is_sent() -> Outcome {
    scenario(Setup::nodes(1), async |cluster| {
        let config = json!({"Entrypoint": ["/app/hello"]});
        let bzip2 = Above::plain(TAR, b"BZh91AY&SY, and so on".to_vec());
        let beyond = Above::plain(TAR, owned("srv/theirs", BEYOND)?);
        for (name, above, expected) in [
            ("beyond", beyond, ["`srv/theirs`", "65536", "chown"]),
            ("bzip2", bzip2, ["bzip2", "gzip", "xz"]),
        ] {
            let app = app(name, image(cluster, name, vec![above], &config)?);
            let error = refusal(&cluster.try_deploy(&app, &[]).await?)?;
            for part in expected {
                ensure!(error.contains(part), "{part} is not in it: {error}");
            }
        }
        let images = cluster.admin().get("/v1/images").await?;
        ensure!(images["images"] == json!([]), "something was pushed: {images}");
        ensure!(super::expect_sound_blobs(cluster)? == 0, "a part was sent");
        Ok(())
    })
}
