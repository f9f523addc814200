//! Pushes to a registry that cuts connections as each test asks.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::Notify;

use super::*;
use crate::image::Source;
use crate::image::elf::tests::elf;
use crate::stop::Stop;

/// What a registry has.
#[derive(Default)]
struct Registry {
    blobs: HashMap<String, Vec<u8>>,
    uploads: HashMap<String, Vec<u8>>,
    manifests: Vec<String>,
    /// How many times the connection is cut in the middle of a part, and after the end of an upload.
    cut_parts: usize,
    cut_ends: usize,
    /// How many uploads it forgets when it is asked how far they are.
    forget: usize,
    /// How many of the first requests of each kind (asking for a blob, beginning an upload, a manifest) it refuses as an edge
    /// does that is restarted.
    restarting: [usize; 3],
    /// Whether it takes parts and never a whole.
    never_ends: bool,
    /// Whether it refuses parts of this many bytes, once another upload is about to end, which it lets end after that.
    refused_bytes: Option<usize>,
    ending: Arc<Notify>,
    refused: Arc<Notify>,
    /// Requests that have not been answered; one that is cut off never is.
    under_way: usize,
    begun: usize,
    received: usize,
}

/// What to answer, or nothing and to cut the connection.
type Reply = Option<(u16, Vec<(&'static str, String)>)>;

impl Registry {
    fn reply(&mut self, request: &Request<()>, body: &[u8]) -> Reply {
        let path = request.uri().path().to_owned();
        let name = path.rsplit('/').next().unwrap_or_default().to_owned();
        let at = |id: &str| vec![("location", format!("/v2/a/b/blobs/uploads/{id}"))];
        self.received += body.len();
        let kind = match request.method().as_str() {
            "HEAD" => Some(0),
            "POST" => Some(1),
            _ if path.contains("/manifests/") => Some(2),
            _ => None,
        };
        if let Some(left) = kind.map(|kind| &mut self.restarting[kind]).filter(|left| **left > 0) {
            *left -= 1;
            return Some((503, vec![("retry-after", "1".to_owned())]));
        }
        match request.method().as_str() {
            "HEAD" => Some(match self.blobs.get(&name) {
                None => (404, vec![]),
                Some(blob) => (200, vec![("content-length", blob.len().to_string())]),
            }),
            "POST" => {
                self.begun += 1;
                let id = self.begun.to_string();
                self.uploads.insert(id.clone(), Vec::new());
                Some((202, at(&id)))
            }
            "PATCH" => self.part(request, &name, body).map(|status| (status, at(&name))),
            "GET" if self.forget > 0 => {
                self.forget -= 1;
                self.uploads.remove(&name);
                Some((404, vec![]))
            }
            "GET" => Some(match self.uploads.get(&name) {
                None => (404, vec![]),
                Some(bytes) => {
                    let range = ("range", format!("0-{}", bytes.len().saturating_sub(1)));
                    (204, [at(&name), vec![range]].concat())
                }
            }),
            _ if path.contains("/manifests/") => {
                self.manifests.push(name);
                Some((201, vec![]))
            }
            _ => self.end(request, &name),
        }
    }

    fn part(&mut self, request: &Request<()>, id: &str, body: &[u8]) -> Option<u16> {
        let Some(upload) = self.uploads.get_mut(id) else { return Some(404) };
        let range = request.headers()["content-range"].to_str().unwrap();
        if range != format!("{}-{}", upload.len(), upload.len() + body.len() - 1) {
            return Some(416);
        }
        if self.cut_parts > 0 {
            self.cut_parts -= 1;
            upload.extend_from_slice(&body[..body.len() / 2]);
            return None;
        }
        upload.extend_from_slice(body);
        Some(202)
    }

    fn end(&mut self, request: &Request<()>, id: &str) -> Reply {
        let Some(upload) = self.uploads.remove(id) else { return Some((404, vec![])) };
        if self.never_ends {
            return Some((503, vec![]));
        }
        let digest = Digest::of(&upload).to_string();
        if request.uri().query() != Some(&format!("digest={digest}")) {
            return Some((400, vec![("x-wrong", "digest".to_owned())]));
        }
        self.blobs.insert(digest, upload);
        if self.cut_ends > 0 {
            self.cut_ends -= 1;
            return None;
        }
        Some((201, vec![]))
    }
}

async fn answer(
    registry: Arc<Mutex<Registry>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (head, body) = request.into_parts();
    registry.lock().unwrap().under_way += 1;
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    if let Some(refusal) = refuse(&registry, &head.method, body.len()).await {
        return Ok(refusal);
    }
    let reply = registry.lock().unwrap().reply(&Request::from_parts(head, ()), &body);
    registry.lock().unwrap().under_way -= 1;
    // An error of the service cuts the connection.
    let (status, headers) = reply.ok_or_else(|| std::io::Error::other("cut"))?;
    let body: &'static str = match headers.first() {
        Some(("x-wrong", _)) => r#"{"errors":[{"code":"DIGEST_INVALID"}]}"#,
        _ => "",
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap())
}

/// The refusal of a part that is too large; holds an upload's end back until the client may have heard of it.
async fn refuse(registry: &Mutex<Registry>, method: &Method, length: usize) -> Option<Response<Full<Bytes>>> {
    let (most, ending, refused) = {
        let registry = registry.lock().unwrap();
        (registry.refused_bytes?, registry.ending.clone(), registry.refused.clone())
    };
    if method == Method::PATCH && length >= most {
        ending.notified().await;
        refused.notify_one();
        registry.lock().unwrap().under_way -= 1;
        return Some(Response::builder().status(403).body(Full::default()).unwrap());
    }
    if method == Method::PUT {
        ending.notify_one();
        refused.notified().await;
        for _ in 0..10_000 {
            tokio::task::yield_now().await;
        }
    }
    None
}

/// An edge with this registry.
fn serve(registry: Registry) -> (TempDir, Admin, Arc<Mutex<Registry>>) {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let registry = Arc::new(Mutex::new(registry));
    let served = registry.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let registry = served.clone();
            let service = service_fn(move |request| answer(registry.clone(), request));
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
        Ok::<_, Infallible>(())
    });
    let admin = Admin::at(dir.path().join("s"));
    (dir, admin, registry)
}

