"""hostile-input.md, column B: markup, size and depth of what a hostile server sends."""

import asyncio
from xml.etree import ElementTree as ET

import pytest

from scene import ALICE

MEGABYTE = 2**20
MARKUP = {
    "doctype": b"<!DOCTYPE lolz [<!ENTITY lol 'lol'>]><message from='alice@localhost' id='x'><body>&lol;</body></message>",
    "billion laughs": b"<!DOCTYPE l [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;'>"
                      b"<!ENTITY c '&b;&b;&b;&b;&b;&b;&b;&b;'>]><message><body>&c;</body></message>",
    "entity": b"<message from='alice@localhost/x' id='x'><body>&nbsp;&undefined;</body></message>",
    "processing instruction": b"<?php echo 1 ?><presence from='alice@localhost/x'/>",
    "comment": b"<!-- comment --><presence from='alice@localhost/x'/>",
    "invalid UTF-8": b"<message from='alice@localhost/x' id='x'><body>\xff\xfe\xc0\xaf</body></message>",
    "NUL": b"<message from='alice@localhost/x' id='x'><body>a\x00b</body></message>",
    "character reference to NUL": b"<message from='alice@localhost/x' id='x'><body>&#0;&#xFFFE;</body></message>",
    "unbound prefix": b"<message from='alice@localhost/x' id='x'><evil:body>x</evil:body></message>",
    "cdata end": b"<message from='alice@localhost/x' id='x'><body>a ]]> b</body></message>",
    "mismatched tags": b"<message from='alice@localhost/x'><body>a</message></body>",
    "two attributes": b"<message from='a@localhost/x' from='alice@localhost/x'><body>a</body></message>",
    "end of stream": b"</stream:stream>",
    "stream error": b"<stream:error><internal-server-error xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>",
    "text between stanzas": b"hello there<presence from='alice@localhost/x'/>",
    "unknown stanza": b"<greeting xmlns='jabber:client'/>",
    "stanza of another namespace": b"<message xmlns='jabber:server' from='alice@localhost/x'><body>x</body></message>",
}


@pytest.mark.parametrize("name", MARKUP)
async def test_malformed_and_restricted_xml(scene, name):
    await scene.online()
    scene.server.send(MARKUP[name])
    await scene.asks()
    assert scene.bot.process.poll() is None
    assert not any("lollol" in asked.everything or "aaaaaaaaaa" in asked.everything for asked in scene.model.asked)


HUGE = {
    "nesting within a stanza": (f"<message from='{ALICE}' id='deep'>".encode(), b"<a>", 100_000, b"</a>"),
    "a million attributes": (b"<message from='alice@localhost/phone' ", b"a%d='x' ", 1_000_000, b""),
    "a 10 MB attribute": (b"<message from='alice@localhost/phone' id='", b"x" * 1000, 10_000, b""),
    "a body without an end": (b"<message from='alice@localhost/phone'><body>", b"y" * MEGABYTE, 300, b""),
    "a tag name without an end": (b"<", b"z" * MEGABYTE, 100, b""),
    "many children": (b"<message from='alice@localhost/phone'>", b"<a/>" * 10_000, 1_000, b""),
}


@pytest.mark.parametrize("name", HUGE)
@pytest.mark.limit(150)
async def test_huge_stanzas_meet_bounded_memory(scene, name):
    start, piece, count, _ = HUGE[name]
    await scene.online()
    before = scene.memory()
    writer = scene.server.session.writer
    writer.write(start)
    try:
        for number in range(count):
            writer.write(piece % number if b"%d" in piece else piece)
            if number % 100 == 0 or len(piece) > 100_000:
                await asyncio.wait_for(writer.drain(), 30)
            if writer.transport.is_closing():
                break
    except (OSError, TimeoutError):
        pass
    assert scene.bot.process.poll() is None, "it lives"
    assert scene.peak() - before < 60, f"{before:.0f} MB before, {scene.peak():.0f} MB at most"
    writer.transport.abort()
    await scene.asks()


async def test_a_deep_but_complete_stanza_costs_only_itself(scene):
    """4,000 levels, as a sender can have relayed: it is dropped, and the session goes on."""
    await scene.online()
    for _ in range(3):
        scene.server.send(f"<message from='{ALICE}' id='deep' type='chat'><body>deep</body>" + "<a>" * 4000
                          + "</a>" * 4000 + "</message>")
    await scene.asks()
    assert scene.server.bound == 1, "the session went on"


async def test_endless_white_space_is_no_load(scene):
    await scene.online()
    before = scene.memory()
    for _ in range(64):
        scene.server.send(b" \n" * (MEGABYTE // 2))
        await scene.server.session.writer.drain()
    await scene.asks()
    assert scene.peak() - before < 40


async def test_reconnecting_to_a_hostile_server_backs_off(scene):
    await scene.online()
    began, connections = asyncio.get_running_loop().time(), scene.server.connections

    async def slam(reader, writer):
        scene.server.connections += 1
        writer.transport.abort()
    scene.server._server.close()
    scene.server.session.writer.transport.abort()
    await asyncio.sleep(0)
    scene.server._server = await asyncio.start_server(slam, "127.0.0.1", scene.server.port)
    await asyncio.sleep(6)  # what is counted is what happens in a time
    tried = scene.server.connections - connections
    assert 1 <= tried <= 12, f"{tried} connections in {asyncio.get_running_loop().time() - began:.0f} s"


def test_xml_in_these_tests_is_what_it_claims_to_be():
    """A test of the harness: the well-formed cases parse, the others do not."""
    wrapped = {name: b"<s xmlns='jabber:client' xmlns:stream='x'>" + data + b"</s>" for name, data in MARKUP.items()}
    fine = {"processing instruction", "comment", "stream error", "text between stanzas", "unknown stanza",
            "stanza of another namespace"}
    for name, data in wrapped.items():
        try:
            ET.fromstring(data)
            parses = True
        except ET.ParseError:
            parses = False
        assert parses == (name in fine), name
