//! Getting a page: each URL on the way, the first and every redirect, passes the same checks.

use std::net::IpAddr;

use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Client, Response, StatusCode};
use url::{Host, Url};

use crate::Rules;
use crate::client::{Clients, cause, is_refusal};
use crate::failure::{Code, Failure, Result};

/// Longest URL, bytes.
const MAX_URL: usize = 2_048;
/// Most redirects.
const MAX_REDIRECTS: usize = 5;
/// Most bytes of a page of text, after decompression; the rest is not read.
const MAX_TEXT_BODY: usize = 8 * 1024 * 1024;
/// Largest PDF, bytes (contract 55 §8 for `read`).
const MAX_PDF: usize = 20 * 1024 * 1024;
/// Largest image, bytes: 5 MiB in base 64 (contract 55 §8 for `read`).
const MAX_IMAGE: usize = 5 * 1024 * 1024 / 4 * 3;

/// What a server gave.
pub(super) struct Page {
    /// Where it came from in the end.
    pub(super) url: Url,
    pub(super) kind: Kind,
    /// What the header says.
    pub(super) charset: Option<String>,
    pub(super) body: Vec<u8>,
    /// Whether there was more than is read.
    pub(super) is_cut: bool,
}

/// What a page is, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Html,
    Text,
    /// No media type: text if it looks like it.
    Unknown,
    Pdf,
    Image(&'static str),
}

/// Gets `url` and what it redirects to.
pub(super) async fn get(clients: &Clients, url: &str, rules: &Rules) -> Result<Page> {
    if url.len() > MAX_URL {
        let detail = format!("the URL is longer than {MAX_URL} characters");
        return Err(Failure::new(Code::UrlTooLong, detail));
    }
    let mut url = Url::parse(url).map_err(|error| {
        Failure::new(
            Code::InvalidToolInput,
            format!("the URL is not valid: {error}"),
        )
    })?;
    for _ in 0..=MAX_REDIRECTS {
        let client = check(clients, &url, rules)?;
        let response = send(&client, &url).await?;
        match redirect(&response, &url)? {
            Some(next) => url = next,
            None => return page(response, url).await,
        }
    }
    let detail = format!("the page redirects more than {MAX_REDIRECTS} times");
    Err(Failure::new(Code::UrlNotAccessible, detail))
}

/// Whether `url` may be asked for, and with which client.
fn check(clients: &Clients, url: &Url, rules: &Rules) -> Result<Client> {
    let refuse = |why: String| Err(Failure::new(Code::UrlNotAllowed, why));
    if !matches!(url.scheme(), "http" | "https") {
        return refuse("only http and https URLs are fetched".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return refuse("a URL with credentials is not fetched".to_owned());
    }
    let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
        return refuse("the URL has no host".to_owned());
    };
    if !rules.permit(url) {
        return refuse(format!(
            "{host} is outside the domains this agent may fetch from"
        ));
    }
    if !clients.policy().permits_port(port) {
        return refuse(format!("port {port} is not one of web servers"));
    }
    // A literal address never meets the resolver.
    let literal: Option<IpAddr> = match host {
        Host::Ipv4(ip) => Some(ip.into()),
        Host::Ipv6(ip) => Some(ip.into()),
        Host::Domain(_) => None,
    };
    if literal.is_some_and(|ip| !clients.policy().permits(ip, port)) {
        return refuse(not_public(url));
    }
    clients.for_port(port)
}

fn not_public(url: &Url) -> String {
    format!(
        "{} is not a public address",
        url.host_str().unwrap_or_default()
    )
}

async fn send(client: &Client, url: &Url) -> Result<Response> {
    let accept = "text/html,application/xhtml+xml,text/*;q=0.9,application/json;q=0.9,\
                  application/pdf;q=0.8,*/*;q=0.5";
    client
        .get(url.clone())
        .header(ACCEPT, accept)
        .send()
        .await
        .map_err(|error| {
            if is_refusal(&error) {
                return Failure::new(Code::UrlNotAllowed, not_public(url));
            }
            failed(&error)
        })
}

fn failed(error: &reqwest::Error) -> Failure {
    Failure::new(
        Code::UrlNotAccessible,
        format!("the request failed: {}", cause(error)),
    )
}

