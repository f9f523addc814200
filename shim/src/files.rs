//! Files that tell a container about itself: its name and how names are resolved. They are mounted over whatever the
//! image has there, read-only.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::stage;

const HOSTNAME: &str = "/etc/hostname";
const HOSTS: &str = "/etc/hosts";
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// The files in the builder's stage: where each is, and where it is seen inside.
pub(crate) type Files = Vec<(PathBuf, &'static str)>;

/// Writes the files into the builder's stage, those that hold the name without it: a mounted file can still be written
/// to, not replaced.
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

/// Writes the container's name, once it has one, into the files that hold it.
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
