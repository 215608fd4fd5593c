"""hostile-input.md, column S: stanzas of somebody who is logged in, or speaks for a domain, and claims to be more."""

import asyncio
import base64
import hashlib
import re

import pytest
import pytest_asyncio

from attack import ALICE, DOMAIN, MALLORY, PASSWORD, TRANSPORTS, Closed, Line, Wire, flat
from moltis import Moltis
from servers import COMPONENT_SECRET, free_port
from stanza import CLIENT, escape

ROOMS = f"conference.{DOMAIN}"
PUBSUB = f"pubsub.{DOMAIN}"
SM = "urn:xmpp:sm:3"
ROSTER = "jabber:iq:roster"
COMMANDS = "http://jabber.org/protocol/commands"
DISCO = "http://jabber.org/protocol/disco"
# One attacker at a time asks; an answer to each id must come.
NUMBERS = iter(range(1_000_000))


async def ask(wire: Wire, kind: str, payload: str, to: str | None = None, by: str | None = None) -> str:
    """An IQ and its answer, whole."""
    id = f"n{next(NUMBERS)}"
    address = "" if to is None else f" to='{escape(to)}'"
    sender = "" if by is None else f" from='{escape(by)}'"
    await wire.send(f"<iq type='{kind}' id='{id}'{address}{sender}>{payload}</iq>")
    return (await wire.until(rf"<iq(?=[^>]*\sid=.{id}['\"])[^>]*(?:/>|>.*?</iq>)"))[0]


async def online(server: Moltis, user: str, transport: str = "tls") -> Wire:
    wire = await Wire(server, transport).bound(user)
    await wire.send("<presence/>")
    await wire.ping()
    return wire


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_no_stanza_of_any_kind_is_from_another(attacked_server, transport):
    alice = await online(attacked_server, ALICE)
    for forged in (alice.jid, f"{ALICE}@{DOMAIN}", DOMAIN, ROOMS, f"{MALLORY}@{DOMAIN}/another", "evil.example", "@", f"{MALLORY}@{DOMAIN}."):
        for stanza in ("<message to='{0}' from='{1}'><body>forged</body></message>", "<presence to='{0}' from='{1}'/>",
                       "<presence to='{0}' from='{1}' type='subscribed'/>",
                       "<iq type='set' id='1' to='{0}' from='{1}'><query xmlns='jabber:iq:roster'/></iq>",
                       "<iq type='result' id='1' to='{0}' from='{1}'/>"):
            wire = await Wire(attacked_server, transport).bound()
            await wire.send(stanza.format(alice.jid, escape(forged)))
            assert await wire.condition() == "invalid-from", f"{forged!r}: {stanza}"
    await alice.ping()
    assert "forged" not in alice.text and "<iq type='set'" not in alice.text
    alice.cut()


