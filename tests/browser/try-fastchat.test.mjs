// FastChat's page in Chromium, by hand in two tabs.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import WebSocket from "ws";
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

const settings = { protocol: "fastchat" };

/** Connects under a name in a new tab. */
async function connect(site, name, token = "") {
  const page = await site.tab();
  await page.getByLabel("Your name").fill(name);
  if (token) await page.getByLabel("Access token").fill(token);
  await page.getByRole("button", { name: "Connect" }).click();
  return page;
}

/** Connects Ann and Bob, and has Ann open a chat. */
async function pair(site) {
  const ann = await connect(site, "Ann");
  await hasText(ann, "#people", /^Ann \(you\)online$/);
  const bob = await connect(site, "Bob");
  await ann.getByRole("button", { name: "Chat Bob" }).click();
  await hasText(ann, "#chat-title", /^Chat with Bob$/);
  await hasText(bob, "#chat-title", /^Chat with Ann$/);
  return [ann, bob];
}

/** Connects a user without a browser, who sends this message once PRESENCE has come. Resolves when that is answered. */
const stranger = (site, name, message) =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${site.daemon.port}/ws`);
    const tell = (type, data) => socket.send(JSON.stringify({ type, data }));
    socket.on("open", () => tell("HELLO", { user_id: randomUUID(), display_name: name }));
    socket.on("message", (data) => {
      const { type } = JSON.parse(data);
      if (type === "HELLO_ACK") tell(message.type, message.data);
      else if (type !== "PRESENCE") resolve(socket);
    });
    socket.on("error", reject);
  });

test("two users chat, see each other's typing, and what was delivered", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [ann, bob] = await pair(site);
    await ann.getByLabel("Message", { exact: true }).fill("Hello!");
    await hasText(bob, "#people", /Annonlineis typing …/);
    await ann.keyboard.press("Enter");
    await hasText(bob, "#chats .other", /^Hello!$/);
    await hasText(ann, "#chats .own", /^Hello!delivered$/);
    await hasTraffic(bob, /^received \{"type":"TYPING","data":\{"user_id":"[^"]*","is_typing":false\}\}$/);
    await write(bob, "Hi Ann!");
    await hasText(ann, "#chats .other", /^Hi Ann!$/);
    await hasTraffic(ann, /^sent \{"type":"MSG","data":\{"to":"[^"]*","content":"Hello!","message_id":"1"\}\}$/);
    await hasTraffic(bob, /^received \{"type":"MSG","data":\{"from":"[^"]*",.*"content":"Hello!"/);
    await bob.getByRole("button", { name: "Disconnect" }).click();
    await hasText(ann, "#people", /Boboffline/);
    await write(ann, "Are you there?");
    await hasText(ann, "#notice", /^MESSAGE_FAILED: /);
    await hasText(ann, "#chats .own:last-child", /^Are you there\?MESSAGE_FAILED$/);
    await hasTraffic(bob, /^note closed with 1000: done$/);
    // What was said can be read on, until the next connection.
    await ann.getByRole("button", { name: "Disconnect" }).click();
    await ann.locator("#write").waitFor({ state: "hidden" });
    assert.ok(await ann.locator("#notice").isHidden());
    assert.ok(await ann.locator("#chats").getByText("Hi Ann!").isVisible());
    await ann.getByRole("button", { name: "Connect" }).click();
    await hasText(ann, "#people", /^Ann \(you\)online$/);
    assert.ok(await ann.locator("#chat").isHidden());
  });
});

test("however many strangers open chats, one's own row and chat stay", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [ann, bob] = await pair(site);
    await write(bob, "Hi Ann!");
    await hasText(ann, "#chats", /Hi Ann!/);
    await ann.locator("#people li").first().evaluate((row) => (row.dataset.mark = "kept"));
    const target_user_id = await ann.evaluate(() => userId);
    const sockets = [];
    for (let at = 0; at < 260; at += 1) {
      sockets.push(await stranger(site, `Stranger ${at}`, { type: "OPEN_CHAT", data: { target_user_id } }));
    }
    await hasText(ann, "#more", /^and 62 more$/);
    await ann.waitForFunction(() => document.querySelectorAll("#chats ol").length === 201);
    assert.equal(await ann.locator("#people li:visible").count(), 200);
    assert.equal(await ann.locator("#people li").first().evaluate((row) => row.dataset.mark), "kept");
    assert.match(await ann.locator("#people li").nth(1).textContent(), /^Stranger 259/);
    assert.ok(await ann.locator("#chats").getByText("Hi Ann!").isVisible());
    for (const socket of sockets) socket.close();
    await ann.waitForFunction(() => !document.querySelector("#people").textContent.includes("Stranger 0online"));
    await write(bob, "Still there?");
    await hasText(ann, "#chats", /Still there\?/);
  });
});

test("a HELLO that is refused can be mended, and a third user's message waits in the list", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const [ann, bob] = await pair(site);
    const cat = await connect(site, "C");
    await hasText(cat, "#notice", /^VALIDATION: .*display_name/);
    await cat.getByLabel("Your name").fill("Cat");
    await cat.keyboard.press("Enter");
    await cat.getByRole("button", { name: "Chat Ann" }).click();
    await write(cat, "And me?");
    await hasText(ann, "#people", /Catonline1 newChat Cat/);
    await hasText(ann, "#chat-title", /^Chat with Bob$/);
    await ann.getByRole("button", { name: "Chat Cat" }).click();
    await hasText(ann, "#chat-title", /^Chat with Cat$/);
    await hasText(ann, "#people", /CatonlineChat Cat/);
    await ann.getByText("And me?", { exact: true }).waitFor();
    await write(ann, `And you!${"\n".repeat(2)}${"Long. ".repeat(150)}`);
    await hasText(cat, "#chats .other", /^And you!/);
    const isAtEnd = await cat.evaluate(() => {
      const view = document.querySelector("#chats");
      return view.scrollTop > 0 && view.scrollHeight - view.scrollTop - view.clientHeight < 2;
    });
    assert.ok(isAtEnd);
    await bob.close();
    await hasText(ann, "#people", /Boboffline/);
  });
});

test("a token is sent in HELLO, says who one is, and is not shown", deadline, async () => {
  await withTryPage({ ...settings, access: { secret } }, {}, async (site) => {
    const refused = await connect(site, "Ann");
    await hasText(refused, "#notice", /^Closed with 4401: unauthorized\.$/);
    const sub = "aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa";
    const token = signedToken(secret, { sub, name: "Ann of the token" });
    const ann = await connect(site, "", token);
    await hasText(ann, "#people", /^Ann of the token \(you\)online$/);
    await hasTraffic(ann, /^note connects to ws:\/\/[^?]*$/);
    await hasTraffic(ann, /^sent \{"type":"HELLO",.*"token":"…"\}\}$/);
    await hasTraffic(ann, new RegExp(`^received .*"HELLO_ACK","data":\\{"user_id":"${sub}"`));
    assert.ok(!(await traffic(ann)).includes(token.slice(-20)));
    await connect(site, "", signedToken(secret, { name: "Bob" }));
    await hasText(ann, "#people", /Bobonline/);
  });
});

test("what a stranger is called and writes is text", deadline, async () => {
  await withTryPage(settings, { width: 360 }, async (site) => {
    const ann = await connect(site, "Ann");
    const stranger = await connect(site, HOSTILE.slice(0, 88));
    await stranger.getByRole("button", { name: "Chat Ann" }).click();
    await hasText(ann, "#chat-title", /^Chat with \u05e9\u05dc\u05d5\u05ddW{46}$/);
    await write(stranger, `${HOSTILE} < b`);
    await hasText(ann, "#chats .other", /\u05e9\u05dc\u05d5\u05ddW{300} < b$/);
    await hasTraffic(stranger, /^sent .*<img src=x onerror=alert\(1\)>/);
    for (const page of [ann, stranger]) assert.equal(await page.locator("img, b").count(), 0);
    await look(ann, "fastchat-stranger", { width: 360, colorScheme: "light" });
    await look(stranger, "fastchat-as-stranger", { width: 360, colorScheme: "light" });
  });
});

test("the keyboard is enough", deadline, async () => {
  await withTryPage(settings, {}, async (site) => {
    const bob = await connect(site, "Bob");
    await hasText(bob, "#people", /Bob/);
    const ann = await site.tab();
    for (const key of ["Tab", "Control+a", "A", "n", "n", "Enter"]) await ann.keyboard.press(key);
    await hasText(ann, "#people", /Bob/);
    // The focus is behind the list.
    for (const key of ["Shift+Tab", "Enter"]) await ann.keyboard.press(key);
    await hasText(ann, "#chats", /this chat is open/);
    await ann.keyboard.type("hi");
    await ann.keyboard.press("Enter");
    await hasText(bob, "#chats .other", /^hi$/);
  });
});

for (const view of looks) {
  test(`it is seen and used at ${view.width} ${view.colorScheme}`, deadline, async () => {
    await withTryPage(settings, view, async (site) => {
      await inspect(await site.tab(), "fastchat-begin", view);
      const [ann, bob] = await pair(site);
      await connect(site, "Cat");
      await hasText(ann, "#people", /Cat/);
      await write(ann, "Hello!");
      await hasText(bob, "#chats .other", /^Hello!$/);
      await write(bob, "Hi Ann! This is a longer message, which takes more than one line of a telephone.");
      await hasText(ann, "#chats .other", /^Hi Ann!/);
      await hasText(ann, "#chats .own", /delivered$/);
      await inspect(ann, "fastchat-chat", view);
      await ann.getByRole("button", { name: "Disconnect" }).click();
      await hasText(ann, "#state", /^Closed with 1000$/);
      await inspect(ann, "fastchat-ended", view);
    });
  });
}
