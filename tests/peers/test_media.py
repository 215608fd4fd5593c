"""Files both ways: uploads by XEP-0363, links that people send, and links that must not be followed."""

import asyncio
import base64

import aiohttp
import pytest

from component import FakeUpload
from servers import OPEN_DOMAIN
from stanza import FILE_SHARING, escape
from wire import Answer

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


def pdf(text: str) -> bytes:
    """A document of one page with one line."""
    stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET"
    objects = ["<</Type/Catalog/Pages 2 0 R>>", "<</Type/Pages/Kids[3 0 R]/Count 1>>",
               "<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
               f"<</Length {len(stream)}>>\nstream\n{stream}\nendstream",
               "<</Type/Font/Subtype/Type1/BaseFont/Helvetica/Encoding/WinAnsiEncoding>>"]
    body, offsets = "%PDF-1.4\n", []
    for number, item in enumerate(objects, 1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{item}\nendobj\n"
    table = "0000000000 65535 f \n" + "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    return (f"{body}xref\n0 {len(objects) + 1}\n{table}trailer\n<</Root 1 0 R/Size {len(objects) + 1}>>\n"
            f"startxref\n{len(body)}\n%%EOF\n").encode()


SLOTS = "urn:xmpp:http:upload:0"


async def upload(person, name: str, data: bytes, media_type: str) -> str:
    """As a person's client does it; returns the link."""
    answer = await person.must("get", f"upload.{person.domain}", f"<request xmlns='{SLOTS}' filename='{name}' "
                               f"size='{len(data)}' content-type='{media_type}'/>")
    put, get = answer.deep("put", SLOTS), answer.deep("get", SLOTS)
    headers = {header.get("name"): header.text for header in put} | {"content-type": media_type}
    async with person.server.session() as session, session.put(put.get("url"), data=data, headers=headers) as response:
        assert response.status in (200, 201), await response.text()
    return get.get("url")


def send_link(person, to: str, url: str, *, kind: str = "chat") -> str:
    return person.say(to, url, kind=kind, extra=f"<x xmlns='jabber:x:oob'><url>{escape(url)}</url></x>")


async def fetch(url: str, session: aiohttp.ClientSession | None = None) -> tuple[bytes, str]:
    async with session or aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        return await response.read(), response.headers.get("content-type", "")


async def test_export_is_a_file(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "A memorable question")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.say(bot.jid, "/export")
    message = await alice.sees_message(lambda m: m.link, "a link")
    assert message.body == message.link, "the URL alone is the body"
    data, _ = await fetch(message.link)
    assert b"A memorable question" in data and b"Answer number 1." in data
    assert ".md" in message.link
    sharing = message.payload(FILE_SHARING)
    assert sharing is not None and str(len(data)) in str(message) and "sha-256" in str(message)


async def test_a_long_answer_comes_as_a_file_as_well(world):
    alice = await world.person()
    text = " ".join(f"word{n}" for n in range(300))
    world.model.then(Answer(text))
    bot = await world.bot(admit=[alice], upload_long_replies_over=500)
    alice.say(bot.jid, "Tell me")
    message = await alice.sees_message(lambda m: m.link, "a link")
    assert text in (await fetch(message.link))[0].decode()
    alice.say(bot.jid, "Short")
    await alice.sees(bot.jid, "Answer number 1.")
    assert sum(bool(m.link) for m in alice.messages) == 1


async def test_a_file_in_a_room(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    alice.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number 1.")
    alice.say_in(room, f"{bot.nick}: /export")
    message = await alice.sees_message(lambda m: m.link, "a link")
    assert message.type == "groupchat"


async def test_no_upload_service_is_said(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], domain=OPEN_DOMAIN)
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    assert "upload" in (await alice.command(bot.jid, "/export")).lower()


