//! What is asked of one repository of one registry: says who asks in the way that the registry wants, and follows redirects.
//!
//! ```text
//! ask ── with the proof that there is ──▶ answer ── 401 ──▶ challenge ── realm ──▶ proof ──▶ ask again, once
//!                                           └── redirect ──▶ ask there, without proof if it is another server
//! ```
//!
//! User and password go to the registry and to the realm that it names, and nowhere else; tokens to the registry only.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::http::header::{AUTHORIZATION, LOCATION};
use ::http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use berth_common::image::{Registry, Repository};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::Mutex as AsyncMutex;

use super::Remote;
use super::challenge::Challenge;
use super::error::RemoteError;
use super::exchange::{ANSWER_TIMEOUT, Answer, Body, send};
use super::login::Login;
use super::tokens::{Granted, Proof, Purpose};
use super::upload::Source;
use crate::web::WebAddress;

/// Most redirects of one request: storage of layers is one or two away.
const MAX_REDIRECTS: usize = 5;
/// Largest answer of a realm, in bytes.
const MAX_TOKEN_BYTES: usize = 256 << 10;

/// What is to be done in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
}

/// Something to be asked.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) address: WebAddress,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Payload,
    /// For people: completes "when ... is asked for".
    pub(super) what: String,
}

/// What is sent with it. It may be sent more than once.
#[derive(Debug, Clone, Default)]
pub(super) enum Payload {
    #[default]
    Nothing,
    Bytes(Bytes),
    Blob(Source),
}

impl Payload {
    fn body(&self) -> Body {
        match self {
            Self::Nothing => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            Self::Bytes(bytes) => Full::new(bytes.clone()).map_err(|never| match never {}).boxed_unsync(),
            Self::Blob(source) => source.body(),
        }
    }
}

impl Ask {
    pub(super) fn new(method: Method, address: WebAddress, what: impl Into<String>) -> Self {
        Self { method, address, headers: Vec::new(), body: Payload::Nothing, what: what.into() }
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) fn body(self, body: Payload) -> Self {
        Self { body, ..self }
    }

    fn request(
        &self,
        address: &WebAddress,
        proof: Option<HeaderValue>,
    ) -> Result<Request<Body>, RemoteError> {
        let mut request = Request::builder().method(self.method.clone()).uri(&address.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(proof) = proof {
            request = request.header(AUTHORIZATION, proof);
        }
        let made = request.body(self.body.body());
        made.map_err(|_| RemoteError::Senseless("it leads to what is no address".to_owned()))
    }
}

/// Work in one repository of one registry.
pub(super) struct Session<'a> {
    remote: &'a Remote,
    registry: Registry,
    origin: WebAddress,
    login: Option<Login>,
    purpose: Purpose,
    /// Held to read or replace it only.
    proof: Mutex<Option<Proof>>,
    /// Held while a proof is had, by design: of several who need one, one gets it for all.
    proving: AsyncMutex<()>,
}

impl<'a> Session<'a> {
    /// Work in a repository, or only a look at the registry.
    pub(super) fn new(
        remote: &'a Remote,
        registry: &Registry,
        login: Option<Login>,
        scopes: Vec<String>,
    ) -> Result<Self, RemoteError> {
        let registry = super::canonical(registry);
        let origin = remote.origin(&registry)?;
        let purpose = remote.tokens.purpose(&registry, scopes, login.as_ref());
        let proof = Mutex::new(remote.tokens.get(&purpose));
        Ok(Self { remote, registry, origin, login, purpose, proof, proving: AsyncMutex::default() })
    }

    /// The scope of an action in a repository.
    pub(super) fn scope(repository: &Repository, action: Action) -> String {
        let actions = if action == Action::Push { "pull,push" } else { "pull" };
        format!("repository:{repository}:{actions}")
    }

    /// An address of the registry.
    pub(super) fn address(&self, path: impl Into<String>) -> WebAddress {
        WebAddress { path: path.into(), ..self.origin.clone() }
    }

    /// Where an answer from an address leads on to. Out of TLS it does not.
    pub(super) fn next_address(
        &self,
        from: &WebAddress,
        location: Option<&str>,
    ) -> Result<WebAddress, RemoteError> {
        let location = location.ok_or_else(|| RemoteError::Senseless("it leads on to nowhere".to_owned()))?;
        let next = from.follow(location)?;
        if next.tls || !self.origin.tls { Ok(next) } else { Err(RemoteError::Downgrade(next.authority)) }
    }

    /// Asks, and gives an answer that is neither a redirect nor a question who asks.
    pub(super) async fn ask(&self, ask: &Ask) -> Result<Answer, RemoteError> {
        let mut address = ask.address.clone();
        let mut asked_who = false;
        let mut redirects = 0;
        loop {
            let home = address.is_same_server(&self.origin);
            let proof = if home { self.proof().await? } else { None };
            let answer = self.send(ask, &address, proof.clone()).await?;
            if answer.status == StatusCode::UNAUTHORIZED && home && !asked_who {
                asked_who = true;
                self.prove(answer, proof.as_ref()).await?;
            } else if answer.status == StatusCode::UNAUTHORIZED && home {
                return Err(self.refused(answer).await);
            } else if follows(ask, answer.status) {
                redirects += 1;
                if redirects > MAX_REDIRECTS {
                    return Err(RemoteError::TooManyRedirects(MAX_REDIRECTS));
                }
                address = self.next_address(&address, answer.header(LOCATION.as_str()))?;
            } else {
                return Ok(answer);
            }
        }
    }

