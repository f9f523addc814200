//! Files that tell a container about itself: its name and how names are resolved. They are mounted over whatever the
//! image has there, read-only.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use super::stage;

/// Writes the files into the builder's stage; returns where each is, and where it is seen inside.
pub(crate) fn write(hostname: &str, resolver: Option<IpAddr>) -> io::Result<Vec<(PathBuf, &'static str)>> {
    let directory = stage::make_in_stage("files")?;
    let files = [
        ("hostname", "/etc/hostname", format!("{hostname}\n")),
        ("hosts", "/etc/hosts", hosts(hostname)),
        ("resolv.conf", "/etc/resolv.conf", resolv_conf(resolver)),
    ];
    let write = |(name, inside, text): (&str, &'static str, String)| {
        let path = directory.join(name);
        fs::write(&path, text)?;
        Ok((path, inside))
    };
    files.into_iter().map(write).collect()
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
