"""The embedded server keeps its word: what was acknowledged is there, once, also after kill -9; a full disk refuses and
loses nothing."""

import asyncio
import contextlib
import random
import re
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import pytest_asyncio

from attack import http
from bot import toml
from courier import CORRECT, Courier, Gone
from models import Model
from moltis import Moltis
from servers import DOMAIN
from stanza import CLIENT
from wire import Answer, Pause

PASSWORD = "correct horse battery staple"
SENDERS = ["sender1", "sender2", "sender3", "sender4"]
READER, AWAY, FICKLE = "reader", "away", "fickle"
# How many messages of a sender may be on their way.
WINDOW = 40
BEGINNING = "The first thirty characters of it stand here. "
STANZAS = "urn:ietf:params:xml:ns:xmpp-stanzas"


@pytest_asyncio.fixture
async def own(authority, tmp_path):
    """Makes embedded servers for raw clients."""
    servers = []

    async def make(*, data_dir: Path | None = None, more: dict | None = None, **settings) -> Moltis:
        """`more`: other tables than [xmpp_server]."""
        limits = {"connections_per_ip": 10_000, "login_failures_per_ip": 10_000, "c2s_bytes_per_second": 0,
                  "offline_messages": 1_000_000}
        section = {"allow_plaintext": True, "limits": limits} | settings
        server = Moltis(tmp_path / "server", authority, {"xmpp_server": section})
        config = server.directory / "moltis.toml"
        text = config.read_text() + toml(more or {})
        config.write_text(text if data_dir is None else text.replace(str(server.directory / "data"), str(data_dir)))
        servers.append(server)
        await server.start()
        return server
    yield make
    for server in servers:
        await server.stop()


def body(message: ET.Element) -> str:
    return message.findtext(f"{{{CLIENT}}}body", "")


def corrects(message: ET.Element) -> str | None:
    replace = message.find(f"{{{CORRECT}}}replace")
    return None if replace is None else replace.get("id")


class Ledger:
    """What was acknowledged, and what an archive holds of it."""

    def __init__(self, server: Moltis, users: list[str]):
        self.server = server
        self.promised: dict[str, set[str]] = {user: set() for user in users}
        self.held: dict[str, Counter] = {user: Counter() for user in users}
        self.last = dict.fromkeys(users, "")

    def note(self, courier: Courier, recipients: dict[str, str]) -> None:
        """Both archives, the sender's and the recipient's, owe what was acknowledged."""
        for id in courier.accepted:
            self.promised[courier.user].add(id)
            self.promised[recipients[id]].add(id)

    async def compare(self) -> None:
        """Reads on in each archive, and finds each promise once and nothing twice."""
        await asyncio.gather(*(self._compare(user) for user in self.promised))

    async def _compare(self, user: str) -> None:
        courier = await Courier(self.server.c2s_port, user, PASSWORD).login()
        for id, message in await courier.archive(self.last[user]):
            self.held[user][message.get("id")] += 1
            self.last[user] = id
        await courier.close()
        held = self.held[user]
        lost = self.promised[user] - held.keys()
        assert not lost, f"{user}: acknowledged and not in the archive: {sorted(lost)[:10]}"
        doubled = [id for id, times in held.items() if times > 1]
        assert not doubled, f"{user}: more than once in the archive: {doubled[:10]}"

    async def compare_anew(self) -> None:
        """From the beginning: nothing that was there has gone."""
        before = self.held
        self.held, self.last = {user: Counter() for user in before}, dict.fromkeys(before, "")
        await self.compare()
        assert self.held == before


async def pour(courier: Courier, prefix: str, recipients: dict[str, str]) -> None:
    """Sends to everybody in turn, as fast as acknowledgements come, until the server is gone."""
    try:
        await courier.login()
        for number in range(1_000_000):
            to = random.choice((READER, AWAY, FICKLE))
            id = f"{prefix}-{courier.user}-{number}"
            recipients[id] = to
            courier.message(f"{to}@{DOMAIN}", id)
            if number % 5 == 4:
                courier.request()
                await courier.until(lambda: courier.unacknowledged < WINDOW)
    except Gone:
        pass


async def listen(courier: Courier, leave_after: float | None = None) -> None:
    """Receives, and acknowledges when asked, until the server is gone; or leaves earlier."""
    try:
        await courier.login(presence=True)
        if leave_after is not None:
            await asyncio.sleep(leave_after)
            await courier.close()
    except Gone:
        pass


async def collect(server: Moltis, user: str) -> list[str]:
    """The messages that waited for somebody who comes back in peace; in order."""
    courier = await Courier(server.c2s_port, user, PASSWORD).login(presence=True)
    # What waits is sent before a later request is answered; then it may take some turns to arrive.
    await courier.ping()
    await courier.ping()
    await courier.close()
    return [message.get("id") for message in courier.arrived]


