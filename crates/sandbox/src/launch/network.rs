//! The inside's network: a loopback of its own on which every address of the world is local, and a
//! few sockets whose other side is the server. There is no interface that leads out.
//!
//! A program that connects to any address and port is handed to the egress listener by a `tproxy`
//! rule: no address translation and no connection tracking, and the accepted socket's own address
//! is the one that was dialled. Where the kernel has no such rule, listeners on [`FALLBACK_PORTS`]
//! get the connections to those ports in the same form, and other ports refuse.

use std::ffi::{c_int, c_void};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::fs::{Mode, OFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, WaitOptions};
use rustix::thread::{
    LinkNameSpaceType, UnshareFlags, move_into_link_name_space, sched_getaffinity,
    sched_setaffinity,
};

use super::netlink::{self, Netlink};
use super::plan::{ADDRESS, PROXY, RESOLVER};
use crate::stack::Stack;

/// Ports that reach out where the kernel cannot redirect all of them. Below 1024, so that no
/// program inside could have used them for itself.
const FALLBACK_PORTS: [u16; 3] = [22, 80, 443];
/// The loopback interface's index in a new network namespace.
const LO: u32 = 1;

/// What the server is to serve.
#[derive(Default)]
pub(super) struct Sockets {
    /// The resolver's datagram socket and listener, the egress listener, and listeners on
    /// [`FALLBACK_PORTS`] if there is no redirect. The server tells them apart by themselves.
    pub fds: Vec<OwnedFd>,
    /// Why not every port is redirected.
    pub ports_missing: Option<String>,
}

/// A network in the making. Of all namespaces it is the one that takes the kernel long, half a
/// millisecond in which pid 1 has other things to do; so a process beside it makes this one.
pub(super) struct Making {
    /// Until it has ended.
    maker: Option<Pid>,
    /// In use by the maker until it has ended.
    shared: *mut Shared,
}

/// What the two processes both use.
struct Shared {
    stack: Stack,
    /// The host's, which will be out of reach.
    proc: OwnedFd,
    /// The processor that the other process needs for itself.
    processor: usize,
    /// The namespace's descriptor, or why there is none, as a negative error number.
    made: AtomicI32,
}

impl Making {
    /// Starts to make it, for the user namespace this process is in.
    pub(super) fn start() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let shared = Box::into_raw(Box::new(Shared {
            stack: Stack::new(),
            proc: rustix::fs::open("/proc", flags, Mode::empty())?,
            processor: rustix::thread::sched_getcpu(),
            made: AtomicI32::new(-libc::EINTR),
        }));
        let mut making = Self {
            maker: None,
            shared,
        };
        let flags = libc::CLONE_VM | libc::CLONE_FILES | libc::SIGCHLD;
        let stack = making.shared().stack.top();
        // SAFETY: what is shared is where it is until the process has ended, which dropping this waits
        // for. What it runs uses no other memory, and no thread-local (see there).
        let pid = unsafe { libc::clone(make, stack, flags, shared.cast()) };
        let error = io::Error::last_os_error();
        making.maker = Some(Pid::from_raw(pid.max(0)).ok_or(error)?);
        Ok(making)
    }

    /// Goes into it. Its loopback is up.
    pub(super) fn enter(mut self) -> io::Result<()> {
        self.wait();
        let made = self.shared().made.load(Ordering::Acquire);
        if made < 0 {
            return Err(io::Error::from_raw_os_error(-made));
        }
        // SAFETY: the other process opened it, in what was the table of both, and for this one only.
        let network = unsafe { OwnedFd::from_raw_fd(made) };
        let kind = Some(LinkNameSpaceType::Network);
        Ok(move_into_link_name_space(network.as_fd(), kind)?)
    }

    fn shared(&self) -> &Shared {
        // SAFETY: freed only when this is dropped.
        unsafe { &*self.shared }
    }

    fn wait(&mut self) {
        let Some(maker) = self.maker.take() else {
            return;
        };
        let wait = || rustix::process::waitpid(Some(maker), WaitOptions::empty());
        while matches!(wait(), Err(rustix::io::Errno::INTR)) {}
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.wait();
        // SAFETY: made by `start`, freed nowhere else, and the maker, which used it, has ended.
        drop(unsafe { Box::from_raw(self.shared) });
    }
}

