// A client of either server that says what it is told to and notes what it gets.

import WebSocket from "ws";

export class Client {
  /** Connects to a path and query; whether it gets in is for the notes to say. */
  static async connect(port, target, headers) {
    const client = new Client();
    client.got = [];
    client.raw = [];
    client.waiting = [];
    client.socket = new WebSocket(`ws://127.0.0.1:${port}${target}`, { headers });
    const note = (message, raw) => {
      client.got.push(message);
      client.raw.push(raw);
      client.waiting.splice(0).forEach((wake) => wake());
    };
    client.socket.on("message", (data) => note(JSON.parse(data.toString()), data.toString()));
    client.socket.on("close", (code) => {
      client.code = code;
      note("closed");
    });
    client.socket.on("error", () => {});
    client.socket.on("unexpected-response", (_, response) => note(`HTTP ${response.statusCode}`));
    await new Promise((resolve) => {
      client.socket.once("open", resolve);
      client.socket.once("close", resolve);
      client.socket.once("unexpected-response", resolve);
    });
    return client;
  }

  /** Connects under an id. */
  static join(port, id, token = `token of ${id}`) {
    const query = new URLSearchParams({ key: "peerjs", id, token });
    return Client.connect(port, `/peerjs?${query}`);
  }

  says(message) {
    this.socket.send(typeof message === "string" ? message : JSON.stringify(message));
  }

  /** Waits until what it got is as it should be. */
  async until(isSo) {
    while (!isSo(this.got)) await new Promise((wake) => this.waiting.push(wake));
    return this.got;
  }

  /** Waits until it is closed, or has not been let in. */
  end() {
    return this.until((got) => got.some((message) => typeof message === "string"));
  }

  /** All that it got, once it has got a message of its own, which comes last. */
  async all(own) {
    this.says({ type: "CANDIDATE", dst: own, payload: "last" });
    const isLast = (message) => message.payload === "last";
    const got = await this.until((got) => got.some(isLast));
    return got.filter((message) => !isLast(message));
  }

  /** Whether it stays connected after all that the server has been told so far. */
  async stays() {
    // A Pong may leave before a Close that is due, a second one may not.
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
