// Sends the same requests and frames to switchboard and to the npm package peer, and compares the
// answers. Where these differ on purpose, the test says why, in the words of the PeerJS page
// (src/protocols/peerjs/README.md).

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { Client } from "./client.mjs";
import { startDaemon } from "./daemon.mjs";
import { startPeer } from "./peer.mjs";

const deadline = { timeout: 60_000 };
const pagePath = new URL("../../src/protocols/peerjs/README.md", import.meta.url);
const documentation = readFileSync(pagePath, "utf8");
// The lines that are printed at the end: what is the same and what differs.
const table = [];
// The servers to stop at the end.
const running = [];
// The reasons of all tests of a difference.
const differences = [];

/** Starts both servers with the same options, named as on peer's command line; returns their ports. */
async function startBoth(options = {}) {
  const seconds = (millis) => millis && millis / 1000;
  const { expire_timeout, alive_timeout, cors, ...others } = options;
  const timeouts = { expire_timeout: seconds(expire_timeout), alive_timeout: seconds(alive_timeout) };
  const starting = [
    startDaemon({ ...others, ...timeouts, origins: cors && [cors] }),
    startPeer(options),
  ];
  // If only one starts, that one must be stopped nevertheless.
  const both = await Promise.all(starting.map(async (server) => running.push(await server) && server));
  return both.map(({ port }) => port);
}

// The servers of the scenarios without options, started once. Stored messages expire after a second.
let shared;
const ports = (options) => (options ? startBoth(options) : (shared ??= startBoth({ expire_timeout: 1000 })));

after(async () => {
  await Promise.all(running.map((server) => server.stop()));
  console.log(table.join("\n"));
});

/** Runs a scenario with each server. Both must have the same result. */
function same(name, scenario, options) {
  test(name, deadline, async () => {
    const [ours, theirs] = await ports(options);
    const [actual, expected] = await Promise.all([scenario(ours), scenario(theirs)]);
    assert.deepEqual(actual, expected);
    table.push(`same      | ${name}`);
  });
}

/** Runs a scenario whose results differ on purpose: `ours` and `theirs`. `why` is a line of the PeerJS page. */
function different(name, why, scenario, ours, theirs, options) {
  differences.push(why);
  test(name, deadline, async () => {
    const [switchboard, peer] = await Promise.all((await ports(options)).map(scenario));
    assert.deepEqual(switchboard, ours, "switchboard");
    assert.deepEqual(peer, theirs, "peer");
    table.push(`different | ${name}: ${why}`);
  });
}

const request = async (port, path, init) => {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
  const { status, headers } = response;
  const type = headers.get("content-type")?.split(";")[0];
  return { status, type, headers, body: await response.text() };
};

const status = async (port, path, init) => (await request(port, path, init)).status;

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

// What a request of a web page has.
const page = { headers: { origin: "https://page.example" } };

// The HTTP API.

same("GET / describes the server", async (port) => {
  const { status, type, body } = await request(port, "/");
  return [status, type, JSON.parse(body)];
});

same("GET /peerjs/id returns a new UUID", async (port) => {
  const [first, second] = [await request(port, "/peerjs/id"), await request(port, "/peerjs/id?ts=1")];
  assert.notEqual(first.body, second.body);
  return [first.status, uuid.test(first.body), uuid.test(second.body)];
});

same("GET /peerjs/peers is 401 without discovery", (port) => status(port, "/peerjs/peers"));

same(
  "GET /peerjs/peers lists all ids with discovery",
  async (port) => {
    const before = await request(port, "/peerjs/peers");
    const clients = [await Client.join(port, 'a"b'), await Client.join(port, "ü")];
    const { type, body } = await request(port, "/peerjs/peers");
    clients.forEach((client) => client.close());
    return [before.body, type, JSON.parse(body)];
  },
  { allow_discovery: true },
);

same("HEAD is answered, and a trailing slash is ignored", async (port) => {
  const responses = ["/", "/peerjs/id"].map((path) => request(port, path, { method: "HEAD" }));
  const answers = (await Promise.all(responses)).map(({ status, body }) => [status, body]);
  return [answers, await status(port, "/peerjs/id/"), await status(port, "/nowhere/else")];
});

