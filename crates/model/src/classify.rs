//! What an upstream's refusal means.
//!
//! Understands the error bodies of the Messages API and of the servers that speak Chat
//! Completions (OpenAI's shape, llama.cpp's numeric codes, Ollama's bare string).

use http::HeaderMap;
use serde_json::Value;

use crate::error::{
    MAX_MESSAGE_CHARS, MAX_RETRY_AFTER_MS, MAX_UPSTREAM_BODY, ModelError, ModelErrorKind, cut_chars,
};

/// The parts of an error body that say what kind it is.
#[derive(Debug, Default)]
struct Said {
    /// `error.type`.
    kind: String,
    /// `error.code` or `error.details.error_code`.
    code: String,
    message: String,
}

/// An answer with a status other than 2xx. `body` may be cut or empty.
pub fn http_error(status: u16, headers: &HeaderMap, body: &[u8]) -> ModelError {
    let text = String::from_utf8_lossy(body);
    let said = read(&text);
    let never_again = header(headers, "x-should-retry").is_some_and(|v| v == "false");
    let kind = match (status, kind_of_words(&said)) {
        (_, Some(kind)) => kind,
        // A limit that waiting does not lift is a spend limit (contract 86 §4).
        (429, None) if never_again => ModelErrorKind::Billing,
        (status, None) => kind_of_status(status),
    };
    let message = if said.message.is_empty() {
        format!("the model endpoint answered status {status}")
    } else {
        said.message
    };
    let mut error = ModelError::new(kind, message).with_status(status);
    error.retry_after_ms = retry_after_ms(headers);
    error.upstream_body = (!text.is_empty()).then(|| cut_bytes(text.into_owned()));
    error
}

/// An error inside a stream whose status was 200: the data of an `error` event, or a chunk with an
/// `error` field.
pub fn stream_error(data: &str) -> ModelError {
    let said = read(data);
    let kind = kind_of_words(&said)
        .or_else(|| said.code.parse().ok().map(kind_of_status))
        .unwrap_or(ModelErrorKind::Other);
    let message = if said.message.is_empty() {
        "the model endpoint reported an error in its stream".to_owned()
    } else {
        said.message
    };
    let mut error = ModelError::new(kind, message);
    error.upstream_body = Some(cut_bytes(data.to_owned()));
    error
}

fn kind_of_status(status: u16) -> ModelErrorKind {
    match status {
        401 | 403 => ModelErrorKind::Authentication,
        402 => ModelErrorKind::Billing,
        408 | 504 => ModelErrorKind::Timeout,
        413 => ModelErrorKind::ContextExceeded,
        429 => ModelErrorKind::RateLimited,
        503 | 529 => ModelErrorKind::Overloaded,
        409 | 500..=599 => ModelErrorKind::Other,
        400..=499 => ModelErrorKind::InvalidRequest,
        // 1xx and 3xx: redirects are not followed, a key must not travel to another host.
        _ => ModelErrorKind::Protocol,
    }
}

/// Classes that the words of the body name more exactly than the status does.
fn kind_of_words(said: &Said) -> Option<ModelErrorKind> {
    use ModelErrorKind as K;
    match said.code.as_str() {
        "enforced_spend_limit_reached" | "contract_spend_limit_reached" | "insufficient_quota" => {
            return Some(K::Billing);
        }
        "context_length_exceeded" => return Some(K::ContextExceeded),
        "invalid_api_key" => return Some(K::Authentication),
        _ => {}
    }
    let message = said.message.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|w| message.contains(w));
    match said.kind.as_str() {
        "overloaded_error" => Some(K::Overloaded),
        "rate_limit_error" if !has(&["spend limit"]) => None,
        "billing_error" | "insufficient_quota" => Some(K::Billing),
        "authentication_error" | "permission_error" => Some(K::Authentication),
        "timeout_error" => Some(K::Timeout),
        "request_too_large" | "exceed_context_size_error" => Some(K::ContextExceeded),
        "not_found_error" => Some(K::InvalidRequest),
        _ if has(&[
            "credit balance is too low",
            "you have reached your specified",
            "spend limit",
        ]) =>
        {
            Some(K::Billing)
        }
        _ if has(&[
            "prompt is too long",
            "exceed context limit",
            "maximum context length",
            "available context size",
            "context length exceeded",
            "exceeds the context window",
            "longer than the maximum model length",
        ]) =>
        {
            Some(K::ContextExceeded)
        }
        "invalid_request_error" => Some(K::InvalidRequest),
        "rate_limit_error" => Some(K::RateLimited),
        _ => None,
    }
}

fn read(body: &str) -> Said {
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return Said::default();
    };
    let text = |value: Option<&Value>| match value {
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) => n.to_string(),
        _ => String::new(),
    };
    let error = value.get("error").unwrap_or(&value);
    if let Value::String(message) = error {
        return Said {
            message: message.clone(),
            ..Said::default()
        };
    }
    let details = error
        .get("details")
        .or_else(|| value.get("details"))
        .and_then(|d| d.get("error_code"));
    Said {
        kind: text(error.get("type")),
        code: text(details.or_else(|| error.get("code"))),
        message: cut_chars(text(error.get("message")), MAX_MESSAGE_CHARS),
    }
}

