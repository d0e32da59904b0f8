//! The two HTTP endpoints that FastChat's published front end uses beside its WebSocket. Both are
//! answered from the live connections, and change nothing.

use super::FastChat;
use super::codec_flat::NAME_LENGTH;
use super::fields::{display_name, uuid};
use crate::realm::{ConnectRequest, Context, HttpReply, Method, Rejection, Request};
use crate::toolkit::json::{self, InvalidMessage};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// The media type of all responses.
const JSON: &str = "application/json; charset=utf-8";

/// A user in the responses of both endpoints.
#[derive(Serialize)]
struct UserJson<'a> {
    id: Uuid,
    user_id: Uuid,
    display_name: &'a str,
    last_seen: &'a str,
    status: &'a str,
}

/// Time for which a list is used for further requests while no user connects or disconnects: the accuracy of
/// `last_seen`.
const LIST_LIFETIME: Duration = Duration::from_secs(1);

/// The users online, encoded once for many requests.
pub(super) struct OnlineList {
    /// Time on the realm's clock.
    created_at: Duration,
    /// The version of the presence changes in it.
    version: u64,
    /// The response with all users.
    json: Arc<str>,
    /// The users' JSON objects, each followed by a comma.
    users: String,
    /// The byte range of each user in `users`, with the comma.
    ranges: BTreeMap<Uuid, Range<usize>>,
}

impl OnlineList {
    /// Returns the response without the user at this range.
    fn without(&self, range: Range<usize>) -> String {
        let before = self.users.get(..range.start).unwrap_or_default();
        let after = self.users.get(range.end..).unwrap_or_default();
        list_json(before, after, self.ranges.len() - 1)
    }
}

/// Returns the response with `count` users, whose JSON is `before` and `after` together.
fn list_json(before: &str, after: &str, count: usize) -> String {
    let count = format!("],\"count\":{count}}}");
    let users = [before, after].concat();
    let users = users.strip_suffix(',').unwrap_or_default();
    ["{\"users\":[", users, &count].concat()
}

/// The body of a heartbeat, not decoded yet.
#[derive(Deserialize)]
struct Heartbeat<'a> {
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    display_name: Option<&'a RawValue>,
}

impl FastChat {
    /// Answers a plain HTTP request.
    pub(super) fn handle_request(&mut self, cx: &Context, request: &Request) -> HttpReply {
        match (request.connect.path.as_str(), request.method) {
            ("/presence/online", Method::Get) => self.handle_online(cx, &request.connect),
            ("/presence/heartbeat", Method::Post) => match self.handle_heartbeat(cx, &request.body)
            {
                Ok(body) => HttpReply::Ok {
                    content_type: JSON,
                    body: body.into(),
                },
                Err(_) => HttpReply::Rejected(Rejection {
                    status: 400,
                    text: "the body must be {\"user_id\": a UUID, \"display_name\": 1 to 100 characters}",
                }),
            },
            ("/ws", Method::Get) => HttpReply::UpgradeRequired {
                target: "/ws".to_owned(),
            },
            (path, _) => HttpReply::Rejected(Rejection {
                status: 405,
                text: match path {
                    "/presence/online" => "use GET",
                    "/presence/heartbeat" => "use POST",
                    _ => "use GET, as a WebSocket handshake",
                },
            }),
        }
    }

    /// Lists the users online, without the one that the request excludes. While too many bytes of
    /// different lists are in flight to slow clients, all requests share one list with all users.
    fn handle_online(&mut self, cx: &Context, request: &ConnectRequest) -> HttpReply {
        let version = self.presence_changes.version();
        let is_current =
            |list: &OnlineList| list.version == version && cx.now < list.created_at + LIST_LIFETIME;
        let has_capacity = self.in_flight_lists.has_capacity();
        let list = self.online_list.take();
        let list = list.filter(|list| is_current(list) || !has_capacity);
        let list = list.unwrap_or_else(|| {
            let list = self.build_online_list(cx);
            self.in_flight_lists.add(&list.json);
            list
        });
        let excluded = request.parameter("exclude_user_id");
        let excluded = excluded.and_then(|id| Uuid::try_parse(&id).ok());
        let excluded = excluded.and_then(|id| list.ranges.get(&id));
        let body = match excluded {
            Some(range) if self.in_flight_lists.has_capacity() => {
                let body: Arc<str> = list.without(range.clone()).into();
                self.in_flight_lists.add(&body);
                body
            }
            _ => Arc::clone(&list.json),
        };
        self.online_list = Some(list);
        HttpReply::Ok {
            content_type: JSON,
            body,
        }
    }

    /// Encodes the list of users online.
    fn build_online_list(&self, cx: &Context) -> OnlineList {
        let last_seen = cx.timestamp();
        let mut users = String::new();
        let mut ranges = BTreeMap::new();
        for (&id, user) in &self.users {
            let json_user = UserJson {
                id,
                user_id: id,
                display_name: &user.name,
                last_seen: &last_seen,
                status: "online",
            };
            let start = users.len();
            users.push_str(&serde_json::to_string(&json_user).expect("strings are JSON"));
            users.push(',');
            ranges.insert(id, start..users.len());
        }
        let json = list_json(&users, "", self.users.len());
        OnlineList {
            created_at: cx.now,
            version: self.presence_changes.version(),
            json: json.into(),
            users,
            ranges,
        }
    }

    /// Returns the user that a heartbeat names, as JSON. The name is that of HELLO if the user is online.
    fn handle_heartbeat(&self, cx: &Context, body: &[u8]) -> Result<String, InvalidMessage> {
        let text = std::str::from_utf8(body).map_err(|_| InvalidMessage::NotAnObject)?;
        let heartbeat: Heartbeat = json::object(text)?;
        let id = uuid(heartbeat.user_id, "user_id")?;
        let claimed = display_name(heartbeat.display_name)?;
        let (shortest, longest) = NAME_LENGTH;
        json::check_length(&claimed, "display_name", shortest, longest)?;
        let user = self.users.get(&id);
        let last_seen = cx.timestamp();
        let json_user = UserJson {
            id,
            user_id: id,
            display_name: user.map_or(&claimed, |user| &user.name),
            last_seen: &last_seen,
            status: if user.is_some() { "online" } else { "offline" },
        };
        Ok(serde_json::to_string(&json_user).expect("strings are JSON"))
    }
}
