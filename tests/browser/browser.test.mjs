// The unmodified npm package peerjs in headless Chromium, against switchboard: what its users do.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { startDaemon } from "./daemon.mjs";
import { startBrowser } from "./site.mjs";

const client = createRequire(import.meta.url).resolve("peerjs/dist/peerjs.min.js");
const documentation = readFileSync(
  new URL("../../src/protocols/peerjs/README.md", import.meta.url),
  "utf8",
);
const deadline = { timeout: 60_000 };

let daemon, site, browser;

before(async () => {
  daemon = await startDaemon({ allow_discovery: true });
  const files = {
    "/": ["text/html", '<script src="/peerjs.min.js"></script>'],
    "/peerjs.min.js": ["text/javascript", readFileSync(client)],
    "/documented": ["text/html", documentedPage(daemon.port)],
  };
  site = createServer((request, response) => {
    const [type, content] = files[request.url] ?? ["text/plain", "not found"];
    response.setHeader("Content-Type", type);
    response.end(content);
  });
  await new Promise((resolve) => site.listen(0, "127.0.0.1", resolve));
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  site?.close();
  await daemon?.stop();
});

/** Returns the web page in src/protocols/peerjs/README.md, with the port of the daemon under test. */
function documentedPage(port) {
  const [block] = /^ {4}<!doctype html>[^]*?<\/script>\n(?=\n)/m.exec(documentation);
  assert.ok(block.includes("port: 9000"));
  return block.replace(/^ {4}/gm, "").replace("port: 9000", `port: ${port}`);
}

/** Opens a web page and an open peer in it, with these options. Without an `id` the server chooses one. */
async function peer(id, others = {}) {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${site.address().port}/`);
  const server = { host: "localhost", port: daemon.port, path: "/", config: { iceServers: [] } };
  const opened = await page.evaluate(
    ([id, options]) =>
      new Promise((resolve, reject) => {
        window.peer = id ? new Peer(id, options) : new Peer(options);
        window.errors = [];
        window.peer.on("error", (error) => {
          window.errors.push(error.type);
          reject(new Error(`${error.type}: ${error.message}`));
        });
        window.peer.on("open", resolve);
      }),
    [id, { ...server, ...others }],
  );
  return { page, id: opened };
}

/** Waits until the peer in a page has an error of this type. */
const waitForError = (page, type) =>
  page.waitForFunction((type) => window.errors.includes(type), type, deadline);

test("peers open with their own ids and with ids of the server", deadline, async () => {
  const [named, unnamed] = [await peer("own-id"), await peer()];
  assert.equal(named.id, "own-id");
  assert.match(unnamed.id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("100 messages arrive each way over a data channel", deadline, async () => {
  const [sender, echo] = [await peer("sender"), await peer()];
  await echo.page.evaluate(() => {
    window.got = [];
    window.peer.on("connection", (connection) => {
      connection.on("data", (data) => {
        window.got.push(data);
        connection.send(`back ${data}`);
      });
    });
  });
  const back = await sender.page.evaluate(
    (id) =>
      new Promise((resolve) => {
        const connection = window.peer.connect(id, { reliable: true });
        const back = [];
        connection.on("open", () => {
          for (let number = 0; number < 100; number += 1) connection.send(number);
        });
        connection.on("data", (data) => {
          if (back.push(data) === 100) resolve(back);
        });
      }),
    echo.id,
  );
  const numbers = Array.from({ length: 100 }, (_, number) => number);
  assert.deepEqual(await echo.page.evaluate(() => window.got), numbers);
  assert.deepEqual(back, numbers.map((number) => `back ${number}`));
});

test("a call brings the video of the callee", deadline, async () => {
  const [caller, callee] = [await peer(), await peer()];
  const media = { audio: true, video: true };
  await callee.page.evaluate((media) => {
    window.peer.on("call", async (call) => {
      call.answer(await navigator.mediaDevices.getUserMedia(media));
    });
  }, media);
  const tracks = await caller.page.evaluate(
    async ([id, media]) => {
      const own = await navigator.mediaDevices.getUserMedia(media);
      const call = window.peer.call(id, own);
      const stream = await new Promise((resolve) => call.on("stream", resolve));
      const video = document.createElement("video");
      video.muted = true;
      video.srcObject = stream;
      await video.play();
      return { kinds: stream.getTracks().map((track) => track.kind).sort(), width: video.videoWidth };
    },
    [callee.id, media],
  );
  assert.deepEqual(tracks.kinds, ["audio", "video"]);
  assert.ok(tracks.width > 0, "frames arrive");
});

test("the documented web page works", deadline, async () => {
  const page = await browser.newPage();
  await page.goto(`http://localhost:${site.address().port}/documented`);
  const isDone = () => document.querySelector("#log").textContent.split("\n").length > 2;
  await page.waitForFunction(isDone, null, deadline);
  const log = await page.evaluate(() => document.querySelector("#log").textContent);
  assert.equal(log, "ann hears: hello\nbob hears: hello back\n");
});

