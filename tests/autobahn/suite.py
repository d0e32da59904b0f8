"""Runs the Autobahn suite against an echo server: suite.py DIRECTORY SERVER [CERTIFICATE KEY]

SERVER is the program: it is started, logs its address, and exits when its standard input ends. Temporary
files are created in DIRECTORY. With the files of a certificate and its key the server speaks TLS.
"""

import asyncio
import collections
import functools
import logging
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import time

import txaio
from autobahn.websocket import protocol

import cases

txaio.use_asyncio()

# The name of each group, and its number of cases.
GROUPS = {
    1: ("Framing", 16),
    2: ("Pings and Pongs", 11),
    3: ("Reserved bits", 7),
    4: ("Opcodes", 10),
    5: ("Fragmentation", 20),
    6: ("UTF-8", 145),
    7: ("Closing", 37),
    9: ("Limits and performance", 54),
    10: ("Automatic fragmentation", 1),
}
VERDICTS = ["OK", "NON-STRICT", "INFORMATIONAL", "FAILED"]

# The factor for the suite's time-outs, mostly a second, and the time-out of closing handshakes in seconds.
# A server on a slow machine is not wrong, and a correct one is never waited for that long.
TIMEOUT_FACTOR = 10

# For all cases together, in seconds. Cases that have not been run by then have failed.
DEADLINE = 540

# Send the pieces of a frame without a pause. The event loop would make at least a millisecond of it.
protocol.WebSocketProtocol._QUEUED_WRITE_DELAY = 0


def to_bytes(text):
    """Returns the bytes to send that a case has as characters."""
    return text.encode("latin-1") if isinstance(text, str) else text


def to_characters(payload):
    """Returns the received bytes as the characters that a case expects."""
    return payload.decode("latin-1")


