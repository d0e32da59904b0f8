/** The user that this tab says it is, and the one that it is: a token may say that it is another. */
const ownId = newId();
let userId = ownId;

/** Users that the server has named. Those who have gone are kept if there is a chat with them. */
const users = new Map();

/** The user whose chat is shown. */
let partner = "";

/** Number of the last message that this tab has sent: its id. */
let lastMessage = 0;

const sendMessage = (type, data = {}) => send({ type, data });

function showUser(id, changes) {
  const user = Object.assign(users.get(id) ?? { name: "?", online: true, isTyping: false, unseen: 0 }, changes);
  users.set(id, user);
  if (!user.online && !byId(`chat-${id}`)) {
    users.delete(id);
    return removePerson(id);
  }
  const state = user.online ? ["is-good", "online"] : ["", "offline"];
  const note = user.isTyping ? "is typing …" : user.unseen ? `${user.unseen} new` : "";
  byId("second").classList.toggle("main", users.size === 1);
  if (id !== userId) return showPerson(id, user.name, state, note, ["Chat", () => openChat(id)]);
  const own = showPerson(id, `${user.name} (you)`, state);
  if (own.previousElementSibling) byId("people").prepend(own);
}

/** Returns the list of what was said in the chat with a user. Of the chats that strangers open, the newest are kept. */
function chatWith(id) {
  if (!byId(`chat-${id}`)) {
    const list = element("ol", "talk unread");
    [list.id, list.hidden, list.dataset.user] = [`chat-${id}`, true, id];
    byId("chats").append(list);
    const unread = byId("chats").querySelectorAll(".unread");
    if (unread.length > MAX_LINES) {
      unread[0].remove();
      showUser(unread[0].dataset.user, { unseen: 0 });
    }
  }
  return byId(`chat-${id}`);
}

function showChat(id) {
  partner = id;
  showUser(id, { unseen: 0 });
  byId("partner").textContent = users.get(id).name;
  byId("chat").hidden = false;
  chatWith(id).classList.remove("unread");
  for (const list of byId("chats").children) list.hidden = list !== chatWith(id);
}

function openChat(id) {
  notice();
  showChat(id);
  byId("text").focus();
  sendMessage("OPEN_CHAT", { target_user_id: id, target_display_name: users.get(id).name });
}

/** Shows what has become of a message of this tab. */
const showOutcome = (id, text) => byId(`message-${id}`)?.append(element("small", "author", text));

const onMessage = handleByType({
  HELLO_ACK({ data }) {
    userId = data.user_id;
    partner = "";
    users.clear();
    for (const id of ["people", "chats"]) byId(id).replaceChildren();
    byId("chat").hidden = true;
    setState("joined", "is-good", "Connected");
    byId("second").focus();
  },
  PRESENCE({ data }) {
    for (const { user_id, display_name, online } of data.users) showUser(user_id, { name: display_name, online });
  },
  CHAT_OPENED({ data: { target_user_id, target_display_name } }) {
    say(chatWith(target_user_id).id, "note", "this chat is open");
    // Below one's own row it is seen, however many users there are.
    const item = showUser(target_user_id, { name: target_display_name });
    byId("people").children[1]?.before(item);
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
  const hello = () => sendMessage("HELLO", { user_id: ownId, display_name: name, token: accessToken() || undefined });
  if (!hello()) connect("ws", {}, { onOpen: hello, onMessage, onClose: () => byId("name").focus() });
});
onTyping("text", (is_typing) => sendMessage("TYPING", { is_typing }));
onSubmit("write", ({ text }) => {
  notice();
  if (!sendMessage("MSG", { to: partner, content: text, message_id: `${lastMessage + 1}` })) return;
  say(chatWith(partner).id, "own", text);
  chatWith(partner).lastElementChild.id = `message-${++lastMessage}`;
  byId("text").value = "";
});
byId("leave").addEventListener("click", () => {
  notice();
  disconnect();
});
// "Ping Interval: 15 seconds".
setInterval(() => byId("users").hidden || sendMessage("PING"), 15_000);
byId("name").value = someName();
