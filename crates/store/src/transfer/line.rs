//! Values as JSON, and lines with a checksum.

use std::borrow::Cow;
use std::io::{BufRead, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::TransferError;
use crate::backend::{Type, Value};

/// The longest line, bytes; a row is far below it.
const MAX_LINE: u64 = 256 << 20;

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

pub(super) fn to_json(value: &Value<'_>) -> Json {
    match value {
        Value::Null(_) => Json::Null,
        Value::Int(v) => json!(v),
        Value::Text(v) => json!(v),
        Value::Blob(v) => json!({ "base64": encode(v) }),
    }
}

/// A value of a column that holds such; `None` if it is none.
pub(super) fn from_json(json: &Json, holds: Type) -> Option<Value<'static>> {
    match (json, holds) {
        (Json::Null, _) => Some(Value::Null(holds)),
        (Json::Number(v), Type::Int) => v.as_i64().map(Value::Int),
        (Json::String(v), Type::Text) => Some(Value::Text(Cow::Owned(v.clone()))),
        (Json::Object(v), Type::Blob) => {
            let bytes = v.get("base64").and_then(Json::as_str).and_then(decode)?;
            Some(Value::Blob(Cow::Owned(bytes)))
        }
        _ => None,
    }
}

/// Writes lines, and hashes them.
pub(super) struct Lines<W> {
    out: W,
    hash: Sha256,
}

impl<W: Write> Lines<W> {
    pub(super) fn new(out: W) -> Self {
        let hash = Sha256::new();
        Self { out, hash }
    }
    pub(super) fn write(&mut self, line: &Json) -> Result<(), TransferError> {
        let mut text = serde_json::to_vec(line).map_err(std::io::Error::from)?;
        text.push(b'\n');
        self.hash.update(&text);
        Ok(self.out.write_all(&text)?)
    }
    /// SHA-256 of what was written.
    pub(super) fn digest(&self) -> String {
        freehold_base::hex::encode(self.hash.clone().finalize())
    }
    pub(super) fn into_inner(self) -> W {
        self.out
    }
}

/// Reads lines, and hashes all but the last that was given.
pub(super) struct LineReader<R> {
    input: R,
    before: Sha256,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> LineReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            before: Sha256::new(),
            buffer: Vec::new(),
            number: 0,
        }
    }
    /// The next line; an error at the end of the file, because the last line says that it is.
    pub(super) fn next(&mut self) -> Result<Json, TransferError> {
        self.before.update(&self.buffer);
        self.buffer.clear();
        self.number += 1;
        let mut limited = (&mut self.input).take(MAX_LINE);
        let read = limited.read_until(b'\n', &mut self.buffer);
        read.map_err(|_| self.damaged("it cannot be decompressed"))?;
        if self.buffer.last() != Some(&b'\n') {
            return Err(self.damaged("the file ends in it"));
        }
        serde_json::from_slice(&self.buffer).map_err(|_| self.damaged("it is not JSON"))
    }
    /// Bytes of the last line.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }
    /// Whether nothing follows.
    pub(super) fn ended(&mut self) -> bool {
        self.input.fill_buf().is_ok_and(<[u8]>::is_empty)
    }
    /// SHA-256 of the lines before the last that was given.
    pub(super) fn digest(&self) -> String {
        freehold_base::hex::encode(self.before.clone().finalize())
    }
    pub(super) fn damaged(&self, what: &'static str) -> TransferError {
        TransferError::Damaged {
            line: self.number,
            what,
        }
    }
}
