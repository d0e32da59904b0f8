//! PeerDrop: two strangers paired by a short code, and then everything that one says is passed
//! to the other as it came.
//!
//! The protocol has no message types: the first frame to a client is the session's code, the
//! next one to its creator says that the peer is there, and all else is theirs.

use crate::address::Subscriber;
use crate::close::{Close, Ending};
use crate::frame::Frame;
use crate::rate::{SPAN, Window};
use crate::realm::{ConnectionId, Context, Defaults, Hello, Message, Realm, Refusal, WhenFull};
use async_tungstenite::tungstenite::Utf8Bytes;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

/// What the creator is told when the peer joins ("Receiving Messages", 2).
const JOINED: &str = "the other guy joined";

/// The letters of a code: none that is read or spoken as another (rulings, "PeerDrop").
const ALPHABET: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// How many addresses' wrong guesses are remembered. Beyond it those are forgotten that are not
/// refused, and if there are still too many, all: whoever has so many addresses needs no second
/// guess from any.
const GUESSERS: usize = 10_000;

/// What the configuration may say about a PeerDrop listener.
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// Letters in a code: 4 to 12.
    code_length: u8,
    /// Wrong codes a minute from one address before it is refused for a minute; 0: no limit.
    wrong_codes_per_minute: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            code_length: 6,
            wrong_codes_per_minute: 10,
        }
    }
}

/// Two connections, or one that waits for the other.
struct Session {
    creator: ConnectionId,
    peer: Option<ConnectionId>,
}

impl Session {
    fn other_than(&self, who: ConnectionId) -> Option<ConnectionId> {
        if who == self.creator {
            self.peer
        } else {
            Some(self.creator)
        }
    }
}

#[derive(Default)]
struct Guesser {
    wrong: Window,
    refused_until: Duration,
}

/// The sessions of one listener.
pub struct PeerDrop {
    options: Options,
    sessions: HashMap<String, Session>,
    /// The code of the session that each connection is in.
    codes: HashMap<ConnectionId, String>,
    guessers: HashMap<Subscriber, Guesser>,
}

impl Realm for PeerDrop {
    const NAME: &'static str = "peerdrop";
    const ENDPOINT: &'static str = "/ws/chat";
    const DEFAULTS: Defaults = Defaults {
        port: 9081,
        origins: &["*"],
        handshake_timeout: 10,
        max_message_size: 64 << 20,
    };
    const WHEN_FULL: WhenFull = WhenFull::HoldSender;

    type Options = Options;
    /// A text for the other one.
    type Command = Utf8Bytes;

    fn new(options: Options) -> Result<Self, (&'static str, String)> {
        if !(4..=12).contains(&options.code_length) {
            let problem = format!("{} is not from 4 to 12 letters", options.code_length);
            return Err(("code_length", problem));
        }
        Ok(Self {
            options,
            sessions: HashMap::new(),
            codes: HashMap::new(),
            guessers: HashMap::new(),
        })
    }

    fn serves(path: &str) -> bool {
        path == Self::ENDPOINT || code_in(path).is_some()
    }

    fn decode(message: Message) -> Option<Utf8Bytes> {
        match message {
            Message::Text(text) => Some(text),
            // "Text only" ("Limitations"); ignored (rulings).
            Message::Binary(_) => None,
        }
    }

    fn open(&mut self, cx: &mut Context, who: ConnectionId, hello: Hello) -> Result<(), Refusal> {
        match code_in(&hello.path) {
            None => self.create(cx, who),
            Some(code) => match self.join(cx, who, code, hello.address) {
                Ok(()) => {}
                Err(refused) => cx.close(who, refused),
            },
        }
        Ok(())
    }

    fn command(&mut self, cx: &mut Context, who: ConnectionId, text: Utf8Bytes) {
        let session = self
            .codes
            .get(&who)
            .and_then(|code| self.sessions.get(code));
        // Nobody there yet: "no offline message queue" ("Limitations").
        if let Some(other) = session.and_then(|session| session.other_than(who)) {
            cx.send(other, Frame::text(text));
        }
    }