/// An image whose layer takes several parts: its bytes cannot be compressed.
fn image(dir: &TempDir) -> Image {
    let binary = dir.path().join("hello");
    let mut bytes = elf(if cfg!(target_arch = "aarch64") { 183 } else { 62 }, &[]);
    let mut state = 1_u64;
    bytes.extend(
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        })
        .take(CHUNK_BYTES + CHUNK_BYTES / 2),
    );
    fs::write(&binary, bytes).unwrap();
    Image::packed(&Source::open(&binary).unwrap(), &Stop::default()).unwrap()
}

#[tokio::test]
async fn an_image_is_pushed_once() {
    let (dir, admin, registry) = serve(Registry::default());
    let (image, repository, tag) = (image(&dir), "a/b".parse().unwrap(), "v1".parse().unwrap());
    let pushed = push(&admin, &image, &repository, Some(&tag)).await.unwrap();
    assert_eq!((pushed.sent, pushed.there), (2, 0));
    let digest = image.digest().unwrap().to_string();
    assert_eq!(registry.lock().unwrap().manifests, [digest, "v1".to_owned()]);
    let again = push(&admin, &image, &repository, None).await.unwrap();
    assert_eq!((again.sent, again.there, again.sent_bytes), (0, 2, 0));
    // One that was cut off there is replaced.
    let layer = image.contents.layers.first().unwrap().to_string();
    registry.lock().unwrap().blobs.get_mut(&layer).unwrap().pop();
    let again = push(&admin, &image, &repository, None).await.unwrap();
    assert_eq!((again.sent, again.there), (1, 1));
}

