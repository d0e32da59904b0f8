/** The kinds of the badges of the statuses. That of a user who was there before this tab is not known. */
const STATUS_KINDS = { online: "is-good", away: "is-caution", busy: "is-bad", offline: "", "": "" };

/** The user of this tab, and how many of its messages the server has not answered yet. */
let ownId = "";
let unanswered = 0;

/** Users of whom this tab has heard: the server names nobody at the beginning. */
const users = new Map();

function showUser(id, changes) {
  const user = Object.assign(users.get(id) ?? { status: "", isTyping: false }, changes);
  users.set(id, user);
  const name = id === ownId ? `${user.username} (you)` : user.username;
  showPerson(id, name, [STATUS_KINDS[user.status], user.status], user.isTyping ? "is typing …" : "");
  byId("second").classList.toggle("main", users.size === 1);
}

const onMessage = handleByType({
  connected({ userId, username, connectedUsers }) {
    [ownId, unanswered] = [userId, 0];
    users.clear();
    byId("people").replaceChildren();
    showUser(userId, { username, status: "online" });
    byId("status").value = "online";
    const others = connectedUsers === 2 ? "1 other was" : `${connectedUsers - 1} others were`;
    byId("count").textContent =
      connectedUsers > 1
        ? `${others} here when you came. Each is shown once they do something. A closed tab may count for some seconds.`
        : "Nobody else was here when you came.";
    byId("conversation").hidden = false;
    byId(connectedUsers > 1 ? "text" : "second").focus();
  },
  "message:new"({ data: { userId, username, text } }) {
    showUser(userId, { username });
    if (userId !== ownId) return say("talk", "other", text, username);
    // All connections with one username are one user, and the server does not say which has written.
    say("talk", "own", text, unanswered ? "" : "from another connection of yours");
    unanswered = Math.max(0, unanswered - 1);
  },
  "presence:update"({ data: { userId, username, status } }) {
    say("talk", "note", `is ${status}`, username);
    if (status !== "offline") showUser(userId, { username, status });
    else if (users.delete(userId)) removePerson(userId);
  },
  "typing:indicator"({ data: { userId, username, isTyping } }) {
    if (isTyping || users.has(userId)) showUser(userId, { username, isTyping });
  },
  error({ code, message }) {
    unanswered = Math.max(0, unanswered - 1);
    notice(`${code}: ${message}`);
  },
});

function onClose(event) {
  say("talk", "note", event.code === 1000 ? "you have left the room" : `you are out of the room: ${closeText(event)}`);
  byId("username").focus();
}

onSubmit("join", ({ username }) => connect("ws", { username, access_token: accessToken() }, { onMessage, onClose }));
onTyping("text", (isTyping) => send({ type: "typing:indicator", isTyping }));
onSubmit("write", ({ text }) => {
  notice();
  if (!send({ type: "message:send", text })) return;
  unanswered += 1;
  byId("text").value = "";
});
byId("status").addEventListener("change", ({ target: { value: status } }) => {
  if (send({ type: "presence:update", status })) showUser(ownId, { status });
});
byId("leave").addEventListener("click", () => {
  notice();
  disconnect();
});
// Two tabs with one name would be one user.
byId("username").value = someName();
