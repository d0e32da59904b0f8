// PeerJS's page in Chromium: two tabs, and a data channel between them.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  HOSTILE,
  deadline,
  hasText,
  hasTraffic,
  inspect,
  look,
  looks,
  secret,
  signedToken,
  traffic,
  withTryPage,
  write,
} from "./try-page.mjs";

const settings = { protocol: "peerjs" };

async function connect(page, id) {
  await page.getByLabel(/^Your id/).fill(id);
  await page.getByRole("button", { name: "Connect", exact: true }).click();
  await hasText(page, "#own-id", /./);
}

/** Connects in one tab, and follows its link in another, which calls it. */
async function pair(site, path = "/try") {
  const called = await site.tab(path);
  await connect(called, "ann");
  const opened = site.context.waitForEvent("page");
  await called.getByRole("link", { name: "Open a tab that calls you" }).click();
  const caller = await opened;
  for (const page of [called, caller]) await hasText(page, "#talk", /the data channel with .* is open/);
  return [called, caller];
}

test("two tabs write to each other over a data channel that the server helped to open", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [called, caller] = await pair(site);
    await write(caller, "Hello!");
    await hasText(called, "#talk .other", /Hello!$/);
    await write(called, "Hi there!");
    await hasText(caller, "#talk .other", /^ann Hi there!$/);
    for (const type of ["OFFER", "CANDIDATE"]) await hasTraffic(called, new RegExp(`^received .*"type":"${type}"`));
    await hasTraffic(called, /^sent .*"type":"ANSWER"/);
    await caller.getByRole("button", { name: "Hang up" }).click();
    await hasText(called, "#talk", /has hung up$/);
    await called.getByRole("button", { name: "Disconnect" }).click();
    await hasTraffic(called, /^note closed with 1000/);
    await connect(called, "ann");
    await hasTraffic(called, /^received {"type":"OPEN"}$/);
  });
});

test("a call to an id that nobody has says so", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const page = await site.tab("/try");
    await connect(page, "ann");
    await page.getByLabel("Or call an id").fill("nobody");
    await page.keyboard.press("Enter");
    await hasText(page, "#talk", /the call has ended: nobody has the id nobody$/);
    await hasTraffic(page, /^received {"type":"EXPIRE"/);
  });
});

/** Sends an OFFER from another tab, as if it were a page of another kind. */
const sendOffer = (page, dst, payload) => page.evaluate((message) => send(message), { type: "OFFER", dst, payload });

test("an offer that is none ends its call, and the next is answered", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [called, stranger] = [await site.tab("/try"), await site.tab("/try")];
    await connect(called, "ann");
    await connect(stranger, "bob");
    for (const payload of [{ connectionId: "x", sdp: { type: "offer", sdp: "garbage" } }, {}, null]) {
      const calls = await called.getByText("bob calls").count();
      await sendOffer(stranger, "ann", payload);
      await called.getByText("the call has ended: ").nth(calls).waitFor();
    }
    await stranger.getByLabel("Or call an id").fill("ann");
    await stranger.keyboard.press("Enter");
    for (const page of [called, stranger]) await hasText(page, "#talk", /the data channel with .* is open$/);
  });
});

test("a call that is not answered ends, and the call that it disturbs does not", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [called, caller] = await pair(site);
    const other = await site.tab("/try");
    await connect(other, "cat");
    await other.getByLabel("Or call an id").fill("ann");
    await other.keyboard.press("Enter");
    await hasText(other, "#talk", /^calling ann …/);
    await hasText(other, "#talk", /the call has ended: there is no connection to ann, who may be in another call$/);
    await hasText(called, "#talk", /cat calls, too, and is not answered$/);
    await write(caller, "Still here");
    await hasText(called, "#talk .other", /Still here$/);
  });
});

test("only one data channel of a call counts, and bytes are told by their number", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [called, caller] = await pair(site);
    for (const page of [called, caller]) {
      await page.evaluate(
        () =>
          new Promise((closed) => {
            const another = call.rtc.createDataChannel("another");
            another.onclose = closed;
          }),
      );
    }
    await caller.evaluate(() => call.channel.send(new Uint8Array(1000)));
    await hasText(called, "#talk .other .words", /^1000 bytes$/);
  });
});

