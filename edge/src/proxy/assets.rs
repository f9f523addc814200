//! Static files of an app, served by the edge itself. Their names are known when the app is routed, so that a request is
//! matched by a table look-up, and no path leads anywhere else. tower-http then serves the file: one that the edge keeps by
//! its digest, or one in the directory that a version of an earlier edge names.

mod conditions;
mod stored;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_common::spec::{AssetsSpec, MAX_ASSET_FILES, NotFound};
use http::header::{
    ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION, RANGE,
};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tower_http::services::ServeFile;

use self::conditions::Answer;
use self::stored::Stored;
use super::body::ResponseBody;

/// The file that is served for a directory.
const INDEX: &str = "index.html";
/// The file that is served for missing ones, if the app wants that.
const NOT_FOUND_PAGE: &str = "/404.html";
/// Deepest nesting of directories.
const MAX_DEPTH: usize = 32;

/// The static files of one app.
#[derive(Debug)]
pub(crate) struct Assets {
    spec: AssetsSpec,
    /// By their decoded path in requests: `/a b/index.html`.
    files: HashMap<String, Place>,
}

/// Where a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a directory, with compressed ones beside it.
    Path(PathBuf),
    /// Among what the edge keeps by digest.
    Stored(Arc<Stored>),
}

/// What is served for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This file, with this status.
    File(Place, StatusCode),
    /// A redirect to the same path with a slash at its end, without which relative links of the page would not work.
    Redirect(String),
}

impl Assets {
    /// Lists the files. Those that are named by digest lie in `blobs`.
    pub(crate) fn read(spec: &AssetsSpec, blobs: &Arc<Path>) -> io::Result<Arc<Self>> {
        let mut files = HashMap::new();
        if let Some(directory) = &spec.directory {
            collect(directory, "", 0, &mut files)?;
        }
        let stored = Stored::all(&spec.files, blobs);
        files.extend(stored.map(|(path, stored)| (path, Place::Stored(Arc::new(stored)))));
        Ok(Arc::new(Self { spec: spec.clone(), files }))
    }

    /// What the app says of them.
    pub(crate) fn spec(&self) -> &AssetsSpec {
        &self.spec
    }

    /// The file at a request's path.
    pub(crate) fn find<B>(&self, request: &Request<B>, host: Option<&str>, path: &str) -> Option<Found> {
        if self.takes(request, host) { self.at(request.uri().path(), path) } else { None }
    }

    /// What the app itself gets for a request, whatever host that names: a file, or what is served in place of a missing one.
    pub(crate) fn of_app<B>(&self, request: &Request<B>, path: &str) -> Option<Found> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return None;
        }
        self.at(request.uri().path(), path).or_else(|| self.in_place())
    }

    /// What is at a path, which is `asked` as it was sent.
    fn at(&self, asked: &str, path: &str) -> Option<Found> {
        if !path.starts_with('/') {
            return None;
        }
        if path.ends_with('/') {
            return self.file(&format!("{path}{INDEX}"), StatusCode::OK);
        }
        let page = || self.file(&format!("{path}.html"), StatusCode::OK);
        let directory = || {
            let inside = self.files.contains_key(&format!("{path}/{INDEX}"));
            inside.then(|| Found::Redirect(format!("{asked}/")))
        };
        self.file(path, StatusCode::OK).or_else(page).or_else(directory)
    }

    /// Whether there is something at a path, whatever is asked of it.
    pub(crate) fn has(&self, host: Option<&str>, path: &str) -> bool {
        self.is_of(host) && self.at(path, path).is_some()
    }

    /// What is served for a request that matches no file and no route.
    pub(crate) fn otherwise<B>(&self, request: &Request<B>, host: Option<&str>) -> Option<Found> {
        if self.takes(request, host) { self.in_place() } else { None }
    }

    /// What is served in place of a missing file.
    fn in_place(&self) -> Option<Found> {
        match self.spec.not_found {
            NotFound::None => None,
            NotFound::Page => self.file(NOT_FOUND_PAGE, StatusCode::NOT_FOUND),
            NotFound::SinglePage => self.file(&format!("/{INDEX}"), StatusCode::OK),
        }
    }

    fn takes<B>(&self, request: &Request<B>, host: Option<&str>) -> bool {
        matches!(*request.method(), Method::GET | Method::HEAD) && self.is_of(host)
    }

    fn is_of(&self, host: Option<&str>) -> bool {
        let hosts = &self.spec.hosts;
        hosts.is_empty()
            || host.is_some_and(|host| hosts.iter().any(|pattern| pattern.capture(host).is_some()))
    }

    fn file(&self, path: &str, status: StatusCode) -> Option<Found> {
        self.files.get(path).map(|file| Found::File(file.clone(), status))
    }
}

