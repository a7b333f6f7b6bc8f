//! The credential as sent.

use freehold_wire::{ApiError, ErrorKind};
use http::HeaderMap;

use super::unauthenticated;
use crate::credential;

/// The key as sent: `x-api-key`, or `Authorization: Bearer`. Both are accepted together only if
/// they agree, so that no request runs under a key its sender did not mean.
pub(super) fn presented(headers: &HeaderMap) -> Result<&str, ApiError> {
    for name in ["x-api-key", "authorization"] {
        if headers.get_all(name).iter().nth(1).is_some() {
            // Which of them counts is not the same everywhere on a request's way.
            return Err(ApiError::new(
                ErrorKind::Authentication,
                format!("`{name}` is there more than once; send one credential"),
            ));
        }
    }
    let api_key = headers.get("x-api-key").map(|v| v.to_str().map(str::trim));
    let bearer = headers
        .get(http::header::AUTHORIZATION)
        .map(|v| v.to_str().map(bearer));
    let key = match (api_key, bearer) {
        (None, None) => {
            return Err(ApiError::new(
                ErrorKind::Authentication,
                "missing API key: send `authorization: Bearer <key>` or `x-api-key: <key>`",
            ));
        }
        (Some(Ok(a)), None) => Some(a),
        (None, Some(Ok(b))) => b,
        (Some(Ok(a)), Some(Ok(Some(b)))) if a == b => Some(a),
        (Some(_), Some(_)) => {
            return Err(ApiError::new(
                ErrorKind::Authentication,
                "`x-api-key` and `authorization` hold different credentials; send one",
            ));
        }
        _ => None,
    };
    key.filter(|k| (1..=credential::MAX_KEY).contains(&k.len()))
        .ok_or_else(unauthenticated)
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap()))
            .collect::<Vec<(http::HeaderName, http::HeaderValue)>>()
            .into_iter()
            .collect()
    }

    #[test]
    fn both_forms_of_a_key() {
        for pairs in [
            &[("x-api-key", "k1")][..],
            &[("authorization", "Bearer k1")],
            &[("authorization", "bearer  k1 ")],
            &[("x-api-key", "k1"), ("authorization", "Bearer k1")],
        ] {
            assert_eq!(presented(&headers(pairs)).unwrap(), "k1", "{pairs:?}");
        }
        for pairs in [
            &[][..],
            &[("x-api-key", "")],
            &[("authorization", "Basic azE=")],
            &[("authorization", "k1")],
            &[("authorization", "Bearer ")],
            &[("x-api-key", "k1"), ("authorization", "Bearer k2")],
            &[("x-api-key", "k1"), ("authorization", "Basic k1")],
            &[("x-api-key", "k1"), ("x-api-key", "k1")],
            &[("authorization", "Bearer k1"), ("authorization", "x")],
        ] {
            let error = presented(&headers(pairs)).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Authentication, "{pairs:?}");
        }
    }
}
