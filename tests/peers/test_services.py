"""Components (XEP-0114), the pubsub service and shared groups of the embedded server, with real programs at the other end."""

import asyncio
import hashlib
import re

import pytest_asyncio
import slixmpp

from moltis import Moltis
from servers import COMPONENT_HOSTS, COMPONENT_SECRET, DOMAIN, PATIENCE, free_port
from world import World

GROUP = "Team"
PUBSUB = f"pubsub.{DOMAIN}"
OPEN = ("<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='{}'>")


@pytest_asyncio.fixture(scope="session")
async def serving(tmp_path_factory, authority):
    port = free_port()
    server = Moltis(tmp_path_factory.mktemp("services") / "server", authority, {"xmpp_server": {
        "component_port": port, "component_bind": ["127.0.0.1"],
        "components": [{"domain": host, "secret": COMPONENT_SECRET} for host in COMPONENT_HOSTS],
        "shared_groups": [{"name": GROUP}]}}).with_certificate()
    server.component_port = port
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def house(serving, tmp_path):
    world = World(serving, tmp_path)
    try:
        yield await world.start()
    finally:
        await world.close()


class Echo(slixmpp.ComponentXMPP):
    """Says what it hears, from whom it was said to."""

    def __init__(self, host: str, port: int):
        super().__init__(host, COMPONENT_SECRET, "127.0.0.1", port)
        self.ready = asyncio.get_running_loop().create_future()
        self.add_event_handler("session_start", lambda _: self.ready.done() or self.ready.set_result(None))
        self.add_event_handler("message", lambda message: message.reply(message["body"]).send())
        self.register_plugin("xep_0030")

    async def stop(self) -> None:
        await self.disconnect(wait=1.0)


async def echo(house: World) -> Echo:
    component = Echo(house.component_host(), house.server.component_port)
    house.helpers.append(component)
    component.connect()
    await asyncio.wait_for(component.ready, PATIENCE)
    return component


async def test_a_component_made_with_slixmpp_has_a_domain_of_the_server(house):
    alice = await house.person()
    component = await echo(house)
    host = component.boundjid.bare
    alice.say(f"somebody@{host}", "Good morning")
    await alice.sees_message(lambda m: m.body == "Good morning" and m.sender.split("/")[0] == f"somebody@{host}", "an echo")
    items = await alice.iq("get", DOMAIN, "<query xmlns='http://jabber.org/protocol/disco#items'/>")
    listed = [item.get("jid") for item in items.element[0]]
    assert host in listed and PUBSUB in listed
    info = await alice.iq("get", host, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    assert info.type == "result"


async def test_what_is_for_a_component_that_is_gone_comes_back(house):
    alice = await house.person()
    host = house.component_host()
    ping = await alice.iq("get", host, "<ping xmlns='urn:xmpp:ping'/>")
    assert ping.condition == "remote-server-timeout"


async def test_the_gateway_is_a_component_of_the_embedded_server(house):
    alice = await house.person()
    host = house.component_host()
    bot = house.configure_component(host, admit=[alice])
    bot.launch()
    await house.responds(host, alice)
    alice.say(host, "Hello")
    await alice.messages.until(lambda: any("Answer number 1." in (m.body or "") for m in alice.messages), "an answer")


async def test_the_gateway_as_a_component_with_a_wrong_secret_is_told(house):
    bot = house.configure_component(house.component_host(), component_secret="wrong")
    bot.launch()
    await bot.logged("correct component_secret")


class Raw:
    """A component that sends what it likes."""

    async def open(self, port: int, host: str) -> "Raw":
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", port)
        self.writer.write(OPEN.format(host).encode())
        header = (await self.reader.readuntil(b"jabber:component:accept"))
        header += await self.reader.readuntil(b">")
        self.stream = re.search(rb" id='([^']+)'", header)[1].decode()
        return self

    def shake(self, secret: str) -> None:
        digest = hashlib.sha1((self.stream + secret).encode()).hexdigest()
        self.writer.write(f"<handshake>{digest}</handshake>".encode())

    async def rest(self) -> str:
        """All that comes until the server closes."""
        try:
            return (await asyncio.wait_for(self.reader.read(-1), PATIENCE)).decode()
        finally:
            self.writer.close()


async def test_hostile_components_are_sent_away(house):
    alice = await house.person()
    port, host = house.server.component_port, house.component_host()
    for secret in ("wrong", ""):
        raw = await Raw().open(port, host)
        raw.shake(secret)
        assert "not-authorized" in await raw.rest()
    raw = await Raw().open(port, host)
    raw.writer.write(b"<handshake>" + b"0" * 1_000_000)
    assert "policy-violation" in await raw.rest()
    # Somebody with a secret speaks for an account, for the server, for another component.
    for sender in (alice.jid, DOMAIN, COMPONENT_HOSTS[-1], f"x@{host}.evil"):
        raw = await Raw().open(port, host)
        raw.shake(COMPONENT_SECRET)
        raw.writer.write(f"<message from='{sender}' to='{alice.jid}' type='chat'><body>It is me</body></message>".encode())
        assert "invalid-from" in await raw.rest(), sender
    # The server is still there, and nothing of it has arrived.
    assert (await alice.iq("get", DOMAIN, "<ping xmlns='urn:xmpp:ping'/>")).type == "result"
    assert not any(m.body for m in alice.messages)


async def test_members_of_a_shared_group_are_in_each_others_rosters(house):
    alice = await house.person("alice")
    get = "<query xmlns='jabber:iq:roster'/>"
    bob = await house.person("bob")
    roster = await alice.iq("get", "", get)
    item = next(item for item in roster.element[0] if item.get("jid") == bob.jid)
    assert item.get("subscription") == "both"
    assert [group.text for group in item] == [GROUP]
    # Each sees the other come and go.
    await alice.sees_presence(lambda p: p.sender.split("/")[0] == bob.jid and p.type == "", "bob")
    removal = await alice.iq("set", "", f"<query xmlns='jabber:iq:roster'><item jid='{bob.jid}' subscription='remove'/></query>")
    assert removal.condition == "not-allowed"
