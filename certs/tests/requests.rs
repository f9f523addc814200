//! Requests: what is made of them, and which are refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use berth_certs::{
    Authority, AuthorityError, Credentials, FileError, KeyHash, Request, RequestError, Role, Validity,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, SanType};

fn week() -> Validity {
    Validity::days(7).unwrap()
}

#[test]
fn a_key_that_never_leaves_its_machine_gets_a_certificate_that_works() {
    let (ca, machine) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::create(ca.path()).unwrap();
    let directory = machine.path().join("new");
    let requested = Request::make(&directory, Role::Agent, "n1").unwrap();
    assert_eq!(fs::metadata(&requested.key).unwrap().permissions().mode() & 0o7777, 0o600);
    let request = Request::read(&requested.request).unwrap();
    assert_eq!((&request.identity, request.key_hash()), (&requested.identity, requested.key_hash));
    let certificate = authority.grant(&request, week(), false).unwrap();
    assert_eq!(KeyHash::of_file(&certificate).unwrap(), requested.key_hash);
    assert!(!ca.path().join("agent-n1.key").exists());
    let loaded = Credentials::load(&authority.certificate_path(), &certificate, &requested.key).unwrap();
    assert_eq!(*loaded.identity(), requested.identity);
    authority.renew(Role::Agent, "n1", week()).unwrap();
    assert_eq!(KeyHash::of_file(&certificate).unwrap(), requested.key_hash, "without the key");
    // Again, as after a kill: the same key, and so the same holder.
    let again = Request::make(&directory, Role::Agent, "n1").unwrap();
    assert_eq!(again, requested);
    authority.grant(&Request::read(&again.request).unwrap(), week(), false).unwrap();
}

#[test]
fn a_name_that_another_key_has_is_given_away_only_on_demand() {
    let (ca, machine) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = Authority::create(ca.path()).unwrap();
    let first = authority.issue(Role::Agent, "n1", week()).unwrap();
    let before = fs::read(&first.certificate).unwrap();
    let requested = Request::make(machine.path(), Role::Agent, "n1").unwrap();
    let request = Request::read(&requested.request).unwrap();
    let refused = authority.grant(&request, week(), false);
    assert!(matches!(refused, Err(AuthorityError::OtherKey { .. })), "{refused:?}");
    assert_eq!(fs::read(&first.certificate).unwrap(), before);
    authority.grant(&request, week(), true).unwrap();
    assert_eq!(KeyHash::of_file(&first.certificate).unwrap(), requested.key_hash);
    // The key of the one before is still there; what is renewed is the certificate, for its own key.
    assert!(first.key.exists());
    authority.renew(Role::Agent, "n1", week()).unwrap();
    assert_eq!(KeyHash::of_file(&first.certificate).unwrap(), requested.key_hash);
}

/// A request as a stranger may make it.
fn of(key: &KeyPair, names: Vec<SanType>) -> String {
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    params.serialize_request(key).unwrap().pem().unwrap()
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

#[test]
fn what_is_no_request_for_one_name_is_refused() {
    let key = KeyPair::generate().unwrap();
    let names = [
        vec![],
        vec![uri("berth://agent/n1"), uri("berth://agent/n2")],
        vec![SanType::DnsName("n1".try_into().unwrap())],
    ];
    for names in names {
        let refused = Request::parse(&of(&key, names));
        assert!(matches!(refused, Err(RequestError::Names)), "{refused:?}");
    }
    for other in ["berth://root/n1", "https://agent/n1", "berth://agent/a/b"] {
        let refused = Request::parse(&of(&key, vec![uri(other)]));
        assert!(matches!(refused, Err(RequestError::Identity(_))), "{refused:?}");
    }
    let other = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let refused = Request::parse(&of(&other, vec![uri("berth://agent/n1")]));
    assert!(matches!(refused, Err(RequestError::Kind)), "{refused:?}");
}

#[test]
fn a_request_that_was_changed_on_its_way_is_refused() {
    let machine = tempfile::tempdir().unwrap();
    let requested = Request::make(machine.path(), Role::Agent, "n1").unwrap();
    let text = fs::read_to_string(&requested.request).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for at in 1..lines.len() - 1 {
        let mut changed: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let swapped = if changed[at].starts_with('A') { "B" } else { "A" };
        changed[at].replace_range(..1, swapped);
        assert!(Request::parse(&changed.join("\n")).is_err(), "line {at}");
    }
    for text in ["", "x", &text[..text.len() / 2]] {
        assert!(Request::parse(text).is_err(), "{text}");
    }
}

#[test]
fn a_key_that_others_may_read_is_not_used_and_a_damaged_one_neither() {
    let machine = tempfile::tempdir().unwrap();
    let requested = Request::make(machine.path(), Role::Agent, "n1").unwrap();
    fs::set_permissions(&requested.key, fs::Permissions::from_mode(0o644)).unwrap();
    let exposed = Request::make(machine.path(), Role::Agent, "n1");
    assert!(matches!(exposed, Err(RequestError::File(FileError::Exposed { .. }))), "{exposed:?}");
    fs::set_permissions(&requested.key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&requested.key, "half").unwrap();
    let damaged = Request::make(machine.path(), Role::Agent, "n1");
    assert!(matches!(damaged, Err(RequestError::File(FileError::NoKey(_)))), "{damaged:?}");
    assert_eq!(fs::read(&requested.key).unwrap(), b"half", "nothing is overwritten");
    assert!(matches!(Request::make(machine.path(), Role::Agent, "a/b"), Err(RequestError::Identity(_))));
}