same(
  "the API and the WebSocket are below the configured path",
  async (port) => {
    const paths = ["/my/app", "/my/app/", "/my/app/k/id", "/peerjs/id"];
    const statuses = await Promise.all(paths.map((path) => status(port, path)));
    const client = await Client.connect(port, "/my/app/peerjs?key=k&id=a&token=t");
    const got = await client.until((got) => got.length > 0);
    client.close();
    return [statuses, got.slice(0, 1)];
  },
  { path: "/my/app", key: "k" },
);

same("pages of any origin may read the responses", async (port) => {
  const responses = ["/", "/peerjs/id", "/peerjs/peers"].map((path) => request(port, path, page));
  const valueOf = (name) => async (response) => (await response).headers.get(name);
  return Promise.all(
    ["access-control-allow-origin", "vary"].flatMap((name) => responses.map(valueOf(name))),
  );
});

same("a preflight is answered", async (port) => {
  const headers = { ...page.headers, "access-control-request-method": "GET" };
  const { status, headers: allowed } = await request(port, "/peerjs/id", { method: "OPTIONS", headers });
  const methods = allowed.get("access-control-allow-methods");
  return [status, allowed.get("access-control-allow-origin"), methods.includes("GET")];
});

different(
  "GET / above the configured path",
  "With another `path` than `/`, `GET /` is answered with 200 and a line that says where to connect; `peer` answers with 404.",
  (port) => status(port, "/"),
  200,
  404,
  { path: "/my/app" },
);

different(
  "GET /other/id",
  "Over HTTP, a key other than the configured one is answered with 404; `peer` accepts any key.",
  (port) => status(port, "/other/id"),
  404,
  200,
);

different(
  "the media type of a new id",
  "A new id is sent as `text/plain`, as in the protocol document; `peer` sends it as `text/html`.",
  async (port) => (await request(port, "/peerjs/id")).type,
  "text/plain",
  "text/html",
);

different(
  "the order of the listed ids",
  "`/peers` lists the ids sorted; `peer` lists them in the order of connecting.",
  async (port) => {
    const clients = [await Client.join(port, "z"), await Client.join(port, "a")];
    const { body } = await request(port, "/peerjs/peers");
    clients.forEach((client) => client.close());
    return JSON.parse(body);
  },
  ["a", "z"],
  ["z", "a"],
  { allow_discovery: true },
);

different(
  "a page of another origin",
  "With `origins` set, HTTP requests and WebSockets of pages from other origins are rejected with 403; `--cors` of `peer` only sets a header that keeps pages from reading the responses.",
  async (port) => {
    const client = await Client.connect(port, "/peerjs?key=peerjs&id=a&token=t", page.headers);
    const got = await client.until((got) => got.length > 0);
    client.close();
    return [await status(port, "/peerjs/id", page), got[0]];
  },
  [403, "HTTP 403"],
  [200, { type: "OPEN" }],
  { cors: "https://other.example" },
);

different(
  "unsupported methods, and /peerjs without a WebSocket",
  "A method that is not supported is answered with 405, and `/peerjs` without a WebSocket handshake with 426; `peer` answers both with 404.",
  async (port) => [
    await status(port, "/peerjs/id", { method: "POST" }),
    await status(port, "/peerjs"),
  ],
  [405, 426],
  [404, 404],
);

different(
  "a WebSocket at another path",
  "A WebSocket handshake at another path is rejected with 404; `peer` answers with 400.",
  async (port) => (await Client.connect(port, "/peerjs/?key=peerjs&id=a&token=t")).got,
  ["HTTP 404"],
  ["HTTP 400"],
);

// Connecting.

same("OPEN is the first message", async (port) => {
  const client = await Client.join(port, "opens");
  await client.until((got) => got.length > 0);
  client.close();
  return client.got.slice(0, 1);
});

same("an id may be any text, and a plus in the query is a space", async (port) => {
  const client = await Client.connect(port, "/peerjs?key=peerjs&token=t&id=a+b%2Bc%20%C3%BC%00%22");
  client.send({ type: "OFFER", dst: 'a b+c ü\0"', payload: "found" });
  const got = await client.until((got) => got.length === 2);
  client.close();
  return got.slice(0, 2);
});

same("an id in use is taken for another token", async (port) => {
  const owner = await Client.join(port, "taken");
  const other = await Client.join(port, "taken", "another token");
  await other.end();
  owner.close();
  return other.got;
});

for (const query of ["", "?key=peerjs&id=x", "?id=x&token=t", "?key=other&id=x&token=t"]) {
  same(`an ERROR and a Close: /peerjs${query}`, async (port) => {
    const client = await Client.connect(port, `/peerjs${query}`);
    return client.end();
  });
}