async def test_what_looks_like_ones_own_server_says_who_it_is_from(attacked_server):
    """CVE-2015-8688, CVE-2017-5589, CVE-2019-16237, CVE-2024-46957: pushes, carbons, archives, events, answers. They arrive, if at
    all, with the sender that the server has stamped, and ids that nobody but it gives are taken off."""
    alice = await online(attacked_server, ALICE)
    mallory = await online(attacked_server, MALLORY)
    inner = f"<message xmlns='{CLIENT}' from='boss@{DOMAIN}' to='{ALICE}@{DOMAIN}'><body>Pay</body></message>"
    forward = f"<forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded>"
    for number, stanza in enumerate((
            f"<iq type='set' id='p' to='{alice.jid}'><query xmlns='{ROSTER}'><item jid='evil@{DOMAIN}' subscription='both'/></query></iq>",
            f"<message to='{alice.jid}'><received xmlns='urn:xmpp:carbons:2'>{forward}</received></message>",
            f"<message to='{alice.jid}'><sent xmlns='urn:xmpp:carbons:2'>{forward}</sent></message>",
            f"<message to='{alice.jid}'><result xmlns='urn:xmpp:mam:2' id='1'>{forward}</result></message>",
            f"<message to='{alice.jid}' type='headline'><event xmlns='http://jabber.org/protocol/pubsub#event'>"
            "<items node='urn:xmpp:avatar:metadata'/></event></message>",
            f"<iq type='result' id='p' to='{alice.jid}'><query xmlns='{ROSTER}'/></iq>",
            f"<message to='{alice.jid}'><body>x</body><stanza-id xmlns='urn:xmpp:sid:0' by='{ALICE}@{DOMAIN}' id='forged'/>"
            "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='forged'/>"
            f"<stanza-id xmlns='urn:xmpp:sid:0' by='{ALICE}@{DOMAIN}' id='forged2'/></message>",
            f"<message to='{alice.jid}'><body>x</body><delay xmlns='urn:xmpp:delay' from='{DOMAIN}' stamp='2000-01-01T00:00:00Z'/></message>",
            f"<message to='{alice.jid}' type='error'><error type='cancel'/></message>")):
        await mallory.send(stanza)
        await mallory.send(f"<message to='{alice.jid}' id='mark{number}'/>")
        await alice.until(f"mark{number}")
    for stanza in re.findall(r"<(?:message|iq|presence)\b[^>]*>", alice.text.replace(inner, "")):
        if re.search(f"xmlns='{CLIENT}' from='boss", stanza):
            continue
        sender = re.search(r"\sfrom=['\"]([^'\"]*)", stanza)
        assert sender is None or sender[1].startswith((MALLORY, ALICE)) or "boss" in sender[1], stanza
        if sender is None:
            assert " id='p'" not in stanza, stanza
    assert "forged" not in alice.text
    alice.cut()
    mallory.cut()


LONG = "\u00e9" * 511  # 1,022 bytes
# Addresses that preparation (RFC 7622, RFC 5895) turns into others, or refuses.
ADDRESSES = [
    "", "@", "/", "@/", "a@", "@b", "a@/r", "a@b/", "a@@b", "a@b@c", "a/b@c", "//", "a" * 1_023 + f"@{DOMAIN}", "a" * 1_024 + f"@{DOMAIN}",
    f"{ALICE}@{DOMAIN}/" + "r" * 1_023, f"{ALICE}@{DOMAIN}/" + "r" * 1_024, f"{LONG}@{DOMAIN}", f"{LONG}x@{DOMAIN}", f"{LONG}xx@{DOMAIN}",
    "x@" + "d" * 1_023, "x@" + ("d" * 63 + ".") * 16, "x@" + "d" * 64 + ".example", "x@" + ".".join(["a"] * 200), "x@-a-.example",
    "\uff41\uff4c\uff49\uff43\uff45@localhost", "ALICE@LOCALHOST", "\u00c0lice@localhost", "stra\u00dfe@localhost", "\u2168@localhost",
    "\u212a@localhost", "\u0130@localhost", "\u03c2@localhost", "a\u0301@localhost", "\u200balice@localhost", "ali\u200dce@localhost",
    "alice\u00ad@localhost", "\u202ealice@localhost", "\u05d0a@localhost", "a\u05d0@localhost", "\u0661\u06f1@localhost", "\U000e0001a@localhost",
    "\ufdd0@localhost", "\ue000@localhost", "\U0010ffff@localhost".replace("\U0010ffff", "\U0010fffd"), "\u0378@localhost", "\U0001fae9@localhost",
    "\U000323af@localhost", "a b@localhost", "a\u00a0b@localhost", "a\"b@localhost", "a&b@localhost", "a'b@localhost", "a:b@localhost",
    "a<b@localhost", "a\\20b@localhost", "x@b\u00fccher.example", "x@xn--bcher-kva.example", "x@xn--\u00fc.example", "x@xn--a.example",
    "x@xn--.example", "x@\u3002example", "x@exa\uff0emple", "x@.", "x@..", "x@a..b", "x@localhost.", "x@127.0.0.1", "x@[::1]", "x@[::1", "x@]",
    "x@1", "x@0x7f.1", f"x@{DOMAIN}/\u200b", f"x@{DOMAIN}/ ", f"x@{DOMAIN}/\u0000".replace("\0", ""), f"x@{DOMAIN}/\ufffd", "\u1806@localhost",
    "\ufb01@localhost", "\uff20@localhost", "x\uff20localhost", "x@localhost\uff0fr", "%00@localhost", "..@localhost", "../x@localhost",
    "'; DROP TABLE keys; --@localhost", "null@localhost", "\u1e9e@localhost", "\u0149@localhost"]


