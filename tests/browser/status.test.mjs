// The status page in headless Chromium: what an operator sees of a daemon. Most tests give it an answer of /status
// from status-samples.mjs; the others let the daemon answer.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Client } from "./client.mjs";
import { startDaemon } from "./daemon.mjs";
import { startBrowser } from "./site.mjs";
import { now, samples } from "./status-samples.mjs";

const deadline = { timeout: 300_000 };
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const schemes = ["light", "dark"];

/** A wide window, the same at a zoom of 200 %, and a telephone. */
const widths = [1280, 640, 360];

let daemon, browser;

before(async () => {
  daemon = await startDaemon({ trace_messages: true });
  browser = await startBrowser();
});

after(async () => {
  await browser?.close();
  await daemon?.stop();
});

/**
 * Opens the page and calls `look` with it. `answer` returns the answer of /status; without one the daemon answers.
 * Fails if the page has an error, violates its policy, or asks another host, but for `expected` errors. `at` is the
 * time that the page's clock shows.
 */
async function visit({ answer, width = 1280, colorScheme = "light", port, expected, at }, look) {
  const origin = `http://127.0.0.1:${port ?? daemon.statusPort}`;
  const context = await browser.newContext({
    viewport: { width, height: 900 },
    colorScheme,
    locale: "en-GB",
    reducedMotion: "reduce",
  });
  const problems = [];
  context.on("console", (message) => {
    if (message.type() !== "info" && !expected?.test(message.text())) problems.push(message.text());
  });
  context.on("weberror", (error) => problems.push(String(error.error())));
  context.on("request", (request) => {
    if (!request.url().startsWith(`${origin}/`)) problems.push(`asks ${request.url()}`);
  });
  await context.addInitScript(() => {
    document.addEventListener("securitypolicyviolation", (event) => {
      console.error(`violates ${event.violatedDirective}: ${event.blockedURI}`);
    });
  });
  if (answer) await context.route("**/status", (route) => route.fulfill({ json: answer() }));
  if (at) await context.clock.setFixedTime(at);
  const page = await context.newPage();
  await page.goto(`${origin}/`);
  try {
    await look(page);
    assert.deepEqual(problems, []);
  } finally {
    await context.close();
  }
}

/** Waits until an element has a text that matches. */
const waitForText = (page, selector, pattern) =>
  page.waitForFunction(
    ([selector, pattern]) => new RegExp(pattern).test(document.querySelector(selector)?.textContent),
    [selector, pattern.source],
    deadline,
  );

const waitUntilShown = (page) => page.waitForSelector("#main:not([hidden])", deadline);

const cardTexts = (page, selector) => page.locator(`.card ${selector}`).allTextContents();

