"""hostile-input.md, column S: before a login, and logins that claim too much."""

import asyncio
import base64
import contextlib
import hmac
import re

import pytest

from attack import (ALICE, DOMAIN, MALLORY, PASSWORD, SASL, STREAMS, TLS, TRANSPORTS, Closed, Line, Wire, flat, frame,
                    memory, scram_256, upgrade)
from moltis import Moltis
from stanza import CLIENT
from stream import BIND, encoded

SASL2 = "urn:xmpp:sasl:2"
BIND2 = "urn:xmpp:bind:0"
FAST = "urn:xmpp:fast:0"
SM = "urn:xmpp:sm:3"
CLEAR = "before TLS"


def plain(user: str, password: str, authzid: str = "") -> str:
    return encoded(f"{authzid}\0{user}\0{password}")


# What a client might ask for in the clear, or somebody in the middle for it.
BEFORE_TLS = {
    "PLAIN": f"<auth xmlns='{SASL}' mechanism='PLAIN'>{plain(MALLORY, PASSWORD)}</auth>",
    "SCRAM": f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{encoded('n,,n=mallory,r=abc')}</auth>",
    "EXTERNAL": f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>",
    "ANONYMOUS": f"<auth xmlns='{SASL}' mechanism='ANONYMOUS'/>",
    "SASL2": (f"<authenticate xmlns='{SASL2}' mechanism='PLAIN'><initial-response>{plain(MALLORY, PASSWORD)}</initial-response>"
              f"<bind xmlns='{BIND2}'/></authenticate>"),
    "XEP-0078": "<iq type='set' id='1'><query xmlns='jabber:iq:auth'><username>mallory</username><password>x</password></query></iq>",
    "a registration": "<iq type='get' id='1'><query xmlns='jabber:iq:register'/></iq>",
    "a binding": f"<iq type='set' id='1'><bind xmlns='{BIND}'/></iq>",
    "a message": f"<message to='{ALICE}@{DOMAIN}'><body>Hello</body></message>",
    "a presence": "<presence/>",
    "a resumption": f"<resume xmlns='{SM}' previd='x' h='0'/>",
    "an acknowledgement": f"<a xmlns='{SM}' h='0'/>",
    "compression": "<compress xmlns='http://jabber.org/protocol/compress'><method>zlib</method></compress>",
    "a handshake of components": "<handshake>abc</handshake>",
    "dialback": "<db:result xmlns:db='jabber:server:dialback' from='a' to='b'>key</db:result>",
    "a proceed": f"<proceed xmlns='{TLS}'/>",
    "a success": f"<success xmlns='{SASL}'/>",
    "features": f"<stream:features xmlns:stream='{STREAMS}'/>",
}


async def test_before_tls_only_starttls_is_offered_and_nothing_else_is_taken(attacked_server):
    for name, xml in BEFORE_TLS.items():
        wire = await Wire(attacked_server, "starttls").connect()
        features = await wire.open()
        inside = re.sub(r"</?(stream:)?features[^>]*>", "", features)
        assert inside.startswith("<starttls") and "<required" in inside, features
        for word in ("mechanism", "bind", "register", "authentication", "<sm", "compress"):
            assert word not in inside, features
        await wire.raw(xml)
        assert await wire.condition() == "not-authorized", name


@pytest.mark.parametrize("behind", [
    f"<auth xmlns='{SASL}' mechanism='PLAIN'>{plain(MALLORY, PASSWORD)}</auth>",
    f"<stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}' to='{DOMAIN}' version='1.0'>",
    " ", "\n", "<", "\x16\x03\x01"])
async def test_what_is_injected_behind_starttls_ends_the_stream(attacked_server, behind):
    """CVE-2011-0411, CVE-2021-32920: in one packet with the request."""
    wire = await Wire(attacked_server, "starttls").connect()
    await wire.open()
    await wire.raw(f"<starttls xmlns='{TLS}'/>{behind}")
    assert await wire.condition() == "policy-violation"
    assert "<proceed" not in wire.text