def uses(address: str) -> list[str]:
    """Everywhere an address, or a part of it, is read."""
    there, part = escape(address), escape(address.split("@")[0].split("/")[0])
    end = escape(address.partition("/")[2] or address)
    muc, owner = "http://jabber.org/protocol/muc", "http://jabber.org/protocol/pubsub#owner"
    return [
        f"<message to='{there}' id='ID'><body>Hello</body></message>", f"<presence to='{there}' id='ID'/>",
        f"<presence to='{there}' type='subscribe' id='ID'/>", f"<presence to='{there}' type='probe'/>",
        f"<iq type='get' id='ID' to='{there}'><ping xmlns='urn:xmpp:ping'/></iq>",
        f"<iq type='set' id='ID'><query xmlns='{ROSTER}'><item jid='{there}' name='{end}'><group>{end}</group></item></query></iq>",
        f"<iq type='set' id='ID'><query xmlns='{ROSTER}'><item jid='{there}' subscription='remove'/></query></iq>",
        f"<iq type='set' id='ID'><block xmlns='urn:xmpp:blocking'><item jid='{there}'/></block></iq>",
        f"<iq type='set' id='ID'><unblock xmlns='urn:xmpp:blocking'><item jid='{there}'/></unblock></iq>",
        f"<presence to='lobby@{ROOMS}/{end}' id='ID'><x xmlns='{muc}'/></presence>",
        f"<presence to='{part}@{ROOMS}/nick' id='ID'><x xmlns='{muc}'/></presence>",
        f"<iq type='set' id='ID' to='lobby@{ROOMS}'><query xmlns='{muc}#admin'><item jid='{there}' affiliation='member'/></query></iq>",
        f"<iq type='set' id='ID' to='lobby@{ROOMS}'><query xmlns='{muc}#admin'><item nick='{end}' role='none'/></query></iq>",
        f"<message to='lobby@{ROOMS}' id='ID'><x xmlns='{muc}#user'><invite to='{there}'/></x></message>",
        f"<iq type='set' id='ID'><query xmlns='urn:xmpp:mam:2'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>"
        f"urn:xmpp:mam:2</value></field><field var='with'><value>{there}</value></field></x></query></iq>",
        f"<iq type='set' id='ID'><prefs xmlns='urn:xmpp:mam:2' default='roster'><always><jid>{there}</jid></always><never/></prefs></iq>",
        f"<iq type='set' id='ID' to='{PUBSUB}'><pubsub xmlns='http://jabber.org/protocol/pubsub'><subscribe node='n' jid='{there}'/></pubsub></iq>",
        f"<iq type='set' id='ID' to='{PUBSUB}'><pubsub xmlns='{owner}'><affiliations node='n'><affiliation jid='{there}' affiliation='owner'/>"
        "</affiliations></pubsub></iq>",
        f"<iq type='set' id='ID'><enable xmlns='urn:xmpp:push:0' jid='{there}' node='{end}'/></iq>",
        f"<iq type='set' id='ID'><query xmlns='jabber:iq:register'><username>{part}</username><password>x</password></query></iq>"
        .replace(MALLORY, "x")]


@pytest.mark.limit(100)
async def test_addresses_of_all_kinds_are_taken_or_refused_everywhere(attacked_server):
    """Through each place where one is read; then the server's stanzas are still XML, and no handler has failed."""
    async def through(start: int) -> None:
        wire = await online(attacked_server, MALLORY)
        for address in ADDRESSES[start::4]:
            for stanza in uses(address):
                await wire.send(stanza.replace("ID", f"x{next(NUMBERS)}"))
            await wire.ping()
            assert "internal-server-error" not in wire.text and "undefined-condition" not in wire.text, f"{address!r}: {wire.text[-1000:]}"
            wire.forget()
        wire.cut()
    await asyncio.gather(*(through(start) for start in range(4)))


