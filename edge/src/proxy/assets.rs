//! Static files of an app, served by the edge itself. The files are listed when the app is routed, so that a request is
//! matched by a table look-up, and no path leads out of the directory. tower-http then serves the file.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_common::spec::{AssetsSpec, MAX_ASSETS, NotFound};
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tower_http::services::ServeFile;

use super::body::ResponseBody;

/// The file that is served for a directory.
const INDEX: &str = "index.html";
/// The file that is served for missing ones, if the app wants that.
const NOT_FOUND_PAGE: &str = "/404.html";
/// Deepest nesting of directories.
const MAX_DEPTH: usize = 32;
/// Most files: those of an app, and a compressed one beside each.
const MAX_FILES: usize = 2 * MAX_ASSETS;

/// The static files of one app.
#[derive(Debug)]
pub(crate) struct Assets {
    spec: AssetsSpec,
    /// By their decoded path in requests: `/a b/index.html`.
    files: HashMap<String, PathBuf>,
}

/// What is served for a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// This file, with this status.
    File(PathBuf, StatusCode),
    /// A redirect to the same path with a slash at its end, without which relative links of the page would not work.
    Redirect(String),
}

impl Assets {
    /// Lists the files.
    pub(crate) fn read(spec: &AssetsSpec) -> io::Result<Arc<Self>> {
        let mut files = HashMap::new();
        collect(&spec.directory, "", 0, &mut files)?;
        Ok(Arc::new(Self { spec: spec.clone(), files }))
    }

    /// What the app says of them.
    pub(crate) fn spec(&self) -> &AssetsSpec {
        &self.spec
    }

    /// The file at a request's path.
    pub(crate) fn find<B>(&self, request: &Request<B>, host: Option<&str>, path: &str) -> Option<Found> {
        if !self.takes(request, host) || !path.starts_with('/') {
            return None;
        }
        if path.ends_with('/') {
            return self.file(&format!("{path}{INDEX}"), StatusCode::OK);
        }
        let page = || self.file(&format!("{path}.html"), StatusCode::OK);
        let directory = || {
            let inside = self.files.contains_key(&format!("{path}/{INDEX}"));
            inside.then(|| Found::Redirect(format!("{}/", request.uri().path())))
        };
        self.file(path, StatusCode::OK).or_else(page).or_else(directory)
    }

    /// What is served for a request that matches no file and no route.
    pub(crate) fn otherwise<B>(&self, request: &Request<B>, host: Option<&str>) -> Option<Found> {
        if !self.takes(request, host) {
            return None;
        }
        match self.spec.not_found {
            NotFound::None => None,
            NotFound::Page => self.file(NOT_FOUND_PAGE, StatusCode::NOT_FOUND),
            NotFound::SinglePage => self.file(&format!("/{INDEX}"), StatusCode::OK),
        }
    }

    fn takes<B>(&self, request: &Request<B>, host: Option<&str>) -> bool {
        let hosts = &self.spec.hosts;
        matches!(*request.method(), Method::GET | Method::HEAD)
            && (hosts.is_empty()
                || host.is_some_and(|host| hosts.iter().any(|pattern| pattern.capture(host).is_some())))
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
    files: &mut HashMap<String, PathBuf>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else { continue };
        let path = format!("{prefix}/{name}");
        match entry.file_type()? {
            kind if kind.is_dir() && depth < MAX_DEPTH => collect(&entry.path(), &path, depth + 1, files)?,
            kind if kind.is_file() && files.len() < MAX_FILES => drop(files.insert(path, entry.path())),
            _ => {}
        }
    }
    Ok(())
}

impl Found {
    /// Responds with the file; tower-http handles conditions, ranges and encodings. Nothing is compressed here, on a
    /// thread that many requests share: `berth deploy` puts a compressed file beside each for which that is worth it.
    pub(crate) async fn respond(self, request: Request<Incoming>) -> Response<ResponseBody> {
        let (file, status) = match self {
            Self::Redirect(to) => return redirect(&to),
            Self::File(file, status) => (file, status),
        };
        let (mut head, _) = request.into_parts();
        if status != StatusCode::OK {
            // A page that replaces others is always sent whole and unconditionally.
            head.headers.clear();
        }
        let service = ServeFile::new(file).precompressed_br().precompressed_gzip();
        let request = Request::from_parts(head, Empty::<bytes::Bytes>::new());
        let Ok(mut response) = TowerToHyperService::new(service).call(request).await;
        if status != StatusCode::OK && response.status() == StatusCode::OK {
            *response.status_mut() = status;
        }
        response.map(|body| ResponseBody::Asset(body.map_err(Into::into).boxed_unsync()))
    }
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
        let spec = AssetsSpec { directory: directory.path().to_owned(), hosts: Vec::new(), not_found };
        let assets = Assets::read(&spec).unwrap();
        (directory, assets)
    }

    fn found(assets: &Assets, path: &str) -> Option<String> {
        let request = Request::get("/x").body(()).unwrap();
        assets.find(&request, None, path).map(|found| match found {
            Found::File(file, _) => file.strip_prefix(&assets.spec.directory).unwrap().display().to_string(),
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

    #[test]
    fn a_missing_file_gets_what_the_app_configures() {
        let request = Request::get("/none").body(()).unwrap();
        let status = |not_found| {
            let (_directory, assets) = assets(not_found);
            match assets.otherwise(&request, None) {
                Some(Found::File(file, status)) => {
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
