/** Time between two heartbeats in milliseconds: a third of the `alive_timeout`, after which the server closes. */
const HEARTBEAT_INTERVAL = 30_000;

/** The id that is called once this tab is connected: that of the tab whose link was followed. */
let wanted = linked("begin");

/** The call: the id of the other, its own id, the RTCPeerConnection and the RTCDataChannel. */
let call = null;

/** This tab's id, what the server has against it, and the end of the messages that WebRTC takes one after another. */
let ownId, problem, handled, heartbeat;

async function begin({ id }) {
  ownId = id.trim() || (await (await fetch(`${encodeURIComponent(options.key)}/id`)).text());
  [problem, handled] = ["", Promise.resolve()];
  const token = Math.random().toString(36).slice(2);
  connect("peerjs", { key: options.key, id: ownId, token, access_token: accessToken() }, { onMessage, onClose });
}

function onMessage(text) {
  const message = JSON.parse(text);
  handled = handled.then(() => handle(message)).catch((error) => notice(`${message.type}: ${error.message}`));
}

async function handle({ type, src, payload }) {
  if (type === "OPEN") {
    heartbeat = setInterval(() => send({ type: "HEARTBEAT" }), HEARTBEAT_INTERVAL);
    byId("own-id").textContent = ownId;
    byId("link").href = `#${encodeURIComponent(ownId)}`;
    byId("other").focus();
    if (wanted) await offer(wanted);
    wanted = "";
  } else if (type === "ERROR" || type === "ID-TAKEN") {
    problem = payload.msg;
  } else if (type === "OFFER") {
    await answer(src, payload);
  } else if (src === call?.other) {
    if (type === "ANSWER") await call.rtc.setRemoteDescription(payload.sdp);
    if (type === "CANDIDATE") await call.rtc.addIceCandidate(payload.candidate);
    if (type === "LEAVE") endCall(`${src} has hung up`);
    if (type === "EXPIRE") endCall(`nobody has the id ${src}`);
  }
}

function onClose(event) {
  clearInterval(heartbeat);
  endCall("the connection to the server has ended");
  if (problem) notice(`Closed with ${event.code}: ${problem}.`);
  byId("id").focus();
}

/** Makes this side of a call, and says so. */
function prepare(other, id, news) {
  const rtc = new RTCPeerConnection({ iceServers: [] });
  const tell = (type, fields) => send({ type, dst: other, payload: { type: "data", connectionId: id, ...fields } });
  call = { other, id, rtc, tell };
  rtc.onicecandidate = ({ candidate }) => candidate && call?.rtc === rtc && tell("CANDIDATE", { candidate });
  rtc.onconnectionstatechange = () => rtc.connectionState === "failed" && endCall("the browsers do not reach each other");
  byId("conversation").hidden = byId("hang-up").disabled = false;
  say("talk", "note", news);
  return call;
}

function use(channel, { other, rtc }) {
  call.channel = channel;
  channel.onopen = () => {
    say("talk", "note", `the data channel with ${other} is open`);
    byId("text").focus();
  };
  channel.onmessage = ({ data }) => say("talk", "other", String(data), other);
  channel.onclose = () => call?.rtc === rtc && endCall(`${other} has hung up`);
}

async function offer(other) {
  endCall("you call another");
  const { id, rtc, tell } = prepare(other, `dc_${Math.random().toString(36).slice(2)}`, `you call ${other}`);
  use(rtc.createDataChannel(id), call);
  await rtc.setLocalDescription();
  tell("OFFER", { label: id, serialization: "raw", reliable: true, sdp: rtc.localDescription });
}

async function answer(other, { connectionId, sdp }) {
  if (call) return say("talk", "note", `${other} calls, too, and is not answered`);
  const { rtc, tell } = prepare(other, connectionId, `${other} calls`);
  rtc.ondatachannel = ({ channel }) => use(channel, call);
  await rtc.setRemoteDescription(sdp);
  await rtc.setLocalDescription();
  tell("ANSWER", { sdp: rtc.localDescription });
}

function endCall(reason) {
  const ended = call;
  call = null;
  byId("hang-up").disabled = true;
  if (ended) say("talk", "note", `the call has ended: ${reason}`);
  ended?.rtc.close();
}

function hangUp() {
  if (call) send({ type: "LEAVE", dst: call.other });
  endCall("you have hung up");
}

onSubmit("begin", begin);
onSubmit("call", ({ other }) => offer(other.trim()));
onSubmit("write", ({ text }) => {
  if (call?.channel?.readyState !== "open") return notice("There is no data channel yet: call an id first.");
  call.channel.send(text);
  say("talk", "own", text);
  byId("text").value = "";
});
byId("hang-up").addEventListener("click", hangUp);
byId("leave").addEventListener("click", disconnect);
addEventListener("pagehide", hangUp);
copiesLink("copy", "link");
