//! An S3 server of its own for each test, and a proxy before it that makes it fail.

pub mod proxy;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use freehold_base::Secret;
use freehold_store::ObjectStorage;
use serde_json::Value;

/// Runs until it is dropped.
pub struct Server {
    child: Child,
    ask: Option<ChildStdin>,
    answer: BufReader<ChildStdout>,
    pub endpoint: String,
    pub bucket: String,
    /// Id and key of a user who may do everything.
    pub all: (String, String),
    /// Of one who may do nothing.
    pub none: (String, String),
}

/// What is in the bucket.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub objects: Vec<String>,
    /// Names of objects that are being uploaded in parts.
    pub uploads: Vec<String>,
}

impl Server {
    pub fn start() -> Self {
        let mut child = Command::new(python())
            .arg(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../tests/sdk/python/s3/server.py"
            ))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("moto: `cargo xtask test --only rust` installs it");
        let ask = child.stdin.take();
        let mut answer = BufReader::new(child.stdout.take().unwrap());
        let ready = read(&mut answer);
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let key = |name: &str| (text(&ready[name][0]), text(&ready[name][1]));
        Self {
            endpoint: text(&ready["endpoint"]),
            bucket: text(&ready["bucket"]),
            all: key("all"),
            none: key("none"),
            child,
            ask,
            answer,
        }
    }

    pub fn look(&mut self) -> Found {
        let found = self.ask("look");
        let names = |v: &Value| {
            let names = v.as_array().unwrap().iter();
            names.map(|n| n.as_str().unwrap().to_owned()).collect()
        };
        Found {
            objects: names(&found["objects"]),
            uploads: names(&found["uploads"]),
        }
    }

    /// Replaces an object behind everybody's back. The text is one word.
    pub fn replace(&mut self, name: &str, text: &str) {
        self.ask(&format!("put {name} {text}"));
    }

    fn ask(&mut self, question: &str) -> Value {
        writeln!(self.ask.as_ref().unwrap(), "{question}").unwrap();
        read(&mut self.answer)
    }

    /// The way in, with objects below `prefix`, for somebody who tries twice.
    pub fn storage(&self, prefix: &str, spool: &Path) -> ObjectStorage {
        ObjectStorage {
            bucket: self.bucket.clone(),
            prefix: prefix.to_owned(),
            endpoint: Some(self.endpoint.clone()),
            region: "us-east-1".to_owned(),
            access_key_id: self.all.0.clone(),
            secret_access_key: Secret::new(self.all.1.clone()),
            session_token: None,
            authorities: None,
            patience: Duration::from_secs(20),
            spool: spool.to_owned(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.ask.take());
        let _ = self.child.wait();
    }
}

fn read(from: &mut impl BufRead) -> Value {
    let mut line = String::new();
    from.read_line(&mut line).unwrap();
    serde_json::from_str(&line).unwrap_or_else(|_| panic!("the S3 server failed: {line}"))
}

/// Where xtask installs it: beside the folder of test programs.
fn python() -> PathBuf {
    let me = std::env::current_exe().unwrap();
    let target = me.ancestors().find(|dir| dir.join("xtask/py-s3").is_dir());
    target
        .expect("moto: `cargo xtask test --only rust` installs it")
        .join("xtask/py-s3/bin/python")
}
