//! Every rule of contract 60 §4, for authorities and for what gateways show.

use freehold_base::{IdSource, SharedClock, Timestamp};
use freehold_tunnel::certificate::authority::{self, Authority, MAX_PEM, Refusal};
use freehold_tunnel::certificate::verifier::TunnelVerifier;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

const HOST: &str = "a.t.test";

fn clock() -> SharedClock {
    IdSource::system().clock().clone()
}

fn now() -> Timestamp {
    clock().now()
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.use_authority_key_identifier_extension = true;
    params
}

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca(name: &str) -> Ca {
    let key = KeyPair::generate().unwrap();
    CertifiedIssuer::self_signed(ca_params(name), key).unwrap()
}

fn registered(ca: &Ca) -> Authority {
    authority::check(ca.pem().as_bytes(), now()).unwrap()
}

fn pem(params: CertificateParams) -> String {
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().pem()
}

fn refusal(pem: &str) -> Refusal {
    authority::check(pem.as_bytes(), now()).unwrap_err()
}

#[test]
fn a_good_authority_is_taken_and_known_by_its_fingerprint() {
    let ca = ca("good");
    let found = registered(&ca);
    assert_eq!(found.der, *ca.der());
    assert_eq!(found.fingerprint.len(), 64);
    assert_eq!(authority::stored(&found.der).unwrap(), found);
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
    let other = ca_params("p384").self_signed(&key).unwrap().pem();
    assert!(authority::check(other.as_bytes(), now()).is_ok());
}

#[test]
fn an_authority_that_breaks_a_rule_is_refused_by_that_rule() {
    let change = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = ca_params("x");
        change(&mut params);
        pem(params)
    };
    let good = ca("x");
    for (pem, why) in [
        (
            change(&|p| p.is_ca = IsCa::ExplicitNoCa),
            Refusal::NotAuthority,
        ),
        (change(&|p| p.is_ca = IsCa::NoCa), Refusal::NotAuthority),
        (change(&|p| p.key_usages.clear()), Refusal::KeyUsage),
        (
            change(&|p| p.key_usages = vec![KeyUsagePurpose::DigitalSignature]),
            Refusal::KeyUsage,
        ),
        (
            change(&|p| p.not_after = date_time_ymd(2020, 1, 1)),
            Refusal::Expired,
        ),
        (
            change(&|p| p.not_before = date_time_ymd(2090, 1, 1)),
            Refusal::NotYet,
        ),
        (good.pem() + &ca("y").pem(), Refusal::Several),
        (
            good.pem() + &good.key().serialize_pem(),
            Refusal::PrivateKey,
        ),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nbroken".to_owned(),
            Refusal::PrivateKey,
        ),
        (good.pem() + &"#".repeat(MAX_PEM), Refusal::TooLarge),
        (String::new(), Refusal::NotOne),
        ("garbage".to_owned(), Refusal::NotOne),
        (
            good.pem().replace("CERTIFICATE", "PUBLIC KEY"),
            Refusal::NotOne,
        ),
        (
            include_str!("weak/rsa-1024.pem").to_owned(),
            Refusal::WeakKey,
        ),
        (include_str!("weak/p-224.pem").to_owned(), Refusal::WeakKey),
        (
            include_str!("weak/secp256k1.pem").to_owned(),
            Refusal::WeakKey,
        ),
        (
            include_str!("weak/ed25519.pem").to_owned(),
            Refusal::WeakKey,
        ),
        (
            include_str!("weak/sha-1.pem").to_owned(),
            Refusal::WeakSignature,
        ),
    ] {
        assert_eq!(refusal(&pem), why);
    }
}

#[test]
fn an_authority_may_be_as_long_as_is_said_and_no_longer() {
    let pem = ca("long").pem();
    let padded = |to: usize| pem.clone() + &"\n".repeat(to - pem.len());
    assert!(authority::check(padded(8_192).as_bytes(), now()).is_ok());
    assert_eq!(refusal(&padded(8_193)), Refusal::TooLarge);
}

#[test]
fn basic_constraints_must_be_critical() {
    let mut params = ca_params("x");
    params.is_ca = IsCa::NoCa;
    let ca_true = vec![0x30, 0x03, 0x01, 0x01, 0xff];
    let extension = CustomExtension::from_oid_content(&[2, 5, 29, 19], ca_true);
    params.custom_extensions.push(extension);
    assert_eq!(refusal(&pem(params)), Refusal::NotAuthority);
}

struct Seen {
    ca: Ca,
    verifier: TunnelVerifier,
}

fn seen(authorities: &[&Ca]) -> TunnelVerifier {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let trusted = authorities.iter().map(|ca| registered(ca)).collect();
    TunnelVerifier::new(trusted, clock(), &provider).unwrap()
}

impl Seen {
    fn new() -> Self {
        let ca = ca("ca");
        let verifier = seen(&[&ca]);
        Self { ca, verifier }
    }

    fn leaf(&self, params: CertificateParams) -> CertificateDer<'static> {
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.ca).unwrap().der().clone()
    }

    fn takes(&self, leaf: &CertificateDer<'_>) -> bool {
        takes(&self.verifier, leaf, &[])
    }
}

