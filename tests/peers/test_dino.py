"""A real client with windows: Dino on the embedded server, in a room with its bot.

With DINO_SCREENSHOT=docs/dino.png what it shows is kept.
"""

import asyncio
import base64
import os
from pathlib import Path

import pytest
import pytest_asyncio

from bot import REPOSITORY
from dino import Dino
from models import Model
from moltis import Moltis
from person import Person
from picture import SIZE, mountain, size
from servers import DOMAIN, PATIENCE, ROOMS
from wire import Answer, Pause
from world import PASSWORD, merge

LOBBY = f"lobby@{ROOMS}"
# Where the bot answers everything: who sends a picture cannot mention anybody in it.
GALLERY = f"gallery@{ROOMS}"
NICK = "Moltis"
BOOKMARKS = "urn:xmpp:bookmarks:1"
PUBSUB = "http://jabber.org/protocol/pubsub"
WHO = "Edward Whymper and six others, in 1865."
SEEN = "A mountain with snow on it, under a clear sky, and a low sun. It could be the Matterhorn, seen from Zermatt."
HEIGHT = "4,478 metres."


class House:
    """A server whose files are reached by HTTPS, its bot in the lobby, and somebody there who watches."""

    def __init__(self, directory: Path, authority):
        self.directory, self.model = directory, Model()
        self.server = Moltis(directory / "server", authority, {
            "chat": {"model": "openai/gpt-4o"},
            "providers": {"openai": {"base_url": self.model.base_url, "api_key": "key-of-test"}},
            "xmpp_server": {"bots": {"moltis": {
                "nick": NICK, "rooms": [LOBBY, GALLERY], "muc_rooms": {GALLERY: {"require_mention": False}},
                "allowlist": [f"*@{DOMAIN}"]}}}}).with_certificate()
        # Dino takes no other links than those of HTTPS, which this port speaks too.
        self.server.config = merge(self.server.config,
                                   {"server": {"external_url": f"https://localhost:{self.server.http_port}"}})
        self.server.configure()
        self.people: list[Person] = []
        self.dino = Dino(self.server, directory / "dino", f"romeo@{DOMAIN}", PASSWORD)

    async def start(self) -> "House":
        await self.model.start()
        await self.server.start()
        await self.server.add_user("romeo", PASSWORD)
        await self.server.add_user("watcher", PASSWORD)
        self.watcher = await self.client("watcher")
        for room in (LOBBY, GALLERY):
            await self.watcher.join(room)
            await self.watcher.sees_occupant(room, NICK)
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
    dino, watcher = house.dino, house.watcher
    await dino.join(LOBBY)
    await watcher.sees_occupant(LOBBY, "romeo")
    question = f"{NICK}: who was first on the Matterhorn?"
    house.model.then(Answer(WHO))
    await dino.say(question)
    await watcher.sees_exactly(LOBBY, question)
    await dino.sees(WHO)
    assert [nick for nick, _ in dino.shown(LOBBY)] == ["", NICK]
    assert any(WHO in text(message) for message in await watcher.archive(room=LOBBY))


@pytest.mark.limit(280)
async def test_dino_and_another_client_have_the_same_bookmarks(house):
    dino, watcher = house.dino, house.watcher
    other = await house.client("romeo")
    await other.must("set", "", f"<pubsub xmlns='{PUBSUB}'><publish node='{BOOKMARKS}'><item id='{GALLERY}'><conference "
                     f"xmlns='{BOOKMARKS}' name='Pictures' autojoin='true'><nick>romeo</nick></conference></item>"
                     "</publish></pubsub>")
    await watcher.sees_occupant(GALLERY, "romeo")
    await dino.desktop.sees(GALLERY)
    await dino.join(LOBBY)
    await watcher.sees_occupant(LOBBY, "romeo")
    async with asyncio.timeout(PATIENCE):
        while (found := await bookmark(other, LOBBY)) is None:
            await asyncio.sleep(0.2)
    assert found.get("autojoin") == "true"


async def bookmark(person: Person, room: str):
    """XEP-0402, 3."""
    answer = await person.must("get", "", f"<pubsub xmlns='{PUBSUB}'><items node='{BOOKMARKS}'/></pubsub>")
    return answer.element.find(f".//{{{PUBSUB}}}item[@id='{room}']/{{{BOOKMARKS}}}conference")


@pytest.mark.limit(280)
async def test_dino_sends_a_picture_and_the_bot_answers_what_it_shows(house):
    dino, watcher = house.dino, house.watcher
    picture = mountain(house.directory / "mountain.png")
    await dino.join(GALLERY)
    await watcher.sees_occupant(GALLERY, "romeo")
    # No model is faster. What comes in the moment in which Dino (0.4.2) puts a picture of its own into the view is not shown.
    house.model.then(Answer(Pause(2), SEEN))
    await dino.send_picture(picture)
    message = await watcher.sees_message(lambda m: m.link, "a link in the room")
    assert message.sender == f"{GALLERY}/romeo" and message.link.startswith(f"https://localhost:{house.server.http_port}/")
    await dino.sees(SEEN)
    house.model.then(Answer(HEIGHT))
    await dino.say("And how high is it?")
    await dino.sees(HEIGHT)
    if path := os.environ.get("DINO_SCREENSHOT"):
        await dino.desktop.screenshot(REPOSITORY / path)
    asked = await house.model.request(1)
    assert asked.images == ["image/png"]
    # What has arrived there is a picture of the same size: Dino writes its own PNG.
    (arrived,) = [part["image_url"]["url"].split(",")[1] for part in asked.body["messages"][-1]["content"]
                  if part["type"] == "image_url"]
    assert size(base64.b64decode(arrived)) == SIZE
    assert dino.shown(GALLERY)[0] == ("", "image/png"), "the picture is shown, not only its link"
    archive = [text(message) for message in await watcher.archive(room=GALLERY)]
    assert message.link in archive and any(SEEN in line for line in archive)


def text(message) -> str:
    return message.findtext("{jabber:client}body") or ""
