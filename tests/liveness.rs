//! Who is still there, and who only seems to be.

use crate::common::{Client, Daemon};
use crate::peerdrop::pair;
use serde_json::json;

fn impatient() -> Daemon {
    Daemon::with(json!({"protocol": "peerdrop", "ping_after": 1, "pong_timeout": 5}))
}

#[test]
fn a_client_that_does_not_answer_a_ping_is_dropped_and_its_peer_is_told() {
    let daemon = impatient();
    // It reads nothing, and so answers nothing, as when its cable is pulled.
    let (silent, mut peer) = pair(&daemon);
    assert_eq!(peer.closed(), (1000, "peer left".to_owned()));
    daemon.logs("silent");
    drop(silent);
}

#[test]
fn a_client_that_answers_pings_may_be_silent_otherwise() {
    let daemon = impatient();
    let mut waiting = Client::connect(daemon.address(), "/ws/chat");
    let code = waiting.text();
    let mut pings = 0;
    while pings < 3 {
        let message = waiting.socket.read().unwrap();
        assert!(message.is_ping(), "{message:?}");
        waiting.socket.flush().unwrap();
        pings += 1;
    }
    assert_eq!(
        Client::connect(daemon.address(), &format!("/ws/chat/{code}")).text(),
        code
    );
}
