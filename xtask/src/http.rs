//! Just enough HTTP to look at a server on this machine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Longest answer that is read.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Longest wait for it.
const PATIENCE: Duration = Duration::from_secs(30);

/// The body of a successful answer to `GET url+path`. `url` is `http://host:port`.
///
/// # Errors
/// The server cannot be reached or answers with anything but 200.
pub fn get(url: &str, path: &str, key: &str) -> Result<Vec<u8>> {
    send(url, "GET", path, key, b"")
}

/// The JSON of a successful answer to `POST url+path`.
///
/// # Errors
/// As [`get_json`].
pub fn post(url: &str, path: &str, key: &str, body: &Value) -> Result<Value> {
    let body = send(url, "POST", path, key, body.to_string().as_bytes())?;
    serde_json::from_slice(&body).with_context(|| format!("POST {path}: no JSON"))
}

fn send(url: &str, method: &str, path: &str, key: &str, body: &[u8]) -> Result<Vec<u8>> {
    let address = url.strip_prefix("http://").context("only plain http")?;
    let mut stream = TcpStream::connect(address).with_context(|| format!("cannot reach {url}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    // HTTP/1.0: the body ends with the connection.
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nhost: {address}\r\nx-api-key: {key}\r\nanthropic-version: 2023-06-01\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.take(MAX_BYTES).read_to_end(&mut answer)?;
    let end = answer
        .windows(4)
        .position(|w| w == b"\r\n\r\n")
        .context("the answer has no end of headers")?;
    let body = answer.split_off(end + 4);
    let head = String::from_utf8_lossy(&answer);
    let status = head.split_whitespace().nth(1).unwrap_or("");
    if status != "200" {
        bail!(
            "{method} {path}: {status} {}",
            String::from_utf8_lossy(&body)
        );
    }
    Ok(body)
}

/// The same, read as JSON.
///
/// # Errors
/// As [`get`], or the body is no JSON.
pub fn get_json(url: &str, path: &str, key: &str) -> Result<Value> {
    let body = get(url, path, key)?;
    serde_json::from_slice(&body).with_context(|| format!("GET {path}: no JSON"))
}