async def test_resources_of_all_kinds_are_bound_or_refused(attacked_server):
    for resource in ("r" * 1_023, "r" * 1_024, LONG + "x", LONG + "xx", "\u200b", "\u202e", " ", "a b", "<&'\">", "\ufb01", "\u0378", "\ue000", "//", "@"):
        wire = await Wire(attacked_server, "tls").secured()
        await wire.open()
        await wire.login()
        answer = await ask(wire, "set", f"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{escape(resource)}</resource></bind>")
        assert "<jid>" in answer or "bad-request" in answer or "jid-malformed" in answer, f"{resource!r}: {answer}"
        if "<jid>" in answer:
            await wire.ping()
        wire.cut()


async def test_names_of_all_kinds_are_registered_prepared_or_not_at_all(authority, tmp_path):
    limits = {"registrations_per_ip_per_hour": 10_000, "connections_per_ip": 10_000}
    server = Moltis(tmp_path / "server", authority, {"xmpp_server": {"registration": "open", "limits": limits}})
    await server.start()
    try:
        await server.add_user(ALICE, PASSWORD)
        for address in ADDRESSES:
            name = escape(address.split("@")[0])
            wire = await Wire(server, "tls").secured()
            await wire.open()
            answer = await ask(wire, "set", f"<query xmlns='jabber:iq:register'><username>{name}</username><password>x</password></query>")
            assert "internal-server-error" not in answer, f"{name!r}: {answer}"
            wire.cut()
            if re.fullmatch("(?i)[\u200b\u200d\u00adal\uff41\uff4cice\uff49\uff43\uff45]+", address.split("@")[0]) and len(name) > 4:
                assert "<conflict" in answer or "error" in answer, f"a second alice: {address!r}"
        # The account that was there is whose it was.
        wire = await Wire(server, "tls").bound(ALICE)
        await wire.ping()
        wire.cut()
    finally:
        await server.stop()


QUERIES = ["'", "\"", "' OR '1'='1", "'; DROP TABLE archive; --", "%", "_", "\\", "1 UNION SELECT 1", "x' AND 1=randomblob(1000000000) --",
           "-1", "99999999999999999999999", "NaN", "\u0000".replace("\0", "0"), "*", "a\" NEAR b", "NOT", "(", "AND OR", "x" * 100_000]


async def test_queries_are_data_for_the_store(attacked_server):
    """SQL in RSM, in searches, in the names of nodes, items, private storage and files."""
    wire = await online(attacked_server, MALLORY)
    # Whatever another attack has set before.
    await ask(wire, "set", "<prefs xmlns='urn:xmpp:mam:2' default='always'><always/><never/></prefs>")
    await wire.send(f"<message to='{MALLORY}@{DOMAIN}' type='chat' id='kept'><body>It is kept</body></message>")
    await wire.ping()
    for query in map(escape, QUERIES):
        rsm = "<set xmlns='http://jabber.org/protocol/rsm'><max>{0}</max><after>{1}</after></set>"
        form = ("<x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>"
                "<field var='{0}'><value>{1}</value></field></x>")
        pubsub = "<pubsub xmlns='http://jabber.org/protocol/pubsub'>{}</pubsub>"
        for kind, payload in [
            ("set", f"<query xmlns='urn:xmpp:mam:2'>{rsm.format(5, query)}</query>"),
            ("set", f"<query xmlns='urn:xmpp:mam:2'>{rsm.format(query, '')}</query>"),
            *(("set", f"<query xmlns='urn:xmpp:mam:2' queryid='{query}'>{form.format(field, query)}</query>")
              for field in ("with", "start", "end", "before-id", "after-id", "ids", "withtext", "{urn:xmpp:fulltext:0}fulltext")),
            ("get", f"<query xmlns='jabber:iq:private'><x xmlns='{query[:200]}'/></query>"),
            ("get", pubsub.format(f"<items node='{query[:2_000]}'><item id='{query[:2_000]}'/></items>")),
            ("set", pubsub.format(f"<publish node='{query[:200]}'><item id='{query[:200]}'><x xmlns='urn:x'>{query[:200]}</x></item></publish>")),
        ]:
            answer = await ask(wire, kind, payload)
            assert "internal-server-error" not in answer, f"{query[:50]}: {payload[:300]}: {answer}"
    # What was there is there.
    await wire.send(f"<message to='{MALLORY}@{DOMAIN}' type='chat'><body>And the last</body></message>")
    await wire.ping()
    wire.forget()
    await ask(wire, "set", "<query xmlns='urn:xmpp:mam:2'><set xmlns='http://jabber.org/protocol/rsm'><max>5</max><before/></set></query>")
    assert "It is kept" in wire.text and "And the last" in wire.text
    wire.cut()


