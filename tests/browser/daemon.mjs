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

/** Starts a daemon with one PeerJS listener, on a port that the system chooses. */
export async function startDaemon(settings = {}) {
  const folder = mkdtempSync(join(tmpdir(), "switchboard-"));
  const config = join(folder, "switchboard.json");
  const listener = { protocol: "peerjs", address: "127.0.0.1:0", ...settings };
  writeFileSync(config, JSON.stringify({ listeners: [listener] }));
  const child = spawn(program, ["--config", config, "--log", "info"], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const lines = createInterface({ input: child.stdout });
  let port;
  for await (const line of lines) {
    port ??= /listens on ws:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1];
    if (line.includes("ready in")) break;
  }
  child.stdout.resume();
  if (!port) throw new Error("the daemon did not start");
  return {
    port: Number(port),
    async stop() {
      child.kill("SIGTERM");
      const status = await ended;
      rmSync(folder, { recursive: true });
      if (status !== 0) throw new Error(`the daemon ended with status ${status}`);
    },
  };
}