#[tokio::test]
async fn what_was_cut_is_gone_on_with() {
    let (dir, admin, registry) = serve(Registry { cut_parts: 2, cut_ends: 2, ..Registry::default() });
    let image = image(&dir);
    let pushed = push(&admin, &image, &"a/b".parse().unwrap(), None).await.unwrap();
    assert_eq!(pushed.sent, 2);
    let registry = registry.lock().unwrap();
    for (digest, part) in &image.contents.blobs {
        assert_eq!(registry.blobs[&digest.to_string()].len() as u64, part.length());
    }
    // Each was begun once, and not all was sent again.
    assert_eq!(registry.begun, 2);
    assert!((registry.received as u64) < 2 * pushed.sent_bytes, "{} bytes received", registry.received);
}

#[tokio::test]
async fn an_upload_that_was_forgotten_is_begun_anew() {
    let (dir, admin, registry) = serve(Registry { cut_parts: 2, forget: 1, ..Registry::default() });
    let image = image(&dir);
    push(&admin, &image, &"a/b".parse().unwrap(), None).await.unwrap();
    let registry = registry.lock().unwrap();
    assert_eq!((registry.begun, registry.blobs.len()), (3, 2));
}

#[tokio::test]
async fn a_damaged_layer_is_reported_with_its_file() {
    let (dir, admin, registry) = serve(Registry::default());
    let image = image(&dir);
    let layer = image.contents.blobs.values().max_by_key(|part| part.length()).unwrap();
    let mut bytes = fs::read(layer.path()).unwrap();
    bytes[100] ^= 1;
    fs::write(layer.path(), bytes).unwrap();
    let error = format!("{:#}", push(&admin, &image, &"a/b".parse().unwrap(), None).await.unwrap_err());
    assert!(error.contains("is damaged"), "{error}");
    assert!(registry.lock().unwrap().manifests.is_empty());
}

#[test]
fn ranges_give_how_much_was_received() {
    assert_eq!(
        [Some("0-9"), Some("0-0"), None, Some("x"), Some("bytes=0-4")].map(received),
        [10, 0, 0, 0, 5]
    );
}

#[tokio::test]
async fn an_edge_that_never_takes_a_blob_is_given_up() {
    let (dir, admin, registry) = serve(Registry { never_ends: true, ..Registry::default() });
    let image = image(&dir);
    let error = format!("{:#}", push(&admin, &image, &"a/b".parse().unwrap(), None).await.unwrap_err());
    assert!(error.contains("given up after"), "{error}");
    assert!(registry.lock().unwrap().blobs.is_empty());
}

#[tokio::test]
async fn an_edge_that_is_restarted_is_waited_for_at_each_step() {
    let (dir, admin, registry) = serve(Registry { restarting: [3, 3, 3], ..Registry::default() });
    let image = image(&dir);
    let pushed = push(&admin, &image, &"a/b".parse().unwrap(), None).await.unwrap();
    assert_eq!((pushed.sent, registry.lock().unwrap().manifests.len()), (2, 1));
    // One that never comes back is given up, with what it says.
    registry.lock().unwrap().restarting = [usize::MAX; 3];
    let error = format!("{:#}", push(&admin, &image, &"a/b".parse().unwrap(), None).await.unwrap_err());
    assert!(error.contains("given up after") && error.contains("503"), "{error}");
}

#[test]
fn an_edge_may_ask_for_a_longer_pause_but_not_for_any() {
    let second = Duration::from_secs(1);
    assert_eq!(at_least(second, None), second);
    assert_eq!(at_least(5 * second, Some(second)), 5 * second);
    assert_eq!(at_least(second, Some(5 * second)), 5 * second);
    assert_eq!(at_least(second, Some(3600 * second)), MAX_RETRY_AFTER);
}

#[tokio::test]
async fn after_a_refusal_nothing_of_the_push_is_still_under_way() {
    let (dir, admin, registry) = serve(Registry { refused_bytes: Some(CHUNK_BYTES), ..Registry::default() });
    let image = image(&dir);
    let error = push(&admin, &image, &"a/b".parse().unwrap(), None).await.unwrap_err();
    assert!(format!("{error:#}").contains("403"), "{error:#}");
    let registry = registry.lock().unwrap();
    assert_eq!((registry.under_way, registry.uploads.len()), (0, 0));
}
