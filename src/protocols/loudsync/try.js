/** Milliseconds between two heartbeats: "Every 5 seconds", or more often where the listener's timeout is shorter. */
const INTERVAL = Math.min(5000, (options.heartbeat_timeout * 1000) / 3);

/** The device of this tab, unless its token names it, and the member that it is. */
const deviceId = newId();
let clientId = "";
let isHost = false;

/** The timer of the heartbeats and pings, and whether heartbeats are sent. */
let timer = 0;
let isBeating = true;

const sendMessage = (type, fields = {}) => send({ type, timestamp: Date.now(), ...fields });
const happened = (text, name) => say("happened", "note", text, name);

/** Joins the session as its "host" or as a "client". A JOIN that was refused can be sent again on its connection. */
function join(type) {
  notice();
  isHost = type === "host";
  const token = accessToken();
  // The `sub` of a token is the device's ID: JOIN must have no other then.
  const id = tokenSubject() === undefined ? deviceId : undefined;
  const deviceInfo = { id, name: byId("name").value || undefined, type };
  const sessionId = byId("session-id").value;
  const sendJoin = () => sendMessage("join", { sessionId, deviceInfo, token: token || undefined });
  if (!sendJoin()) connect("./", {}, { onOpen: sendJoin, onMessage, onClose });
}

function showMember({ id, name, isHost: isTheHost, connectionStatus, latency }) {
  const kind = connectionStatus === "connected" ? "is-good" : "is-caution";
  const note = [isTheHost ? "host" : "guest", ...(latency === undefined ? [] : [`${latency} ms`])].join(", ");
  const kick = ["Remove", () => sendMessage("kick", { memberId: id, reason: "you were too loud" })];
  if (id === clientId) showPerson(id, `${name} (you)`, [kind, connectionStatus], note);
  else showPerson(id, name, [kind, connectionStatus], note, isHost && kick);
}

function beat() {
  if (isBeating) sendMessage("heartbeat");
  sendMessage("ping");
}

const onMessage = handleByType({
  welcome({ clientId: id, sessionInfo }) {
    clientId = id;
    byId("session-code").textContent = sessionInfo.id;
    byId("session-name").textContent = sessionInfo.name;
    byId("link").href = `#${sessionInfo.id}`;
    byId("events").hidden = false;
    isBeating = true;
    setState("joined", "is-good", "Connected");
    byId("link").focus();
    happened(isHost ? "you have opened the session" : "you have joined the session");
    beat();
  },
  member_list({ members }) {
    byId("people").replaceChildren();
    members.forEach(showMember);
  },
  member_joined({ member }) {
    showMember(member);
    happened("has joined", member.name);
  },
  member_left: ({ memberId, reason }) => happened(`is gone: ${reason}`, removePerson(memberId)),
  kicked: ({ reason }) => happened(`the host has removed you: ${reason}`),
  session_closed: ({ reason }) => happened(`the session is closed: ${reason}`),
  pong({ timestamp }) {
    const timeout = options.heartbeat_timeout;
    const beats = isBeating
      ? `Heartbeats run by themselves, every ${INTERVAL / 1000} s. Without them the server closes after ${timeout} s`
      : `No heartbeats run: the server closes ${timeout} s after the last one`;
    byId("beats").textContent = `${beats}. The last ping took ${Date.now() - timestamp} ms.`;
    byId("stop").textContent = isBeating ? "Stop the heartbeats" : "Start the heartbeats";
    // In a hidden tab a timer that a timer has set waits for up to a minute, one that a message has set for a second.
    clearTimeout(timer);
    timer = setTimeout(beat, INTERVAL);
  },
  error: ({ code, message }) => notice(`${code}: ${message}`),
});

function onClose(event) {
  clearTimeout(timer);
  if (clientId) happened(`you are out: ${event.reason || closeText(event)}`);
  if (event.code === 4408 && isBeating) notice("Closed with 4408: the browser has halted this tab. Keep it in view.");
  clientId = "";
  byId("session-id").focus();
}

onSubmit("host", () => join("host"));
onSubmit("guest", () => join("client"));
byId("list").addEventListener("click", () => sendMessage("member_list"));
byId("leave").addEventListener("click", () => sendMessage("leave", { reason: "left by hand" }));
byId("stop").addEventListener("click", () => {
  isBeating = !isBeating;
  beat();
});
copiesLink("copy", "link");
byId("name").value = someName();
byId("session-id").value = linked("guest") || `party-${Math.floor(1000 + Math.random() * 9000)}`;
