use super::*;
use crate::base::memory_budget::MemoryBudget;
use futures::executor::block_on;
use proptest::prelude::*;

const HANDSHAKE: &str = "GET /ws?a=b HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\n\
    Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

fn read(mut bytes: &[u8]) -> Result<(RequestHead, Vec<u8>), RequestError> {
    block_on(read_head(&mut bytes, Vec::new(), &mut reservation(0)))
}

/// An empty reservation in a budget of this many bytes; 0: no limit.
fn reservation(limit: usize) -> MemoryReservation {
    MemoryReservation::new(&MemoryBudget::new(limit), 0)
}

fn head(text: &str) -> RequestHead {
    read(text.as_bytes()).expect("a valid head").0
}

/// The status with which a head is rejected.
fn rejected(text: &str) -> u16 {
    match read(text.as_bytes()) {
        Err(RequestError::Rejected(response)) => response.status,
        other => panic!("{text:?} is not rejected: {other:?}"),
    }
}

#[test]
fn the_example_of_rfc_6455_is_accepted() {
    // RFC 6455 section 1.3.
    let response = String::from_utf8(head(HANDSHAKE).upgrade().unwrap()).unwrap();
    assert!(response.starts_with("HTTP/1.1 101 "), "{response}");
    assert!(response.contains("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    assert!(response.ends_with("\r\n\r\n"));
}

#[test]
fn path_query_and_headers_are_parsed_and_the_bytes_after_the_head_are_kept() {
    let (head, rest) = read(format!("{HANDSHAKE}frames").as_bytes()).unwrap();
    assert_eq!((head.path.as_str(), head.query.as_str()), ("/ws", "a=b"));
    assert_eq!(head.first("host"), Some("h"));
    assert_eq!(rest, b"frames");
}

#[test]
fn a_request_above_2_kib_is_rejected_if_the_budget_is_exceeded() {
    let assert_rejected = |read: Result<(), RequestError>| match read {
        Err(RequestError::Rejected(response)) => assert_eq!(response.status, 503),
        other => panic!("{other:?}"),
    };
    let request = |size| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "x".repeat(size)
        )
    };
    let read = |size, memory: &mut MemoryReservation| {
        let request = request(size);
        block_on(read_head(&mut request.as_bytes(), Vec::new(), memory)).map(|_| ())
    };
    let mut memory = reservation(1000);
    read(1900, &mut memory).unwrap();
    assert_eq!(memory.bytes(), 0);
    read(2900, &mut memory).unwrap();
    assert!((800..1000).contains(&memory.bytes()));
    assert_rejected(read(3100, &mut memory));
    let others = MemoryReservation::new(memory.budget(), 2000);
    read(1900, &mut memory).unwrap();
    drop(others);
    let mut stream = &[0; 4000][..];
    let body = block_on(read_body(&mut stream, &mut Vec::new(), 4000, &mut memory));
    assert_rejected(body.map(|_| ()));
}

#[test]
fn a_target_with_scheme_and_host_is_accepted() {
    assert_eq!(
        head("GET http://h/ws HTTP/1.1\r\nHost: h\r\n\r\n").path,
        "/ws"
    );
    assert_eq!(head("GET WSS://h HTTP/1.1\r\nHost: h\r\n\r\n").path, "/");
    assert_eq!(rejected("GET ftp://h/ws HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
}

#[test]
fn a_malformed_request_is_rejected_with_400() {
    for text in [
        "\u{16}\u{3}\u{1}\r\n\r\n",
        "GET\r\n\r\n",
        "GET /ws\r\n\r\n",
        "GET ws HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /ws HTTP/2.0\r\nHost: h\r\n\r\n",
        "GET /ws HTTP/1.1\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: h\r\n folded: line\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET /ws HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
        "GET /ws HTTP/1.1\nHost: h\n\nGET /hidden HTTP/1.1\r\nHost: h\r\n\r\n",
        "\r\n\r\nGET /ws HTTP/1.1\r\nHost: h\r\n\r\n",
    ] {
        assert_eq!(rejected(text), 400, "{text:?}");
    }
}

#[test]
fn a_body_is_detected() {
    let with = |headers: &str| head(&format!("GET / HTTP/1.1\r\nHost: h\r\n{headers}\r\n\r\n"));
    for headers in [
        "Content-Length: 5",
        "Content-Length: 0, 5",
        "Content-Length: 0\r\nContent-Length: 9",
        "Transfer-Encoding: chunked",
    ] {
        assert!(with(headers).has_body(), "{headers}");
    }
    assert!(!with("Content-Length: 0").has_body());
}

#[test]
fn an_ambiguous_missing_or_too_large_body_length_is_rejected() {
    let length = |headers: &str| {
        let head = head(&format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n"));
        head.body_length().map_err(|response| response.status)
    };
    assert_eq!(length(""), Ok(0));
    assert_eq!(length("Content-Length: 0\r\n"), Ok(0));
    assert_eq!(length("Content-Length: 4096\r\n"), Ok(4096));
    for (headers, status) in [
        ("Content-Length: 4097\r\n", 413),
        ("Content-Length: 99999999999999999999999\r\n", 413),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", 400),
        ("Content-Length: 5, 5\r\n", 400),
        ("Content-Length: +5\r\n", 400),
        ("Content-Length: \r\n", 400),
        ("Transfer-Encoding: chunked\r\n", 411),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 411),
    ] {
        assert_eq!(length(headers), Err(status), "{headers}");
    }
}

#[test]
fn a_body_is_read_to_its_end_and_the_bytes_after_it_are_kept() {
    let mut memory = reservation(0);
    for split in 0..=7 {
        let (already_read, mut stream) = b"bodynext".split_at(split);
        let mut already_read = already_read.to_vec();
        let body = block_on(read_body(&mut stream, &mut already_read, 4, &mut memory)).unwrap();
        assert_eq!(body, b"body");
        assert_eq!([&already_read, stream].concat(), b"next");
    }
    let mut stream = &b"bo"[..];
    let body = block_on(read_body(&mut stream, &mut Vec::new(), 4, &mut memory));
    assert!(matches!(body, Err(RequestError::NoResponse)));
}

#[test]
fn a_head_has_at_most_16_kib_and_100_headers() {
    let with = |padding: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n",
            "x".repeat(padding)
        )
    };
    let most = MAX_HEAD - with(0).len();
    head(&with(most));
    assert_eq!(rejected(&with(most + 1)), 431);
    assert_eq!(rejected(&"x".repeat(100_000)), 431);
    let with = |headers: usize| {
        format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "X: y\r\n".repeat(headers - 1)
        )
    };
    head(&with(100));
    assert_eq!(rejected(&with(101)), 431);
    assert_eq!(MAX_HEAD, 16 * 1024);
}

