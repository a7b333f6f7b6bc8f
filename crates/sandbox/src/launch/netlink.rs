//! The few netlink messages that make a sandbox's network, written out: one address, one route and
//! one nftables rule need no library, and none in reach speaks nftables without a C one.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt,
};

/// How long the kernel may take; it may have to load a module.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Length of a message header.
const HEADER: usize = 16;

/// A socket to one part of the kernel.
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    /// `family` is a `NETLINK_` number.
    pub(super) fn open(family: i32) -> io::Result<Self> {
        let protocol = u32::try_from(family).ok().and_then(std::num::NonZero::new);
        let socket = rustix::net::socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            protocol.map(Protocol::from_raw),
        )?;
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(ANSWER_LIMIT))?;
        Ok(Self(socket))
    }

    /// Sends messages and waits for `acks` acknowledgements, or for the first refusal.
    pub(super) fn send(&mut self, messages: &[u8], mut acks: usize) -> io::Result<()> {
        rustix::net::send(&self.0, messages, SendFlags::empty())?;
        let mut buffer = [0u8; 8192];
        while acks > 0 {
            let (read, _) = rustix::net::recv(&self.0, &mut buffer[..], RecvFlags::empty())?;
            acks = acks.saturating_sub(acknowledged(&buffer[..read])?);
        }
        Ok(())
    }
}

