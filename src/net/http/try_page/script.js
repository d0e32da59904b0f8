"use strict";

/** Lines that a list keeps, and characters of a text that it shows. */
const MAX_LINES = 200;
const MAX_TEXT = 4000;

/** The meaning of the Close codes of RFC 6455, which need not have a reason. Those from 4000 on always have one. */
const CLOSE_CODES = {
  1000: "done",
  1001: "the server goes away",
  1005: "without a code",
  1006: "refused, or the connection was lost; a browser is not told which, but switchboard's log says why",
  1008: "against the rules",
  1009: "a message was too large",
  1011: "an error in the server",
  1013: "too slow",
};

const byId = (id) => document.getElementById(id);

/** The options of the listener that the protocol's script asks for. */
const options = JSON.parse(document.documentElement.dataset.options);

/** Whether the listener reads access tokens: "absent", "optional" or "required". */
const tokens = document.documentElement.dataset.tokens;

// Elements. What others have written is only ever the text of one.

function element(name, className, ...children) {
  const created = document.createElement(name);
  if (className) created.className = className;
  created.append(...children);
  return created;
}

const shortened = (text) =>
  text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT)} … (${text.length.toLocaleString("en")} characters)`;

/** Appends an item to a list, which forgets the oldest, and scrolls to it unless the reader has scrolled up. */
function appendTo(list, item) {
  const view = list.parentElement;
  const isAtEnd = view.scrollHeight - view.scrollTop - view.clientHeight < 40;
  list.append(item);
  if (list.children.length > MAX_LINES) list.firstElementChild.remove();
  if (isAtEnd) view.scrollTop = view.scrollHeight;
}

/** Appends what somebody has said to a conversation: "own", "other", or a "note" without an author. */
function say(list, kind, text, author = "") {
  const item = element("li", kind);
  if (author) {
    const name = element("strong", "author", author);
    name.dir = "auto";
    item.append(name, " ");
  }
  const words = element("span", "words", shortened(text));
  words.dir = "auto";
  item.append(words);
  appendTo(byId(list), item);
}

/**
 * Shows somebody in the list of people, or what has changed of them: their name, their state as the kind and the text of
 * a badge, and a note. `action` is the text of a button and what it does; it does not change. Returns the item. The
 * style shows the first MAX_LINES; the rest are there, too: whoever comes takes nobody's place.
 */
function showPerson(id, name, [kind, state], note = "", action = null) {
  let item = byId(`person-${id}`);
  if (!item) {
    item = element("li", "", element("strong"), element("span"), element("span", "quiet"));
    item.id = `person-${id}`;
    item.firstElementChild.dir = "auto";
    if (action) {
      const button = element("button", "", action[0], element("span", "unseen", ` ${name}`));
      button.type = "button";
      button.addEventListener("click", action[1]);
      item.append(button);
    }
    byId("people").append(item);
  }
  const [nameText, badge, noteText] = item.children;
  nameText.textContent = name;
  badge.className = `badge ${kind}`;
  badge.textContent = state;
  noteText.textContent = note;
  return item;
}

/** Takes somebody out of the list of people, and returns the name that stood there. */
function removePerson(id) {
  const item = byId(`person-${id}`);
  item?.remove();
  return item?.firstElementChild.textContent;
}

/** Says how many people are not shown. It counts them once after many changes, not at each. */
const countPeople = new MutationObserver(([{ target }]) => {
  const more = target.childElementCount - MAX_LINES;
  byId("more").textContent = more > 0 ? `and ${more.toLocaleString("en")} more` : "";
});
if (byId("people")) countPeople.observe(byId("people"), { childList: true });

/** Tells what went wrong, or nothing. */
function notice(text = "") {
  byId("notice").textContent = text;
  byId("notice").hidden = !text;
}

/** Handles a form: `handle` is called with its fields by name. What goes wrong in it is told. */
function onSubmit(form, handle) {
  byId(form).addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await handle(Object.fromEntries(new FormData(event.target)));
    } catch (error) {
      notice(`That did not work: ${error.message}.`);
    }
  });
}

/** Has a button copy the address of a link. Browsers only let pages copy that came over TLS or from this machine. */
function copiesLink(button, link) {
  const text = byId(button).textContent;
  byId(button).hidden = !navigator.clipboard;
  byId(button).addEventListener("click", async () => {
    await navigator.clipboard.writeText(byId(link).href);
    byId(button).textContent = "Copied";
    setTimeout(() => (byId(button).textContent = text), 3000);
  });
}

/** The form that connects, which the Enter key in the field of the access token submits. */
let firstForm = document.querySelector(".try form").id;

/**
 * Returns what stands behind `#` in the address, of a link that another tab has made for this one, and has the form with
 * this id submitted, but for an access token that is demanded and still to be written. `""`: it is no such link.
 */
function linked(form) {
  const text = location.hash.slice(1);
  if (!text) return "";
  history.replaceState(null, "", location.pathname);
  let decoded;
  try {
    decoded = decodeURIComponent(text);
  } catch {
    return "";
  }
  firstForm = form;
  // The rest of the script comes first.
  setTimeout(() => (tokens === "required" ? byId("token").focus() : byId(form).requestSubmit()));
  return decoded;
}

/**
 * Calls `report` with true when somebody begins to write in a field, and with false when they pause or send it; with
 * true at most five times a minute, as FastChat admits ten of them together.
 */
function onTyping(field, report) {
  let pause = 0;
  let last = -Infinity;
  const stop = () => {
    clearTimeout(pause);
    if (pause) report(false);
    pause = 0;
  };
  byId(field).addEventListener("input", () => {
    if (!pause) {
      if (performance.now() - last < 12_000) return;
      last = performance.now();
      report(true);
    }
    clearTimeout(pause);
    pause = setTimeout(stop, 3000);
  });
  byId(field).form.addEventListener("submit", stop);
}

