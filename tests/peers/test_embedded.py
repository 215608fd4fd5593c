"""The embedded server and real clients: what a scenario in text cannot show."""

import asyncio
import base64
import hashlib
import hmac
import os
import socket
import ssl
import uuid
from xml.etree import ElementTree as ET

import pytest_asyncio
from OpenSSL import SSL

from models import Model
from moltis import Moltis
from person import Person
from servers import DOMAIN, PATIENCE, ROOMS
from stanza import CLIENT, MARKERS
from stream import SASL, SM, Stream, decoded, encoded
from wire import Answer, Hold
from world import PASSWORD

SASL2 = "urn:xmpp:sasl:2"
BIND2 = "urn:xmpp:bind:0"
FAST = "urn:xmpp:fast:0"
REGISTER = "jabber:iq:register"


class House:
    """A server with a bot of its own, and its model."""

    def __init__(self, server: Moltis, model: Model):
        self.server, self.model = server, model
        self.bot = f"helper@{DOMAIN}"
        self.people: list[Person] = []

    async def person(self, name: str, **options) -> Person:
        user = self.server.unique(name)
        await self.server.add_user(user, PASSWORD)
        return await self.again(user, name, **options)

    async def again(self, user: str, nick: str, **options) -> Person:
        person = Person(self.server, user, PASSWORD, nick=nick, **options)
        self.people.append(person)
        return await person.login()


@pytest_asyncio.fixture(scope="session")
async def running(tmp_path_factory, authority):
    model = Model()
    await model.start()
    server = Moltis(tmp_path_factory.mktemp("embedded") / "server", authority, {
        "chat": {"model": "test/model-1"},
        "providers": {"test": {"kind": "openai", "base_url": model.base_url, "api_key": "key-of-test"}},
        "xmpp_server": {
            "registration": "open", "limits": {"registrations_per_ip_per_hour": 2},
            "bots": {"helper": {"allowlist": [f"*@{DOMAIN}"], "rooms": [f"lobby@{ROOMS}"], "nick": "helper",
                                "muc_rooms": {f"study@{ROOMS}": {"users": [f"bob@{DOMAIN}"]}},
                                "stream_mode": "correction", "edit_throttle_ms": 100, "stream_min_initial_chars": 10}}}}).with_certificate()
    await server.start()
    yield server, model
    await server.stop()
    await model.stop()


@pytest_asyncio.fixture
async def house(running):
    house = House(*running)
    yield house
    await asyncio.gather(*(person.logout() for person in house.people))


# -- logging in


def openssl_login(server: Moltis, user: str, *, binding: bytes | None = None) -> str:
    """SCRAM-SHA-256-PLUS over direct TLS, with the exported key of RFC 9266 or with `binding`; the name of the answer.

    Python's own `ssl` cannot export keying material.
    """
    context = SSL.Context(SSL.TLS_METHOD)
    plain = socket.create_connection(("127.0.0.1", server.tls_port), PATIENCE)
    plain.setblocking(True)
    connection = SSL.Connection(context, plain)
    connection.set_tlsext_host_name(DOMAIN.encode())
    connection.set_connect_state()
    try:
        connection.do_handshake()
        if binding is None:
            binding = connection.export_keying_material(b"EXPORTER-Channel-Binding", 32, b"")

        def ask(text: str, until: str) -> str:
            connection.sendall(text.encode())
            got = ""
            while until not in got and "<failure" not in got:
                got += connection.recv(65536).decode()
            return got

        features = ask(f"<stream:stream xmlns='{CLIENT}' xmlns:stream='http://etherx.jabber.org/streams' to='{DOMAIN}' "
                       "version='1.0'>", "</stream:features>")
        assert "SCRAM-SHA-256-PLUS" in features and "tls-exporter" in features, features
        header = b"p=tls-exporter,,"
        first = f"n={user},r={uuid.uuid4().hex}"
        answer = ask(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256-PLUS'>"
                     f"{base64.b64encode(header + first.encode()).decode()}</auth>", "</challenge>")
        challenge = decoded(ET.fromstring(answer).text)
        given = dict(part.split("=", 1) for part in challenge.split(","))
        without_proof = f"c={base64.b64encode(header + binding).decode()},r={given['r']}"
        salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(given["s"]), int(given["i"]))
        client_key = hmac.new(salted, b"Client Key", "sha256").digest()
        signature = hmac.new(hashlib.sha256(client_key).digest(),
                             ",".join((first, challenge, without_proof)).encode(), "sha256").digest()
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()
        answer = ask(f"<response xmlns='{SASL}'>{encoded(f'{without_proof},p={proof}')}</response>", "</success>")
        return ET.fromstring(answer).tag.split("}")[1]
    finally:
        plain.close()