async def test_an_image_goes_to_the_model(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], model="gpt-4o", model_provider="openai", config={
        "providers": {"openai": {"api_key": "x", "base_url": world.model.base_url}}})
    send_link(alice, bot.jid, await upload(alice, "cat.png", PNG, "image/png"))
    await alice.sees(bot.jid, "Answer number 1.")
    assert world.model.asked[0].images == ["image/png"]
    assert base64.b64encode(PNG).decode() in world.model.asked[0].everything


async def test_a_picture_in_a_room_is_seen_by_who_is_asked_about_it(world):
    alice, bob = await world.person(), await world.person("bob")
    room, bot = await world.room_with_bot(alice, model="gpt-4o", model_provider="openai", config={
        "providers": {"openai": {"api_key": "x", "base_url": world.model.base_url}}})
    await bob.join(room)
    send_link(bob, room, await upload(bob, "cat.png", PNG, "image/png"), kind="groupchat")
    await alice.sees_message(lambda m: m.link, "the picture")
    alice.say_in(room, f"{bot.nick}: what is that?")
    await alice.sees(room, "Answer number 1.")
    assert world.model.asked[0].images == ["image/png"] and "cat.png" in world.model.asked[0].everything
    alice.say_in(room, f"{bot.nick}: and now?")
    await alice.sees(room, "Answer number 2.")
    assert not world.model.asked[1].images, "it was shown once"


async def test_an_image_goes_to_anthropic(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], model="claude-sonnet-4-20250514", model_provider="anthropic", config={
        "providers": {"anthropic": {"api_key": "x", "base_url": world.model.base_url}}})
    send_link(alice, bot.jid, await upload(alice, "cat.png", PNG, "image/png"))
    await alice.sees(bot.jid, "Answer number 1.")
    assert world.model.asked[0].images == ["image/png"]


async def test_text_goes_to_the_model(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    send_link(alice, bot.jid, await upload(alice, "poem.txt", "Soft! what light — 🌅".encode(), "text/plain"))
    await alice.sees(bot.jid, "Answer number 1.")
    assert "Soft! what light — 🌅" in world.model.asked[0].everything


async def test_a_pdf_goes_to_the_model(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    send_link(alice, bot.jid, await upload(alice, "play.pdf", pdf("Wherefore art thou"), "application/pdf"))
    await alice.sees(bot.jid, "Answer number 1.")
    assert "Wherefore art thou" in world.model.asked[0].everything


async def test_the_type_is_that_of_the_content(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], model="gpt-4o", model_provider="openai", config={
        "providers": {"openai": {"api_key": "x", "base_url": world.model.base_url}}})
    send_link(alice, bot.jid, await upload(alice, "cat.txt", PNG, "text/plain"))
    await alice.sees(bot.jid, "Answer number 1.")
    assert world.model.asked[0].images == ["image/png"]


async def test_a_blocked_type_is_said(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], blocked_media_types=["image/*"])
    send_link(alice, bot.jid, await upload(alice, "cat.png", PNG, "image/png"))
    text = (await alice.next_line(bot.jid, 0)).text
    assert "image" in text.lower()
    assert not any(asked.images for asked in world.model.asked)


async def test_a_file_that_is_too_big_is_said(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], media_max_mb=1)
    send_link(alice, bot.jid, await upload(alice, "big.txt", b"word " * 500_000, "text/plain"))
    text = (await alice.next_line(bot.jid, 0)).text
    assert "1 MB" in text, text
    assert not any("word word word" in asked.everything for asked in world.model.asked)