    fn close(&mut self, cx: &mut Context, who: ConnectionId, _how: Ending) {
        // Those who were refused are in no session, and who is left alone is told only once.
        let Some(code) = self.codes.remove(&who) else {
            return;
        };
        let Some(session) = self.sessions.remove(&code) else {
            return;
        };
        if let Some(other) = session.other_than(who) {
            self.codes.remove(&other);
            cx.close(other, Close::PeerLeft);
        }
    }

    fn tick(&mut self, cx: &mut Context) {
        self.guessers
            .retain(|_, guesser| guesser.refused_until > cx.now || guesser.wrong.count(cx.now) > 0);
    }
}

impl PeerDrop {
    fn create(&mut self, cx: &mut Context, who: ConnectionId) {
        // Four letters make a million codes, far more than a machine holds connections.
        let code = loop {
            let code = cx.letters(ALPHABET, usize::from(self.options.code_length));
            if !self.sessions.contains_key(&code) {
                break code;
            }
        };
        cx.send(who, Frame::text(code.clone()));
        self.codes.insert(who, code.clone());
        self.sessions.insert(
            code,
            Session {
                creator: who,
                peer: None,
            },
        );
    }

    fn join(
        &mut self,
        cx: &mut Context,
        who: ConnectionId,
        code: &str,
        address: IpAddr,
    ) -> Result<(), Close> {
        let subscriber = Subscriber::of(address);
        if self
            .guessers
            .get(&subscriber)
            .is_some_and(|guesser| cx.now < guesser.refused_until)
        {
            return Err(Close::TooManyGuesses);
        }
        let code = code.to_ascii_uppercase();
        let Some(session) = self.sessions.get_mut(&code) else {
            self.count_wrong_guess(cx.now, subscriber);
            return Err(Close::UnknownSession);
        };
        if session.peer.is_some() {
            return Err(Close::SessionFull);
        }
        session.peer = Some(who);
        cx.send(who, Frame::text(code.clone()));
        cx.send(session.creator, Frame::text(Utf8Bytes::from_static(JOINED)));
        self.codes.insert(who, code);
        Ok(())
    }

    fn count_wrong_guess(&mut self, now: Duration, subscriber: Subscriber) {
        let limit = self.options.wrong_codes_per_minute;
        if limit == 0 {
            return;
        }
        if self.guessers.len() >= GUESSERS && !self.guessers.contains_key(&subscriber) {
            self.guessers
                .retain(|_, guesser| guesser.refused_until > now);
            if self.guessers.len() >= GUESSERS {
                self.guessers.clear();
            }
        }
        let guesser = self.guessers.entry(subscriber).or_default();
        // Never refused: at the limit it begins anew.
        let _ = guesser.wrong.take(now, limit);
        if guesser.wrong.count(now) >= limit as usize {
            *guesser = Guesser {
                refused_until: now + SPAN,
                ..Guesser::default()
            };
        }
    }
}

