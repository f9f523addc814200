//! Extended headers of archives that lie about names, sizes, owners and attributes.

use anyhow::{Result, ensure};
use berth_tests::cluster::Setup;
use berth_tests::image::digest;
use berth_tests::registry::Registry;
use berth_tests::scenario::{Outcome, scenario};

use super::{app, ask, image_config, program, refusal, until_swept};

/// A PAX record: its length, itself included, a keyword and a value.
fn record(keyword: &str, value: &[u8]) -> Vec<u8> {
    let rest = keyword.len() + value.len() + 3;
    let digits = |length: usize| length.to_string().len();
    let length =
        (1..10).map(|more| rest + more).find(|length| rest + digits(*length) == *length).unwrap_or(rest);
    [format!("{length} {keyword}=").as_bytes(), value, b"\n"].concat()
}

/// A file with an extended header before it.
fn extended(records: &[Vec<u8>], path: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let records = records.concat();
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(records.len() as u64);
    header.set_path("pax")?;
    header.set_cksum();
    archive.append(&header, records.as_slice())?;
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_path(path)?;
    header.set_cksum();
    archive.append(&header, bytes)?;
    Ok(archive.into_inner()?)
}

#[test]
fn a6_extended_headers_that_lie_do_no_harm() -> Outcome {
    let (address, edge_options) = Registry::free_address()?;
    scenario(Setup { edge_options, ..Setup::nodes(1) }, async |cluster| {
        let registry = Registry::of(cluster, address).await?;
        let canary = cluster.make_directory("canary")?.join("file");
        std::fs::write(&canary, "the node's own")?;
        let target = canary.display().to_string();
        let up = format!("../../../../../../../..{target}");
        let huge = vec![b'a'; 3 << 20];
        let cases: [(&'static str, Vec<Vec<u8>>); 9] = [
            ("pax-up", vec![record("path", up.as_bytes())]),
            ("pax-absolute", vec![record("path", target.as_bytes())]),
            ("pax-nul", vec![record("path", b"a\0b")]),
            ("pax-size", vec![record("size", b"99999999999999")]),
            ("pax-minus", vec![record("size", b"-1")]),
            ("pax-owner", vec![record("uid", b"4294967296"), record("gid", b"-5")]),
            ("pax-long", vec![record("path", &huge)]),
            ("pax-broken", vec![b"999999 path=x\n".to_vec()]),
            (
                "pax-xattr",
                vec![
                    record("SCHILY.xattr.trusted.overlay.opaque", b"y"),
                    record("SCHILY.xattr.user.overlay.redirect", target.as_bytes()),
                ],
            ),
        ];
        for (name, records) in cases {
            let layers = [program(cluster)?.into_bytes()?, extended(&records, "file", b"written")?];
            // `berth deploy` would find some of it in a layout.
            registry
                .put_image(("pax/app", name), &layers, &image_config(&layers.each_ref().map(|l| digest(l))))
                .await?;
            let image = format!("berth:pax/app:{name}");
            let output = cluster.try_deploy(&app(name, image), &["--wait-timeout", "30s"]).await?;
            if output.status.success() {
                ask(cluster, name, "x").await?;
            } else {
                println!("{name}: {}", refusal(&output)?);
            }
            ensure!(
                std::fs::read_to_string(&canary)? == "the node's own",
                "{name}: a file of the node was changed"
            );
        }
        until_swept(cluster, 0).await
    })
}