/// Collects the files below a directory, except hidden ones and symbolic links: those may lead out of the app's
/// directory.
fn collect(
    directory: &Path,
    prefix: &str,
    depth: usize,
    files: &mut HashMap<String, Place>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let path = format!("{prefix}/{name}");
        match entry.file_type()? {
            kind if kind.is_dir() && depth < MAX_DEPTH => collect(&entry.path(), &path, depth + 1, files)?,
            kind if kind.is_file() && files.len() < MAX_ASSET_FILES => {
                files.insert(path, Place::Path(entry.path()));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Found {
    /// Responds with the file. Nothing is compressed here, on a thread that many requests share: `berth deploy` puts a
    /// compressed file beside each for which that is worth it.
    pub(crate) async fn respond<B>(self, request: Request<B>) -> Response<ResponseBody> {
        let (file, status) = match self {
            Self::Redirect(to) => return redirect(&to),
            Self::File(file, status) => (file, status),
        };
        let (mut head, _) = request.into_parts();
        if status != StatusCode::OK {
            // A page that replaces others is always sent whole and unconditionally.
            head.headers.clear();
        }
        let mut response = match conditions::are_in(&head.headers) {
            true => conditional(&file, head).await,
            false => serve(&file, head).await,
        };
        if status != StatusCode::OK && response.status() == StatusCode::OK {
            *response.status_mut() = status;
        }
        response
    }
}

/// Responds as far as the request's conditions allow: they are judged by the head that it would have without them.
async fn conditional(file: &Place, mut head: Parts) -> Response<ResponseBody> {
    let asked = head.headers.clone();
    conditions::remove(&mut head.headers);
    let mut look = head.clone();
    look.method = Method::HEAD;
    let mut current = serve(file, look).await;
    if current.status() != StatusCode::OK {
        return current;
    }
    match conditions::answer(&head.method, &asked, current.headers()) {
        Answer::Whole => {}
        Answer::Part(range) => drop(head.headers.insert(RANGE, range)),
        Answer::Nothing(status) => {
            *current.status_mut() = status;
            for about_content in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, ACCEPT_RANGES] {
                current.headers_mut().remove(about_content);
            }
            return current.map(|_| ResponseBody::empty());
        }
    }
    serve(file, head).await
}

/// tower-http handles a range, and the encodings of files in a directory.
async fn serve(file: &Place, head: Parts) -> Response<ResponseBody> {
    match file {
        Place::Stored(stored) => stored.serve(head).await,
        Place::Path(path) => {
            let service = ServeFile::new(path).precompressed_br().precompressed_gzip();
            let mut response = run(service, head).await;
            conditions::tag_encoding(response.headers_mut());
            response
        }
    }
}

async fn run(service: ServeFile, head: Parts) -> Response<ResponseBody> {
    let request = Request::from_parts(head, Empty::<bytes::Bytes>::new());
    let Ok(response) = TowerToHyperService::new(service).call(request).await;
    response.map(|body| ResponseBody::Asset(body.map_err(Into::into).boxed_unsync()))
}

fn redirect(to: &str) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    // The path of a request is always a valid header value.
    if let Ok(to) = HeaderValue::try_from(to) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn assets(not_found: NotFound) -> (tempfile::TempDir, Arc<Assets>) {
        let directory = tempfile::tempdir().unwrap();
        for file in
            ["index.html", "404.html", "a b.txt", "docs/index.html", "about.html", ".env", ".git/config"]
        {
            let path = directory.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("link")).unwrap();
        let spec = AssetsSpec {
            directory: Some(directory.path().to_owned()),
            files: Default::default(),
            hosts: Vec::new(),
            not_found,
        };
        let assets = Assets::read(&spec, &Path::new("/none").into()).unwrap();
        (directory, assets)
    }

    fn found(assets: &Assets, path: &str) -> Option<String> {
        let request = Request::get("/x").body(()).unwrap();
        assets.find(&request, None, path).map(|found| match found {
            Found::File(Place::Path(file), _) => {
                file.strip_prefix(assets.spec.directory.as_ref().unwrap()).unwrap().display().to_string()
            }
            Found::File(Place::Stored(_), _) => unreachable!(),
            Found::Redirect(to) => format!("-> {to}"),
        })
    }

    #[test]
    fn only_files_are_found_by_their_names() {
        let (_directory, assets) = assets(NotFound::None);
        for (path, file) in [
            ("/", "index.html"),
            ("/a b.txt", "a b.txt"),
            ("/about", "about.html"),
            ("/docs/", "docs/index.html"),
            ("/docs", "-> /x/"),
        ] {
            assert_eq!(found(&assets, path).as_deref(), Some(file), "{path}");
        }
        for path in
            ["/.env", "/.git/config", "/link", "/../index.html", "/docs/../index.html", "//", "", "/none"]
        {
            assert_eq!(found(&assets, path), None, "{path}");
        }
        let post = Request::post("/").body(()).unwrap();
        assert_eq!(assets.find(&post, None, "/"), None);
    }

    async fn answered(file: &Path, method: Method, headers: &[(&str, &str)]) -> (u16, HeaderMap, String) {
        answered_from(Place::Path(file.to_owned()), method, headers).await
    }

    async fn answered_from(
        place: Place,
        method: Method,
        headers: &[(&str, &str)],
    ) -> (u16, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let found = Found::File(place, StatusCode::OK);
        let (head, body) = found.respond(request.body(()).unwrap()).await.into_parts();
        let Ok(body) = body.collect().await else { panic!("no body") };
        (head.status.as_u16(), head.headers, String::from_utf8(body.to_bytes().to_vec()).unwrap())
    }

    fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
        headers[name].to_str().unwrap()
    }

    #[tokio::test]
    async fn a_download_that_is_resumed_is_one_of_the_same_representation() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.txt");
        // Of the same length and age, so that nothing but its encoding tells one from the other.
        let moment = std::time::SystemTime::now();
        for (name, content) in [("a.txt", "0123456789"), ("a.txt.gz", "compressed")] {
            fs::write(directory.path().join(name), content).unwrap();
            fs::File::open(directory.path().join(name)).unwrap().set_modified(moment).unwrap();
        }
        let (status, plain, body) = answered(&file, Method::GET, &[]).await;
        assert_eq!((status, body.as_str()), (200, "0123456789"));
        let (_, packed, body) = answered(&file, Method::GET, &[("accept-encoding", "gzip")]).await;
        assert_eq!((body.as_str(), text(&packed, "content-encoding")), ("compressed", "gzip"));
        assert_ne!(plain["etag"], packed["etag"]);

        let tag = plain["etag"].to_str().unwrap();
        let rest = ("range", "bytes=7-");
        let (status, head, body) = answered(&file, Method::GET, &[rest, ("if-range", tag)]).await;
        assert_eq!((status, body.as_str(), text(&head, "content-range")), (206, "789", "bytes 7-9/10"));
        for had in [packed["etag"].to_str().unwrap(), "\"older\"", "Sat, 01 Jan 2000 00:00:00 GMT"] {
            let (status, _, body) = answered(&file, Method::GET, &[rest, ("if-range", had)]).await;
            assert_eq!((status, body.as_str()), (200, "0123456789"), "{had}");
        }
        let (status, _, body) = answered(&file, Method::GET, &[("range", "bytes=0-1,4-5")]).await;
        assert_eq!((status, body.as_str()), (200, "0123456789"));
        let (status, head, _) = answered(&file, Method::GET, &[("range", "bytes=10-")]).await;
        assert_eq!((status, text(&head, "content-range")), (416, "bytes */10"));
        let (status, head, body) = answered(&file, Method::HEAD, &[rest]).await;
        assert_eq!((status, body.as_str(), text(&head, "content-length")), (200, "", "10"));
        for method in [Method::GET, Method::HEAD] {
            let (status, head, body) = answered(&file, method, &[("if-none-match", tag)]).await;
            assert_eq!(
                (status, body.as_str(), text(&head, "etag"), text(&head, "vary")),
                (304, "", tag, "accept-encoding")
            );
        }
    }

    /// Files by digest: their paths, and a directory that has them.
    fn stored(files: &[(&str, &str)]) -> (tempfile::TempDir, Arc<Assets>) {
        let blobs = tempfile::tempdir().unwrap();
        let digests = files.iter().map(|(path, content)| {
            let digest = berth_common::image::Digest::of(content.as_bytes());
            fs::write(blobs.path().join(digest.hex()), content).unwrap();
            ((*path).to_owned(), digest)
        });
        let files = digests.collect();
        let spec = AssetsSpec { directory: None, files, hosts: Vec::new(), not_found: NotFound::Page };
        let assets = Assets::read(&spec, &blobs.path().into()).unwrap();
        (blobs, assets)
    }

    fn place(assets: &Assets, path: &str) -> Place {
        let request = Request::get("/x").body(()).unwrap();
        match assets.find(&request, None, path) {
            Some(Found::File(place, StatusCode::OK)) => place,
            found => panic!("{path}: {found:?}"),
        }
    }

    #[tokio::test]
    async fn files_by_digest_have_type_tag_and_encoding_of_their_own() {
        let files =
            [("/index.html", "<p>"), ("/a.css", "0123456789"), ("/a.css.gz", "packed"), ("/404.html", "no")];
        let (blobs, assets) = stored(&files);
        let (status, head, body) = answered_from(place(&assets, "/"), Method::GET, &[]).await;
        assert_eq!((status, body.as_str(), text(&head, "content-type")), (200, "<p>", "text/html"));
        assert!(!head.contains_key("last-modified") && !head.contains_key("vary"), "{head:?}");
        let css = || place(&assets, "/a.css");
        let (_, plain, body) =
            answered_from(css(), Method::GET, &[("accept-encoding", "br, gzip;q=0")]).await;
        assert_eq!(
            (body.as_str(), text(&plain, "content-type"), text(&plain, "vary")),
            ("0123456789", "text/css", "accept-encoding")
        );
        let (_, packed, body) = answered_from(css(), Method::GET, &[("accept-encoding", "gzip, br")]).await;
        assert_eq!(
            (body.as_str(), text(&packed, "content-encoding"), text(&packed, "content-type")),
            ("packed", "gzip", "text/css")
        );
        assert_ne!(plain["etag"], packed["etag"]);

        let tag = plain["etag"].to_str().unwrap();
        let rest = ("range", "bytes=7-");
        let (status, _, body) = answered_from(css(), Method::GET, &[rest, ("if-range", tag)]).await;
        assert_eq!((status, body.as_str()), (206, "789"));
        let (status, head, body) = answered_from(css(), Method::GET, &[("if-none-match", tag)]).await;
        assert_eq!((status, body.as_str(), text(&head, "etag")), (304, "", tag));
        let (status, head, body) = answered_from(css(), Method::HEAD, &[]).await;
        assert_eq!((status, body.as_str(), text(&head, "content-length")), (200, "", "10"));

        for entry in fs::read_dir(blobs.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        assert_eq!(answered_from(css(), Method::GET, &[]).await.0, 500);
    }

    #[test]
    fn a_missing_file_gets_what_the_app_configures() {
        let request = Request::get("/none").body(()).unwrap();
        let status = |not_found| {
            let (_directory, assets) = assets(not_found);
            match assets.otherwise(&request, None) {
                Some(Found::File(Place::Path(file), status)) => {
                    Some((file.file_name().unwrap().to_owned(), status.as_u16()))
                }
                _ => None,
            }
        };
        assert_eq!(status(NotFound::None), None);
        assert_eq!(status(NotFound::Page), Some(("404.html".into(), 404)));
        assert_eq!(status(NotFound::SinglePage), Some(("index.html".into(), 200)));
    }
}
