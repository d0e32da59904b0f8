/** The kinds of the badges of the statuses. That of a user who was there before this tab is not known. */
const STATUS_KINDS = { online: "is-good", away: "is-caution", busy: "is-bad", offline: "", "": "" };

/** The user of this tab. */
let self = "";

/** Users of whom this tab has heard: the server names nobody at the beginning. */
const users = new Map();

function showUser(id, changes) {
  const user = Object.assign(users.get(id) ?? { status: "", isTyping: false }, changes);
  users.set(id, user);
  const name = id === self ? `${user.username} (you)` : user.username;
  showPerson(id, name, [STATUS_KINDS[user.status], user.status], user.isTyping ? "is typing …" : "");
  byId("second").classList.toggle("main", users.size === 1);
}

const onMessage = handleByType({
  connected({ userId, username, connectedUsers }) {
    self = userId;
    users.clear();
    byId("people").replaceChildren();
    showUser(userId, { username, status: "online" });
    byId("status").value = "online";
    byId("count").textContent =
      connectedUsers > 1
        ? `When you came, there were ${connectedUsers} with you. The others appear here once they do something.`
        : "Nobody else was here when you came.";
    byId("conversation").hidden = false;
    byId(connectedUsers > 1 ? "text" : "second").focus();
  },
  "message:new"({ data: { userId, username, text } }) {
    showUser(userId, { username });
    if (userId === self) say("talk", "own", text);
    else say("talk", "other", text, username);
  },
  "presence:update"({ data: { userId, username, status } }) {
    say("talk", "note", `is ${status}`, username);
    if (status !== "offline") showUser(userId, { username, status });
    else if (users.delete(userId)) removePerson(userId);
  },
  "typing:indicator"({ data: { userId, username, isTyping } }) {
    if (isTyping || users.has(userId)) showUser(userId, { username, isTyping });
  },
  error: ({ code, message }) => notice(`${code}: ${message}`),
});

function onClose(event) {
  say("talk", "note", `you have left the room: ${closeText(event)}`);
  byId("username").focus();
}

onSubmit("join", ({ username }) => connect("ws", { username, access_token: accessToken() }, { onMessage, onClose }));
onTyping("text", (isTyping) => send({ type: "typing:indicator", isTyping }));
onSubmit("write", ({ text }) => {
  notice();
  if (send({ type: "message:send", text })) byId("text").value = "";
  else notice("Join the room first.");
});
byId("status").addEventListener("change", ({ target: { value: status } }) => {
  if (send({ type: "presence:update", status })) showUser(self, { status });
});
byId("leave").addEventListener("click", disconnect);
// Two tabs with one name would be one user.
byId("username").value = someName();
