//! Who is let in and who is not, over real QUIC on loopback: every refusal from the side that must refuse.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use berth_certs::{
    Authority, Credentials, Identity, Issued, KeyHash, LoadError, Role, SERVER_NAME, Validity, client_config,
    peer_identity, server_config,
};
use berth_common::ids::NodeId;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(24 * 3600);

struct Pki {
    dir: TempDir,
    authority: Authority,
}

impl Pki {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        Self { dir, authority }
    }

    fn issue(&self, role: Role, name: &str) -> Credentials {
        self.issue_for(role, name, Validity::days(1).unwrap())
    }

    fn issue_for(&self, role: Role, name: &str, validity: Validity) -> Credentials {
        let issued = self.authority.issue(role, name, validity).unwrap();
        self.load(&issued).unwrap()
    }

    fn load(&self, issued: &Issued) -> Result<Credentials, LoadError> {
        Credentials::load(&self.authority.certificate_path(), &issued.certificate, &issued.key)
    }

    /// A leaf, or what poses as one, signed with the CA's key but not by our rules.
    fn forge(&self, change: impl FnOnce(&mut CertificateParams)) -> Arc<SingleCertAndKey> {
        let read = |name: &str| std::fs::read_to_string(self.dir.path().join(name)).unwrap();
        let ca_key = KeyPair::from_pem(&read("ca.key")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&read("ca.pem"), ca_key).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        change(&mut params);
        let certificate = params.signed_by(&key, &issuer).unwrap();
        pair(vec![certificate.der().clone()], PrivateKeyDer::try_from(key.serialize_der()).unwrap())
    }

    fn ca_itself(&self) -> Arc<SingleCertAndKey> {
        let file = |name: &str| self.dir.path().join(name);
        pair(
            vec![CertificateDer::from_pem_file(file("ca.pem")).unwrap()],
            PrivateKeyDer::from_pem_file(file("ca.key")).unwrap(),
        )
    }
}

fn pair(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Arc<SingleCertAndKey> {
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(SingleCertAndKey::from(CertifiedKey::from_der(chain, key, &provider).unwrap()))
}

fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// What each side saw: the peer's identity, or why there is none.
struct Seen {
    by_edge: Result<Identity, String>,
    by_agent: Result<Identity, String>,
}

impl Seen {
    /// The edge let nobody in because of the agent's certificate, and the agent saw no connection either.
    fn refused_by_edge(&self, reason: &str) {
        let error = self.by_edge.as_ref().unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("aborted by peer"), "the agent refused first: {error}");
        assert!(self.by_agent.is_err());
    }

    /// The agent let nobody in because of the edge's certificate, and the edge could do nothing.
    fn refused_by_agent(&self, reason: &str) {
        let error = self.by_agent.as_ref().unwrap_err();
        assert!(error.contains(reason), "{error}");
        assert!(!error.contains("aborted by peer"), "the edge refused first: {error}");
        assert!(self.by_edge.is_err());
    }
}

async fn meet(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Seen {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let crypto = QuicServerConfig::try_from(server).unwrap();
    let listening =
        quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), loopback).unwrap();
    let dialling = quinn::Endpoint::client(loopback).unwrap();
    let crypto = QuicClientConfig::try_from(client).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let address = listening.local_addr().unwrap();
    let edge = dial(&dialling, config, address);
    let both = async { tokio::join!(edge, listen(&listening)) };
    let (by_edge, by_agent) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    Seen { by_edge, by_agent }
}

/// With TLS 1.3 a client is done before the server has looked at its certificate: it is let in only once data comes.
async fn dial(
    endpoint: &quinn::Endpoint,
    config: quinn::ClientConfig,
    address: SocketAddr,
) -> Result<Identity, String> {
    let connecting = endpoint.connect_with(config, address, SERVER_NAME).unwrap();
    let connection = connecting.await.map_err(|e| e.to_string())?;
    let mut stream = connection.accept_uni().await.map_err(|e| e.to_string())?;
    stream.read_to_end(1).await.map_err(|e| e.to_string())?;
    identity(&connection)
}

async fn listen(endpoint: &quinn::Endpoint) -> Result<Identity, String> {
    let incoming = endpoint.accept().await.unwrap();
    let connection = incoming.await.map_err(|e| e.to_string())?;
    let mut stream = connection.open_uni().await.map_err(|e| e.to_string())?;
    stream.write_all(b"!").await.map_err(|e| e.to_string())?;
    stream.finish().unwrap();
    let found = identity(&connection);
    connection.closed().await;
    found
}

