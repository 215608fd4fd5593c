"""A hundred thousand connections that come to nothing: memory is back where it was, and who means it is served meanwhile."""

import asyncio
import itertools
import re
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from courier import Courier
from moltis import Moltis
from servers import DOMAIN, PATIENCE
from stanza import CLIENT
from stream import SASL, STREAMS, encoded

PASSWORD = "correct horse battery staple"
CYCLES = 100_000
WARMING = 5_000
THREADS = 4

HEADER = (f"<?xml version='1.0'?><stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}' to='{DOMAIN}' "
          "version='1.0'>").encode()
AUTH = f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{encoded('n,,n=honest,r=abc')}</auth>".encode()
STARTTLS = b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"
# A TLS record that announces a ClientHello of 512 bytes, and its first bytes.
HALF_A_HELLO = bytes.fromhex("1603010200" "010001fc0303") + bytes(40)
UPGRADE = (b"GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           b"Sec-WebSocket-Protocol: xmpp\r\n\r\n")

# What is sent to which port, step by step, and the end of the answer that is awaited; nothing: it is not waited for.
# Weights: TLS and HTTP cost the most.
STAGES = [
    (30, "c2s_port", []),
    (20, "c2s_port", [(HEADER, b"")]),
    (20, "c2s_port", [(HEADER, b"</stream:features>")]),
    (10, "c2s_port", [(HEADER, b"</stream:features>"), (AUTH, b"</challenge>")]),
    (5, "c2s_port", [(HEADER, b"</stream:features>"), (STARTTLS, b"/>"), (HALF_A_HELLO, b"")]),
    (10, "tls_port", [(HALF_A_HELLO, b"")]),
    (5, "http_port", [(UPGRADE, b"\r\n\r\n")]),
]


def connect_and_drop(port: int, steps: list[tuple[bytes, bytes]], reset: bool) -> None:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        for sent, end in steps:
            connection.sendall(sent)
            answer = b""
            while not answer.endswith(end):
                part = connection.recv(4096)
                assert part, f"closed after {answer!r} in answer to {sent!r}"
                answer += part
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Droppers:
    """Threads: they spend their time in system calls."""

    def __init__(self, server: Moltis):
        self.plan = [(getattr(server, port), steps) for weight, port, steps in STAGES for _ in range(weight)]
        self.failures: list[Exception] = []

    async def run(self, cycles: int) -> None:
        # A step that shares no divisor with the length visits the whole plan.
        numbers = itertools.islice(itertools.count(0, 37), cycles)
        lock = threading.Lock()

        def work() -> None:
            while not self.failures:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    connect_and_drop(*self.plan[number % len(self.plan)], reset=number // len(self.plan) % 2 == 0)
                except (OSError, AssertionError) as error:
                    self.failures.append(error)
        await asyncio.gather(*(asyncio.to_thread(work) for _ in range(THREADS)))
        assert not self.failures, repr(self.failures[0])


def memory(server: Moltis) -> float:
    """Megabytes that are resident."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def sockets(server: Moltis) -> int:
    return sum("socket:" in str(file.readlink()) for file in Path(f"/proc/{server.process.pid}/fd").iterdir())


@pytest.mark.limit(280)
async def test_a_hundred_thousand_connections_that_are_dropped_leave_nothing_behind(authority, tmp_path):
    # As many in a minute as this machine can make.
    limits = {"connections_per_ip": 100_000, "login_failures_per_ip": 1_000_000}
    server = Moltis(tmp_path / "server", authority, {"xmpp_server": {"allow_plaintext": True, "limits": limits}})
    await server.start()
    try:
        await server.add_user("honest", PASSWORD)
        honest = await Courier(server.c2s_port, "honest", PASSWORD).login(presence=True)
        droppers = Droppers(server)
        await droppers.run(WARMING)
        before, sockets_before = memory(server), await at_rest(server)
        began, slowest = time.monotonic(), 0.0
        dropping = asyncio.create_task(droppers.run(CYCLES))
        while not dropping.done():
            asked = time.monotonic()
            await honest.ping()
            slowest = max(slowest, time.monotonic() - asked)
            await asyncio.wait([dropping], timeout=0.2)
        await dropping
        took = time.monotonic() - began
        assert await at_rest(server) <= sockets_before
        after = memory(server)
        print(f"{CYCLES} connections in {took:.0f} s; {before:.1f} MB before, {after:.1f} MB after; slowest ping {slowest:.2f} s")
        assert after <= 1.2 * before + 4, f"{before:.1f} MB before, {after:.1f} MB after"
        assert slowest < 3, f"an honest client waited {slowest:.1f} s"
        # And somebody new is let in.
        newcomer = await Courier(server.c2s_port, "honest", PASSWORD).login()
        await newcomer.ping()
        await newcomer.close()
        await honest.close()
    finally:
        await server.stop()


async def at_rest(server: Moltis) -> int:
    """How many sockets stay open when the number has stopped to fall."""
    count = sockets(server)
    while True:
        await asyncio.sleep(0.5)
        last, count = count, sockets(server)
        if count >= last:
            return count
