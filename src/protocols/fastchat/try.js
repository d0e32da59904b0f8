/** The user that this tab says it is, and the one that it is: a token may say that it is another. */
const ownId = newId();
let userId = ownId;

/** Users that the server has named. Those who have gone are kept if there is a chat with them. */
const users = new Map();

/** The user whose chat is shown. */
let partner = "";

/** Number of the last message that this tab has sent: its id. */
let lastMessage = 0;

const tell = (type, data = {}) => send({ type, data });

function showUser(id, changes) {
  const user = Object.assign(users.get(id) ?? { name: "?", online: true, isTyping: false, unseen: 0 }, changes);
  users.set(id, user);
  const state = user.online ? ["is-good", "online"] : ["", "offline"];
  const note = user.isTyping ? "is typing …" : user.unseen ? `${user.unseen} new` : "";
  if (id === userId) showPerson(id, `${user.name} (you)`, state);
  else showPerson(id, user.name, state, note, ["Chat", () => openChat(id)]);
  byId("second").classList.toggle("main", users.size === 1);
}

/** Returns the list of what was said in the chat with a user. */
function chatWith(id) {
  if (!byId(`chat-${id}`)) {
    const list = element("ol", "talk");
    [list.id, list.hidden] = [`chat-${id}`, true];
    appendTo(byId("chats"), list);
  }
  return byId(`chat-${id}`);
}

function showChat(id) {
  partner = id;
  showUser(id, { unseen: 0 });
  byId("partner").textContent = users.get(id).name;
  byId("chat").hidden = false;
  for (const list of byId("chats").children) list.hidden = list !== chatWith(id);
}

function openChat(id) {
  notice();
  chatWith(id);
  showChat(id);
  byId("text").focus();
  tell("OPEN_CHAT", { target_user_id: id, target_display_name: users.get(id).name });
}

/** Shows what has become of a message of this tab. */
const showOutcome = (id, text) => byId(`message-${id}`)?.append(element("small", "author", text));

function showRegistered(isRegistered) {
  byId("hello").hidden = isRegistered;
  byId("users").hidden = !isRegistered;
  byId(isRegistered ? "second" : "name").focus();
}

const onMessage = handleByType({
  HELLO_ACK({ data }) {
    userId = data.user_id;
    users.clear();
    byId("people").replaceChildren();
    showRegistered(true);
  },
  PRESENCE({ data }) {
    for (const { user_id, display_name, online } of data.users) {
      if (online || byId(`chat-${user_id}`)) showUser(user_id, { name: display_name, online });
      else if (users.delete(user_id)) removePerson(user_id);
    }
  },
  CHAT_OPENED({ data: { target_user_id, target_display_name } }) {
    say(chatWith(target_user_id).id, "note", "this chat is open");
    showUser(target_user_id, { name: target_display_name });
    if (!partner) showChat(target_user_id);
  },
  MSG({ data: { from, content } }) {
    say(chatWith(from).id, "other", content);
    if (from !== partner) showUser(from, { unseen: (users.get(from)?.unseen ?? 0) + 1 });
  },
  TYPING: ({ data: { user_id, is_typing } }) => showUser(user_id, { isTyping: is_typing }),
  MSG_ACK: ({ data: { message_id, status } }) => showOutcome(message_id, status),
  ERROR({ data: { code, message, details } }) {
    showOutcome(details.message_id, code);
    notice(`${code}: ${message}`);
  },
});

// A HELLO that was refused can be sent again on the same connection.
onSubmit("hello", ({ name }) => {
  notice();
  const hello = () => tell("HELLO", { user_id: ownId, display_name: name, token: accessToken() || undefined });
  if (!hello()) connect("ws", {}, { onOpen: hello, onMessage, onClose: () => showRegistered(false) });
});
onTyping("text", (is_typing) => tell("TYPING", { is_typing }));
onSubmit("write", ({ text }) => {
  notice();
  if (!tell("MSG", { to: partner, content: text, message_id: `${lastMessage + 1}` })) return notice("Connect first.");
  say(chatWith(partner).id, "own", text);
  chatWith(partner).lastElementChild.id = `message-${++lastMessage}`;
  byId("text").value = "";
});
byId("leave").addEventListener("click", disconnect);
// "Ping Interval: 15 seconds".
setInterval(() => byId("users").hidden || tell("PING"), 15_000);
byId("name").value = someName();
