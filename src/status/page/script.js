"use strict";

/** Time between an answer and the next question, and the longest wait for an answer, in milliseconds. */
const INTERVAL = 1000;
const TIMEOUT = 5000;

/** How long the page says that there are answers again, in milliseconds. */
const BACK_SHOWN = 15000;

/** Seconds that a chart shows, and seconds of which each of its points is the average: else it is all spikes. */
const CHART_SECONDS = 300;
const AVERAGE_SECONDS = 5;

/** Shares of a limit from which a meter has the colours of caution and of alarm. */
const HIGH = 0.75;
const ALARM = 0.9;

const byId = (id) => document.getElementById(id);

// Numbers and times in words.

const number = new Intl.NumberFormat();
const dateAndTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const timeOnly = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

const count = (value) => (Number.isFinite(value) ? number.format(value) : "–");

function bytes(value) {
  if (!Number.isFinite(value)) return "–";
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit > 0 && value < 100 ? 1 : 0;
  return `${value.toLocaleString(undefined, { maximumFractionDigits: digits })} ${units[unit]}`;
}

/** Returns a time in its largest units: "2 h 13 min". */
function duration(seconds, parts = 2) {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = units.findIndex(([, length]) => seconds >= length);
  if (first < 0) return "0 s";
  let rest = Math.floor(seconds);
  const words = [];
  for (const [name, length] of units.slice(first, first + parts)) {
    const many = Math.floor(rest / length);
    rest -= many * length;
    if (many > 0) words.push(`${many} ${name}`);
  }
  return words.join(" ");
}

/** Returns a `<time>` with the local time of an RFC 3339 time stamp. */
function timeElement(stamp) {
  const date = new Date(stamp);
  if (Number.isNaN(date.getTime())) return element("span", "", String(stamp));
  const time = element("time", "", dateAndTime.format(date));
  time.dateTime = stamp;
  return time;
}

/** Returns "of 5,000", or "no limit". */
const ofLimit = (limit, format) => (limit > 0 ? `of ${format(limit)}` : "no limit");

const plural = (many, one, others) => `${count(many)} ${many === 1 ? one : others}`;

// Elements. What comes from outside is only ever the text of one.

function element(name, className, ...children) {
  const created = document.createElement(name);
  if (className) created.className = className;
  created.append(...children);
  return created;
}

function svgElement(name, attributes) {
  const created = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) created.setAttribute(key, value);
  return created;
}

/** Sets a text if it is another one: so a selection stays, and nothing is laid out anew. */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

function setBadge(badge, kind, text) {
  badge.className = `badge is-${kind}`;
  setText(badge, text);
}

function setMeter(meter, value, limit, text) {
  meter.hidden = !(limit > 0);
  if (meter.hidden) return;
  Object.assign(meter, { min: 0, max: limit, low: HIGH * limit, high: ALARM * limit, optimum: 0, value });
  setText(meter, text);
}

/** Shows names with their values in a `<dl>`; if there are none, `none` is shown instead. */
function setEntries(list, none, entries) {
  const terms = [...list.querySelectorAll("dt")].map((term) => term.textContent);
  if (terms.length !== entries.length || entries.some(([name], at) => name !== terms[at])) {
    const entry = ([name]) => element("div", "", element("dt", "", name), element("dd", ""));
    list.replaceChildren(...entries.map(entry));
  }
  list.querySelectorAll("dd").forEach((value, at) => setText(value, entries[at][1]));
  list.hidden = entries.length === 0;
  if (none) none.hidden = entries.length > 0;
}

/** Returns the entries of an object of counts, with their names in words. */
function countEntries(counts) {
  return Object.entries(counts ?? {}).map(([name, many]) => [name.replaceAll("_", " "), count(many)]);
}

// The chart of a listener.

/** Returns the end of a scale that begins with 0, at least `highest`; its half is a whole number. */
function scaleEnd(highest) {
  let power = 1;
  while (highest > 10 * power) power *= 10;
  return [2, 4, 6, 8, 10].map((step) => step * power).find((end) => end >= highest);
}