async def test_what_is_echoed_is_escaped(attacked_server):
    """CVE-2026-113867: ids, resources, nicks, nodes and names come back as what they are, and nothing of them is markup."""
    alice = await online(attacked_server, ALICE)
    wire = await online(attacked_server, MALLORY)
    evil = "'/><message from='boss'><body>x</body></message>\"><![CDATA[&amp;]]>"
    shown = escape(evil)
    await wire.send(f"<iq type='get' id='{shown}'><ping xmlns='urn:xmpp:ping'/></iq>")
    await wire.send(f"<iq type='get' id='{shown}'><x xmlns='{shown}'/></iq>")
    await wire.send(f"<message to='nobody@{DOMAIN}' id='{shown}' type='chat'><body>{shown}</body></message>")
    await wire.send(f"<message to='{alice.jid}' id='{shown}'><body>{shown}</body><x xmlns='{shown}' a='{shown}'>{shown}</x></message>")
    await wire.send(f"<presence to='echo@{ROOMS}/{shown[:900]}'><x xmlns='http://jabber.org/protocol/muc'/></presence>")
    await ask(wire, "get", f"<query xmlns='{DISCO}#info' node='{shown}'/>", DOMAIN)
    await ask(wire, "set", f"<query xmlns='{ROSTER}'><item jid='a@b' name='{shown}'><group>{shown}</group></item></query>")
    await ask(wire, "get", f"<query xmlns='{ROSTER}'/>")
    await wire.ping()
    await alice.until("CDATA")
    for text in (wire.text, alice.text):
        assert "<message from='boss'" not in text and "<![CDATA[&" not in text, text
    wire.cut()
    alice.cut()


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_stream_management_counts_and_names_are_not_believed(attacked_server, transport):
    """XEP-0198: what was not sent cannot be acknowledged; an id opens only the own session; nonsense is refused."""
    alice = await Wire(attacked_server, "tls").bound(ALICE)
    await alice.raw(f"<enable xmlns='{SM}' resume='true'/>")
    id = (await alice.until("<enabled[^>]*\\sid=['\"]([^'\"]*)"))[1]
    alice.cut()
    await asyncio.sleep(0.1)
    for count in ("0", "-1", "4294967296", "x", ""):
        for previd in (id, "", "nothing", "x" * 5_000):
            wire = await Wire(attacked_server, transport).secured()
            await wire.open()
            await wire.login()
            await wire.raw(f"<resume xmlns='{SM}' previd='{previd}' h='{count}'/>")
            answer = await wire.until("<failed.*?</failed>|<resumed")
            assert "item-not-found" in answer[0] or "bad-request" in answer[0], f"{previd[:20]} {count}: {answer[0]}"
            wire.cut()
    for sent in ("h='1'", "h='4294967295'", "h='-1'", "h='x'", ""):
        wire = await Wire(attacked_server, transport).bound()
        await wire.raw(f"<enable xmlns='{SM}'/>")
        await wire.until("<enabled")
        await wire.raw(f"<a xmlns='{SM}' {sent}/>")
        assert await wire.condition() == "undefined-condition", sent
    # Its owner takes it up.
    alice = await Wire(attacked_server, "tls").secured()
    await alice.open()
    await alice.login(ALICE)
    await alice.raw(f"<resume xmlns='{SM}' previd='{id}' h='0'/>")
    await alice.until("<resumed")
    alice.cut()


