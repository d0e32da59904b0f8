// Starts switchboard as a process, for as long as a test runs.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const program = process.env.SWITCHBOARD;
if (!program) {
  throw new Error("SWITCHBOARD must be the path of the daemon under test; tests/browser/run sets it");
}

/**
 * Starts a daemon with one PeerJS listener with these settings, and with these settings of the process. The system
 * chooses its ports, unless the settings do.
 */
export async function startDaemon(settings = {}, processSettings = {}) {
  const folder = mkdtempSync(join(tmpdir(), "switchboard-"));
  const config = join(folder, "switchboard.json");
  const listener = { protocol: "peerjs", address: "127.0.0.1:0", ...settings };
  const ports = { status: "127.0.0.1:0", listeners: [listener] };
  writeFileSync(config, JSON.stringify({ ...ports, ...processSettings }));
  const child = spawn(program, ["--config", config, "--log", "info"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const lines = createInterface({ input: child.stdout });
  let port, statusPort;
  for await (const line of lines) {
    port ??= /listens on wss?:\/\/(?:127\.0\.0\.1|\[::1\]):(\d+)/.exec(line)?.[1];
    statusPort ??= /status on http:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1];
    if (line.includes("ready in")) break;
  }
  child.stdout.resume();
  if (!port) throw new Error("the daemon did not start");
  return {
    port: Number(port),
    statusPort: Number(statusPort),
    async stop() {
      child.kill("SIGTERM");
      const status = await ended;
      rmSync(folder, { recursive: true, force: true });
      if (status !== 0) throw new Error(`the daemon ended with status ${status}`);
    },
  };
}
