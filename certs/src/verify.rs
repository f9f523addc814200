//! Verifies the peer's certificate during the TLS handshake: the chain to the CA by webpki, then role and name from the
//! URI in it.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, PeerIncompatible,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::credentials::Credentials;
use crate::identity::{Identity, IdentityError, Role, peer_identity};
use crate::revoked::KeyHash;

/// Why a certificate of the CA is not accepted.
#[derive(thiserror::Error)]
enum Mismatch {
    #[error(transparent)]
    Unreadable(#[from] IdentityError),
    #[error("the certificate belongs to {found}; expected {expected}")]
    Other { found: Identity, expected: String },
    #[error("the key of {0} was revoked: it needs a certificate with a new key")]
    Revoked(Identity),
    #[error("the certificate came with {0} others: the CA must have signed it directly")]
    Chain(usize),
}

/// rustls shows the reason of a failed handshake only by `Debug`, so this is the text for people.
impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Mismatch> for Error {
    fn from(mismatch: Mismatch) -> Self {
        CertificateError::Other(OtherError(Arc::new(mismatch))).into()
    }
}

/// The signature checks that rustls requires of every verifier, for TLS 1.3 only.
macro_rules! tls13_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            _message: &[u8],
            _certificate: &CertificateDer<'_>,
            _signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Err(tls12())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, certificate, signed, &self.algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.algorithms.supported_schemes()
        }
    };
}

/// The edge's verifier: accepts only the agent of the node that was dialled.
#[derive(Debug)]
pub(crate) struct AgentVerifier {
    pub(crate) credentials: Credentials,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
    pub(crate) expected: Identity,
}

impl ServerCertVerifier for AgentVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        refuse_chain(intermediates)?;
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let loaded = self.credentials.loaded();
        verify_server_cert_signed_by_trust_anchor(&parsed, &loaded.roots, &[], now, self.algorithms.all)?;
        let found = peer_identity(end_entity).map_err(Mismatch::from)?;
        if found != self.expected {
            return Err(Mismatch::Other { found, expected: self.expected.to_string() }.into());
        }
        if self.credentials.is_revoked(KeyHash::of(end_entity).map_err(Mismatch::from)?) {
            return Err(Mismatch::Revoked(found).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    tls13_signatures!();
}

/// The agent's verifier: accepts any edge of the CA. The agent reads which one after the handshake.
#[derive(Debug)]
pub(crate) struct EdgeVerifier {
    pub(crate) credentials: Credentials,
    pub(crate) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for EdgeVerifier {
    /// No hints: an edge has one certificate, and the authorities may change.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        refuse_chain(intermediates)?;
        let verified = self.credentials.loaded().edges.verify_client_cert(end_entity, &[], now)?;
        let found = peer_identity(end_entity).map_err(Mismatch::from)?;
        match found.role {
            Role::Edge => Ok(verified),
            Role::Agent => Err(Mismatch::Other { found, expected: "an edge".to_owned() }.into()),
        }
    }

    tls13_signatures!();
}

/// The CA signs leaf certificates directly: intermediate certificates would mean that a leaf acts as a CA.
fn refuse_chain(intermediates: &[CertificateDer<'_>]) -> Result<(), Error> {
    match intermediates.len() {
        0 => Ok(()),
        others => Err(Mismatch::Chain(others).into()),
    }
}

fn tls12() -> Error {
    Error::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig)
}