async def test_a_poisoned_hash_of_capabilities_says_nothing_of_others(attacked_server):
    """XEP-0115, 5.4: mallory announces the hash of alice's client with other features; alice's interests stay her own."""
    node = "https://client.example"

    def features(*names: str) -> str:
        return "".join(f"<feature var='{name}'/>" for name in names)

    def ver(*names: str) -> str:
        text = "client/pc//<" + "".join(f"{name}<" for name in sorted(names))
        return base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()
    mine = ("urn:x:one", f"{DISCO}#info", "urn:xmpp:tune+notify")
    caps = f"<c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='{node}' ver='{ver(*mine)}'/>"

    async def announce(wire: Wire, told: str) -> None:
        await wire.send(f"<presence>{caps}</presence>")
        asked = await wire.until(rf"<iq(?=[^>]*type=.get)[^>]*>\s*<query[^>]*{re.escape(ver(*mine))}")
        id = re.search(r"\sid=['\"]([^'\"]*)", asked[0])[1]
        sender = re.search(r"\sfrom=['\"]([^'\"]*)", asked[0])
        to = f" to='{sender[1]}'" if sender else ""
        await wire.send(f"<iq type='result' id='{id}'{to}><query xmlns='{DISCO}#info' node='{node}#{ver(*mine)}'>"
                        f"<identity category='client' type='pc'/>{told}</query></iq>")
        await wire.ping()
    mallory = await Wire(attacked_server, "tls").bound()
    await announce(mallory, features("urn:x:other"))
    alice = await Wire(attacked_server, "tls").bound(ALICE)
    # The lie was not kept: alice's client is asked itself.
    await announce(alice, features(*mine))
    publish = ("<pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:xmpp:tune'><item id='1'><x xmlns='urn:x'>la la</x></item>"
               "</publish></pubsub>")
    assert "type='result'" in await ask(alice, "set", publish)
    await alice.ping()
    assert "la la" in alice.text
    alice.cut()
    mallory.cut()


# -- domains that somebody else speaks for


@pytest_asyncio.fixture(scope="module")
async def with_components(tmp_path_factory, authority):
    port = free_port()
    server = Moltis(tmp_path_factory.mktemp("components") / "server", authority, {"xmpp_server": {
        "component_port": port, "admins": [f"{ALICE}@{DOMAIN}"],
        "components": [{"domain": host, "secret": COMPONENT_SECRET} for host in ("evil.example", "other.example")]}})
    server.component_port = port
    await server.start()
    try:
        for user in (ALICE, MALLORY):
            await server.add_user(user, PASSWORD)
        yield server
    finally:
        await server.stop()


class Component(Wire):
    """Speaks for evil.example, which is nobody we trust."""

    @classmethod
    async def start(cls, server: Moltis, host: str = "evil.example", secret: str = COMPONENT_SECRET) -> "Component":
        wire = cls(server, "tls")
        wire.line = await Line.open(server.component_port)
        await wire.raw(f"<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams' to='{host}'>")
        id = (await wire.until(r"<stream:stream[^>]*\sid=['\"]([^'\"]*)"))[1]
        await wire.raw(f"<handshake>{hashlib.sha1((id + secret).encode()).hexdigest()}</handshake>")
        await wire.until("<handshake")
        return wire

    @classmethod
    async def again(cls, server: Moltis) -> "Component":
        """As soon as the server knows that the last one has gone."""
        async with asyncio.timeout(10):
            while True:
                try:
                    return await cls.start(server)
                except Closed:
                    await asyncio.sleep(0.05)


