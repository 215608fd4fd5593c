"""Files on the embedded server (XEP-0363): people put them there, the bot that lives in it too, and nobody else's program."""

import asyncio
import contextlib

import aiohttp
import pytest
import pytest_asyncio

from models import Model
from moltis import Moltis
from person import Person
from servers import DOMAIN
from test_media import PNG, SLOTS, fetch, send_link, upload
from wire import Answer
from world import PASSWORD

UPLOADS = "upload.localhost"


class House:
    """A server with a bot of its own that shares long answers as files, and its model."""

    def __init__(self, server: Moltis, model: Model):
        self.server, self.model = server, model
        self.bot = f"helper@{DOMAIN}"
        self.people: list[Person] = []

    async def person(self, name: str) -> Person:
        user = self.server.unique(name)
        await self.server.add_user(user, PASSWORD)
        person = Person(self.server, user, PASSWORD, nick=name)
        self.people.append(person)
        return await person.login()


def configuration(model: Model) -> dict:
    # Of a name that is known to look at pictures.
    return {"chat": {"model": "openai/gpt-4o"},
            "providers": {"openai": {"base_url": model.base_url, "api_key": "key-of-test"}},
            "xmpp_server": {
                "upload": {"max_mb": 2, "daily_quota_mb": 3},
                "bots": {"helper": {"allowlist": [f"*@{DOMAIN}"], "nick": "helper", "upload_long_replies_over": 500}}}}


@contextlib.asynccontextmanager
async def opened(directory, authority, config: dict):
    model = Model()
    await model.start()
    server = Moltis(directory, authority, {**configuration(model), **config}).with_certificate()
    await server.start()
    house = House(server, model)
    try:
        yield house
    finally:
        await asyncio.gather(*(person.logout() for person in house.people))
        await server.stop()
        await model.stop()


@pytest_asyncio.fixture
async def house(tmp_path, authority):
    async with opened(tmp_path / "server", authority, {}) as house:
        yield house


async def request(person: Person, name: str, size: int, media_type: str = "text/plain"):
    return await person.iq("get", UPLOADS, f"<request xmlns='{SLOTS}' filename='{name}' size='{size}' "
                                           f"content-type='{media_type}'/>")


async def test_the_bot_sees_a_picture_that_was_uploaded_here(house):
    alice = await house.person("alice")
    link = await upload(alice, "cat.png", PNG, "image/png")
    assert link.startswith(f"http://localhost:{house.server.http_port}/upload/") and link.endswith("/cat.png")
    assert await fetch(link) == (PNG, "image/png")
    house.model.then(Answer("A very small cat."))
    send_link(alice, house.bot, link)
    await alice.sees(house.bot, "A very small cat.")
    assert house.model.asked[-1].images == ["image/png"]


async def test_the_bots_long_answer_is_a_file_here(house):
    alice = await house.person("alice")
    text = " ".join(f"word{n}" for n in range(300))
    house.model.then(Answer(text))
    alice.say(house.bot, "Tell me")
    message = await alice.sees_message(lambda m: m.link, "a link")
    assert message.link.startswith(f"http://localhost:{house.server.http_port}/upload/")
    assert text in (await fetch(message.link))[0].decode()


async def test_behind_a_proxy_that_it_cannot_reach_the_bot_still_has_its_files(tmp_path, authority):
    # Nobody listens there: the name is that of a proxy with TLS that this machine has no way to.
    outside = "https://chat.example.org"
    async with opened(tmp_path / "server", authority, {"server": {"external_url": outside}}) as house:
        alice = await house.person("alice")
        answer = await request(alice, "cat.png", len(PNG), "image/png")
        put = answer.deep("put", SLOTS)
        link, secret = put.get("url"), put[0].text
        assert link.startswith(f"{outside}/upload/")
        inside = link.replace(outside, f"http://127.0.0.1:{house.server.http_port}")
        async with aiohttp.ClientSession() as session, session.put(
                inside, data=PNG, headers={"authorization": secret, "content-type": "image/png"}) as response:
            assert response.status == 201
        house.model.then(Answer("A very small cat."))
        send_link(alice, house.bot, link)
        await alice.sees(house.bot, "A very small cat.")
        assert house.model.asked[-1].images == ["image/png"]
        house.model.then(Answer(" ".join(f"word{n}" for n in range(300))))
        alice.say(house.bot, "Tell me")
        message = await alice.sees_message(lambda m: m.link, "a link")
        assert message.link.startswith(f"{outside}/upload/")


async def test_of_its_own_server_the_bot_fetches_files_alone(house):
    alice = await house.person("alice")
    for path in ("status", "upload/../status", "upload/%2e%2e/status", "metrics"):
        before = len(house.model.asked)
        send_link(alice, house.bot, f"http://localhost:{house.server.http_port}/{path}")
        await alice.sees(house.bot, "private address")
        assert "services" not in "".join(asked.everything for asked in house.model.asked[before:])


async def test_a_share_of_the_day_outlasts_a_restart_and_a_file_too(house):
    alice = await house.person("alice")
    link = await upload(alice, "big.txt", b"x" * 2_000_000, "text/plain")
    await house.server.restart()
    await alice.login()
    answer = await request(alice, "more.txt", 1_000_001)
    assert answer.type == "error" and answer.deep("retry", SLOTS).get("stamp"), str(answer)
    assert answer.deep("resource-constraint", "urn:ietf:params:xml:ns:xmpp-stanzas") is not None
    assert (await request(alice, "less.txt", 1_000_000)).type == "result"
    assert len((await fetch(link))[0]) == 2_000_000


async def test_files_go_with_their_account(house):
    alice = await house.person("alice")
    link = await upload(alice, "cat.png", PNG, "image/png")
    await house.server.run("deluser", alice.jid)
    async with aiohttp.ClientSession() as session, session.get(link) as response:
        assert response.status == 404
    assert list((house.server.directory / "data/uploads").iterdir()) == []


@pytest.mark.parametrize(("name", "media_type"), [("x.html", "text/html"), ("x.svg", "image/svg+xml")])
async def test_a_page_that_was_uploaded_does_not_run(house, browsers, name, media_type):
    alice = await house.person("alice")
    page = (b"<svg xmlns='http://www.w3.org/2000/svg'><script>document.title='ran'</script></svg>" if "svg" in name
            else b"<title>loaded</title><script>document.title='ran'</script>")
    link = await upload(alice, name, page, media_type)
    browser = await browsers()
    await browser.open(f"http://localhost:{house.server.http_port}/status")
    # It is saved and not opened: the page stays.
    await browser.call("Page.navigate", url=link)
    assert await browser.evaluate("document.title") not in ("ran", "loaded")
    # And in a frame, or as a script, of a page of this origin.
    ran = await browser.evaluate(f"""new Promise(done => {{
        const script = document.createElement('script');
        script.src = {link!r};
        script.onload = () => done('loaded');
        script.onerror = () => done('refused');
        document.head.append(script);
    }})""")
    assert ran == "refused"
