"""Push, TURN credentials and the proxy of the embedded server, with those who use them."""

import asyncio
import base64
import hashlib
import hmac
import os
from xml.etree import ElementTree as ET

import pytest_asyncio

from models import Model
from moltis import Moltis
from servers import DOMAIN, PATIENCE, free_port
from stream import CLIENT, Stream
from test_uploads import House
from wire import Answer, Hold
from world import PASSWORD

PUSH = "urn:xmpp:push:0"
PUBSUB = "http://jabber.org/protocol/pubsub"
SERVICES = "urn:xmpp:extdisco:2"
BYTESTREAMS = "http://jabber.org/protocol/bytestreams"
PROXY = "proxy.localhost"


@pytest_asyncio.fixture
async def house(tmp_path, authority):
    model = Model()
    await model.start()
    server = Moltis(tmp_path / "server", authority, {
        "chat": {"model": "test/model-1"},
        "providers": {"test": {"kind": "openai", "base_url": model.base_url, "api_key": "key-of-test"}},
        "xmpp_server": {
            "push_summary": "sender", "proxy_host": PROXY, "proxy_port": free_port(),
            "bots": {"helper": {"allowlist": [f"*@{DOMAIN}"], "nick": "helper", "edit_throttle_ms": 100,
                                "stream_min_initial_chars": 10}}}}).with_certificate()
    # A list of tables, which the writer of these tests does not know.
    with (server.directory / "moltis.toml").open("a") as file:
        file.write('\n[[xmpp_server.external_services]]\ntype = "turn"\nhost = "turn.example.org"\nsecret = "north"\n')
    await server.start()
    house = House(server, model)
    try:
        yield house
    finally:
        await asyncio.gather(*(person.logout() for person in house.people))
        await server.stop()
        await model.stop()


# -- push


class AppServer:
    """An app server that is a client: it answers what is published to it."""

    def __init__(self, stream: Stream, address: str):
        self.stream, self.address = stream, address

    async def notification(self) -> dict:
        """The fields of the next one, which it accepts."""
        while True:
            stanza = await self.stream.next()
            if stanza.tag == f"{{{CLIENT}}}iq" and stanza.get("type") == "set":
                break
        self.stream.write(f"<iq type='result' to='{stanza.get('from')}' id='{stanza.get('id')}'/>")
        publish = stanza.find(f"{{{PUBSUB}}}pubsub/{{{PUBSUB}}}publish")
        fields = publish.iter("{jabber:x:data}field")
        told = {field.get("var"): field.findtext("{jabber:x:data}value") for field in fields}
        options = stanza.find(f"{{{PUBSUB}}}pubsub/{{{PUBSUB}}}publish-options")
        secret = options.find(".//{jabber:x:data}field[@var='secret']/{jabber:x:data}value").text
        return told | {"from": stanza.get("from"), "node": publish.get("node"), "secret": secret}

    async def nothing(self, stanzas: float = 0.3) -> None:
        await asyncio.sleep(stanzas)
        waiting = [ET.tostring(it, "unicode") for it in self.stream.waiting() if it is not None]
        assert not [it for it in waiting if ":iq " in it.split(">")[0]], waiting


async def login(house: House, name: str, resource: str) -> Stream:
    await house.server.add_user(name, PASSWORD)
    return await (await Stream(house.server).open()).login(name, PASSWORD, resource)


async def app_server(house: House) -> AppServer:
    name = house.server.unique("app")
    stream = await login(house, name, "server")
    stream.write("<presence/>")
    return AppServer(stream, f"{name}@{DOMAIN}/server")


async def phone(house: House, name: str, app: AppServer, *, again: bool = False) -> Stream:
    if not again:
        await house.server.add_user(name, PASSWORD)
    stream = await (await Stream(house.server).open()).login(name, PASSWORD, "phone")
    stream.write(f"<presence/><iq type='set' id='enable'><enable xmlns='{PUSH}' jid='{app.address}' node='n'>"
                 "<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>"
                 "http://jabber.org/protocol/pubsub#publish-options</value></field>"
                 "<field var='secret'><value>s3cret</value></field></x></enable></iq>")
    while (answer := await stream.next()).get("id") != "enable":
        pass
    assert answer.get("type") == "result"
    return stream


