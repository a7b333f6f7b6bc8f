//! An index of packages on loopback: what pip and npm ask for, and nothing else.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The name that the sandboxes know it by.
pub const HOST: &str = "index.test";

pub struct Index {
    pub port: u16,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Index {
    /// Serves nothing yet.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let index = Self {
            port,
            files: Arc::default(),
            asked: Arc::default(),
        };
        let (files, asked) = (index.files.clone(), index.asked.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, files.clone(), asked.clone()));
            }
        });
        index
    }

    fn url(&self) -> String {
        format!("http://{HOST}:{}", self.port)
    }

    /// Where managers find it, as an operator sets it.
    pub fn variables(&self) -> Vec<(String, String)> {
        let url = self.url();
        [
            ("PIP_INDEX_URL", format!("{url}/simple/")),
            ("PIP_TRUSTED_HOST", HOST.to_owned()),
            ("NPM_CONFIG_REGISTRY", format!("{url}/npm/")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|p| *p == path).count()
    }

    fn put(&self, path: impl Into<String>, bytes: impl Into<Vec<u8>>) {
        self.files.lock().unwrap().insert(path.into(), bytes.into());
    }

    /// Offers `greet` to pip: a module, and a program of that name.
    pub fn offer_wheel(&self) {
        let dir = tempfile::tempdir().unwrap();
        let make = r#"
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as z:
    z.writestr("greet.py", "def main():\n    print('greetings')\n")
    info = "greet-1.0.dist-info/"
    z.writestr(info + "METADATA", "Metadata-Version: 2.1\nName: greet\nVersion: 1.0\n")
    z.writestr(info + "WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    z.writestr(info + "entry_points.txt", "[console_scripts]\ngreet = greet:main\n")
    z.writestr(info + "RECORD", "".join(n + ",,\n" for n in z.namelist()))
"#;
        let name = "greet-1.0-py3-none-any.whl";
        run("python3", dir.path(), &["-c", make, name]);
        self.put(WHEEL, std::fs::read(dir.path().join(name)).unwrap());
        let page =
            format!("<!DOCTYPE html><html><body><a href=\"{WHEEL}\">{name}</a></body></html>");
        self.put("/simple/greet/", page);
    }

    /// Offers `shout` to npm: a module, and a program of that name.
    pub fn offer_module(&self) {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().join("package");
        std::fs::create_dir(&package).unwrap();
        let about = r#"{"name": "shout", "version": "1.0.0", "main": "main.js", "bin": {"shout": "main.js"}}"#;
        std::fs::write(package.join("package.json"), about).unwrap();
        let main = "#!/usr/bin/env node\nconsole.log('SHOUTS')\n";
        std::fs::write(package.join("main.js"), main).unwrap();
        run("tar", dir.path(), &["-czf", "shout.tgz", "package"]);
        self.put(MODULE, std::fs::read(dir.path().join("shout.tgz")).unwrap());
        let version = format!(
            r#"{{"name": "shout", "version": "1.0.0", "bin": {{"shout": "main.js"}}, "dist": {{"tarball": "{}{MODULE}"}}}}"#,
            self.url()
        );
        let all = format!(
            r#"{{"name": "shout", "dist-tags": {{"latest": "1.0.0"}}, "versions": {{"1.0.0": {version}}}}}"#
        );
        self.put("/npm/shout", all);
    }
}

pub const WHEEL: &str = "/files/greet-1.0-py3-none-any.whl";
pub const MODULE: &str = "/npm/shout/-/shout-1.0.0.tgz";

fn run(program: &str, dir: &Path, args: &[&str]) {
    let done = Command::new(program).current_dir(dir).args(args).output();
    let done = done.unwrap_or_else(|e| panic!("{program} is needed to make a package: {e}"));
    assert!(done.status.success(), "{done:?}");
}

async fn answer(
    mut stream: TcpStream,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<String>>>,
) {
    let mut request = Vec::new();
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 && request.len() < 65_536 => request.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    asked.lock().unwrap().push(path.clone());
    let found = files.lock().unwrap().get(&path).cloned();
    let kind = match path.as_str() {
        p if p.starts_with("/simple/") => "text/html",
        p if p.ends_with(".tgz") || p.ends_with(".whl") => "application/octet-stream",
        _ => "application/json",
    };
    let (status, body) = match found {
        Some(body) => ("200 OK", body),
        None => ("404 Not Found", b"{}".to_vec()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // A client that went away does not want it.
    let _ = stream.write_all(head.as_bytes()).await;
    let _ = stream.write_all(&body).await;
}
