//! The registry of the real edge: the protocol as clients use it, and the state after a kill, a full quota and a
//! collection.

mod client;
mod limits;
mod login;
mod protocol;

use berth_common::image::Digest;
use serde_json::json;

use self::client::Client;
use super::support::edge::{Edge, Site, certificates};
use super::support::image::Image;

/// An edge without a connected node, and a client that may do everything.
struct Setup {
    site: Site,
    edge: Edge,
    client: Client,
}

async fn set_up() -> Setup {
    set_up_with(&[]).await
}

async fn set_up_with(arguments: &[&str]) -> Setup {
    let site = Site::new(certificates(), "127.0.0.1:9".parse().unwrap());
    let edge = site.start_with(arguments).await;
    let client = Client { address: edge.registry, token: token(&edge, "deploy").await };
    Setup { site, edge, client }
}

/// A token with this scope.
async fn token(edge: &Edge, scope: &str) -> String {
    let body = json!({"name": "test", "scope": scope}).to_string();
    let made = super::support::client::request("POST", "/v1/tokens", body);
    let (_, answer) = super::support::client::admin(&edge.admin, made).await;
    answer["token"].as_str().unwrap().to_owned()
}

/// Pushes a whole image.
async fn push(client: &Client, repository: &str, tag: &str, image: &Image) {
    for blob in [&image.layer, &image.config] {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", Digest::of(blob));
        assert_eq!(client.send("POST", &path, &[], blob.clone()).await.status, 201);
    }
    let path = format!("/v2/{repository}/manifests/{tag}");
    let answer = client.send("PUT", &path, &[], image.manifest.clone()).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
}
