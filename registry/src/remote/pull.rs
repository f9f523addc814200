//! Pulls an image: its manifests, then the missing blobs; only then it is listed.

use ::http::header::ACCEPT;
use ::http::{HeaderValue, Method, StatusCode};
use berth_common::image::{Algorithm, Architecture, Digest, Named, Pick, Reference, Repository, Tag};
use berth_images::manifest::{
    Descriptor, Index, MANIFEST_TYPES, MAX_DOCUMENT_BYTES, Manifest, ManifestError, Platform,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::document::{Document, blobs_of, bytes_of};
use super::download::Download;
use super::error::RemoteError;
use super::progress::Progress;
use super::retry::Retry;
use super::session::{Action, ApiCall, Session};
use super::{BLOBS_AT_ONCE, Login, MAX_CHILDREN, Moved, Remote, WHOLE_TIMEOUT, local_repository};

/// The header with a manifest's digest.
const CONTENT_DIGEST: &str = "docker-content-digest";

/// The pull to make.
#[derive(Debug, Clone)]
pub struct Pull {
    /// The source.
    pub from: Reference,
    /// The login; by default the stored one.
    pub login: Option<Login>,
    /// Only the image for this architecture of an index.
    pub platform: Option<Architecture>,
    /// The destination.
    pub into: Destination,
}

/// The destination of a pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The repository that is named after the registry; with the source's tag, or without.
    Mirror {
        /// Whether it gets the tag too.
        tag: bool,
    },
    /// A repository of this edge.
    Named(Named),
}

impl Remote {
    /// Pulls an image.
    pub async fn pull(&self, pull: Pull, progress: &Progress) -> Result<Moved, RemoteError> {
        let work = tokio::time::timeout(WHOLE_TIMEOUT, self.try_pull(pull, progress));
        work.await.unwrap_or(Err(RemoteError::TooLong(WHOLE_TIMEOUT)))
    }

    async fn try_pull(&self, pull: Pull, progress: &Progress) -> Result<Moved, RemoteError> {
        let (repository, tag, wanted) = pull.target()?;
        let login = self.login(&pull.from.registry, pull.login).await?;
        let there = &pull.from.image.repository;
        let scopes = vec![Session::scope(there, Action::Pull)];
        let session = Session::new(self, &pull.from.registry, login, scopes)?;
        let source = Source { session: &session, repository: there };
        let mut top = source.manifest(&pull.from.image.pick).await?;
        if let (Some(platform), Manifest::Index(index)) = (pull.platform, &top.manifest) {
            let child = index.choose(platform).ok_or_else(|| no_platform(index, Some(platform)))?;
            top = source.manifest(&Pick::Digest(child.digest)).await?;
        }
        if let Some(wanted) = wanted.filter(|wanted| *wanted != top.digest) {
            return Err(RemoteError::OtherDigest { found: top.digest, wanted: Box::new(wanted) });
        }
        let children = source.children(&top).await?;
        let blobs = blobs_of(children.iter().chain([&top]));
        children.iter().chain([&top]).try_for_each(|document| self.check_size(document))?;
        let downloading = Download {
            session: &session,
            repository: there,
            images: &self.images,
            downloads: &self.downloads,
            progress,
        };
        // Collected into a list: with a lazy iterator the future would not be `Send`.
        let fetches: Vec<_> = blobs.values().map(|blob| Box::pin(downloading.fetch(blob))).collect();
        stream::iter(fetches).buffer_unordered(BLOBS_AT_ONCE).try_collect::<()>().await?;
        let bytes = bytes_of(children.iter().chain([&top]));
        for child in children {
            let algorithm = child.digest.algorithm();
            self.images.put_manifest(&repository, &[], algorithm, child.bytes).await?;
        }
        let (tags, algorithm) = (Vec::from_iter(tag), top.digest.algorithm());
        let digest = self.images.put_manifest(&repository, &tags, algorithm, top.bytes).await?;
        tracing::info!(from = %pull.from, %repository, %digest, bytes, "image pulled");
        Ok(Moved { repository: repository.to_string(), digest, bytes })
    }
}

impl Remote {
    /// Refuses an image that is too large before it is downloaded.
    fn check_size(&self, document: &Document) -> Result<(), RemoteError> {
        match &document.manifest {
            Manifest::Image(image) => Ok(self.images.check_size(image)?),
            Manifest::Index(_) => Ok(()),
        }
    }
}