test("heartbeats are sent as often as the listener demands", deadline, async () => {
  for (const [alive_timeout, expected] of [[1, true], [0, false]]) {
    await withTryPage({ ...settings, alive_timeout }, {}, async (site) => {
      const page = await site.tab("/try");
      await connect(page, "ann");
      if (expected) await hasTraffic(page, /^sent {"type":"HEARTBEAT"}$/);
      assert.equal(await page.evaluate(() => Boolean(heartbeat)), expected);
      assert.equal(await page.locator("#state").textContent(), "Connected");
    });
  }
});

test("an id that is taken is said", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [first, second] = [await site.tab("/try"), await site.tab("/try")];
    await connect(first, "ann");
    await second.getByLabel(/^Your id/).fill("ann");
    await second.keyboard.press("Enter");
    await hasText(second, "#notice", /^Closed with 4409: ID is taken\.$/);
  });
});

test("a server that does not answer is said", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const page = await site.tab("/try");
    await site.daemon.stop();
    await page.getByRole("button", { name: "Connect", exact: true }).click();
    await hasText(page, "#notice", /^That did not work: Failed to fetch\.$/);
    site.expect(/ERR_CONNECTION_REFUSED/);
  });
});

test("a token that is demanded gives the id that it is for, and why another is refused is said", deadline, async () => {
  await withTryPage({ ...settings, access: { secret } }, {}, async (site) => {
    const page = await site.tab("/try");
    const begin = () => page.getByRole("button", { name: "Connect", exact: true }).click();
    await page.getByLabel(/^Your id/).fill("bob");
    await begin();
    await hasText(page, "#notice", /^Closed with 4401: an access token is needed/);
    const token = signedToken(secret, { sub: "ann" });
    await page.getByLabel("Access token").fill(token);
    await begin();
    await hasText(page, "#notice", /^Closed with 4401: the access token is for another id/);
    await connect(page, "ann");
    await hasTraffic(page, /^note connects to .*&token=…&access_token=…$/);
    await page.getByRole("button", { name: "Disconnect" }).click();
    await connect(page, "");
    await hasText(page, "#own-id", /^ann$/);
    const text = await traffic(page);
    assert.ok(!token.split(".").some((part) => text.includes(part)), text);
  });
});

test("a listener with a path and a key of its own has its page below the path", deadline, async () => {
  await withTryPage({ ...settings, path: "/my/app", key: 'k"<&' }, {}, async (site) => {
    await pair(site, "/my/app/try");
  });
});

test("what a stranger writes is text", deadline, async () => {
  await withTryPage(settings, { width: 360 }, async (site) => {
    const called = await site.tab("/try");
    await connect(called, "ann");
    const caller = await site.tab("/try");
    await connect(caller, HOSTILE.slice(0, 250));
    await caller.getByLabel("Or call an id").fill("ann");
    await caller.keyboard.press("Enter");
    await hasText(called, "#talk", /is open$/);
    await write(caller, HOSTILE);
    await hasText(called, "#talk .other .words", /^<img src=x onerror=alert\(1\)>/);
    assert.equal(await called.locator("img").count(), 0);
    await look(called, "peerjs-stranger", { width: 360, colorScheme: "light" });
    await look(caller, "peerjs-strange", { width: 360, colorScheme: "light" });
  });
});

for (const view of looks) {
  test(`it is seen and used at ${view.width} ${view.colorScheme}`, deadline, async () => {
    await withTryPage(settings, view, async (site) => {
      const first = await site.tab("/try");
      await inspect(first, "peerjs-begin", view);
      await first.close();
      const [called, caller] = await pair(site);
      await write(called, "Hello!");
      await hasText(caller, "#talk .other", /Hello!$/);
      await write(caller, "Hi there! This is a longer message, which takes more than one line of a telephone.");
      await hasText(called, "#talk .other", /Hi there!/);
      await look(called, "peerjs-talk", view);
      await caller.reload();
      await hasText(called, "#talk", /has hung up$/);
      await look(called, "peerjs-ended", view);
    });
  });
}
