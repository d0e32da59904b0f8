//! FastChat's two HTTP endpoints, which its published front end asks beside its WebSocket. Both are
//! answered from the live connections, and change nothing.

use super::FastChat;
use super::codec_flat::NAME_LENGTH;
use super::fields::uuid;
use crate::realm::{ConnectRequest, Context, HttpReply, Method, Rejection, Request};
use crate::toolkit::json::{self, InvalidMessage};
use crate::toolkit::sanitize::sanitize;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
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

/// How long a list is told to all who ask, if nobody comes or goes: the accuracy of `last_seen`.
const LISTED_FOR: Duration = Duration::from_secs(1);

/// Who is online, made once for many who ask.
pub(super) struct OnlineList {
    /// When.
    made: Duration,
    /// How many changes of who is online there had been.
    state: u64,
    /// The whole answer.
    json: Arc<str>,
    /// The users in it, a comma behind each.
    users: String,
    /// Where each stands among them.
    places: BTreeMap<Uuid, Range<usize>>,
}

impl OnlineList {
    /// The answer without the user who stands there.
    fn without(&self, place: Range<usize>) -> String {
        let before = self.users.get(..place.start).unwrap_or_default();
        let after = self.users.get(place.end..).unwrap_or_default();
        online(before, after, self.places.len() - 1)
    }
}

/// The answer, with so many users in two parts.
fn online(before: &str, after: &str, count: usize) -> String {
    let count = format!("],\"count\":{count}}}");
    let users = [before, after].concat();
    let users = users.strip_suffix(',').unwrap_or_default();
    ["{\"users\":[", users, &count].concat()
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
    pub(super) fn answer(&mut self, cx: &Context, request: &Request) -> HttpReply {
        match (request.hello.path.as_str(), request.method) {
            ("/presence/online", Method::Get) => self.online(cx, &request.hello),
            ("/presence/heartbeat", Method::Post) => match self.heartbeat(cx, &request.body) {
                Ok(body) => HttpReply::Ok {
                    content_type: JSON,
                    body: body.into(),
                },
                Err(_) => HttpReply::Rejected(Rejection {
                    status: 400,
                    text: "a heartbeat is {\"user_id\": a UUID, \"display_name\": a string}",
                }),
            },
            ("/ws", Method::Get) => HttpReply::UpgradeRequired {
                target: "/ws".to_owned(),
            },
            _ => HttpReply::Rejected(Rejection {
                status: 405,
                text: "GET /presence/online, POST /presence/heartbeat",
            }),
        }
    }

    /// Everybody online, but for one who asks not to be listed. While too much is on its way to slow
    /// readers, all share one list, and nobody is left out of it.
    fn online(&mut self, cx: &Context, hello: &ConnectRequest) -> HttpReply {
        let state = self.news.count();
        let is_current = |list: &OnlineList| list.state == state && cx.now < list.made + LISTED_FOR;
        let has_capacity = self.lists.has_capacity();
        let list = self.online.take();
        let list = list.filter(|list| is_current(list) || !has_capacity);
        let list = list.unwrap_or_else(|| {
            let list = self.online_list(cx);
            self.lists.add(&list.json);
            list
        });
        let but = hello.parameter("exclude_user_id");
        let but = but.and_then(|id| Uuid::try_parse(&id).ok());
        let but = but.and_then(|id| list.places.get(&id));
        let body = match but {
            Some(place) if self.lists.has_capacity() => {
                let body: Arc<str> = list.without(place.clone()).into();
                self.lists.add(&body);
                body
            }
            _ => Arc::clone(&list.json),
        };
        self.online = Some(list);
        HttpReply::Ok {
            content_type: JSON,
            body,
        }
    }

    fn online_list(&self, cx: &Context) -> OnlineList {
        let last_seen = cx.timestamp();
        let mut users = String::new();
        let mut places = BTreeMap::new();
        for (&id, user) in &self.users {
            let seen = Seen {
                id,
                user_id: id,
                display_name: &user.name,
                last_seen: &last_seen,
                status: "online",
            };
            let start = users.len();
            users.push_str(&serde_json::to_string(&seen).expect("strings are JSON"));
            users.push(',');
            places.insert(id, start..users.len());
        }
        let json = online(&users, "", self.users.len());
        OnlineList {
            made: cx.now,
            state: self.news.count(),
            json: json.into(),
            users,
            places,
        }
    }

    /// What there is to say of who sends a heartbeat.
    fn heartbeat(&self, cx: &Context, body: &[u8]) -> Result<String, InvalidMessage> {
        let text = std::str::from_utf8(body).map_err(|_| InvalidMessage::NoObject)?;
        let heartbeat: Heartbeat = json::object(text)?;
        let id = uuid(heartbeat.user_id, "user_id")?;
        let claimed: String = json::required(heartbeat.display_name, "display_name", "a string")?;
        let claimed = sanitize(&claimed);
        let (shortest, longest) = NAME_LENGTH;
        json::check_length(&claimed, "display_name", shortest, longest)?;
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
