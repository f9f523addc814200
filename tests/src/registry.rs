//! The edge's registry as its clients know it: an address, any user name, and a token as the password.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, LOCATION};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use crate::admin::Admin;
use crate::client::Answer;
use crate::cluster::Cluster;
use crate::image;
use crate::isolated::Isolated;
use crate::ports;

/// The name that its users go by.
pub const USER: &str = "berth";

/// A registry, and a token for it.
#[derive(Debug, Clone)]
pub struct Registry {
    address: SocketAddr,
    token: String,
}

impl Registry {
    /// A free address for the registry of an edge, and the edge's options for it.
    pub fn free_address() -> Result<(SocketAddr, Vec<String>)> {
        let address = ports::free_address()?;
        Ok((address, vec!["--registry-listen".to_owned(), address.to_string()]))
    }

    /// The one of this cluster's edge, with a new token that may push and pull.
    pub async fn of(cluster: &Cluster, address: SocketAddr) -> Result<Self> {
        Ok(Self { address, token: token(&cluster.admin(), "deploy").await? })
    }

    /// What is given for a password.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// An image in it, as its clients name it.
    pub fn image(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// The same for skopeo.
    pub fn docker(&self, name: &str) -> String {
        format!("docker://{}", self.image(name))
    }

    /// Logs these programs in with the token.
    pub async fn log_in(&self, tools: &Isolated) -> Result<()> {
        let address = self.address.to_string();
        let args = ["skopeo", "login", "--tls-verify=false", "-u", USER, "-p", &self.token, &address];
        tools.run(&args).await.map(drop)
    }

    /// Pushes an image from anywhere that skopeo reads, and returns its digest.
    pub async fn push(&self, tools: &Isolated, from: &str, name: &str) -> Result<String> {
        let digest = tools.path("digest").to_string_lossy().into_owned();
        let options =
            ["skopeo", "copy", "--quiet", "--dest-tls-verify=false", "--all", "--digestfile", &digest];
        tools.run(&[&options[..], &[from, &self.docker(name)]].concat()).await?;
        Ok(std::fs::read_to_string(&digest)?.trim().to_owned())
    }

    /// Gives it a blob with this digest, whether it is the right one or not.
    pub async fn put_blob(&self, repository: &str, digest: &str, bytes: &[u8]) -> Result<Answer> {
        let begun = self.send(Method::POST, &format!("/v2/{repository}/blobs/uploads/"), None, &[]).await?;
        ensure!(begun.status == 202, "{}: {}", begun.status, begun.text);
        let location = begun.headers.get(LOCATION).context("no location")?.to_str()?.to_owned();
        let path = location.find("/v2/").map_or("", |at| &location[at..]);
        let joint = if path.contains('?') { '&' } else { '?' };
        self.send(Method::PUT, &format!("{path}{joint}digest={digest}"), None, bytes).await
    }

    /// Puts a manifest of this kind there, valid or not.
    pub async fn put_manifest(
        &self,
        repository: &str,
        tag: &str,
        kind: &str,
        bytes: &[u8],
    ) -> Result<Answer> {
        self.send(Method::PUT, &format!("/v2/{repository}/manifests/{tag}"), Some(kind), bytes).await
    }

    /// Pushes an image in parts; fails unless all are accepted.
    pub async fn put_image(&self, name: (&str, &str), layers: &[Vec<u8>], config: &[u8]) -> Result<String> {
        let (repository, tag) = name;
        let mut named = Vec::new();
        for (kind, bytes) in
            layers.iter().map(|layer| (image::TAR, layer.as_slice())).chain([(image::CONFIG, config)])
        {
            let digest = image::digest(bytes);
            self.put_blob(repository, &digest, bytes).await?.success()?;
            named.push(json!({"mediaType": kind, "digest": digest, "size": bytes.len()}));
        }
        let config = named.pop().context("a configuration was pushed")?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": image::MANIFEST, "config": config, "layers": named});
        let manifest = manifest.to_string().into_bytes();
        self.put_manifest(repository, tag, image::MANIFEST, &manifest).await?.success()?;
        Ok(image::digest(&manifest))
    }

    /// A whole answer to a request with its token.
    pub async fn send(&self, method: Method, path: &str, kind: Option<&str>, body: &[u8]) -> Result<Answer> {
        let stream = TcpStream::connect(self.address).await.context("connect to the registry")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = Request::builder().method(&method).uri(path).header(HOST, self.address.to_string());
        let request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        let request = request.header(CONTENT_TYPE, kind.unwrap_or("application/octet-stream"));
        let response = sender.send_request(request.body(Full::new(Bytes::copy_from_slice(body)))?).await?;
        let (head, body) = response.into_parts();
        let text = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
        Ok(Answer { status: head.status, headers: head.headers, text })
    }
}

/// A new token with this scope.
pub async fn token(admin: &Admin, scope: &str) -> Result<String> {
    let (status, made) = admin.post("/v1/tokens", &json!({"name": "registry", "scope": scope})).await?;
    ensure!(status.is_success(), "{status}: {made}");
    Ok(made["token"].as_str().context("no token was made")?.to_owned())
}