fn identity(connection: &quinn::Connection) -> Result<Identity, String> {
    let chain = connection.peer_identity().ok_or("no certificate")?;
    let chain = chain.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| "other kind")?;
    peer_identity(&chain[0]).map_err(|e| e.to_string())
}

async fn meet_as(edge: &Credentials, expect: &str, agent: &Credentials) -> Seen {
    meet(client_config(edge, &node(expect)), server_config(agent)).await
}

#[tokio::test]
async fn the_right_pair_connects_and_each_knows_the_other() {
    let pki = Pki::new();
    let (edge, agent) = (pki.issue(Role::Edge, "e1"), pki.issue(Role::Agent, "n1"));
    let seen = meet_as(&edge, "n1", &agent).await;
    assert_eq!(seen.by_edge.unwrap(), Identity::new(Role::Agent, "n1").unwrap());
    assert_eq!(seen.by_agent.unwrap(), Identity::new(Role::Edge, "e1").unwrap());
}

#[tokio::test]
async fn a_ca_that_was_opened_again_issues_for_the_same_trust() {
    let pki = Pki::new();
    let edge = pki.issue(Role::Edge, "e1");
    let again = Authority::open(pki.dir.path()).unwrap();
    let issued = again.issue(Role::Agent, "n1", Validity::days(1).unwrap()).unwrap();
    let seen = meet_as(&edge, "n1", &pki.load(&issued).unwrap()).await;
    assert!(seen.by_edge.is_ok() && seen.by_agent.is_ok());
}

#[tokio::test]
async fn a_revoked_key_is_refused_however_often_it_is_certified_and_another_is_not() {
    let pki = Pki::new();
    let edge = pki.issue(Role::Edge, "e1");
    let issued = pki.authority.issue(Role::Agent, "n1", Validity::days(1).unwrap()).unwrap();
    let key = KeyHash::of_file(&issued.certificate).unwrap();
    edge.clone().revoke(key);
    meet_as(&edge, "n1", &pki.load(&issued).unwrap()).await.refused_by_edge("was revoked");
    let renewed = pki.authority.renew(Role::Agent, "n1", Validity::days(2).unwrap()).unwrap();
    assert_eq!(KeyHash::of_file(&renewed.certificate).unwrap(), key);
    meet_as(&edge, "n1", &pki.load(&renewed).unwrap()).await.refused_by_edge("was revoked");
    edge.reload().unwrap();
    meet_as(&edge, "n1", &pki.load(&renewed).unwrap()).await.refused_by_edge("was revoked");
    std::fs::remove_file(&issued.certificate).unwrap();
    std::fs::remove_file(&issued.key).unwrap();
    let seen = meet_as(&edge, "n1", &pki.issue(Role::Agent, "n1")).await;
    assert!(seen.by_edge.is_ok(), "a new key of the same name: {:?}", seen.by_edge);
}

#[tokio::test]
async fn another_cas_agent_is_refused() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let issued = theirs.authority.issue(Role::Agent, "n1", Validity::days(1).unwrap()).unwrap();
    // It trusts our CA, so the only objection is the edge's.
    let agent = ours.load(&issued).unwrap();
    let seen = meet_as(&ours.issue(Role::Edge, "e1"), "n1", &agent).await;
    seen.refused_by_edge("UnknownIssuer");
}

#[tokio::test]
async fn another_cas_edge_is_refused() {
    let (ours, theirs) = (Pki::new(), Pki::new());
    let issued = theirs.authority.issue(Role::Edge, "e1", Validity::days(1).unwrap()).unwrap();
    let edge = ours.load(&issued).unwrap();
    let seen = meet_as(&edge, "n1", &ours.issue(Role::Agent, "n1")).await;
    seen.refused_by_agent("UnknownIssuer");
}

#[tokio::test]
async fn an_agents_certificate_makes_no_edge() {
    let pki = Pki::new();
    let seen = meet_as(&pki.issue(Role::Agent, "n2"), "n1", &pki.issue(Role::Agent, "n1")).await;
    seen.refused_by_agent("invalid peer certificate");
}

#[tokio::test]
async fn an_edges_certificate_makes_no_agent() {
    let pki = Pki::new();
    let seen = meet_as(&pki.issue(Role::Edge, "e1"), "n1", &pki.issue(Role::Edge, "n1")).await;
    seen.refused_by_edge("invalid peer certificate");
}

#[tokio::test]
async fn another_node_than_the_dialled_one_is_refused() {
    let pki = Pki::new();
    let seen = meet_as(&pki.issue(Role::Edge, "e1"), "n1", &pki.issue(Role::Agent, "n2")).await;
    seen.refused_by_edge("belongs to agent \"n2\"; expected agent \"n1\"");
}

