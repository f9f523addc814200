//! The container's `/etc/hostname`, `/etc/hosts` and `/etc/resolv.conf`, mounted read-only over those of the image.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::stage;

const HOSTNAME: &str = "/etc/hostname";
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The files in the builder's stage: the path of each, and its path inside the container.
pub(crate) type Files = Vec<(PathBuf, &'static str)>;

/// Writes the files into the builder's stage, still without the host name: a mounted file can be written to later, but
/// not replaced.
pub(crate) fn write(resolver: Option<IpAddr>) -> io::Result<Files> {
    let directory = stage::make_in_stage("files")?;
    let files = [
        (directory.join("hostname"), HOSTNAME),
        (directory.join("hosts"), HOSTS),
        (directory.join("resolv.conf"), RESOLV_CONF),
    ];
    for (path, inside) in &files {
        fs::write(path, if *inside == RESOLV_CONF { resolv_conf(resolver) } else { String::new() })?;
    }
    Ok(files.into())
}

/// Writes the host name into the files, once the container is assigned to an instance.
pub(crate) fn name(files: &Files, hostname: &str) -> io::Result<()> {
    for (path, inside) in files {
        match *inside {
            HOSTNAME => fs::write(path, format!("{hostname}\n"))?,
            HOSTS => fs::write(path, hosts(hostname))?,
            _ => {}
        }
    }
    Ok(())
}

fn hosts(hostname: &str) -> String {
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 {hostname}\n")
}

fn resolv_conf(resolver: Option<IpAddr>) -> String {
    match resolver {
        Some(address) => format!("nameserver {address}\n"),
        None => "# There is no name server that could be reached from here.\n".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_server_nothing_is_asked() {
        assert!(!resolv_conf(None).contains("nameserver "));
        assert_eq!(resolv_conf(Some([169, 254, 1, 53].into())), "nameserver 169.254.1.53\n");
    }
}
