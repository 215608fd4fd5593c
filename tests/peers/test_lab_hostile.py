"""A server among servers that are broken, or that claim to be others."""

import asyncio
from datetime import timedelta

import pytest

from foreign import SERVER, STREAMS, TLS, Link, foreign
from servers import CLIENT_AUTH, SERVER_AUTH
from stanza import Message
from test_lab import condition, error_of
from test_lab_names import refused

VICTIMS = ["ours", "prosody"]
# Servers that believe in dialback where a certificate says nothing.
CREDULOUS = ["ours2", "prosody2"]

UNTRUSTED = {
    "expired": {"lifetime": (timedelta(days=-3), timedelta(days=-1))},
    "not yet valid": {"lifetime": (timedelta(days=1), timedelta(days=3))},
    "of another name": {"hosts": ["other.example"]},
    "self-signed": {"self_signed": True},
}


@pytest.fixture(params=VICTIMS)
def victim(request) -> str:
    return request.param


@pytest.fixture(params=CREDULOUS)
def credulous(request) -> str:
    return request.param


async def heard_nothing(person, *links: Link) -> None:
    """When all has been handled that came on these links, nothing of it has reached this person."""
    for link in links:
        await link.settled()
    await person.flush()
    assert not [message.body for message in person.messages if message.body]


# -- certificates


@pytest.mark.parametrize("usages", [(SERVER_AUTH,), (SERVER_AUTH, CLIENT_AUTH)], ids=["serverAuth", "clientAuth too"])
async def test_a_certificate_of_a_public_authority_is_enough(lab, victim, usages):
    other = await foreign(lab, usages=usages)
    alice = await lab.person(await lab.peer(victim), "alice")
    link = await other.authenticated(alice.server)
    link.write(other.message(alice.jid, "Hello"))
    await alice.sees(f"someone@{other.domain}", "Hello")
    alice.say(f"someone@{other.domain}", "Hello to you")
    await other.sees("Hello to you")


@pytest.mark.parametrize("kind", UNTRUSTED)
async def test_nothing_is_sent_to_who_shows_a_certificate_that_is(lab, victim, kind):
    other = await foreign(lab, **UNTRUSTED[kind])
    await refused(lab, victim, other.domain, "remote-server-not-found", "remote-server-timeout", "service-unavailable",
                  "not-authorized", "policy-violation")
    assert not other.stanzas


@pytest.mark.parametrize("kind", UNTRUSTED)
async def test_nothing_is_taken_from_who_shows_a_certificate_that_is(lab, victim, kind):
    other = await foreign(lab, **UNTRUSTED[kind])
    alice = await lab.person(await lab.peer(victim), "alice")
    link = await other.connect(alice.server)
    try:
        await link.features()
        assert not await link.external(other.domain, alice.domain)
        assert await link.dialback(other.domain, alice.domain, other.key()) != "valid"
    except Exception as ended:  # many say good-bye earlier
        assert type(ended).__name__ in ("Ended", "ConnectionResetError", "AssertionError", "SSLError", "BrokenPipeError"), repr(ended)
    link.write(other.message(alice.jid, "Believe me"))
    await heard_nothing(alice, link)


async def test_without_a_certificate_nobody_is_believed(lab, victim):
    other = await foreign(lab)
    alice = await lab.person(await lab.peer(victim), "alice")
    link = await other.connect(alice.server, certificate=False)
    link.write(other.message(alice.jid, "Believe me"))
    await heard_nothing(alice, link)


# -- who speaks for whom


async def test_stanzas_before_authentication_are_not_delivered(lab, victim):
    other = await foreign(lab)
    alice = await lab.person(await lab.peer(victim), "alice")
    link = await other.connect(alice.server)
    await link.features()
    link.write(other.message(alice.jid, "Too early"))
    await heard_nothing(alice, link)


async def test_nobody_speaks_for_another_domain(lab, victim):
    other = await foreign(lab)
    alice = await lab.person(await lab.peer(victim), "alice")
    for sender in ("someone@prosody2.example", f"root@{alice.domain}", alice.jid, "", f"someone@sub.{other.domain}"):
        link = await other.authenticated(alice.server)
        text = other.message(alice.jid, "I am somebody else", sender)
        link.write(text if sender else text.replace(" from='", " x='"))
        await heard_nothing(alice, link)
    link = await other.authenticated(alice.server)
    link.write(other.message("somebody@third.example", "Pass it on"))
    await link.settled()


