"""Clients of one server write to clients of another of the same kind, each on a machine of the laboratory (docs/testing.md).

A closed loop: so many messages are under way for each pair of clients, and what arrives is replaced. Archives are left out
(`<no-store/>`, XEP-0334). Processor time is that of both servers together.
"""

import argparse
import asyncio
import logging
import os
import tempfile
import time
from pathlib import Path

from lab import Lab, LabMoltis, LabProsody, Peer
from person import Person
from servers import Authority

KINDS = {"moltis": (LabMoltis, ("ours", "ours2")), "prosody": (LabProsody, ("prosody", "prosody2"))}
TICK = os.sysconf("SC_CLK_TCK")


class Pair:
    def __init__(self, sender: Person, receiver: Person):
        self.sender, self.receiver, self.arrived = sender, receiver, 0
        self.message = (f"<message to='{receiver.full}' type='chat' id='m'><body>{'x' * 64}</body>"
                        "<no-store xmlns='urn:xmpp:hints'/></message>").encode()
        self._rest = b""

    def start(self, window: int) -> None:
        # From now on nothing is parsed: the generator is not what is measured.
        self.receiver.client.data_received = self._count
        self._send(window)

    def _send(self, count: int) -> None:
        self.sender.client.transport.write(self.message * count)

    def _count(self, data: bytes) -> None:
        data = self._rest + data
        count = data.count(b"</message>")
        # What may be the beginning of an end.
        self._rest = data[-9:] if not data.endswith(b"</message>") else b""
        if count:
            self.arrived += count
            self._send(count)


def processor(peers: list[Peer]) -> float:
    """Seconds that the servers have used."""
    used = 0
    for peer in peers:
        fields = Path(f"/proc/{peer.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        used += int(fields[11]) + int(fields[12])
    return used / TICK


async def measure(kind: str, directory: Path, options: argparse.Namespace) -> str:
    lab = await Lab(directory, Authority(directory / "authority")).start()
    try:
        peers = [await lab.peer(label) for label in KINDS[kind][1]]
        unlimited = {"xmpp_server": {"federation": {"authentication": "certificate"},
                                     "limits": {"s2s_bytes_per_second": 0, "c2s_bytes_per_second": 0}}}
        for peer in peers:
            await peer.change(**({"log": {"level": "warn"}, **unlimited} if kind == "moltis" else {"level": "warn", "secure": True}))
        pairs = []
        for number in range(options.pairs):
            pair = Pair(await lab.person(peers[0], f"s{number}"), await lab.person(peers[1], f"r{number}"))
            pair.sender.say(pair.receiver.full, "first")
            await pair.receiver.sees(pair.sender.jid, "first")
            pairs.append(pair)
        for pair in pairs:
            pair.start(options.window)
        await asyncio.sleep(2)
        before, used, began = sum(pair.arrived for pair in pairs), processor(peers), time.monotonic()
        await asyncio.sleep(options.seconds)
        count, seconds = sum(pair.arrived for pair in pairs) - before, time.monotonic() - began
        return f"{count / seconds:,.0f} messages a second, {1e6 * (processor(peers) - used) / max(count, 1):.0f} µs of both servers each"
    finally:
        for person in lab.people:
            person.drop()
        await lab.close()


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="moltis,prosody")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--window", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    for _ in range(options.rounds):
        for kind in options.kinds.split(","):
            with tempfile.TemporaryDirectory(prefix="moltis-federation.") as directory:
                print(f"{kind}: {await measure(kind, Path(directory), options)}", flush=True)


asyncio.run(main())