class Client(protocol.WebSocketClientProtocol, asyncio.Protocol):
    """A connection for one case, with the methods and attributes that a case uses."""

    createWirelog = False
    connectionWasOpen = False
    peer = "the echo server"

    def __init__(self, factory, case):
        super().__init__()
        self.factory = factory
        self.timers = []
        self.txFrameStats = collections.Counter()
        self.lost = asyncio.get_running_loop().create_future()
        self.case = case(self)

    # Called by the event loop.

    def connection_made(self, transport):
        self.transport = transport
        self._connectionMade()

    def data_received(self, data):
        self._dataReceived(data)

    def connection_lost(self, reason):
        for timer in self.timers:
            timer.cancel()
        try:
            self._connectionLost(reason)
            self.case.onConnectionLost(self.failedByMe)
        except Exception as error:
            self.case.behavior = repr(error)
        self.lost.set_result(None)

    def _closeConnection(self, abort=False):
        if abort:
            self.transport.abort()
        else:
            self.transport.close()

    # Called by the WebSocket protocol.

    _onMessageBegin = protocol.WebSocketClientProtocol.onMessageBegin
    _onMessageFrameBegin = protocol.WebSocketClientProtocol.onMessageFrameBegin
    _onMessageFrameData = protocol.WebSocketClientProtocol.onMessageFrameData
    _onMessageFrameEnd = protocol.WebSocketClientProtocol.onMessageFrameEnd
    _onMessageFrame = protocol.WebSocketClientProtocol.onMessageFrame
    _onMessageEnd = protocol.WebSocketClientProtocol.onMessageEnd
    _onPing = protocol.WebSocketClientProtocol.onPing

    def _onConnect(self, response):
        pass

    def _onOpen(self):
        self.connectionWasOpen = True
        self.case.onOpen()

    def _onMessage(self, payload, isBinary):
        self.case.onMessage(to_characters(payload), isBinary)

    def _onPong(self, payload):
        self.case.onPong(to_characters(payload))

    def _onClose(self, wasClean, code, reason):
        self.case.onClose(wasClean, code, reason)

    def logTxFrame(self, frameHeader, payload, repeatLength, chopsize, sync):
        self.txFrameStats[frameHeader.opcode] += 1

    def logRxFrame(self, frameHeader, payload):
        pass

    # Called by the case.

    def sendFrame(self, opcode, payload=b"", *args, payload_len=None, **kwargs):
        payload = to_bytes(payload)
        if payload_len is not None:
            payload = (payload * (payload_len // len(payload) + 1))[:payload_len]
        super().sendFrame(opcode, payload, *args, **kwargs)

    def sendMessage(self, payload, *args, **kwargs):
        super().sendMessage(to_bytes(payload), *args, **kwargs)

    def sendMessageFrameData(self, payload, *args):
        return super().sendMessageFrameData(to_bytes(payload), *args)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        super().sendCloseFrame(code, to_bytes(reasonUtf8), isReply)

    def enableWirelog(self, enable):
        pass

    def later(self, delay, function):
        def unless_closed():
            if self.state != self.STATE_CLOSED:
                function()

        loop = asyncio.get_running_loop()
        self.timers.append(loop.call_later(delay, unless_closed))

    def continueLater(self, delay, function, tag=None):
        self.later(delay, function)

    def killAfter(self, delay):
        self.later(delay * TIMEOUT_FACTOR, self.failConnection)

    def closeAfter(self, delay):
        self.later(delay * TIMEOUT_FACTOR, self.sendClose)


async def run(all_cases, address, tls, judge):
    """Runs one case after the other, over TLS if there is a context, and calls `judge` with each number and connection."""
    loop = txaio.config.loop = asyncio.get_running_loop()
    host, port = address.rsplit(":", 1)
    factory = protocol.WebSocketClientFactory(f"{'wss' if tls else 'ws'}://{address}/")
    factory.setProtocolOptions(
        failByDrop=False,
        serverConnectionDropTimeout=TIMEOUT_FACTOR,
        openHandshakeTimeout=5 * TIMEOUT_FACTOR,
        closeHandshakeTimeout=TIMEOUT_FACTOR,
    )
    factory.logFrames = True
    factory.log = logging.getLogger()
    for number, case in all_cases.items():
        make = functools.partial(Client, factory, case)
        _, client = await loop.create_connection(make, host, int(port), ssl=tls, server_hostname="localhost" if tls else None)
        await client.lost
        judge(number, client)


class Report:
    """The verdicts on the cases."""

    def __init__(self):
        self.verdicts = {}
        self.notes = []

    def judge(self, number, client):
        case = client.case
        verdict = case.behavior
        if verdict not in VERDICTS or case.behaviorClose not in ("OK", "INFORMATIONAL"):
            verdict = "FAILED"
        self.verdicts[number] = verdict
        if verdict != "OK":
            note = f"{number} {verdict}"
            if verdict == "FAILED":
                note += f" ({case.behavior}: {case.result}; Close {client.remoteCloseCode}"
                note += f", {case.behaviorClose}: {case.resultClose})"
            self.notes.append(note)

    def print(self):
        """Prints a table and notes, and returns whether all cases passed."""
        print(f"{'group':<26}{'cases':>6}", *(f"{verdict:>13}" for verdict in VERDICTS))
        passed = 0
        for group, (name, count) in GROUPS.items():
            of_group = (n for n in self.verdicts if n.startswith(f"{group}."))
            found = collections.Counter(self.verdicts[number] for number in of_group)
            not_run = count - sum(found.values())
            if not_run:
                self.notes.append(f"{not_run} cases of group {group} were not run")
            found["FAILED"] += not_run
            passed += count - found["FAILED"]
            row = (f"{found[verdict]:>13}" for verdict in VERDICTS)
            print(f"{group:>2} {name:<23}{count:>6}", *row)
        print(*self.notes, sep="\n")
        total = sum(count for _, count in GROUPS.values())
        print(f"{passed} of {total} passed")
        return passed == total


def main(directory, program, *certificate):
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        return run_suite(program, certificate, pathlib.Path(scratch))


def run_suite(program, certificate, scratch):
    """Starts the server, runs all cases against it, and returns the exit status."""
    report = Report()
    started = time.monotonic()
    log = scratch / "server.log"
    with log.open("w") as output:
        arguments = ["127.0.0.1:0", *certificate] if certificate else []
        server = subprocess.Popen([program, *arguments], stdin=subprocess.PIPE, stdout=output, stderr=output)
    try:
        address = wait_for_address(server, log)
        tls = ssl.create_default_context(cafile=certificate[0]) if certificate else None
        all_cases = run(cases.load(scratch), address, tls, report.judge)
        asyncio.run(asyncio.wait_for(all_cases, DEADLINE))
    except (OSError, asyncio.TimeoutError) as error:
        report.notes.append(f"gave up: {error!r}")
    finally:
        server.stdin.close()
        try:
            status = server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            status = server.wait()
    all_passed = report.print()
    print(f"{time.monotonic() - started:.0f} s")
    panics = re.findall(r"(?m)^.*panicked at.*\n.*$", log.read_text())
    if status == 0 and not panics:
        return 0 if all_passed else 1
    print(f"the echo server exited with {status}; its status must be 0", *panics, sep="\n")
    return 1


def wait_for_address(server, log):
    """Returns the address that the server logs. Raises OSError if it does not within a minute."""
    until = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < until:
        listens = re.search(r"listens on wss?://([^/\s]+)/", log.read_text())
        if listens:
            return listens[1]
        time.sleep(0.01)
    raise OSError("the echo server does not start")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
