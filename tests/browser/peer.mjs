// The npm package peer as a process, as its users start it, for as long as a test runs.

import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const program = fileURLToPath(new URL("node_modules/.bin/peerjs", import.meta.url));

/** Starts it on a port of the system's choice; options as on its command line, without dashes. */
export async function startPeer(options = {}) {
  const named = Object.entries(options).map(([name, value]) => `--${name}=${value}`);
  const child = spawn(process.execPath, [program, "--host=127.0.0.1", ...named], {
    // A port of 0 is none to its --port.
    env: { ...process.env, PORT: "0" },
    // It complains there about messages that it cannot read.
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