async def test_a_phone_that_sleeps_is_woken_through_its_app_server(house):
    alice, app, name = await house.person("alice"), await app_server(house), house.server.unique("bob")
    bob = await phone(house, name, app)
    alice.say(f"{name}@{DOMAIN}", "You are here")
    await alice.flush()
    await app.nothing()
    await bob.close()
    alice.say(f"{name}@{DOMAIN}", "Wake up")
    told = await app.notification()
    assert told["from"] == f"{name}@{DOMAIN}" and told["node"] == "n" and told["secret"] == "s3cret"
    assert told["message-count"] == "1" and told["last-message-sender"].startswith(f"{alice.jid}/")
    assert told["last-message-body"] == "New message", "what was written is not told"
    alice.say(f"{name}@{DOMAIN}", "Are you there?")
    await alice.flush()
    await app.nothing()
    # A registration outlasts a restart, and what was told does not.
    await house.server.restart()
    await alice.login()
    again = await app_server_again(house, app)
    alice.say(f"{name}@{DOMAIN}", "And now?")
    assert (await again.notification())["message-count"] == "1"
    await (await phone(house, name, again, again=True)).close()
    alice.say(f"{name}@{DOMAIN}", "Once more")
    assert (await again.notification())["message-count"] == "1"


async def app_server_again(house: House, app: AppServer) -> AppServer:
    user = app.address.split("@")[0]
    stream = await (await Stream(house.server).open()).login(user, PASSWORD, "server")
    stream.write("<presence/>")
    return AppServer(stream, app.address)


async def test_a_growing_answer_is_one_notification(house):
    app, name = await app_server(house), house.server.unique("bob")
    bob = await phone(house, name, app)
    holds = [Hold() for _ in range(4)]
    parts = [part for number, hold in enumerate(holds) for part in (f"Part {number} of a long answer. ", hold)]
    house.model.then(Answer(*parts, "The end."))
    bob.write(f"<message to='{house.bot}' type='chat' id='q'><body>Tell me something long</body></message>")
    await asyncio.wait_for(holds[0].reached.wait(), PATIENCE)
    while "Part 0" not in "".join((await bob.next()).itertext()):
        pass
    # What has come is acknowledged; the rest is for a phone that sleeps.
    await bob.close()
    for hold in holds:
        hold.release()
        await asyncio.sleep(0.2)
    await app.nothing(1)
    alice = await house.person("alice")
    alice.say(f"{name}@{DOMAIN}", "And this is new")
    assert (await app.notification())["message-count"] == "1"


# -- calls


async def test_a_relay_is_told_with_a_password_that_it_accepts(house):
    alice = await house.person("alice")
    answer = await alice.must("get", DOMAIN, f"<services xmlns='{SERVICES}' type='turn'/>")
    service = answer.deep("service", SERVICES)
    assert (service.get("host"), service.get("port"), service.get("transport")) == ("turn.example.org", "3478", "udp")
    # As coturn computes it from the name it is given.
    name = service.get("username")
    expected = base64.b64encode(hmac.new(b"north", name.encode(), hashlib.sha1).digest()).decode()
    assert service.get("password") == expected and name.endswith(f":{alice.user}")


# -- transfers


async def connect(house: House, sid: str, initiator: str, target: str):
    """As a client of XEP-0065 does it."""
    port = house.server.config["xmpp_server"]["proxy_port"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"\x05\x01\x00")
    assert await reader.readexactly(2) == b"\x05\x00"
    name = hashlib.sha1(f"{sid}{initiator}{target}".encode()).hexdigest().encode()
    writer.write(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + b"\x00\x00")
    assert (await reader.readexactly(47))[:2] == b"\x05\x00"
    return reader, writer


async def test_a_file_passes_through_the_proxy(house):
    alice, bob = await house.person("alice"), await house.person("bob")
    answer = await alice.must("get", PROXY, f"<query xmlns='{BYTESTREAMS}'/>")
    host = answer.deep("streamhost", BYTESTREAMS)
    assert host.get("host") == PROXY and int(host.get("port")) == house.server.config["xmpp_server"]["proxy_port"]
    initiator, target = alice.full, bob.full
    got, kept = await connect(house, "sid", initiator, target)
    _, sent = await connect(house, "sid", initiator, target)
    await alice.must("set", PROXY, f"<query xmlns='{BYTESTREAMS}' sid='sid'><activate>{target}</activate></query>")
    data = os.urandom(5_000_000)
    sent.write(data)
    sent.write_eof()
    assert await asyncio.wait_for(got.read(), PATIENCE) == data
    for writer in (kept, sent):
        writer.close()
