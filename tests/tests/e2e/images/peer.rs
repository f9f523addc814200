//! Images of other registries: pulled from a real one and pushed to it, with users, with a certificate authority of its
//! own, and over a connection that breaks.

use anyhow::{Context, Result, ensure};
use berth_tests::cluster::{Cluster, Setup};
use berth_tests::peer::{Cutting, Manner, PASSWORD, Peer, USER, digest_of};
use berth_tests::ports;
use berth_tests::scenario::{Outcome, scenario};
use hyper::StatusCode;
use serde_json::{Value, json};

/// An edge that may ask these registries, and those without TLS.
fn setup(plain: &[String]) -> Setup {
    let mut options = vec!["--allow-registries-on".to_owned(), "127.0.0.1/32".to_owned()];
    for host in plain {
        options.extend(["--plain-registry".to_owned(), host.clone()]);
    }
    Setup { edge_options: options, ..Setup::nodes(1) }
}

fn layer(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| fastrand::u8(..)).collect()
}

/// The last line of a transfer, and how many there were before it.
async fn moved(cluster: &Cluster, path: &str, order: &Value) -> Result<(Value, usize)> {
    let mut lines = cluster.admin().post_lines(path, order).await?;
    let last = lines.pop().context("the answer is empty")?;
    Ok((last, lines.len()))
}

async fn pull(cluster: &Cluster, reference: &str) -> Result<Value> {
    let order = json!({ "reference": reference, "tag": true });
    Ok(moved(cluster, "/v1/images/pull", &order).await?.0)
}

async fn make_key(cluster: &Cluster) -> Result<()> {
    let state = cluster.directory().join("edge").to_string_lossy().into_owned();
    let made = cluster.berth(&["secret", "init", "--state", &state]).await?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

#[test]
fn an_image_comes_from_a_registry_and_goes_to_another() -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let (one, two) = runtime.block_on(async {
        anyhow::Ok((Peer::start(Manner::default()).await?, Peer::start(Manner::default()).await?))
    })?;
    scenario(setup(&[one.address.to_string(), two.address.to_string()]), async |cluster| {
        let layers = [layer(3_000_000), layer(10)];
        let digest = one.put_image("team/app", "v1", &layers).await?;
        let from = format!("{}/team/app:v1", one.address);
        let order = json!({ "reference": from, "tag": true });
        let (done, steps) = moved(cluster, "/v1/images/pull", &order).await?;
        ensure!(done["done"]["digest"] == json!(digest), "{done}");
        ensure!(steps > 0, "no progress was told");
        let here = format!("berth:127.0.0.1_{}/team/app:v1", one.address.port());

        let to = format!("{}/copied/app:v2", two.address);
        let copied = moved(cluster, "/v1/images/copy", &json!({ "from": here, "to": to })).await?.0;
        ensure!(copied["done"]["digest"] == json!(digest), "{copied}");
        let (status, manifest) = two.get("/v2/copied/app/manifests/v2").await?;
        ensure!(status == StatusCode::OK && digest_of(&manifest) == digest, "{status}");
        for blob in &layers {
            let (status, found) = two.get(&format!("/v2/copied/app/blobs/{}", digest_of(blob))).await?;
            ensure!(status == StatusCode::OK && found == *blob, "{status}");
        }
        // Within one registry, and through this edge without a name here.
        let again = json!({ "from": to, "to": format!("{}/again:v3", two.address) });
        let copied = moved(cluster, "/v1/images/copy", &again).await?.0;
        ensure!(copied["done"]["digest"] == json!(digest), "{copied}");
        ensure!(two.get("/v2/again/manifests/v3").await?.0 == StatusCode::OK, "{}", two.log());

        let missing = pull(cluster, &format!("{}/team/none:v1", one.address)).await?;
        ensure!(missing["error"]["status"] == 404, "{missing}");
        Ok(())
    })
}

