//! SOCKS 5 (RFC 1928), with names: `socks5h` and its like. CONNECT only, no authentication.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::accept::HEAD_LIMIT;
use super::refusal::Refusal;
use super::target::{Host, Target};
use super::{Shared, flow};

pub(super) const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
// Replies.
const GRANTED: u8 = 0;
const NOT_ALLOWED: u8 = 2;
const HOST_UNREACHABLE: u8 = 4;
const UNKNOWN_COMMAND: u8 = 7;
const UNKNOWN_ADDRESS: u8 = 8;

pub(super) async fn serve(mut stream: TcpStream, shared: &Arc<Shared>) {
    let asked = tokio::time::timeout(HEAD_LIMIT, ask(&mut stream)).await;
    // A client that breaks off or breaks the rules harms only itself.
    let Ok(Ok(asked)) = asked else {
        return;
    };
    let target = match asked {
        Ok(target) => target,
        Err(reply) => return say(&mut stream, reply).await,
    };
    let named = shared.named(target.clone());
    let dialled = match named {
        Ok(target) => shared.dial(&target).await.map(|origin| (target, origin)),
        Err(refusal) => {
            shared.note(&target, refusal);
            Err(refusal)
        }
    };
    match dialled {
        Ok((target, origin)) => {
            say(&mut stream, GRANTED).await;
            flow::carry(stream, origin, &target, shared).await;
        }
        Err(refusal) => say(&mut stream, code(refusal)).await,
    }
}

/// The target, or the reply to send instead.
async fn ask(stream: &mut TcpStream) -> std::io::Result<Result<Target, u8>> {
    let broken = || std::io::Error::from(std::io::ErrorKind::InvalidData);
    if stream.read_u8().await? != VERSION {
        return Err(broken());
    }
    let mut methods = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut methods).await?;
    if !methods.contains(&NO_AUTHENTICATION) {
        stream.write_all(&[VERSION, NONE_ACCEPTABLE]).await?;
        return Err(broken());
    }
    stream.write_all(&[VERSION, NO_AUTHENTICATION]).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let [version, command, _, kind] = head;
    if version != VERSION {
        return Err(broken());
    }
    let host = match kind {
        1 => Some(Host::Address(IpAddr::V4(Ipv4Addr::from_bits(
            stream.read_u32().await?,
        )))),
        4 => Some(Host::Address(IpAddr::V6(Ipv6Addr::from_bits(
            stream.read_u128().await?,
        )))),
        3 => {
            let mut name = vec![0; stream.read_u8().await?.into()];
            stream.read_exact(&mut name).await?;
            std::str::from_utf8(&name).ok().and_then(Host::of)
        }
        _ => return Ok(Err(UNKNOWN_ADDRESS)),
    };
    let port = stream.read_u16().await?;
    if command != CONNECT {
        return Ok(Err(UNKNOWN_COMMAND));
    }
    Ok(match host {
        Some(host) if port != 0 => Ok(Target { host, port }),
        _ => Err(UNKNOWN_ADDRESS),
    })
}

fn code(refusal: Refusal) -> u8 {
    if refusal.is_policy() {
        NOT_ALLOWED
    } else {
        HOST_UNREACHABLE
    }
}

async fn say(stream: &mut TcpStream, reply: u8) {
    // The bound address, which nobody needs: 0.0.0.0:0. The client may be gone already.
    let _ = stream
        .write_all(&[VERSION, reply, 0, 1, 0, 0, 0, 0, 0, 0])
        .await;
}
