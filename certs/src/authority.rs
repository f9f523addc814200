//! The app owner's certificate authority: a key and a certificate in one directory, and the certificates that it
//! issues.
//!
//! Files: `ca.pem`, `ca.key`, and for each daemon `ROLE-NAME.pem` and `ROLE-NAME.key`. Nothing is ever overwritten, but a
//! certificate by one for the same key.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::files::{self, FileError};
use crate::identity::{self, Identity, IdentityError, Role};
use crate::request::Request;
use crate::revoked::KeyHash;

/// Longest validity of a certificate, in days; also the CA's own.
pub const MAX_VALIDITY_DAYS: u32 = 3650;
/// How far a certificate's validity is backdated, so that a node whose clock is behind accepts it.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// The validity period of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not valid before this.
    pub not_before: SystemTime,
    /// Not valid after this.
    pub not_after: SystemTime,
}

impl Validity {
    /// From now (an hour ago, for clocks that are behind) for this many days, 1 to [`MAX_VALIDITY_DAYS`].
    pub fn days(days: u32) -> Result<Self, AuthorityError> {
        if !(1..=MAX_VALIDITY_DAYS).contains(&days) {
            return Err(AuthorityError::Days(days));
        }
        let now = SystemTime::now();
        Ok(Self { not_before: now - CLOCK_SKEW, not_after: now + DAY * days })
    }
}

/// Why the CA could not be made, opened or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is missing, damaged, readable by others, or exists already.
    #[error(transparent)]
    File(#[from] FileError),
    /// A name or role that does not exist.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A validity that is too short or too long.
    #[error("{0} days: a certificate holds for 1 to {MAX_VALIDITY_DAYS} days")]
    Days(u32),
    /// The certificate would outlive the CA.
    #[error(
        "the certificate would outlive the CA, which ends on {ca_ends}: choose fewer days, or make a new CA"
    )]
    OutlivesAuthority {
        /// The CA's last day.
        ca_ends: String,
    },
    /// The name has a certificate for another key.
    #[error(
        "{certificate} is that of another key of {identity}: if the machine has a new key, say --replace, and revoke the old one (`berth nodes revoke`)"
    )]
    OtherKey {
        /// Who has it.
        identity: Identity,
        /// The certificate that is there.
        certificate: PathBuf,
    },
    /// The certificate is not a CA's.
    #[error("{0} is not a CA's certificate")]
    NotAuthority(PathBuf),
    /// The key does not belong to the certificate.
    #[error("{key} is not the private key of {certificate}: restore the pair from one backup")]
    KeyMismatch {
        /// The key file.
        key: PathBuf,
        /// The certificate file.
        certificate: PathBuf,
    },
    /// Signing failed.
    #[error("cannot make the certificate: {0}")]
    Signing(#[from] rcgen::Error),
}

/// The files of an issued certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The identity of its holder.
    pub identity: Identity,
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key, readable by its owner only.
    pub key: PathBuf,
}

/// A certificate authority that can issue.
pub struct Authority {
    directory: PathBuf,
    ends: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

/// Shows its directory, never the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new CA in a directory, which is created if missing. Refuses if any part of a CA exists already.
    pub fn create(directory: &Path) -> Result<Self, AuthorityError> {
        let validity = Validity::days(MAX_VALIDITY_DAYS)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let params = ca_params(&key, validity);
        let certificate = params.self_signed(&key)?;
        files::make_directory(directory)?;
        files::write_pair(
            (&directory.join(CA_KEY), &key.serialize_pem()),
            (&directory.join(CA_CERTIFICATE), &certificate.pem()),
            directory,
        )?;
        Ok(Self {
            directory: directory.to_owned(),
            ends: validity.not_after.into(),
            issuer: Issuer::new(params, key),
        })
    }

    /// Opens the CA in a directory.
    pub fn open(directory: &Path) -> Result<Self, AuthorityError> {
        let (certificate_path, key_path) = (directory.join(CA_CERTIFICATE), directory.join(CA_KEY));
        let certificates = files::read_certificates(&certificate_path)?;
        let [certificate] = certificates.as_slice() else {
            return Err(AuthorityError::NotAuthority(certificate_path));
        };
        let key = read_key_pair(&key_path)?;
        let ends = check_pair(certificate, &key, &certificate_path, &key_path)?;
        let issuer = Issuer::from_ca_cert_der(certificate, key)?;
        Ok(Self { directory: directory.to_owned(), ends, issuer })
    }

    /// The CA's certificate, which every daemon gets.
    pub fn certificate_path(&self) -> PathBuf {
        self.directory.join(CA_CERTIFICATE)
    }

