"""A soak under attack: honest people chat, a room and the bot answer all the time, while everybody else tries everything.

Half a minute; SOAK_MINUTES for longer.
"""

import asyncio
import contextlib
import itertools
import os
import random
import time
from collections import Counter
from xml.etree import ElementTree as ET

import pytest

from attack import DOMAIN, MALLORY, PASSWORD, Closed, Line, Wire, frame, memory, upgrade
from courier import Courier
from models import Model
from moltis import Moltis
from bot import toml
from stanza import CLIENT
from stream import SASL, encoded
from test_attack_http import FLOODS, http_2
from test_attack_login import HALF_A_HELLO
from test_attack_xml import MALFORMED, RESTRICTED
from wire import Answer

SECONDS = float(os.environ.get("SOAK_MINUTES", "0.5")) * 60
ROOM, ROBOT = f"hall@conference.{DOMAIN}", f"robot@{DOMAIN}"
PEOPLE = ["alice", "bob", "carol"]
MUC = "http://jabber.org/protocol/muc"


class Attackers:
    """Each does one thing again and again; that it is refused, slowed down or hung up on is what should happen."""

    def __init__(self, server: Moltis):
        self.server = server
        self.done: Counter[str] = Counter()
        self.faults: list[str] = []
        self.numbers = itertools.count()

    async def run(self, stop: asyncio.Event) -> None:
        kinds = [self.connect_and_drop, self.half_open, self.slow, self.wrong_logins, self.large_stanzas, self.broken_xml, self.joins,
                 self.subscriptions, self.websocket_floods, self.http_2_floods]
        await asyncio.gather(*(self._repeat(kind, stop) for kind in kinds))

    async def _repeat(self, kind, stop: asyncio.Event) -> None:
        while not stop.is_set():
            try:
                async with asyncio.timeout(15):
                    await kind()
            except (OSError, Closed, TimeoutError, EOFError):
                pass
            except AssertionError as refused:
                self.faults.append(f"{kind.__name__}: {refused}")
            self.done[kind.__name__] += 1
            await asyncio.sleep(0.02)

    async def connect_and_drop(self) -> None:
        header = Wire(self.server, "starttls").header().encode()
        for port in (self.server.c2s_port, self.server.tls_port, self.server.http_port):
            line = await Line.open(port)
            await line.write(random.choice((b"", header, HALF_A_HELLO, upgrade())))
            line.cut()

    async def half_open(self) -> None:
        lines = [await Line.open(self.server.c2s_port) for _ in range(50)]
        for line in lines:
            await line.write(b"<stream:stream to='")
        await asyncio.sleep(2)
        for line in lines:
            line.cut()

    async def slow(self) -> None:
        lines = [await Line.open(self.server.http_port) for _ in range(30)]
        for _ in range(30):
            for line in lines:
                await line.write(b"G")
            await asyncio.sleep(0.1)
        for line in lines:
            line.cut()

    async def wrong_logins(self) -> None:
        wire = await Wire(self.server, "tls").secured()
        await wire.open()
        for _ in range(5):
            await wire.raw(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{encoded(chr(0) + 'alice' + chr(0) + 'wrong')}</auth>")
            await wire.until("</failure>")
        wire.cut()

    async def large_stanzas(self) -> None:
        wire = await Wire(self.server, "tls").bound()
        body = "x" * 200_000
        for _ in range(5):
            await wire.send(f"<message to='{MALLORY}@{DOMAIN}' type='chat'><body>{body}</body></message>")
        await wire.raw("<message><body>" + "x" * 400_000)
        await wire.condition()

    async def broken_xml(self) -> None:
        payload = random.choice([*RESTRICTED.values(), *MALFORMED.values()])
        wire = await Wire(self.server, "websocket").bound()
        await wire.raw(payload)
        await wire.condition()

    async def joins(self) -> None:
        wire = await Wire(self.server, "tls").bound()
        for number in range(200):
            room = random.choice((ROOM, f"flood{next(self.numbers)}@conference.{DOMAIN}"))
            await wire.send(f"<presence to='{room}/m{number}'><x xmlns='{MUC}'/></presence><presence to='{room}' type='unavailable'/>")
        await wire.ping()
        wire.cut()

    async def subscriptions(self) -> None:
        wire = await Wire(self.server, "starttls").bound()
        for kind in ("subscribe", "unsubscribe", "subscribed", "probe") * 50:
            await wire.send(f"<presence to='{random.choice(PEOPLE)}@{DOMAIN}' type='{kind}'/>")
        await wire.ping()
        wire.cut()

    async def websocket_floods(self) -> None:
        wire = await Wire(self.server, "websocket").bound()
        await wire.line.write(frame(b"x" * 125, 9) * 2_000 + frame(b"<a>", fin=False) + frame(b"", 0, fin=False) * 2_000)
        await wire.line.write(frame(b"x", length=1 << 40))
        await wire.condition()

    async def http_2_floods(self) -> None:
        line = await http_2(self.server)
        flood = random.choice(list(FLOODS.values()))()
        for offset in range(0, len(flood), 65_536):
            if not await line.write(flood[offset:offset + 65_536]):
                break
        line.cut()


class Honest:
    """Says something to the next one, to the room and to the bot, again and again, and counts what comes of it."""

    def __init__(self, server: Moltis):
        self.couriers = {user: Courier(server.c2s_port, user, PASSWORD) for user in PEOPLE}
        self.said: dict[str, set[str]] = {user: set() for user in PEOPLE}  # to whom
        self.in_the_room: set[str] = set()
        self.asked: set[str] = set()
        self.latencies: list[float] = []
        self.numbers = itertools.count()

    async def start(self) -> None:
        for user, courier in self.couriers.items():
            await courier.login(presence=True)
            courier.stanza(f"<presence to='{ROOM}/{user}'><x xmlns='{MUC}'><history maxstanzas='0'/></x></presence>")
            await courier.ping()
            if user == PEOPLE[0]:
                # Nobody else enters before it is configured.
                await courier.iq("set", f"<query xmlns='{MUC}#owner'><x xmlns='jabber:x:data' type='submit'/></query>", ROOM)

    async def run(self, until: float) -> None:
        for number in self.numbers:
            if time.monotonic() > until:
                return
            for user, other in zip(PEOPLE, PEOPLE[1:] + PEOPLE[:1], strict=True):
                courier = self.couriers[user]
                courier.message(f"{other}@{DOMAIN}", f"{user}-{number}")
                self.said[other].add(f"{user}-{number}")
                courier.stanza(f"<message to='{ROOM}' type='groupchat' id='r-{user}-{number}'><body>r-{user}-{number}</body></message>")
                self.in_the_room.add(f"r-{user}-{number}")
                if number % 10 == 0:
                    courier.message(ROBOT, f"q-{user}-{number}", f"Question {user}-{number}")
                    self.asked.add(f"{user}-{number}")
                began = time.monotonic()
                await courier.ping()
                self.latencies.append(time.monotonic() - began)
            await asyncio.sleep(0.1)

    def bodies(self, user: str) -> Counter:
        return Counter(message.findtext(f"{{{CLIENT}}}body", "") for message in self.couriers[user].arrived)

    async def judge(self) -> None:
        """Each message has come, once; the bot has answered each question, once."""
        for user in PEOPLE:
            courier, wanted = self.couriers[user], self.said[user] | self.in_the_room
            try:
                await courier.until(lambda user=user, wanted=wanted: wanted <= self.bodies(user).keys(), 60)
            except TimeoutError:
                missing = sorted(wanted - self.bodies(user).keys())
                raise AssertionError(f"{user} lacks {len(missing)} of {len(wanted)}: {missing[:5]} to {missing[-5:]}; refused: "
                                     f"{[(c.user, list(c.errors)[:3]) for c in self.couriers.values()]}") from None
            doubled = {body: times for body, times in self.bodies(user).items() if body in wanted and times > 1}
            example = [ET.tostring(message, encoding="unicode") for message in courier.arrived
                       if message.findtext(f"{{{CLIENT}}}body", "") in list(doubled)[:2]]
            assert not doubled, f"{user}: {len(doubled)} more than once: {example}"
            assert not courier.errors, f"{user}: refused: {list(courier.errors)[:5]}"
            mine = {question for question in self.asked if question.startswith(user)}
            await courier.until(lambda user=user, mine=mine: all(self.answers(user, question) for question in mine), 60)
            assert all(self.answers(user, question) == 1 for question in mine)

    def answers(self, user: str, question: str) -> int:
        return sum(times for body, times in self.bodies(user).items() if f"About {user} " in body and f"[{question}]" in body)


class Echo(Model):
    """Answers with the questions: those that waited meanwhile come in one."""

    def _choose(self, asked):
        questions = [word for word in asked.last.split() if "-" in word]
        return Answer("About " + questions[0].split("-")[0] + " " + " ".join(f"[{question}]" for question in questions))


@pytest.mark.limit(240 + SECONDS)
async def test_honest_people_are_served_while_everybody_else_attacks(authority, tmp_path, record_property):
    model = Echo()
    await model.start()
    limits = {"connections_per_ip": 10_000, "login_failures_per_ip": 1_000_000, "sessions_per_user": 1_000}
    server = Moltis(tmp_path / "server", authority, {"xmpp_server": {
        "allow_plaintext": True, "limits": limits, "bots": {"robot": {"allowlist": [f"*@{DOMAIN}"], "stream_mode": "off"}}}})
    config = server.directory / "moltis.toml"
    provider = {"kind": "openai", "base_url": model.base_url, "api_key": "key-of-test"}
    config.write_text(config.read_text() + toml({"chat": {"model": "test/model-1"}, "providers": {"test": provider},
                                                 "budget": {"turns_per_jid_per_minute": 0}}))
    await server.start()
    try:
        for user in (*PEOPLE, MALLORY):
            await server.add_user(user, PASSWORD)
        honest = Honest(server)
        await honest.start()
        stop, attackers = asyncio.Event(), Attackers(server)
        attack = asyncio.create_task(attackers.run(stop))
        # A third to get warm: what the allocator keeps is not what leaks.
        await honest.run(time.monotonic() + SECONDS / 3)
        before = memory(server)
        await honest.run(time.monotonic() + SECONDS * 2 / 3)
        stop.set()
        await attack
        await honest.judge()
        after = memory(server)
        latencies = sorted(honest.latencies)
        slow = latencies[int(len(latencies) * 0.99)]
        told = (f"soak under attack, {SECONDS:.0f} s: {sum(map(len, honest.said.values()))} messages, {len(honest.in_the_room)} in the room, "
                f"{len(honest.asked)} questions, each once; {sum(attackers.done.values())} attacks; a ping took {latencies[len(latencies) // 2] * 1000:.0f} ms, "
                f"99 % less than {slow * 1000:.0f} ms; {before:.0f} MB after a third, {after:.0f} MB at the end")
        record_property("summary", told)
        assert not attackers.faults, attackers.faults[:5]
        assert min(attackers.done.values()) >= 1, attackers.done
        assert after <= 1.3 * before + 10, told
        assert slow < 5, told
        log = server.log()
        assert "panicked" not in log, log[-3000:]
        for courier in honest.couriers.values():
            with contextlib.suppress(Exception):
                await courier.close()
    finally:
        await server.stop()
        await model.stop()
