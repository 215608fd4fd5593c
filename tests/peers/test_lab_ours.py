"""What only ours has: the bot among people of other servers, and a server that nobody can reach."""

import pytest

from namespaces import HOLE, NET4, NET6
from test_lab import people, room_of
from wire import Answer

OTHERS = ["prosody", "ejabberd", "ours2"]


@pytest.mark.parametrize("other", OTHERS)
async def test_the_bot_answers_people_of_other_servers(lab, other):
    ours, theirs = await lab.peer("ours"), await lab.peer(other)
    alice = await lab.person(theirs, "alice")
    lab.model.on(f"from {other}", Answer(f"Good morning, {other}."))
    alice.say(f"helper@{ours.domain}", f"Hello from {other}")
    await alice.sees(f"helper@{ours.domain}", f"Good morning, {other}.")


@pytest.mark.parametrize("other", OTHERS)
async def test_the_bot_comes_into_a_room_of_another_server(lab, other):
    ours, theirs = await lab.peer("ours"), await lab.peer(other)
    alice = await lab.person(theirs, "alice")
    room = await room_of(alice)
    alice.send(f"<message to='helper@{ours.domain}'><x xmlns='jabber:x:conference' jid='{room}'/></message>")
    await alice.sees_occupant(room, "helper")
    lab.model.on(f"room of {other}", Answer(f"A fine room of {other}."))
    alice.say_in(room, f"helper: how is this room of {other}?")
    await alice.sees(room, f"A fine room of {other}.")


@pytest.mark.parametrize("other", OTHERS)
async def test_people_of_other_servers_meet_the_bot_in_a_room_of_ours(lab, other):
    ours, theirs = await lab.peer("ours"), await lab.peer(other)
    alice, bob = await people(lab, (theirs, ours))
    room = await room_of(bob)
    await alice.join(room)
    bob.send(f"<message to='helper@{ours.domain}'><x xmlns='jabber:x:conference' jid='{room}'/></message>")
    await alice.sees_occupant(room, "helper")
    lab.model.on(f"guest of {other}", Answer(f"Welcome, guest of {other}."))
    alice.say_in(room, f"helper: I am a guest of {other}")
    await alice.sees(room, f"Welcome, guest of {other}.")
    await bob.sees(room, f"Welcome, guest of {other}.")


@pytest.mark.parametrize("other", ["ours", "prosody"])
async def test_a_server_that_nobody_can_reach_is_answered_on_its_own_connection(lab, other):
    """As behind NAT: DNS leads nowhere, and only what it has opened itself carries both ways (XEP-0288)."""
    hidden, theirs = await lab.peer("ours2"), await lab.peer(other)
    # What connections there were end.
    await hidden.stop()
    lab.dns.zone(hidden.domain, *(f"_xmpp-server._tcp{host} IN SRV 5 0 5269 xmpp.{hidden.domain}." for host in ("", ".conference")),
                 f"xmpp IN A {NET4}.{HOLE}", f"xmpp IN AAAA {NET6}::{HOLE}")
    # How long what DNS has said is kept.
    await lab.forgets()
    await hidden.start()
    alice, bob = await people(lab, (hidden, theirs))
    alice.say(bob.jid, "You cannot call me")
    await bob.sees(alice.jid, "You cannot call me")
    bob.say(alice.jid, "I need not")
    await alice.sees(bob.jid, "I need not")
    assert (await bob.iq("get", hidden.domain, "<ping xmlns='urn:xmpp:ping'/>")).type == "result"
    # Its user in a room over there, which is another domain on the same connection.
    room = await room_of(bob)
    await alice.join(room)
    bob.say_in(room, "And here?")
    await alice.sees(room, "And here?")
    await alice.befriend(bob)


@pytest.mark.parametrize("other", OTHERS)
async def test_what_was_taken_is_out_when_the_server_ends(lab, other):
    ours, theirs = await lab.peer("ours"), await lab.peer(other)
    alice, bob = await people(lab, (ours, theirs))
    alice.say(bob.jid, "line 0")
    await bob.sees(alice.jid, "line 0")
    for number in range(1, 200):
        alice.say(bob.jid, f"line {number}")
    await alice.flush()
    await ours.restart()
    await bob.messages.until(lambda: len(bob.texts(alice.jid)) >= 200, "all of them")
    assert bob.texts(alice.jid) == [f"line {number}" for number in range(200)]
