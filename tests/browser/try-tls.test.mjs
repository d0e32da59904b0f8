// All protocols over TLS in Chromium, wss:// and https://, by the pages on which they are tried.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { deadline, hasText, hasTraffic, withTryPage } from "./try-page.mjs";

let folder, tls;

before(() => {
  folder = mkdtempSync(join(tmpdir(), "switchboard-tls-"));
  tls = { certificate: join(folder, "certificate.pem"), key: join(folder, "key.pem") };
  const request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=localhost".split(" ");
  execFileSync("openssl", [...request, "-keyout", tls.key, "-out", tls.certificate], { stdio: "ignore" });
});

after(() => rmSync(folder, { recursive: true, force: true }));

/** Connects a tab with the button that is to be pressed first. */
async function connect(page, answer) {
  await page.locator("button.main:visible").first().click();
  await hasTraffic(page, /^note connects to wss:\/\//);
  await hasTraffic(page, answer);
  await hasText(page, "#state", /^Connected$/);
}

for (const [protocol, answer] of [
  ["peerdrop", /^received [A-Z2-9]{6}$/],
  ["fastchat", /^received .*"HELLO_ACK"/],
  ["workspace", /^received .*"connected"/],
  ["loudsync", /^received .*"welcome"/],
]) {
  test(`${protocol} connects with wss`, deadline, async () => {
    await withTryPage({ protocol, tls }, {}, async (site) => {
      await connect(await site.tab(), answer);
    });
  });
}

test("two PeerJS peers meet with wss, and the HTTP API answers with https", deadline, async () => {
  await withTryPage({ protocol: "peerjs", tls }, {}, async (site) => {
    const page = await site.tab("/try");
    await connect(page, /^received .*"OPEN"/);
    const opened = site.context.waitForEvent("page");
    await page.locator("#link").click();
    const peer = await opened;
    await hasText(peer, "#talk", /the data channel with .* is open/);
    const id = await page.evaluate(() => fetch("/peerjs/id").then((response) => response.text()));
    assert.match(id, /^[0-9a-f-]{36}$/);
  });
});
