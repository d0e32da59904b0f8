//! Acts out the transcripts on the protocols' pages against the daemon.
//!
//! A transcript is a code block of `src/protocols/NAME/README.md` that is marked `transcript`; its lines are
//! described in `common/transcript.rs`. Settings of the listener, as JSON, may follow the mark, where no reader
//! sees them:
//!
//! ````text
//! ```transcript {"expire_timeout": 1}
//! ````

use crate::common::transcript::{Conversation, Matching, is_generated_like, lines};
use crate::common::{Client, Daemon, optional_fields, protocol_file};
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
                protocol.name,
                &settings,
                conversation.split("```").next().unwrap(),
            );
        }
    }
}

#[test]
fn a_generated_value_is_known_by_an_example_of_its_kind() {
    let uuid = "5b1f0c9e-6a3d-4e8b-9c27-1d4f6a8b3e50";
    for (example, right, wrong) in [
        (uuid, "0c2b5f4e-7a1d-4c3b-9e8f-6d5a4b3c2d1e", "5b1f0c9e"),
        (
            "2026-01-16T10:00:00.000Z",
            "2027-12-31T23:59:59.999Z",
            "now",
        ),
        ("XYZ789", "ABCDEF", "ABCdef"),
        ("host-x7kq2m", "host-abcdef", "client-abcdef"),
        (
            "msg_1768557600001",
            "msg_1768557600002",
            "msg_176855760000x",
        ),
        // An id of a sixth protocol.
        ("room:1/u-000017", "room:1/u-000018", "room:2/u-000018"),
    ] {
        assert!(is_generated_like(example, right), "{example} {right}");
        assert!(!is_generated_like(example, wrong), "{example} {wrong}");
    }
    // Words and numbers that the protocol defines are compared as they are.
    for word in ["delivered", "john_doe", "mac-1", "1"] {
        let other = word.replace(['1', 'd'], "2");
        assert!(!is_generated_like(word, &other), "{word}");
    }
}

/// Acts out a conversation in a daemon of its own with a listener of this protocol.
fn act_out(protocol: &str, settings: &Value, conversation: &str) {
    let daemon = Daemon::start_protocol(protocol, settings.clone());
    let connect = |target: &str| Client::connect(daemon.address(), target);
    let mut run = Conversation::new(Matching::Next, connect);
    run.values.optional_fields = optional_fields(protocol);
    for line in lines(conversation) {
        println!("{line}");
        run.act(line);
    }
}
