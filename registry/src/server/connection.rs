//! One connection of a listener that serves axum's routes over HTTP/1.1: its TLS handshake, its requests, and the permit
//! that it has among the others. The admin API's connections are served here too.
//!
//! Does not know what the routes are.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use berth_common::accept::Admitted;
use berth_common::connections::{Busy, Permit};
use http::{Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

/// Largest head of a request, and most of a body that is read ahead, in bytes.
const BUFFER_BYTES: usize = 64 * 1024;

/// Serves a connection until it ends or loses its permit, after a TLS handshake if there is an acceptor. Requests have
/// their connection's permit (`Arc<Permit>`) as an extension.
pub async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    tls: Option<TlsAcceptor>,
    permit: Arc<Permit>,
    routes: axum::Router,
) -> anyhow::Result<()> {
    let serve = async {
        match tls {
            None => serve_plain(stream, &permit, routes).await,
            Some(tls) => serve_plain(tls.accept(stream).await?, &permit, routes).await,
        }
    };
    tokio::select! {
        served = serve => served,
        () = permit.lost() => anyhow::bail!("it waited too long, or made room for another"),
    }
}

async fn serve_plain(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    permit: &Arc<Permit>,
    routes: axum::Router,
) -> anyhow::Result<()> {
    let stream = TokioIo::new(Admitted::new(stream, Arc::clone(permit)));
    let routes = TowerToHyperService::new(routes.layer(Extension(Arc::clone(permit))));
    let service = service_fn(|request| {
        let (busy, answer) = (permit.request(), routes.call(request));
        async move { answer.await.map(|response| until_its_end(response, busy)) }
    });
    // Without timers of its own: a connection that waits too long loses its permit.
    let mut server = http1::Builder::new();
    server.header_read_timeout(None).max_buf_size(BUFFER_BYTES);
    Ok(pin!(server.serve_connection(stream, service).with_upgrades()).await?)
}

/// The request is under way until its response's body has ended, and for ever where the connection changes its protocol.
fn until_its_end(response: Response<Body>, busy: Busy) -> Response<Body> {
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        busy.for_ever();
        return response;
    }
    response.map(|body| Body::new(Served { body, _busy: busy }))
}

struct Served {
    body: Body,
    _busy: Busy,
}

impl HttpBody for Served {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