async def test_a_result_that_nobody_asked_for_makes_nobody_believed(lab, victim):
    other = await foreign(lab)
    alice = await lab.person(await lab.peer(victim), "alice")
    for said in ("<db:result from='{0}' to='{1}' type='valid'/>", "<db:result from='{1}' to='{0}' type='valid'/>",
                 "<db:verify from='{0}' to='{1}' id='1' type='valid'/>"):
        link = await other.connect(alice.server)
        await link.features()
        link.write(said.format("bank.example", alice.domain))
        link.write(said.format(other.domain, alice.domain))
        link.write(other.message(alice.jid, "I am the bank", "clerk@bank.example"))
        link.write(other.message(alice.jid, "I am myself"))
        await heard_nothing(alice, link)


async def test_a_result_for_another_domain_gets_it_nothing(lab, victim):
    """On a link that the victim has opened: what it holds for the bank is not sent there."""
    other, bank = await foreign(lab), await foreign(lab)
    alice = await lab.person(await lab.peer(victim), "alice")
    alice.say(f"someone@{other.domain}", "First")
    await other.sees("First")
    for said in ("<db:result from='{1}' to='{0}' type='valid'/>", "<db:verify from='{1}' to='{0}' id='1' type='valid'/>"):
        other.links[-1].write(said.format(alice.domain, bank.domain))
    alice.say(f"clerk@{bank.domain}", "My secret")
    await bank.sees("My secret")
    assert [one.body for one in other.stanzas if isinstance(one, Message) and one.body] == ["First"]


async def test_a_key_that_another_has_sent_is_worth_nothing(lab, credulous):
    """A key is for one stream and one pair of domains (XEP-0185); the domain's own server says whether it is."""
    bank, other = await foreign(lab, self_signed=True), await foreign(lab, self_signed=True)
    alice = await lab.person(await lab.peer(credulous), "alice")
    link = await other.connect(alice.server, certificate=False)
    await link.features()
    assert await link.dialback(bank.domain, alice.domain, "a-key-that-was-heard-somewhere") != "valid"
    link.write(other.message(alice.jid, "I am the bank", f"clerk@{bank.domain}"))
    await heard_nothing(alice, link)
    assert bank.links, "its own server was asked"


async def test_who_asks_is_not_who_answers(lab, credulous):
    """The answer to a call-back comes on the call-back, not from the one in question."""
    bank, other = await foreign(lab, self_signed=True), await foreign(lab, self_signed=True)

    async def silence(link: Link) -> None:
        await asyncio.sleep(600)
    bank.accept = silence
    alice = await lab.person(await lab.peer(credulous), "alice")
    link = await other.connect(alice.server, certificate=False)
    await link.features()
    link.write(f"<db:result from='{bank.domain}' to='{alice.domain}'>key</db:result>")
    id = link.header["id"]
    link.write(f"<db:verify from='{bank.domain}' to='{alice.domain}' id='{id}' type='valid'>key</db:verify>")
    link.write(f"<db:result from='{bank.domain}' to='{alice.domain}' type='valid'/>")
    link.write(other.message(alice.jid, "I am the bank", f"clerk@{bank.domain}"))
    await heard_nothing(alice, link)


async def test_dialback_proves_a_domain(lab, credulous):
    other = await foreign(lab, self_signed=True)
    alice = await lab.person(await lab.peer(credulous), "alice")
    link = await other.connect(alice.server, certificate=False)
    await link.features()
    assert await link.dialback(other.domain, alice.domain, other.key()) == "valid"
    link.write(other.message(alice.jid, "It is me"))
    await alice.sees(f"someone@{other.domain}", "It is me")


async def test_a_key_is_refused_that_is_not_ones_own(lab, victim):
    other = await foreign(lab)
    server = await lab.peer(victim)
    link = await other.connect(server)
    await link.features()
    link.write(f"<db:verify from='{other.domain}' to='{server.domain}' id='any'>not-a-key-of-yours</db:verify>")
    answer = await link.next()
    assert answer.tag.endswith("}verify") and answer.get("type") != "valid"


async def test_each_domain_of_a_connection_is_believed_on_its_own(lab, victim):
    other = await foreign(lab, hosts=["one.example", "two.example"], name="one")
    lab.dns.zone("two.example", "_xmpp-server._tcp IN SRV 0 0 5269 xmpp.one.example.")
    alice = await lab.person(await lab.peer(victim), "alice")
    link = await other.authenticated(alice.server)
    link.write(other.message(alice.jid, "From one"))
    await alice.sees("someone@one.example", "From one")
    assert await link.dialback("two.example", alice.domain, other.key()) == "valid"
    link.write(other.message(alice.jid, "From two", "someone@two.example"))
    await alice.sees("someone@two.example", "From two")
    # And a third one is not.
    link.write(other.message(alice.jid, "From three", "someone@three.example"))
    await link.settled()
    await alice.flush()
    assert not alice.texts("someone@three.example")