class Chart {
  constructor() {
    this.end = element("span", "");
    this.middle = element("span", "");
    const scale = element("div", "scale", this.end, this.middle, element("span", "", "0"));
    scale.setAttribute("aria-hidden", "true");
    const words = ["5 minutes ago", `averages of ${AVERAGE_SECONDS} s`, "now"];
    const times = element("div", "times", ...words.map((text) => element("span", "", text)));
    times.setAttribute("aria-hidden", "true");
    this.svg = svgElement("svg", { viewBox: `0 0 ${CHART_SECONDS - 1} 100`, preserveAspectRatio: "none", role: "img" });
    for (const [className, y] of [["grid", 0], ["grid", 50], ["base", 100]]) {
      this.svg.append(svgElement("path", { class: className, d: `M0 ${y}H${CHART_SECONDS - 1}` }));
    }
    [this.area, this.received, this.sent] = ["area", "received", "sent"].map((className) => {
      const path = svgElement("path", { class: className });
      this.svg.append(path);
      return path;
    });
    this.root = element("div", "chart", scale, this.svg, times);
  }

  /** Shows numbers of messages, one for each second, oldest first. */
  show(eachReceived, eachSent, description) {
    const [received, sent] = [averages(eachReceived), averages(eachSent)];
    const end = scaleEnd(Math.max(0, ...received, ...sent));
    setText(this.end, count(end));
    setText(this.middle, count(end / 2));
    const line = (values) => {
      const first = CHART_SECONDS - values.length;
      const point = (value, at) => `${first + at} ${(100 - (100 * value) / end).toFixed(1)}`;
      return values.length > 0 ? `M${values.map(point).join("L")}` : "";
    };
    this.received.setAttribute("d", line(received));
    this.sent.setAttribute("d", line(sent));
    const area = `${line(received)}V100H${CHART_SECONDS - received.length}Z`;
    this.area.setAttribute("d", received.length > 0 ? area : "");
    this.svg.setAttribute("aria-label", description);
  }
}

/** Returns for each second the average of the seconds that end with it. */
function averages(values) {
  return values.map((_, at) => {
    const last = values.slice(Math.max(0, at + 1 - AVERAGE_SECONDS), at + 1);
    return last.reduce((sum, value) => sum + value, 0) / last.length;
  });
}

/** Returns a piece of a line of the chart, for the names of the lines. */
function lineSample(className) {
  const sample = svgElement("svg", { viewBox: "0 0 28 12", "aria-hidden": "true" });
  if (className === "received") sample.append(svgElement("path", { class: "area", d: "M0 6H28V12H0Z" }));
  sample.append(svgElement("path", { class: className, d: "M0 6H28" }));
  return sample;
}

/** Returns the messages of the last second and the most in one second, of a history. */
function summary(values) {
  return { now: values.at(-1) ?? 0, peak: Math.max(0, ...values) };
}

/** Returns the numbers of a history that the chart shows. */
function history(listener, name) {
  const values = listener.history?.[name];
  return Array.isArray(values) ? values.slice(-CHART_SECONDS).map((value) => Number(value) || 0) : [];
}

// A listener.

/** Returns what clients connect to. */
function target({ address = "", endpoint = "", certificate_expires_at: expiry }) {
  if (/^(unix|systemd):/.test(address)) return `${address}, path ${endpoint}`;
  // All addresses of the machine: the one under which this page is reached is one of them.
  return `${expiry ? "wss" : "ws"}://${address.replace(/^\*?:/, `${location.hostname}:`)}${endpoint}`;
}

class Card {
  constructor(at) {
    const part = (name, className, text = "") => element(name, className, text);
    this.title = part("h3", "");
    this.title.id = `listener-${at}`;
    this.state = part("p", "badge");
    this.target = part("code", "");
    this.waiting = part("p", "waiting", "Another program has this address, or the machine does not have it yet. It is tried again each second.");
    this.connections = part("strong", "");
    this.connectionsMax = part("span", "quiet");
    this.meter = part("meter", "");
    this.outbox = part("p", "quiet");
    this.rates = {};
    const series = element("dl", "series", this.series("received", "Received"), this.series("sent", "Sent (dashed)"));
    this.chart = new Chart();
    this.noHistory = part("p", "none", "No history yet.");
    this.figures = element("div", "", series, this.chart.root);
    this.facts = part("dl", "facts");
    this.refused = part("dl", "facts");
    this.closed = part("dl", "facts");
    this.sizes = part("dl", "facts");
    const title = (text) => element("h4", "", text);
    this.noRefused = part("p", "none", "No client was refused.");
    this.noClosed = part("p", "none", "No connection has ended.");
    this.noSizes = part("p", "none", "Nothing is kept.");
    this.body = element(
      "div", "",
      element("div", "use", element("p", "", this.connections, " ", this.connectionsMax), this.outbox), this.meter,
      title("Messages a second"), this.figures, this.noHistory,
      element(
        "div", "details",
        element("div", "", title("Since the start"), this.facts),
        element(
          "div", "outcomes",
          element("div", "", title("Refused, by reason"), this.refused, this.noRefused),
          element("div", "", title("Closed, by code"), this.closed, this.noClosed),
          element("div", "", title("Kept by the protocol"), this.sizes, this.noSizes),
        ),
      ),
    );
    const head = element("div", "card-title", this.title, this.state);
    this.root = element("article", "card", head, element("p", "endpoint", this.target), this.waiting, this.body);
    this.root.setAttribute("aria-labelledby", this.title.id);
  }

