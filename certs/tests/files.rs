//! What lies on disk: who can read it, what is never overwritten, what is refused when loaded.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use berth_certs::{
    Authority, AuthorityError, Credentials, FileError, Issued, LoadError, MAX_VALIDITY_DAYS, Role, Validity,
};

fn week() -> Validity {
    Validity::days(7).unwrap()
}

fn load(authority: &Authority, issued: &Issued) -> Result<Credentials, LoadError> {
    Credentials::load(&authority.certificate_path(), &issued.certificate, &issued.key)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn keys_are_their_owners_only() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path()).unwrap();
    let issued = authority.issue(Role::Agent, "n1", week()).unwrap();
    assert_eq!(mode(&issued.key), 0o600);
    assert_eq!(mode(&dir.path().join("ca.key")), 0o600);
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["agent-n1.key", "agent-n1.pem", "ca.key", "ca.pem"]);
}

#[test]
fn a_ca_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    Authority::create(dir.path()).unwrap();
    let before = fs::read(dir.path().join("ca.key")).unwrap();
    let again = Authority::create(dir.path());
    assert!(matches!(again, Err(AuthorityError::File(FileError::Exists(_)))), "{again:?}");
    assert_eq!(fs::read(dir.path().join("ca.key")).unwrap(), before);
    // Half of one is still one: the other half may lie elsewhere for safety.
    for kept in ["ca.key", "ca.pem"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(kept), "mine").unwrap();
        assert!(Authority::create(dir.path()).is_err());
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, [kept], "nothing half-made stays");
        assert_eq!(fs::read(dir.path().join(kept)).unwrap(), b"mine");
    }
}

#[test]
fn a_leaf_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path()).unwrap();
    let issued = authority.issue(Role::Edge, "e1", week()).unwrap();
    let before = fs::read(&issued.key).unwrap();
    let again = authority.issue(Role::Edge, "e1", week());
    assert!(matches!(again, Err(AuthorityError::File(FileError::Exists(_)))));
    assert_eq!(fs::read(&issued.key).unwrap(), before);
}

#[test]
fn keys_that_others_can_read_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path()).unwrap();
    let issued = authority.issue(Role::Edge, "e1", week()).unwrap();
    for bits in [0o640, 0o604, 0o620, 0o601] {
        set_mode(&issued.key, bits);
        let loaded = load(&authority, &issued);
        let Err(LoadError::File(error @ FileError::Exposed { .. })) = loaded else { panic!("{loaded:?}") };
        assert!(error.to_string().contains("chmod 600"));
    }
    set_mode(&issued.key, 0o400);
    load(&authority, &issued).unwrap();
    let ca_key = dir.path().join("ca.key");
    set_mode(&ca_key, 0o644);
    let opened = Authority::open(dir.path());
    assert!(matches!(opened, Err(AuthorityError::File(FileError::Exposed { .. }))), "{opened:?}");
}

#[test]
fn names_and_lives_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path()).unwrap();
    for name in ["", "../n1", "a/b", ".hidden", "a b", "ä", &"x".repeat(64)] {
        let issued = authority.issue(Role::Agent, name, week());
        assert!(matches!(issued, Err(AuthorityError::Identity(_))), "{name}");
    }
    assert!(matches!(Validity::days(0), Err(AuthorityError::Days(0))));
    assert!(Validity::days(MAX_VALIDITY_DAYS + 1).is_err());
    let mut long = Validity::days(MAX_VALIDITY_DAYS).unwrap();
    long.not_after += std::time::Duration::from_secs(24 * 3600);
    assert!(matches!(
        authority.issue(Role::Agent, "n1", long),
        Err(AuthorityError::OutlivesAuthority { .. })
    ));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing was issued");
}

#[test]
fn mixed_up_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path()).unwrap();
    let edge = authority.issue(Role::Edge, "e1", week()).unwrap();
    let agent = authority.issue(Role::Agent, "n1", week()).unwrap();
    let ca = authority.certificate_path();
    let ca_key = dir.path().join("ca.key");

    let other_key = Credentials::load(&ca, &edge.certificate, &agent.key);
    assert!(matches!(other_key, Err(LoadError::Key { .. })), "{other_key:?}");
    let leaf_as_ca = Credentials::load(&edge.certificate, &edge.certificate, &edge.key);
    assert!(matches!(leaf_as_ca, Err(LoadError::NotAuthority(_))), "{leaf_as_ca:?}");
    let ca_as_leaf = Credentials::load(&ca, &ca, &ca_key);
    assert!(matches!(ca_as_leaf, Err(LoadError::Identity { .. })), "{ca_as_leaf:?}");
    let missing = Credentials::load(&dir.path().join("no.pem"), &edge.certificate, &edge.key);
    assert!(missing.unwrap_err().to_string().contains("no.pem"));
    let wrong_role = load(&authority, &agent).unwrap().require(Role::Edge);
    assert!(matches!(wrong_role, Err(LoadError::Role { .. })), "{wrong_role:?}");
    let certificate_as_key = {
        set_mode(&edge.certificate, 0o600);
        Credentials::load(&ca, &edge.certificate, &edge.certificate)
    };
    assert!(matches!(certificate_as_key, Err(LoadError::File(FileError::NoKey(_)))));
}

#[test]
fn a_cas_key_must_be_the_certificates() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    Authority::create(ours.path()).unwrap();
    Authority::create(theirs.path()).unwrap();
    fs::copy(theirs.path().join("ca.key"), ours.path().join("ca.key")).unwrap();
    assert!(matches!(Authority::open(ours.path()), Err(AuthorityError::KeyMismatch { .. })));
}

#[test]
fn a_renewed_certificate_is_of_the_same_key_and_a_directory_tells_how_long_each_holds() {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path()).unwrap();
    let missing = authority.renew(Role::Agent, "n1", week());
    assert!(matches!(missing, Err(AuthorityError::File(FileError::Io { .. }))), "{missing:?}");
    let issued = authority.issue(Role::Agent, "n1", week()).unwrap();
    let (key, before) = (fs::read(&issued.key).unwrap(), fs::read(&issued.certificate).unwrap());
    assert_eq!(authority.renew(Role::Agent, "n1", Validity::days(365).unwrap()).unwrap(), issued);
    assert_eq!(fs::read(&issued.key).unwrap(), key);
    assert_ne!(fs::read(&issued.certificate).unwrap(), before);
    assert!(load(&authority, &issued).is_ok());
    fs::write(dir.path().join("notes.pem"), "no certificate").unwrap();
    let found = berth_certs::certificates_in(dir.path()).unwrap();
    let told: Vec<_> = found.iter().map(|found| (found.file.as_str(), found.of.as_str())).collect();
    assert_eq!(told, [("agent-n1.pem", "agent \"n1\""), ("ca.pem", "a CA")]);
    let days = found[0].lifetime.left(std::time::SystemTime::now()).as_secs() / (24 * 3600);
    assert!((363..=365).contains(&days), "{days}");
}