async def test_no_tls_stream_begins_a_second_time(attacked_server):
    for transport in TRANSPORTS:
        wire = await Wire(attacked_server, transport).secured()
        assert "starttls" not in await wire.open(), transport
        await wire.raw(f"<starttls xmlns='{TLS}'/>")
        assert await wire.condition() == "not-authorized", transport


async def test_a_browser_behind_an_unknown_proxy_is_offered_no_login(attacked_server):
    """What a proxy forwards may have come in the clear; so nothing is offered that could be overheard."""
    line = await Line.open(attacked_server.http_port)
    await line.write(upgrade(extra="X-Forwarded-For: 192.0.2.7\r\n"))
    await line.until(lambda: b"\r\n\r\n" in line.data)
    assert b" 101 " in line.data
    wire = Wire(attacked_server, "websocket")
    del line.data[:line.data.index(b"\r\n\r\n") + 4]
    wire.line = line
    features = await wire.open()
    assert "mechanism" not in features and "register" not in features, features
    await wire.raw(BEFORE_TLS["PLAIN"])
    assert await wire.condition() == "not-authorized"


# -- who one is


def sasl(mechanism: str, initial: str) -> str:
    return f"<auth xmlns='{SASL}' mechanism='{mechanism}'>{initial}</auth>"


def sasl2(mechanism: str, initial: str, more: str = "") -> str:
    return (f"<authenticate xmlns='{SASL2}' mechanism='{mechanism}'><initial-response>{initial}</initial-response>"
            f"<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/>{more}</authenticate>")


AUTHZIDS = [f"{ALICE}@{DOMAIN}", f"admin@{DOMAIN}", ALICE, DOMAIN, f"{MALLORY}@evil.example", f"{MALLORY}@{DOMAIN}/x",
            f"{MALLORY}@{DOMAIN}.", f"{MALLORY}@{DOMAIN}@{DOMAIN}", "@", f"{MALLORY}\u0430@{DOMAIN}", " "]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("profile", [sasl, sasl2], ids=["SASL", "SASL2"])
async def test_nobody_logs_in_as_another(attacked_server, transport, profile):
    """The password is right, the name to act as is another's."""
    for authzid in AUTHZIDS:
        wire = await Wire(attacked_server, transport).secured()
        await wire.open()
        for attempt in (profile("PLAIN", plain(MALLORY, PASSWORD, authzid)),
                        profile("SCRAM-SHA-256", encoded(f"n,a={authzid},n={MALLORY},r=abc")),
                        profile("SCRAM-SHA-1", encoded(f"n,a={authzid},n={MALLORY},r=abc"))):
            await wire.raw(attempt)
            answer = await wire.until("<failure.*?</failure>|<challenge|<success")
            assert "invalid-authzid" in answer[0] or "malformed-request" in answer[0], f"{authzid!r}: {answer[0]}"
        wire.cut()
    # Oneself may be named.
    wire = await Wire(attacked_server, transport).secured()
    await wire.open()
    await wire.raw(profile("PLAIN", plain(MALLORY, PASSWORD, f"{MALLORY}@{DOMAIN}")))
    await wire.until("<success")
    wire.cut()


