// Workspace's page in Chromium, by hand in two tabs.

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

const settings = { protocol: "workspace" };

/** Joins the room under a name in a new tab. */
async function join(site, name, token = "") {
  const page = await site.tab();
  await page.getByLabel("Your name").fill(name);
  if (token) await page.getByLabel("Access token").fill(token);
  await page.getByRole("button", { name: "Join the room" }).click();
  return page;
}

/** Has Ann join, then Bob. */
async function pair(site) {
  const ann = await join(site, "Ann");
  await hasText(ann, "#people", /^Ann \(you\)online$/);
  const bob = await join(site, "Bob");
  await hasText(ann, "#people", /Bobonline$/);
  await hasText(bob, "#count", /^1 other was here when you came/);
  return [ann, bob];
}

test("two users write to the room, and see each other's status and typing", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [ann, bob] = await pair(site);
    await ann.getByLabel("Message", { exact: true }).fill("Hello!");
    await hasText(bob, "#people", /Annis typing …$/);
    await ann.keyboard.press("Enter");
    await hasText(bob, "#talk .other", /^Ann Hello!$/);
    await hasText(ann, "#talk .own", /^Hello!$/);
    await hasText(bob, "#people", /Ann$/);
    await hasTraffic(ann, /^sent \{"type":"message:send","text":"Hello!"\}$/);
    await hasTraffic(bob, /^received \{"type":"message:new","data":\{.*"text":"Hello!"/);
    await bob.getByLabel("Your status").selectOption("busy");
    await hasText(ann, "#people", /Bobbusy$/);
    await hasText(bob, "#people", /^Bob \(you\)busy/);
    await write(bob, " ");
    await hasText(bob, "#notice", /^INVALID_MESSAGE: .*text/);
    await bob.getByRole("button", { name: "Leave" }).click();
    await bob.locator("#write").waitFor({ state: "hidden" });
    assert.ok(await bob.locator("#notice").isHidden());
    await hasText(bob, "#talk", /you have left the room$/);
    await hasText(ann, "#talk", /Bob is offline$/);
    await hasText(ann, "#people", /^Ann \(you\)online$/);
    await bob.getByRole("button", { name: "Join the room" }).click();
    await hasText(bob, "#state", /^Connected$/);
  });
});

test("a token is sent with the handshake, says who one is, and is not shown", deadline, async () => {
  await withTryPage({ ...settings, access: { secret, required: false } }, {}, async (site) => {
    const token = signedToken(secret, { sub: "Ann" });
    const ann = await join(site, "Somebody", token);
    await hasText(ann, "#people", /^Ann \(you\)online$/);
    await hasTraffic(ann, /^note connects to .*\?username=Somebody&access_token=…$/);
    assert.ok(!(await traffic(ann)).includes(token.slice(-20)));
    const other = await join(site, "Ann");
    await hasText(other, "#notice", /^Closed with 4401: unauthorized\.$/);
    await hasTraffic(other, /^received \{"type":"error","code":"UNAUTHORIZED"/);
  });
});

test("what another connection with one's name writes is told from what one writes oneself", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const ann = await join(site, "Ann");
    await hasText(ann, "#count", /^Nobody else was here/);
    const other = await join(site, "Ann");
    await hasText(other, "#count", /^Nobody else was here/);
    await write(ann, "I");
    await hasText(ann, "#talk .own", /^I$/);
    await hasText(other, "#talk .own", /^from another connection of yours I$/);
    // A message that was refused is no longer waited for.
    await write(ann, " ");
    await hasText(ann, "#notice", /^INVALID_MESSAGE/);
    await write(other, "Me, too");
    await hasText(ann, "#talk .own:last-child", /^from another connection of yours Me, too$/);
    await hasText(other, "#talk .own:last-child", /^Me, too$/);
  });
});

test("a handshake that is refused is said", deadline, async () => {
  await withTryPage({ ...settings, max_connections_per_user: 1, takeover_after: 600 }, {}, async (site) => {
    await hasText(await join(site, "Ann"), "#state", /^Connected$/);
    const second = await join(site, "Ann");
    await hasText(second, "#notice", /^Closed with 1006: refused, or the connection was lost/);
    site.expect(/Unexpected response code: 429/);
  });
});

test("what a stranger is called and writes is text", deadline, async () => {
  await withTryPage(settings, { width: 360 }, async (site) => {
    const ann = await join(site, "Ann");
    await hasText(ann, "#people", /Ann/);
    const stranger = await join(site, HOSTILE);
    await hasText(ann, "#people", /\u05e9\u05dc\u05d5\u05ddW{60}online$/);
    await write(stranger, `${HOSTILE} < b`);
    await hasText(ann, "#talk .other .words", /\u05e9\u05dc\u05d5\u05ddW{300} < b$/);
    await hasTraffic(stranger, /^sent .*<img src=x onerror=alert\(1\)>/);
    for (const page of [ann, stranger]) assert.equal(await page.locator("img, b").count(), 0);
    await look(ann, "workspace-stranger", { width: 360, colorScheme: "light" });
  });
});

test("the keyboard is enough", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const bob = await join(site, "Bob");
    await hasText(bob, "#people", /Bob/);
    const ann = await site.tab();
    for (const key of ["Tab", "Control+a", "A", "n", "n", "Enter"]) await ann.keyboard.press(key);
    await hasText(ann, "#count", /1 other/);
    await ann.keyboard.type("hi");
    await ann.keyboard.press("Enter");
    await hasText(bob, "#talk .other", /^Ann hi$/);
  });
});

for (const view of looks) {
  test(`it is seen and used at ${view.width} ${view.colorScheme}`, deadline, async () => {
    await withTryPage(settings, view, async (site) => {
      await inspect(await site.tab(), "workspace-begin", view);
      const [ann, bob] = await pair(site);
      await write(ann, "Hello!");
      await hasText(bob, "#talk .other", /Hello!$/);
      await write(bob, "Hi Ann! This is a longer message, which takes more than one line of a telephone.");
      await hasText(ann, "#talk .other", /Hi Ann!/);
      await bob.getByLabel("Your status").selectOption("away");
      await hasText(ann, "#people", /Bobaway$/);
      const cat = await join(site, "Cat");
      await cat.getByLabel("Message", { exact: true }).pressSequentially("I");
      await hasText(ann, "#people", /Catonlineis typing …$/);
      await inspect(ann, "workspace-room", view);
      await ann.getByRole("button", { name: "Leave" }).click();
      await hasText(ann, "#state", /^Closed with 1000$/);
      await inspect(ann, "workspace-ended", view);
    });
  });
}
