//! `berth certs`: the certificate authority and what it issues, as files.

use std::path::Path;
use std::time::SystemTime;

use anyhow::Result;
use berth_certs::{Authority, AuthorityError, Certificate, Lifetime, Request, RequestError, Role, Validity};

use crate::args::{Certs, NewCertificate, RoleArg};
use crate::failure::bad_input;
use crate::output;

pub(crate) fn run(args: Certs) -> Result<()> {
    match args {
        Certs::Init { dir } => {
            let authority = Authority::create(&dir).map_err(classify)?;
            let certificate = authority.certificate_path();
            let key = certificate.with_extension("key");
            output::line(certificate.display())?;
            output::line(key.display())?;
            output::note!(
                "Keep {} secret and backed up: whoever has it can let nodes and edges in.",
                key.display()
            );
        }
        Certs::Issue(NewCertificate { role, name, dir, days }) => {
            let validity = Validity::days(days).map_err(classify)?;
            let authority = Authority::open(&dir).map_err(classify)?;
            let issued = authority.issue(role.into(), &name, validity).map_err(classify)?;
            output::line(issued.certificate.display())?;
            output::line(issued.key.display())?;
        }
        Certs::Request { role, name, dir } => request(role.into(), &name, &dir)?,
        Certs::Sign { request, dir, days, replace } => sign(&request, &dir, days, replace)?,
        Certs::Renew(NewCertificate { role, name, dir, days }) => {
            let validity = Validity::days(days).map_err(classify)?;
            let authority = Authority::open(&dir).map_err(classify)?;
            let renewed = authority.renew(role.into(), &name, validity).map_err(classify)?;
            output::line(renewed.certificate.display())?;
            output::note!(
                "Copy it to {}, and have that read it: systemctl reload, or SIGHUP.",
                renewed.identity
            );
        }
        Certs::Show { dir, json } => show(&dir, json)?,
    }
    Ok(())
}

fn request(role: Role, name: &str, dir: &Path) -> Result<()> {
    let made = Request::make(dir, role, name).map_err(unrequested)?;
    output::line(made.request.display())?;
    output::line(made.key.display())?;
    output::note!("Its key is {}.", made.key_hash);
    output::note!(
        "Take {} to where the CA is: `berth certs sign` makes its certificate, and shows the same key.",
        made.request.display()
    );
    Ok(())
}

fn sign(file: &Path, dir: &Path, days: u32, replace: bool) -> Result<()> {
    let validity = Validity::days(days).map_err(classify)?;
    let request =
        Request::read(file).map_err(|error| unrequested(error).context(file.display().to_string()))?;
    let authority = Authority::open(dir).map_err(classify)?;
    let certificate = authority.grant(&request, validity, replace).map_err(classify)?;
    output::line(certificate.display())?;
    output::note!("It is that of {} with the key {}.", request.identity, request.key_hash());
    Ok(())
}

/// What somebody has typed or brought is a usage error; a file that cannot be read or written is not.
fn unrequested(error: RequestError) -> anyhow::Error {
    match error {
        RequestError::File(_) | RequestError::Making(_) => error.into(),
        RequestError::Identity(_)
        | RequestError::Unreadable(_)
        | RequestError::Names
        | RequestError::Kind => bad_input(error),
    }
}

const HEADINGS: [&str; 4] = ["FILE", "OF", "UNTIL", "DAYS"];

/// The certificates of a directory, with a warning for each that ends soon.
fn show(dir: &Path, json: bool) -> Result<()> {
    let now = SystemTime::now();
    let found = berth_certs::certificates_in(dir)?;
    let days = |lifetime: &Lifetime| lifetime.left(now).as_secs() / (24 * 3600);
    let until = |lifetime: &Lifetime| humantime::format_rfc3339_seconds(lifetime.until).to_string();
    if json {
        let certificates: Vec<_> = found
            .iter()
            .map(|Certificate { file, of, lifetime }| {
                serde_json::json!({
                    "file": file, "of": of, "until": until(lifetime), "days": days(lifetime),
                    "ends_soon": lifetime.is_ending(now),
                })
            })
            .collect();
        return output::json(&serde_json::json!({ "certificates": certificates }));
    }
    let row = |Certificate { file, of, lifetime }: &Certificate| {
        vec![file.clone(), of.clone(), until(lifetime), days(lifetime).to_string()]
    };
    output::table(&HEADINGS, found.iter().map(row).collect())?;
    for Certificate { file, .. } in found.iter().filter(|certificate| certificate.lifetime.is_ending(now)) {
        output::note!("{file} ends soon: renew it with `berth certs renew`.");
    }
    Ok(())
}

impl From<RoleArg> for Role {
    fn from(role: RoleArg) -> Self {
        match role {
            RoleArg::Edge => Self::Edge,
            RoleArg::Agent => Self::Agent,
        }
    }
}

/// A bad name or number of days is a usage error; a file that exists already is not.
fn classify(error: AuthorityError) -> anyhow::Error {
    match error {
        AuthorityError::Identity(_) | AuthorityError::Days(_) | AuthorityError::OutlivesAuthority { .. } => {
            bad_input(error)
        }
        AuthorityError::File(_)
        | AuthorityError::NotAuthority(_)
        | AuthorityError::OtherKey { .. }
        | AuthorityError::KeyMismatch { .. }
        | AuthorityError::Signing(_) => error.into(),
    }
}
