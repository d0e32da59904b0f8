"""Clients for tests/packages/run: a WebSocket client of a few lines, the pairs, and what a daemon takes.

client.py measure NAME CONNECTIONS COMMAND...
    Starts the daemon five times, lets the pairs meet, stops it, and prints a row of the table, without memory if CONNECTIONS
    is 0.
client.py pairs
    Lets a PeerJS pair and a PeerDrop pair meet at a daemon that runs.
client.py idle PID CONNECTIONS
    Prints what the memory of a daemon that runs grows by for each connection, and what is left of it when all have gone,
    when they connect one after another, and when they connect at once with large request heads.
client.py relay SECONDS
    Prints how many messages a second get from one PeerJS client to another.
"""

import base64
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

PEERJS, PEERDROP = 9000, 9081


class WebSocket:
    """A client that connects to localhost."""

    def __init__(self, port, target):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.read()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert b" 101 " in head.splitlines()[0], head

    def read(self):
        received = self.socket.recv(65536)
        assert received, "the daemon has closed the connection"
        self.buffer += received

    def send(self, text, opcode=1):
        """Sends a frame, masked with zeros."""
        data = text.encode()
        length = bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
        self.socket.sendall(bytes([0x80 | opcode]) + length + bytes(4) + data)

    def frame(self):
        """Returns opcode and payload of the next frame."""
        while True:
            if len(self.buffer) >= 2:
                length, start = self.buffer[1] & 0x7F, 2
                if length == 126 and len(self.buffer) >= 4:
                    length, start = struct.unpack("!H", self.buffer[2:4])[0], 4
                if length < 126 or start == 4:
                    if len(self.buffer) >= start + length:
                        opcode, data = self.buffer[0] & 15, self.buffer[start : start + length]
                        self.buffer = self.buffer[start + length :]
                        return opcode, data
            self.read()

    def receive(self):
        """Returns the text of the next message."""
        while True:
            opcode, data = self.frame()
            if opcode == 1:
                return data.decode()


def peerjs(name):
    client = WebSocket(PEERJS, f"/peerjs?key=peerjs&id={name}&token=t")
    assert json.loads(client.receive())["type"] == "OPEN"
    return client


def pairs():
    """Lets two clients of PeerJS exchange an offer and an answer, and two of PeerDrop a message each."""
    ann, bob = peerjs("ann"), peerjs("bob")
    ann.send('{"type":"OFFER","dst":"bob","payload":"for Bob"}')
    offer = json.loads(bob.receive())
    assert (offer["type"], offer["src"], offer["payload"]) == ("OFFER", "ann", "for Bob"), offer
    bob.send('{"type":"ANSWER","dst":"ann","payload":"for Ann"}')
    assert json.loads(ann.receive())["payload"] == "for Ann"

    ann = WebSocket(PEERDROP, "/ws/chat")
    code = ann.receive()
    bob = WebSocket(PEERDROP, f"/ws/chat/{code}")
    assert bob.receive() == code
    assert ann.receive() == "the other guy joined"
    ann.send("for Bob")
    assert bob.receive() == "for Bob"
    bob.send("for Ann")
    assert ann.receive() == "for Ann"


class Daemon:
    """A daemon that is started, its process id, and its time to readiness, which it reports as it does to systemd."""

    def __init__(self, command):
        self.directory = tempfile.TemporaryDirectory()
        path = f"{self.directory.name}/notifications"
        self.notifications = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notifications.bind(path)
        self.notifications.settimeout(60)
        self.notifications.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        environment = {**os.environ, "NOTIFY_SOCKET": path, "SWITCHBOARD_LOG": "warn"}
        begin = time.monotonic()
        self.process = subprocess.Popen(command, env=environment)
        notification, credentials = b"", []
        while b"READY=1" not in notification:
            notification, credentials, _, _ = self.notifications.recvmsg(4096, 64)
        self.milliseconds = (time.monotonic() - begin) * 1000
        self.pid = struct.unpack("iii", credentials[0][2])[0]

    def stop(self):
        os.kill(self.pid, signal.SIGTERM)
        status = self.process.wait(timeout=60)
        assert status == 0, f"exit status {status}"
        self.notifications.close()
        self.directory.cleanup()


def resident(pid):
    """Returns the resident memory of a process in KiB."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def measure(name, connections, command):
    times = []
    for _ in range(4):
        daemon = Daemon(command)
        times.append(daemon.milliseconds)
        daemon.stop()
    daemon = Daemon(command)
    times.append(daemon.milliseconds)
    before = resident(daemon.pid)
    clients = [peerjs(f"client-{number}") for number in range(connections)]
    after = resident(daemon.pid)
    pairs()
    del clients
    daemon.stop()
    memory = f"{before / 1024:.1f} | {after / 1024:.1f}" if connections else "- | -"
    print(f"| {name} | {statistics.median(times):.0f} | {memory} |", flush=True)


def idle(pid, count):
    for turn in range(2):
        before = resident(pid)
        clients = [peerjs(f"client-{number}") for number in range(count)]
        grown = (resident(pid) - before) * 1024
        print(f"{before} KiB; {grown / count:.0f} bytes for each of {count}; ", end="", flush=True)
        for client in clients:
            client.socket.close()
        settle(pid)
    for turn in range(2):
        sockets = [socket.create_connection(("127.0.0.1", PEERJS)) for _ in range(count)]
        for it in sockets:
            it.sendall(b"GET /peerjs HTTP/1.1\r\nCookie: " + b"x" * 3000)
        # A measurement, and no test: nothing tells when the last head has been read.
        time.sleep(1)
        print(f"{resident(pid)} KiB with {count} heads of 3 KB; ", end="", flush=True)
        for it in sockets:
            it.close()
        settle(pid)


def settle(pid):
    """Prints the memory of a daemon some seconds after its clients have gone."""
    # The daemon gives memory back once a second, and nothing tells of it.
    time.sleep(4)
    print(f"{resident(pid)} KiB when all have gone", flush=True)


def relay(seconds):
    ann, bob = peerjs("ann"), peerjs("bob")
    message = json.dumps({"type": "OFFER", "dst": "bob", "payload": "x" * 1000})
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in range(16):
            ann.send(message)
        for _ in range(16):
            bob.receive()
        count += 16
    print(f"{count / seconds:.0f} messages a second")


match sys.argv[1:]:
    case ["measure", name, connections, *command]:
        measure(name, int(connections), command)
    case ["pairs"]:
        pairs()
    case ["idle", pid, connections]:
        idle(int(pid), int(connections))
    case ["relay", seconds]:
        relay(float(seconds))
    case _:
        sys.exit(__doc__)