/// Where `response` sends us.
fn redirect(response: &Response, from: &Url) -> Result<Option<Url>> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    if !is_redirect {
        return Ok(None);
    }
    let to = response
        .headers()
        .get(LOCATION)
        .and_then(|to| std::str::from_utf8(to.as_bytes()).ok());
    match to
        .filter(|to| to.len() <= MAX_URL)
        .and_then(|to| from.join(to).ok())
    {
        Some(next) => Ok(Some(next)),
        None => Err(Failure::new(
            Code::UrlNotAccessible,
            "the page redirects to no valid URL",
        )),
    }
}

async fn page(mut response: Response, url: Url) -> Result<Page> {
    let status = response.status();
    if !status.is_success() {
        let detail = format!("the server answered with status {}", status.as_u16());
        return Err(Failure::new(Code::UrlNotAccessible, detail));
    }
    let header = response.headers().get(CONTENT_TYPE);
    let header = header
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (kind, charset) = (kind(header)?, charset(header));
    let most = match kind {
        Kind::Html | Kind::Text | Kind::Unknown => MAX_TEXT_BODY,
        Kind::Pdf => MAX_PDF,
        Kind::Image(_) => MAX_IMAGE,
    };
    let mut body = Vec::new();
    let mut is_cut = false;
    // Pieces come decompressed, so the limit holds for what they become.
    while let Some(piece) = response.chunk().await.map_err(|error| failed(&error))? {
        let room = most - body.len();
        body.extend_from_slice(&piece[..piece.len().min(room)]);
        if piece.len() > room {
            is_cut = true;
            break;
        }
    }
    if is_cut && matches!(kind, Kind::Pdf | Kind::Image(_)) {
        let detail = format!("the file is larger than {most} bytes");
        return Err(Failure::new(Code::UrlNotAccessible, detail));
    }
    Ok(Page {
        url,
        kind,
        charset,
        body,
        is_cut,
    })
}

fn kind(header: &str) -> Result<Kind> {
    let essence = header
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    Ok(match essence.as_str() {
        "" => Kind::Unknown,
        "text/html" | "application/xhtml+xml" => Kind::Html,
        "application/pdf" => Kind::Pdf,
        "image/png" => Kind::Image("image/png"),
        "image/jpeg" | "image/jpg" => Kind::Image("image/jpeg"),
        "image/gif" => Kind::Image("image/gif"),
        "image/webp" => Kind::Image("image/webp"),
        "application/json"
        | "application/xml"
        | "application/javascript"
        | "application/ecmascript"
        | "application/yaml"
        | "application/x-yaml"
        | "application/toml"
        | "application/x-ndjson"
        | "application/sql"
        | "application/graphql"
        | "application/x-sh" => Kind::Text,
        other if other.starts_with("text/") => Kind::Text,
        other
            if other.ends_with("+json") || other.ends_with("+xml") || other.ends_with("+yaml") =>
        {
            Kind::Text
        }
        other => {
            let shown: String = other.chars().take(100).collect();
            return Err(Failure::new(
                Code::UnsupportedContentType,
                format!("{shown} cannot be read; only text, HTML, PDF and images can"),
            ));
        }
    })
}

fn charset(header: &str) -> Option<String> {
    header.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches(['"', '\'']);
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_types_decide_what_a_page_is() {
        for (header, expected) in [
            ("", Kind::Unknown),
            ("text/html; charset=utf-8", Kind::Html),
            ("TEXT/HTML", Kind::Html),
            ("application/ld+json", Kind::Text),
            ("image/svg+xml", Kind::Text),
            ("text/x-anything", Kind::Text),
            ("application/pdf", Kind::Pdf),
            ("image/jpg", Kind::Image("image/jpeg")),
        ] {
            assert_eq!(kind(header), Ok(expected), "{header}");
        }
        for header in [
            "application/octet-stream",
            "application/zip",
            "video/mp4",
            "image/tiff",
            "x",
        ] {
            assert_eq!(
                kind(header).unwrap_err().code,
                Code::UnsupportedContentType,
                "{header}"
            );
        }
        assert_eq!(
            charset("text/html; a=b; Charset=\"Shift_JIS\"").unwrap(),
            "Shift_JIS"
        );
        assert_eq!(charset("text/html; charset"), None);
    }
}
