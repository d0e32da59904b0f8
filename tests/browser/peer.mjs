// Starts the npm package peer as a process by its command line, for as long as a test runs.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("node_modules/.bin/peerjs", import.meta.url));

/** Starts peer on a port that the system chooses. Options are named as on its command line, without dashes. */
export async function startPeer(options = {}) {
  const flags = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const child = spawn(process.execPath, [program, "--host=127.0.0.1", ...flags], {
    // Its --port does not accept 0, but this variable does.
    env: { ...process.env, PORT: "0" },
    // It writes an error for each message that it cannot parse.
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = new Promise((resolve) => child.once("exit", resolve));
  let port;
  for await (const line of createInterface({ input: child.stdout })) {
    port = /^Started PeerServer on .* port: (\d+)/.exec(line)?.[1];
    if (port) break;
  }
  child.stdout.resume();
  if (!port) throw new Error("peer did not start");
  return {
    port: Number(port),
    async stop() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