test("an id in use is unavailable", deadline, async () => {
  await peer("taken");
  await assert.rejects(peer("taken"), /unavailable-id/);
});

test("a peer that is not connected is unavailable", deadline, async () => {
  const { page } = await peer();
  await page.evaluate(() => window.peer.connect("an-unused-id"));
  await waitForError(page, "peer-unavailable");
});

test("a peer that disconnects reconnects under the same id", deadline, async () => {
  const [reconnecting, other] = [await peer("back-again"), await peer()];
  const id = await reconnecting.page.evaluate(
    () =>
      new Promise((resolve) => {
        window.peer.once("disconnected", () => {
          window.peer.once("open", resolve);
          window.peer.reconnect();
        });
        window.peer.on("connection", (connection) => {
          connection.on("open", () => connection.send("here again"));
        });
        window.peer.disconnect();
      }),
  );
  assert.equal(id, "back-again");
  const received = await other.page.evaluate(
    (id) =>
      new Promise((resolve) => {
        window.peer.connect(id).on("data", resolve);
      }),
    id,
  );
  assert.equal(received, "here again");
});

test("all peers are listed if discovery is allowed", deadline, async () => {
  const [{ page, id }, other] = [await peer(), await peer("listed")];
  const listed = await page.evaluate(
    () => new Promise((resolve) => window.peer.listAllPeers(resolve)),
  );
  assert.ok(listed.includes(id) && listed.includes(other.id), listed.join(", "));
});

/** Returns an access token with these claims. */
function accessToken(claims, secret) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

test("a peer with an access token as its token has the id of the token", deadline, async () => {
  const secret = "a secret of the tests, 32 bytes and more";
  const guarded = await startDaemon({ access: { secret } });
  try {
    const { port } = guarded;
    const [ann, ben] = ["ann", "ben"].map((sub) => accessToken({ sub }, secret));
    // The server gives an id to a client without one, and the client then claims that.
    const anybody = accessToken({}, secret);
    await assert.rejects(peer("ann", { port }), /server-error: an access token is needed/);
    await assert.rejects(peer("ann", { port, token: ben }), /server-error: .* for another id/);
    const [named, other] = [await peer("ann", { port, token: ann }), await peer(undefined, { port, token: anybody })];
    assert.equal(named.id, "ann");
    const received = named.page.evaluate(
      () =>
        new Promise((resolve) => {
          window.peer.on("connection", (connection) => connection.on("data", resolve));
        }),
    );
    await other.page.evaluate(() => {
      const connection = window.peer.connect("ann");
      connection.on("open", () => connection.send("hello"));
    });
    assert.equal(await received, "hello");
    // A renewed token keeps the id.
    const renewed = accessToken({ sub: "ann", iat: 1 }, secret);
    assert.equal((await peer("ann", { port, token: renewed })).id, "ann");
    await named.page.waitForFunction(() => window.peer.disconnected, null, deadline);
  } finally {
    await guarded.stop();
  }
});
