//! The authority over restarts and rotations, and its bounds.

use std::os::unix::fs::PermissionsExt;

use super::{leaf::LEAVES_MAX, *};

const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));
const ALPN: AlpnNames = &[b"postgresql"];

/// A host without an authority, whose system trusts `the system's`.
struct Host {
    state_dir: tempfile::TempDir,
    config: TlsConfig,
}

impl Host {
    fn new() -> Self {
        let state_dir = tempfile::tempdir().unwrap();
        let roots = state_dir.path().join("roots.pem");
        fs::write(&roots, "the system's\n").unwrap();
        let config = TlsConfig { public_dir: state_dir.path().join("public"), system_roots: roots };
        Self { state_dir, config }
    }

    fn open(&self) -> Result<Authority, AuthorityError> {
        Authority::open(self.state_dir.path(), &self.config, counter())
    }

    fn published(&self) -> String {
        fs::read_to_string(self.config.public_dir.join("ca.pem")).unwrap()
    }
}

fn counter() -> IntCounter {
    IntCounter::new("made_anew", "made anew").unwrap()
}

#[test]
fn the_authority_is_made_once_and_only_root_can_read_its_key() {
    let host = Host::new();
    drop(host.open().unwrap());
    let first = host.published();
    let key = host.state_dir.path().join("authority.key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    drop(host.open().unwrap());
    assert_eq!(host.published(), first);
    let all = fs::read_to_string(host.config.public_dir.join("trust.pem")).unwrap();
    assert_eq!(all, format!("the system's\n{first}"));
}

#[test]
fn a_key_that_others_can_read_is_refused() {
    let host = Host::new();
    drop(host.open().unwrap());
    let key = host.state_dir.path().join("authority.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(host.open().err().unwrap().to_string().contains("can be read by others"));
}

#[test]
fn a_rotation_publishes_both_authorities_and_signs_with_the_new_one() {
    let host = Host::new();
    let authority = host.open().unwrap();
    let first = host.published();
    let served = || authority.server(Some("db.example"), ADDRESS, ALPN).unwrap();
    let before = served();
    assert!(Arc::ptr_eq(&before, &served()));
    authority.rotate().unwrap();
    let both = host.published();
    assert!(both.ends_with(&first) && both.len() > first.len());
    assert!(!Arc::ptr_eq(&before, &served()));
    drop(host.open().unwrap());
    assert_eq!(host.published(), both);
}

#[test]
fn a_key_without_its_certificate_is_replaced_by_a_new_authority() {
    let host = Host::new();
    drop(host.open().unwrap());
    fs::remove_file(host.state_dir.path().join("authority.pem")).unwrap();
    host.open().unwrap();
    assert!(host.published().contains("BEGIN CERTIFICATE"));
}

#[test]
fn each_protocol_is_served_with_its_own_alpn_names() {
    let host = Host::new();
    let authority = host.open().unwrap();
    let served = |alpn| authority.server(None, ADDRESS, alpn).unwrap().alpn_protocols.clone();
    assert_eq!(served(&[b"postgresql"]), [b"postgresql".to_vec()]);
    assert_eq!(served(&[b"h2", b"http/1.1"]), [b"h2".to_vec(), b"http/1.1".to_vec()]);
    assert!(served(&[]).is_empty());
}

#[test]
fn kept_certificates_are_bounded_and_reaching_the_bound_is_counted() {
    let host = Host::new();
    let made_anew = counter();
    let authority = Authority::open(host.state_dir.path(), &host.config, made_anew.clone()).unwrap();
    for i in 0..LEAVES_MAX + 10 {
        authority.server(Some(&format!("n{i}.example")), ADDRESS, ALPN).unwrap();
    }
    assert!(authority.locked().leaves.len() <= LEAVES_MAX);
    assert_eq!(made_anew.get(), 1);
}
