// What the pages on which people try a protocol have in common, by the example of PeerDrop's: the connection, the access
// token, the messages as they went. What each protocol's page does is in its own file.

import assert from "node:assert/strict";
import { test } from "node:test";
import {
  deadline,
  hasText,
  hasTraffic,
  inspect,
  looks,
  secret,
  signedToken,
  traffic,
  withTryPage,
} from "./try-page.mjs";

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
    await second.getByLabel("Access token").fill(`Bearer ${token}`);
    await second.keyboard.press("Enter");
    await hasText(page, "#peer", /is here/);
  });
});

test("whatever is in the field of the token is not shown", deadline, async () => {
  await withPage({ access: { secret } }, async (site) => {
    const page = await site.tab();
    await page.getByText("switchboard token --listener peerdrop").waitFor();
    for (const text of ["two words & 'more' + ünü\"\\", `bearer  ${token}`]) {
      await page.getByLabel("Access token").fill(text);
      await page.keyboard.press("Enter");
      await hasText(page, "#state", text.includes(token) ? /^Connected$/ : /^Closed with 4401/);
      await page.evaluate(() => logTraffic("note", JSON.stringify(accessToken())));
      for (const line of (await page.locator("#traffic li").allTextContents()).filter((line) => line.includes("connects to"))) {
        assert.match(line, /\?access_token=…$/);
      }
      await hasTraffic(page, /^note "…"$/);
    }
  });
});

test("an address that is no link is no error", deadline, async () => {
  await withPage({}, async (site) => {
    const page = await site.tab("/#%");
    await create(page);
    await hasText(page, "#session-code", /./);
  });
});

test("a message looks like no other line, also in a narrow window", deadline, async () => {
  await withTryPage({ protocol: "peerdrop" }, { width: 360 }, async (site) => {
    const page = await site.tab();
    await page.evaluate(() => logTraffic("received", "hi\n16:59\u2028\u200b\u{e0041} · closed 😀 "));
    await hasTraffic(page, /^received hi\\u000a16:59\\u2028\\u200b\\u\{e0041\} · closed 😀 $/u);
    const left = await page.evaluate(() => {
      logTraffic("received", "word ".repeat(50));
      const line = document.querySelector("#traffic").lastElementChild;
      const lines = [...line.querySelector(".words").getClientRects()].map((rect) => rect.left);
      return [line.querySelector("time").getBoundingClientRect().left, Math.min(...lines.slice(1))];
    });
    assert.ok(left[1] > left[0] + 10, String(left));
  });
});

test("a connection that does not come about leaves the form", deadline, async () => {
  await withPage({}, async (site) => {
    const page = await site.tab();
    await page.evaluate(() => {
      // A server that answers nothing.
      window.WebSocket = class extends EventTarget {
        close() {}
      };
    });
    await create(page);
    await hasText(page, "#state", /^Connecting$/);
    await create(page);
    assert.equal(await page.locator("#traffic li").count(), 2);
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
    await page.getByLabel("Or join with a code").fill("nosuch");
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
    await peer.getByLabel("Or join with a code").fill(await page.locator("#session-code").textContent());
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
