// Answers of /status, in the shape in which the daemon gives them.

/** When the samples were taken. */
export const now = Date.parse("2026-11-28T14:30:00.000Z");

const ago = (seconds) => new Date(now - 1000 * seconds).toISOString();

/** Returns numbers of messages for five minutes: a wave with noise that is always the same. */
function wave(level, phase) {
  let noise = 7 + phase;
  return Array.from({ length: 300 }, (_, second) => {
    noise = (noise * 16807) % 2147483647;
    const swing = 1 + Math.sin(second / 25 + phase) * 0.5;
    return Math.round(level * swing * (0.75 + (noise % 1000) / 2000));
  });
}

/** A listener that nobody has used. */
const unused = (protocol, address, endpoint) => ({
  protocol,
  address,
  endpoint,
  is_bound: true,
  connections: 0,
  max_connections: 5000,
  accepted: 0,
  refused: {},
  closed: {},
  messages_in: 0,
  messages_out: 0,
  bytes_in: 0,
  bytes_out: 0,
  outbox_bytes: 0,
  slow_consumers: 0,
  rate_limited: 0,
  evicted: 0,
  sizes: {},
  history: { messages_in: [0, 0, 0], messages_out: [0, 0, 0], connections: [0, 0, 0] },
});

/** A daemon that was just started. */
const idle = () => ({
  version: "0.1.0",
  pid: 4711,
  started_at: ago(3),
  uptime_seconds: 3.2,
  healthy: true,
  connections: 0,
  max_connections: 19960,
  memory: { held_bytes: 0, budget_bytes: 128 << 20, resident_bytes: 6.3 * (1 << 20) },
  listeners: [unused("peerjs", "localhost:9000", "/peerjs")],
  bans: [],
  warnings: [],
});

/** A daemon with five protocols that are in use. */
function busy() {
  const used = (protocol, address, endpoint, level, others) => ({
    ...unused(protocol, address, endpoint),
    connections: level,
    accepted: 40 * level,
    messages_in: 31_234 * level,
    messages_out: 51_901 * level,
    bytes_in: 4_123_456 * level,
    bytes_out: 9_876_543 * level,
    history: {
      messages_in: wave(level, 1),
      messages_out: wave(1.7 * level, 2),
      connections: wave(level, 3),
    },
    ...others,
  });
  return {
    ...idle(),
    started_at: ago(187_323),
    uptime_seconds: 187_323,
    connections: 5_519,
    memory: { held_bytes: 104 << 20, budget_bytes: 128 << 20, resident_bytes: 171 << 20 },
    listeners: [
      used("peerdrop", "*:9081", "/ws/chat", 214, {
        refused: { 403: 2, 404: 31, wrong_code: 1290, timeout: 7 },
        closed: { "1000 peer left": 8411, "4404 no such session": 1290, lost: 12 },
        sizes: { sessions: 107, waiting_joins: 0, wrong_codes: 18 },
      }),
      used("fastchat", "*:8000", "/ws", 1_180, {
        rate_limited: 83,
        slow_consumers: 2,
        closed: { "1000 done": 45_001, "1013 too slow": 2, left: 871, silent: 44 },
        sizes: { users: 1180, chats: 512, recently_gone: 61 },
      }),
      used("workspace", "localhost:4000", "/ws", 68, {
        outbox_bytes: 3_511_000,
        closed: { "1000 done": 512 },
        sizes: { members: 68, teams: 9 },
      }),
      { ...unused("loudsync", "192.0.2.17:8080", "/ws"), is_bound: false },
      used("peerjs", "[::1]:9000", "/peerjs", 4_057, {
        max_connections: 4_100,
        evicted: 5,
        outbox_bytes: 81_000_000,
        refused: { 401: 3, 404: 17, 503: 261, timeout: 40 },
        closed: { "1000 done": 158_000, "1009 too big": 3, lost: 611 },
        sizes: { clients: 4057, mailboxes: 12 },
      }),
    ],
    bans: [
      { network: "198.51.100.7", until: ago(-3600) },
      { network: "2001:db8:6f::/48", until: null },
    ],
    warnings: [
      { time: ago(187_322), level: "error", message: "listeners[3] (loudsync) cannot listen on 192.0.2.17:8080: Cannot assign requested address (os error 99); write an address that this machine has, or \"*:8080\" for all of them; it is tried again each second" },
      { time: ago(90_000), level: "warn", message: "peerjs: a client speaks TLS; put a proxy in front of ws://[::1]:9000, or let clients connect with ws://" },
      ...Array.from({ length: 12 }, (_, at) => ({
        time: ago(3_000 - 60 * at),
        level: "warn",
        message: `peerjs: ${21 + at} clients were refused with 503, as 4100 are connected (max_connections)`,
      })),
      { time: ago(65), level: "warn", message: "memory budget exceeded: 5 connections that held most were closed" },
    ],
  };
}

/** A daemon whose broker hangs. */
const unhealthy = () => ({ ...busy(), healthy: false });

/** A daemon whose clients try to become part of the page. */
function hostile() {
  const markup = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>";
  return {
    ...busy(),
    version: markup,
    listeners: [
      {
        ...busy().listeners[0],
        protocol: markup,
        address: markup,
        endpoint: `javascript:${markup}`,
        refused: { [markup]: 1, ["__proto__"]: 2 },
        closed: { [`4000 ${markup}`]: 1 },
        sizes: { [markup]: 1 },
      },
    ],
    bans: [{ network: markup, until: markup }],
    warnings: [{ time: markup, level: markup, message: `${markup} ${"x".repeat(512)}` }],
  };
}

export const samples = { idle, busy, unhealthy, hostile };