same(
  "an ERROR and a Close above the concurrent limit",
  async (port) => {
    const first = await Client.join(port, "first");
    const second = await Client.join(port, "second");
    await second.end();
    first.close();
    return second.got;
  },
  { concurrent_limit: 1 },
);

different(
  "the close code of a rejected client",
  "A client that is rejected or closed gets a close code with the reason; `peer` closes without a code.",
  async (port) => {
    const queries = ["", "?key=other&id=x&token=t"];
    const clients = await Promise.all(queries.map((query) => Client.connect(port, `/peerjs${query}`)));
    await Promise.all(clients.map((client) => client.end()));
    return clients.map(({ code }) => code);
  },
  [4400, 4403],
  [1005, 1005],
);

different(
  "an id of 257 bytes",
  "An id has at most 256 bytes and a token 2048; `peer` has no limit of its own.",
  async (port) => {
    const client = await Client.join(port, "x".repeat(257));
    const got = await client.until((got) => got.length > 0);
    client.close();
    return got[0];
  },
  { type: "ERROR", payload: { msg: "Id is longer than 256 bytes, or token longer than 2048" } },
  { type: "OPEN" },
);

same("a client with the same token is admitted again and can send under the id", async (port) => {
  const [old, other] = [await Client.join(port, "twice"), await Client.join(port, "other")];
  const again = await Client.join(port, "twice");
  other.send({ type: "OFFER", dst: "twice", payload: "again?" });
  const isOffer = (message) => message.type === "OFFER";
  const got = await again.until((got) => got.some(isOffer));
  [old, other, again].forEach((client) => client.close());
  return got.filter(isOffer);
});

different(
  "a second connection with the same token",
  "A second connection with the same id and token gets `OPEN`, and the first one is closed; `peer` keeps both and sends nothing, so that a client that reconnects may wait for `OPEN` for ever.",
  async (port) => {
    const old = await Client.join(port, "older");
    await old.all("older");
    const again = await Client.join(port, "older");
    const got = await again.all("older");
    const stays = await old.stays();
    [old, again].forEach((client) => client.close());
    return { stays, got };
  },
  { stays: false, got: [{ type: "OPEN" }] },
  { stays: true, got: [] },
);

// Relaying.

same("messages are relayed with the id of the sender", async (port) => {
  const [a, b] = [await Client.join(port, "a"), await Client.join(port, "b")];
  for (const type of ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"]) {
    a.send({ type, src: "forged", dst: "b", payload: { type, text: "ü", list: [1, null] } });
  }
  a.send({ type: "LEAVE", dst: "b", more: "is omitted" });
  a.send({ payload: null, dst: "b", type: "OFFER" });
  await b.until((got) => got.length === 8);
  [a, b].forEach((client) => client.close());
  return b.raw.slice(0, 8);
});

same("a payload of 1 MiB is relayed", async (port) => {
  const [a, b] = [await Client.join(port, "large-a"), await Client.join(port, "large-b")];
  a.send({ type: "OFFER", dst: "large-b", payload: { sdp: "x".repeat(1 << 20) } });
  await b.until((got) => got.length === 2);
  [a, b].forEach((client) => client.close());
  return b.raw[1];
});

same("heartbeats are not answered, and unknown messages are ignored", async (port) => {
  const client = await Client.join(port, "silent");
  const ignored = ['{"type":"HEARTBEAT"}', '{"type":"UNKNOWN","dst":"silent"}', '{"dst":"silent"}', "[]"];
  ignored.forEach((message) => client.send(message));
  const got = await client.all("silent");
  client.close();
  return got;
});

same("a binary frame is read as text", async (port) => {
  const client = await Client.join(port, "binary");
  const offer = { type: "OFFER", dst: "binary", payload: 1 };
  client.socket.send(Buffer.from(JSON.stringify(offer)));
  const got = await client.all("binary");
  client.close();
  return got;
});

different(
  "the JSON of a payload",
  "A payload is relayed byte for byte; `peer` parses it and writes it again.",
  async (port) => {
    const client = await Client.join(port, "exact");
    client.send('{"type":"OFFER","dst":"exact","payload":{"n":1.0,"b":12345678901234567890}}');
    await client.until((got) => got.length === 2);
    client.close();
    return /"payload":(.*)}$/.exec(client.raw[1])[1];
  },
  '{"n":1.0,"b":12345678901234567890}',
  '{"n":1,"b":12345678901234567000}',
);

