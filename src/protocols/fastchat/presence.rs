//! FastChat's two HTTP endpoints, which its published front end asks beside its WebSocket. Both are
//! answered from the live connections, and change nothing.

use super::FastChat;
use super::wire::uuid;
use crate::json::{self, Malformed};
use crate::realm::{Context, Hello, Method, Refusal, Reply, Request};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

/// The media type of all answers.
const JSON: &str = "application/json; charset=utf-8";

/// A user, as both endpoints tell it.
#[derive(Serialize)]
struct Seen<'a> {
    id: Uuid,
    user_id: Uuid,
    display_name: &'a str,
    last_seen: &'a str,
    status: &'a str,
}

#[derive(Serialize)]
struct Online<'a> {
    users: Vec<Seen<'a>>,
    count: usize,
}

#[derive(Deserialize)]
struct Heartbeat<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    display_name: Option<&'a RawValue>,
}

impl FastChat {
    /// Answers a plain HTTP request.
    pub(super) fn answer(&mut self, cx: &Context, request: &Request) -> Reply {
        match (request.hello.path.as_str(), request.method) {
            ("/presence/online", Method::Get) => self.online(cx, &request.hello),
            ("/presence/heartbeat", Method::Post) => match self.heartbeat(cx, &request.body) {
                Ok(body) => Reply::Ok {
                    content_type: JSON,
                    body: body.into(),
                },
                Err(_) => Reply::Refused(Refusal {
                    status: 400,
                    text: "a heartbeat is {\"user_id\": a UUID, \"display_name\": a string}",
                }),
            },
            ("/ws", Method::Get) => Reply::UpgradeRequired {
                target: "/ws".to_owned(),
            },
            _ => Reply::Refused(Refusal {
                status: 405,
                text: "GET /presence/online, POST /presence/heartbeat",
            }),
        }
    }

    /// Everybody online, but for one who asks not to be listed.
    fn online(&mut self, cx: &Context, hello: &Hello) -> Reply {
        if !self.lists.has_room() {
            return Reply::Refused(Refusal {
                status: 503,
                text: "too many lists are on their way to slow readers; try again",
            });
        }
        let but = hello.parameter("exclude_user_id");
        let but = but.and_then(|id| Uuid::try_parse(&id).ok());
        let last_seen = cx.timestamp();
        let users = self.users.iter().filter(|(id, _)| Some(**id) != but);
        let users: Vec<Seen> = users
            .map(|(&id, user)| Seen {
                id,
                user_id: id,
                display_name: &user.name,
                last_seen: &last_seen,
                status: "online",
            })
            .collect();
        let count = users.len();
        let list = serde_json::to_string(&Online { users, count });
        let list = list.expect("strings and numbers are JSON");
        Reply::Ok {
            content_type: JSON,
            body: self.lists.add(list),
        }
    }

    /// What there is to say of who sends a heartbeat.
    fn heartbeat(&self, cx: &Context, body: &[u8]) -> Result<String, Malformed> {
        let text = std::str::from_utf8(body).map_err(|_| Malformed::NoObject)?;
        let heartbeat: Heartbeat = json::object(text)?;
        let id = uuid(heartbeat.user_id, "user_id")?;
        let claimed: String = json::required(heartbeat.display_name, "display_name", "a string")?;
        let user = self.users.get(&id);
        let last_seen = cx.timestamp();
        let seen = Seen {
            id,
            user_id: id,
            display_name: user.map_or(&claimed, |user| &user.name),
            last_seen: &last_seen,
            status: if user.is_some() { "online" } else { "offline" },
        };
        Ok(serde_json::to_string(&seen).expect("strings are JSON"))
    }
}
