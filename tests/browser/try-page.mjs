// The pages on which people try a protocol: a daemon, and tabs of one browser that visit its page.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { startDaemon } from "./daemon.mjs";
import { startBrowser } from "./site.mjs";

export const deadline = { timeout: 300_000 };

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** What each page is looked at in: a wide window and a telephone, light and dark. */
export const looks = [1280, 360].flatMap((width) => ["light", "dark"].map((colorScheme) => ({ width, colorScheme })));

/** A name or a message of a stranger: markup, the other direction, and no place to break. */
export const HOSTILE = `<img src=x onerror=alert(1)>\u202e\u05e9\u05dc\u05d5\u05dd</script>${"W".repeat(300)}`;

/** The secret of the access tokens of these tests. */
export const secret = "the secret of the tokens of these tests";

/**
 * Starts a daemon with one listener with these settings, and a browser. `tab` opens the page of the listener in a new
 * tab; `close` fails if a tab had an error, violated its policy or asked another host.
 */
export async function openTryPage(settings, { width = 1280, colorScheme = "light", host = "127.0.0.1" } = {}) {
  const daemon = await startDaemon(settings);
  const browser = await startBrowser();
  const origin = `${settings.tls ? "https" : "http"}://${host}:${daemon.port}`;
  const context = await browser.newContext({
    viewport: { width, height: 900 },
    colorScheme,
    locale: "en-GB",
    reducedMotion: "reduce",
    // A certificate that a test has made is nobody's whom the browser knows.
    ignoreHTTPSErrors: Boolean(settings.tls),
    permissions: ["clipboard-read", "clipboard-write"],
  });
  context.setDefaultTimeout(60_000);
  const problems = [];
  context.on("console", (message) => problems.push(message.text()));
  context.on("dialog", (dialog) => problems.push(`a dialog: ${dialog.message()}`));
  context.on("weberror", (error) => problems.push(String(error.error())));
  context.on("request", (request) => {
    if (!request.url().startsWith(`${origin}/`)) problems.push(`asks ${request.url()}`);
  });
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`violates ${event.violatedDirective}: ${event.blockedURI}`);
    });
  });
  return {
    daemon,
    context,
    /** The console's lines that are no fault, such as that of a connection that is refused, are taken away. */
    expect(pattern) {
      const kept = problems.filter((problem) => !pattern.test(problem));
      assert.ok(kept.length < problems.length, `no ${pattern} in ${problems}`);
      problems.splice(0, problems.length, ...kept);
    },
    async tab(path = "/") {
      const page = await context.newPage();
      await page.goto(`${origin}${path}`);
      return page;
    },
    async close() {
      await browser.close();
      await daemon.stop();
      assert.deepEqual(problems, []);
    },
  };
}

/** Opens a page with these settings as {@link openTryPage} does, for as long as `use` takes. */
export async function withTryPage(settings, look, use) {
  const site = await openTryPage(settings, look);
  let isDone = false;
  try {
    await use(site);
    isDone = true;
  } finally {
    // What failed first is what is reported.
    await site.close().catch((error) => {
      if (isDone) throw error;
    });
  }
}

/** Writes a message, and sends it. */
export async function write(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

/** Waits until an element has a text that matches. */
export const hasText = (page, selector, pattern) =>
  page.waitForFunction(
    ([selector, source]) => new RegExp(source).test(document.querySelector(selector)?.textContent),
    [selector, pattern.source],
  );

/** Waits until a line of the traffic, as "sent TEXT", "received TEXT" or a note, matches. */
export const hasTraffic = (page, pattern) =>
  page.waitForFunction(
    (source) =>
      [...document.querySelectorAll("#traffic li")].some((line) =>
        new RegExp(source).test(`${line.className} ${line.querySelector(".words").textContent}`),
      ),
    pattern.source,
  );

/** Returns all text of the traffic. */
export const traffic = (page) => page.locator("#traffic").textContent();

/** Checks that a page follows WCAG 2.2 AA, and looks at it. */
export async function inspect(page, name, { width, colorScheme }) {
  await look(page, name, { width, colorScheme });
  await page.evaluate(axe);
  const { violations, incomplete } = await page.evaluate(async () => {
    // The contrast of what is scrolled out of sight cannot be found out.
    const views = [...document.querySelectorAll(".scroll")];
    const positions = views.map((view) => view.scrollTop);
    for (const view of views) view.style.maxHeight = "none";
    const results = await axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] });
    for (const [at, view] of views.entries()) {
      view.style.maxHeight = "";
      view.scrollTop = positions[at];
    }
    return results;
  });
  const found = [...violations, ...incomplete].map(({ id, nodes }) => [id, nodes.map((node) => node.html)]);
  assert.deepEqual(found, [], `${name} ${colorScheme} at ${width}`);
}

/** Checks that a page is not wider than its window, and leaves a picture of it in SCREENSHOTS. */
export async function look(page, name, { width, colorScheme }) {
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= width, `${name} at ${width}: ${wide}`);
  if (!process.env.SCREENSHOTS) return;
  const folder = join(process.env.SCREENSHOTS, "try");
  mkdirSync(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}-${width}-${colorScheme}.png`), fullPage: true });
}

/** Returns an access token with these claims (RFC 7519), signed with HS256. */
export function signedToken(secret, claims) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}
