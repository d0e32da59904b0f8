//! How clients of each protocol connect and say what their protocol demands.

use crate::client::Received;
use crate::clients::Clients;
use crate::common::DEADLINE;
use crate::common::websocket::text_frame;
use serde_json::json;
use std::net::SocketAddr;

/// Handshakes that are under way at once.
pub const IN_HANDSHAKE: usize = 64;

/// What a client does until it is admitted.
pub struct Introduction {
    pub path: String,
    /// What it says first, if it has to say anything.
    pub says: Option<String>,
    /// A part of the text that tells it that it is admitted.
    pub admitted_by: &'static str,
}

/// Returns the name of a Workspace user or the id of a PeerJS client; all are of one length.
pub fn name(number: usize) -> String {
    format!("u{number:05}")
}

fn workspace(number: usize) -> Introduction {
    Introduction {
        path: format!("/ws?username={}", name(number)),
        says: None,
        admitted_by: "\"connected\"",
    }
}

fn fastchat(number: usize) -> Introduction {
    let id = format!("aaaaaaaa-0000-4000-8000-{number:012}");
    let data = json!({"user_id": id, "display_name": name(number)});
    Introduction {
        path: "/ws".to_owned(),
        says: Some(json!({"type": "HELLO", "data": data}).to_string()),
        admitted_by: "\"HELLO_ACK\"",
    }
}

/// Returns the introduction of the PeerJS client with this number.
pub fn peerjs(number: usize) -> Introduction {
    Introduction {
        path: format!("/peerjs?key=peerjs&id={}&token=t", name(number)),
        says: None,
        admitted_by: "\"OPEN\"",
    }
}

/// Returns the introduction of one client of a PeerDrop pair: the creator's if there is no code yet.
fn peerdrop(code: Option<&str>) -> Introduction {
    Introduction {
        path: format!(
            "/ws/chat{}",
            code.map_or(String::new(), |code| format!("/{code}"))
        ),
        says: None,
        admitted_by: "",
    }
}

/// Returns the introduction of the host or the client of a LOUDSYNC session.
fn loudsync(role: &str, session: usize) -> Introduction {
    let id = format!("{role}{session}");
    let device = json!({"id": id, "name": id, "type": role});
    let join =
        json!({"type": "join", "timestamp": 1, "sessionId": name(session), "deviceInfo": device});
    Introduction {
        path: "/".to_owned(),
        says: Some(join.to_string()),
        admitted_by: "\"member_list\"",
    }
}

/// Connects this number of clients of a protocol. Of clients that meet in pairs, those that are there first have the
/// first half of the numbers, and their partners the second half in the same order.
pub fn admit(
    clients: &mut Clients,
    protocol: &str,
    address: SocketAddr,
    count: usize,
) -> Result<(), String> {
    let pairs = count.div_ceil(2);
    match protocol {
        "workspace" => admit_all(clients, address, count, workspace)?,
        "fastchat" => admit_all(clients, address, count, fastchat)?,
        "peerjs" => admit_all(clients, address, count, peerjs)?,
        "peerdrop" => {
            let codes = admit_all(clients, address, pairs, |_| peerdrop(None))?;
            admit_all(clients, address, pairs, |it| peerdrop(Some(&codes[it])))?
        }
        "loudsync" => {
            admit_all(clients, address, pairs, |it| loudsync("host", it))?;
            admit_all(clients, address, pairs, |it| loudsync("client", it))?
        }
        other => {
            return Err(format!(
                "{other}: write in benches/load/admission.rs how its clients connect"
            ));
        }
    };
    Ok(())
}

/// Connects clients, and waits until all are admitted. Returns the texts that told them so.
fn admit_all(
    clients: &mut Clients,
    address: SocketAddr,
    count: usize,
    introduce: impl Fn(usize) -> Introduction,
) -> Result<Vec<String>, String> {
    let first = clients.len();
    let introductions: Vec<Introduction> = (0..count).map(introduce).collect();
    let mut texts = vec![None; count];
    let mut admitted = 0;
    while admitted < count {
        while clients.len() - first < count.min(admitted + IN_HANDSHAKE) {
            let path = &introductions[clients.len() - first].path;
            clients.connect(address, path)?;
        }
        let mut open = Vec::new();
        let has_heard = clients.turn(DEADLINE, |client, received| {
            let Some(number) = client.checked_sub(first) else {
                return Ok(());
            };
            match received {
                Received::Open => open.push(number),
                Received::Text(text) => {
                    let text = String::from_utf8_lossy(text);
                    let is_admitted = text.contains(introductions[number].admitted_by);
                    if is_admitted && texts[number].is_none() {
                        texts[number] = Some(text.into_owned());
                        admitted += 1;
                    }
                }
            }
            Ok(())
        })?;
        if !has_heard {
            return Err(format!(
                "{} of {count} clients are not admitted",
                count - admitted
            ));
        }
        for number in open {
            if let Some(says) = &introductions[number].says {
                clients.send(first + number, &text_frame(says.as_bytes()))?;
                clients.flush(first + number)?;
            }
        }
    }
    Ok(texts.into_iter().flatten().collect())
}
