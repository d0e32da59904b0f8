"""Runs the Autobahn suite against an echo server: suite.py DIRECTORY ECHO

ECHO is started, says where it listens, and ends when its standard input does. What is written
meanwhile is written below DIRECTORY.
"""

import asyncio
import collections
import functools
import logging
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import txaio
from autobahn.websocket import protocol

import cases

txaio.use_asyncio()

# So many cases there are, by group.
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

# The suite gives a server a second for most things. A slow machine is not a wrong server; and one
# that does what it should is never waited for.
PATIENCE = 10

# For everything, in seconds. What has not been run by then has failed.
DEADLINE = 540

# A piece of a frame follows the last one at once, not after a moment that the event loop makes a
# millisecond of.
protocol.WebSocketProtocol._QUEUED_WRITE_DELAY = 0


def octets(text):
    """Towards the connection: the octets that a case has as characters."""
    return text.encode("latin-1") if isinstance(text, str) else text


def characters(payload):
    """Towards the case."""
    return payload.decode("latin-1")


class Client(protocol.WebSocketClientProtocol, asyncio.Protocol):
    """One connection, with what a case expects of it beyond that."""

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

    # From the event loop.

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

    # From the WebSocket.

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
        self.case.onMessage(characters(payload), isBinary)

    def _onPong(self, payload):
        self.case.onPong(characters(payload))

    def _onClose(self, wasClean, code, reason):
        self.case.onClose(wasClean, code, reason)

    def logTxFrame(self, frameHeader, payload, repeatLength, chopsize, sync):
        self.txFrameStats[frameHeader.opcode] += 1

    def logRxFrame(self, frameHeader, payload):
        pass

    # From the case.

    def sendFrame(self, opcode, payload=b"", *arguments, payload_len=None, **others):
        payload = octets(payload)
        if payload_len is not None:
            payload = (payload * (payload_len // len(payload) + 1))[:payload_len]
        super().sendFrame(opcode, payload, *arguments, **others)

    def sendMessage(self, payload, *arguments, **others):
        super().sendMessage(octets(payload), *arguments, **others)

    def sendMessageFrameData(self, payload, *arguments):
        return super().sendMessageFrameData(octets(payload), *arguments)

    def sendCloseFrame(self, code=None, reasonUtf8=None, isReply=False):
        super().sendCloseFrame(code, octets(reasonUtf8), isReply)

    def enableWirelog(self, enable):
        pass

    def later(self, delay, what):
        def unless_closed():
            if self.state != self.STATE_CLOSED:
                what()

        loop = asyncio.get_running_loop()
        self.timers.append(loop.call_later(delay, unless_closed))

    def continueLater(self, delay, what, tag=None):
        self.later(delay, what)

    def killAfter(self, delay):
        self.later(delay * PATIENCE, self.failConnection)

    def closeAfter(self, delay):
        self.later(delay * PATIENCE, self.sendClose)


async def run(all_cases, address, judge):
    """Runs one case after the other, and has each judged."""
    loop = txaio.config.loop = asyncio.get_running_loop()
    host, port = address.rsplit(":", 1)
    factory = protocol.WebSocketClientFactory(f"ws://{address}/")
    factory.setProtocolOptions(
        failByDrop=False,
        serverConnectionDropTimeout=PATIENCE,
        openHandshakeTimeout=5 * PATIENCE,
        closeHandshakeTimeout=PATIENCE,
    )
    factory.logFrames = True
    factory.log = logging.getLogger()
    for number, case in all_cases.items():
        make = functools.partial(Client, factory, case)
        _, client = await loop.create_connection(make, host, int(port))
        await client.lost
        judge(number, client)


class Report:
    """What became of the cases."""

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
        """Prints everything, and says whether it is as it should be."""
        print(f"{'group':<26}{'cases':>6}", *(f"{verdict:>13}" for verdict in VERDICTS))
        good = 0
        for group, (name, count) in GROUPS.items():
            of_group = (n for n in self.verdicts if n.startswith(f"{group}."))
            found = collections.Counter(self.verdicts[number] for number in of_group)
            not_run = count - sum(found.values())
            if not_run:
                self.notes.append(f"{not_run} cases of group {group} have not been run")
            found["FAILED"] += not_run
            good += count - found["FAILED"]
            row = (f"{found[verdict]:>13}" for verdict in VERDICTS)
            print(f"{group:>2} {name:<23}{count:>6}", *row)
        print(*self.notes, sep="\n")
        total = sum(count for _, count in GROUPS.values())
        print(f"{good} of {total} passed")
        return good == total


def main(directory, echo):
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        return against(echo, pathlib.Path(scratch))


def against(echo, scratch):
    report = Report()
    started = time.monotonic()
    log = scratch / "echo.log"
    with log.open("w") as output:
        server = subprocess.Popen([echo], stdin=subprocess.PIPE, stdout=output, stderr=output)
    try:
        address = where_it_listens(server, log)
        everything = run(cases.load(scratch), address, report.judge)
        asyncio.run(asyncio.wait_for(everything, DEADLINE))
    except (OSError, asyncio.TimeoutError) as error:
        report.notes.append(f"gave up: {error!r}")
    finally:
        server.stdin.close()
        try:
            ended = server.wait(timeout=60)
        except subprocess.TimeoutExpired:
            server.kill()
            ended = server.wait()
    good = report.print()
    print(f"{time.monotonic() - started:.0f} s")
    panics = re.findall(r"(?m)^.*panicked at.*\n.*$", log.read_text())
    if ended == 0 and not panics:
        return 0 if good else 1
    print(f"the server ended with {ended}", *panics, sep="\n")
    return 1


def where_it_listens(server, log):
    until = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < until:
        listens = re.search(r"listens on ws://([^/\s]+)/", log.read_text())
        if listens:
            return listens[1]
        time.sleep(0.01)
    raise OSError("the server does not start")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
