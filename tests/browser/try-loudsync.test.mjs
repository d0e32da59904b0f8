// LOUDSYNC's page in Chromium, by hand in two tabs.

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
} from "./try-page.mjs";

const settings = { protocol: "loudsync" };

/** Fills the form of a page. */
async function fill(page, session, name, token = "") {
  await page.getByRole("textbox", { name: "Session" }).fill(session);
  await page.getByLabel("Name of your device").fill(name);
  if (token) await page.getByLabel("Access token").fill(token);
}

/** Waits until a tab has sent some heartbeats more, in more time than a member without them has in these tests. */
async function hasBeaten(page) {
  const beats = () => page.locator("#traffic .sent", { hasText: '"heartbeat"' });
  await beats().nth((await beats().count()) + 5).waitFor();
}

/** Opens a session in one tab, and follows its link in another. */
async function pair(site) {
  const host = await site.tab();
  await fill(host, "party", "Mac");
  await host.getByRole("button", { name: "Open it as host" }).click();
  await hasText(host, "#people", /^Mac \(you\)connectedhost/);
  const opened = site.context.waitForEvent("page");
  await host.getByRole("link", { name: "Join it in a second tab" }).click();
  const guest = await opened;
  await hasText(guest, "#session-title", /^Session party named Mac by its host$/);
  await hasText(host, "#happened", / has joined$/);
  return [host, guest];
}

test("a host and a guest see each other, and the host removes the guest", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [host, guest] = await pair(site);
    await hasText(guest, "#people", /^Macconnectedhost.*\(you\)connectedguest/);
    await hasText(host, "#people", /connectedguest.*Remove/);
    await hasTraffic(host, /^sent \{"type":"join","timestamp":\d+,"sessionId":"party","deviceInfo":\{.*"type":"host"\}\}$/);
    await hasTraffic(guest, /^received \{"type":"member_list"/);
    await guest.getByRole("button", { name: "Ask for the list" }).click();
    await hasTraffic(guest, /^sent \{"type":"member_list"/);
    assert.equal(await guest.getByRole("button", { name: /^Remove/ }).count(), 0);
    await host.getByRole("button", { name: /^Remove/ }).click();
    await hasText(guest, "#happened", /the host has removed you: you were too loud/);
    await hasText(guest, "#notice", /^Closed with 4403: removed by the host\.$/);
    await hasText(host, "#happened", /is gone: kicked$/);
    await guest.getByRole("button", { name: "Join it as guest" }).click();
    await hasText(guest, "#people", /\(you\)connectedguest/);
    await host.getByRole("button", { name: "Leave" }).click();
    await hasText(guest, "#happened", /the session is closed: .*you are out: session closed$/);
    await guest.getByRole("button", { name: "Join it as guest" }).click();
    await hasText(guest, "#notice", /^session_not_found: /);
  });
});

test("heartbeats run by themselves until they are stopped", deadline, async () => {
  await withTryPage({ ...settings, heartbeat_timeout: 2 }, {}, async (site) => {
    const [host, guest] = await pair(site);
    await hasBeaten(host);
    await hasText(host, "#beats", /^Heartbeats run by themselves.* Without them the server closes after 2 s\./);
    await guest.getByRole("button", { name: "Stop the heartbeats" }).click();
    await hasText(guest, "#beats", /^No heartbeats run: the server closes 2 s after the last one\./);
    await guest.getByRole("button", { name: "Start the heartbeats" }).click();
    await hasBeaten(guest);
    await guest.getByRole("button", { name: "Stop the heartbeats" }).click();
    await hasText(guest, "#notice", /^Closed with 4408: timed out\.$/);
    await hasText(host, "#happened", /is gone: timeout$/);
    await hasText(host, "#state", /^Connected$/);
  });
});

test("heartbeats run in a hidden tab, where timers that timers set come too late", deadline, async () => {
  await withTryPage({ ...settings, heartbeat_timeout: 2 }, {}, async (site) => {
    await site.context.addInitScript(() => {
      const { setTimeout } = window;
      let isInTimer = false;
      window.setInterval = () => 0;
      window.setTimeout = (handle, delay) => {
        if (isInTimer) return 0;
        return setTimeout(() => {
          isInTimer = true;
          handle();
          isInTimer = false;
        }, delay);
      };
    });
    const host = await site.tab();
    await fill(host, "party", "Mac");
    await host.keyboard.press("Enter");
    await hasBeaten(host);
    await hasText(host, "#state", /^Connected$/);
  });
});