@pytest.mark.limit(290)
async def test_kill_9_a_hundred_times_under_load_loses_and_doubles_nothing(own):
    server = await own()
    users = [*SENDERS, READER, AWAY, FICKLE]
    for user in users:
        await server.add_user(user, PASSWORD)
    ledger, owed, accepted = Ledger(server, users), set(), 0
    for turn in range(100):
        senders = [Courier(server.c2s_port, user, PASSWORD) for user in SENDERS]
        receivers = [Courier(server.c2s_port, user, PASSWORD) for user in (READER, FICKLE)]
        recipients: dict[str, str] = {}
        traffic = [asyncio.create_task(pour(sender, f"r{turn}", recipients)) for sender in senders]
        traffic.append(asyncio.create_task(listen(receivers[0])))
        traffic.append(asyncio.create_task(listen(receivers[1], random.uniform(0, 0.5))))
        await asyncio.wait(traffic, timeout=random.uniform(0.15, 0.7), return_when=asyncio.FIRST_EXCEPTION)
        server.process.kill()
        await asyncio.gather(*traffic)
        server.process.wait()
        for sender in senders:
            accepted += len(sender.accepted)
            ledger.note(sender, recipients)
            owed |= {id for id in sender.accepted if recipients[id] == AWAY}
        for courier in (*senders, *receivers):
            courier.cut()
        await server.start()
        await ledger.compare()
        if turn % 10 == 9:
            came = Counter(await collect(server, AWAY))
            assert not owed - came.keys(), f"acknowledged, and never delivered: {sorted(owed - came.keys())[:10]}"
            assert max(came.values()) == 1, f"delivered twice: {came.most_common(5)}"
            owed.clear()
    await ledger.compare_anew()
    # Else it shows nothing.
    assert accepted > 5_000, f"only {accepted} messages were acknowledged"


@pytest.mark.limit(180)
async def test_what_the_bot_of_the_server_was_told_is_answered_once_across_kill_9(own):
    model = Echo()
    await model.start()
    people, robot = ["alice", "bob", "carol"], f"robot@{DOMAIN}"
    provider = {"kind": "openai", "base_url": model.base_url, "api_key": "key-of-test"}
    try:
        server = await own(bots={"robot": {"allowlist": [f"*@{DOMAIN}"], "edit_throttle_ms": 100}},
                           more={"chat": {"model": "test/model-1"}, "providers": {"test": provider}})
        for user in people:
            await server.add_user(user, PASSWORD)
        accepted: dict[str, set[str]] = {user: set() for user in people}
        for turn in range(20):
            couriers = [await Courier(server.c2s_port, user, PASSWORD).login(presence=True) for user in people]
            for courier in couriers:
                courier.message(robot, f"q{turn}-{courier.user}")
                courier.request()
            await asyncio.sleep(random.uniform(0, 0.8))
            server.process.kill()
            server.process.wait()
            for courier in couriers:
                accepted[courier.user] |= set(courier.accepted)
                courier.cut()
            await server.start()
            await asyncio.gather(*(answered(server, user, robot, accepted[user]) for user in people))
        assert sum(map(len, accepted.values())) > 10
    finally:
        await model.stop()


class Echo(Model):
    """Answers with the questions, of which a turn may hold several; slowly, so that a kill may come in the middle."""

    def _choose(self, asked):
        return Answer(BEGINNING, Pause(0.2), " ".join(questions(asked.last)))


def questions(text: str) -> list[str]:
    return re.findall(r"q\d+-[a-z]+", text)


async def answered(server: Moltis, user: str, robot: str, accepted: set[str]) -> None:
    """Waits until all that was accepted of this person is answered, and sees nothing answered twice."""
    courier = await Courier(server.c2s_port, user, PASSWORD).login()
    deadline = time.monotonic() + 20
    while True:
        # Of an answer that grew only the whole is kept, as a correction of its beginning.
        answers = {corrects(message) or message.get("id"): body(message) for _, message in await courier.archive()
                   if message.get("from", "").startswith(robot)}
        times = Counter(question for text in answers.values() for question in set(questions(text)))
        assert max(times.values(), default=0) <= 1, f"answered twice: {answers}"
        if accepted <= times.keys():
            return await courier.close()
        missing = accepted - times.keys()
        assert time.monotonic() < deadline, f"accepted, and not answered: {missing}; {answers}"
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def small_disk(directory: Path, size: str):
    """A file system of its own, which one can fill."""
    directory.mkdir()
    mounted = await asyncio.create_subprocess_exec("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory))
    assert await mounted.wait() == 0, "a small file system can be mounted"
    try:
        yield directory
    finally:
        await (await asyncio.create_subprocess_exec("umount", "-l", str(directory))).wait()


def fill(path: Path) -> None:
    """To the last byte."""
    with path.open("ab", buffering=0) as filler:
        for size in (65536, 512):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(size))