async def test_a_token_opens_the_account_it_was_given_to_and_no_other(attacked_server):
    """XEP-0484: mallory has a token, and says that it is alice's; and its proof without the token is worth nothing."""
    wire = await Wire(attacked_server, "tls").secured()
    await wire.open()
    await wire.raw(sasl2("PLAIN", plain(MALLORY, PASSWORD), f"<request-token xmlns='{FAST}' mechanism='HT-SHA-256-NONE'/>"))
    token = (await wire.until("<token[^>]*token=['\"]([^'\"]*)"))[1]
    wire.cut()
    proof = hmac.digest(token.encode(), b"Initiator", "sha256")
    for name, message, agent, expected in [
        ("another's name", ALICE.encode() + b"\0" + proof, True, "<failure.*not-authorized"),
        ("nobody's name", b"nobody\0" + proof, True, "<failure.*not-authorized"),
        ("no proof", MALLORY.encode() + b"\0", True, "<failure"),
        ("the token itself", MALLORY.encode() + b"\0" + token.encode(), True, "<failure"),
        ("two names", MALLORY.encode() + b"\0" + ALICE.encode() + b"\0" + proof, True, "<failure"),
        ("a name with an address", f"{ALICE}@{DOMAIN}".encode() + b"\0" + proof, True, "<failure"),
        ("another device", MALLORY.encode() + b"\0" + proof, False, "<failure"),
        ("the truth", MALLORY.encode() + b"\0" + proof, True, "<success"),
    ]:
        wire = await Wire(attacked_server, "tls").secured()
        await wire.open()
        request = sasl2("HT-SHA-256-NONE", base64.b64encode(message).decode(), f"<fast xmlns='{FAST}'/>")
        await wire.raw(request if agent else request.replace("d4565fa7", "00000000"))
        answer = await wire.until("<failure.*?</failure>|<success.*?</success>")
        assert re.match(expected, answer[0], re.DOTALL), f"{name}: {answer[0]}"
        wire.cut()


@pytest.mark.parametrize("profile", [sasl, sasl2], ids=["SASL", "SASL2"])
async def test_names_that_nobody_has_look_like_wrong_passwords(attacked_server, profile):
    """The same answers, byte by byte, to each step; the same salt each time."""
    async def attempts(user: str) -> tuple:
        wire = await Wire(attacked_server, "tls").secured()
        await wire.open()
        await wire.raw(profile("PLAIN", plain(user, "wrong")))
        direct = (await wire.until("<failure.*?</failure>"))[0]
        salts, shapes = [], []
        for _ in range(2):
            await wire.raw(profile("SCRAM-SHA-256", encoded(f"n,,n={user},r=abc")))
            challenge = base64.b64decode((await wire.until("<challenge[^>]*>([^<]*)</challenge>"))[1]).decode()
            given = dict(part.split("=", 1) for part in challenge.split(","))
            salts.append(given["s"])
            shapes.append((sorted(given), given["i"], len(base64.b64decode(given["s"])), len(given["r"])))
            final = encoded(f"c=biws,r={given['r']},p={base64.b64encode(bytes(32)).decode()}")
            space = SASL if profile is sasl else SASL2
            await wire.raw(f"<response xmlns='{space}'>{final}</response>")
            shapes.append((await wire.until("<failure.*?</failure>"))[0])
        wire.cut()
        assert salts[0] == salts[1], "a salt that changes says that there is nobody"
        return direct, shapes
    known = await attempts(MALLORY)
    for unknown in ("nobody", "Nobody2", "\u00fcnknown", "x" * 1_023, "admin"):
        assert await attempts(unknown) == known, unknown


