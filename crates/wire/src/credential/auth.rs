//! Readers of the parts of `auth` that create and update share (contract 64 §3).

use freehold_base::{Secret, Timestamp};
use serde_json::Value;

use super::{CredentialHosts, CredentialNetworking};
use crate::decode::{At, Decode, Object, list, string, text};
use crate::environment::request::host;

/// Hosts of one credential.
const MAX_HOSTS: usize = 16;
/// Characters of a secret; our own bound.
const MAX_SECRET: usize = 16_384;
/// Characters of a variable's name; our own bound.
const MAX_SECRET_NAME: usize = 256;

/// Variables that decide what programs load, trust or run: with a placeholder in their place a sandbox
/// would be of no use, or another one than it was made.
const RELIED_ON: [&str; 20] = [
    "ALL_PROXY",
    "AWS_CA_BUNDLE",
    "BASH_ENV",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "ENV",
    "GIT_SSL_CAINFO",
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "IFS",
    "LANG",
    "NODE_EXTRA_CA_CERTS",
    "NODE_OPTIONS",
    "NO_PROXY",
    "PATH",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SHELL",
    "SSL_CERT_FILE",
];

/// A secret. Its refusals never repeat any of it.
pub(super) fn secret(value: Value, at: &At<'_>) -> Decode<Secret<String>> {
    text(1, MAX_SECRET)(value, at).map(Secret::new)
}

/// A secret that only ever stands in a header, so without control characters, which would end it.
pub(super) fn token(value: Value, at: &At<'_>) -> Decode<Secret<String>> {
    let token = secret(value, at)?;
    if token.expose().chars().any(char::is_control) {
        return Err(at.error("String should not contain control characters"));
    }
    Ok(token)
}

/// The name of an environment variable.
pub(super) fn secret_name(value: Value, at: &At<'_>) -> Decode<String> {
    let name = text(1, MAX_SECRET_NAME)(value, at)?;
    let is_word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
    if name.starts_with(|c: char| c.is_ascii_digit()) || !name.bytes().all(is_word) {
        return Err(at.error(
            "Input should be the name of an environment variable: letters, digits and underscores, not starting with a digit",
        ));
    }
    let upper = name.to_ascii_uppercase();
    if RELIED_ON.contains(&upper.as_str()) || upper.starts_with("LD_") {
        return Err(at.error("Input should not be a variable that programs in a sandbox rely on"));
    }
    Ok(name)
}

/// A point in time.
pub(super) fn timestamp(value: Value, at: &At<'_>) -> Decode<Timestamp> {
    let time = string(value, at)?;
    time.parse()
        .map_err(|_| at.error("Input should be an RFC 3339 date and time"))
}

/// The refusal of an expiry that is over.
pub(super) fn check_future(expires_at: Option<Timestamp>, now: Timestamp) -> Decode<()> {
    match expires_at {
        Some(expiry) if expiry <= now => Err(At::ROOT
            .key("auth")
            .key("expires_at")
            .error("Input should be in the future")),
        _ => Ok(()),
    }
}

/// Where a value may go.
pub(super) fn networking(value: Value, at: &At<'_>) -> Decode<CredentialNetworking> {
    let mut o = Object::new(value, at)?;
    let networking = match o.tag(&["unrestricted", "limited"])? {
        "unrestricted" => CredentialNetworking::Unrestricted,
        _ => CredentialNetworking::Limited(CredentialHosts {
            allowed_hosts: o.required("allowed_hosts", list(1, MAX_HOSTS, allowed_host))?,
        }),
    };
    o.finish()?;
    Ok(networking)
}

/// As for environments, but what looks like an address must be one, and has no wildcard.
fn allowed_host(value: Value, at: &At<'_>) -> Decode<String> {
    let host = host(value, at)?;
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.bytes().all(|c| c.is_ascii_digit());
    if numeric && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(at.error("Input should be a host name or an IPv4 address"));
    }
    Ok(host)
}

/// `header` and `body` as far as they were given. A null is refused: whether it means "off" or "as
/// it is" is not ours to guess.
pub(super) fn injection_location(
    value: Value,
    at: &At<'_>,
) -> Decode<(Option<bool>, Option<bool>)> {
    if value.is_null() {
        return Err(no_null(at));
    }
    let mut o = Object::new(value, at)?;
    let header = o.present("header", switch)?;
    let body = o.present("body", switch)?;
    o.finish()?;
    Ok((header, body))
}

fn switch(value: Value, at: &At<'_>) -> Decode<bool> {
    match value {
        Value::Null => Err(no_null(at)),
        value => crate::decode::boolean(value, at),
    }
}

fn no_null(at: &At<'_>) -> crate::ApiError {
    at.error("Input should not be null; omit the field instead")
}

/// The refusal of a credential whose value may stand nowhere.
pub(super) fn check_location(location: super::InjectionLocation) -> Decode<()> {
    if location.header || location.body {
        return Ok(());
    }
    Err(At::ROOT
        .key("auth")
        .key("injection_location")
        .error("At least one of header and body should be true"))
}
