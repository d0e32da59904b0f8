//! A healthy PeerDrop pair, whose round trips say how long a message waits while other clients do something.

use super::DEADLINE;
use super::websocket::{peerdrop_pair, read_frame, text_frame};
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

/// Time between two messages of the bystander.
const PAUSE: Duration = Duration::from_millis(5);

/// Returns the sorted round trips of 64 bytes from one client of a pair to the other and back, for this time.
pub fn round_trips(address: SocketAddr, time: Duration) -> Vec<Duration> {
    let (mut first, mut second) = peerdrop_pair(Ipv4Addr::LOCALHOST, address).unwrap();
    first.set_read_timeout(Some(DEADLINE)).unwrap();
    second.set_read_timeout(None).unwrap();
    let echo = thread::spawn(move || {
        while let Ok((0x1, text)) = read_frame(&mut second) {
            if second.write_all(&text_frame(&text)).is_err() {
                break;
            }
        }
    });
    let text = [b'x'; 64];
    let message = text_frame(&text);
    let mut round_trips = Vec::new();
    let start = Instant::now();
    while start.elapsed() < time {
        let sent_at = Instant::now();
        first.write_all(&message).unwrap();
        let (opcode, received) = read_frame(&mut first).unwrap();
        assert!(
            opcode == 0x1 && received == text,
            "not the text that was sent"
        );
        round_trips.push(sent_at.elapsed());
        thread::sleep(PAUSE);
    }
    first.shutdown(Shutdown::Both).unwrap();
    echo.join().unwrap();
    round_trips.sort();
    round_trips
}

/// Returns the value below which this share of the sorted values lies, in milliseconds.
pub fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share) as usize;
    sorted[index.min(sorted.len() - 1)].as_secs_f64() * 1e3
}
