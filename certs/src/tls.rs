//! The TLS configurations of both sides: TLS 1.3 only, mutual authentication, a full handshake for every connection.

use std::fmt;
use std::sync::Arc;

use berth_common::ids::NodeId;
use berth_common::wire::ALPN;
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};

use crate::credentials::Credentials;
use crate::identity::{Identity, Role};
use crate::verify::{AgentVerifier, EdgeVerifier};

/// The server name that edges send when they dial. It is ignored: the URI in its certificate identifies an agent.
pub const SERVER_NAME: &str = "agent.berth.internal";

const PROVIDER_HAS_TLS13: &str = "the ring provider has cipher suites of TLS 1.3";

/// The client side of an edge that dials one node: the peer must be an agent of our CA with exactly this node's name.
pub fn client_config(credentials: &Credentials, expect: &NodeId) -> Arc<ClientConfig> {
    let verifier = AgentVerifier {
        credentials: credentials.clone(),
        algorithms: credentials.provider.signature_verification_algorithms,
        expected: Identity { role: Role::Agent, name: expect.to_string() },
    };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&credentials.provider))
        .with_protocol_versions(&[&TLS13])
        .expect(PROVIDER_HAS_TLS13)
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(resolver(credentials));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would skip the certificate and its expiry check.
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Arc::new(config)
}

/// The server side of an agent: the peer must be an edge of our CA.
pub fn server_config(credentials: &Credentials) -> Arc<ServerConfig> {
    let verifier = EdgeVerifier {
        credentials: credentials.clone(),
        algorithms: credentials.provider.signature_verification_algorithms,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&credentials.provider))
        .with_protocol_versions(&[&TLS13])
        .expect(PROVIDER_HAS_TLS13)
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(resolver(credentials));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Arc::new(config)
}

fn resolver(credentials: &Credentials) -> Arc<OwnKey> {
    Arc::new(OwnKey(credentials.clone()))
}

/// The certificate and key that were loaded last.
struct OwnKey(Credentials);

impl fmt::Debug for OwnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OwnKey").field(&self.0).finish()
    }
}

impl ResolvesClientCert for OwnKey {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.loaded().key))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for OwnKey {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.loaded().key))
    }
}
