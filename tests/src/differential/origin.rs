//! A server that programs fetch from: it redirects, and otherwise tells what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::LOCATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A server on loopback, until dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Origin {
    /// Starts one.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        Ok(Self { address, serving: tokio::spawn(serve(listener)) })
    }

    /// Where it is, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
        tokio::spawn(connection);
    }
}

/// `/to/STATUS` leads to `/end`, `/loop` to itself; all else tells of the request.
async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let to = path.strip_prefix("/to/").map(|status| (status, "/end"));
    let to = to.or_else(|| (path == "/loop").then_some(("302", "/loop")));
    if let Some((status, place)) = to {
        let response = Response::builder().status(status).header(LOCATION, place);
        return Ok(response.body(Full::default()).unwrap_or_default());
    }
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let own = head
        .headers
        .get("x-own")
        .map_or(String::new(), |value| format!(" {}", value.as_bytes().escape_ascii()));
    let text = format!("{} {path}{own} {}", head.method, String::from_utf8_lossy(&body));
    let response = Response::builder().header("x-origin", "ours").header("content-type", "text/x-told");
    let response = response.header("set-cookie", "a=1").header("set-cookie", "b=2");
    Ok(response.body(Full::from(text)).unwrap_or_default())
}
