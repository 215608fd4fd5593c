"""hostile-input.md, column S: what no XML parser of an XMPP server may take, in every state of a stream, on every
transport; and stanzas without an end."""

import asyncio

import pytest

from attack import ALICE, CONDITION, DOMAIN, STATES, TRANSPORTS, Closed, Wire, flat, frame
from stanza import CLIENT

# What XMPP forbids (RFC 6120, 11.1), which stands for itself; and what is no XML in UTF-8, which stands in an element.
RESTRICTED = {
    "a DTD": b"<!DOCTYPE message>",
    "a billion laughs": b"<!DOCTYPE m [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'><!ENTITY c '&b;&b;&b;&b;'>]><m>&c;</m>",
    "a file as an entity": b"<!DOCTYPE m [<!ENTITY f SYSTEM 'file:///etc/passwd'>]><m>&f;</m>",
    "a parameter entity": b"<!DOCTYPE m [<!ENTITY % p SYSTEM 'http://127.0.0.1/p'>%p;]><m/>",
    "a processing instruction": b"<?php echo 1 ?>",
    "a style sheet": b"<?xml-stylesheet href='http://127.0.0.1/s'?>",
    "a comment": b"<!-- nothing -->",
    "a conditional section": b"<![INCLUDE[ <m/> ]]>",
    "an attribute list": b"<!ATTLIST m a CDATA 'b'>",
}
MALFORMED = {
    "an entity that nobody declared": b"<m>&lol;</m>",
    "an entity without an end": b"<m>&amp</m>",
    "the character 0": b"<m>&#0;</m>",
    "a control character": b"<m>&#x1b;[2J</m>",
    "half a surrogate pair": b"<m>&#xD800;</m>",
    "no character": b"<m>&#xFFFF;</m>",
    "beyond Unicode": b"<m>&#x110000;</m>",
    "a number that overflows": b"<m>&#99999999999999999999;</m>",
    "a byte 0": b"<m>\0</m>",
    "a raw control byte": b"<m>\x01</m>",
    "the end of a section": b"<m>]]></m>",
    "an unbound prefix": b"<x:m/>",
    "an attribute with an unbound prefix": b"<m x:a=''/>",
    "a prefix bound to nothing": b"<x:m xmlns:x=''/>",
    "xml bound to another namespace": b"<m xmlns:xml='urn:x'/>",
    "xmlns as a prefix": b"<m xmlns:xmlns='urn:x'/>",
    "an attribute twice": b"<m a='1' a='2'/>",
    "an attribute twice by its namespace": b"<m xmlns:x='urn:x' xmlns:y='urn:x' x:a='1' y:a='2'/>",
    "an attribute without quotes": b"<m a=1/>",
    "an attribute without a value": b"<m a/>",
    "a tag in an attribute": b"<m a='<'/>",
    "attributes without space": b"<m a='1'b='2'/>",
    "another end tag": b"<m></n>",
    "crossed tags": b"<m><n></m></n>",
    "a name with two colons": b"<a:b:c/>",
    "a name that begins with a digit": b"<1m/>",
    "space before a name": b"< m/>",
    "a section outside of an element": b"<![CDATA[m]]>",
    "a second declaration": b"<?xml version='1.0'?>",
}
NOT_UTF_8 = {
    "a byte that UTF-8 has not": b"<m>\xff</m>",
    "an overlong character": b"<m>\xc0\xbc</m>",
    "an overlong slash": b"<m>\xe0\x80\xaf</m>",
    "a surrogate in UTF-8": b"<m>\xed\xa0\x80</m>",
    "beyond Unicode in UTF-8": b"<m>\xf4\x90\x80\x80</m>",
    "half a character": b"<m>\xe2\x82</m>",
    "UTF-16": "\ufeff<m/>".encode("utf-16-le"),
}
REFUSED = {"restricted-xml", "not-well-formed", "unsupported-encoding", "bad-format", "undefined-namespace-prefix"}


