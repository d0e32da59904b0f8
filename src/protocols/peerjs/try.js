/** Milliseconds between two heartbeats: a third of the `alive_timeout`, if there is one, and at most half a minute. */
const HEARTBEAT_INTERVAL = Math.min(30_000, (options.alive_timeout * 1000) / 3);

/** The id that is called once this tab is connected: that of the tab whose link was followed. */
let wanted = linked("begin");

/** The call: the id of the other, its own id, the RTCPeerConnection, the RTCDataChannel, its timeout, and its last step. */
let call = null;

/** This tab's id, what the server has against it, and the timer of the heartbeats. */
let ownId, problem, heartbeat;

/** Returns an id that nobody has. */
const freeId = () => fetch(`${encodeURIComponent(options.key)}/id`).then((it) => (it.ok ? it.text() : newId()));

const isOfCall = ({ src, payload }) => src === call?.other && payload?.connectionId === call.id;

const onMessage = handleByType({
  OPEN() {
    if (HEARTBEAT_INTERVAL) heartbeat = setInterval(() => send({ type: "HEARTBEAT" }), HEARTBEAT_INTERVAL);
    byId("own-id").textContent = ownId;
    byId("link").href = `#${encodeURIComponent(ownId)}`;
    byId("other").focus();
    if (wanted) offer(wanted);
    wanted = "";
  },
  ERROR: ({ payload }) => (problem = payload.msg),
  "ID-TAKEN": ({ payload }) => (problem = payload.msg),
  OFFER: ({ src, payload }) => (call ? say("talk", "note", `${src} calls, too, and is not answered`) : answer(src, payload)),
  ANSWER: (message) => isOfCall(message) && next(({ rtc }) => rtc.setRemoteDescription(message.payload.sdp)),
  CANDIDATE: (message) => isOfCall(message) && next(({ rtc }) => rtc.addIceCandidate(message.payload.candidate)),
  LEAVE: ({ src }) => src === call?.other && endCall(`${src} has hung up`),
  EXPIRE: ({ src }) => src === call?.other && endCall(`nobody has the id ${src}`),
});

function onClose(event) {
  clearInterval(heartbeat);
  endCall("the connection to the server has ended");
  if (problem) notice(`Closed with ${event.code}: ${problem}.`);
  byId("id").focus();
}

/** Has WebRTC take the next step of the call after the last one. A step that fails ends the call. */
function next(step) {
  const own = call;
  const fail = ({ message }) => own === call && endCall(message);
  own.steps = own.steps.then(() => own === call && step(own)).catch(fail);
}

/** Makes this side of a call, and says so. */
function prepare(other, id, news) {
  const rtc = new RTCPeerConnection({ iceServers: [] });
  const tell = (type, fields) => send({ type, dst: other, payload: { type: "data", connectionId: id, ...fields } });
  const own = (call = { other, id, rtc, tell, steps: Promise.resolve() });
  own.timeout = setTimeout(endCall, 10_000, `there is no connection to ${other}, who may be in another call`);
  rtc.onicecandidate = ({ candidate }) => candidate && own === call && tell("CANDIDATE", { candidate });
  rtc.onconnectionstatechange = () => rtc.connectionState === "failed" && endCall("the browsers do not reach each other");
  rtc.ondatachannel = ({ channel }) => use(channel, own);
  byId("conversation").hidden = byId("hang-up").disabled = false;
  say("talk", "note", news);
}

/** Uses a data channel for what is written. Only the first of a call counts. */
function use(channel, own) {
  if (own.channel) return channel.close();
  own.channel = channel;
  channel.binaryType = "arraybuffer";
  channel.onopen = () => {
    clearTimeout(own.timeout);
    say("talk", "note", `the data channel with ${own.other} is open`);
    byId("text").focus();
  };
  const shown = (data) => (typeof data === "string" ? data : `${data.byteLength} bytes`);
  channel.onmessage = ({ data }) => say("talk", "other", shown(data), own.other);
  channel.onclose = () => own === call && endCall(`${own.other} has hung up`);
}

function offer(other) {
  endCall("you call another");
  prepare(other, `dc_${newId()}`, `calling ${other} …`);
  use(call.rtc.createDataChannel(call.id), call);
  next(async ({ id, rtc, tell }) => {
    await rtc.setLocalDescription();
    tell("OFFER", { label: id, serialization: "raw", reliable: true, sdp: rtc.localDescription });
  });
}

function answer(other, payload) {
  prepare(other, payload?.connectionId, `${other} calls`);
  next(async ({ rtc, tell }) => {
    await rtc.setRemoteDescription(payload.sdp);
    await rtc.setLocalDescription();
    tell("ANSWER", { sdp: rtc.localDescription });
  });
}

function endCall(reason) {
  const ended = call;
  call = null;
  byId("hang-up").disabled = true;
  if (ended) say("talk", "note", `the call has ended: ${reason}`);
  clearTimeout(ended?.timeout);
  ended?.rtc.close();
}

function hangUp() {
  if (call) send({ type: "LEAVE", dst: call.other });
  endCall("you have hung up");
}

onSubmit("begin", async ({ id }) => {
  [ownId, problem] = [id.trim() || tokenSubject() || (await freeId()), ""];
  connect("peerjs", { key: options.key, id: ownId, token: newId(), access_token: accessToken() }, { onMessage, onClose });
});
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