impl Pull {
    /// The destination repository and tag, and the digest that the image must have.
    fn target(&self) -> Result<(Repository, Option<Tag>, Option<Digest>), RemoteError> {
        let (repository, pick) = match &self.into {
            Destination::Mirror { tag } => {
                let repository = local_repository(&self.from.registry, &self.from.image.repository)?;
                (repository, Some(&self.from.image.pick).filter(|_| *tag))
            }
            Destination::Named(named) => (named.repository.clone(), Some(&named.pick)),
        };
        Ok(match pick {
            Some(Pick::Tag(tag)) => (repository, Some(tag.clone()), None),
            // With `platform`, the digest of an index leads to that of one of its images, by design.
            Some(Pick::Digest(digest)) if self.into != (Destination::Mirror { tag: true }) => {
                (repository, None, Some(*digest))
            }
            _ => (repository, None, None),
        })
    }
}

/// A repository of another registry.
struct Source<'a> {
    session: &'a Session<'a>,
    repository: &'a Repository,
}

impl Source<'_> {
    /// Fetches one manifest, and verifies its digest.
    async fn manifest(&self, pick: &Pick) -> Result<Document, RemoteError> {
        let mut retry = Retry::default();
        loop {
            match self.try_manifest(pick).await {
                Ok(document) => return Ok(document),
                Err(error) => retry.again(error).await?,
            }
        }
    }

    async fn try_manifest(&self, pick: &Pick) -> Result<Document, RemoteError> {
        let what = format!("the image {}{pick}", self.repository);
        let which = match pick {
            Pick::Tag(tag) => tag.to_string(),
            Pick::Digest(digest) => digest.to_string(),
        };
        let address = self.session.address(format!("/v2/{}/manifests/{which}", self.repository));
        let accept = HeaderValue::try_from(MANIFEST_TYPES.join(", "));
        let accept = accept.map_err(|error| RemoteError::Internal(error.to_string()))?;
        let call = ApiCall::new(Method::GET, address, what.clone()).header(ACCEPT, accept);
        let answer = self.session.call(&call).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.refusal(&what).await);
        }
        let said = answer.header(CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
        let bytes = answer.bytes(MAX_DOCUMENT_BYTES, &what).await?.to_vec();
        let asked = if let Pick::Digest(digest) = pick { Some(*digest) } else { None };
        let expected = asked.or(said);
        let algorithm = expected.map_or(Algorithm::Sha256, |expected| expected.algorithm());
        let found = Digest::with(algorithm, &bytes);
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            return Err(RemoteError::Digest { expected, found: Box::new(found) });
        }
        Document::read(bytes, found, &what)
    }

    /// The images of an index that Berth can run; empty for other manifests.
    async fn children(&self, top: &Document) -> Result<Vec<Document>, RemoteError> {
        let Manifest::Index(index) = &top.manifest else { return Ok(Vec::new()) };
        let wanted: Vec<&Descriptor> = index.manifests.iter().filter(|child| child.may_run()).collect();
        if wanted.is_empty() {
            return Err(no_platform(index, None));
        }
        if wanted.len() > MAX_CHILDREN {
            return Err(RemoteError::TooManyChildren(MAX_CHILDREN));
        }
        let mut children = Vec::new();
        for child in wanted {
            let fetched = self.manifest(&Pick::Digest(child.digest)).await?;
            if matches!(fetched.manifest, Manifest::Index(_)) {
                let error = ManifestError::Senseless("it is a list in a list".to_owned());
                return Err(RemoteError::Manifest { what: format!("the manifest {}", child.digest), error });
            }
            children.push(fetched);
        }
        Ok(children)
    }
}

fn no_platform(index: &Index, wanted: Option<Architecture>) -> RemoteError {
    let name = |Platform { os, architecture, .. }: &Platform| format!("{os}/{architecture}");
    let found: Vec<String> =
        index.manifests.iter().filter_map(|child| child.platform.as_ref()).map(name).collect();
    let wanted = wanted.map_or_else(|| "linux/amd64 and linux/arm64".to_owned(), |a| format!("linux/{a}"));
    let found = if found.is_empty() { "nothing".to_owned() } else { found.join(", ") };
    RemoteError::Platform { found, wanted }
}
