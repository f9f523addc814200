//! The backend of a page: a list of widgets as JSON. It serves nothing else; the page itself is served by Berth.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// TCP port; the same as `default_port` in `berth.toml`.
const PORT: u16 = 8080;
const WIDGETS: &str = r#"[{"id":1,"name":"Hinge"},{"id":2,"name":"Pulley"},{"id":3,"name":"Ratchet"}]
"#;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await?;
    // The first process of a container ignores signals that it has no handler for.
    let mut terminate = signal(SignalKind::terminate())?;
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let stream = TokioIo::new(accepted?.0);
                tokio::spawn(http1::Builder::new().serve_connection(stream, service_fn(answer)));
            }
            _ = terminate.recv() => return Ok(()),
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, kind, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/api/widgets") => (StatusCode::OK, "application/json", WIDGETS),
        _ => (StatusCode::NOT_FOUND, "text/plain", "there is only GET /api/widgets\n"),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    Ok(response)
}
