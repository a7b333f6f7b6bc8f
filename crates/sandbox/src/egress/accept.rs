//! From the sockets made inside to connections that know what they were meant for.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

use super::target::{Host, Target};
use super::{Shared, flow, proxy, resolver, socks};
use crate::launch::plan::RESOLVER;

/// Connections of one sandbox at a time; more wait.
const MAX_CONNECTIONS: usize = 128;
/// How long the head of a request, or anything else that opens a connection, may take to arrive.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(15);

/// Serves the sockets: datagrams are for the resolver, and a connection's own address says what it
/// is for.
pub(super) fn start(sockets: Vec<OwnedFd>, shared: &Arc<Shared>) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for socket in sockets {
        rustix::io::ioctl_fionbio(&socket, true)?;
        if sockopt::socket_type(&socket)? == SocketType::DGRAM {
            let socket = UdpSocket::from_std(socket.into())?;
            tokio::spawn(resolver::datagrams(socket, shared.clone()));
        } else {
            let listener = TcpListener::from_std(socket.into())?;
            tokio::spawn(accept(listener, room.clone(), shared.clone()));
        }
    }
    Ok(())
}

/// Accepts until stopped.
async fn accept(listener: TcpListener, room: Arc<Semaphore>, shared: Arc<Shared>) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shared.stop.cancelled() => return,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors or the like; trying again at once would only burn time.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let place = tokio::select! {
            place = room.clone().acquire_owned() => place,
            () = shared.stop.cancelled() => return,
        };
        let Ok(place) = place else {
            return;
        };
        let shared = shared.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = serve(stream, &shared) => {}
                () = shared.stop.cancelled() => {}
            }
            drop(place);
        });
    }
}

/// The connection's own address is the one that was dialled inside.
async fn serve(stream: TcpStream, shared: &Arc<Shared>) {
    let Ok(dialled) = stream.local_addr() else {
        return;
    };
    // Only a matter of speed.
    let _ = stream.set_nodelay(true);
    if !dialled.ip().is_loopback() {
        let target = Target {
            host: Host::Address(dialled.ip()),
            port: dialled.port(),
        };
        flow::transparent(stream, target, shared).await;
    } else if dialled.port() == RESOLVER.1 {
        resolver::stream(stream, shared).await;
    } else {
        let mut first = [0];
        match tokio::time::timeout(HEAD_LIMIT, stream.peek(&mut first)).await {
            Ok(Ok(1)) if first == [socks::VERSION] => socks::serve(stream, shared).await,
            Ok(Ok(1)) => proxy::serve(stream, shared).await,
            _ => {}
        }
    }
}