async def test_a_downgrade_of_the_mechanisms_is_noticed(attacked_server):
    """RFC 5802, 6: a client that could bind the channel and says that the server cannot was deceived; and a -PLUS login is
    worth nothing with another channel's data."""
    for name, mechanism, first, final in [
        ("the list was cut", "SCRAM-SHA-256", "y,,", None),
        ("another binding", "SCRAM-SHA-256-PLUS", "p=tls-unique,,", None),
        ("no binding", "SCRAM-SHA-256-PLUS", "n,,", None),
        ("binding without -PLUS", "SCRAM-SHA-256", "p=tls-exporter,,", None),
        ("the data of another channel", "SCRAM-SHA-256-PLUS", "p=tls-exporter,,", b"p=tls-exporter,," + bytes(32)),
    ]:
        wire = await Wire(attacked_server, "tls").secured()
        await wire.open()
        bare = f"n={MALLORY},r=abc"
        await wire.raw(sasl(mechanism, encoded(first + bare)))
        if final is not None:
            challenge = base64.b64decode((await wire.until("<challenge[^>]*>([^<]*)</challenge>"))[1]).decode()
            given = dict(part.split("=", 1) for part in challenge.split(","))
            last = f"c={base64.b64encode(final).decode()},r={given['r']}"
            proof = scram_256(PASSWORD, base64.b64decode(given["s"]), int(given["i"]), ",".join((bare, challenge, last)))
            await wire.raw(f"<response xmlns='{SASL}'>{encoded(f'{last},p={proof}')}</response>")
        answer = await wire.until("<failure.*?</failure>|<challenge|<success")
        assert answer[0].startswith("<failure"), f"{name}: {answer[0]}"
        wire.cut()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_broken_logins_end_in_failures_and_then_the_stream(attacked_server, transport):
    nonsense = [sasl("PLAIN", "!!!"), sasl("PLAIN", encoded("\0\0")), sasl("PLAIN", encoded("a\0b\0c\0d")),
                sasl("PLAIN", base64.b64encode(b"\0mallory\0\xff\xfe").decode()), sasl("SCRAM-SHA-256", encoded("n,,m=x,n=a,r=b")),
                sasl("SCRAM-SHA-256", encoded("n,,n=a=3,r=b")), sasl("SCRAM-SHA-256", encoded("n,,n=,r=b")),
                sasl("SCRAM-SHA-256", encoded(",")), sasl("DIGEST-MD5", "="), sasl("X-UNKNOWN", "="), sasl("", ""),
                sasl("CRAM-MD5", "="), sasl("EXTERNAL", encoded(f"{ALICE}@{DOMAIN}")), sasl("OAUTHBEARER", "="),
                sasl2("PLAIN", "!!!"), sasl2("HT-SHA-256-NONE", encoded("mallory\0x")), f"<authenticate xmlns='{SASL2}'/>"]
    for attempt in nonsense:
        wire = await Wire(attacked_server, transport).secured()
        await wire.open()
        with contextlib.suppress(Closed):
            for _ in range(5):
                await wire.raw(attempt)
                answer = await wire.until("<failure.*?</failure>|<challenge[^>]*>|<success")
                assert "<failure" in answer[0], f"{attempt}: {answer[0]}"
        assert await wire.condition() == "policy-violation", attempt


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_stream_stays_with_its_host_and_its_account(attacked_server, transport):
    """CVE-2018-10847: a header for another host, or in another's name, after the login."""
    for change, expected in [(("localhost", "evil.example"), "host-unknown"), (("localhost", "conference.localhost"), "host-unknown"),
                             (("localhost", f"{ALICE}@localhost"), "host-unknown"), (("localhost", ""), "host-unknown")]:
        wire = await Wire(attacked_server, transport).secured()
        await wire.open()
        await wire.raw(sasl("PLAIN", plain(MALLORY, PASSWORD)))
        await wire.until("<success")
        wire.forget()
        await wire.raw(wire.header(change[1]))
        assert await wire.condition() == expected, change
    wire = await Wire(attacked_server, transport).secured()
    await wire.open()
    await wire.raw(sasl("PLAIN", plain(MALLORY, PASSWORD)))
    await wire.until("<success")
    wire.forget()
    await wire.raw(wire.header(more=f" from='{ALICE}@{DOMAIN}'"))
    assert await wire.condition() == "invalid-from"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_after_a_login_and_before_a_session_nothing_is_routed(attacked_server, transport):
    alice = await Wire(attacked_server, "tls").bound(ALICE, "watch")
    await alice.send("<presence/>")
    await alice.ping()
    for stanza in ("<message to='{}'><body>early</body></message>", "<presence to='{}'/>", "<iq type='get' id='1' to='{}'>"
                   "<ping xmlns='urn:xmpp:ping'/></iq>", "<iq type='set' id='1'><query xmlns='jabber:iq:roster'/></iq>"):
        wire = await Wire(attacked_server, transport).secured()
        await wire.open()
        await wire.login()
        await wire.send(stanza.format(alice.jid))
        assert await wire.condition() in ("not-authorized", "unsupported-stanza-type"), stanza
    await alice.ping()
    assert "early" not in alice.text and MALLORY not in alice.text
    alice.cut()


# -- too many