test("a token is sent in join, says which device one is, and is not shown", deadline, async () => {
  await withTryPage({ ...settings, access: { secret } }, {}, async (site) => {
    const host = await site.tab();
    await fill(host, "party", "Mac");
    await host.keyboard.press("Enter");
    await hasText(host, "#notice", /^Closed with 4401: unauthorized\.$/);
    const token = signedToken(secret, { sub: "mac-1", name: "Mac of the token" });
    await fill(host, "party", "", token);
    await host.getByRole("button", { name: "Open it as host" }).click();
    await hasText(host, "#people", /^Mac of the token \(you\)connected/);
    await hasTraffic(host, /^sent \{"type":"join",.*"deviceInfo":\{"type":"host"\},"token":"…"\}$/);
    assert.ok(!(await traffic(host)).includes(token.slice(-20)));
    // A token need not say which device it is.
    const guest = await site.tab("/#party");
    await fill(guest, "party", "Phone", signedToken(secret, { roles: ["join"] }));
    await guest.getByRole("button", { name: "Open it as host" }).click();
    await hasText(guest, "#notice", /^(unauthorized: the token lacks the role "host"|Closed with 4401: unauthorized\.)$/);
    await guest.getByRole("button", { name: "Join it as guest" }).click();
    await hasText(guest, "#people", /Phone \(you\)connectedguest/);
  });
});

test("a join that is refused can be mended", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const page = await site.tab();
    await fill(page, "no blanks", "Mac");
    await page.keyboard.press("Enter");
    await hasText(page, "#notice", /^invalid_message: .*sessionId/);
    await hasText(page, "#state", /^Connected$/);
    await fill(page, "party", "Mac");
    await page.keyboard.press("Enter");
    await hasText(page, "#session-title", /^Session party named Mac by its host$/);
  });
});

test("what a stranger is called is text", deadline, async () => {
  await withTryPage(settings, { width: 360 }, async (site) => {
    const host = await site.tab();
    await fill(host, "party", "Mac");
    await host.keyboard.press("Enter");
    await hasText(host, "#people", /Mac/);
    const stranger = await site.tab();
    await fill(stranger, "party", HOSTILE.slice(0, 100));
    await stranger.getByRole("button", { name: "Join it as guest" }).click();
    await hasText(host, "#happened", /\u05e9\u05dc\u05d5\u05dd.*W{58} has joined$/);
    for (const page of [host, stranger]) assert.equal(await page.locator("img").count(), 0);
    await look(host, "loudsync-stranger", { width: 360, colorScheme: "light" });
  });
});

test("the keyboard is enough", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const host = await site.tab();
    for (const key of ["Tab", "Control+a", ..."party", "Tab", "Tab", "Enter"]) await host.keyboard.press(key);
    await hasText(host, "#session-title", /^Session party /);
    const guest = await site.tab();
    for (const key of ["Tab", "Control+a", ..."party", "Tab", "Tab", "Tab", "Enter"]) await guest.keyboard.press(key);
    await hasText(host, "#happened", /has joined$/);
    await host.bringToFront();
    // The focus is behind the list.
    for (const key of ["Shift+Tab", "Enter"]) await host.keyboard.press(key);
    await hasText(host, "#happened", /is gone: kicked$/);
  });
});

for (const view of looks) {
  test(`it is seen and used at ${view.width} ${view.colorScheme}`, deadline, async () => {
    await withTryPage(settings, view, async (site) => {
      await inspect(await site.tab(), "loudsync-begin", view);
      const [host, guest] = await pair(site);
      await hasText(host, "#beats", /ms\.$/);
      await inspect(host, "loudsync-host", view);
      await guest.getByRole("button", { name: "Leave" }).click();
      await hasText(guest, "#happened", /you are out: goodbye$/);
      await inspect(guest, "loudsync-ended", view);
    });
  });
}