    /// Issues a certificate with a new key to a daemon, as files in the CA's directory.
    pub fn issue(&self, role: Role, name: &str, validity: Validity) -> Result<Issued, AuthorityError> {
        let issued = self.paths(Identity::new(role, name)?);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = self.sign(&issued.identity, &key, validity)?;
        files::write_pair(
            (&issued.key, &key.serialize_pem()),
            (&issued.certificate, &certificate),
            &self.directory,
        )?;
        Ok(issued)
    }

    /// Replaces a daemon's certificate by one for the same key, which therefore need not be moved, that holds from now
    /// on. The key itself is not needed: it may never have been here. The new one is whole on disk before it takes the old one's place.
    pub fn renew(&self, role: Role, name: &str, validity: Validity) -> Result<Issued, AuthorityError> {
        let issued = self.paths(Identity::new(role, name)?);
        let key = public_key(&issued.certificate)?;
        files::replace(&issued.certificate, &self.sign(&issued.identity, &key, validity)?, &self.directory)?;
        Ok(issued)
    }

    /// Issues a certificate for the key of a request, as a file in the CA's directory. A name that has one for another key there gets
    /// none, unless that is to be replaced.
    pub fn grant(
        &self,
        request: &Request,
        validity: Validity,
        replace: bool,
    ) -> Result<PathBuf, AuthorityError> {
        let Issued { identity, certificate, .. } = self.paths(request.identity.clone());
        if certificate.exists() && !replace && KeyHash::of_file(&certificate)? != request.key_hash() {
            return Err(AuthorityError::OtherKey { identity, certificate });
        }
        let text = self.sign(&identity, &request.public, validity)?;
        files::put(&certificate, &text, &self.directory)?;
        Ok(certificate)
    }

    fn paths(&self, identity: Identity) -> Issued {
        let path = |ending| self.directory.join(format!("{}-{}.{ending}", identity.role, identity.name));
        Issued { certificate: path("pem"), key: path("key"), identity }
    }

    fn sign(
        &self,
        identity: &Identity,
        key: &impl PublicKeyData,
        validity: Validity,
    ) -> Result<String, AuthorityError> {
        if OffsetDateTime::from(validity.not_after) > self.ends {
            return Err(AuthorityError::OutlivesAuthority { ca_ends: self.ends.date().to_string() });
        }
        Ok(leaf_params(identity, validity)?.signed_by(key, &self.issuer)?.pem())
    }
}

fn ca_params(key: &KeyPair, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // The first bytes of the key's identifier distinguish two CAs of the same owner.
    let mark: String = params.key_identifier(key).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("Berth CA {mark}"));
    // Path length 0: it may sign daemons' certificates, but no other CA's.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    params
}

fn leaf_params(identity: &Identity, validity: Validity) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationalUnitName, identity.role.as_str());
    params.distinguished_name.push(DnType::CommonName, identity.name.as_str());
    params.subject_alt_names = vec![SanType::URI(identity.uri().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![match identity.role {
        Role::Edge => ExtendedKeyUsagePurpose::ClientAuth,
        Role::Agent => ExtendedKeyUsagePurpose::ServerAuth,
    }];
    params.not_before = validity.not_before.into();
    params.not_after = validity.not_after.into();
    Ok(params)
}

fn read_key_pair(path: &Path) -> Result<KeyPair, AuthorityError> {
    let bytes = files::read_private(path)?;
    let text = String::from_utf8(bytes).map_err(|_| FileError::NoKey(path.to_owned()))?;
    KeyPair::from_pem(&text).map_err(|_| FileError::NoKey(path.to_owned()).into())
}

/// The key that a certificate is for.
fn public_key(certificate: &Path) -> Result<SubjectPublicKeyInfo, AuthorityError> {
    let certificates = files::read_certificates(certificate)?;
    let first = certificates.first().ok_or_else(|| FileError::NoCertificate(certificate.to_owned()))?;
    Ok(SubjectPublicKeyInfo::from_der(identity::parse(first)?.public_key().raw)?)
}

/// Checks that the certificate is a CA's and belongs to the key; returns when it ends.
fn check_pair(
    certificate: &CertificateDer<'_>,
    key: &KeyPair,
    certificate_path: &Path,
    key_path: &Path,
) -> Result<OffsetDateTime, AuthorityError> {
    let parsed = identity::parse(certificate)?;
    if !parsed.is_ca() {
        return Err(AuthorityError::NotAuthority(certificate_path.to_owned()));
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(AuthorityError::KeyMismatch {
            key: key_path.to_owned(),
            certificate: certificate_path.to_owned(),
        });
    }
    Ok(parsed.validity().not_after.to_datetime())
}
