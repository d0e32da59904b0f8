//! Acts out the transcripts on the protocols' pages against the daemon.
//!
//! A transcript is a code block of `src/protocols/NAME/README.md` that is marked `transcript`; its lines are
//! described in `common/transcript.rs`. Settings of the listener, as JSON, may follow the mark, where no reader
//! sees them:
//!
//! ````text
//! ```transcript {"expire_timeout": 1}
//! ````

use crate::common::transcript::{Conversation, Matching, lines};
use crate::common::{Client, Daemon, merge, protocol_file};
use serde_json::{Value, json};
use switchboard::protocols::PROTOCOLS;

#[test]
fn the_transcripts_on_each_protocols_page_are_true() {
    for protocol in PROTOCOLS {
        let page = protocol_file(protocol.name, "README.md", "a page for authors of clients");
        let transcripts: Vec<&str> = page.split("\n```transcript").skip(1).collect();
        assert!(
            !transcripts.is_empty(),
            "src/protocols/{}/README.md shows no conversation: add a code block that is marked `transcript` \
             (tests/README.md, \"Transcripts\")",
            protocol.name
        );
        for transcript in transcripts {
            let (settings, conversation) = transcript.split_once('\n').unwrap();
            println!("{}: ```transcript{settings}", protocol.name);
            let settings = match settings.trim() {
                "" => json!({}),
                settings => serde_json::from_str(settings).expect("settings after the mark"),
            };
            act_out(
                merge(json!({"protocol": protocol.name}), &settings),
                conversation.split("```").next().unwrap(),
            );
        }
    }
}

/// Acts out a conversation in a daemon of its own with this listener.
fn act_out(listener: Value, conversation: &str) {
    let daemon = Daemon::start_listener(listener);
    let connect = |target: &str| Client::connect(daemon.address(), target);
    let mut run = Conversation::new(Matching::Next, connect);
    for line in lines(conversation) {
        println!("{line}");
        run.act(line);
    }
}
