//! A receiver of hooks: a real HTTP server on loopback that records events, checks the signature, and can be made to
//! fail, to hang, to redirect, and to renew.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::LOCATION;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use ring::hmac;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// How long a hanging receiver hangs.
const HANG: Duration = Duration::from_secs(600);

/// How it responds to an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Takes,
    /// Accepts it with `renew`: the idle instance is to be kept.
    Renews,
    /// Answers 500.
    Fails,
    /// Never answers.
    Hangs,
    /// Points elsewhere.
    Redirects(String),
}

/// A request that it received.
#[derive(Debug, Clone)]
pub struct Received {
    /// The event.
    pub event: Value,
    /// The body, as it came.
    pub body: Bytes,
    /// The header with the signature.
    pub signature: String,
    /// Whether it was taken.
    pub taken: bool,
}

impl Received {
    /// What it is about: `type` and name of the object.
    pub fn about(&self) -> (String, String) {
        let text = |key: &str| self.event[key].as_str().unwrap_or_default().to_owned();
        (text("type"), text("name"))
    }

    /// Fails unless it is signed with this secret.
    pub fn check_signature(&self, secret: &str) -> Result<()> {
        let (time, signature) = self.signature.split_once(",v1=").context("no signature")?;
        let time = time.strip_prefix("t=").context("no time")?;
        let signed = [time.as_bytes(), b".", &self.body].concat();
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let sound = hmac::verify(&key, &signed, &hex::decode(signature)?).is_ok();
        ensure!(sound, "it is signed with something else: {}", self.signature);
        Ok(())
    }
}

#[derive(Debug)]
struct State {
    manner: Manner,
    received: Vec<Received>,
}

/// A receiver that runs until the scenario's runtime ends.
#[derive(Debug, Clone)]
pub struct Receiver {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Receiver {
    /// One that takes everything.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State { manner: Manner::Takes, received: Vec::new() }));
        let receiver = Self { address, state };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let receiver = serving.clone();
                let service = service_fn(move |request| receiver.clone().answer(request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Ok(receiver)
    }

    /// Where it is reached.
    pub fn url(&self) -> String {
        format!("http://{}/hook?a=b", self.address)
    }

    /// Changes its behaviour from now on.
    pub fn set(&self, manner: Manner) {
        self.lock().manner = manner;
    }

    /// Every request that it received.
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.clone()
    }

    /// The events that it acknowledged, in order.
    pub fn taken(&self) -> Vec<Received> {
        self.received().into_iter().filter(|received| received.taken).collect()
    }

    /// The acknowledged events of one object: kinds in order, each event once however often it was sent.
    pub fn events_of(&self, name: &str) -> Vec<String> {
        let mut seen = Vec::new();
        let mut kinds = Vec::new();
        for received in self.taken().into_iter().filter(|received| received.about().1 == name) {
            if !seen.contains(&received.event["id"]) {
                kinds.push(received.about().0);
                seen.push(received.event["id"].clone());
            }
        }
        kinds
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        let signature = request.headers().get("berth-signature").and_then(|value| value.to_str().ok());
        let signature = signature.unwrap_or_default().to_owned();
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let event = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let manner = {
            let mut state = self.lock();
            let taken = matches!(state.manner, Manner::Takes | Manner::Renews);
            state.received.push(Received { event, body, signature, taken });
            state.manner.clone()
        };
        let mut response = Response::new(Full::default());
        match manner {
            Manner::Takes => *response.body_mut() = Full::from("thanks"),
            Manner::Renews => *response.body_mut() = Full::from(json!({ "action": "renew" }).to_string()),
            Manner::Fails => *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
            Manner::Hangs => tokio::time::sleep(HANG).await,
            Manner::Redirects(to) => {
                *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
                response.headers_mut().extend(to.parse().ok().map(|to| (LOCATION, to)));
            }
        }
        Ok(response)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
