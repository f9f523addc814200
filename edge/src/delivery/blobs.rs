//! Sends a node the blobs that it requests, each over a stream of its own.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use berth_common::wire::call::{Refusal, RefusalCode};
use berth_common::wire::images::{BlobAnswer, ReadBlob};
use berth_common::wire::{STREAM_BLOB, close, frame};
use berth_registry::content::Content;
use bytes::Bytes;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use tokio::task::JoinSet;

/// Bytes that are read from disk at once.
const CHUNK_BYTES: usize = 256 << 10;
/// How long a node may take to send its request.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves the streams that a node opens, until the connection is lost. Dropping the future cancels them.
pub(super) async fn serve(connection: &Connection, content: &Content) -> ConnectionError {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept_bi() => match accepted {
                Ok((send, recv)) => drop(streams.spawn(serve_one(send, recv, content.clone()))),
                Err(error) => return error,
            },
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn serve_one(mut send: SendStream, recv: RecvStream, content: Content) {
    match tokio::time::timeout(ASK_TIMEOUT, read_ask(recv)).await {
        Ok(Some(ask)) => {
            if let Err(error) = give(&mut send, ask, content).await {
                tracing::debug!(%error, "blob not sent completely");
                let _ = send.reset(VarInt::from_u32(close::RESET));
            }
        }
        _ => drop(send.reset(VarInt::from_u32(close::PROTOCOL))),
    }
}

async fn read_ask(mut recv: RecvStream) -> Option<ReadBlob> {
    let mut kind = [0];
    recv.read_exact(&mut kind).await.ok()?;
    if kind == [STREAM_BLOB] { frame::read(&mut recv).await.ok()? } else { None }
}

async fn give(send: &mut SendStream, ask: ReadBlob, content: Content) -> io::Result<()> {
    let ReadBlob { digest, from } = ask;
    let found = blocking(move || content.get(&digest).map_err(io::Error::other)).await;
    let (file, length) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return refuse(send, format!("the edge does not have {digest}")).await,
        Err(error) => return refuse(send, format!("the edge cannot read {digest}: {error}")).await,
    };
    frame::write(send, &BlobAnswer::Here { length }).await.map_err(io::Error::other)?;
    send_file(send, file, from, length).await
}

async fn refuse(send: &mut SendStream, message: String) -> io::Result<()> {
    let refusal = Refusal { code: RefusalCode::Image, message };
    frame::write(send, &BlobAnswer::Refused(refusal)).await.map_err(io::Error::other)?;
    finish(send)
}

async fn send_file(send: &mut SendStream, file: File, from: u64, length: u64) -> io::Result<()> {
    let file = Arc::new(file);
    let mut at = from;
    while at < length {
        let wanted = usize::try_from(length - at).unwrap_or(usize::MAX).min(CHUNK_BYTES);
        let file = Arc::clone(&file);
        let chunk = blocking(move || {
            let mut chunk = vec![0; wanted];
            file.read_exact_at(&mut chunk, at).map(|()| chunk)
        });
        let chunk = Bytes::from(chunk.await?);
        at += chunk.len() as u64;
        send.write_chunk(chunk).await?;
    }
    finish(send)
}

fn finish(send: &mut SendStream) -> io::Result<()> {
    // Fails only if the stream has ended already.
    let _ = send.finish();
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