fn retry_after_ms(headers: &HeaderMap) -> Option<u64> {
    let number = |name, unit: f64| {
        let value: f64 = header(headers, name)?.trim().parse().ok()?;
        // The float-to-int cast saturates; NaN and infinities do not reach it.
        (value.is_finite() && 0.0 <= value).then(|| (value * unit).ceil() as u64)
    };
    // The HTTP-date form of `retry-after` is not read: it would need the wall clock, and no model
    // API sends it.
    number("retry-after-ms", 1.0)
        .or_else(|| number("retry-after", 1000.0))
        .map(|ms| ms.min(MAX_RETRY_AFTER_MS))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn cut_bytes(mut text: String) -> String {
    if MAX_UPSTREAM_BODY < text.len() {
        let end = (0..=MAX_UPSTREAM_BODY)
            .rev()
            .find(|i| text.is_char_boundary(*i))
            .unwrap_or(0);
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use ModelErrorKind as K;

    fn check(status: u16, body: &str, kind: K) {
        let error = http_error(status, &HeaderMap::new(), body.as_bytes());
        assert_eq!(error.kind, kind, "{status} {body}");
        assert_eq!(error.status, Some(status));
    }

    fn messages(kind: &str, message: &str) -> String {
        serde_json::json!({"type":"error","error":{"type":kind,"message":message}}).to_string()
    }

    #[test]
    fn messages_errors() {
        check(
            529,
            &messages("overloaded_error", "Overloaded"),
            K::Overloaded,
        );
        check(
            429,
            &messages("rate_limit_error", "slow down"),
            K::RateLimited,
        );
        check(
            429,
            &messages("rate_limit_error", "monthly spend limit"),
            K::Billing,
        );
        check(
            401,
            &messages("authentication_error", "bad key"),
            K::Authentication,
        );
        check(403, &messages("permission_error", "no"), K::Authentication);
        check(402, &messages("billing_error", "pay"), K::Billing);
        check(
            400,
            &messages("invalid_request_error", "max_tokens: required"),
            K::InvalidRequest,
        );
        check(
            400,
            &messages(
                "invalid_request_error",
                "Your credit balance is too low to access",
            ),
            K::Billing,
        );
        check(
            400,
            &messages(
                "invalid_request_error",
                "prompt is too long: 200001 tokens > 200000",
            ),
            K::ContextExceeded,
        );
        check(
            413,
            &messages("request_too_large", "too big"),
            K::ContextExceeded,
        );
        check(
            404,
            &messages("not_found_error", "model: x"),
            K::InvalidRequest,
        );
        check(
            500,
            &messages("api_error", "Internal server error"),
            K::Other,
        );
        check(504, &messages("timeout_error", "t"), K::Timeout);
        let spend = r#"{"type":"error","error":{"type":"rate_limit_error","message":"x",
            "details":{"error_code":"enforced_spend_limit_reached"}}}"#;
        check(429, spend, K::Billing);
    }

    #[test]
    fn chat_errors() {
        check(
            400,
            r#"{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}"#,
            K::ContextExceeded,
        );
        check(
            400,
            r#"{"object":"error","message":"This model's maximum context length is 4096 tokens.","type":"BadRequestError","code":400}"#,
            K::ContextExceeded,
        );
        check(
            503,
            r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
            K::Overloaded,
        );
        check(404, r#"{"error":"model 'x' not found"}"#, K::InvalidRequest);
        check(
            429,
            r#"{"error":{"message":"You exceeded your quota","type":"insufficient_quota","code":"insufficient_quota"}}"#,
            K::Billing,
        );
    }

    #[test]
    fn without_a_readable_body_the_status_decides() {
        check(502, "<html>bad gateway</html>", K::Other);
        check(302, "", K::Protocol);
        check(422, "\u{0}", K::InvalidRequest);
        check(200, "[]", K::Protocol);
    }

    #[test]
    fn waiting_times() {
        let wait = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            http_error(429, &headers, b"").retry_after_ms
        };
        assert_eq!(wait("retry-after", "2"), Some(2_000));
        assert_eq!(wait("retry-after", "0.5"), Some(500));
        assert_eq!(wait("retry-after-ms", "7"), Some(7));
        assert_eq!(
            wait("retry-after", "999999999999"),
            Some(MAX_RETRY_AFTER_MS)
        );
        for odd in ["-1", "NaN", "inf", "soon", "Tue, 24 Nov 2026 00:00:00 GMT"] {
            assert_eq!(wait("retry-after", odd), None, "{odd}");
        }
    }

    #[test]
    fn a_limit_that_waiting_does_not_lift() {
        let mut headers = HeaderMap::new();
        headers.insert("x-should-retry", "false".parse().unwrap());
        let body = messages("rate_limit_error", "no");
        let error = http_error(429, &headers, body.as_bytes());
        assert_eq!(error.kind, K::Billing);
        assert!(!error.retryable());
    }

    #[test]
    fn errors_in_a_stream() {
        let error = stream_error(&messages("overloaded_error", "Overloaded"));
        assert_eq!((error.kind, error.status), (K::Overloaded, None));
        assert_eq!(stream_error(&messages("api_error", "x")).kind, K::Other);
        assert!(stream_error("not json").retryable());
        let error = stream_error(r#"{"error":{"message":"boom","code":503}}"#);
        assert_eq!(error.kind, K::Overloaded);
    }

    #[test]
    fn kept_bodies_are_bounded() {
        let body = "é".repeat(MAX_UPSTREAM_BODY);
        let kept = http_error(500, &HeaderMap::new(), body.as_bytes())
            .upstream_body
            .unwrap();
        assert!(kept.len() <= MAX_UPSTREAM_BODY);
        assert!(body.starts_with(&kept));
    }
}