async def test_an_admin_is_a_whole_address_and_a_component_speaks_for_its_domain_alone(with_components):
    """CVE-2020-8086: alice@localhost is an admin; alice@evil.example is nobody, whatever she asks."""
    wire = await Component.again(with_components)
    for by in (f"{ALICE}@evil.example", f"{ALICE}@evil.example/{ALICE}@{DOMAIN}", "evil.example", f"admin@evil.example/{DOMAIN}"):
        for command in ("get-online-users-list", "add-user", "delete-user", "announce", "change-user-password"):
            execute = f"<command xmlns='{COMMANDS}' node='http://jabber.org/protocol/admin#{command}' action='execute'/>"
            answer = await ask(wire, "set", execute, DOMAIN, by)
            assert "<error" in answer and ("forbidden" in answer or "not-allowed" in answer or "item-not-found" in answer), f"{by}: {answer}"
        items = await ask(wire, "get", f"<query xmlns='{DISCO}#items' node='{COMMANDS}'/>", DOMAIN, by)
        assert "admin#" not in items, items
    # The admin of that name is one, and mallory is none.
    alice = await online(with_components, ALICE)
    execute = f"<command xmlns='{COMMANDS}' node='http://jabber.org/protocol/admin#get-online-users-list' action='execute'/>"
    assert "<error" not in await ask(alice, "set", execute, DOMAIN)
    mallory = await online(with_components, MALLORY)
    assert "<error" in await ask(mallory, "set", execute, DOMAIN)
    wire.cut()
    for forged in (f"{ALICE}@{DOMAIN}", DOMAIN, "other.example", "x@other.example", f"x@{ROOMS}", "x@sub.evil.example", "evil.example.com", "@", " "):
        wire = await Component.again(with_components)
        await wire.send(f"<message from='{forged}' to='{ALICE}@{DOMAIN}'><body>forged</body></message>")
        try:
            condition = await wire.condition(10)
        except TimeoutError:
            condition = "nothing"
        assert condition in ("invalid-from", "improper-addressing"), f"{forged!r}: {condition}"
        wire.cut()
    await alice.ping()
    assert "forged" not in alice.text
    alice.cut()
    mallory.cut()


async def test_a_component_that_does_not_know_the_secret_gets_in_nowhere(with_components):
    for host, secret in (("evil.example", "wrong"), ("evil.example", ""), ("localhost", COMPONENT_SECRET), ("nobody.example", COMPONENT_SECRET)):
        try:
            wire = await Component.start(with_components, host, secret)
            condition = await wire.condition()
        except Closed as closed:
            condition = str(closed)
        assert re.search("not-authorized|host-unknown", condition), f"{host} {secret}: {condition}"


# -- rooms, and lists without an end


async def test_who_is_not_entitled_learns_nothing_of_a_room(attacked_server):
    """CVE-2021-37601: a hidden room for members alone, asked in every way that there is."""
    alice = await online(attacked_server, ALICE)
    room = f"vault{next(NUMBERS)}@{ROOMS}"
    muc = "http://jabber.org/protocol/muc"
    await alice.send(f"<presence to='{room}/Secretive'><x xmlns='{muc}'/></presence>")
    fields = {"membersonly": 1, "publicroom": 0, "whois": "moderators", "passwordprotectedroom": 1, "roomsecret": "PASSWORD"}
    form = "".join(f"<field var='muc#roomconfig_{name}'><value>{value}</value></field>" for name, value in fields.items())
    configured = await ask(alice, "set", f"<query xmlns='{muc}#owner'><x xmlns='jabber:x:data' type='submit'><field var='FORM_TYPE'><value>{muc}#roomconfig"
                           f"</value></field>{form}</x></query>", room)
    assert "type='result'" in configured, configured
    await alice.send(f"<message to='{room}' type='groupchat'><subject>SUBJECT</subject></message>")
    await alice.send(f"<message to='{room}' type='groupchat'><body>SAID</body></message>")
    await alice.ping()
    mallory = await online(attacked_server, MALLORY)
    mallory.forget()
    for payload in (f"<query xmlns='{DISCO}#info'/>", f"<query xmlns='{DISCO}#items'/>", f"<query xmlns='{DISCO}#info' node='x-roomuser-item'/>",
                    "<query xmlns='urn:xmpp:mam:2'/>", "<vCard xmlns='vcard-temp'/>", f"<query xmlns='{muc}#owner'/>", "<ping xmlns='urn:xmpp:ping'/>",
                    "<query xmlns='jabber:iq:register'/>", "<query xmlns='jabber:iq:version'/>", "<metadata xmlns='urn:xmpp:mam:2'/>",
                    *(f"<query xmlns='{muc}#admin'><item affiliation='{a}'/></query>" for a in ("owner", "admin", "member", "outcast", "none")),
                    *(f"<query xmlns='{muc}#admin'><item role='{r}'/></query>" for r in ("moderator", "participant", "visitor", "none"))):
        for kind in ("get", "set"):
            await ask(mallory, kind, payload, room)
            await ask(mallory, kind, payload, f"{room}/Secretive")
    await mallory.send(f"<presence to='{room}/x'><x xmlns='{muc}'/></presence>")
    await mallory.send(f"<presence to='{room}/x'><x xmlns='{muc}'><password>wrong</password></x></presence>")
    await mallory.send(f"<message to='{room}' type='groupchat'><body>x</body></message>")
    await mallory.send(f"<message to='{room}/Secretive' type='chat'><body>x</body></message>")
    await mallory.send(f"<presence to='{room}/Secretive' type='probe'/>")
    rooms = await ask(mallory, "get", f"<query xmlns='{DISCO}#items'/>", ROOMS)
    await mallory.ping()
    assert room not in rooms
    for secret in ("SUBJECT", "SAID", "PASSWORD", f"{ALICE}@{DOMAIN}"):
        assert secret not in mallory.text, secret
    assert "Secretive" not in mallory.text.replace(f"{room}/Secretive", "")
    alice.cut()
    mallory.cut()