different(
  "a message that is not JSON",
  "A message that is not JSON is ignored; `peer` ignores everything that its sender sends after it.",
  async (port) => {
    const client = await Client.join(port, "confused");
    client.send("nonsense");
    const sendHeartbeat = () => {
      client.send({ type: "HEARTBEAT" });
      client.socket.ping();
    };
    client.socket.on("pong", sendHeartbeat);
    const silent = await Client.join(port, "silent");
    sendHeartbeat();
    await silent.end();
    // The silent client connected later and has timed out. So has this one, unless its heartbeats count.
    const stays = await client.stays();
    client.close();
    return stays;
  },
  true,
  false,
  { alive_timeout: 4000 },
);

different(
  "a key that occurs twice",
  "A message in which `type`, `dst` or `payload` occurs twice is ignored; `peer` uses the last one.",
  async (port) => {
    const client = await Client.join(port, "double");
    client.send('{"type":"OFFER","dst":"unused","dst":"double","payload":1}');
    const got = await client.all("double");
    client.close();
    return got.filter(({ type }) => type === "OFFER").length;
  },
  0,
  1,
);

// Storing messages.

same("messages for an absent client are delivered in order after OPEN", async (port) => {
  const a = await Client.join(port, "early");
  for (const payload of [1, 2, 3]) a.send({ type: "OFFER", dst: "late", payload });
  for (const type of ["LEAVE", "EXPIRE"]) a.send({ type, dst: "late" });
  await a.all("early");
  const late = await Client.join(port, "late");
  const got = await late.all("late");
  [a, late].forEach((client) => client.close());
  return got;
}, { expire_timeout: 30_000 });

same("messages for a client that stays absent expire, and the sender is told once", async (port) => {
  const a = await Client.join(port, "source");
  for (const payload of [1, 2]) a.send({ type: "OFFER", dst: "never", payload });
  await a.until((got) => got.some((message) => message.type === "EXPIRE"));
  const got = await a.all("source");
  a.close();
  return got;
});

same("a token of 2048 bytes is accepted", async (port) => {
  const client = await Client.join(port, "long-token", "x".repeat(2048));
  const got = await client.until((got) => got.length > 0);
  client.close();
  return got[0];
});

different(
  "a destination that is a number",
  "A `dst` that is a number is the id of its digits; `peer` does not find the client with that id.",
  async (port) => {
    const [a, b] = [await Client.join(port, "dials"), await Client.join(port, "4711")];
    a.send({ type: "OFFER", dst: 4711 });
    await a.all("dials");
    const got = await b.all("4711");
    [a, b].forEach((client) => client.close());
    return got.slice(1).map(({ type, src }) => [type, src]);
  },
  [["OFFER", "dials"]],
  [],
);

different(
  "a destination that is neither a string nor a number",
  "A `dst` that is neither a string nor a number makes a message ignored; `peer` stores it for a client with that id.",
  async (port) => {
    const a = await Client.join(port, "odd");
    for (const dst of [true, "never"]) a.send({ type: "OFFER", dst });
    const isOf = (dst) => (message) => message.type === "EXPIRE" && message.src === dst;
    await a.until((got) => got.some(isOf("never")));
    const got = await a.all("odd");
    a.close();
    return got.some(isOf(true));
  },
  false,
  true,
);

different(
  "a candidate after the EXPIRE of its call",
  "A candidate that follows the `EXPIRE` of its call is dropped; `peer` stores it and sends another `EXPIRE`.",
  async (port) => {
    const a = await Client.join(port, "trickles");
    const isOf = (dst) => (message) => message.type === "EXPIRE" && message.src === dst;
    a.send({ type: "OFFER", dst: "absent-callee" });
    await a.until((got) => got.some(isOf("absent-callee")));
    a.send({ type: "CANDIDATE", dst: "absent-callee" });
    a.send({ type: "OFFER", dst: "another" });
    await a.until((got) => got.some(isOf("another")));
    const got = await a.all("trickles");
    a.close();
    return got.filter(isOf("absent-callee")).length;
  },
  1,
  2,
);

