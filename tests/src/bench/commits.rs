//! Load of small values that are put through the admin API, each awaited until it is durable, and what that measured.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::samples::Samples;

/// What was measured.
#[derive(Debug)]
pub struct Commits {
    /// Durable puts a second, of all clients together.
    pub per_second: f64,
    /// From a request to its answer, in milliseconds.
    pub latencies: Samples,
}

/// Some clients, each with a connection that it keeps, put values of so many bytes for a time; each waits for its
/// answer before it puts the next. `path_of` gives the path for a client's value with a number.
pub async fn measure(
    socket: &Path,
    clients: usize,
    value_bytes: usize,
    time: Duration,
    path_of: impl Fn(usize, usize) -> String + Clone + Send + 'static,
) -> Result<Commits> {
    let (mut running, began) = (JoinSet::new(), Instant::now());
    for client in 0..clients {
        let (socket, path_of) = (socket.to_owned(), path_of.clone());
        let value = Bytes::from(vec![b'x'; value_bytes]);
        running.spawn(put_until(socket, began + time, value, move |number| path_of(client, number)));
    }
    let (mut latencies, mut count) = (Samples::default(), 0);
    while let Some(of_one) = running.join_next().await {
        for latency in of_one?? {
            latencies.add_ms(latency);
            count += 1;
        }
    }
    Ok(Commits { per_second: f64::from(count) / began.elapsed().as_secs_f64(), latencies })
}

async fn put_until(
    socket: PathBuf,
    end: Instant,
    value: Bytes,
    path_of: impl Fn(usize) -> String,
) -> Result<Vec<Duration>> {
    let stream = UnixStream::connect(&socket).await;
    let stream = stream.with_context(|| format!("connect to {}", socket.display()))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        put(&mut sender, &path_of(latencies.len()), value.clone()).await?;
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

async fn put(sender: &mut SendRequest<Full<Bytes>>, path: &str, value: Bytes) -> Result<()> {
    let request = Request::put(path).header("host", "localhost").body(Full::new(value))?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "PUT {path}: {}", response.status());
    response.into_body().collect().await?;
    Ok(())
}