async def test_a_broken_file_is_no_silence(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    send_link(alice, bot.jid, await upload(alice, "broken.pdf", b"%PDF-1.4\n" + b"\xff\x00" * 500, "application/pdf"))
    await alice.next_line(bot.jid, 0)
    await alice.command(bot.jid, "/ping")
    assert len(alice.lines(bot.jid)) == 2


async def test_a_link_that_is_gone_is_said(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    link = await upload(alice, "gone.txt", b"words", "text/plain")
    send_link(alice, bot.jid, link.replace("gone", "missing"))
    await alice.next_line(bot.jid, 0)


INTERNAL = ["http://127.0.0.1:{port}/secret", "http://[::1]:{port}/secret", "http://0.0.0.0:{port}/secret",
            "http://2130706433:{port}/secret", "http://0x7f.1:{port}/secret", "http://[::ffff:127.0.0.1]:{port}/secret",
            "http://user@127.0.0.1:{port}/secret", "file:///etc/passwd", "gopher://127.0.0.1:{port}/x",
            "aesgcm://127.0.0.1:{port}/secret#" + "00" * 44]


@pytest.mark.parametrize("link", INTERNAL, ids=range(len(INTERNAL)))
async def test_links_into_the_internal_network_are_not_followed(world, link):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    send_link(alice, bot.jid, link.format(port=world.model.port))
    await alice.next_line(bot.jid, 0)
    assert world.model.fetched == []
    assert not any("a secret of the internal network" in asked.everything for asked in world.model.asked)
    assert not any("root:" in asked.everything for asked in world.model.asked)


async def test_a_plain_link_in_a_text_is_not_fetched(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, f"What is http://127.0.0.1:{world.model.port}/page about?")
    await alice.sees(bot.jid, "Answer number 1.")
    assert world.model.fetched == []


async def own_host(world, **behaviour):
    """A bot on a domain whose upload service is ours, and a person who may talk to it."""
    service = FakeUpload(world.server, f"files.{OPEN_DOMAIN}", **behaviour)
    world.helpers.append(service)
    await service.start()
    alice = await world.person()
    bot = await world.bot(admit=[alice], domain=OPEN_DOMAIN, media_max_mb=1)
    # The bot has learned its upload service by the time it has used it.
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.say(bot.jid, "/export")
    return service, alice, bot


async def test_an_upload_uses_the_headers_of_the_slot(world):
    service, alice, _ = await own_host(world)
    message = await alice.sees_message(lambda m: m.link, "a link")
    (path, headers, data), = service.received
    assert message.link.endswith(path) and b"Answer number 1." in data
    assert headers["Authorization"] == "Basic Zm9v" and headers["Cookie"] == "a=b"
    assert "X-Evil" not in headers, "XEP-0363, 5: only Authorization, Cookie and Expires"


@pytest.mark.parametrize("behaviour", [{"put_status": 500}, {"put_status": 413}, {"refuse_slots": True},
                                       {"max_file_size": 10}], ids=["500", "413", "no slot", "too large"])
async def test_a_failed_upload_is_said(world, behaviour):
    _, alice, bot = await own_host(world, **behaviour)
    await alice.next_line(bot.jid, 1)
    await alice.command(bot.jid, "/ping")
    assert not any(m.link for m in alice.messages) and len(alice.lines(bot.jid)) == 3


@pytest.mark.parametrize("path", ["redirect-to-secret", "endless", "bomb", "loop"])
async def test_a_hostile_file_of_the_own_upload_host(world, path):
    """Redirects into the internal network, endless bodies, decompression bombs, redirect loops."""
    service, alice, bot = await own_host(world)
    service.secret_url = f"http://127.0.0.1:{world.model.port}/secret"
    seen = await alice.messages.until(lambda: len(alice.lines(bot.jid)) >= 2 and len(alice.lines(bot.jid)), "export")
    send_link(alice, bot.jid, f"{service.url}/{path}")
    await alice.next_line(bot.jid, seen, 60)
    assert world.model.fetched == []
    assert service.sent < 20_000_000, "an endless body is not read to the end"
    assert not any(len(asked.everything) > 5_000_000 for asked in world.model.asked)
    await alice.command(bot.jid, "/ping")
    assert bot.process.poll() is None


async def test_reading_files_does_not_block_the_chat(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    links = await asyncio.gather(*(upload(alice, f"{n}.txt", f"text {n}".encode(), "text/plain") for n in range(2)))
    for link in links:
        send_link(alice, bot.jid, link)
    assert await alice.command(bot.jid, "/ping")
    await alice.messages.until(lambda: any("text 1" in asked.everything for asked in world.model.asked), "both read")
