//! Requests to one repository of one registry: authenticates in the way that the registry asks for, and follows
//! redirects.
//!
//! ```text
//! call ── with the known authorization ──▶ response ── 401 ──▶ challenge ── realm ──▶ authorization ──▶ call again, once
//!                                            └── redirect ──▶ call there, without authorization on another server
//! ```
//!
//! User and password go only to the registry and to the realm that it names, an identity token only to that realm; tokens
//! only to the registry.
//!
//! What fails, and what happens then:
//!
//! * 401 with a challenge: authenticated once, and the request is repeated; a second 401 is an error.
//! * The token has expired: replaced before it is used, or after a 401.
//! * The realm refuses the login: an error that names registry and user.
//! * Redirect from HTTPS to HTTP, or too many: an error.
//! * Redirect to another server: followed without credentials.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ::http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use ::http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use berth_common::image::{Registry, Repository};
use berth_common::secret::Secret;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::Mutex as AsyncMutex;

use super::Remote;
use super::challenge::Challenge;
use super::error::RemoteError;
use super::exchange::{ANSWER_TIMEOUT, Answer, Body, send};
use super::login::Login;
use super::tokens::{Authorization, Granted, Purpose};
use super::upload::Source;
use crate::web::WebAddress;

/// How realms know this program.
const CLIENT_ID: &str = "berth";
/// Most redirects of one request: the storage of layers is one or two away.
const MAX_REDIRECTS: usize = 5;
/// Largest response of a realm, in bytes.
const MAX_TOKEN_BYTES: usize = 256 << 10;

/// The permission that is needed in a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Pull,
    Push,
}

/// A request to a registry.
#[derive(Debug)]
pub(super) struct ApiCall {
    pub(super) method: Method,
    pub(super) address: WebAddress,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Payload,
    /// For error texts: completes "when ... is asked for".
    pub(super) what: String,
}

/// The body of a request. It can be sent several times.
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

impl ApiCall {
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
        authorization: Option<HeaderValue>,
    ) -> Result<Request<Body>, RemoteError> {
        let mut request = Request::builder().method(self.method.clone()).uri(&address.path);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let made = request.body(self.body.body());
        made.map_err(|_| RemoteError::Invalid("the URL is not valid".to_owned()))
    }
}

/// Access to one repository of one registry.
pub(super) struct Session<'a> {
    remote: &'a Remote,
    registry: Registry,
    origin: WebAddress,
    login: Option<Login>,
    purpose: Purpose,
    /// The lock is held only to read or replace it.
    authorization: Mutex<Option<Authorization>>,
    /// Held while an authorization is obtained, by design: of several tasks that need one, one obtains it for all.
    authorizing: AsyncMutex<()>,
}

impl<'a> Session<'a> {
    /// Access to a repository, or only to the registry itself.
    pub(super) fn new(
        remote: &'a Remote,
        registry: &Registry,
        login: Option<Login>,
        scopes: Vec<String>,
    ) -> Result<Self, RemoteError> {
        let registry = super::canonical(registry);
        let origin = remote.origin(&registry)?;
        let purpose = remote.tokens.purpose(&registry, scopes, login.as_ref());
        let authorization = Mutex::new(remote.tokens.get(&purpose));
        Ok(Self {
            remote,
            registry,
            origin,
            login,
            purpose,
            authorization,
            authorizing: AsyncMutex::default(),
        })
    }

    /// The scope of an action in a repository.
    pub(super) fn scope(repository: &Repository, action: Action) -> String {
        let actions = if action == Action::Push { "pull,push" } else { "pull" };
        format!("repository:{repository}:{actions}")
    }

    /// A URL of the registry.
    pub(super) fn address(&self, path: impl Into<String>) -> WebAddress {
        WebAddress { path: path.into(), ..self.origin.clone() }
    }

    /// The URL that a response refers to. HTTPS to HTTP is refused.
    pub(super) fn next_address(
        &self,
        from: &WebAddress,
        location: Option<&str>,
    ) -> Result<WebAddress, RemoteError> {
        let location =
            location.ok_or_else(|| RemoteError::Invalid("a redirect without a Location".to_owned()))?;
        let next = from.follow(location)?;
        if next.tls || !self.origin.tls { Ok(next) } else { Err(RemoteError::Downgrade(next.authority)) }
    }

