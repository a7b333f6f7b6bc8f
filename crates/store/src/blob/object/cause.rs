//! From the client's errors to ours. The client's hold what was answered, which may repeat what was
//! signed, and what was asked for: none of it goes further but the error code.

use std::error::Error;

use object_store::client::{HttpError, HttpErrorKind};

use super::super::{BlobError, StorageCause};

/// What the texts of the client's errors begin with.
const STATUS: &str = "Server returned non-2xx status code: ";
const REDIRECT: &str = "Received redirect without LOCATION";
/// Longest reason that is passed on, characters.
const MAX_REASON: usize = 200;

/// The failure of an action.
pub(super) fn failed(action: &'static str) -> impl Fn(object_store::Error) -> BlobError {
    move |error| match cause(&error) {
        Some(source) => BlobError::Storage { action, source },
        None => BlobError::NotFound,
    }
}

/// `None`: there is no such object.
fn cause(error: &object_store::Error) -> Option<StorageCause> {
    let mut chain =
        std::iter::successors(Some(error as &(dyn Error + 'static)), |e| (**e).source());
    if let Some(http) = chain.clone().find_map(|e| e.downcast_ref::<HttpError>()) {
        return Some(network(http));
    }
    // The client's type for what was answered is not public. Its text is: tests hold it to that.
    if let Some((status, body)) = chain.clone().find_map(|e| status(&e.to_string())) {
        return answered(status, &body);
    }
    if chain.any(|e| e.to_string().starts_with(REDIRECT)) {
        return Some(StorageCause::Redirected);
    }
    match error {
        object_store::Error::NotFound { .. } => None,
        _ => Some(StorageCause::NotUnderstood),
    }
}

/// Status and body, in the text of an error.
fn status(text: &str) -> Option<(u16, String)> {
    let rest = text.strip_prefix(STATUS)?;
    Some((rest.get(..3)?.parse().ok()?, rest.to_owned()))
}

fn answered(status: u16, body: &str) -> Option<StorageCause> {
    let code = code(body).unwrap_or("no code").to_owned();
    match (status, code.as_str()) {
        (404, "NoSuchBucket") => Some(StorageCause::NoBucket),
        (404, _) => None,
        (301 | 302 | 307 | 308, _) | (400, "AuthorizationHeaderMalformed") => {
            Some(StorageCause::Redirected)
        }
        (401 | 403, _) => Some(StorageCause::Refused { code }),
        _ => Some(StorageCause::Answered { status, code }),
    }
}

/// The error code in an answer: a word.
fn code(body: &str) -> Option<&str> {
    let (_, rest) = body.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let word = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    word.then_some(code)
}

fn network(error: &HttpError) -> StorageCause {
    let reason = innermost(error);
    match error.kind() {
        HttpErrorKind::Timeout => StorageCause::TimedOut,
        HttpErrorKind::Connect => StorageCause::Unreachable { reason },
        _ => StorageCause::Interrupted { reason },
    }
}

/// What the system or TLS said; the outer errors name the address.
fn innermost(error: &HttpError) -> String {
    let mut last: &dyn Error = error;
    while let Some(source) = last.source() {
        last = source;
    }
    let text = last.to_string();
    let clean = text.chars().filter(|c| !c.is_control());
    clean.take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_answer_only_the_code_is_kept() {
        let body = "<?xml?><Error><Code>SignatureDoesNotMatch</Code><StringToSign>secret\
                    </StringToSign><AWSAccessKeyId>AKIA</AWSAccessKeyId></Error>";
        let cause = answered(403, body).unwrap();
        assert_eq!(
            cause.to_string(),
            "access is refused (SignatureDoesNotMatch)"
        );
        let code = |body| answered(500, body).unwrap().to_string();
        assert_eq!(code("<html>"), "it answered 500 (no code)");
        assert_eq!(code("<Code>a b</Code>"), "it answered 500 (no code)");
        assert_eq!(answered(404, "<Code>NoSuchKey</Code>"), None);
        let bucket = answered(404, "<Code>NoSuchBucket</Code>");
        assert_eq!(bucket, Some(StorageCause::NoBucket));
    }
}
