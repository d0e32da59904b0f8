// switchboard beside the npm package peer: the same requests and frames to both, and the same
// answers. Where they differ on purpose, the test says so and why, in the words of the README.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { Client } from "./client.mjs";
import { startDaemon } from "./daemon.mjs";
import { startPeer } from "./peer.mjs";

const deadline = { timeout: 60_000 };
const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const table = [];
const running = [];
const differences = [];

/** Starts both with the same options, those of peer's command line. */
async function startBoth(options = {}) {
  const seconds = (millis) => millis && millis / 1000;
  const { expire_timeout, alive_timeout, cors, ...others } = options;
  const times = { expire_timeout: seconds(expire_timeout), alive_timeout: seconds(alive_timeout) };
  const starting = [
    startDaemon({ ...others, ...times, origins: cors && [cors] }),
    startPeer(options),
  ];
  // Also if only one has started, it must be stopped.
  const both = await Promise.all(starting.map(async (server) => running.push(await server) && server));
  return both.map(({ port }) => port);
}

// Those of most scenes. Messages for nobody expire soon, and clients stay.
let usual;
const ports = (options) => (options ? startBoth(options) : (usual ??= startBoth({ expire_timeout: 1000 })));

after(async () => {
  await Promise.all(running.map((server) => server.stop()));
  console.log(table.join("\n"));
});

/** Plays a scene with each server, and compares what comes of it. */
function same(name, scene, options) {
  test(name, deadline, async () => {
    const [ours, theirs] = await ports(options);
    const [our, their] = await Promise.all([scene(ours), scene(theirs)]);
    assert.deepEqual(our, their);
    table.push(`same      | ${name}`);
  });
}

/** The same where they differ on purpose; `why` stands in the README. */
function different(name, why, scene, ours, theirs, options) {
  differences.push(why);
  test(name, deadline, async () => {
    const [our, their] = await Promise.all((await ports(options)).map(scene));
    assert.deepEqual(our, ours, "switchboard");
    assert.deepEqual(their, theirs, "peer");
    table.push(`different | ${name}: ${why}`);
  });
}

const request = async (port, path, init) => {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, init);
  const type = answer.headers.get("content-type")?.split(";")[0];
  return { status: answer.status, type, headers: answer.headers, body: await answer.text() };
};

const status = async (port, path, init) => (await request(port, path, init)).status;

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

const page = { headers: { origin: "https://page.example" } };

// The HTTP API.

same("GET / says what it is", async (port) => {
  const { status, type, body } = await request(port, "/");
  return [status, type, JSON.parse(body)];
});