/** Returns the contrast of two colours as `getComputedStyle` has them (WCAG 2.2, contrast ratio). */
function contrast(first, second) {
  const luminance = (color) => {
    const [red, green, blue] = color.match(/[\d.]+/g).map((value) => {
      const part = Number(value) / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const [light, dark] = [luminance(first), luminance(second)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

test("the page of a daemon works without an error and without another host", deadline, async () => {
  await visit({}, async (page) => {
    await waitUntilShown(page);
    assert.equal(await page.title(), "switchboard");
  });
});

test("a warning of the daemon is shown with its time", deadline, async () => {
  await visit({}, async (page) => {
    await waitForText(page, "#warnings li code", /trace_messages/);
    const time = await page.locator("#warnings time").first().getAttribute("datetime");
    assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    assert.match(await page.locator("#warnings li").first().textContent(), /Warning/);
  });
});

test("connections and messages of the daemon are shown as they come and go", deadline, async () => {
  await visit({}, async (page) => {
    await waitForText(page, ".card .use strong", /^0 connections$/);
    const [sender, recipient] = [await Client.join(daemon.port, "ann"), await Client.join(daemon.port, "bob")];
    await waitForText(page, ".card .use strong", /^2 connections$/);
    await waitForText(page, "#connections", /^2$/);
    sender.send({ type: "CANDIDATE", dst: "bob", payload: "hello" });
    await recipient.until((got) => got.some(({ payload }) => payload === "hello"));
    await waitForText(page, ".series div", /^Received\d now, peak [1-9]/);
    assert.match(await page.locator(".received").last().getAttribute("d"), /^M\d+ [\d.]+L/);
    [sender, recipient].forEach((client) => client.close());
    await waitForText(page, ".card .use strong", /^0 connections$/);
    await waitForText(page, ".facts", /Connections accepted2/);
    const response = await fetch(`http://127.0.0.1:${daemon.port}/nothing`);
    assert.equal(response.status, 404);
    await waitForText(page, ".outcomes", /^Refused, by reason4041/);
  });
});

test("the numbers follow the daemon without a reload", deadline, async () => {
  const status = samples.idle();
  await visit({ answer: () => status }, async (page) => {
    await waitForText(page, "#connections", /^0$/);
    status.connections = 37;
    status.listeners[0].connections = 1;
    status.listeners[0].history.messages_in.push(12);
    status.listeners[0].refused["404"] = 3;
    await waitForText(page, "#connections", /^37$/);
    assert.deepEqual(await cardTexts(page, ".use strong"), ["1 connection"]);
    assert.match(await page.locator(".series").textContent(), /Received12 now, peak 12/);
    assert.match(await page.locator(".outcomes").textContent(), /4043/);
    status.listeners.push({ ...samples.idle().listeners[0], protocol: "loudsync" });
    await waitForText(page, ".card:nth-child(2) h3", /^loudsync$/);
    status.listeners.shift();
    await page.waitForFunction(() => document.querySelectorAll(".card").length === 1, null, deadline);
    assert.deepEqual(await cardTexts(page, "h3"), ["loudsync"]);
  });
});

test("clients are told what to connect to", deadline, async () => {
  const at = (address, endpoint = "/ws") => ({ ...samples.idle().listeners[0], address, endpoint });
  const listeners = [at("localhost:9000"), at("*:8000"), at("[::1]:80"), at("unix:/run/x.sock"), at("systemd:chat")];
  listeners.push({ ...at("localhost:9001"), certificate_expires_at: "2026-12-24T18:00:00.000Z" });
  await visit({ answer: () => ({ ...samples.idle(), listeners }) }, async (page) => {
    await waitUntilShown(page);
    assert.deepEqual(await cardTexts(page, ".endpoint"), [
      "ws://localhost:9000/ws",
      "ws://127.0.0.1:8000/ws",
      "ws://[::1]:80/ws",
      "unix:/run/x.sock, path /ws",
      "systemd:chat, path /ws",
      "wss://localhost:9001/ws",
    ]);
    await waitForText(page, ".card:last-child .facts", /Certificate expires2026-12-24/);
  });
});

test("a listener that waits for its port says so", deadline, async () => {
  await visit({ answer: samples.busy }, async (page) => {
    await waitUntilShown(page);
    const card = page.locator(".card", { hasText: "loudsync" });
    assert.ok(await card.getByText("Waiting for its port").isVisible());
    assert.equal(await card.locator("svg").first().isVisible(), false);
    assert.equal(await page.locator(".waiting:visible").count(), 1);
  });
});

test("a daemon whose broker hangs is not healthy", deadline, async () => {
  await visit({ answer: samples.unhealthy }, async (page) => {
    await waitForText(page, "#health", /^Not healthy/);
    assert.match(await page.title(), /not healthy/);
  });
});

test("the newest warning is the first", deadline, async () => {
  await visit({ answer: samples.busy }, async (page) => {
    await waitUntilShown(page);
    const warnings = await page.locator("#warnings li code").allTextContents();
    assert.equal(warnings.length, 15);
    assert.match(warnings[0], /^memory budget/);
    assert.match(warnings.at(-1), /^listeners\[3\]/);
  });
});

test("empty lists say what that means", deadline, async () => {
  await visit({ answer: samples.idle }, async (page) => {
    await waitUntilShown(page);
    const texts = ["No client was refused", "No connection has ended", "Nothing is kept", "Nobody is banned", "No warning"];
    for (const text of texts) {
      assert.ok(await page.getByText(text).isVisible(), text);
    }
  });
});

test("an answer without bans, history and warnings is shown", deadline, async () => {
  const { bans, warnings, memory, ...status } = samples.busy();
  status.listeners.forEach((listener) => delete listener.history);
  await visit({ answer: () => status }, async (page) => {
    await waitUntilShown(page);
    assert.equal(await page.locator("#bans").isVisible(), false);
    assert.equal(await page.getByText("No history yet").first().isVisible(), true);
  });
});

test("text from outside stays text", deadline, async () => {
  await visit({ answer: samples.hostile }, async (page) => {
    await waitUntilShown(page);
    assert.equal(await page.title(), "switchboard");
    const elements = await page.locator("img, body script, a[href^=javascript]").count();
    assert.equal(elements, 1, "the page's own script");
    for (const place of ["#version", ".card h3", ".endpoint", ".facts", "#bans", "#warnings"]) {
      assert.match(await page.locator(place, { hasText: "<img" }).first().textContent(), /<img src=x onerror=/);
    }
  });
});

test("a daemon that does not answer is said, and that it answers again", deadline, async () => {
  let own = await startDaemon();
  const port = own.statusPort;
  const expected = /^Failed to load resource: net::ERR_/;
  try {
    await visit({ port, expected }, async (page) => {
      await waitUntilShown(page);
      assert.equal(await page.locator("#link").textContent(), "");
      await own.stop();
      await waitForText(page, "#link", /^Since \d\d:\d\d:\d\d switchboard does not answer\./);
      assert.equal(await page.locator("#health").textContent(), "No answer");
      assert.ok(await page.locator("#main").isVisible(), "what it said last stays");
      own = await startDaemon({}, { status: `127.0.0.1:${port}` });
      await waitForText(page, "#link", /^switchboard answers again, after /);
      assert.notEqual(await page.locator("#health").textContent(), "No answer");
    });
  } finally {
    // A process that is left keeps the tests from ending.
    await own.stop();
  }
});

test("an answer that is not the status is said", deadline, async () => {
  let response = { status: 503, body: "no" };
  await visit({ expected: /status of 503/ }, async (page) => {
    await page.route("**/status", (route) => route.fulfill(response));
    await waitForText(page, "#link", /answers with HTTP status 503/);
    response = { status: 200, body: "<p>" };
    await waitForText(page, "#link", /not JSON/);
    response = { status: 200, json: samples.idle() };
    await waitForText(page, "#link", /answers again/);
  });
});

test("a page that nobody sees does not ask", deadline, async () => {
  let asked = 0;
  const answer = () => {
    asked += 1;
    return samples.idle();
  };
  await visit({ answer }, async (page) => {
    await waitUntilShown(page);
    const show = (hidden) =>
      page.evaluate((hidden) => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange"));
      }, hidden);
    await page.clock.install();
    await page.waitForResponse("**/status");
    await show(true);
    // One question may be on its way.
    await page.evaluate(() => fetch("status"));
    const before = asked;
    await page.clock.runFor(60_000);
    await page.evaluate(() => fetch("status"));
    assert.equal(asked, before + 1, "nothing but the question of this test");
    const asks = page.waitForRequest("**/status");
    await show(false);
    await asks;
  });
});

test("nothing is wider than the window", deadline, async () => {
  for (const [name, answer] of Object.entries(samples)) {
    for (const width of widths) {
      await visit({ answer, width }, async (page) => {
        await waitUntilShown(page);
        const wide = await page.evaluate(() => document.documentElement.scrollWidth);
        assert.ok(wide <= width, `${name} at ${width}: ${wide}`);
      });
    }
  }
});

test("the page follows WCAG 2.2 AA in both colour schemes", deadline, async () => {
  for (const [name, answer] of Object.entries(samples)) {
    for (const colorScheme of schemes) {
      for (const width of [1280, 360]) {
        await visit({ answer, colorScheme, width }, async (page) => {
          await waitUntilShown(page);
          await page.evaluate(axe);
          const { violations, incomplete } = await page.evaluate(() =>
            axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
          );
          const found = [...violations, ...incomplete].map(({ id, nodes }) => [id, nodes.map((node) => node.html)]);
          assert.deepEqual(found, [], `${name} ${colorScheme} at ${width}`);
        });
      }
    }
  }
});

test("lines and meters stand out by 3 to 1 in both colour schemes, and the lines differ without colour", deadline, async () => {
  for (const colorScheme of schemes) {
    await visit({ answer: samples.busy, colorScheme }, async (page) => {
      await waitUntilShown(page);
      const colors = await page.evaluate(() => {
        const style = (selector) => getComputedStyle(document.querySelector(selector));
        return {
          surface: style(".card").backgroundColor,
          dashes: [style(".received").strokeDasharray, style(".sent").strokeDasharray],
          graphics: {
            received: style(".received").stroke,
            sent: style(".sent").stroke,
            base: style(".base").stroke,
            meter: style("meter").borderTopColor,
          },
        };
      });
      assert.notEqual(...colors.dashes);
      for (const [name, color] of Object.entries(colors.graphics)) {
        const ratio = contrast(color, colors.surface);
        assert.ok(ratio >= 3, `${name} ${colorScheme}: ${ratio}`);
      }
    });
  }
});

test("the colour scheme is that of the reader", deadline, async () => {
  const backgrounds = [];
  for (const colorScheme of schemes) {
    await visit({ answer: samples.idle, colorScheme }, async (page) => {
      const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      backgrounds.push(contrast(background, "rgb(0, 0, 0)"));
    });
  }
  assert.ok(backgrounds[0] > 15 && backgrounds[1] < 2, backgrounds.join(", "));
});

test("what a screen reader says is the chart in words, and no number as it changes", deadline, async () => {
  await visit({ answer: samples.busy }, async (page) => {
    await waitUntilShown(page);
    const chart = page.getByRole("img", { name: /^Messages a second over the last five minutes\. received: \d+ now/ });
    assert.ok((await chart.count()) >= 1);
    const live = await page.locator("[aria-live], [role=status], [role=alert], [role=log]").count();
    assert.equal(live, 1, "the connection to the daemon");
    assert.equal(await page.getByRole("meter").count(), 2 + 4);
  });
});

test("the keyboard reaches the warnings, and its focus is seen", deadline, async () => {
  await visit({ answer: samples.busy }, async (page) => {
    await waitUntilShown(page);
    await page.keyboard.press("Tab");
    const [text, outline] = await page.evaluate(() => {
      const { textContent } = document.activeElement;
      return [textContent, getComputedStyle(document.activeElement).outlineStyle];
    });
    assert.deepEqual([text, outline], ["Read them", "solid"]);
    await page.keyboard.press("Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "warnings-title");
  });
});

test("pictures of it are taken", { ...deadline, skip: !process.env.SCREENSHOTS }, async () => {
  const folder = process.env.SCREENSHOTS;
  mkdirSync(folder, { recursive: true });
  for (const colorScheme of schemes) {
    for (const width of [1280, 360]) {
      const picture = (page, name) => {
        const path = join(folder, `${name}-${width}-${colorScheme}.png`);
        return page.screenshot({ path, fullPage: true });
      };
      for (const [name, answer] of Object.entries(samples)) {
        await visit({ answer, colorScheme, width, at: now }, async (page) => {
          await waitUntilShown(page);
          await picture(page, name);
        });
      }
      await visit({ answer: samples.busy, colorScheme, width, at: now, expected: /ERR_FAILED/ }, async (page) => {
        await waitUntilShown(page);
        await page.route("**/status", (route) => route.abort());
        await waitForText(page, "#link", /does not answer/);
        await picture(page, "lost");
      });
    }
  }
});