/// Counts acknowledgements; the first error is the error.
fn acknowledged(mut messages: &[u8]) -> io::Result<usize> {
    let mut count = 0;
    while let Some((header, _)) = messages.split_at_checked(HEADER) {
        let word = |at: usize| -> Option<[u8; 4]> { messages.get(at..at + 4)?.try_into().ok() };
        let length = u32::from_ne_bytes(header[..4].try_into().unwrap_or_default()) as usize;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if i32::from(kind) == libc::NLMSG_ERROR {
            match word(HEADER).map(i32::from_ne_bytes) {
                Some(0) => count += 1,
                Some(error) => return Err(io::Error::from_raw_os_error(error.wrapping_neg())),
                None => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
        let next = length.max(HEADER).next_multiple_of(4);
        messages = messages.get(next..).unwrap_or_default();
    }
    Ok(count)
}

/// Gives an interface an address of its own (`ip address add ADDRESS/32 dev lo`).
pub(super) fn new_address(interface: u32, address: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![libc::AF_INET as u8, 32, 0, libc::RT_SCOPE_HOST];
    body.extend(interface.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        put(&mut body, kind, &address.octets());
    }
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    message(libc::RTM_NEWADDR, create, 1, &body)
}

/// Delivers every IPv4 address here (`ip route add local default dev lo src ADDRESS`).
pub(super) fn local_default_route(interface: u32, source: Ipv4Addr) -> Vec<u8> {
    let mut body = vec![
        libc::AF_INET as u8,
        0,
        0,
        0,
        libc::RT_TABLE_LOCAL,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_HOST,
        libc::RTN_LOCAL,
    ];
    body.extend([0; 4]);
    put(&mut body, libc::RTA_OIF, &interface.to_ne_bytes());
    put(&mut body, libc::RTA_PREFSRC, &source.octets());
    let create = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    message(libc::RTM_NEWROUTE, create, 1, &body)
}

// From <linux/netfilter/nf_tables.h> and <linux/netfilter.h>.
const NFPROTO_IPV4: u8 = 2;
const NF_INET_PRE_ROUTING: u32 = 0;
/// `NF_IP_PRI_MANGLE`, where such rules are customary.
const PRIORITY: i32 = -150;
const NFT_META_L4PROTO: u32 = 16;
const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
const NFT_CMP_EQ: u32 = 0;
const NFT_CMP_NEQ: u32 = 1;
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
/// Offset of the destination in an IPv4 header.
const DESTINATION: u32 = 16;
const TABLE: &[u8] = b"egress\0";
const CHAIN: &[u8] = b"redirect\0";
/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

/// One transaction that makes the table, the chain and the rule, and how many acknowledgements it
/// gets. TCP for any address but `own` and 127.0.0.0/8 goes to the listener at `to`.
pub(super) fn redirect_tcp(own: Ipv4Addr, to: SocketAddrV4) -> (Vec<u8>, usize) {
    let mut hook = Vec::new();
    put(&mut hook, 1, &NF_INET_PRE_ROUTING.to_be_bytes());
    put(&mut hook, 2, &PRIORITY.to_be_bytes());

    let mut table = nft_header();
    put(&mut table, 1, TABLE);
    let mut chain = nft_header();
    put(&mut chain, 1, TABLE);
    put(&mut chain, 3, CHAIN);
    put(&mut chain, NESTED | 4, &hook);
    put(&mut chain, 7, b"filter\0");

    let tcp = [libc::IPPROTO_TCP as u8];
    let mut steps = Vec::new();
    expression(
        &mut steps,
        b"meta\0",
        &[(1, REGISTER_1), (2, NFT_META_L4PROTO)],
        None,
    );
    compare(&mut steps, NFT_CMP_EQ, &tcp);
    load_destination(&mut steps, 1);
    compare(&mut steps, NFT_CMP_NEQ, &[127]);
    load_destination(&mut steps, 4);
    compare(&mut steps, NFT_CMP_NEQ, &own.octets());
    expression(
        &mut steps,
        b"immediate\0",
        &[(1, REGISTER_1)],
        Some((2, &to.ip().octets())),
    );
    expression(
        &mut steps,
        b"immediate\0",
        &[(1, REGISTER_2)],
        Some((2, &to.port().to_be_bytes())),
    );
    let operands = [
        (1, u32::from(NFPROTO_IPV4)),
        (2, REGISTER_1),
        (3, REGISTER_2),
    ];
    expression(&mut steps, b"tproxy\0", &operands, None);
    let mut rule = nft_header();
    put(&mut rule, 1, TABLE);
    put(&mut rule, 2, CHAIN);
    put(&mut rule, NESTED | 4, &steps);

    let nft = |kind: i32| (libc::NFNL_SUBSYS_NFTABLES as u16) << 8 | kind as u16;
    let batch = [
        libc::AF_UNSPEC as u8,
        0,
        0,
        libc::NFNL_SUBSYS_NFTABLES as u8,
    ];
    let create = libc::NLM_F_CREATE;
    let parts = [
        message(nft(libc::NFT_MSG_NEWTABLE), create, 1, &table),
        message(nft(libc::NFT_MSG_NEWCHAIN), create, 2, &chain),
        message(
            nft(libc::NFT_MSG_NEWRULE),
            create | libc::NLM_F_APPEND,
            3,
            &rule,
        ),
    ];
    let mut all = plain(libc::NFNL_MSG_BATCH_BEGIN as u16, 0, &batch);
    for part in &parts {
        all.extend(part);
    }
    all.extend(plain(libc::NFNL_MSG_BATCH_END as u16, 4, &batch));
    (all, parts.len())
}

fn nft_header() -> Vec<u8> {
    vec![NFPROTO_IPV4, 0, 0, 0]
}

fn load_destination(steps: &mut Vec<u8>, length: u32) {
    let operands = [
        (1, REGISTER_1),
        (2, NFT_PAYLOAD_NETWORK_HEADER),
        (3, DESTINATION),
        (4, length),
    ];
    expression(steps, b"payload\0", &operands, None);
}

fn compare(steps: &mut Vec<u8>, how: u32, with: &[u8]) {
    expression(
        steps,
        b"cmp\0",
        &[(1, REGISTER_1), (2, how)],
        Some((3, with)),
    );
}

/// Appends an expression with numeric operands and at most one data operand.
fn expression(
    steps: &mut Vec<u8>,
    name: &[u8],
    numbers: &[(u16, u32)],
    data: Option<(u16, &[u8])>,
) {
    let mut operands = Vec::new();
    for (kind, number) in numbers {
        put(&mut operands, *kind, &number.to_be_bytes());
    }
    if let Some((kind, bytes)) = data {
        let mut value = Vec::new();
        put(&mut value, 1, bytes);
        put(&mut operands, NESTED | kind, &value);
    }
    let mut element = Vec::new();
    put(&mut element, 1, name);
    put(&mut element, NESTED | 2, &operands);
    put(steps, NESTED | 1, &element);
}

/// Appends an attribute.
fn put(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = (4 + value.len()) as u16;
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

/// A message that is to be acknowledged.
fn message(kind: u16, flags: i32, number: u32, body: &[u8]) -> Vec<u8> {
    let mut message = plain(kind, number, body);
    let flags = (flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message
}

fn plain(kind: u16, number: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message.extend(number.to_ne_bytes());
    message.extend(0u32.to_ne_bytes());
    message.extend(body);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}
