//! Another registry: the one that Debian packages, started on loopback with or without users and TLS; images that are
//! put into it by hand; and a proxy to it that cuts connections.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::{packages, ports, wait};

/// The user of a registry that has one.
pub const USER: &str = "someone";
/// Their password.
pub const PASSWORD: &str = "the peer's own password";
/// How long a registry may take to listen.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// How a registry is reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Only by its user.
    pub users: bool,
    /// With TLS, by an authority of its own.
    pub tls: bool,
}

/// A running registry. Dropped, it ends.
#[derive(Debug)]
pub struct Peer {
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
    directory: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Starts one, and waits until it listens.
    pub async fn start(manner: Manner) -> Result<Self> {
        install()?;
        let (directory, address) = (tempfile::tempdir()?, ports::free_address()?);
        let config = configure(directory.path(), address, manner)?;
        let log = fs::File::create(directory.path().join("log"))?;
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().context("start docker-registry")?;
        let peer = Self { address, child, directory };
        let connect = async || Ok(TcpStream::connect(address).await?);
        wait::until("docker-registry to listen", START_TIMEOUT, connect).await?;
        Ok(peer)
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// Puts an image of this machine's architecture with these layers there, and returns its digest. Without users and
    /// TLS only.
    pub async fn put_image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Result<String> {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let diff_ids: Vec<_> = layers.iter().map(|layer| digest_of(layer)).collect();
        let config =
            json!({ "os": "linux", "architecture": architecture, "rootfs": { "diff_ids": diff_ids } });
        let config = config.to_string().into_bytes();
        let mut entries = Vec::new();
        for blob in layers.iter().chain([&config]) {
            self.put_blob(repository, blob).await?;
            entries.push(json!({ "digest": digest_of(blob), "size": blob.len(),
                "mediaType": "application/vnd.oci.image.layer.v1.tar" }));
        }
        let mut config = entries.pop().context("no configuration")?;
        config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": entries });
        let manifest = manifest.to_string().into_bytes();
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, _, body) = self.ask(Method::PUT, &path, kind, manifest.clone()).await?;
        ensure!(status == StatusCode::CREATED, "PUT {path}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(digest_of(&manifest))
    }

    async fn put_blob(&self, repository: &str, blob: &[u8]) -> Result<()> {
        let begin = format!("/v2/{repository}/blobs/uploads/");
        let (status, location, _) = self.ask(Method::POST, &begin, "", Vec::new()).await?;
        ensure!(status == StatusCode::ACCEPTED, "POST {begin}: {status}");
        let path = location.splitn(4, '/').nth(3).context("the registry answers without a location")?;
        let sign = if path.contains('?') { '&' } else { '?' };
        let path = format!("/{path}{sign}digest={}", digest_of(blob));
        let (status, _, _) = self.ask(Method::PUT, &path, "application/octet-stream", blob.to_vec()).await?;
        ensure!(status == StatusCode::CREATED, "PUT {path}: {status}");
        Ok(())
    }

    /// What it has at a path.
    pub async fn get(&self, path: &str) -> Result<(StatusCode, Vec<u8>)> {
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let (status, _, body) = self.ask(Method::GET, path, kind, Vec::new()).await?;
        Ok((status, body.to_vec()))
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, String, Bytes)> {
        let stream = TcpStream::connect(self.address).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let header = if method == Method::GET { "accept" } else { "content-type" };
        let request = Request::builder().method(method).uri(path).header("host", self.address.to_string());
        let request = request.header(header, kind).body(Full::new(Bytes::from(body)))?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let location = response.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or("");
        let location = location.to_owned();
        let body = response.into_body().collect().await?.to_bytes();
        drop(sender);
        connection.await??;
        Ok((status, location, body))
    }
}

fn install() -> Result<()> {
    packages::need(&[
        ("docker-registry", "docker-registry"),
        ("htpasswd", "apache2-utils"),
        ("openssl", "openssl"),
    ])
}

/// The digest of these bytes, as registries write it.
pub fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest(&SHA256, bytes)))
}

fn configure(directory: &Path, address: SocketAddr, manner: Manner) -> Result<PathBuf> {
    let path = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let mut config: Value = json!({
        "version": "0.1",
        "storage": { "filesystem": { "rootdirectory": path("data") } },
        "http": { "addr": address.to_string() },
    });
    if manner.users {
        make_users(&directory.join("users"))?;
        config["auth"] = json!({ "htpasswd": { "realm": "peer", "path": path("users") } });
    }
    if manner.tls {
        make_certificates(directory)?;
        config["http"]["tls"] = json!({ "certificate": path("leaf.pem"), "key": path("leaf.key") });
    }
    // JSON is YAML.
    fs::write(directory.join("config.yml"), config.to_string())?;
    Ok(directory.join("config.yml"))
}

fn make_users(file: &Path) -> Result<()> {
    let mut command = Command::new("htpasswd");
    command.args(["-niB", USER]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().context("run htpasswd")?;
    std::io::Write::write_all(&mut child.stdin.take().context("no input")?, PASSWORD.as_bytes())?;
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "htpasswd: {}", output.status);
    Ok(fs::write(file, output.stdout)?)
}

fn make_certificates(directory: &Path) -> Result<()> {
    let new_key =
        ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let authority = ["-subj", "/CN=peer", "-keyout", "ca.key", "-out", "ca.pem"];
    let leaf = [
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-subj",
        "/CN=localhost",
        "-keyout",
        "leaf.key",
        "-out",
        "leaf.pem",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
    ];
    for words in [&authority[..], &leaf[..]] {
        let output = Command::new("openssl").args(new_key).args(words).current_dir(directory).output()?;
        ensure!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A proxy to a server that cuts some of the connections after so many bytes of a response.
#[derive(Debug)]
pub struct Cutting {
    cuts: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Cutting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Cutting {
    /// A proxy from this address to that server: the first connections that carry more than so many bytes are cut
    /// there.
    pub async fn at(address: SocketAddr, server: SocketAddr, bytes: usize, times: usize) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let cuts = Arc::clone(&counted);
                tokio::spawn(async move { pass(client, server, bytes, times, &cuts).await });
            }
        });
        Ok(Self { cuts, task })
    }

    /// How many connections were cut.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::SeqCst)
    }
}

async fn pass(
    client: TcpStream,
    server: SocketAddr,
    bytes: usize,
    times: usize,
    cuts: &AtomicUsize,
) -> Result<()> {
    let server = TcpStream::connect(server).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let (mut buffer, mut passed) = (vec![0; 64 << 10], 0);
    loop {
        let read = from_server.read(&mut buffer).await?;
        passed += read;
        let cut = passed > bytes && cuts.load(Ordering::SeqCst) < times;
        if cut {
            cuts.fetch_add(1, Ordering::SeqCst);
        }
        if read == 0 || cut {
            up.abort();
            return Ok(());
        }
        to_client.write_all(&buffer[..read]).await?;
    }
}
