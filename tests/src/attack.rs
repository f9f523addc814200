//! What one tenant's clients can do to a line that all share: uploads that nobody reads, downloads that they do not read
//! themselves, and more WebSockets than anyone needs. Raw sockets, to the edge on loopback only.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::client::Client;

/// Handshakes at once.
const AT_ONCE: usize = 64;
/// Longest answer's head that is looked at, in bytes.
const HEAD_BYTES: usize = 4096;
/// How long an answer may take that was sent before an upload failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between two requests of somebody else.
const PAUSE: Duration = Duration::from_millis(20);

/// Addresses of loopback that an attacker's connections come from, so that no limit for one address stops them.
const SOURCES: usize = 16;

/// Connects as the attacker's connection of this number.
async fn connect(edge: SocketAddr, number: usize) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    let last = u8::try_from(number % SOURCES + 2)?;
    socket.bind((Ipv4Addr::new(127, 0, 0, last), 0).into())?;
    socket.connect(edge).await.context("connect to the edge")
}

/// Uploads that the app never reads. Dropped, they end.
#[derive(Debug)]
pub struct Uploads(JoinSet<String>);

impl Uploads {
    /// Begins so many to a path that answers without reading.
    pub async fn begin(edge: SocketAddr, path: &str, count: usize) -> Result<Self> {
        let mut uploads = JoinSet::new();
        for number in 0..count {
            let mut stream = connect(edge, number).await?;
            let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1099511627776\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            uploads.spawn(push(stream));
        }
        Ok(Self(uploads))
    }

    /// What the next one that ends was answered.
    pub async fn next_answer(&mut self) -> Result<String> {
        Ok(self.0.join_next().await.context("none is left")??)
    }
}

/// Sends for ever, and returns what comes back once that fails.
async fn push(stream: TcpStream) -> String {
    let (mut from, mut to) = stream.into_split();
    let zeros = vec![0; 64 << 10];
    let sending = async { while to.write_all(&zeros).await.is_ok() {} };
    let mut answer = Vec::new();
    let mut buffer = vec![0; HEAD_BYTES];
    let reading = async {
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            answer.extend_from_slice(&buffer[..read]);
            answer.truncate(HEAD_BYTES);
        }
    };
    let failing = async {
        sending.await;
        // What was answered before may still be unread.
        tokio::time::sleep(ANSWER_TIMEOUT).await;
    };
    tokio::select! {
        () = reading => {}
        () = failing => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Begins so many downloads of a path that nobody reads.
pub async fn unread_downloads(edge: SocketAddr, path: &str, count: usize) -> Result<Vec<TcpStream>> {
    let mut streams = Vec::new();
    for number in 0..count {
        let mut stream = connect(edge, number).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
        streams.push(stream);
    }
    Ok(streams)
}

/// Asks for so many WebSockets, of so many objects of the app with this prefix. Returns those that opened, and how many
/// were refused with 503 and `Retry-After`.
pub async fn websockets(
    edge: SocketAddr,
    prefix: &str,
    objects: usize,
    count: usize,
) -> Result<(Vec<TcpStream>, usize)> {
    let (mut open, mut refused, mut asked) = (Vec::new(), 0, 0);
    let mut asking = FuturesUnordered::new();
    while asked < count || !asking.is_empty() {
        while asked < count && asking.len() < AT_ONCE {
            asking.push(websocket(edge, format!("/{prefix}/{}/ws", asked % objects + 1), asked));
            asked += 1;
        }
        match asking.next().await.context("nothing was asked")?? {
            Some(stream) => open.push(stream),
            None => refused += 1,
        }
    }
    Ok((open, refused))
}

async fn websocket(edge: SocketAddr, path: String, number: usize) -> Result<Option<TcpStream>> {
    let mut stream = connect(edge, number).await?;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = vec![0; HEAD_BYTES];
    let mut length = 0;
    while !answer[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        let read = stream.read(&mut answer[length..]).await?;
        ensure!(read > 0, "a WebSocket was neither opened nor refused");
        length += read;
    }
    let head = String::from_utf8_lossy(&answer[..length]).to_lowercase();
    if head.starts_with("http/1.1 101") {
        return Ok(Some(stream));
    }
    ensure!(head.starts_with("http/1.1 503") && head.contains("retry-after:"), "refused with {head}");
    Ok(None)
}

/// Somebody else's requests, one after the other for so long: how long each took.
pub async fn requests_of_another(client: Client, path: &str, lasting: Duration) -> Result<Vec<Duration>> {
    let (began, mut took) = (Instant::now(), Vec::new());
    while began.elapsed() < lasting {
        let asked = Instant::now();
        client.get(path).await?.success().with_context(|| format!("after {:?}", began.elapsed()))?;
        took.push(asked.elapsed());
        tokio::time::sleep(PAUSE).await;
    }
    Ok(took)
}
