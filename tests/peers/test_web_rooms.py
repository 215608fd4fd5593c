"""Rooms, bookmarks and files in the web chat of the demo."""

import asyncio
import base64

import pytest_asyncio

from browser import Browser
from demo import PERSON, Demo
from person import Person
from picture import SIZE, mountain
from servers import PATIENCE, ROOMS
from wire import Answer

LOBBY = f"lobby@{ROOMS}"
BOOKMARKS = "urn:xmpp:bookmarks:1"
PUBSUB = "http://jabber.org/protocol/pubsub"
ROOM = "converse-muc"
FORM = "converse-add-muc-modal"
OPEN_ROOMS = "document.querySelector('.open-rooms-list')?.innerText ?? ''"
OCCUPANTS = f"document.querySelector('{ROOM} .occupant-list')?.innerText ?? ''"


@pytest_asyncio.fixture
async def elsewhere(demo):
    """The demo's person with another client."""
    person = Person(demo, PERSON.split("@")[0], demo.password, resource="elsewhere")
    yield await person.login()
    await person.logout()


async def enter(browser: Browser, name: str) -> None:
    """By the form, with the name of the room and the nick that it proposes."""
    await browser.click(".show-add-muc-modal")
    field = f"{FORM} input[name=chatroom]"
    await browser.until(f"document.activeElement?.matches({field!r})", "the form, which puts the cursor into its first field")
    await browser.type(field, name)
    await browser.click(f"{FORM} input[type=submit]")
    await sees_occupants(browser, "you")


async def show(browser: Browser, name: str) -> None:
    """Opens a room that is in the list, behind the chat that shows."""
    await browser.until(f"({OPEN_ROOMS}).includes({name!r})", "the room in the list")
    await browser.click(".open-rooms-list a.open-room")


async def sees_occupants(browser: Browser, *nicks: str) -> None:
    for nick in nicks:
        await browser.until(f"({OCCUPANTS}).includes({nick!r})", f"{nick} in the room")


async def say(browser: Browser, text: str) -> None:
    await browser.type(f"{ROOM} .chat-textarea", text)
    await browser.press_enter()
    await browser.sees(text)


async def lines(browser: Browser) -> list[str]:
    """What stands in the room."""
    return await browser.evaluate(f"[...document.querySelectorAll('{ROOM} .chat-msg__text')].map(m => m.innerText.trim())")


async def test_a_person_enters_a_room_and_its_bot_answers_when_mentioned(demo, browsers):
    browser = await browsers()
    await browser.open(demo.url)
    await enter(browser, "lobby")
    await sees_occupants(browser, "Moltis", "you")
    await say(browser, "Good morning, everybody.")
    demo.model.then(Answer("This is the lobby: whoever has an account here may come in. I am here too, and I answer when I "
                           "am mentioned."))
    await say(browser, "Moltis: what is this room?")
    await browser.sees("when I am mentioned.")
    await browser.picture("web-chat-room.png")
    said = await lines(browser)
    assert len(said) == 3, f"one answer: {said}"
    assert [asked.last.split("\n")[-1] for asked in demo.model.asked] == ["you: what is this room?"]
    assert browser.complaints == []
    assert [address for address in browser.requests if demo.url.removeprefix("http") not in address] == []


async def test_a_room_that_was_entered_is_a_bookmark_on_every_device(demo, browsers, elsewhere):
    browser = await browsers()
    await browser.open(demo.url)
    await enter(browser, "lobby")
    await bookmark(elsewhere, "true")
    await browser.reload()
    await sees_occupants(browser, "Moltis", "you")
    assert any(text.startswith("<resumed") for text in browser.received), "the session goes on (XEP-0198)"
    assert not any("<stream:error" in text for text in browser.received)
    # One that has never been here knows of the room by the bookmark alone.
    other = await browsers()
    await other.open(demo.url)
    await show(other, "lobby")
    await sees_occupants(other, "Moltis", "you")
    await other.click(f"{ROOM} .close-chatbox-button")
    await other.click("converse-confirm-modal.show button[type=submit]")
    await bookmark(elsewhere, "false")


async def bookmark(person: Person, autojoin: str) -> None:
    """Waits until the room is a bookmark that says so (XEP-0402)."""
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await person.iq("get", "", f"<pubsub xmlns='{PUBSUB}'><items node='{BOOKMARKS}'/></pubsub>")
            found = answer.element.find(f".//{{{PUBSUB}}}item[@id='{LOBBY}']/{{{BOOKMARKS}}}conference")
            if found is not None and found.get("autojoin") == autojoin:
                return
            await asyncio.sleep(0.1)


async def test_a_bookmark_that_another_client_makes_opens_the_room(demo, browsers, elsewhere):
    browser = await browsers()
    await browser.open(demo.url)
    # It has read the bookmarks that there are: what comes after that is news.
    await browser.has_answer(f'node="{BOOKMARKS}"')
    async with asyncio.timeout(PATIENCE):
        # The server tells nobody before it knows what they want to be told (XEP-0163, 4), and that takes a moment.
        while "lobby" not in await browser.evaluate(OPEN_ROOMS):
            await publish(elsewhere, "true")
            await asyncio.sleep(1)
    await show(browser, "lobby")
    await sees_occupants(browser, "Moltis", "visitor")
    await publish(elsewhere, "false")
    await browser.until(f"!({OPEN_ROOMS}).includes('lobby')", "the room closed")


async def publish(person: Person, autojoin: str) -> None:
    await person.must("set", "", f"<pubsub xmlns='{PUBSUB}'><publish node='{BOOKMARKS}'><item id='{LOBBY}'>"
                      f"<conference xmlns='{BOOKMARKS}' name='Where everybody meets' autojoin='{autojoin}'>"
                      "<nick>visitor</nick></conference></item></publish></pubsub>")


async def test_a_picture_is_sent_shown_and_seen_by_the_bot(tmp_path, browsers):
    demo, picture = Demo(tmp_path / "demo"), mountain(tmp_path / "mountain.png")
    try:
        await demo.start(MOLTIS_CHAT__MODEL="openai/gpt-4o", MOLTIS_PROVIDERS__OPENAI__API_KEY="key-of-test",
                         MOLTIS_PROVIDERS__OPENAI__BASE_URL=demo.model.base_url)
        browser = await browsers()
        await browser.open(demo.url)
        demo.model.then(Answer("A mountain with snow on it, under a clear sky, and a low sun."))
        await browser.choose_file("input.fileupload", picture)
        await browser.sees("A mountain with snow on it")
        await browser.until("[...document.querySelectorAll('.chat-msg img')].some(image => image.naturalWidth === "
                            f"{SIZE[0]})", "the picture in the chat")
        await browser.picture("web-chat-file.png")
        assert demo.model.asked[0].images == ["image/png"]
        assert base64.b64encode(picture.read_bytes()).decode() in demo.model.asked[0].everything
        assert browser.complaints == []
        assert [address for address in browser.requests if demo.url.removeprefix("http") not in address] == []
    finally:
        await demo.stop()


async def test_who_makes_a_room_is_its_moderator(demo, browsers):
    browser = await browsers()
    await browser.open(demo.url)
    await enter(browser, "Tea Party")
    # Converse.js reads who owns the room, and what it finds there goes over what it knows.
    await browser.has_answer('<item affiliation="owner"/>')
    await say(browser, "Tea is ready.")
    badges = f"[...document.querySelectorAll('{ROOM} .occupant-badges .badge')].map(badge => badge.title)"
    assert await browser.evaluate(badges) == ["Owner", "Moderator"]
