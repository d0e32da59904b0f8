// PeerDrop's page in Chromium, by hand in two tabs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { HOSTILE, deadline, hasText, hasTraffic, inspect, look, looks, withTryPage, write } from "./try-page.mjs";

const settings = { protocol: "peerdrop" };

/** Creates a session in one tab, and follows its link in another. */
async function pair(site) {
  const creator = await site.tab();
  await creator.getByRole("button", { name: "Create a session" }).click();
  await hasText(creator, "#session-code", /^[A-Z2-9]{6}$/);
  const opened = site.context.waitForEvent("page");
  await creator.getByRole("link", { name: "Open it in a second tab" }).click();
  const joiner = await opened;
  await hasText(creator, "#peer", /is here/);
  await hasText(joiner, "#peer", /is here/);
  return [creator, joiner];
}

test("two tabs write to each other, and one leaves", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [creator, joiner] = await pair(site);
    await write(creator, "Hello!");
    await hasText(joiner, "#talk .other", /^Hello!$/);
    await write(joiner, "Hi there!");
    await hasText(creator, "#talk .other", /^Hi there!$/);
    await hasTraffic(creator, /^sent Hello!$/);
    await hasTraffic(joiner, /^received Hello!$/);
    await joiner.getByRole("button", { name: "Leave" }).click();
    await hasText(creator, "#talk", /the session has ended: 1000: peer left$/);
    await hasTraffic(creator, /^note closed with 1000: peer left$/);
    assert.equal(await creator.getByLabel("Message", { exact: true }).isVisible(), false);
    await creator.getByRole("button", { name: "Create a session" }).click();
    await hasText(creator, "#peer", /^Waiting/);
  });
});

test("the link is copied, and joins by itself in another tab", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const creator = await site.tab();
    await creator.getByRole("button", { name: "Create a session" }).click();
    await hasText(creator, "#session-code", /./);
    await creator.getByRole("button", { name: "Copy the link" }).click();
    await hasText(creator, "#copy", /^Copied$/);
    await hasText(creator, "#copy", /^Copy the link$/);
    const link = await creator.evaluate(() => navigator.clipboard.readText());
    const joiner = await site.tab(new URL(link).pathname + new URL(link).hash);
    await hasText(creator, "#peer", /is here/);
    assert.equal(new URL(joiner.url()).hash, "", "a reload does not join a session that is over");
  });
});

test("a link whose session is over is told once, and not in the next conversation", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const page = await site.tab("/#NOSUCH");
    await hasText(page, "#notice", /^Closed with 4404: no such session\.$/);
    assert.equal(await page.locator("#talk li").count(), 0);
  });
});

test("what a stranger writes is text", deadline, async () => {
  await withTryPage(settings, { width: 360 }, async (site) => {
    const [creator, joiner] = await pair(site);
    await write(creator, HOSTILE);
    await hasText(joiner, "#talk .other", /^<img src=x onerror=alert\(1\)>/);
    assert.equal(await joiner.locator("img").count(), 0);
    await hasTraffic(joiner, /^received <img src=x onerror=alert\(1\)>\\u202e/);
    await look(joiner, "peerdrop-stranger", { width: 360, colorScheme: "light" });
  });
});

for (const view of looks) {
  test(`it is seen and used at ${view.width} ${view.colorScheme}`, deadline, async () => {
    await withTryPage(settings, view, async (site) => {
      const first = await site.tab();
      await inspect(first, "peerdrop-begin", view);
      const [creator, joiner] = await pair(site);
      await write(creator, "Hello!");
      await hasText(joiner, "#talk .other", /^Hello!$/);
      await write(joiner, "Hi there! This is a longer message, which takes more than one line of a telephone.");
      await hasText(creator, "#talk .other", /^Hi there!/);
      await inspect(creator, "peerdrop-talk", view);
      await joiner.close();
      await hasText(creator, "#talk", /peer left$/);
      await inspect(creator, "peerdrop-ended", view);
    });
  });
}
