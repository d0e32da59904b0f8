/** Milliseconds between two heartbeats: "Every 5 seconds", or more often where the listener's timeout is shorter. */
const INTERVAL = Math.min(5000, (options.heartbeat_timeout * 1000) / 3);

/** The device of this tab, unless its token names it, and the member that it is. */
const deviceId = newId();
let clientId = "";
let isHost = false;

/** The timer of the heartbeats and pings, and whether heartbeats are sent. */
let timer = 0;
let isBeating = true;

const tell = (type, fields = {}) => send({ type, timestamp: Date.now(), ...fields });
const happened = (text, name) => say("happened", "note", text, name);

/** Joins the session as its "host" or as a "client". A JOIN that was refused can be sent again on its connection. */
function join(type) {
  notice();
  isHost = type === "host";
  const token = accessToken();
  // The `sub` of a token is the device's ID: JOIN must have no other then.
  const id = tokenSubject() === undefined ? deviceId : undefined;
  const deviceInfo = { id, name: byId("name").value || undefined, type };
  const sendJoin = () => tell("join", { sessionId: byId("session-id").value, deviceInfo, token: token || undefined });
  if (!sendJoin()) connect("./", {}, { onOpen: sendJoin, onMessage, onClose });
}

function showJoined(isJoined) {
  byId("begin").hidden = isJoined;
  byId("session").hidden = !isJoined;
  byId(isJoined ? "link" : "session-id").focus();
}

function showMember({ id, name, isHost: isTheHost, connectionStatus, latency }) {
  const kind = connectionStatus === "connected" ? "is-good" : "is-caution";
  const note = [isTheHost ? "host" : "guest", ...(latency === undefined ? [] : [`${latency} ms`])].join(", ");
  const kick = ["Remove", () => tell("kick", { memberId: id, reason: "you were too loud" })];
  if (id === clientId) showPerson(id, `${name} (you)`, [kind, connectionStatus], note);
  else showPerson(id, name, [kind, connectionStatus], note, isHost && kick);
}

function beat() {
  if (isBeating) tell("heartbeat");
  tell("ping");
}

const onMessage = handleByType({
  welcome({ clientId: id, sessionInfo }) {
    clientId = id;
    byId("session-code").textContent = sessionInfo.id;
    byId("session-name").textContent = sessionInfo.name;
    byId("link").href = `#${sessionInfo.id}`;
    byId("events").hidden = false;
    isBeating = true;
    byId("stop").disabled = false;
    clearInterval(timer);
    timer = setInterval(beat, INTERVAL);
    showJoined(true);
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
    const beats = isBeating ? `Heartbeats run by themselves, every ${INTERVAL / 1000} s` : "No heartbeats run";
    byId("beats").textContent = `${beats}. The last ping took ${Date.now() - timestamp} ms.`;
  },
  error: ({ code, message }) => notice(`${code}: ${message}`),
});

function onClose(event) {
  clearInterval(timer);
  happened(`you are out: ${closeText(event)}`);
  showJoined(false);
}

onSubmit("host", () => join("host"));
onSubmit("guest", () => join("client"));
byId("list").addEventListener("click", () => tell("member_list"));
byId("leave").addEventListener("click", () => tell("leave", { reason: "left by hand" }));
byId("stop").addEventListener("click", () => {
  isBeating = false;
  byId("stop").disabled = true;
});
copiesLink("copy", "link");
byId("name").value = someName();
byId("session-id").value = linked("guest") || `party-${Math.floor(1000 + Math.random() * 9000)}`;
