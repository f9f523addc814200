//! Names of registries, and of their repositories on this edge. Pure.

use berth_common::image::{DOCKER_HUB, Registry, Repository};

use super::RemoteError;

/// Other names of Docker Hub that are in use.
const DOCKER_NAMES: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"];

/// One name for each registry: in lower case, and for Docker Hub the one used in references.
pub fn canonical(registry: &Registry) -> Registry {
    let lower = registry.as_str().to_ascii_lowercase();
    let name = if DOCKER_NAMES.contains(&lower.as_str()) { DOCKER_HUB.0.to_owned() } else { lower };
    Registry::try_from(name).unwrap_or_else(|_| registry.clone())
}

/// The host of a registry's API.
pub(super) fn host(registry: &Registry) -> &str {
    if registry.as_str() == DOCKER_HUB.0 { DOCKER_HUB.1 } else { registry.as_str() }
}

/// The prefix of a registry's images among this edge's repositories. Repository names have no colons.
fn prefix(registry: &Registry) -> String {
    let registry = canonical(registry);
    let text = registry.as_str();
    match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) => {
            let groups = address.parse::<std::net::Ipv6Addr>().map_or([0; 8], |address| address.segments());
            let groups: Vec<String> = groups.iter().map(|group| format!("{group:x}")).collect();
            format!("ip6-{}{}", groups.join("-"), port.replace(':', "_"))
        }
        None => text.replace(':', "_"),
    }
}

/// The repository of this edge that images of a registry's repository are pulled into.
pub fn local_repository(registry: &Registry, there: &Repository) -> Result<Repository, RemoteError> {
    let name = format!("{}/{there}", prefix(registry));
    name.parse().map_err(|error| RemoteError::Name { name, error })
}

/// The repository of a registry that the images of a local repository were pulled from, if it was that registry.
pub(super) fn remote_repository(registry: &Registry, here: &Repository) -> Option<Repository> {
    let rest = here.as_str().strip_prefix(&prefix(registry))?;
    rest.strip_prefix('/')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn local(registry: &str) -> String {
        let registry = registry.parse().unwrap();
        let here = local_repository(&registry, &"a/b".parse().unwrap()).unwrap();
        assert_eq!(remote_repository(&registry, &here).unwrap().as_str(), "a/b");
        here.to_string()
    }

    #[test]
    fn every_registry_has_its_own_prefix() {
        assert_eq!(local("docker.io"), "docker.io/a/b");
        assert_eq!(local("INDEX.docker.io"), "docker.io/a/b");
        assert_eq!(local("Localhost:5000"), "localhost_5000/a/b");
        assert_eq!(local("[::1]:5000"), "ip6-0-0-0-0-0-0-0-1_5000/a/b");
        let bad = local_repository(&"a..b".parse().unwrap(), &"a".parse().unwrap());
        assert!(matches!(bad, Err(RemoteError::Name { .. })));
        let other = remote_repository(&"a.example".parse().unwrap(), &"a.example.org/x".parse().unwrap());
        assert_eq!(other, None);
    }

    #[test]
    fn docker_hub_has_another_host_than_its_name() {
        assert_eq!(host(&canonical(&"docker.io".parse().unwrap())), "registry-1.docker.io");
        assert_eq!(host(&canonical(&"ghcr.io".parse().unwrap())), "ghcr.io");
    }
}
