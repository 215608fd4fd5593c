"""How a server finds another: SRV records, aliases, addresses, and none of these."""

import asyncio

import pytest

from foreign import foreign
from namespaces import HOLE, NET4
from nameserver import SERVFAIL, SILENT
from test_lab import condition, error_of

SENDERS = ["ours", "prosody", "ejabberd"]


@pytest.fixture(params=SENDERS)
def sender(request) -> str:
    return request.param


async def reaches(lab, sender: str, other, seconds: float = 30) -> None:
    """Somebody's message arrives there."""
    alice = await lab.person(await lab.peer(sender), "alice")
    id = alice.say(f"someone@{other.domain}", "Are you there?")
    arrived = asyncio.create_task(other.sees("Are you there?", seconds))
    returned = asyncio.create_task(error_of(alice, id, seconds))
    await asyncio.wait((arrived, returned), return_when=asyncio.FIRST_COMPLETED)
    if returned.done() and returned.exception() is None:
        arrived.cancel()
        raise AssertionError(f"it came back: {returned.result()}")
    returned.cancel()
    assert (await arrived).id == id


async def refused(lab, sender: str, domain: str, *conditions: str, seconds: float = 60):
    """Somebody's message comes back, with a reason and a text to act on."""
    alice = await lab.person(await lab.peer(sender), "alice")
    id = alice.say(f"someone@{domain}", "Are you there?")
    error = await error_of(alice, id, seconds)
    assert condition(error) in conditions, str(error)
    if sender.startswith("ours"):
        assert error.deep("text", "urn:ietf:params:xml:ns:xmpp-stanzas").text, "a text to act on"
    return error


async def test_a_record_leads_to_another_host_and_port(lab, sender):
    other = await foreign(lab, listening=False)
    other.zone(f"_xmpp-server._tcp IN SRV 0 0 5999 somewhere.{other.domain}.", "somewhere IN A 4", "somewhere IN AAAA 6")
    await other.listen(5999)
    await reaches(lab, sender, other)


async def test_the_lower_priority_is_tried_first(lab, sender):
    other = await foreign(lab, listening=False)
    other.zone(f"_xmpp-server._tcp IN SRV 20 0 5269 two.{other.domain}.", f"_xmpp-server._tcp IN SRV 10 0 5999 one.{other.domain}.",
               "one IN A 4", "two IN A 4")
    await other.listen(5999)
    second = await foreign(lab, listening=False)
    second.machine = other.machine
    await second.listen(5269)
    await reaches(lab, sender, other)
    assert not second.links


async def test_a_dead_first_target_is_passed_over(lab, sender):
    other = await foreign(lab)
    other.zone(f"_xmpp-server._tcp IN SRV 1 0 5999 dead.{other.domain}.", f"_xmpp-server._tcp IN SRV 2 0 5269 xmpp.{other.domain}.",
               "dead IN A 4", "xmpp IN A 4")
    await reaches(lab, sender, other)


async def test_a_first_target_without_an_address_is_passed_over(lab, sender):
    other = await foreign(lab)
    other.zone(f"_xmpp-server._tcp IN SRV 1 0 5269 nowhere.{other.domain}.",
               f"_xmpp-server._tcp IN SRV 2 0 5269 xmpp.{other.domain}.", "xmpp IN A 4")
    await reaches(lab, sender, other)


async def test_a_target_may_be_an_alias(lab, sender):
    other = await foreign(lab)
    other.zone(f"_xmpp-server._tcp IN SRV 0 0 5269 alias.{other.domain}.", f"alias IN CNAME host.{other.domain}.", "host IN A 4")
    await reaches(lab, sender, other)


async def test_a_server_may_have_an_ipv6_address_alone(lab, sender):
    other = await foreign(lab, listening=False)
    other.zone(f"_xmpp-server._tcp IN SRV 0 0 5269 xmpp.{other.domain}.", "xmpp IN AAAA 6")
    await other.listen(5269, other.machine.ipv6)
    await reaches(lab, sender, other)


async def test_an_ipv6_address_that_is_dead_is_no_hindrance(lab, sender):
    other = await foreign(lab, listening=False)
    await other.listen(5269, other.machine.ipv4)
    await reaches(lab, sender, other)


async def test_without_records_port_5269_of_the_domain_is_it(lab, sender):
    other = await foreign(lab)
    other.zone("@ IN A 4", "@ IN AAAA 6")
    await reaches(lab, sender, other)


async def test_tls_from_the_first_byte_is_found_by_its_own_record(lab, sender):
    other = await foreign(lab, listening=False)
    other.zone(f"_xmpps-server._tcp IN SRV 0 0 5270 xmpp.{other.domain}.", "xmpp IN A 4", "xmpp IN AAAA 6")
    await other.listen(5270, direct=True)
    await reaches(lab, sender, other)
    # Prosody and ejabberd say the same here (XEP-0368, 3).
    assert other.names == [other.domain]


async def test_a_domain_that_says_it_has_no_service_is_not_tried(lab, sender):
    other = await foreign(lab)
    other.zone("_xmpp-server._tcp IN SRV 0 0 0 .", "@ IN A 4")
    await refused(lab, sender, other.domain, "remote-server-not-found", "remote-server-timeout", "service-unavailable")
    assert not other.links


async def test_a_domain_that_does_not_exist_is_said(lab, sender):
    await refused(lab, sender, "nowhere.example", "remote-server-not-found")


async def test_nobody_waits_for_ever(lab, sender):
    # All at once, because each takes its time.
    lab.dns.fail("failing.example", SERVFAIL)
    lab.dns.zone("hole.example", f"@ IN A {NET4}.{HOLE}")
    half = await foreign(lab)
    half.zone(f"_xmpp-server._tcp IN SRV 1 0 5269 hole.{half.domain}.", f"_xmpp-server._tcp IN SRV 2 0 5269 xmpp.{half.domain}.",
              f"hole IN A {NET4}.{HOLE}", "xmpp IN A 4")
    mute = await foreign(lab)

    async def say_nothing(link):
        await asyncio.sleep(600)
    mute.accept = say_nothing
    waits = [reaches(lab, sender, half, seconds=60),
             refused(lab, sender, "failing.example", "remote-server-not-found", "remote-server-timeout"),
             refused(lab, sender, "hole.example", "remote-server-timeout", "remote-server-not-found"),
             refused(lab, sender, mute.domain, "remote-server-timeout", "remote-server-not-found")]
    # libunbound asks a silent server for minutes, and then believes of all names that they are lost.
    if not sender.startswith("prosody"):
        lab.dns.fail("silent.example", SILENT)
        waits.append(refused(lab, sender, "silent.example", "remote-server-not-found", "remote-server-timeout"))
    await asyncio.gather(*waits)