async def attacked(server, transport: str, state: str, name: str, payload: bytes) -> str | None:
    """What is wrong; `None`: the stream has ended as it must."""
    wire = Wire(server, transport)
    try:
        await STATES[state](wire)
        wire.forget()
        await wire.raw(payload)
        try:
            condition = await wire.condition(10)
        except TimeoutError:
            return f"{name}: it goes on, with {wire.text!r}"
        # A WebSocket refuses what is no text before a stream sees it (RFC 6455, 8.1).
        hung_up = not condition and wire.websocket and name in NOT_UTF_8
        # What stands where a header should be may be wrong as a header first (RFC 6120, 4.8.1).
        no_header = condition == "invalid-namespace" and state == "before the header" and name not in RESTRICTED
        if condition not in REFUSED and not hung_up and not no_header:
            return f"{name}: {condition or 'no condition'}; {wire.text[-200:]!r}"
        if name in RESTRICTED and condition not in ("restricted-xml", "not-well-formed"):
            return f"{name}: {condition}"
    except Closed as closed:
        return f"{name}: closed too early, {closed}"
    finally:
        wire.cut()
    return None


async def all_refused(server, transport: str, state: str, payloads: dict[str, bytes]) -> None:
    wrong = await asyncio.gather(*(attacked(server, transport, state, *payload) for payload in payloads.items()))
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize(("transport", "state"), [
    (transport, state) for transport in TRANSPORTS for state in STATES
    # The others begin with TLS, or with HTTP.
    if state != "before TLS" or transport == "starttls"])
async def test_forbidden_xml_ends_a_stream_in_every_state(attacked_server, transport, state):
    everything = RESTRICTED | MALFORMED | NOT_UTF_8
    if state == "before the header" and transport in ("starttls", "tls"):
        # There the declaration may stand.
        everything.pop("a second declaration")
    await all_refused(attacked_server, transport, state, everything)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_forbidden_xml_ends_a_stream_inside_a_stanza(attacked_server, transport):
    start = f"<message xmlns='{CLIENT}' to='{ALICE}@{DOMAIN}'><body>".encode()
    everything = {name: start + payload + b"</body></message>" for name, payload in (RESTRICTED | MALFORMED | NOT_UTF_8).items()
                  if name != "a section outside of an element"}
    await all_refused(attacked_server, transport, "in a session", everything)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_forbidden_xml_in_place_of_a_header_ends_the_connection(attacked_server, transport):
    """Also of a header that would be right."""
    header = Wire(attacked_server, transport).header().encode()
    head = header.index(b"<stream:stream") if b"<stream:stream" in header else 0
    everything = {name: header[:head] + payload + header[head:] for name, payload in RESTRICTED.items()}
    await all_refused(attacked_server, transport, "before the header", everything)


# -- without an end

MEGABYTE = b"x" * (1 << 20)
# How each begins, what goes on and on, and how much of it.
ENDLESS = {
    "1 GB of text": (b"<message><body>", MEGABYTE, 1024),
    "a million attributes": (b"<message", b" a=''" * 100_000, 10),
    "a million distinct attributes": (b"<message", None, 10),
    "100,000 levels": (b"", b"<a>" * 10_000, 10),
    "an attribute of 10 MB": (b"<message id='", MEGABYTE, 10),
    "a name without an end": (b"<", MEGABYTE, 10),
    "a million children": (b"<message>", b"<a/>" * 100_000, 10),
    "a million namespaces": (b"<message>", b"<a xmlns:b='urn:c' xmlns='urn:d'/>" * 50_000, 10),
    "a section without an end": (b"<message><body><![CDATA[", MEGABYTE, 64),
    "a reference without an end": (b"<message><body>&", MEGABYTE, 10),
    "an end tag without an end": (b"<message></message", b" " * (1 << 20), 10),
}