  series(className, name) {
    const [now, peak] = [element("strong", ""), element("span", "")];
    this.rates[className] = { now, peak };
    const value = element("dd", "", now, " now, peak ", peak);
    return element("div", "", element("dt", "", lineSample(className), name), value);
  }

  show(listener) {
    const { connections, max_connections: max, is_bound: isBound = true } = listener;
    setText(this.title, String(listener.protocol));
    setText(this.target, target(listener));
    this.state.hidden = isBound;
    this.waiting.hidden = isBound;
    this.body.hidden = !isBound;
    if (!isBound) setBadge(this.state, "caution", "Waiting for its port");
    setText(this.connections, plural(connections, "connection", "connections"));
    setText(this.connectionsMax, ofLimit(max, count));
    setMeter(this.meter, connections, max, `${count(connections)} of ${count(max)}`);
    this.meter.setAttribute("aria-label", `Connections of ${listener.protocol}`);
    setText(this.outbox, `${bytes(listener.outbox_bytes)} waiting to be sent`);
    this.showRates(listener);
    setEntries(this.facts, null, [
      ["Connections accepted", count(listener.accepted)],
      ["Messages received", count(listener.messages_in)],
      ["Messages sent", count(listener.messages_out)],
      ["Data received", bytes(listener.bytes_in)],
      ["Data sent", bytes(listener.bytes_out)],
      ["Closed as too slow", count(listener.slow_consumers)],
      ["Messages over a rate limit", count(listener.rate_limited)],
      ["Closed for memory", count(listener.evicted)],
      ...(listener.certificate_expires_at ? [["Certificate expires", listener.certificate_expires_at.slice(0, 10)]] : []),
    ]);
    setEntries(this.refused, this.noRefused, countEntries(listener.refused));
    setEntries(this.closed, this.noClosed, countEntries(listener.closed));
    setEntries(this.sizes, this.noSizes, countEntries(listener.sizes));
  }

  showRates(listener) {
    const [received, sent] = [history(listener, "messages_in"), history(listener, "messages_out")];
    const isEmpty = received.length === 0 && sent.length === 0;
    this.figures.hidden = isEmpty;
    this.noHistory.hidden = !isEmpty;
    const words = Object.entries({ received, sent }).map(([name, values]) => {
      const { now, peak } = summary(values);
      setText(this.rates[name].now, count(now));
      setText(this.rates[name].peak, count(peak));
      return `${name}: ${count(now)} now, ${count(peak)} in the busiest second`;
    });
    this.chart.show(received, sent, `Messages a second over the last five minutes. ${words.join("; ")}.`);
  }
}

const cards = [];

function showListeners(listeners) {
  while (cards.length > listeners.length) cards.pop().root.remove();
  while (cards.length < listeners.length) {
    cards.push(new Card(cards.length));
    byId("listeners").append(cards.at(-1).root);
  }
  listeners.forEach((listener, at) => cards[at].show(listener));
}

// The rest of the page.

function showProcess(status) {
  setText(byId("version"), status.version ?? "");
  const { healthy, uptime_seconds: uptime, started_at: started, pid } = status;
  if (healthy === false) setBadge(byId("health"), "bad", "Not healthy: the broker does not answer");
  else setBadge(byId("health"), "good", healthy ? "Healthy" : "");
  const parts = [];
  if (Number.isFinite(uptime)) parts.push(element("span", "", `Up ${duration(uptime)}`));
  if (started) parts.push(element("span", "", "since ", timeElement(started)));
  if (pid) parts.push(element("span", "", `process ${pid}`));
  byId("process").replaceChildren(...parts.flatMap((part, at) => (at > 0 ? [" · ", part] : [part])));
  document.title = healthy === false ? "⚠ not healthy – switchboard" : "switchboard";
}