    async fn send(
        &self,
        ask: &Ask,
        address: &WebAddress,
        proof: Option<HeaderValue>,
    ) -> Result<Answer, RemoteError> {
        let sending = send(&self.remote.connector, address, ask.request(address, proof)?);
        match &ask.body {
            Payload::Blob(source) => source.watch(sending).await,
            _ => within(ANSWER_TIMEOUT, sending).await,
        }
    }

    /// The proof that there is, a new one in the place of one that holds no more.
    async fn proof(&self) -> Result<Option<HeaderValue>, RemoteError> {
        let Some(known) = self.known() else { return Ok(None) };
        if known.holds() {
            return Ok(Some(known.header));
        }
        let _proving = self.proving.lock().await;
        match self.known() {
            Some(newer) if newer.holds() => Ok(Some(newer.header)),
            _ => self.renew(known.challenge).await.map(Some),
        }
    }

    fn known(&self) -> Option<Proof> {
        self.proof.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Gets a proof as an answer asks for it that was not content with this one.
    async fn prove(&self, answer: Answer, used: Option<&HeaderValue>) -> Result<(), RemoteError> {
        let challenge = Challenge::of(&answer.headers);
        let challenge = challenge.map_err(|reason| self.not_understood(reason))?;
        let _proving = self.proving.lock().await;
        // Somebody else has got one meanwhile.
        if self.known().is_some_and(|known| Some(&known.header) != used) {
            return Ok(());
        }
        self.remote.tokens.forget(&self.purpose);
        // A password is not taken twice where it was not taken once.
        if challenge == Challenge::Basic && (used.is_some() || self.login.is_none()) {
            return Err(self.refused(answer).await);
        }
        self.renew(challenge).await.map(drop)
    }

    async fn renew(&self, challenge: Challenge) -> Result<HeaderValue, RemoteError> {
        let proof = match &challenge {
            Challenge::Basic => {
                let basic = self.login.as_ref().and_then(Login::basic);
                Proof::basic(basic.ok_or_else(|| self.not_understood("no user is known".to_owned()))?)
            }
            Challenge::Bearer { realm, service } => {
                let granted = self.token(realm, service.as_deref()).await?;
                let proof = granted.proof(challenge.clone());
                proof.ok_or_else(|| self.not_understood("its realm answers without a token".to_owned()))?
            }
        };
        self.remote.tokens.keep(self.purpose.clone(), proof.clone());
        let header = proof.header.clone();
        *self.proof.lock().unwrap_or_else(PoisonError::into_inner) = Some(proof);
        Ok(header)
    }

    /// Gets a token from a realm. It is led nowhere else: it is told the password.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<Granted, RemoteError> {
        let mut address = WebAddress::of(realm)?;
        if self.origin.tls && !address.tls {
            return Err(RemoteError::Downgrade(address.authority));
        }
        address.path = self.query(&address.path, service);
        let ask = Ask::new(Method::GET, address, "a token");
        let basic = self.login.as_ref().and_then(Login::basic);
        let answer = self.send(&ask, &ask.address, basic).await?;
        match answer.status {
            StatusCode::OK => {
                let body = answer.bytes(MAX_TOKEN_BYTES, "a token").await?;
                serde_json::from_slice(&body)
                    .map_err(|_| self.not_understood("its realm answers without a token".to_owned()))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(self.refused(answer).await),
            _ => Err(answer.refusal("a token").await),
        }
    }

    fn query(&self, path: &str, service: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in &self.purpose.scopes {
            query.append_pair("scope", scope);
        }
        if let Some(login) = &self.login {
            query.append_pair("account", &login.username);
        }
        let sign = if path.contains('?') { '&' } else { '?' };
        format!("{path}{sign}{}", query.finish())
    }

    async fn refused(&self, answer: Answer) -> RemoteError {
        let (registry, said) = (self.registry.clone(), answer.said().await);
        match &self.login {
            Some(login) => RemoteError::Refused { registry, user: login.username.clone(), said },
            None => RemoteError::LoginNeeded { registry, said },
        }
    }

    fn not_understood(&self, reason: String) -> RemoteError {
        RemoteError::Challenge { registry: self.registry.clone(), reason }
    }
}

/// Whether an answer leads on: uploads are led on by what they are told, and not by redirects.
fn follows(ask: &Ask, status: StatusCode) -> bool {
    let leads = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    leads && matches!(ask.method, Method::GET | Method::HEAD)
}

/// At most so long.
pub(super) async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    tokio::time::timeout(time, work).await.unwrap_or(Err(RemoteError::TimedOut(time)))
}
