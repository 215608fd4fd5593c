"""A real client with windows: Dino on the embedded server, in a room with its bot."""

import ssl
from pathlib import Path

import pytest
import pytest_asyncio

from dino import Dino
from models import Model
from moltis import Moltis
from person import Person
from proxy import Proxy
from servers import DOMAIN, ROOMS
from wire import Answer, Hold
from world import PASSWORD, merge

LOBBY = f"lobby@{ROOMS}"
NICK = "Moltis"
FIRST = "The Matterhorn is 4,478 metres high"
LAST = ", and it was first climbed in 1865."


class House:
    """A server whose files are reached by HTTPS, its bot in the lobby, and somebody there who watches."""

    def __init__(self, directory: Path, authority):
        self.directory, self.model = directory, Model()
        self.server = Moltis(directory / "server", authority, {
            "chat": {"model": "openai/gpt-4o"},
            "providers": {"openai": {"base_url": self.model.base_url, "api_key": "key-of-test"}},
            "xmpp_server": {"bots": {"moltis": {
                "nick": NICK, "rooms": [LOBBY], "allowlist": [f"*@{DOMAIN}"], "stream_mode": "correction",
                "edit_throttle_ms": 200, "stream_min_initial_chars": 10}}}}).with_certificate()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.server.certificate, self.server.key)
        # Dino takes no other links than those of HTTPS.
        self.proxy = Proxy(self.server.http_port, tls)
        self.server.config = merge(self.server.config,
                                   {"server": {"external_url": f"https://localhost:{self.proxy.port}"}})
        self.server.configure()
        self.people: list[Person] = []
        self.dino = Dino(self.server, directory / "dino", f"romeo@{DOMAIN}", PASSWORD)

    async def start(self) -> "House":
        await self.model.start()
        await self.server.start()
        await self.proxy.start()
        await self.server.add_user("romeo", PASSWORD)
        await self.server.add_user("watcher", PASSWORD)
        self.watcher = await self.client("watcher")
        await self.watcher.join(LOBBY)
        await self.watcher.sees_occupant(LOBBY, NICK)
        await self.dino.start()
        return self

    async def client(self, user: str) -> Person:
        person = Person(self.server, user, PASSWORD, resource="watcher")
        self.people.append(person)
        return await person.login()

    async def stop(self) -> None:
        await self.dino.stop()
        for person in self.people:
            await person.logout()
        await self.proxy.stop()
        await self.server.stop()
        await self.model.stop()


@pytest_asyncio.fixture
async def house(tmp_path, authority):
    house = House(tmp_path, authority)
    try:
        yield await house.start()
    finally:
        await house.stop()


@pytest.mark.limit(280)
async def test_dino_joins_a_room_and_its_bot_answers(house):
    dino, watcher, hold = house.dino, house.watcher, Hold()
    await dino.join(LOBBY)
    await watcher.sees_occupant(LOBBY, "romeo")
    house.model.then(Answer(FIRST, hold, LAST))
    await dino.say(f"{NICK}: how high is the Matterhorn?")
    await watcher.sees_exactly(LOBBY, f"{NICK}: how high is the Matterhorn?")
    await dino.desktop.sees(FIRST)
    hold.release()
    await dino.desktop.sees(FIRST + LAST)
    answers = [text for nick, text in dino.shown(LOBBY) if nick == NICK]
    assert len(answers) == 1 and answers[0].endswith(FIRST + LAST), f"corrected in place: {answers}"
    assert any(FIRST + LAST in text(message) for message in await watcher.archive(room=LOBBY))


def text(message) -> str:
    return message.findtext("{jabber:client}body") or ""
