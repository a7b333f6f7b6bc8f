//! A setup that was cut short, or that somebody meddled with.

use std::path::Path;
use std::time::Duration;

use freehold_base::IdSource;
use freehold_tunnel::gateway::setup::{
    self, CA_CERT, CA_KEY, CERT, KEY, authority, certificate_fits, new_authority, new_certificate,
};

const DOMAIN: &str = "abc.tunnel.test";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn made() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let now = IdSource::system().clock().now();
    new_authority(dir.path(), "tnl_1", now).unwrap();
    new_certificate(dir.path(), DOMAIN, now, DAY).unwrap();
    dir
}

fn swap(dir: &Path, from: &Path, names: &[&str]) {
    for name in names {
        std::fs::copy(from.join(name), dir.join(name)).unwrap();
    }
}

/// Lets the writing of a file fail, as if the process had ended before it.
fn block(dir: &Path, name: &str) -> std::path::PathBuf {
    let path = dir.join(format!("{name}.new"));
    std::fs::create_dir(&path).unwrap();
    path
}

#[test]
fn what_was_made_whole_fits() {
    let dir = made();
    assert!(certificate_fits(dir.path(), DOMAIN));
    assert!(!certificate_fits(dir.path(), "xyz.tunnel.test"));
    assert!(!certificate_fits(dir.path(), "tunnel.test"));
    let pem = std::fs::read_to_string(dir.path().join(CA_CERT)).unwrap();
    assert_eq!(authority(dir.path()).unwrap(), Some(pem));
}

#[test]
fn an_authority_that_was_cut_short_is_none() {
    let now = IdSource::system().clock().now();
    for name in [CA_KEY, CA_CERT] {
        let dir = made();
        let blocked = block(dir.path(), name);
        assert!(new_authority(dir.path(), "tnl_1", now).is_err());
        assert_eq!(authority(dir.path()).unwrap(), None, "{name}");
        assert!(!certificate_fits(dir.path(), DOMAIN), "{name}");
        std::fs::remove_dir(blocked).unwrap();
        let pem = new_authority(dir.path(), "tnl_1", now).unwrap();
        assert_eq!(authority(dir.path()).unwrap(), Some(pem));
        // The certificate is still that of the old one.
        assert!(!certificate_fits(dir.path(), DOMAIN), "{name}");
        new_certificate(dir.path(), DOMAIN, now, DAY).unwrap();
        assert!(certificate_fits(dir.path(), DOMAIN), "{name}");
    }
}

#[test]
fn a_certificate_that_was_cut_short_is_made_again() {
    let now = IdSource::system().clock().now();
    let dir = made();
    let blocked = block(dir.path(), CERT);
    assert!(new_certificate(dir.path(), DOMAIN, now, DAY).is_err());
    // A new key beside the old certificate.
    assert!(!certificate_fits(dir.path(), DOMAIN));
    std::fs::remove_dir(blocked).unwrap();
    new_certificate(dir.path(), DOMAIN, now, DAY).unwrap();
    assert!(certificate_fits(dir.path(), DOMAIN));
    for name in [CERT, KEY, CA_CERT] {
        let dir = made();
        std::fs::remove_file(dir.path().join(name)).unwrap();
        assert!(!certificate_fits(dir.path(), DOMAIN), "{name}");
    }
}

#[test]
fn files_of_two_setups_are_not_taken_for_one() {
    let (dir, other) = (made(), made());
    let now = IdSource::system().clock().now();
    swap(dir.path(), other.path(), &[CA_KEY]);
    let before = std::fs::read(dir.path().join(KEY)).unwrap();
    for said in [
        authority(dir.path()).unwrap_err().to_string(),
        new_certificate(dir.path(), DOMAIN, now, DAY)
            .unwrap_err()
            .to_string(),
    ] {
        assert!(said.contains("ca.key does not belong to ca.crt"), "{said}");
    }
    // Nothing was written.
    assert_eq!(std::fs::read(dir.path().join(KEY)).unwrap(), before);
    swap(dir.path(), other.path(), &[CA_CERT]);
    assert!(authority(dir.path()).unwrap().is_some());
    assert!(!certificate_fits(dir.path(), DOMAIN));
    swap(dir.path(), other.path(), &[CERT, KEY]);
    assert!(certificate_fits(dir.path(), DOMAIN));
    setup::forget_authority(dir.path()).unwrap();
    assert_eq!(authority(dir.path()).unwrap(), None);
    let said = new_certificate(dir.path(), DOMAIN, now, DAY).unwrap_err();
    assert!(said.to_string().contains("there is no ca.crt"), "{said}");
}