async def test_a_full_disk_refuses_messages_and_loses_none(own, tmp_path):
    async with small_disk(tmp_path / "disk", "16m") as disk:
        server = await own(data_dir=disk)
        users = ["alice", "bob", "away"]
        for user in users:
            await server.add_user(user, PASSWORD)
        alice, bob = [await Courier(server.c2s_port, user, PASSWORD).login(presence=True) for user in users[:2]]
        recipients: dict[str, str] = {}

        async def say(prefix: str, count: int = 20) -> list[str]:
            """To both, in turn; answers the ids."""
            ids = [f"{prefix}-{number}" for number in range(count)]
            for number, id in enumerate(ids):
                recipients[id] = users[1 + number % 2]
                alice.message(f"{recipients[id]}@{DOMAIN}", id, f"{id} {'x' * 2000}")
            await alice.settle()
            return ids
        assert not set(await say("before")) & alice.errors.keys()
        fill(disk / "filler")
        # What is in the files already may be used again: some messages may still find room.
        for turn in range(50):
            refused = [id for id in await say(f"full{turn}") if id in alice.errors]
            if len(refused) == 20:
                break
        else:
            raise AssertionError("the disk is never full")
        for id in refused:
            error = alice.errors[id].find(f"{{{CLIENT}}}error")
            assert (error.get("type"), error[0].tag) == ("wait", f"{{{STANZAS}}}resource-constraint"), ET.tostring(error)
        # The rest of the service goes on.
        await bob.ping()
        (disk / "filler").unlink()
        async with asyncio.timeout(20):
            turn = 0
            while set(await say(f"after{turn}")) & alice.errors.keys():
                turn += 1
        promised = set(alice.accepted)
        for courier in (alice, bob):
            await courier.close()
        ledger = Ledger(server, users)
        ledger.promised["alice"] = promised
        for user in users[1:]:
            ledger.promised[user] = {id for id in promised if recipients[id] == user}
        await ledger.compare()
        # A refusal is the truth: it is in no archive of a recipient.
        kept = alice.errors.keys() & (ledger.held["bob"].keys() | ledger.held["away"].keys())
        assert not kept, f"refused, and kept nevertheless: {sorted(kept)[:5]}"
        came = Counter(await collect(server, "away"))
        assert came.keys() == ledger.promised["away"] and max(came.values()) == 1
        await server.stop()


async def test_a_disk_that_fills_while_a_file_comes_keeps_no_half_of_it(own, tmp_path):
    """256 MB are kept free for messages (`quota::RESERVE`); then the disk is full nevertheless. Nothing of the file is served,
    what it took is given back, and with room again the next file is kept."""
    async with small_disk(tmp_path / "disk", "300m") as disk:
        server = await own(data_dir=disk)
        await server.add_user("alice", PASSWORD)
        alice = await Courier(server.c2s_port, "alice", PASSWORD).login()
        size = 8 << 20

        async def slot() -> tuple[str, str]:
            answer = await alice.iq("get", "<request xmlns='urn:xmpp:http:upload:0' filename='f.bin' "
                                    f"size='{size}' content-type='application/octet-stream'/>", f"upload.{DOMAIN}")
            put = answer.find(".//{urn:xmpp:http:upload:0}put")
            assert put is not None, ET.tostring(answer)
            headers = "".join(f"{header.get('name')}: {header.text}\r\n" for header in put)
            path = re.match("https?://[^/]*(/.*)", put.get("url"))[1]
            return path, (f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n{headers}"
                          f"Content-Length: {size}\r\n\r\n")

        async def send(head: str, in_the_middle) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
            writer.write(head.encode() + bytes(size // 2))
            await writer.drain()
            in_the_middle()
            with contextlib.suppress(OSError):
                writer.write(bytes(size - size // 2))
                await writer.drain()
            answer = b""
            with contextlib.suppress(OSError):
                answer = await asyncio.wait_for(reader.read(100), 30)
            writer.transport.abort()
            return answer

        def held() -> int:
            return sum(file.stat().st_size for file in disk.rglob("*") if file.is_file() and "upload" in str(file))
        path, head = await slot()
        answer = await send(head, lambda: fill(disk / "filler"))
        assert not answer.startswith(b"HTTP/1.1 2"), answer
        await alice.ping()
        (disk / "filler").unlink()
        async with asyncio.timeout(10):
            while held():
                await asyncio.sleep(0.05)
        status, _, _ = await http(server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status == 404
        path, head = await slot()
        assert b" 201 " in await send(head, lambda: None)
        assert held() == size
        await alice.close()
        await server.stop()