same("GET /peerjs/id is a new UUID", async (port) => {
  const [one, other] = [await request(port, "/peerjs/id"), await request(port, "/peerjs/id?ts=1")];
  assert.notEqual(one.body, other.body);
  return [one.status, uuid.test(one.body), uuid.test(other.body)];
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

same("HEAD is answered, and a slash at the end changes nothing", async (port) => {
  const heads = ["/", "/peerjs/id"].map((path) => request(port, path, { method: "HEAD" }));
  const answers = (await Promise.all(heads)).map(({ status, body }) => [status, body]);
  return [answers, await status(port, "/peerjs/id/"), await status(port, "/nowhere/else")];
});

same(
  "all of it below a path",
  async (port) => {
    const paths = ["/my/app", "/my/app/", "/my/app/k/id", "/", "/peerjs/id"];
    const statuses = await Promise.all(paths.map((path) => status(port, path)));
    const client = await Client.connect(port, "/my/app/peerjs?key=k&id=a&token=t");
    const got = await client.until((got) => got.length > 0);
    client.close();
    return [statuses, got.slice(0, 1)];
  },
  { path: "/my/app", key: "k" },
);

same("pages of any origin may read", async (port) => {
  const answers = ["/", "/peerjs/id", "/peerjs/peers"].map((path) => request(port, path, page));
  const named = (name) => async (answer) => (await answer).headers.get(name);
  return Promise.all(
    ["access-control-allow-origin", "vary"].flatMap((name) => answers.map(named(name))),
  );
});

same("a preflight is answered", async (port) => {
  const headers = { ...page.headers, "access-control-request-method": "GET" };
  const { status, headers: answer } = await request(port, "/peerjs/id", { method: "OPTIONS", headers });
  const methods = answer.get("access-control-allow-methods");
  return [status, answer.get("access-control-allow-origin"), methods.includes("GET")];
});

different(
  "GET /other/id",
  "Over HTTP another key than the configured one is 404; `peer` takes any.",
  (port) => status(port, "/other/id"),
  404,
  200,
);

different(
  "the media type of an id",
  "An id is `text/plain`, as the protocol document says; `peer` says `text/html`.",
  async (port) => (await request(port, "/peerjs/id")).type,
  "text/plain",
  "text/html",
);

different(
  "the order of ids",
  "`/peers` is in the order of the ids; in `peer` in that in which they came.",
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
  "Where `origins` are named, requests and WebSockets of pages from elsewhere are refused with 403; `--cors` of `peer` is a header that only keeps pages from reading answers.",
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
  "what cannot be had",
  "A method that there is not is 405, and `/peerjs` without a WebSocket 426; in `peer` both are 404.",
  async (port) => [
    await status(port, "/peerjs/id", { method: "POST" }),
    await status(port, "/peerjs"),
  ],
  [405, 426],
  [404, 404],
);

different(
  "a WebSocket at another path",
  "A WebSocket at another path is refused with 404; `peer` says 400.",
  async (port) => (await Client.connect(port, "/peerjs/?key=peerjs&id=a&token=t")).got,
  ["HTTP 404"],
  ["HTTP 400"],
);

// Who gets in.

same("OPEN comes first", async (port) => {
  const client = await Client.join(port, "opens");
  await client.until((got) => got.length > 0);
  client.close();
  return client.got.slice(0, 1);
});

same("an id is any text, and a plus in it is a space", async (port) => {
  const client = await Client.connect(port, "/peerjs?key=peerjs&token=t&id=a+b%2Bc%20%C3%BC%00%22");
  client.says({ type: "OFFER", dst: 'a b+c ü\0"', payload: "found" });
  const got = await client.until((got) => got.length === 2);
  client.close();
  return got.slice(0, 2);
});

same("an id with another token is taken", async (port) => {
  const owner = await Client.join(port, "taken");
  const other = await Client.join(port, "taken", "another token");
  await other.end();
  owner.close();
  return other.got;
});

for (const query of ["", "?key=peerjs&id=x", "?id=x&token=t", "?key=other&id=x&token=t"]) {
  same(`an error and the end: /peerjs${query}`, async (port) => {
    const client = await Client.connect(port, `/peerjs${query}`);
    return client.end();
  });
}

same(
  "beyond the concurrent limit: an error and the end",
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
  "how it closes",
  "Whoever is not let in, or is closed, is told the reason as a close code; `peer` closes without one.",
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
  "An id or a token has at most 256 bytes; `peer` has no limit of its own.",
  async (port) => {
    const client = await Client.join(port, "x".repeat(257));
    const got = await client.until((got) => got.length > 0);
    client.close();
    return got[0];
  },
  { type: "ERROR", payload: { msg: "Id or token is longer than 256 bytes" } },
  { type: "OPEN" },
);

same("the same token gets in again and is heard under the id", async (port) => {
  const [old, other] = [await Client.join(port, "twice"), await Client.join(port, "other")];
  const again = await Client.join(port, "twice");
  other.says({ type: "OFFER", dst: "twice", payload: "who?" });
  const isOffer = (message) => message.type === "OFFER";
  const got = await again.until((got) => got.some(isOffer));
  [old, other, again].forEach((client) => client.close());
  return got.filter(isOffer);
});

different(
  "a second connection with the same token",
  "A second connection with the same id and token is told OPEN, and the first is closed; `peer` keeps both and says nothing, so that a client that reconnects may wait for ever.",
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

// What is passed on.

same("messages are passed on with the sender's id", async (port) => {
  const [a, b] = [await Client.join(port, "a"), await Client.join(port, "b")];
  for (const type of ["OFFER", "ANSWER", "CANDIDATE", "LEAVE", "EXPIRE"]) {
    a.says({ type, src: "forged", dst: "b", payload: { type, text: "ü", list: [1, null] } });
  }
  a.says({ type: "LEAVE", dst: "b", more: "is left out" });
  a.says({ payload: null, dst: "b", type: "OFFER" });
  await b.until((got) => got.length === 8);
  [a, b].forEach((client) => client.close());
  return b.raw.slice(0, 8);
});

same("a payload of 1 MiB passes", async (port) => {
  const [a, b] = [await Client.join(port, "large-a"), await Client.join(port, "large-b")];
  a.says({ type: "OFFER", dst: "large-b", payload: { sdp: "x".repeat(1 << 20) } });
  await b.until((got) => got.length === 2);
  [a, b].forEach((client) => client.close());
  return b.raw[1];
});

same("heartbeats are not answered, what is unknown is ignored", async (port) => {
  const client = await Client.join(port, "silent");
  const ignored = ['{"type":"HEARTBEAT"}', '{"type":"UNKNOWN","dst":"silent"}', '{"dst":"silent"}', "[]"];
  ignored.forEach((message) => client.says(message));
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
  "a payload's JSON",
  "A payload is passed on as it was written; `peer` parses it and writes it anew.",
  async (port) => {
    const client = await Client.join(port, "exact");
    client.says('{"type":"OFFER","dst":"exact","payload":{"n":1.0,"b":12345678901234567890}}');
    await client.until((got) => got.length === 2);
    client.close();
    return /"payload":(.*)}$/.exec(client.raw[1])[1];
  },
  '{"n":1.0,"b":12345678901234567890}',
  '{"n":1,"b":12345678901234567000}',
);

different(
  "a message that is no JSON",
  "A message that is no JSON is ignored; `peer` hears nothing more of a client that sent one.",
  async (port) => {
    const client = await Client.join(port, "confused");
    client.says("nonsense");
    const beat = () => {
      client.says({ type: "HEARTBEAT" });
      client.socket.ping();
    };
    client.socket.on("pong", beat);
    const silent = await Client.join(port, "silent");
    beat();
    await silent.end();
    // So it has been heard if it is still here, and otherwise it is closed at that time, too.
    const stays = await client.stays();
    client.close();
    return stays;
  },
  true,
  false,
  { alive_timeout: 4000 },
);

different(
  "a key that stands twice",
  "A message in which `type`, `dst` or `payload` stands twice is ignored; `peer` takes the last.",
  async (port) => {
    const client = await Client.join(port, "double");
    client.says('{"type":"OFFER","dst":"nobody","dst":"double","payload":1}');
    const got = await client.all("double");
    client.close();
    return got.filter(({ type }) => type === "OFFER").length;
  },
  0,
  1,
);

// What is stored.

same("messages for the absent wait for it, in their order, behind OPEN", async (port) => {
  const a = await Client.join(port, "early");
  for (const payload of [1, 2, 3]) a.says({ type: "OFFER", dst: "late", payload });
  for (const type of ["LEAVE", "EXPIRE"]) a.says({ type, dst: "late" });
  await a.all("early");
  const late = await Client.join(port, "late");
  const got = await late.all("late");
  [a, late].forEach((client) => client.close());
  return got;
}, { expire_timeout: 30_000 });

same("what nobody fetches expires, and its source is told once", async (port) => {
  const a = await Client.join(port, "source");
  for (const payload of [1, 2]) a.says({ type: "OFFER", dst: "never", payload });
  await a.until((got) => got.some((message) => message.type === "EXPIRE"));
  const got = await a.all("source");
  a.close();
  return got;
});

different(
  "a destination that is no string",
  "A `dst` that is no string is ignored; `peer` waits for a client of that id.",
  async (port) => {
    const a = await Client.join(port, "odd");
    for (const dst of [7, "never"]) a.says({ type: "OFFER", dst });
    const isOf = (dst) => (message) => message.type === "EXPIRE" && message.src === dst;
    await a.until((got) => got.some(isOf("never")));
    const got = await a.all("odd");
    a.close();
    return got.some(isOf(7));
  },
  false,
  true,
);

different(
  "who takes nothing",
  "What is for a client that takes nothing more of what is sent to it expires at once; `peer` keeps it for as long as it has memory.",
  async (port) => {
    const [a, deaf] = [await Client.join(port, "speaks"), await Client.join(port, "deaf")];
    deaf.socket.pause();
    const payload = "x".repeat(1 << 20);
    for (let count = 0; count < 30; count += 1) a.says({ type: "OFFER", dst: "deaf", payload });
    const got = await a.all("speaks");
    [a, deaf].forEach((client) => client.close());
    return got.some(({ type }) => type === "EXPIRE");
  },
  true,
  false,
);

different(
  "how much is stored",
  "What is stored for clients that are not there is bounded, and what does not fit expires at once; `peer` stores all.",
  async (port) => {
    const a = await Client.join(port, "much");
    for (let payload = 0; payload < 65; payload += 1) a.says({ type: "OFFER", dst: "patient", payload });
    await a.all("much");
    const patient = await Client.join(port, "patient");
    const got = await patient.all("patient");
    [a, patient].forEach((client) => client.close());
    return got.length - 1;
  },
  64,
  65,
  { expire_timeout: 30_000 },
);

different(
  "what a client has stored that goes",
  "When a client goes, what it has stored goes with it; `peer` delivers it all the same.",
  async (port) => {
    const gone = await Client.join(port, "gone");
    gone.says({ type: "OFFER", dst: "heir", payload: "for nobody to answer" });
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

// How it ends.

different(
  "LEAVE without a destination",
  "LEAVE without a destination ends the connection, too; `peer` forgets the id and keeps the connection.",
  async (port) => {
    const client = await Client.join(port, "leaves");
    client.says({ type: "LEAVE" });
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
  "Any message keeps a client alive; in `peer` only a heartbeat does.",
  async (port) => {
    const talker = await Client.join(port, "talker");
    const talk = () => talker.says({ type: "CANDIDATE", dst: "talker" });
    talker.socket.on("message", talk);
    const silent = await Client.join(port, "silent");
    talk();
    await silent.end();
    // It was there before, so its time would have been up before, too.
    const stays = await talker.stays();
    talker.close();
    return stays;
  },
  true,
  false,
  { alive_timeout: 4000 },
);

test("the README says all of this, and nothing else", () => {
  const list = /It differs on purpose in this:\n\n([^]*?)\n\n[^-]/.exec(readme)[1];
  const said = list.split("\n- ").map((item) => item.replace(/^- /, "").replace(/\s+/g, " "));
  const untested = "Each stored message expires by its own age; in `peer` all that wait for one client do, together.";
  assert.deepEqual(said.toSorted(), [...differences, untested].toSorted());
});
