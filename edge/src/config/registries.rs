//! The options for other registries: which may be reached, and how.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use berth_common::image::Registry;
use berth_registry::remote::{Settings, canonical};
use clap::Args;
use ipnet::IpNet;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The options.
#[derive(Debug, Args)]
pub(crate) struct RegistryArgs {
    /// Addresses that registries may have besides public ones, such as that of a registry in the own network. Once for each.
    #[arg(long, value_name = "NETWORK")]
    allow_registries_on: Vec<IpNet>,
    /// A registry that is spoken to without TLS; its address must be allowed with --allow-registries-on. Once for each.
    #[arg(long, value_name = "HOST[:PORT]")]
    plain_registry: Vec<Registry>,
    /// Certificates of authorities that are trusted for registries, besides those of this machine. Once for each file.
    #[arg(long, value_name = "FILE")]
    registry_ca: Vec<PathBuf>,
}

impl RegistryArgs {
    /// Checks the options, and reads the files that they name.
    pub(crate) fn check(self) -> anyhow::Result<Settings> {
        let mut authorities = Vec::new();
        for file in &self.registry_ca {
            authorities.extend(certificates(file)?);
        }
        let plain = self.plain_registry.iter().map(canonical).collect();
        Ok(Settings { allowed: self.allow_registries_on, plain, authorities })
    }
}

fn certificates(file: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let text =
        std::fs::read(file).with_context(|| format!("cannot read {} (--registry-ca)", file.display()))?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let read =
        read.with_context(|| format!("{} (--registry-ca) is not a file of certificates", file.display()))?;
    ensure!(!read.is_empty(), "{} (--registry-ca) holds no certificate", file.display());
    Ok(read)
}
