//! Shows which variables and secrets it was given. Of a secret it shows only the length and the last characters.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// TCP port; the same as `default_port` in `berth.toml`.
const PORT: u16 = 8080;
const PLAIN: [&str; 2] = ["ACCOUNT_NAME", "GREETING"];
const SECRET: [&str; 2] = ["ACCOUNT_API_KEY", "CONTAINER_SECRET_KEY"];
/// How many of a secret's last characters are shown, so that two can be distinguished.
const SHOWN_CHARACTERS: usize = 3;

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

async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let plain = PLAIN.map(|name| format!("{name}: {}\n", variable(name).unwrap_or("not set".to_owned())));
    let secret =
        SECRET.map(|name| format!("{name}: {}\n", variable(name).map_or("not set".to_owned(), hint)));
    Ok(Response::new(Full::from(plain.concat() + &secret.concat())))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn hint(secret: String) -> String {
    let length = secret.chars().count();
    let end: String = secret.chars().skip(length.saturating_sub(SHOWN_CHARACTERS)).collect();
    format!("{length} characters, the last of them {end}")
}
