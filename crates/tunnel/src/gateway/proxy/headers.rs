//! What of a head is checked, and what of it is not passed on.

use http::header::{
    CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, HeaderName, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, Method, Request, StatusCode};

use super::Refused;

/// The first revision of MCP that asks for headers which repeat the body.
const REPEATS: &str = "2026-07-28";

/// Whether it is a request of MCP whose headers repeat its body, and must do so rightly.
pub(super) fn repeats_body<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut revisions = headers.get_all("mcp-protocol-version").iter();
    let (Some(revision), None) = (revisions.next(), revisions.next()) else {
        return false;
    };
    // Dates, of which the later is the greater.
    let binds = |revision: &str| revision.len() == REPEATS.len() && revision >= REPEATS;
    let repeats = headers.contains_key("mcp-method") || headers.contains_key("mcp-name");
    *request.method() == Method::POST && repeats && revision.to_str().is_ok_and(binds)
}

/// Refuses a request that names another host than the stream, or more than one.
pub(super) fn check<B>(host: &str, request: &Request<B>) -> Result<(), Refused> {
    let no = |status, why: &str| Err(Refused::new(status, why));
    let headers = request.headers();
    let uri = request.uri();
    // `*` is no path either, and would run into whatever is put before it.
    let path = uri.authority().is_none() && uri.path().starts_with('/');
    if *request.method() == Method::CONNECT || !path {
        return no(StatusCode::BAD_REQUEST, "only a path may be asked for");
    }
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(named), None) = (hosts.next(), hosts.next()) else {
        return no(StatusCode::BAD_REQUEST, "exactly one Host is needed");
    };
    let named = named.to_str().unwrap_or_default();
    let named = named.strip_suffix(":443").unwrap_or(named);
    let named = named.strip_suffix('.').unwrap_or(named);
    if !named.eq_ignore_ascii_case(host) {
        return no(
            StatusCode::MISDIRECTED_REQUEST,
            "Host is not the host of the connection",
        );
    }
    Ok(())
}

/// Takes away what is between two neighbours only, and what only a proxy may say.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, UPGRADE, FORWARDED] {
        headers.remove(name);
    }
    for name in [
        "http2-settings",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "trailer",
        "via",
    ] {
        headers.remove(name);
    }
    // The body is framed anew by whoever sends it on; a length beside an encoding counts for nothing.
    if headers.remove(TRANSFER_ENCODING).is_some() {
        headers.remove(CONTENT_LENGTH);
    }
    // Some servers take `_` for `-`.
    let forwarding = |name: &&HeaderName| {
        let name = name.as_str().replace('_', "-");
        name.starts_with("x-forwarded-") || name == "x-real-ip"
    };
    let forwarding: Vec<HeaderName> = headers.keys().filter(forwarding).cloned().collect();
    for name in forwarding {
        headers.remove(name);
    }
}

/// The caller's name of the request, or none.
pub(super) fn request_id(headers: &HeaderMap) -> String {
    let id = headers.get("x-request-id").and_then(|v| v.to_str().ok());
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let id = id.filter(|id| id.len() <= 128 && id.chars().all(fits));
    id.unwrap_or_default().to_owned()
}
