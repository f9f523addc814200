//! Pushes an image of this edge: the blobs that the registry lacks, then the manifests, children first.

use ::http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use ::http::{HeaderValue, Method, StatusCode};
use berth_api::transfers::Phase;
use berth_common::image::{Digest, Named, Pick, Reference, Repository};
use berth_images::manifest::{Descriptor, Manifest};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::document::{Document, blobs_of, bytes_of};
use super::download::blocking;
use super::error::RemoteError;
use super::name::remote_repository;
use super::progress::Progress;
use super::retry::Retry;
use super::session::{Action, ApiCall, Payload, Session};
use super::upload::Source;
use super::{BLOBS_AT_ONCE, Login, Moved, Remote, WHOLE_TIMEOUT};
use crate::web::WebAddress;

/// The push to make.
#[derive(Debug, Clone)]
pub struct Push {
    /// The source.
    pub from: Named,
    /// The destination.
    pub to: Reference,
    /// The login; by default the stored one.
    pub login: Option<Login>,
}

impl Remote {
    /// Pushes an image.
    pub async fn push(&self, push: Push, progress: &Progress) -> Result<Moved, RemoteError> {
        let work = tokio::time::timeout(WHOLE_TIMEOUT, self.try_push(push, progress));
        work.await.unwrap_or(Err(RemoteError::TooLong(WHOLE_TIMEOUT)))
    }

    async fn try_push(&self, push: Push, progress: &Progress) -> Result<Moved, RemoteError> {
        let digest = self.images.resolve(&push.from).await?;
        let digest = digest.ok_or_else(|| RemoteError::NotHere(push.from.to_string()))?;
        let (top, children) = self.documents(digest).await?;
        let top = reduce_to_existing(top, &children)?;
        if let Pick::Digest(wanted) = push.to.image.pick
            && wanted != top.digest
        {
            return Err(RemoteError::OtherDigest { found: top.digest, wanted: Box::new(wanted) });
        }
        let login = self.login(&push.to.registry, push.login).await?;
        let there = &push.to.image.repository;
        // If it was pulled from the same registry, that has the blobs in another repository already, and can mount
        // them.
        let known = remote_repository(&push.to.registry, &push.from.repository);
        let known = known.filter(|known| known != there);
        let mut scopes = vec![Session::scope(there, Action::Push)];
        scopes.extend(known.iter().map(|known| Session::scope(known, Action::Pull)));
        let session = Session::new(self, &push.to.registry, login, scopes)?;
        let target = Target { remote: self, session: &session, repository: there, known, progress };
        let bytes = target.put(&top, &children, &push.to.image.pick).await?;
        tracing::info!(from = %push.from, to = %push.to, digest = %top.digest, bytes, "image pushed");
        let repository = format!("{}/{there}", push.to.registry);
        Ok(Moved { repository, digest: top.digest, bytes })
    }
}

/// Reduces an index to the images that exist here: a registry refuses one with missing children.
fn reduce_to_existing(top: Document, children: &[Document]) -> Result<Document, RemoteError> {
    let is_here = |digest| children.iter().any(|child| child.digest == digest);
    match &top.manifest {
        Manifest::Index(index) if !index.manifests.iter().all(|child| is_here(child.digest)) => {
            let reduced = only_children(&top.bytes, is_here)?;
            let digest = Digest::with(top.digest.algorithm(), &reduced);
            Document::read(reduced, digest, "the list")
        }
        _ => Ok(top),
    }
}

/// An index with some of its children removed, and everything else unchanged.
fn only_children(list: &[u8], keep: impl Fn(Digest) -> bool) -> Result<Vec<u8>, RemoteError> {
    let internal = |error: serde_json::Error| RemoteError::Internal(error.to_string());
    let mut list: serde_json::Value = serde_json::from_slice(list).map_err(internal)?;
    if let Some(children) = list.get_mut("manifests").and_then(|children| children.as_array_mut()) {
        let digest = |child: &serde_json::Value| child.get("digest")?.as_str()?.parse().ok();
        children.retain(|child| digest(child).is_some_and(&keep));
    }
    serde_json::to_vec(&list).map_err(internal)
}

/// A repository of another registry.
struct Target<'a> {
    remote: &'a Remote,
    session: &'a Session<'a>,
    repository: &'a Repository,
    /// Another repository there that has the same blobs.
    known: Option<Repository>,
    progress: &'a Progress,
}