    /// Sends a request, and returns a response that is neither a redirect nor a challenge.
    pub(super) async fn call(&self, call: &ApiCall) -> Result<Answer, RemoteError> {
        let mut address = call.address.clone();
        let mut authenticated = false;
        let mut redirects = 0;
        loop {
            let home = address.is_same_server(&self.origin);
            let authorization = if home { self.authorization().await? } else { None };
            let answer = self.send(call, &address, authorization.clone()).await?;
            if answer.status == StatusCode::UNAUTHORIZED && home && !authenticated {
                authenticated = true;
                self.authorize(answer, authorization.as_ref()).await?;
            } else if answer.status == StatusCode::UNAUTHORIZED && home {
                return Err(self.refused(answer).await);
            } else if follows(call, answer.status) {
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
        call: &ApiCall,
        address: &WebAddress,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, RemoteError> {
        let sending = send(&self.remote.connector, address, call.request(address, authorization)?);
        match &call.body {
            Payload::Blob(source) => source.watch(sending).await,
            _ => within(ANSWER_TIMEOUT, sending).await,
        }
    }

    /// The current authorization; an expired one is renewed.
    async fn authorization(&self) -> Result<Option<HeaderValue>, RemoteError> {
        let Some(known) = self.known() else { return Ok(None) };
        if known.holds() {
            return Ok(Some(known.header));
        }
        let _authorizing = self.authorizing.lock().await;
        match self.known() {
            Some(newer) if newer.holds() => Ok(Some(newer.header)),
            _ => self.renew(known.challenge).await.map(Some),
        }
    }

    fn known(&self) -> Option<Authorization> {
        self.authorization.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Obtains an authorization after a response that did not accept the used one.
    async fn authorize(&self, answer: Answer, used: Option<&HeaderValue>) -> Result<(), RemoteError> {
        let challenge = Challenge::of(&answer.headers);
        let challenge = challenge.map_err(|reason| self.not_understood(reason))?;
        let _authorizing = self.authorizing.lock().await;
        // Another task has obtained one in the meantime.
        if self.known().is_some_and(|known| Some(&known.header) != used) {
            return Ok(());
        }
        self.remote.tokens.forget(&self.purpose);
        // A password that was rejected once is not sent again.
        if challenge == Challenge::Basic && (used.is_some() || self.login.is_none()) {
            return Err(self.refused(answer).await);
        }
        self.renew(challenge).await.map(drop)
    }

    async fn renew(&self, challenge: Challenge) -> Result<HeaderValue, RemoteError> {
        let authorization = match &challenge {
            Challenge::Basic => {
                let basic = self.login.as_ref().and_then(Login::basic);
                let unknown =
                    || self.not_understood("it wants a user and a password, and none is known".to_owned());
                Authorization::basic(basic.ok_or_else(unknown)?)
            }
            Challenge::Bearer { realm, service } => {
                let granted = self.token(realm, service.as_deref()).await?;
                let authorization = granted.authorization(challenge.clone());
                authorization
                    .ok_or_else(|| self.not_understood("its realm answers without a token".to_owned()))?
            }
        };
        self.remote.tokens.keep(self.purpose.clone(), authorization.clone());
        let header = authorization.header.clone();
        *self.authorization.lock().unwrap_or_else(PoisonError::into_inner) = Some(authorization);
        Ok(header)
    }

    /// Gets a token from a realm. Redirects are not followed: the request contains the password.
    async fn token(&self, realm: &str, service: Option<&str>) -> Result<Granted, RemoteError> {
        let mut address = WebAddress::of(realm)?;
        if self.origin.tls && !address.tls {
            return Err(RemoteError::Downgrade(address.authority));
        }
        let identity = self.login.as_ref().and_then(Login::identity_token);
        let call = match identity {
            Some(token) => ApiCall::new(Method::POST, address, "a token")
                .header(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"))
                .body(Payload::Bytes(self.refreshing(token, service).into())),
            None => {
                address.path = self.query(&address.path, service);
                ApiCall::new(Method::GET, address, "a token")
            }
        };
        let basic = self.login.as_ref().and_then(Login::basic);
        let answer = self.send(&call, &call.address, basic).await?;
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

    /// What a realm is sent for a token of the registry in exchange for an identity token (OAuth2, as the distribution
    /// project's token specification has it).
    fn refreshing(&self, identity_token: &Secret, service: Option<&str>) -> String {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("client_id", CLIENT_ID);
        if let Some(service) = service {
            form.append_pair("service", service);
        }
        if !self.purpose.scopes.is_empty() {
            form.append_pair("scope", &self.purpose.scopes.join(" "));
        }
        form.append_pair("refresh_token", identity_token.expose()).finish()
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
        let (registry, text) = (self.registry.clone(), answer.error_text().await);
        match &self.login {
            Some(login) => RemoteError::Refused { registry, whose: login.whose(), text },
            None => RemoteError::LoginNeeded { registry, text },
        }
    }

    fn not_understood(&self, reason: String) -> RemoteError {
        RemoteError::Challenge { registry: self.registry.clone(), reason }
    }
}

/// Whether a redirect is followed: those of uploads are not, as their `Location` is part of the protocol.
fn follows(call: &ApiCall, status: StatusCode) -> bool {
    let leads = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    leads && matches!(call.method, Method::GET | Method::HEAD)
}

/// Limits the time of an operation.
pub(super) async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, RemoteError>>,
) -> Result<T, RemoteError> {
    tokio::time::timeout(time, work).await.unwrap_or(Err(RemoteError::TimedOut(time)))
}
