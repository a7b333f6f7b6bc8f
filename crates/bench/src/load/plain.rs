//! A client of few instructions: one HTTP/1.1 request after another, written and read by hand, so that
//! what lies between it and the server is most of what is measured.

use std::net::SocketAddr;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::plan::PATIENCE;

/// Largest head of an answer.
const HEAD: usize = 16 << 10;

/// A connection.
pub(crate) struct Plain {
    stream: TcpStream,
    host: &'static str,
    buffer: Box<[u8]>,
}

impl Plain {
    /// Connects; `host` is what the server is called.
    pub(crate) async fn open(address: SocketAddr, host: &'static str) -> Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await;
        let stream = stream.context("no connection in time")??;
        stream.set_nodelay(true)?;
        let buffer = vec![0; 64 << 10].into();
        Ok(Self {
            stream,
            host,
            buffer,
        })
    }

    /// Milliseconds until the whole answer was there; its body is thrown away.
    pub(crate) async fn get(&mut self, path: &str) -> Result<f64> {
        let begun = Instant::now();
        let answer = async {
            let left = self.begin(path).await?;
            self.discard(left).await
        };
        timeout(PATIENCE, answer)
            .await
            .context("no answer in time")??;
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }

    /// Sends a request and reads the head of the answer, and the body as far as it came with it; how
    /// much of the body is left.
    pub(crate) async fn begin(&mut self, path: &str) -> Result<u64> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await?;
        let mut filled = 0;
        let end = loop {
            match self.stream.read(&mut self.buffer[filled..]).await? {
                0 => bail!("the connection ended in the middle of an answer"),
                n => filled += n,
            }
            let head = &self.buffer[..filled];
            if let Some(at) = head.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if HEAD < filled {
                bail!("the head of an answer has no end");
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            bail!("{path}: {}", head.lines().next().unwrap_or_default());
        }
        let length = head.lines().find_map(|l| l.strip_prefix("content-length:"));
        let length: u64 = length.context("an answer without length")?.trim().parse()?;
        Ok(length - (filled - end) as u64)
    }

    async fn discard(&mut self, mut left: u64) -> Result<()> {
        while 0 < left {
            match self.stream.read(&mut self.buffer).await? {
                0 => bail!("the connection ended in the middle of an answer"),
                n => left = left.saturating_sub(n as u64),
            }
        }
        Ok(())
    }
}