#[tokio::test]
async fn an_expired_agent_is_refused() {
    let pki = Pki::new();
    let now = SystemTime::now();
    let over = Validity { not_before: now - 2 * DAY, not_after: now - DAY };
    let seen = meet_as(&pki.issue(Role::Edge, "e1"), "n1", &pki.issue_for(Role::Agent, "n1", over)).await;
    seen.refused_by_edge("expired");
}

#[tokio::test]
async fn an_expired_edge_is_refused() {
    let pki = Pki::new();
    let now = SystemTime::now();
    let over = Validity { not_before: now - 2 * DAY, not_after: now - DAY };
    let seen = meet_as(&pki.issue_for(Role::Edge, "e1", over), "n1", &pki.issue(Role::Agent, "n1")).await;
    seen.refused_by_agent("expired");
}

#[tokio::test]
async fn a_certificate_from_the_future_is_refused() {
    let pki = Pki::new();
    let now = SystemTime::now();
    let later = Validity { not_before: now + DAY, not_after: now + 2 * DAY };
    let seen = meet_as(&pki.issue(Role::Edge, "e1"), "n1", &pki.issue_for(Role::Agent, "n1", later)).await;
    seen.refused_by_edge("not valid yet");
}

#[tokio::test]
async fn an_edge_without_a_certificate_is_refused() {
    let pki = Pki::new();
    let mut client = (*client_config(&pki.issue(Role::Edge, "e1"), &node("n1"))).clone();
    client.client_auth_cert_resolver = Arc::new(Nothing);
    let seen = meet(Arc::new(client), server_config(&pki.issue(Role::Agent, "n1"))).await;
    seen.refused_by_agent("certificate");
}

#[derive(Debug)]
struct Nothing;