/// The code in `/ws/chat/{code}`.
fn code_in(path: &str) -> Option<&str> {
    path.strip_prefix("/ws/chat/")
        .filter(|code| !code.is_empty() && !code.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::{Desk, no_lines};
    use serde_json::json;

    const MINUTE: Duration = Duration::from_secs(60);

    fn desk() -> Desk<PeerDrop> {
        Desk::new(json!({}))
    }

    /// A desk at which 1 has created a session and 2 has joined it.
    fn pair() -> Desk<PeerDrop> {
        let mut desk = desk();
        let code = create(&mut desk, 1);
        desk.opens(2, &format!("/ws/chat/{code}"));
        desk
    }

    fn create(desk: &mut Desk<PeerDrop>, who: u64) -> String {
        let lines = desk.opens(who, "/ws/chat");
        let code = lines[0].strip_prefix(&format!("{who} < ")).expect("a code");
        assert_eq!(lines.len(), 1, "the code and nothing else");
        code.to_owned()
    }

    fn guess_wrong(desk: &mut Desk<PeerDrop>, who: u64, address: &str) -> Vec<String> {
        desk.opens_from(who, "/ws/chat/WRONG2", address)
    }

    #[test]
    fn the_creators_first_frame_is_the_code() {
        let code = create(&mut desk(), 1);
        assert_eq!(code.len(), 6);
        assert!(
            code.bytes().all(|letter| ALPHABET.contains(&letter)),
            "{code}"
        );
    }

    #[test]
    fn a_code_is_as_long_as_configured() {
        assert_eq!(
            create(&mut Desk::new(json!({"code_length": 12})), 1).len(),
            12
        );
        for length in [3, 13] {
            let wrong = Options {
                code_length: length,
                ..Options::default()
            };
            assert!(matches!(PeerDrop::new(wrong), Err(("code_length", _))));
        }
    }

    #[test]
    fn a_code_in_use_is_not_given_again() {
        let mut desk = desk();
        let first = create(&mut desk, 1);
        desk.repeat_the_last_id();
        assert_ne!(create(&mut desk, 2), first);
    }

    #[test]
    fn the_joiner_gets_the_code_then_the_creator_hears_of_it() {
        let mut desk = desk();
        let code = create(&mut desk, 1);
        let lines = desk.opens(2, &format!("/ws/chat/{code}"));
        assert_eq!(
            lines,
            [format!("2 < {code}"), "1 < the other guy joined".to_owned()]
        );
    }

    #[test]
    fn codes_are_matched_without_regard_to_case() {
        let mut desk = desk();
        let code = create(&mut desk, 1);
        let lines = desk.opens(2, &format!("/ws/chat/{}", code.to_lowercase()));
        assert_eq!(
            lines,
            [format!("2 < {code}"), "1 < the other guy joined".to_owned()]
        );
    }

    #[test]
    fn texts_go_to_the_other_one_as_they_came_in_both_directions() {
        let mut desk = pair();
        for text in ["Hello!", "", JOINED, "<b>\u{7}\r\n", " {\"type\": 1} "] {
            assert_eq!(desk.says(1, text), [format!("2 < {text}")]);
            assert_eq!(desk.says(2, text), [format!("1 < {text}")]);
        }
    }

    #[test]
    fn what_the_creator_sends_before_there_is_a_peer_is_dropped() {
        let mut desk = desk();
        let code = create(&mut desk, 1);
        assert_eq!(desk.says(1, "anybody there?"), no_lines());
        let lines = desk.opens(2, &format!("/ws/chat/{code}"));
        assert_eq!(
            lines,
            [format!("2 < {code}"), "1 < the other guy joined".to_owned()]
        );
    }

    #[test]
    fn binary_frames_are_ignored() {
        assert!(PeerDrop::decode(Message::Binary(vec![1, 2, 3].into())).is_none());
    }

    #[test]
    fn when_either_side_goes_in_whatever_way_the_other_is_closed() {
        for (leaver, other) in [(1, 2), (2, 1)] {
            for how in [Ending::Left(Some(1000)), Ending::Lost, Ending::Silent] {
                assert_eq!(
                    pair().leaves(leaver, how),
                    [format!("{other} x 1000 peer left")]
                );
            }
        }
    }

    #[test]
    fn a_session_ends_with_its_members_and_its_code_is_dead() {
        let mut desk = desk();
        let code = create(&mut desk, 1);
        desk.opens(2, &format!("/ws/chat/{code}"));
        desk.leaves(2, Ending::Lost);
        assert_eq!(
            desk.opens(3, &format!("/ws/chat/{code}")),
            ["3 x 4404 no such session"]
        );
        assert!(desk.realm.sessions.is_empty() && desk.realm.codes.is_empty());
    }

    #[test]
    fn a_session_that_nobody_joined_ends_with_its_creator() {
        let mut desk = desk();
        let code = create(&mut desk, 1);
        desk.waits(1000 * MINUTE);
        assert_eq!(desk.leaves(1, Ending::Left(None)), no_lines());
        assert_eq!(
            desk.opens(2, &format!("/ws/chat/{code}")),
            ["2 x 4404 no such session"]
        );
    }

    #[test]
    fn a_session_that_nobody_joins_lives_as_long_as_its_creator() {
        let mut desk = desk();
        let code = create(&mut desk, 1);
        assert_eq!(desk.waits(1000 * MINUTE), no_lines());
        assert_eq!(desk.opens(2, &format!("/ws/chat/{code}")).len(), 2);
    }

    #[test]
    fn an_unknown_code_is_refused() {
        for path in [
            "/ws/chat/AAAAAA",
            "/ws/chat/x",
            "/ws/chat/%41",
            "/ws/chat/ABC1234567",
        ] {
            assert_eq!(desk().opens(1, path), ["1 x 4404 no such session"]);
        }
    }

    #[test]
    fn a_third_peer_is_refused_and_disturbs_nobody() {
        let mut desk = desk();
        let code = create(&mut desk, 1);
        desk.opens(2, &format!("/ws/chat/{code}"));
        assert_eq!(
            desk.opens(3, &format!("/ws/chat/{code}")),
            ["3 x 4409 session is full"]
        );
        assert_eq!(desk.says(1, "still here"), ["2 < still here"]);
        assert_eq!(desk.says(2, "me too"), ["1 < me too"]);
    }

    #[test]
    fn sessions_do_not_hear_each_other() {
        let mut desk = pair();
        let code = create(&mut desk, 3);
        desk.opens(4, &format!("/ws/chat/{code}"));
        assert_eq!(desk.says(3, "for 4 alone"), ["4 < for 4 alone"]);
        assert_eq!(desk.leaves(4, Ending::Lost), ["3 x 1000 peer left"]);
        assert_eq!(desk.says(1, "for 2 alone"), ["2 < for 2 alone"]);
    }

    #[test]
    fn an_address_that_guesses_wrong_ten_times_is_refused_for_a_minute() {
        let mut desk = desk();
        let code = create(&mut desk, 1);
        let right = format!("/ws/chat/{code}");
        for guess in 10..20 {
            assert_eq!(
                guess_wrong(&mut desk, guess, "192.0.2.1"),
                [format!("{guess} x 4404 no such session")]
            );
        }
        let refused = ["20 x 4429 too many wrong codes, wait a minute"];
        assert_eq!(desk.opens_from(20, &right, "192.0.2.1"), refused);
        desk.waits(MINUTE - Duration::from_millis(1));
        assert_eq!(guess_wrong(&mut desk, 20, "192.0.2.1"), refused);
        desk.waits(Duration::from_millis(1));
        assert_eq!(desk.opens_from(21, &right, "192.0.2.1").len(), 2);
    }

    #[test]
    fn ten_wrong_guesses_in_more_than_a_minute_are_forgiven() {
        let mut desk = desk();
        for guess in 10..100 {
            assert_eq!(
                guess_wrong(&mut desk, guess, "192.0.2.1"),
                [format!("{guess} x 4404 no such session")]
            );
            desk.waits(Duration::from_millis(6700));
        }
    }

    #[test]
    fn other_addresses_are_not_refused_with_it_and_creating_is_not_guessing() {
        let mut desk = desk();
        for guess in 10..21 {
            guess_wrong(&mut desk, guess, "192.0.2.1");
        }
        let code = create(&mut desk, 1);
        assert_eq!(
            desk.opens_from(2, &format!("/ws/chat/{code}"), "192.0.2.2")
                .len(),
            2
        );
        let lines = desk.opens_from(3, "/ws/chat", "192.0.2.1");
        assert!(lines[0].starts_with("3 < "), "{lines:?}");
    }

    #[test]
    fn without_a_limit_anybody_may_guess_for_ever() {
        let mut desk = Desk::<PeerDrop>::new(json!({"wrong_codes_per_minute": 0}));
        for guess in 1..1000 {
            assert_eq!(
                guess_wrong(&mut desk, guess, "192.0.2.1"),
                [format!("{guess} x 4404 no such session")]
            );
        }
    }

    #[test]
    fn guesses_are_not_remembered_without_bound_nor_for_ever() {
        let mut desk = desk();
        for guess in 0..3 * GUESSERS as u64 {
            let address = format!("198.{}.{}.{}", guess >> 16, (guess >> 8) & 255, guess & 255);
            guess_wrong(&mut desk, guess, &address);
            assert!(desk.realm.guessers.len() <= GUESSERS);
        }
        desk.waits(2 * MINUTE);
        assert!(desk.realm.guessers.is_empty());
    }

    #[test]
    fn it_serves_two_shapes_of_path_and_no_other() {
        for path in ["/ws/chat", "/ws/chat/ABC123", "/ws/chat/x"] {
            assert!(PeerDrop::serves(path), "{path}");
        }
        for path in [
            "/",
            "/ws",
            "/ws/chat/",
            "/ws/chat/ABC123/",
            "/ws/chatter",
            "/WS/CHAT",
        ] {
            assert!(!PeerDrop::serves(path), "{path}");
        }
    }
}