# -- nonsense


async def banner(link: Link) -> None:
    link.write("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
    await link.next()


async def hang_up(link: Link) -> None:
    link.close()


async def endless_header(link: Link) -> None:
    link.write("<?xml version='1.0'?><stream:stream ")
    while True:
        link.write("a" * 65536)
        await link.writer.drain()


async def endless_features(link: Link) -> None:
    link.open("somebody.example", "", "1")
    link.write("<stream:features>")
    while True:
        link.write("<optional xmlns='urn:example:nothing'/>" * 1000)
        await link.writer.drain()


async def no_such_host(link: Link) -> None:
    link.open("somebody.example", "", "1")
    link.write("<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>")
    await link.next()


async def other_namespace(link: Link) -> None:
    link.write(f"<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='{STREAMS}' version='1.0' id='1'>"
               "<stream:features/>")
    await link.next()


async def no_tls(link: Link) -> None:
    link.open("somebody.example", "", "1")
    link.write("<stream:features/>")
    await link.next()


async def refuses_tls(link: Link) -> None:
    link.open("somebody.example", "", "1")
    link.write(f"<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>")
    await link.next()
    link.write(f"<failure xmlns='{TLS}'/></stream:stream>")
    await link.next()


async def nonsense_for_tls(link: Link) -> None:
    link.open("somebody.example", "", "1")
    link.write(f"<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>")
    await link.next()
    link.write(f"<proceed xmlns='{TLS}'/>" + "<this>is no handshake</this>" * 50)
    await link.next()


async def broken_xml(link: Link) -> None:
    link.open("somebody.example", "", "1")
    link.write("<stream:features></stream:nothing>")
    await link.next()


async def entities(link: Link) -> None:
    link.write("<?xml version='1.0'?><!DOCTYPE stream [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]>"
               f"<stream:stream xmlns='{SERVER}' xmlns:stream='{STREAMS}' version='1.0' id='&b;'><stream:features/>")
    await link.next()


NONSENSE = [banner, hang_up, endless_header, endless_features, no_such_host, other_namespace, no_tls, refuses_tls,
            nonsense_for_tls, broken_xml, entities]


async def test_who_answers_nonsense_harms_nobody(lab, victim):
    """What was for them comes back, each with a reason; meanwhile others are served."""
    others = []
    for behaviour in NONSENSE:
        other = await foreign(lab)
        other.accept = behaviour
        others.append(other)
    alice = await lab.person(await lab.peer(victim), "alice")
    honest = await foreign(lab)
    ids = {behaviour.__name__: alice.say(f"someone@{other.domain}", "Hello?")
           for behaviour, other in zip(NONSENSE, others, strict=True)}
    alice.say(f"someone@{honest.domain}", "Hello!")
    await honest.sees("Hello!")
    missing = {}
    for name, id in ids.items():
        try:
            error = await error_of(alice, id, 60)
            assert condition(error) in ("remote-server-not-found", "remote-server-timeout", "service-unavailable",
                                        "not-authorized", "policy-violation"), str(error)
        except AssertionError as problem:
            missing[name] = str(problem)
    assert not missing, missing
    assert not any(other.stanzas for other in others)


async def test_an_authenticated_peer_that_sends_nonsense_is_cut_off_alone(lab, victim):
    alice = await lab.person(await lab.peer(victim), "alice")
    honest = await foreign(lab)
    steady = await honest.authenticated(alice.server)
    for nonsense in ("</wrong>", "<message><body>", "<!-- a comment -->", "<message from='a' to='b'", "\x00\x01\x02", "&unknown;",
                     "<message>" * 200, "<stream:error/>", "<x xmlns='urn:example:nothing'/>"):
        other = await foreign(lab, listening=False)
        link = await other.authenticated(alice.server)
        link.write(nonsense)
        link.close()
    steady.write(honest.message(alice.jid, "Still here"))
    await alice.sees(f"someone@{honest.domain}", "Still here")


async def test_a_domain_that_is_not_served_is_refused(lab, victim):
    other = await foreign(lab)
    alice = await lab.person(await lab.peer(victim), "alice")
    link = await other.authenticated(alice.server)
    link.write(other.message("somebody@third.example", "Pass it on"))
    link.write(other.message(alice.jid, "And this is for you"))
    await link.settled()
    assert ("third.example", "A") not in lab.dns.asked, "nobody is a relay"


