//! The edge that a command talks to: how it is found, and requests to its registry. The client of its API is in
//! `berth-api`. Knows nothing of command lines.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use berth_api::client::{Address, Authority, UploadBody};
use berth_common::image::{Digest, Named};
use berth_images::manifest::MANIFEST_TYPES;
use bytes::Bytes;
use hyper::header::{ACCEPT, HeaderName, HeaderValue};
use hyper::{Method, StatusCode};

use crate::failure::bad_input;

pub(crate) use berth_api::Client as Admin;

/// The environment variable that holds a token, if no file is given.
const TOKEN_VARIABLE: &str = "BERTH_ADMIN_TOKEN";
/// The default paths of an edge's socket, in search order.
const USUAL_SOCKETS: [&str; 2] = ["./.berth/dev/edge/admin.sock", "/var/lib/berth/edge/admin.sock"];
/// That of the edge of an app's directory.
const LOCAL_SOCKET: &str = ".berth/dev/edge/admin.sock";
/// The header with which registries return the digest of a manifest.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The edge of a directory, or else the one at the first default path that has a socket.
pub(crate) fn at_usual_place(beside: Option<&Path>) -> Result<Admin> {
    let beside = beside.map(|directory| directory.join(LOCAL_SOCKET));
    let sockets = beside.into_iter().chain(USUAL_SOCKETS.map(PathBuf::from));
    match sockets.into_iter().find(|socket| socket.exists()) {
        Some(socket) => Ok(Admin::at(socket)),
        None => bail!(
            "no edge found: neither {} exists; start `berth dev`, or name the socket with --admin-socket",
            USUAL_SOCKETS.join(" nor ")
        ),
    }
}

/// The edge at this URL, verified with this authority, with the token in this file or in the environment.
pub(crate) fn at_url(url: &str, authority: Option<&Path>, token: Option<&Path>) -> Result<Admin> {
    let address: Address = url.parse().map_err(bad_input)?;
    let Some(authority) = authority else {
        bail!("--admin-ca must name the authority that the edge's certificate is of")
    };
    Ok(Admin::at_address(address, Authority::read(authority)?, read_token(token)?))
}

fn read_token(file: Option<&Path>) -> Result<String> {
    let text = match file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
        }
        None => std::env::var(TOKEN_VARIABLE)
            .with_context(|| format!("no token: give --admin-token-file, or set {TOKEN_VARIABLE}"))?,
    };
    Ok(text.trim().to_owned())
}

/// The image of the edge that a name refers to now, if any.
pub(crate) async fn resolve(admin: &Admin, image: &Named) -> Result<Option<Digest>> {
    let Named { repository, pick } = image;
    let name = pick.to_string();
    let path = format!("/v2/{repository}/manifests/{}", name.trim_start_matches([':', '@']));
    let accept = (ACCEPT, HeaderValue::try_from(MANIFEST_TYPES.join(", "))?);
    let answer = admin.connection().ask(Method::HEAD, &path, &[accept], UploadBody::empty()).await?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    ensure!(answer.status.is_success(), "{image}: {}", answer.refusal());
    let digest = answer.header(&CONTENT_DIGEST).and_then(|digest| digest.parse().ok());
    Ok(Some(digest.context("the edge does not say which image it is")?))
}

/// A manifest or configuration of the edge's registry.
pub(crate) async fn registry_document(admin: &Admin, path: &str, accept: &str) -> Result<Bytes> {
    let accept = (ACCEPT, HeaderValue::try_from(accept)?);
    let answer = admin.connection().ask(Method::GET, path, &[accept], UploadBody::empty()).await?;
    ensure!(answer.status.is_success(), "{path}: {}", answer.refusal());
    Ok(answer.body)
}
