//! Two servers in one process: a page on one port, and on another how often it was asked for.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::Full;
use hyper::Response;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// TCP port of the page; the same as `default_port` in `berth.toml`.
const PAGE_PORT: u16 = 8080;
/// TCP port of the counter; the same as in `required_ports`.
const COUNTER_PORT: u16 = 9000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let (page, counter) = (listen(PAGE_PORT).await?, listen(COUNTER_PORT).await?);
    // The first process of a container ignores signals that it has no handler for.
    let mut terminate = signal(SignalKind::terminate())?;
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    tokio::select! {
        ended = serve(page, move || {
            asked.fetch_add(1, Ordering::Relaxed);
            "the page\n".to_owned()
        }) => ended,
        ended = serve(counter, move || format!("asked for {} times\n", count.load(Ordering::Relaxed))) => ended,
        _ = terminate.recv() => Ok(()),
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(("0.0.0.0", port)).await
}

/// Answers every request with a text.
async fn serve(
    listener: TcpListener,
    text: impl Fn() -> String + Clone + Send + 'static,
) -> std::io::Result<()> {
    loop {
        let stream = TokioIo::new(listener.accept().await?.0);
        let text = text.clone();
        let service = service_fn(move |_| {
            let answer = Response::new(Full::<bytes::Bytes>::from(text()));
            async { Ok::<_, Infallible>(answer) }
        });
        // A client that has half-closed its connection still gets its response.
        tokio::spawn(http1::Builder::new().half_close(true).serve_connection(stream, service));
    }
}