fn takes(
    verifier: &TunnelVerifier,
    leaf: &CertificateDer<'_>,
    sent: &[CertificateDer<'_>],
) -> bool {
    let name = ServerName::try_from(HOST).unwrap();
    // The time given here is not looked at: the verifier has a clock of its own.
    let long_ago = UnixTime::since_unix_epoch(std::time::Duration::ZERO);
    verifier
        .verify_server_cert(leaf, sent, &name, &[], long_ago)
        .is_ok()
}

#[test]
fn good_certificates_are_taken() {
    let seen = Seen::new();
    assert!(seen.takes(&seen.leaf(leaf_params(&[HOST]))));
    assert!(seen.takes(&seen.leaf(leaf_params(&["*.t.test"]))));
    let mut with_usage = leaf_params(&[HOST]);
    with_usage.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    assert!(seen.takes(&seen.leaf(with_usage)));
    let with_chain = seen.leaf(leaf_params(&[HOST]));
    assert!(takes(&seen.verifier, &with_chain, &[seen.ca.der().clone()]));
}

#[test]
fn certificates_that_break_a_rule_are_refused() {
    let seen = Seen::new();
    let change = |names: &[&str], change: &dyn Fn(&mut CertificateParams)| {
        let mut params = leaf_params(names);
        change(&mut params);
        seen.leaf(params)
    };
    let none: &dyn Fn(&mut CertificateParams) = &|_| {};
    let ip = |p: &mut CertificateParams| {
        p.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 1].into())];
        p.distinguished_name.push(DnType::CommonName, HOST);
    };
    for (what, leaf) in [
        ("another name", change(&["b.t.test"], none)),
        ("the apex only", change(&["t.test"], none)),
        ("a wildcard above", change(&["*.test"], none)),
        ("a wildcard below", change(&["*.a.t.test"], none)),
        ("two wildcards", change(&["*.*.test"], none)),
        ("a wildcard of all", change(&["*"], none)),
        ("a wildcard within a label", change(&["*a.t.test"], none)),
        ("an address and the name as CN", change(&[], &ip)),
        (
            "for clients",
            change(&[HOST], &|p| {
                p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            }),
        ),
        (
            "no issuer's key",
            change(&[HOST], &|p| {
                p.use_authority_key_identifier_extension = false;
            }),
        ),
        (
            "expired",
            change(&[HOST], &|p| p.not_after = date_time_ymd(2020, 1, 1)),
        ),
        (
            "not yet",
            change(&[HOST], &|p| p.not_before = date_time_ymd(2090, 1, 1)),
        ),
        (
            "an authority",
            change(&[HOST], &|p| {
                p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            }),
        ),
        ("garbage", CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])),
    ] {
        assert!(!seen.takes(&leaf), "{what}");
    }
}

#[test]
fn certificates_that_are_too_weak_are_refused() {
    let issuer = include_str!("weak/leaf/issuer.pem");
    let issuer = authority::check(issuer.as_bytes(), now()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = TunnelVerifier::new(vec![issuer], clock(), &provider).unwrap();
    let takes = |pem: &str| {
        let leaf = CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        takes(&verifier, &leaf, &[])
    };
    // All of the same authority, and otherwise alike.
    assert!(takes(include_str!("weak/leaf/good.pem")));
    assert!(!takes(include_str!("weak/leaf/rsa-1024.pem")));
    assert!(!takes(include_str!("weak/leaf/sha-1.pem")));
}

#[test]
fn only_a_registered_authority_counts_and_only_itself() {
    let seen = Seen::new();
    let leaf = |ca: &Ca| {
        let key = KeyPair::generate().unwrap();
        leaf_params(&[HOST])
            .signed_by(&key, ca)
            .unwrap()
            .der()
            .clone()
    };
    let other = ca("other");
    assert!(!seen.takes(&leaf(&other)));
    // The same name, and another key.
    assert!(!seen.takes(&leaf(&ca("ca"))));
    // Through an intermediate, whatever is sent along.
    let between =
        CertifiedIssuer::signed_by(ca_params("between"), KeyPair::generate().unwrap(), &seen.ca)
            .unwrap();
    let key = KeyPair::generate().unwrap();
    let below = leaf_params(&[HOST])
        .signed_by(&key, &between)
        .unwrap()
        .der()
        .clone();
    assert!(!takes(&seen.verifier, &below, &[between.der().clone()]));
    // The issuer's key of one authority on what another signed.
    let two = self::seen(&[&seen.ca, &other]);
    assert!(takes(&two, &leaf(&other), &[]) && takes(&two, &leaf(&seen.ca), &[]));
    for (named, signed) in [(&seen.ca, &other), (&other, &seen.ca)] {
        let mut params = leaf_params(&[HOST]);
        params.use_authority_key_identifier_extension = false;
        let id = registered(named).key_id;
        let length = u8::try_from(id.len()).unwrap();
        let content = [&[0x30, length + 2, 0x80, length], &id[..]].concat();
        let extension = CustomExtension::from_oid_content(&[2, 5, 29, 35], content);
        params.custom_extensions.push(extension);
        let key = KeyPair::generate().unwrap();
        let crossed = params.signed_by(&key, signed).unwrap();
        assert!(!takes(&two, crossed.der(), &[]));
    }
    // An Ed25519 key is not one of those that may be used.
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let odd = leaf_params(&[HOST])
        .signed_by(&key, &seen.ca)
        .unwrap()
        .der()
        .clone();
    assert!(!seen.takes(&odd));
}

#[test]
fn an_authority_counts_only_while_it_is_valid() {
    let taken = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = ca_params("ca");
        change(&mut params);
        let ca = Ca::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        // It was good when it was registered.
        let stored = authority::stored(ca.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = TunnelVerifier::new(vec![stored], clock(), &provider).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = leaf_params(&[HOST]).signed_by(&key, &ca).unwrap();
        takes(&verifier, leaf.der(), &[])
    };
    assert!(taken(&|_| {}));
    assert!(!taken(&|p| p.not_after = date_time_ymd(2020, 1, 1)));
    assert!(!taken(&|p| p.not_before = date_time_ymd(2090, 1, 1)));
}
