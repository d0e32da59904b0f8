/** The second message to whoever created the session, when the peer joins. */
const PEER_JOINED = "the other guy joined";

/** Whether the first message, the code, has come; whether the peer is there; whether this tab has created the session. */
let hasCode, hasPeer, isCreator;

function begin(path) {
  [hasCode, hasPeer, isCreator] = [false, false, path === "ws/chat"];
  connect(path, { access_token: accessToken() }, { onMessage, onClose });
}

function onMessage(text) {
  if (!hasCode) {
    hasCode = true;
    byId("session-code").textContent = text;
    byId("link").href = `#${text}`;
    showPeer(!isCreator);
  } else if (isCreator && !hasPeer && text === PEER_JOINED) {
    showPeer(true);
  } else {
    say("talk", "other", text);
  }
}

function showPeer(isThere) {
  hasPeer = isThere;
  byId("peer").textContent = isThere ? "Your peer is here: write to each other." : "Waiting for your peer.";
  byId("invitation").hidden = isThere;
  if (isThere) {
    byId("conversation").hidden = false;
    say("talk", "note", "you are connected");
    byId("text").focus();
  } else {
    byId("link").focus();
  }
}

function onClose(event) {
  if (hasPeer) say("talk", "note", `the session has ended: ${closeText(event)}`);
  hasPeer = false;
  byId("code").focus();
}

onSubmit("create", () => begin("ws/chat"));
onSubmit("join", ({ code }) => begin(`ws/chat/${encodeURIComponent(code.trim())}`));
onSubmit("write", ({ text }) => {
  if (!hasPeer || !send(text)) return notice("Nobody is there to read it: create or join a session first.");
  say("talk", "own", text);
  byId("text").value = "";
});
byId("leave").addEventListener("click", disconnect);
copiesLink("copy", "link");
byId("code").value = linked("join");