async def test_floods_of_rooms_subscriptions_and_nodes_are_refused_and_pings_are_answered(attacked_server):
    """1,500 of each at once: refused with the right error beyond the limits, memory bounded, somebody else served meanwhile."""
    alice = await online(attacked_server, ALICE)
    mallory = await Wire(attacked_server, "tls").bound()
    muc = "http://jabber.org/protocol/muc"
    floods = {
        "rooms": "<presence to='flood{0}@conference.localhost/x'><x xmlns='" + muc + "'/></presence>",
        "joins": "<presence to='flood0@conference.localhost/x{0}'><x xmlns='" + muc + "'/></presence>",
        "subscriptions": "<presence to='nobody{0}@localhost' type='subscribe'/>",
        "contacts": "<iq type='set' id='f{0}'><query xmlns='jabber:iq:roster'><item jid='c{0}@x.example' name='" + "n" * 500 + "'/></query></iq>",
        "nodes": "<iq type='set' id='f{0}' to='pubsub.localhost'><pubsub xmlns='http://jabber.org/protocol/pubsub'><create node='n{0}'/></pubsub></iq>",
        "blocked": "<iq type='set' id='f{0}'><block xmlns='urn:xmpp:blocking'><item jid='b{0}@x.example'/></block></iq>",
        "directed presence": "<presence to='d{0}@localhost/x'/>",
        "private storage": "<iq type='set' id='f{0}'><query xmlns='jabber:iq:private'><x xmlns='urn:x{0}'>" + "y" * 500 + "</x></query></iq>",
        "slots": "<iq type='get' id='f{0}' to='upload.localhost'><request xmlns='urn:xmpp:http:upload:0' filename='f' size='10'/></iq>",
        "own nodes": "<iq type='set' id='f{0}'><pubsub xmlns='http://jabber.org/protocol/pubsub'><publish node='urn:x:{0}'><item id='1'>"
                         "<x xmlns='urn:x'/></item></publish></pubsub></iq>"}
    async with flat(attacked_server, most=60):
        for name, stanza in floods.items():
            mallory.forget()
            slowest = 0.0
            loop = asyncio.get_running_loop()
            for start in range(0, 1_500, 300):
                await mallory.line.write("".join(stanza.format(number) for number in range(start, start + 300)).encode())
                began = loop.time()
                await alice.ping()
                slowest = max(slowest, loop.time() - began)
            await mallory.ping()
            assert slowest < 5, f"{name}: alice waited {slowest:.1f} s"
            if name in ("rooms", "joins", "nodes", "slots", "own nodes", "private storage"):
                assert re.search("resource-constraint|policy-violation|not-allowed|not-acceptable", mallory.text), f"{name}: nothing was refused"
            assert "internal-server-error" not in mallory.text
    mallory.cut()
    alice.cut()
