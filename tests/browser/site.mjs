// A web site, a browser that visits it, and a daemon for its pages.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";
import { startDaemon } from "./daemon.mjs";

const client = createRequire(import.meta.url).resolve("peerjs/dist/peerjs.min.js");

/** Starts Chromium. */
export const startBrowser = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      // Both peers are on this machine, which may have no network besides loopback.
      "--allow-loopback-in-peer-connection",
      "--disable-features=WebRtcHideLocalIpsWithMdns",
      "--use-fake-device-for-media-stream",
      "--use-fake-ui-for-media-stream",
    ],
  });

/** Starts a daemon with these settings, a web site with the npm client, and a browser. `page` opens a page. */
export async function openSite(settings) {
  const daemon = await startDaemon(settings);
  const files = {
    "/": ["text/html", '<script src="/peerjs.min.js"></script>'],
    "/peerjs.min.js": ["text/javascript", readFileSync(client)],
  };
  const server = createServer((request, response) => {
    const [type, content] = files[request.url] ?? ["text/plain", "not found"];
    response.setHeader("Content-Type", type);
    response.end(content);
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const browser = await startBrowser();
  const visit = (page) => page.goto(`http://localhost:${server.address().port}/`);
  return {
    daemon,
    visit,
    /** The options of `Peer` that name the daemon. */
    server: { host: "localhost", port: daemon.port, path: "/", config: { iceServers: [] } },
    async page() {
      const page = await browser.newPage();
      await visit(page);
      return page;
    },
    async close() {
      await browser.close();
      server.close();
      await daemon.stop();
    },
  };
}