function showOverview({ connections, max_connections: max, memory = {}, listeners = [] }) {
  setText(byId("connections"), count(connections));
  setText(byId("connections-max"), ofLimit(max, count));
  setMeter(byId("connections-meter"), connections, max, `${count(connections)} of ${count(max)}`);
  const { held_bytes: held, budget_bytes: budget, resident_bytes: resident } = memory;
  setText(byId("memory"), bytes(held));
  setText(byId("memory-max"), ofLimit(budget, bytes));
  setMeter(byId("memory-meter"), held, budget, `${bytes(held)} of ${bytes(budget)}`);
  setText(byId("resident"), Number.isFinite(resident) ? `${bytes(resident)} for the whole process` : "");
  const now = (name) => listeners.reduce((sum, it) => sum + summary(history(it, name)).now, 0);
  const [received, sent] = [now("messages_in"), now("messages_out")];
  setText(byId("rate"), count(received + sent));
  setText(byId("rate-parts"), `${count(received)} received, ${count(sent)} sent`);
}

function showBans(bans) {
  const section = byId("bans");
  section.hidden = !Array.isArray(bans);
  if (section.hidden || !hasChanged(section, bans)) return;
  const row = ({ network, until }) => {
    const end = until ? timeElement(until) : "the daemon ends";
    return element("tr", "", element("td", "", element("code", "", String(network))), element("td", "", end));
  };
  section.querySelector("tbody").replaceChildren(...bans.map(row));
  section.querySelector("table").hidden = bans.length === 0;
  section.querySelector(".empty").hidden = bans.length > 0;
}

function showWarnings(warnings) {
  setText(byId("warnings-count"), count(warnings.length));
  const latest = (Date.now() - Date.parse(warnings.at(-1)?.time)) / 1000;
  const ago = Number.isFinite(latest) ? `latest ${duration(Math.max(0, latest), 1)} ago` : "";
  setText(byId("warnings-latest"), ago);
  byId("warnings-link").hidden = warnings.length === 0;
  const list = byId("warnings");
  if (!hasChanged(list, warnings)) return;
  const item = ({ time, level, message }) => {
    const [kind, name] = level === "error" ? ["bad", "Error"] : ["caution", "Warning"];
    const badge = element("span", `badge is-${kind}`, name);
    return element("li", "", timeElement(time), badge, element("code", "", String(message)));
  };
  list.replaceChildren(...warnings.map(item).reverse());
  list.hidden = warnings.length === 0;
  byId("warnings-empty").hidden = warnings.length > 0;
}

const lastShown = new Map();

/** Returns whether an element last showed something else. A list that is the same is left alone. */
function hasChanged(target, value) {
  const text = JSON.stringify(value);
  if (lastShown.get(target) === text) return false;
  lastShown.set(target, text);
  return true;
}

// Asking, and what to do without an answer.

/** The time of the first question that was not answered, since the last one that was. */
let lostAt = null;
let startedAt = null;

async function ask() {
  const response = await fetch("status", {
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    signal: AbortSignal.timeout(TIMEOUT),
  }).catch(() => {
    throw new Error("switchboard does not answer");
  });
  if (!response.ok) throw new Error(`switchboard answers with HTTP status ${response.status}`);
  return response.json().catch(() => {
    throw new Error("switchboard answers with something that is not JSON");
  });
}

function show(status) {
  showProcess(status);
  showOverview(status);
  showListeners(status.listeners ?? []);
  showBans(status.bans);
  showWarnings(status.warnings ?? []);
  byId("main").hidden = false;
  if (lostAt) showBack(status);
  startedAt = status.started_at;
}

function showBack(status) {
  const gap = duration((Date.now() - lostAt) / 1000);
  const restarted = startedAt && startedAt !== status.started_at ? " It was started anew." : "";
  const link = byId("link");
  link.className = "link is-back";
  link.textContent = `switchboard answers again, after ${gap} without an answer.${restarted}`;
  lostAt = null;
  setTimeout(() => {
    if (lostAt) return;
    link.className = "link";
    link.textContent = "";
  }, BACK_SHOWN);
}

function showLost(reason) {
  lostAt ??= Date.now();
  const link = byId("link");
  link.className = "link is-lost";
  const below = startedAt ? " What is below is the last that it said." : "";
  // The same text again is no news for a screen reader.
  setText(link, `Since ${timeOnly.format(lostAt)} ${reason}. It is asked again each second.${below}`);
  setBadge(byId("health"), "bad", "No answer");
  document.title = "✕ no answer – switchboard";
}

let isPolling = false;
let timer = 0;

/** Asks, shows what it gets, and asks again later, unless nobody looks. */
async function poll() {
  if (isPolling) return;
  isPolling = true;
  clearTimeout(timer);
  try {
    show(await ask());
  } catch (error) {
    showLost(error.message);
  }
  isPolling = false;
  if (!document.hidden) timer = setTimeout(poll, INTERVAL);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else poll();
});

poll();