async def pour(wire: Wire, start: bytes, more: bytes | None, times: int) -> int:
    """Until the server hangs up; how many bytes it was sent."""
    sent = len(start)
    going = await wire.line.write(start)
    for turn in range(times):
        if not going:
            break
        part = more or b"".join(b" a%d=''" % number for number in range(turn * 100_000, turn * 100_000 + 100_000))
        for offset in range(0, len(part), 65_536):
            going = await wire.line.write(part[offset:offset + 65_536])
            if not going:
                break
            sent += 65_536
    return sent


@pytest.mark.parametrize("state", ["before the login", "in a session"])
@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.limit(60)
async def test_a_stanza_without_an_end_meets_bounded_memory(attacked_server, transport, state):
    wires = {name: Wire(attacked_server, transport) for name in ENDLESS}
    await asyncio.gather(*(STATES[state](wire) for wire in wires.values()))
    # Each may hold a stanza (256 KiB) while it is read, and its TLS.
    async with flat(attacked_server, most=len(wires) * 1.5, at_rest=len(wires)):
        for name, wire in wires.items():
            start, more, times = ENDLESS[name]
            if wire.websocket:
                start = frame(start, fin=False) + frame(b"", opcode=0, fin=False, length=1 << 40)
            sent = await pour(wire, start, more, times)
            await wire.line.end()
            # What lies in buffers of the kernel and of TLS was sent too.
            assert sent < 16 << 20, f"{name}: the server has taken {sent} bytes"
            found = CONDITION.search(wire.text)
            assert found is None or found[1] in ("policy-violation", "not-well-formed"), f"{name}: {found}"


@pytest.mark.parametrize("transport", ["starttls", "tls"])
async def test_white_space_without_an_end_is_no_load(attacked_server, transport):
    """After a login it keeps a connection alive (RFC 6120, 4.6.1), however much of it; before, it has a limit."""
    wire = await Wire(attacked_server, transport).bound()
    async with flat(attacked_server, most=4):
        for _ in range(30):
            assert await wire.raw(b" \n\t\r" * (1 << 18))
        await wire.ping()
    wire.cut()
    early = Wire(attacked_server, transport)
    await STATES["before the login"](early)
    await pour(early, b"", b" " * (1 << 20), 4)
    assert await early.condition() in ("policy-violation", "")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_before_a_login_there_are_8_kib_and_32_elements(attacked_server, transport):
    """What stays below is answered; one more, and the stream is over."""
    for name, attack, within in [
        ("one element too many", b"<a>" + b"<b/>" * 32 + b"</a>", b"<a>" + b"<b/>" * 27 + b"</a>"),
        ("too many bytes", b"<a>" + b"x" * 8_192 + b"</a>", b"<a>" + b"x" * 7_000 + b"</a>"),
    ]:
        wire = Wire(attacked_server, transport)
        await STATES["before the login"](wire)
        await wire.raw(attack)
        # A WebSocket hands over a message that is whole, and no longer one.
        assert await wire.condition() == "policy-violation", f"{name} on {transport}"
        wire = Wire(attacked_server, transport)
        await STATES["before the login"](wire)
        await wire.raw(within)
        assert await wire.condition() == "not-authorized", f"{name} on {transport}, within"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_byte_by_byte_is_the_same_stream(attacked_server, transport):
    """A login and a stanza, a byte a packet (or a fragment)."""
    wire = await Wire(attacked_server, transport).secured()

    async def slowly(text: str) -> None:
        data = text.encode()
        for number in range(len(data)):
            part = data[number:number + 1]
            if wire.websocket:
                part = frame(part, 1 if number == 0 else 0, fin=number == len(data) - 1)
            await wire.line.write(part)
            await asyncio.sleep(0)
    await slowly(wire.header())
    await wire.until("</(stream:)?features>")
    await wire.login()
    await slowly(f"<iq xmlns='{CLIENT}' type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>")
    await wire.until("<jid>")
    text = "\u20ac\U0001f600 &lt;&#x41;"
    to = f"{ALICE}@{DOMAIN}"
    await slowly(f"<message xmlns='{CLIENT}' type='chat' to='{to}'><body>{text}</body></message>")
    await wire.ping()
    wire.cut()