async def test_scram_sha_256_plus_binds_the_login_to_the_tls_connection(house):
    user = house.server.unique("bound")
    await house.server.add_user(user, PASSWORD)
    assert await asyncio.to_thread(openssl_login, house.server, user) == "success"
    # What somebody in the middle would have: another connection's key.
    assert await asyncio.to_thread(openssl_login, house.server, user, binding=os.urandom(32)) == "failure"


async def test_slixmpp_logs_in_with_starttls(house):
    alice = await house.person("alice")
    assert alice.client.transport.get_extra_info("ssl_object").version() == "TLSv1.3"
    await alice.flush()


async def test_direct_tls_negotiates_its_protocol(house):
    """XEP-0368, 4; the scenarios log in there."""
    context = ssl.create_default_context(cafile=str(house.server.authority.root))
    context.set_alpn_protocols(["xmpp-client"])
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.tls_port, ssl=context, server_hostname=DOMAIN)
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "xmpp-client"
    writer.close()


async def test_a_login_without_tls_is_not_possible(house):
    reader, writer = await asyncio.open_connection("127.0.0.1", house.server.c2s_port)
    writer.write(f"<stream:stream xmlns='{CLIENT}' xmlns:stream='http://etherx.jabber.org/streams' to='{DOMAIN}' "
                 "version='1.0'>".encode())
    features = await asyncio.wait_for(reader.readuntil(b"</stream:features>"), PATIENCE)
    assert b"starttls" in features and b"required" in features and b"mechanism" not in features
    writer.write(f"<auth xmlns='{SASL}' mechanism='PLAIN'>{encoded(chr(0) + 'a' + chr(0) + 'b')}</auth>".encode())
    assert b"not-authorized" in await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()


async def test_an_account_is_registered_within_limits(house):
    """XEP-0077, before a login: as many from one address as `registrations_per_ip_per_hour` allows."""
    outcomes = []
    for _ in range(3):
        stream = await Stream(house.server).open()
        assert stream.features.find("{http://jabber.org/features/iq-register}register") is not None
        stream.write(f"<iq type='get' id='form' to='{DOMAIN}'><query xmlns='{REGISTER}'/></iq>")
        form = (await stream.next()).find(f"{{{REGISTER}}}query")
        assert form.find(f"{{{REGISTER}}}username") is not None and form.find(f"{{{REGISTER}}}password") is not None
        user = house.server.unique("new")
        stream.write(f"<iq type='set' id='set' to='{DOMAIN}'><query xmlns='{REGISTER}'><username>{user}</username>"
                     f"<password>{PASSWORD}</password></query></iq>")
        outcomes.append((await stream.next()).get("type"))
        if outcomes[-1] == "result":
            await stream.login(user, PASSWORD)
            # The name is taken from now on.
            await stream.close()
    assert outcomes == ["result", "result", "error"]


# -- SASL2, Bind 2 and FAST: slixmpp 1.17 has none of them


async def sasl2(stream: Stream, user: str, mechanism: str, initial: bytes, inline: str) -> ET.Element:
    agent = "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'><software>Scenario</software></user-agent>"
    stream.write(f"<authenticate xmlns='{SASL2}' mechanism='{mechanism}'>"
                 f"<initial-response>{base64.b64encode(initial).decode()}</initial-response>{agent}{inline}</authenticate>")
    return await stream.next()


BIND_INLINE = f"<bind xmlns='{BIND2}'><tag>Scenario</tag><enable xmlns='urn:xmpp:carbons:2'/></bind>"


async def test_one_round_trip_logs_in_binds_and_gives_a_token_for_the_next_time(house):
    user = house.server.unique("fast")
    await house.server.add_user(user, PASSWORD)
    stream = await Stream(house.server).open()
    offered = stream.features.find(f"{{{SASL2}}}authentication")
    assert offered is not None, ET.tostring(stream.features)
    mechanisms = [found.text for found in offered.iter(f"{{{FAST}}}mechanism")]
    assert "HT-SHA-256-NONE" in mechanisms, mechanisms
    success = await sasl2(stream, user, "PLAIN", f"\0{user}\0{PASSWORD}".encode(),
                          f"{BIND_INLINE}<request-token xmlns='{FAST}' mechanism='HT-SHA-256-NONE'/>")
    assert success.tag == f"{{{SASL2}}}success", ET.tostring(success)
    address = success.findtext(f"{{{SASL2}}}authorization-identifier")
    assert address.startswith(f"{user}@{DOMAIN}/Scenario")
    assert success.find(f"{{{BIND2}}}bound") is not None
    token = success.find(f"{{{FAST}}}token")
    assert token is not None, ET.tostring(success)
    await stream.close()

    stream = await Stream(house.server).open()
    proof = hmac.new(token.get("token").encode(), b"Initiator", "sha256").digest()
    success = await sasl2(stream, user, "HT-SHA-256-NONE", f"{user}\0".encode() + proof,
                          f"{BIND_INLINE}<fast xmlns='{FAST}'/>")
    assert success.tag == f"{{{SASL2}}}success", ET.tostring(success)
    responder = base64.b64decode(success.findtext(f"{{{SASL2}}}additional-data"))
    assert responder == hmac.new(token.get("token").encode(), b"Responder", "sha256").digest()
    stream.write("<presence/>")
    await stream.close()


