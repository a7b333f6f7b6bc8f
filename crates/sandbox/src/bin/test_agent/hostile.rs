//! An agent gone bad: finds the control socket among its descriptors and writes to it.

use std::os::fd::BorrowedFd;

use freehold_sandbox::agent::Reply;
use serde_json::Value;

pub fn run(input: &Value) -> Reply {
    match input["kind"].as_str().unwrap_or_default() {
        "garbage" => send(&[0xff; 64]),
        "huge header" => send(&frame_prefix(u32::MAX, 0)),
        "huge body" => send(&frame(
            r#"{"id":ID,"answer":{"reply":{"is_error":false}}}"#,
            input,
            u32::MAX,
        )),
        "unasked" => send(&frame(r#"{"id":999999,"answer":"done"}"#, input, 0)),
        "not json" => send(&frame("{", input, 0)),
        "wrong answer" => send(&frame(r#"{"id":ID,"answer":"done"}"#, input, 0)),
        "exit" => std::process::exit(3),
        // Freezes the whole process, reader thread and all.
        "stop" => {
            // SAFETY: signals the calling thread, which therefore does not get past this line.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
        other => return Reply::error(format!("no such trick: {other}")),
    }
    Reply::error("the host let it pass")
}

fn frame_prefix(header: u32, body: u32) -> Vec<u8> {
    [header.to_be_bytes(), body.to_be_bytes()].concat()
}

fn frame(header: &str, input: &Value, body: u32) -> Vec<u8> {
    let header = header.replace("ID", &input["id"].as_u64().unwrap_or(1).to_string());
    let mut bytes = frame_prefix(header.len() as u32, body);
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

fn send(bytes: &[u8]) {
    for fd in 3..64 {
        // SAFETY: only asked whether it is a socket and, if it is, written to; it may well be
        // nothing, which is an error like any other.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        if rustix::net::sockopt::socket_domain(fd) == Ok(rustix::net::AddressFamily::UNIX) {
            let _ = rustix::io::write(fd, bytes);
        }
    }
}
