//! WebSockets by hand: for what no library does, and where a library would be measured, too.

use super::DEADLINE;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::io::{Read, Result, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

/// Returns the request with which a WebSocket begins.
pub fn request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Opens a WebSocket from an address of this machine.
pub fn open(from: Ipv4Addr, address: SocketAddr, path: &str) -> Result<TcpStream> {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    // A socket that is bound first cannot share its port with those to other addresses.
    if from != Ipv4Addr::LOCALHOST {
        bind(&stream, &SocketAddr::from((from, 0)))?;
    }
    connect(&stream, &address)?;
    let mut stream = TcpStream::from(stream);
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    stream.set_nodelay(true)?;
    stream.write_all(request(path).as_bytes())?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    if head.starts_with(b"HTTP/1.1 101") {
        Ok(stream)
    } else {
        Err(std::io::Error::other(
            String::from_utf8_lossy(&head).into_owned(),
        ))
    }
}

/// Encodes a frame that begins with this byte and announces `length` bytes, masked with zeros.
pub fn frame(first: u8, payload: &[u8], length: usize) -> Vec<u8> {
    let mut frame = vec![first];
    match length {
        0..=125 => frame.push(0x80 | length as u8),
        126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Encodes a whole text.
pub fn text_frame(text: &[u8]) -> Vec<u8> {
    frame(0x81, text, text.len())
}

/// Reads a frame of the daemon: its opcode and its payload.
pub fn read_frame(stream: &mut TcpStream) -> Result<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head)?;
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            u16::from_be_bytes(length).into()
        }
        127 => {
            let mut length = [0; 8];
            stream.read_exact(&mut length)?;
            u64::from_be_bytes(length) as usize
        }
        length => length.into(),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload)?;
    Ok((head[0] & 0x0f, payload))
}

/// Creates a PeerDrop session and joins it. Returns the creator and the joiner.
pub fn peerdrop_pair(from: Ipv4Addr, address: SocketAddr) -> Result<(TcpStream, TcpStream)> {
    let mut creator = open(from, address, "/ws/chat")?;
    let (_, code) = read_frame(&mut creator)?;
    let path = format!("/ws/chat/{}", String::from_utf8_lossy(&code));
    let mut joiner = open(from, address, &path)?;
    read_frame(&mut joiner)?;
    read_frame(&mut creator)?;
    Ok((creator, joiner))
}