async def test_a_wrong_token_is_refused_and_the_password_still_works(house):
    user = house.server.unique("fast")
    await house.server.add_user(user, PASSWORD)
    stream = await Stream(house.server).open()
    failure = await sasl2(stream, user, "HT-SHA-256-NONE", f"{user}\0".encode() + os.urandom(32),
                          f"{BIND_INLINE}<fast xmlns='{FAST}'/>")
    assert failure.tag == f"{{{SASL2}}}failure", ET.tostring(failure)
    success = await sasl2(stream, user, "PLAIN", f"\0{user}\0{PASSWORD}".encode(), BIND_INLINE)
    assert success.tag == f"{{{SASL2}}}success", ET.tostring(success)
    await stream.close()


# -- resumption


class Resuming:
    """A client whose connection breaks, and which goes on where it was (XEP-0198, 5)."""

    def __init__(self, server: Moltis, user: str):
        self.server, self.user = server, user
        self.sent: list[str] = []  # all since the session began
        self.handled = 0
        self.bodies: list[str] = []

    async def begin(self) -> None:
        self.stream = await Stream(self.server).open()
        await self.stream.login(self.user, PASSWORD, "phone")
        self.stream.write(f"<enable xmlns='{SM}' resume='true'/>")
        enabled = await self.stream.next()
        assert enabled.get("resume") in ("true", "1"), ET.tostring(enabled)
        self.id = enabled.get("id")
        self.send("<presence/>")

    def send(self, stanza: str) -> None:
        self.sent.append(stanza)
        self.stream.write(stanza)

    def read(self) -> None:
        for element in self.stream.waiting():
            if element is not None and element.tag.split("}")[1] in ("message", "presence", "iq"):
                self.handled += 1
                if (body := element.findtext(f"{{{CLIENT}}}body")) is not None:
                    self.bodies.append(body)

    async def resume(self) -> None:
        self.stream.cut()
        await asyncio.sleep(0)
        self.read()
        self.stream = await Stream(self.server).open()
        await self.stream.authenticate(self.user, PASSWORD)
        await self.stream.restart()
        self.stream.write(f"<resume xmlns='{SM}' h='{self.handled}' previd='{self.id}'/>")
        resumed = await self.stream.next()
        assert resumed.tag == f"{{{SM}}}resumed", ET.tostring(resumed)
        for stanza in self.sent[int(resumed.get("h")):]:
            self.stream.write(stanza)


