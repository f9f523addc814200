//! An HTTP client that returns every response unchanged: nothing is retried, no connection is used twice.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{HeaderMap, Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a connection may take to be closed after the server has answered something that it does not understand.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// The body of a request.
pub type Body = BoxBody<Bytes, Infallible>;

/// A client of one edge.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    address: SocketAddr,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub text: String,
}

impl Answer {
    /// Fails unless it is a success.
    pub fn success(self) -> Result<Self> {
        ensure!(self.status.is_success(), "{}: {}", self.status, self.text.trim());
        Ok(self)
    }

    /// The instance that answered, by the header that examples/hello sets.
    pub fn instance(&self) -> Result<String> {
        let header = self.headers.get("x-instance").context("no instance answered")?;
        Ok(header.to_str()?.to_owned())
    }
}

impl Client {
    /// A client of the server at this address.
    pub fn of(address: SocketAddr) -> Self {
        Self { address }
    }

    /// Where it sends requests.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A whole answer, whatever its status is.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.exchange(Method::GET, path, Empty::new().boxed()).await
    }

    /// A whole answer to a request with a body.
    pub async fn put(&self, path: &str, body: impl Into<Bytes>) -> Result<Answer> {
        self.exchange(Method::PUT, path, Full::new(body.into()).boxed()).await
    }

    /// A whole answer to a request with any body.
    pub async fn exchange(&self, method: Method, path: &str, body: Body) -> Result<Answer> {
        whole(path, self.send(method, path, body).await?).await
    }

    /// A whole answer over a connection that was made elsewhere, with headers of the request.
    pub async fn over(
        stream: std::net::TcpStream,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<Answer> {
        stream.set_nonblocking(true)?;
        let mut request = Request::builder().uri(path).header(HOST, stream.peer_addr()?.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::new().boxed())?;
        whole(path, send(TcpStream::from_std(stream)?, request).await?).await
    }

    /// An answer whose body is still to come. Dropping it closes the connection.
    pub async fn send(&self, method: Method, path: &str, body: Body) -> Result<Response<Incoming>> {
        let stream = TcpStream::connect(self.address).await.context("connect to the edge")?;
        let request = Request::builder().method(&method).uri(path).header(HOST, self.address.to_string());
        send(stream, request.body(body)?).await.with_context(|| format!("{method} {path}"))
    }

    /// Sends bytes as they are, and reads until the server closes the connection.
    pub async fn raw(&self, bytes: &[u8]) -> Result<String> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(bytes).await?;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(CLOSE_TIMEOUT, stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        read.with_context(|| format!("the connection stayed open after {answer:?}"))??;
        Ok(answer)
    }
}

async fn send(stream: TcpStream, request: Request<Body>) -> Result<Response<Incoming>> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

async fn whole(path: &str, response: Response<Incoming>) -> Result<Answer> {
    let (head, body) = response.into_parts();
    let body = body.collect().await.with_context(|| format!("{path}: the answer broke off"))?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok(Answer { status: head.status, headers: head.headers, text })
}