different(
  "takeovers without a pause",
  "Takeovers of an id that follow on each other too fast are refused with `ID-TAKEN` after a delay; `peer` admits any number.",
  async (port) => {
    const clients = [];
    for (let count = 0; count < 5; count += 1) clients.push(await Client.join(port, "hectic"));
    const [last] = clients.slice(-1);
    const taken = (got) => got.some(({ type }) => type === "ID-TAKEN");
    // Peer says nothing to it, and relays its message.
    last.send({ type: "OFFER", dst: "hectic", payload: "admitted" });
    await last.until((got) => taken(got) || clients.some((it) => it.got.some(({ payload }) => payload)));
    clients.forEach((client) => client.close());
    return taken(last.got);
  },
  true,
  false,
);

different(
  "a client that has stopped reading",
  "A message to a client that has stopped reading expires when its send queue is full; `peer` queues messages until memory runs out.",
  async (port) => {
    const [a, stuck] = [await Client.join(port, "sender"), await Client.join(port, "stuck")];
    stuck.socket.pause();
    const payload = "x".repeat(1 << 20);
    for (let count = 0; count < 30; count += 1) a.send({ type: "OFFER", dst: "stuck", payload });
    // Those for an absent client expire in both, and later.
    await a.all("sender");
    a.send({ type: "OFFER", dst: "absent-later" });
    await a.until((got) => got.some(({ type, src }) => type === "EXPIRE" && src === "absent-later"));
    const got = (await a.all("sender")).filter(({ src }) => src === "stuck");
    [a, stuck].forEach((client) => client.close());
    return got.some(({ type }) => type === "EXPIRE");
  },
  true,
  false,
);

different(
  "the number of stored messages",
  "Stored messages are limited, and what does not fit expires; `peer` stores any number.",
  async (port) => {
    const a = await Client.join(port, "much");
    for (let payload = 0; payload < 1025; payload += 1) a.send({ type: "OFFER", dst: "absent", payload });
    await a.all("much");
    const absent = await Client.join(port, "absent");
    const got = await absent.all("absent");
    [a, absent].forEach((client) => client.close());
    return got.length - 1;
  },
  1024,
  1025,
  { expire_timeout: 30_000 },
);

different(
  "the stored messages of a client that disconnects",
  "When a client disconnects, the messages that it has stored are dropped; `peer` still delivers them.",
  async (port) => {
    const gone = await Client.join(port, "gone");
    gone.send({ type: "OFFER", dst: "heir", payload: "stored" });
    await gone.all("gone");
    gone.close();
    while ((await request(port, "/peerjs/peers")).body.includes("gone"));
    const heir = await Client.join(port, "heir");
    const got = await heir.all("heir");
    heir.close();
    return got.slice(1).map(({ type }) => type);
  },
  [],
  ["OFFER"],
  { expire_timeout: 30_000, allow_discovery: true },
);

// Disconnecting.

different(
  "LEAVE without a destination",
  "`LEAVE` without a destination closes the connection, too; `peer` removes the id and keeps the connection open.",
  async (port) => {
    const client = await Client.join(port, "leaves");
    client.send({ type: "LEAVE" });
    while ((await request(port, "/peerjs/peers")).body.includes("leaves"));
    const stays = await client.stays();
    client.close();
    return stays;
  },
  false,
  true,
  { allow_discovery: true },
);

different(
  "what keeps a client alive",
  "Any JSON object from a client keeps its connection alive; in `peer` only `HEARTBEAT` does.",
  async (port) => {
    const sender = await Client.join(port, "sender");
    const sendToSelf = () => sender.send({ type: "CANDIDATE", dst: "sender" });
    sender.socket.on("message", sendToSelf);
    const silent = await Client.join(port, "silent");
    sendToSelf();
    await silent.end();
    // The silent client connected later and has timed out. So has the sender, unless its messages count.
    const stays = await sender.stays();
    sender.close();
    return stays;
  },
  true,
  false,
  { alive_timeout: 4000 },
);

test("the PeerJS page lists these differences, and no others", () => {
  const list = /The server differs from `peer` on purpose:\n\n([^]*?)\n\n/.exec(documentation)[1];
  const documented = list.split("\n- ").map((item) => item.replace(/^- /, "").replace(/\s+/g, " "));
  const untested = [
    "All messages of one client to another expire together; in `peer` all messages for one client do.",
    "An id whose client has been silent for 40 seconds and does not answer a Ping goes to who asks for it; `peer` keeps it until `alive_timeout`.",
  ];
  assert.deepEqual(documented.toSorted(), [...differences, ...untested].toSorted());
});