#[test]
fn a_client_that_disconnects_within_the_head_gets_no_response() {
    assert!(matches!(
        read(b"GET / HTTP/1.1\r\n"),
        Err(RequestError::NoResponse)
    ));
    assert!(matches!(read(b""), Err(RequestError::NoResponse)));
}

#[test]
fn a_handshake_with_a_wrong_missing_or_repeated_header_is_rejected() {
    let version = "Sec-WebSocket-Version: 13\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (from, to, status) in [
        ("Connection: keep-alive, Upgrade\r\n", "", 400),
        (
            "Connection: keep-alive, Upgrade\r\n",
            "Connection: Upgraded\r\n",
            400,
        ),
        (version, "", 426),
        (version, "Sec-WebSocket-Version: 8\r\n", 426),
        (
            version,
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8\r\n",
            426,
        ),
        (key, "", 400),
        (key, "Sec-WebSocket-Key: short==\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQA==\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ===\r\n", 400),
        (key, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j!Q==\r\n", 400),
        (key, &key.repeat(2), 400),
    ] {
        assert!(HANDSHAKE.contains(from));
        let response = head(&HANDSHAKE.replace(from, to)).upgrade().unwrap_err();
        assert_eq!(response.status, status, "{to:?}");
    }
}

#[test]
fn a_handshake_over_http_1_0_without_a_host_and_a_key_with_spare_bits_are_accepted() {
    for (from, to) in [
        ("HTTP/1.1\r\nHost: h\r\n", "HTTP/1.0\r\n"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("jZQ==", "jZR=="),
        ("jZQ==", "jZ/=="),
    ] {
        assert!(HANDSHAKE.contains(from));
        head(&HANDSHAKE.replace(from, to)).upgrade().unwrap();
    }
}

proptest! {
    #[test]
    fn no_subprotocol_writes_a_line_of_the_response(offered in "[ -~]{0,40}") {
        let request = HANDSHAKE.replace("Upgrade: w", &format!("Sec-WebSocket-Protocol: {offered}\r\nUpgrade: w"));
        let response = String::from_utf8(head(&request).upgrade().unwrap()).unwrap();
        let lines: Vec<&str> = response.split("\r\n").collect();
        let answered = lines[4].strip_prefix("Sec-WebSocket-Protocol: ");
        prop_assert_eq!(lines.len(), 6 + usize::from(answered.is_some()), "{}", response);
        let first = offered.split(',').map(str::trim).find(|it| answered == Some(*it));
        prop_assert_eq!(first, answered);
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        bytes.extend(b"\r\n\r\n");
        let _ = read(&bytes);
    }

    #[test]
    fn no_damaged_handshake_makes_the_parser_panic(at in 0usize..180, byte in any::<u8>()) {
        let mut bytes = HANDSHAKE.as_bytes().to_vec();
        let at = at.min(bytes.len() - 5);
        bytes[at] = byte;
        if let Ok((head, _)) = read(&bytes) {
            let _ = head.upgrade();
        }
    }
}