impl rustls::client::ResolvesClientCert for Nothing {
    fn resolve(&self, _: &[&[u8]], _: &[rustls::SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }
    fn has_certs(&self) -> bool {
        false
    }
}

async fn meet_forged_edge(pki: &Pki, forged: Arc<SingleCertAndKey>) -> Seen {
    let mut client = (*client_config(&pki.issue(Role::Edge, "e1"), &node("n1"))).clone();
    client.client_auth_cert_resolver = forged;
    meet(Arc::new(client), server_config(&pki.issue(Role::Agent, "n1"))).await
}

async fn meet_forged_agent(pki: &Pki, forged: Arc<SingleCertAndKey>) -> Seen {
    let mut server = (*server_config(&pki.issue(Role::Agent, "n1"))).clone();
    server.cert_resolver = forged;
    meet(client_config(&pki.issue(Role::Edge, "e1"), &node("n1")), Arc::new(server)).await
}

#[tokio::test]
async fn the_cas_own_certificate_makes_neither() {
    let pki = Pki::new();
    meet_forged_edge(&pki, pki.ca_itself()).await.refused_by_agent("invalid peer certificate");
    let pki = Pki::new();
    meet_forged_agent(&pki, pki.ca_itself()).await.refused_by_edge("invalid peer certificate");
}

#[tokio::test]
async fn a_leaf_that_is_a_ca_is_refused_whatever_it_says() {
    let pki = Pki::new();
    let forged = pki.forge(|params| {
        params.subject_alt_names = vec![uri("berth://edge/e1")];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    });
    meet_forged_edge(&pki, forged).await.refused_by_agent("CaUsedAsEndEntity");
}

#[tokio::test]
async fn a_second_name_or_use_is_refused() {
    let pki = Pki::new();
    let two_names = pki.forge(|params| {
        params.subject_alt_names = vec![uri("berth://edge/e1"), uri("berth://edge/e2")];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    meet_forged_edge(&pki, two_names).await.refused_by_agent("exactly one subject alternative name");
    let pki = Pki::new();
    let two_uses = pki.forge(|params| {
        params.subject_alt_names = vec![uri("berth://agent/n1")];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    });
    meet_forged_agent(&pki, two_uses).await.refused_by_edge("extended key usage");
    let pki = Pki::new();
    let no_use = pki.forge(|params| params.subject_alt_names = vec![uri("berth://agent/n1")]);
    meet_forged_agent(&pki, no_use).await.refused_by_edge("extended key usage");
}

#[tokio::test]
async fn an_agents_name_with_a_clients_use_makes_no_edge() {
    let pki = Pki::new();
    let forged = pki.forge(|params| {
        params.subject_alt_names = vec![uri("berth://agent/n2")];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    meet_forged_edge(&pki, forged).await.refused_by_agent("extended key usage");
}

#[tokio::test]
async fn a_chain_through_a_leaf_is_refused() {
    let pki = Pki::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri("berth://edge/root")];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let edge = pki.authority.issue(Role::Edge, "e9", Validity::days(1).unwrap()).unwrap();
    let edge_key = KeyPair::from_pem(&std::fs::read_to_string(&edge.key).unwrap()).unwrap();
    let edge_pem = std::fs::read_to_string(&edge.certificate).unwrap();
    let issuer = Issuer::from_ca_cert_pem(&edge_pem, edge_key).unwrap();
    let child = params.signed_by(&key, &issuer).unwrap();
    let chain = vec![child.der().clone(), CertificateDer::from_pem_slice(edge_pem.as_bytes()).unwrap()];
    let forged = pair(chain, PrivateKeyDer::try_from(key.serialize_der()).unwrap());
    meet_forged_edge(&pki, forged).await.refused_by_agent("signed it directly");
}

#[tokio::test]
async fn another_protocol_version_is_refused() {
    let pki = Pki::new();
    let mut client = (*client_config(&pki.issue(Role::Edge, "e1"), &node("n1"))).clone();
    client.alpn_protocols = vec![b"berth/0".to_vec()];
    let seen = meet(Arc::new(client), server_config(&pki.issue(Role::Agent, "n1"))).await;
    assert!(seen.by_edge.is_err() && seen.by_agent.is_err());
}

#[test]
fn nothing_shown_for_debugging_holds_a_key() {
    let pki = Pki::new();
    let issued = pki.authority.issue(Role::Edge, "e1", Validity::days(1).unwrap()).unwrap();
    let credentials = pki.load(&issued).unwrap();
    let shown = format!(
        "{credentials:#?} {:#?} {:#?} {:#?}",
        pki.authority,
        client_config(&credentials, &node("n1")),
        server_config(&credentials)
    );
    for file in [&issued.key, &pki.dir.path().join("ca.key")] {
        assert_no_key(&shown, file);
    }
}

/// Looks for the private scalar in the ways that Debug shows bytes: decimal lists and hexadecimal.
fn assert_no_key(shown: &str, file: &Path) {
    let key = PrivateKeyDer::from_pem_file(file).unwrap();
    // In PKCS#8 of P-256 the scalar is 32 bytes at offset 36.
    let scalar = &key.secret_der()[36..68];
    let part = &scalar[8..16];
    let decimal: Vec<String> = part.iter().map(u8::to_string).collect();
    let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let flat: String = shown.split_whitespace().collect();
    assert!(!flat.contains(&decimal.join(",")), "a key in decimal");
    assert!(!flat.to_lowercase().contains(&hex), "a key in hexadecimal");
}

#[tokio::test]
async fn a_renewed_certificate_counts_from_the_next_handshake_on() {
    let pki = Pki::new();
    let now = SystemTime::now();
    let over = Validity { not_before: now - 2 * DAY, not_after: now - DAY };
    let (edge, agent) = (pki.issue_for(Role::Edge, "e1", over), pki.issue_for(Role::Agent, "n1", over));
    let (client, server) = (client_config(&edge, &node("n1")), server_config(&agent));
    assert!(agent.lifetime().is_ending(now) && agent.lifetime().left(now).is_zero());
    meet(Arc::clone(&client), Arc::clone(&server)).await.refused_by_edge("certificate expired");
    for (role, name, credentials) in [(Role::Agent, "n1", &agent), (Role::Edge, "e1", &edge)] {
        pki.authority.renew(role, name, Validity::days(365).unwrap()).unwrap();
        assert!(!credentials.reload().unwrap().is_ending(now));
    }
    let seen = meet(client, server).await;
    assert_eq!(seen.by_edge.unwrap().name, "n1");
    assert_eq!(seen.by_agent.unwrap().name, "e1");
}

#[test]
fn a_reload_that_fails_changes_nothing() {
    let pki = Pki::new();
    let issued = pki.authority.issue(Role::Agent, "n1", Validity::days(9).unwrap()).unwrap();
    let credentials = pki.load(&issued).unwrap();
    let before = credentials.lifetime();
    std::fs::copy(
        &pki.authority.issue(Role::Agent, "n2", Validity::days(1).unwrap()).unwrap().certificate,
        &issued.certificate,
    )
    .unwrap();
    assert!(matches!(credentials.reload(), Err(LoadError::Key { .. } | LoadError::Changed { .. })));
    std::fs::remove_file(&issued.certificate).unwrap();
    assert!(matches!(credentials.reload(), Err(LoadError::File(_))));
    assert_eq!(credentials.lifetime(), before);
}
