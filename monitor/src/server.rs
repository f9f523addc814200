//! The HTTP server of a daemon's metrics, health and readiness: `GET /metrics`, `/healthz`, `/readyz`, one request per
//! connection, with timeouts. It spawns no tasks, so that it also works in a single-threaded daemon whose state is not
//! `Send`.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use berth_common::connections::{Connections, Limits, Permit, SWEEP_INTERVAL};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use crate::page::{self, Page};

/// Limits of connections. A few collectors ask every few seconds, each with a connection of its own; one that asks for
/// nothing has little time, and makes room for the next.
const LIMITS: Limits = Limits {
    total: 64,
    per_client: 16,
    anonymous: None,
    head: Duration::from_secs(2),
    idle: Duration::from_secs(2),
};
/// How long rendering a response may take. Collectors time out after ten seconds.
const GATHER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest duration of a connection, for slow readers.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes: the smallest limit that hyper allows.
const HEAD_BYTES: usize = 8 * 1024;
/// Delay after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A monitored daemon.
#[allow(async_fn_in_trait, reason = "it is polled where it was made, on whatever thread that is")]
pub trait Watched {
    /// Renders its metrics.
    async fn page(&self) -> Page;

    /// Whether its threads are alive; if not, why.
    fn health(&self) -> Result<(), String>;

    /// Whether it accepts work; if not, why.
    async fn readiness(&self) -> Result<(), String>;
}

/// The listening server.
#[derive(Debug)]
pub struct Monitor(TcpListener);

impl Monitor {
    /// Binds this address.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        tracing::info!(address = %listener.local_addr()?, "metrics, health and readiness");
        Ok(Self(listener))
    }

    /// The bound address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Serves forever.
    pub async fn serve(self, watched: &impl Watched) -> Infallible {
        let permits = Connections::new("monitor", LIMITS, Box::new(|_| false));
        let mut connections = FuturesUnordered::new();
        let mut sweeps = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                accepted = self.0.accept() => match accepted {
                    Ok((stream, peer)) => match permits.admit(Some(peer.ip())) {
                        Some(permit) => connections.push(serve_one(stream, permit, watched)),
                        None => tracing::debug!(%peer, "no permit for a connection to the monitor"),
                    },
                    Err(error) => {
                        tracing::warn!(%error, "connection to the monitor not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(()) = connections.next() => {}
                _ = sweeps.tick() => permits.sweep(),
            }
        }
    }
}

/// Serves one request.
async fn serve_one(stream: TcpStream, permit: Arc<Permit>, watched: &impl Watched) {
    let service = service_fn(|request| {
        // To the end of the connection, which this is the only request of.
        permit.request().for_ever();
        async move { Ok::<_, Infallible>(respond(&request, watched).await) }
    });
    let mut server = http1::Builder::new();
    server.header_read_timeout(None);
    server.max_buf_size(HEAD_BYTES).keep_alive(false);
    let served = pin!(server.serve_connection(TokioIo::new(stream), service));
    let served = async {
        tokio::select! {
            served = served => served.map_err(|error| error.to_string()),
            () = permit.lost() => Err("it waited too long, or made room for another".to_owned()),
        }
    };
    match timeout(CONNECTION_LIMIT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection to the monitor ended"),
        Err(_) => tracing::debug!("connection to the monitor took too long"),
    }
}

async fn respond(request: &Request<Incoming>, watched: &impl Watched) -> Response<Full<Bytes>> {
    if !request.body().is_end_stream() {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body\n".to_owned());
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "GET and HEAD only\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let gathered = timeout(GATHER_TIMEOUT, show(request.uri().path(), watched)).await;
    gathered.unwrap_or_else(|_| {
        text(StatusCode::SERVICE_UNAVAILABLE, "the daemon did not answer in time\n".to_owned())
    })
}

async fn show(path: &str, watched: &impl Watched) -> Response<Full<Bytes>> {
    match path {
        "/metrics" => {
            let mut response = text(StatusCode::OK, watched.page().await.text());
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(page::CONTENT_TYPE));
            response
        }
        "/healthz" => verdict(watched.health()),
        "/readyz" => verdict(watched.readiness().await),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /healthz and /readyz\n".to_owned()),
    }
}

fn verdict(verdict: Result<(), String>) -> Response<Full<Bytes>> {
    match verdict {
        Ok(()) => text(StatusCode::OK, "ok\n".to_owned()),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn text(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    struct Daemon {
        ready: Result<(), String>,
    }

    impl Watched for Daemon {
        async fn page(&self) -> Page {
            let mut page = Page::default();
            page.gauge("x", "X").is(1_u64);
            page
        }

        fn health(&self) -> Result<(), String> {
            Ok(())
        }

        async fn readiness(&self) -> Result<(), String> {
            self.ready.clone()
        }
    }

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // What was not read of a request that is refused may cost the end of the answer.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(address: SocketAddr, path: &str) -> String {
        ask(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await
    }

    /// Runs a test beside the server.
    async fn with_server(daemon: Daemon, test: impl AsyncFnOnce(SocketAddr)) {
        let monitor = Monitor::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = monitor.local_addr().unwrap();
        tokio::select! {
            () = test(address) => {}
            never = monitor.serve(&daemon) => match never {},
        }
    }

    #[tokio::test]
    async fn each_path_has_its_answer() {
        let not_ready = Daemon { ready: Err("the store is broken".to_owned()) };
        with_server(not_ready, async |address| {
            let metrics = get(address, "/metrics?x=1").await;
            assert!(metrics.starts_with("HTTP/1.1 200 OK"), "{metrics}");
            assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
            assert!(metrics.ends_with("\r\n\r\n# HELP x X\n# TYPE x gauge\nx 1\n"), "{metrics}");
            assert!(get(address, "/healthz").await.ends_with("\r\n\r\nok\n"));
            let ready = get(address, "/readyz").await;
            assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("the store is broken\n"), "{ready}");
            assert!(get(address, "/").await.starts_with("HTTP/1.1 404"));
            let posted = ask(address, "POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await;
            assert!(posted.starts_with("HTTP/1.1 405") && posted.contains("allow: GET, HEAD"), "{posted}");
        })
        .await;
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused() {
        with_server(Daemon { ready: Ok(()) }, async |address| {
            let head = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(HEAD_BYTES));
            let answer = ask(address, &head).await;
            assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
            let body = "GET /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello";
            let answer = ask(address, body).await;
            assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        })
        .await;
    }

    #[tokio::test]
    async fn those_who_say_nothing_make_room() {
        with_server(Daemon { ready: Ok(()) }, async |address| {
            let mut silent = Vec::new();
            for _ in 0..LIMITS.total * 2 {
                silent.push(TcpStream::connect(address).await.unwrap());
            }
            assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200"));
            let mut byte = [0];
            for mut stream in silent {
                assert_eq!(stream.read(&mut byte).await.unwrap_or(0), 0, "it has no time for ever");
            }
        })
        .await;
    }
}