impl Target<'_> {
    /// Pushes an image, and returns its total size in bytes.
    async fn put(&self, top: &Document, children: &[Document], pick: &Pick) -> Result<u64, RemoteError> {
        let blobs = blobs_of(children.iter().chain([top]));
        let pushes: Vec<_> = blobs.values().map(|blob| Box::pin(self.blob(blob))).collect();
        stream::iter(pushes).buffer_unordered(BLOBS_AT_ONCE).try_collect::<()>().await?;
        for child in children {
            self.manifest(child, &child.digest.to_string()).await?;
        }
        let name = if let Pick::Tag(tag) = pick { tag.to_string() } else { top.digest.to_string() };
        self.manifest(top, &name).await?;
        Ok(bytes_of(children.iter().chain([top])))
    }

    async fn manifest(&self, document: &Document, name: &str) -> Result<(), RemoteError> {
        let mut retry = Retry::default();
        while let Err(error) = self.try_manifest(document, name).await {
            retry.again(error).await?;
        }
        Ok(())
    }

    async fn try_manifest(&self, document: &Document, name: &str) -> Result<(), RemoteError> {
        let address = self.session.address(format!("/v2/{}/manifests/{name}", self.repository));
        let media_type = HeaderValue::try_from(document.manifest.media_type());
        let media_type = media_type.map_err(|error| RemoteError::Internal(error.to_string()))?;
        let call = ApiCall::new(Method::PUT, address, format!("room for the manifest {name}"))
            .header(CONTENT_TYPE, media_type)
            .body(Payload::Bytes(document.bytes.clone().into()));
        let answer = self.session.call(&call).await?;
        if answer.status == StatusCode::CREATED { Ok(()) } else { Err(answer.refusal(&call.what).await) }
    }

    async fn blob(&self, blob: &Descriptor) -> Result<(), RemoteError> {
        let mut retry = Retry::default();
        while let Err(error) = self.try_blob(blob).await {
            retry.again(error).await?;
        }
        self.progress.set(Phase::Push, blob.digest, blob.size, blob.size);
        Ok(())
    }

    async fn try_blob(&self, blob: &Descriptor) -> Result<(), RemoteError> {
        if self.has(blob).await? {
            return Ok(());
        }
        let Some(address) = self.begin(blob).await? else { return Ok(()) };
        let (content, digest) = (self.remote.images.content().clone(), blob.digest);
        let found = blocking(move || content.get(&digest)).await??;
        let (file, length) = found.ok_or_else(|| RemoteError::NotHere(digest.to_string()))?;
        let source = Source::new(digest, file, length, self.progress.clone());
        let call = ApiCall::new(Method::PUT, address, format!("room for the blob {digest}"))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .header(CONTENT_LENGTH, HeaderValue::from(length))
            .body(Payload::Blob(source));
        let answer = self.session.call(&call).await?;
        if answer.status == StatusCode::CREATED { Ok(()) } else { Err(answer.refusal(&call.what).await) }
    }

    async fn has(&self, blob: &Descriptor) -> Result<bool, RemoteError> {
        let address = self.session.address(format!("/v2/{}/blobs/{}", self.repository, blob.digest));
        let call = ApiCall::new(Method::HEAD, address, format!("the blob {}", blob.digest));
        let answer = self.session.call(&call).await?;
        match answer.status {
            StatusCode::OK => Ok(true),
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(answer.refusal(&call.what).await),
        }
    }

    /// Begins an upload, and returns its URL. None if the registry has mounted the blob from another repository.
    async fn begin(&self, blob: &Descriptor) -> Result<Option<WebAddress>, RemoteError> {
        let mut path = format!("/v2/{}/blobs/uploads/", self.repository);
        if let Some(known) = &self.known {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("mount", &blob.digest.to_string()).append_pair("from", known.as_str());
            path = format!("{path}?{}", query.finish());
        }
        let what = format!("room for the blob {}", blob.digest);
        let call = ApiCall::new(Method::POST, self.session.address(path), what);
        let call = call.header(CONTENT_LENGTH, HeaderValue::from(0));
        let answer = self.session.call(&call).await?;
        match answer.status {
            StatusCode::CREATED => Ok(None),
            StatusCode::ACCEPTED => {
                let mut address =
                    self.session.next_address(&call.address, answer.header(LOCATION.as_str()))?;
                let sign = if address.path.contains('?') { '&' } else { '?' };
                let digest: String =
                    form_urlencoded::byte_serialize(blob.digest.to_string().as_bytes()).collect();
                address.path = format!("{}{sign}digest={digest}", address.path);
                Ok(Some(address))
            }
            _ => Err(answer.refusal(&call.what).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_reduced_to_the_images_that_exist() {
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        let list = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"digest":"{one}","size":1,"x":7}},{{"digest":"{two}","size":1}}],"y":8}}"#
        );
        let cut = only_children(list.as_bytes(), |digest| digest == one).unwrap();
        let cut: serde_json::Value = serde_json::from_slice(&cut).unwrap();
        assert_eq!((cut["manifests"].as_array().unwrap().len(), &cut["manifests"][0]["x"]), (1, &7.into()));
        assert_eq!(cut["y"], 8);
    }
}