/** Returns a name to begin with, so that two tabs are told apart. */
function someName() {
  const names = "Ada Alan Barbara Edsger Grace Hedy Katherine Linus Margaret Niklaus Radia Tim".split(" ");
  return `${names[Math.floor(Math.random() * names.length)]} ${Math.floor(Math.random() * 1000)}`;
}

/** Returns a new UUID. `crypto.randomUUID` is only there on pages that came over TLS or from this machine. */
function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** Returns the access token in its field, or "". It may have been copied out of a header. */
const accessToken = () => byId("token").value.trim().replace(/^Bearer\s+/i, "");

/** Returns the `sub` of the access token in its field: who its client is; `undefined`: the token does not say. */
function tokenSubject() {
  try {
    const binary = atob(accessToken().split(".")[1].replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(binary, (byte) => byte.charCodeAt(0)))).sub;
  } catch {
    return undefined;
  }
}

// The messages as they went.

/**
 * Characters that begin a line, change the direction of what follows, or are not seen: a stranger's message could look like
 * other lines. In a message as it went they are shown by their numbers.
 */
const UNSEEN = /[\p{Cc}\p{Cf}\u2028\u2029]/gu;

function toNumber(character) {
  const number = character.codePointAt(0).toString(16);
  return number.length > 4 ? `\\u{${number}}` : `\\u${number.padStart(4, "0")}`;
}

/**
 * Shows a line of the traffic: a message that was "sent" or "received", or a "note" about the connection. The access
 * token is not shown, also as a part of JSON.
 */
function logTraffic(direction, text) {
  const token = accessToken();
  const masked = token ? text.replaceAll(token, "…").replaceAll(JSON.stringify(token).slice(1, -1), "…") : text;
  const now = new Date();
  const milliseconds = String(now.getMilliseconds()).padStart(3, "0");
  const time = element("time", "", `${now.toTimeString().slice(0, 8)}.${milliseconds}`);
  time.dateTime = now.toISOString();
  const arrow = element("span", "arrow");
  arrow.setAttribute("aria-hidden", "true");
  const words = element(direction === "note" ? "span" : "code", "words", shortened(masked).replace(UNSEEN, toNumber));
  const spoken = direction === "note" ? [] : [element("span", "unseen", direction)];
  appendTo(byId("traffic"), element("li", direction, time, " ", arrow, ...spoken, " ", words));
  byId("traffic-empty").hidden = true;
}

// The connection, of which a page has one at a time.

let socket = null;

/**
 * Shows the state of the connection, "closed" or "open", or "joined" where a protocol lets one in by a message, with the
 * kind and the text of a badge. An element with `data-while` is there while the state is one of those it names. Who waits
 * for a connection can try another one: until it is open, it is closed.
 */
function setState(state, kind, text) {
  byId("state").className = `badge ${kind}`;
  byId("state").textContent = text;
  for (const part of document.querySelectorAll("[data-while]")) {
    part.hidden = !part.dataset.while.split(" ").includes(state);
  }
}

/** Returns the code of a Close frame with its reason in words. */
function closeText({ code, reason }) {
  return `${code}: ${reason || CLOSE_CODES[code] || "without a reason"}`;
}

/** The parameters that are secrets, in a URL. */
const SECRETS = /([?&](?:access_token|token)=)[^&]*/g;

/**
 * Connects to a path of this server, with the parameters that have a value. `onMessage` is called with each text,
 * `onOpen` and `onClose` as those of a WebSocket.
 */
function connect(path, parameters, { onOpen = () => {}, onMessage, onClose = () => {} }) {
  disconnect();
  notice();
  const url = new URL(path, location.href.replace(/^http/, "ws"));
  for (const [name, value] of Object.entries(parameters)) {
    if (value) url.searchParams.set(name, value);
  }
  const own = (socket = new WebSocket(url));
  const whileCurrent = (handle) => (event) => own === socket && handle(event);
  setState("closed", "is-caution", "Connecting");
  logTraffic("note", `connects to ${url.href.replace(SECRETS, "$1…")}`);
  own.addEventListener("open", whileCurrent(() => {
    setState("open", "is-good", "Connected");
    logTraffic("note", "connected");
    onOpen();
  }));
  own.addEventListener("message", whileCurrent(({ data }) => {
    logTraffic("received", data);
    onMessage(data);
  }));
  own.addEventListener("close", whileCurrent((event) => {
    socket = null;
    const text = closeText(event);
    setState("closed", event.code === 1000 ? "" : "is-bad", `Closed with ${event.code} ${event.reason}`.trim());
    logTraffic("note", `closed with ${text}`);
    if (event.code !== 1000) notice(`Closed with ${text}.`);
    onClose(event);
  }));
}

/** Returns an `onMessage` that calls the handler of a JSON message's `type`, if there is one, with the message. */
const handleByType = (handlers) => (text) => {
  const message = JSON.parse(text);
  handlers[message.type]?.(message);
};

/** Sends a text, or an object as JSON. Returns whether there is a connection for it. */
function send(message) {
  if (socket?.readyState !== WebSocket.OPEN) return false;
  const text = typeof message === "string" ? message : JSON.stringify(message);
  logTraffic("sent", text);
  socket.send(text);
  return true;
}

/** Closes the connection. Its `onClose` follows. */
function disconnect() {
  socket?.close(1000);
}

setState("closed", "", "Not connected");
byId("token").addEventListener("keydown", ({ key }) => key === "Enter" && !socket && byId(firstForm).requestSubmit());
byId("token-field").hidden = tokens === "absent";
byId("token-need").textContent = tokens === "required" ? "this listener demands one" : "if you have one";

