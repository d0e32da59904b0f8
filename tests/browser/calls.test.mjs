// What pages do that call a host which is not there at the moment, and tabs that share a token: the npm
// package peerjs in Chromium against switchboard.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { openSite } from "./site.mjs";

const deadline = { timeout: 120_000 };

let site;

before(async () => {
  site = await openSite({ allow_discovery: true });
});

after(() => site?.close());

/**
 * Opens a peer in a page, which says "welcome" to each caller. Its options may have a token; its errors are in
 * `window.errors`, the ids of its callers in `window.calls`.
 */
const openPeer = (page, id, options = {}) =>
  page.evaluate(
    ([id, options]) =>
      new Promise((resolve) => {
        window.errors = [];
        window.peer = new Peer(id, options);
        window.calls = [];
        window.peer.on("connection", (connection) => {
          window.calls.push(connection.peer);
          connection.on("open", () => connection.send("welcome"));
        });
        window.peer.on("error", (error) => window.errors.push(error.type));
        window.peer.on("open", resolve);
      }),
    [id, { ...site.server, ...options }],
  );

/** Waits until the server lists an id, or lists it no more. */
async function listed(id, expected) {
  const list = `http://127.0.0.1:${site.daemon.port}/peerjs/peers`;
  while ((await (await fetch(list)).json()).includes(id) !== expected);
}

test("twenty guests reach a host that reloads its page for two seconds", deadline, async () => {
  const guests = 20;
  const [host, caller] = [await site.page(), await site.page()];
  const openHost = () => openPeer(host, "host", { token: "host" });
  await openHost();
  await caller.evaluate(
    ([guests, server]) => {
      window.peers = Array.from({ length: guests }, (_, number) => new Peer(`guest${number}`, server));
      return Promise.all(window.peers.map((peer) => new Promise((resolve) => peer.on("open", resolve))));
    },
    [guests, site.server],
  );
  await host.goto("about:blank");
  await listed("host", false);
  await caller.evaluate(() => {
    window.errors = [];
    window.welcomed = new Set();
    for (const peer of window.peers) {
      peer.on("error", (error) => window.errors.push(error.type));
      peer.connect("host").on("data", () => window.welcomed.add(peer.id));
    }
  });
  // The time that the reload takes is the subject.
  await new Promise((resolve) => setTimeout(resolve, 2000));
  await site.visit(host);
  await openHost();
  const isDone = (guests) => window.welcomed.size === guests || window.errors.length >= guests;
  await caller.waitForFunction(isDone, guests, { timeout: 60_000 }).catch(() => {});
  const [welcomed, errors] = await caller.evaluate(() => [window.welcomed.size, window.errors]);
  console.log(`${welcomed} of ${guests} guests got through, with ${errors.length} errors`);
  assert.deepEqual([welcomed, errors], [guests, []]);
});

test("a call to a number reaches the client, or brings an error", deadline, async () => {
  const [host, caller] = [await site.page(), await site.page()];
  await openPeer(host, 4711);
  await openPeer(caller, "dials-a-number");
  await caller.evaluate(() => [window.peer.connect(4711), window.peer.connect(4712)].length);
  await host.waitForFunction(() => window.calls.length > 0, null, deadline);
  await caller.waitForFunction(() => window.errors.length > 0, null, deadline);
  assert.deepEqual(await host.evaluate(() => window.calls), ["dials-a-number"]);
  assert.deepEqual(await caller.evaluate(() => window.errors), ["peer-unavailable"]);
});

test("one call in vain brings one error", deadline, async () => {
  const page = await site.page();
  await openPeer(page);
  await page.evaluate(() => [window.peer.connect("absent")].length);
  await page.waitForFunction(() => window.errors.length > 0, null, deadline);
  // By the time of this one, a second error for the first call would have come.
  await page.evaluate(() => [window.peer.connect("absent-too")].length);
  await page.waitForFunction(() => window.errors.length > 1, null, deadline);
  assert.deepEqual(await page.evaluate(() => window.errors), ["peer-unavailable", "peer-unavailable"]);
});

test("two tabs that share a token and reconnect calm down", deadline, async () => {
  const tabs = [await site.page(), await site.page()];
  const seconds = 30;
  const start = (page) =>
    page.evaluate(
      (server) => {
        const Original = window.WebSocket;
        window.handshakes = 0;
        window.WebSocket = class extends Original {
          constructor(...parameters) {
            super(...parameters);
            window.handshakes += 1;
          }
        };
        window.peer = new Peer("shared", { ...server, token: "shared" });
        window.peer.on("error", () => {});
        window.peer.on("disconnected", () => window.peer.reconnect());
      },
      site.server,
    );
  await Promise.all(tabs.map(start));
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const counts = await Promise.all(tabs.map((page) => page.evaluate(() => window.handshakes)));
  await Promise.all(tabs.map((page) => page.close()));
  const total = counts[0] + counts[1];
  console.log(`${total} handshakes of two tabs in ${seconds} seconds`);
  assert.ok(total >= 4, "they do contend");
  assert.ok(total <= 20, `${total} handshakes`);
});
