//! HTTP/2 by hand.

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// What a client of HTTP/2 says first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `:status: 200`.
pub const OK: &[u8] = &[0x88];

/// A frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The header block of a CONNECT.
pub fn connect_block(authority: &str) -> Vec<u8> {
    let mut block = vec![0x02, 7];
    block.extend(b"CONNECT");
    block.extend([0x01, u8::try_from(authority.len()).unwrap()]);
    block.extend(authority.bytes());
    block
}

/// A frame as it was heard: kind, flags, stream and payload.
pub type Heard = (u8, u8, u32, Vec<u8>);

/// The whole frames in what was heard.
pub fn frames(mut bytes: &[u8]) -> Vec<Heard> {
    let mut all = Vec::new();
    while let Some((head, rest)) = bytes.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let Some(payload) = rest.get(..length) else {
            break;
        };
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        all.push((head[3], head[4], stream, payload.to_vec()));
        bytes = &rest[length..];
    }
    all
}

/// Why a connection was ended, if that was said.
pub fn farewell(frames: &[Heard]) -> Option<u32> {
    let (.., payload) = frames.iter().rfind(|(kind, ..)| *kind == GOAWAY)?;
    payload[4..8].try_into().ok().map(u32::from_be_bytes)
}
