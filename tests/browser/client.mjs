// A PeerJS client of either server, which sends what a test says and records everything that it gets.

import WebSocket from "ws";

export class Client {
  /**
   * Connects to a path and query. Afterwards `got` has what it gets: each message, parsed; "closed" when
   * the connection is closed; "HTTP" and the status if the handshake fails. `raw` has the same as sent.
   */
  static async connect(port, target, headers) {
    const client = new Client();
    client.got = [];
    client.raw = [];
    client.waiting = [];
    client.socket = new WebSocket(`ws://127.0.0.1:${port}${target}`, { headers });
    const record = (message, raw) => {
      client.got.push(message);
      client.raw.push(raw);
      client.waiting.splice(0).forEach((wake) => wake());
    };
    client.socket.on("message", (data) => record(JSON.parse(data.toString()), data.toString()));
    client.socket.on("close", (code) => {
      client.code = code;
      record("closed");
    });
    client.socket.on("error", () => {});
    client.socket.on("unexpected-response", (_, response) => record(`HTTP ${response.statusCode}`));
    await new Promise((resolve) => {
      client.socket.once("open", resolve);
      client.socket.once("close", resolve);
      client.socket.once("unexpected-response", resolve);
    });
    return client;
  }

  /** Connects with an id. */
  static join(port, id, token = `token of ${id}`) {
    const query = new URLSearchParams({ key: "peerjs", id, token });
    return Client.connect(port, `/peerjs?${query}`);
  }

  send(message) {
    this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** Waits until `condition` holds for what it got, and returns that. */
  async until(condition) {
    while (!condition(this.got)) await new Promise((wake) => this.waiting.push(wake));
    return this.got;
  }

  /** Waits until it is closed or rejected, and returns what it got. */
  end() {
    return this.until((got) => got.some((message) => typeof message === "string"));
  }

  /**
   * Returns the messages that it gets for everything that the server was sent so far: sends one to its own
   * id, which arrives last and is left out.
   */
  async all(id) {
    this.send({ type: "CANDIDATE", dst: id, payload: "last" });
    const isLast = (message) => message.payload === "last";
    const got = await this.until((got) => got.some(isLast));
    return got.filter((message) => !isLast(message));
  }

  /** Returns whether it stays connected after everything that the server was sent so far. */
  async stays() {
    // The server may send one Pong before a Close that is due, but not a second one.
    for (let round = 0; round < 2 && this.socket.readyState === WebSocket.OPEN; round += 1) {
      const pong = new Promise((resolve) => this.socket.once("pong", resolve));
      this.socket.ping();
      await Promise.race([pong, this.end()]);
    }
    if (this.socket.readyState === WebSocket.OPEN) return true;
    await this.end();
    return false;
  }

  close() {
    this.socket.terminate();
  }
}
