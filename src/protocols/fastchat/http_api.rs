//! The two HTTP endpoints that FastChat's published front end uses beside its WebSocket. Both are
//! answered from the live connections, and change nothing.

use super::FastChat;
use super::codec_flat::NAME_LENGTH;
use super::fields::{display_name, uuid};
use crate::realm::{Body, ConnectRequest, Context, HttpReply, Method, Rejection, Request};
use crate::toolkit::json::{self, InvalidMessage};
use serde::Serialize;
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
    /// The response with all users, up to the end of the last one.
    users: Arc<str>,
    /// The byte range of each user in `users`, with the comma that goes with it.
    ranges: BTreeMap<Uuid, Range<usize>>,
}

impl OnlineList {
    /// Returns the response, without the user in this range. It shares the text of the list.
    fn without(&self, excluded: Option<Range<usize>>) -> Body {
        let count = self.ranges.len() - usize::from(excluded.is_some());
        let end = self.users.len();
        let excluded = excluded.unwrap_or(end..end);
        let mut body = Body::default();
        body.push(&self.users, 0..excluded.start);
        body.push(&self.users, excluded.end..end);
        let tail: Arc<str> = format!("],\"count\":{count}}}").into();
        body.push(&tail, 0..tail.len());
        body
    }
}

impl FastChat {
    /// Answers a plain HTTP request.
    pub(super) fn handle_request(&mut self, cx: &Context, request: &Request) -> HttpReply {
        let endpoint = (request.connect.path.as_str(), request.method);
        let access = request.connect.access.claims(None, cx.wall);
        if let (
            ("/presence/online", Method::Get) | ("/presence/heartbeat", Method::Post),
            Err(problem),
        ) = (endpoint, access)
        {
            return HttpReply::Rejected(Rejection {
                status: 401,
                text: problem.text(),
            });
        }
        match endpoint {
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
    /// different lists are in flight to slow clients, no new list is made.
    fn handle_online(&mut self, cx: &Context, request: &ConnectRequest) -> HttpReply {
        let version = self.presence_changes.version();
        let is_current =
            |list: &OnlineList| list.version == version && cx.now < list.created_at + LIST_LIFETIME;
        let has_capacity = self.in_flight_lists.has_capacity();
        let list = self.online_list.take();
        let list = list.filter(|list| is_current(list) || !has_capacity);
        let list = list.unwrap_or_else(|| {
            let list = self.build_online_list(cx);
            self.in_flight_lists.add(&list.users);
            list
        });
        let excluded = request.parameter("exclude_user_id");
        let excluded = excluded.and_then(|id| Uuid::try_parse(&id).ok());
        let excluded = excluded.and_then(|id| list.ranges.get(&id));
        let body = list.without(excluded.cloned());
        self.online_list = Some(list);
        HttpReply::Ok {
            content_type: JSON,
            body,
        }
    }

    /// Encodes the list of users online.
    fn build_online_list(&self, cx: &Context) -> OnlineList {
        let last_seen = cx.timestamp();
        let mut users = br#"{"users":["#.to_vec();
        let mut ranges: BTreeMap<Uuid, Range<usize>> = BTreeMap::new();
        let mut first: Option<Uuid> = None;
        for (&id, user) in &self.users {
            let json_user = UserJson {
                id,
                user_id: id,
                display_name: &user.name,
                last_seen: &last_seen,
                status: "online",
            };
            let start = users.len();
            match first {
                None => first = Some(id),
                Some(_) => users.push(b','),
            }
            serde_json::to_writer(&mut users, &json_user).expect("strings are JSON");
            ranges.insert(id, start..users.len());
        }
        // The comma before the second user goes with the first, which has none before it.
        if let (Some(first), true) = (first, ranges.len() > 1) {
            if let Some(range) = ranges.get_mut(&first) {
                range.end += 1;
            }
        }
        let users = String::from_utf8(users).expect("JSON is UTF-8");
        OnlineList {
            created_at: cx.now,
            version: self.presence_changes.version(),
            users: users.into(),
            ranges,
        }
    }

    /// Returns the user that a heartbeat names, as JSON. The name is that of HELLO if the user is online.
    fn handle_heartbeat(&self, cx: &Context, body: &[u8]) -> Result<String, InvalidMessage> {
        let text = std::str::from_utf8(body).map_err(|_| InvalidMessage::NotAnObject)?;
        let heartbeat = json::Fields::read(text, &["user_id", "display_name"])?;
        let id = uuid(&heartbeat, "user_id")?;
        let claimed = display_name(&heartbeat)?;
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