#[test]
fn a_registry_with_users_requires_the_right_password() -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let (open, closed) = runtime.block_on(async {
        let closed = Peer::start(Manner { users: true, tls: false }).await?;
        anyhow::Ok((Peer::start(Manner::default()).await?, closed))
    })?;
    let host = closed.address.to_string();
    scenario(setup(&[open.address.to_string(), host.clone()]), async |cluster| {
        make_key(cluster).await?;
        let digest = open.put_image("app", "v1", &[layer(100_000)]).await?;
        let (from, to) = (format!("{}/app:v1", open.address), format!("{host}/app:v1"));
        let order = json!({ "from": from, "to": to });
        let refused = moved(cluster, "/v1/images/copy", &order).await?.0;
        ensure!(refused["error"]["detail"].to_string().contains("berth registries login"), "{refused}");

        let path = format!("/v1/registries/{host}");
        let wrong = json!({ "username": USER, "password": "wrong" });
        let (status, reply) = cluster.admin().put(&path, &wrong).await?;
        ensure!(status == StatusCode::CONFLICT && reply.to_string().contains(USER), "{status}: {reply}");
        let right = json!({ "username": USER, "password": PASSWORD });
        let (status, reply) = cluster.admin().put(&path, &right).await?;
        ensure!(status == StatusCode::NO_CONTENT, "{status}: {reply}");
        let known = cluster.admin().get("/v1/registries").await?;
        ensure!(
            known["registries"][0]["username"] == USER && !known.to_string().contains(PASSWORD),
            "{known}"
        );

        let copied = moved(cluster, "/v1/images/copy", &order).await?.0;
        ensure!(copied["done"]["digest"] == json!(digest), "{copied}");
        ensure!(pull(cluster, &to).await?["done"]["digest"] == json!(digest), "not pulled back");
        // Credentials in the request override the stored ones.
        let order = json!({ "reference": to, "credentials": wrong });
        let refused = moved(cluster, "/v1/images/pull", &order).await?.0;
        ensure!(refused["error"]["status"] == 409, "{refused}");
        let log = std::fs::read_to_string(cluster.directory().join("logs/edge.log")).unwrap_or_default();
        ensure!(!log.contains(PASSWORD), "the log holds the password");

        cluster.admin().delete(&path).await?;
        let refused = pull(cluster, &to).await?;
        ensure!(refused["error"]["status"] == 409, "{refused}");
        Ok(())
    })
}

#[test]
fn a_registry_with_its_own_authority_is_trusted_if_the_edge_is_configured_to() -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let (open, secure) = runtime.block_on(async {
        let secure = Peer::start(Manner { users: false, tls: true }).await?;
        anyhow::Ok((Peer::start(Manner::default()).await?, secure))
    })?;
    let mut trusting = setup(&[open.address.to_string()]);
    // The daemons are another user than the tests.
    let directory = tempfile::tempdir().map_err(anyhow::Error::from)?;
    let authority = readable(directory.path(), &secure)?;
    trusting.edge_options.extend(["--registry-ca".to_owned(), authority]);
    let order =
        json!({ "from": format!("{}/app:v1", open.address), "to": format!("{}/app:v1", secure.address) });
    scenario(trusting, async |cluster| {
        let digest = open.put_image("app", "v1", &[layer(2_000_000)]).await?;
        let copied = moved(cluster, "/v1/images/copy", &order).await?.0;
        ensure!(copied["done"]["digest"] == json!(digest), "{copied}");
        let pulled = pull(cluster, &format!("{}/app@{digest}", secure.address)).await?;
        ensure!(pulled["done"]["digest"] == json!(digest), "{pulled}");
        Ok(())
    })?;
    scenario(setup(&[open.address.to_string()]), async |cluster| {
        let refused = moved(cluster, "/v1/images/copy", &order).await?.0;
        ensure!(refused["error"]["detail"].to_string().contains("TLS"), "{refused}");
        Ok(())
    })
}

fn readable(directory: &std::path::Path, peer: &Peer) -> Result<String> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    let file = directory.join("ca.pem");
    std::fs::copy(peer.authority(), &file)?;
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644))?;
    Ok(file.to_string_lossy().into_owned())
}

#[test]
fn a_pull_over_a_connection_that_breaks_is_resumed() -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let peer = runtime.block_on(Peer::start(Manner::default()))?;
    // The address must be known before the edge starts, and be served while it runs.
    let address = ports::free_address()?;
    scenario(setup(&[address.to_string()]), async |cluster| {
        let digest = peer.put_image("app", "v1", &[layer(20_000_000)]).await?;
        let cutting = Cutting::at(address, peer.address, 6_000_000, 2).await?;
        let pulled = pull(cluster, &format!("{address}/app:v1")).await?;
        ensure!(pulled["done"]["digest"] == json!(digest), "{pulled}");
        ensure!(cutting.cuts() == 2, "{} cuts", cutting.cuts());
        let partial = peer.log().matches("http.response.status=206").count();
        ensure!(partial == 2, "{partial} of the answers were parts");
        Ok(())
    })
}

#[test]
fn addresses_that_are_not_allowed_are_not_reached() -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(anyhow::Error::from)?;
    let peer = runtime.block_on(Peer::start(Manner::default()))?;
    scenario(Setup::nodes(1), async |cluster| {
        let refused = pull(cluster, &format!("{}/app:v1", peer.address)).await?;
        ensure!(refused["error"]["detail"].to_string().contains("--allow-registries-on"), "{refused}");
        Ok(())
    })
}