HALF_A_HELLO = bytes.fromhex("1603010200" "010001fc0303") + bytes(40)
ALMOST = b"<a>" + b"x" * 7_000  # as much as may come before a login, and no end


def half_open(server: Moltis) -> list[tuple[int, int, list[tuple[bytes, bytes]]]]:
    """How many, on which port, and what is sent before what is awaited."""
    header = Wire(server, "starttls").header().encode()
    framed = frame(Wire(server, "websocket").header().encode())
    auth = f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{encoded('n,,n=mallory,r=abc')}</auth>".encode()
    return [
        (3_000, server.c2s_port, []),
        (3_000, server.c2s_port, [(header, b"features>"), (ALMOST, b"")]),
        (1_000, server.tls_port, [(HALF_A_HELLO, b"")]),
        (1_000, server.http_port, [(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", b"")]),
        (1_000, server.http_port, [(upgrade(), b"\r\n\r\n"), (framed, b"features>"), (frame(auth), b"challenge>")]),
        (1_000, server.http_port, [(upgrade(), b"\r\n\r\n"), (framed, b"features>"), (frame(ALMOST, fin=False), b"")]),
    ]


async def flood(server: Moltis) -> float:
    """Opens them all, sees that somebody honest gets in, and lets them go; memory at the height of it."""
    lines: list[Line] = []

    async def half(port: int, steps: list[tuple[bytes, bytes]]) -> None:
        line = await Line.open(port)
        lines.append(line)
        for data, awaited in steps:
            await line.write(data)
            await line.until(lambda: awaited in line.data)
            line.data.clear()
    for count, port, steps in half_open(server):
        for start in range(0, count, 200):
            await asyncio.gather(*(half(port, steps) for _ in range(start, min(start + 200, count))))
    assert len(lines) == 10_000
    wire = await Wire(server, "starttls").bound(ALICE)
    await wire.ping()
    wire.cut()
    held = memory(server)
    for line in lines:
        line.cut()
    return held


@pytest.mark.limit(120)
async def test_10_000_half_open_connections_are_held_in_little_memory(attacked_server):
    """Each has got as far as a stranger gets. What they took serves those who come after them: the allocator keeps it, and the
    second flood takes no more than the first."""
    async with flat(attacked_server, most=10_000 * 0.02):
        first = await flood(attacked_server)
    async with flat(attacked_server, most=30, at_rest=20):
        second = await flood(attacked_server)
    print(f"10,000 half-open connections: {first:.0f} MB, the next 10,000: {second:.0f} MB, then {memory(attacked_server):.0f}")


@pytest.mark.limit(60)
async def test_an_address_has_so_many_connections_over_all_ports(authority, tmp_path):
    """Wrong passwords of one address are counted in test_abuse.py."""
    limits = {"connections_per_ip": 20}
    server = Moltis(tmp_path / "server", authority, {"xmpp_server": {"limits": limits}})
    await server.start()
    try:
        lines = [await Line.open(server.c2s_port) for _ in range(19)]
        # What waits to start counts as well; then there is no room, over TLS and WebSocket either.
        header = Wire(server, "starttls").header().encode()
        for line in lines:
            await line.write(header)
            await line.until(lambda line=line: b"features>" in line.data)
        last = await Line.open(server.c2s_port)
        await last.write(header)
        await last.until(lambda: b"features>" in last.data)
        refused = await Line.open(server.c2s_port)
        assert await refused.end() == b""
        with pytest.raises((OSError, ConnectionError)):
            await Wire(server, "tls").connect()
        browser = await Wire(server, "websocket").connect()
        await browser.raw(browser.header())
        assert await browser.condition() == ""
        for line in (*lines, last):
            line.cut()
        wire = await retried(server)
        wire.cut()
    finally:
        await server.stop()


async def retried(server: Moltis, transport: str = "tls") -> Wire:
    """A stream with TLS and its header, as soon as there is room for one."""
    async with asyncio.timeout(20):
        while True:
            try:
                wire = await Wire(server, transport).secured()
                await wire.open()
                return wire
            except (OSError, Closed):
                await asyncio.sleep(0.05)
