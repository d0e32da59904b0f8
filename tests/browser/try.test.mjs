// What the pages on which people try a protocol have in common, by the example of PeerDrop's: the connection, the access
// token, the messages as they went. What each protocol's page does is in its own file.

import assert from "node:assert/strict";
import { test } from "node:test";
import { deadline, hasText, hasTraffic, inspect, looks, signedToken, traffic, withTryPage } from "./try-page.mjs";

const secret = "the secret of the tokens of these tests";
const token = signedToken(secret, { roles: ["create", "join"] });

/** Opens PeerDrop's page on a listener with these settings. */
const withPage = (settings, use) => withTryPage({ protocol: "peerdrop", ...settings }, {}, use);

const create = (page) => page.getByRole("button", { name: "Create a session" }).click();

test("without tokens there is no field for one", deadline, async () => {
  await withPage({}, async (site) => {
    const page = await site.tab();
    assert.equal(await page.getByLabel("Access token").count(), 1);
    assert.equal(await page.getByLabel("Access token").isVisible(), false);
  });
});

test("a token that is demanded is sent and not shown, and its lack is said", deadline, async () => {
  await withPage({ access: { secret } }, async (site) => {
    const page = await site.tab();
    await page.getByText("this listener demands one").waitFor();
    await create(page);
    await hasText(page, "#state", /^Closed with 4401 unauthorized$/);
    await hasText(page, "#notice", /^Closed with 4401: unauthorized\.$/);
    await page.getByLabel("Access token").fill(token);
    await create(page);
    await hasText(page, "#session-code", /^[A-Z2-9]{6}$/);
    assert.equal(await page.locator("#notice").isVisible(), false);
    await hasTraffic(page, /^note connects to .*\?access_token=…$/);
    const text = await traffic(page);
    assert.ok(!token.split(".").some((part) => text.includes(part)), text);
    const link = await page.locator("#link").getAttribute("href");
    const second = await site.tab(`/${link}`);
    await second.getByLabel("Access token").fill(token);
    await second.keyboard.press("Enter");
    await second.getByRole("button", { name: "Join" }).click();
    await hasText(page, "#peer", /is here/);
  });
});

test("where a token may be left out the field says so", deadline, async () => {
  await withPage({ access: { secret, required: false } }, async (site) => {
    const page = await site.tab();
    await page.getByText("if you have one").waitFor();
    await create(page);
    await hasText(page, "#session-code", /^[A-Z2-9]{6}$/);
  });
});

test("the keyboard is enough, and what has its focus is seen", deadline, async () => {
  await withPage({}, async (site) => {
    const [first, second] = [await site.tab(), await site.tab()];
    await first.bringToFront();
    await first.keyboard.press("Tab");
    const outline = await first.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.equal(outline, "solid");
    await first.keyboard.press("Enter");
    await hasText(first, "#session-code", /^[A-Z2-9]{6}$/);
    const code = await first.locator("#session-code").textContent();
    await second.bringToFront();
    for (const key of ["Tab", "Tab", ...code.toLowerCase(), "Enter"]) await second.keyboard.press(key);
    await hasText(first, "#peer", /is here/);
    await hasText(second, "#peer", /is here/);
    await second.keyboard.type("hi");
    await second.keyboard.press("Enter");
    await hasText(first, "#talk .other", /^hi$/);
  });
});

test("a Close is said with its code and its reason in words", deadline, async () => {
  await withPage({}, async (site) => {
    const page = await site.tab();
    await page.getByLabel("Or join one: its code").fill("nosuch");
    await page.keyboard.press("Enter");
    await hasText(page, "#notice", /^Closed with 4404: no such session\.$/);
    await hasTraffic(page, /^note closed with 4404: no such session$/);
    await create(page);
    await hasText(page, "#session-code", /./);
    await site.daemon.stop();
    await hasText(page, "#notice", /^Closed with 1001: server going away\.$/);
    await create(page);
    await hasText(page, "#notice", /^Closed with 1006: refused, or the connection was lost; /);
    site.expect(/^WebSocket connection to .* failed/);
  });
});

test("the page connects to its listener whatever origins says, and by IPv6", deadline, async () => {
  for (const [address, host] of [["127.0.0.1:0", "127.0.0.1"], ["[::1]:0", "[::1]"]]) {
    await withTryPage({ protocol: "peerdrop", address, origins: ["https://app.example"] }, { host }, async (site) => {
      const page = await site.tab();
      await create(page);
      await hasText(page, "#session-code", /./);
    });
  }
});

test("the messages that are shown are bounded in number and length", deadline, async () => {
  await withPage({}, async (site) => {
    const [page, peer] = [await site.tab(), await site.tab()];
    await create(page);
    await hasText(page, "#session-code", /./);
    await peer.getByLabel("Or join one: its code").fill(await page.locator("#session-code").textContent());
    await peer.keyboard.press("Enter");
    await hasText(peer, "#peer", /is here/);
    await peer.evaluate(() => {
      for (let number = 0; number < 300; number += 1) send(`number ${number}`);
      send("x".repeat(100_000));
    });
    await hasTraffic(page, /^received x{4000} … \(100,000 characters\)$/);
    for (const list of ["#traffic", "#talk"]) assert.equal(await page.locator(`${list} > li`).count(), 200);
    const isAtEnd = await page.evaluate(() => {
      const view = document.querySelector("#traffic").parentElement;
      return view.scrollHeight - view.scrollTop - view.clientHeight < 2;
    });
    assert.ok(isAtEnd);
  });
});

for (const view of looks) {
  test(`the field for a token and what went wrong are seen at ${view.width} ${view.colorScheme}`, deadline, async () => {
    await withTryPage({ protocol: "peerdrop", access: { secret } }, view, async (site) => {
      const page = await site.tab();
      await create(page);
      await hasText(page, "#notice", /4401/);
      await inspect(page, "token", view);
    });
  });
}