/// The other process. It has this one's memory and descriptors and runs beside it, so it allocates
/// nothing, takes no lock, and leaves the C library's `errno` alone: `rustix` makes its calls itself.
/// (Closing a socket goes through the library, and does not fail.)
extern "C" fn make(shared: *mut c_void) -> c_int {
    // SAFETY: what `Making` gave, which lives until this process has ended.
    let shared = unsafe { &*shared.cast::<Shared>() };
    // Where that fails, or there is no other, it takes its turns there.
    let _ = leave(shared.processor);
    let made = match new_network(&shared.proc) {
        Ok(network) => network.into_raw_fd(),
        Err(e) => -e.raw_os_error(),
    };
    shared.made.store(made, Ordering::Release);
    0
}

/// Goes to another processor: a new process stays on its parent's if all are busy at that moment, and
/// keeps the parent from its work, also when another becomes free.
fn leave(processor: usize) -> rustix::io::Result<()> {
    let mut others = sched_getaffinity(None)?;
    others.unset(processor);
    sched_setaffinity(None, &others)
}

fn new_network(proc: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    // SAFETY: the flag does not affect the descriptor table.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?;
    loopback_up()?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::openat(proc, c"self/ns/net", flags, Mode::empty())
}

/// Brings `lo` up.
pub(super) fn loopback_up() -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
    // SAFETY: ifreq is plain data for which all zeroes is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    const SET_FLAGS: rustix::ioctl::Opcode = libc::SIOCSIFFLAGS as rustix::ioctl::Opcode;
    // SAFETY: this request takes an ifreq.
    unsafe {
        let set = rustix::ioctl::Setter::<SET_FLAGS, libc::ifreq>::new(request);
        rustix::ioctl::ioctl(&socket, set)
    }
}

/// Makes every address local and opens what the server listens on. `redirect` false leaves the
/// rule out, as a kernel without it would.
pub(super) fn open(redirect: bool) -> io::Result<Sockets> {
    all_addresses_local()?;
    let mut fds: Vec<OwnedFd> = vec![
        // Bound to the address itself: an answer must come from where the question went.
        UdpSocket::bind(RESOLVER)?.into(),
        TcpListener::bind(RESOLVER)?.into(),
    ];
    let proxy = TcpListener::bind(PROXY)?;
    let redirected = if redirect {
        accept_for_any_address(&proxy).and_then(|()| redirect_all_ports())
    } else {
        Err(io::Error::other("switched off"))
    };
    fds.push(proxy.into());
    let ports_missing = redirected.err().map(|e| e.to_string());
    if ports_missing.is_some() {
        for port in FALLBACK_PORTS {
            fds.push(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))?.into());
        }
    }
    Ok(Sockets { fds, ports_missing })
}

/// Where something else has made the network and gives no say in it: the explicit proxy.
pub(super) fn open_without_privileges() -> io::Result<Sockets> {
    Ok(Sockets {
        fds: vec![TcpListener::bind(PROXY)?.into()],
        ports_missing: Some("the network is not this program's to arrange".to_owned()),
    })
}

/// An address that is not the loopback's, because resolvers look for one before they ask for
/// addresses of its family, and a route that delivers everything to this namespace itself.
fn all_addresses_local() -> io::Result<()> {
    let mut route = Netlink::open(libc::NETLINK_ROUTE)?;
    route.send(&netlink::new_address(LO, ADDRESS), 1)?;
    route.send(&netlink::local_default_route(LO, ADDRESS), 1)
}

fn redirect_all_ports() -> io::Result<()> {
    let mut netfilter = Netlink::open(libc::NETLINK_NETFILTER)?;
    let (ip, port) = PROXY;
    let (rules, acks) = netlink::redirect_tcp(ADDRESS, SocketAddrV4::new(ip, port));
    netfilter.send(&rules, acks)
}

/// Lets the listener take connections to addresses and ports that are not its own.
fn accept_for_any_address(listener: &TcpListener) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the value is a valid int that outlives the call, its size given.
    let rc = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_IP,
            libc::IP_TRANSPARENT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