async def test_connections_that_break_lose_and_double_nothing(house):
    romeo, juliet = house.server.unique("romeo"), house.server.unique("juliet")
    await asyncio.gather(*(house.server.add_user(user, PASSWORD) for user in (romeo, juliet)))
    clients = [Resuming(house.server, romeo), Resuming(house.server, juliet)]
    for client in clients:
        await client.begin()
    count = 100
    for number in range(count):
        for client, other in zip(clients, reversed(clients), strict=True):
            client.send(f"<message to='{other.user}@{DOMAIN}/phone' type='chat'><body>{number}</body></message>")
        if number % 20 == 19:
            # Wherever what was written is by now.
            await clients[number // 20 % 2].resume()
    async with asyncio.timeout(PATIENCE):
        while any(len(client.bodies) < count for client in clients):
            await asyncio.sleep(0.05)
            for client in clients:
                client.read()
    await asyncio.sleep(0.2)
    for client in clients:
        client.read()
        assert client.bodies == [str(number) for number in range(count)]
        client.stream.cut()


async def test_another_cannot_resume_a_session(house):
    romeo, evil = house.server.unique("romeo"), house.server.unique("evil")
    await asyncio.gather(*(house.server.add_user(user, PASSWORD) for user in (romeo, evil)))
    client = Resuming(house.server, romeo)
    await client.begin()
    stream = await Stream(house.server).open()
    await stream.authenticate(evil, PASSWORD)
    await stream.restart()
    stream.write(f"<resume xmlns='{SM}' h='0' previd='{client.id}'/>")
    failed = await stream.next()
    assert failed.tag == f"{{{SM}}}failed", ET.tostring(failed)
    await client.resume()
    stream.cut()
    client.stream.cut()


# -- the bot at home


async def test_the_bot_at_home_answers_with_live_corrections(house):
    alice, hold = await house.person("alice"), Hold()
    house.model.then(Answer("The Matterhorn is 4,478 metres high", hold, ", and it was first climbed in 1865."))
    alice.say(house.bot, "How high is the Matterhorn?")
    begun = await alice.sees(house.bot, "4,478 metres")
    assert "1865" not in begun.text
    hold.release()
    await alice.sees(house.bot, "1865.")
    assert len(alice.lines(house.bot)) == 1, "one message, corrected"


async def test_the_bot_at_home_answers_in_a_room_of_its_own_server(house):
    alice, hold = await house.person("alice"), Hold()
    room = f"lobby@{ROOMS}"
    await alice.join(room)
    await alice.sees_occupant(room, "helper")
    house.model.then(Answer("It was built in 1889", hold, " by Gustave Eiffel."))
    alice.say_in(room, "helper: when was the tower built?")
    begun = await alice.sees(room, "1889")
    assert "Eiffel" not in begun.text
    hold.release()
    await alice.sees(room, "Eiffel.")
    # XEP-0333, 5: in a room by the id that the room has given it.
    asked = next(message for message in alice.messages if "when was the tower built" in (message.body or ""))
    marker = next(message for message in alice.messages if message.marker == "displayed")
    assert marker.payload(MARKERS).get("id") == asked.assigned_id(room)


async def test_the_servers_bot_knows_who_speaks_in_a_semi_anonymous_room(house):
    room = f"study@{ROOMS}"
    await house.server.add_user("bob", PASSWORD)
    alice, bob, carol = await house.person("alice"), await house.again("bob", "bob"), await house.person("carol")
    await alice.join(room)
    await alice.configure(room, whois="moderators")
    await bob.join(room)
    await carol.join(room)
    alice.send(f"<message to='{house.bot}'><x xmlns='jabber:x:conference' jid='{room}'/></message>")
    seen = await carol.sees_occupant(room, "helper")
    # XEP-0317: that it is a bot of the place is to be seen; who is who is not, for people without a role.
    hat = seen.element.find("{urn:xmpp:hats:0}hats/{urn:xmpp:hats:0}hat")
    assert hat is not None and hat.get("title") == "Bot"
    assert all(p.element.find(".//{http://jabber.org/protocol/muc#user}item").get("jid") is None
               for p in carol.presences if p.sender in (f"{room}/helper", f"{room}/bob"))
    house.model.then(Answer("You are on the list, Bob."))
    carol.say_in(room, "helper: Carol asks")
    await bob.sees(room, "Carol asks")
    bob.say_in(room, "helper: Bob asks")
    await bob.sees(room, "You are on the list, Bob.")
    assert not any(asked.last.endswith("Carol asks") for asked in house.model.asked)


async def test_the_bot_at_home_is_seen_and_answers_what_it_is(house):
    alice = await house.person("alice")
    alice.subscribe(house.bot)
    await alice.sees_presence(lambda p: p.sender.startswith(f"{house.bot}/") and p.type == "", "the bot online")
    full = next(p.sender for p in alice.presences if p.sender.startswith(f"{house.bot}/"))
    answer = await alice.iq("get", full, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    identity = answer.element.find(".//{http://jabber.org/protocol/disco#info}identity")
    assert (identity.get("category"), identity.get("type")) == ("client", "bot")


async def test_the_port_of_http_speaks_https_too(house):
    port = house.server.http_port
    for protocols, chosen in [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), ([], None)]:
        context = ssl.create_default_context(cafile=str(house.server.authority.root))
        if protocols:
            context.set_alpn_protocols(protocols)
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=DOMAIN)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen
        if chosen != "h2":
            writer.write(f"GET /.well-known/host-meta.json HTTP/1.1\r\nHost: {DOMAIN}:{port}\r\nConnection: close\r\n\r\n".encode())
            answer = (await reader.read()).decode()
            assert answer.startswith("HTTP/1.1 200") and f"wss://{DOMAIN}:{port}/xmpp-websocket" in answer, answer
        writer.close()


async def test_who_says_nothing_over_http_is_sent_away(house):
    async def ended(said: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", house.server.http_port)
        writer.write(said)
        try:
            await asyncio.wait_for(reader.read(), 60)
        except ConnectionResetError:
            pass
        writer.close()
    await asyncio.gather(*(ended(said) for said in (
        b"", b"\x16", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: y")))
    with_head = b"GET / HTTP/1.1\r\nX-Long: " + b"y" * 1_000_000
    await ended(with_head)
