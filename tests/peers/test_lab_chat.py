"""People of two servers talk to each other, each pair of servers in both directions."""

import itertools

import pytest
import pytest_asyncio

from lab import Peer
from stanza import bare

OTHERS = ("prosody", "ejabberd")
PAIRS = list(itertools.permutations(OTHERS, 2))


@pytest_asyncio.fixture(params=PAIRS, ids="-".join)
async def pair(request, lab) -> tuple[Peer, Peer]:
    """Two servers that run, each pair in each order."""
    return await lab.peer(request.param[0]), await lab.peer(request.param[1])


async def test_a_message_is_answered(lab, pair):
    alice, bob = await lab.person(pair[0], "alice"), await lab.person(pair[1], "bob")
    id = alice.say(bob.full, "How are you?")
    line = await bob.sees(alice.jid, "How are you?")
    assert (line.message.id, line.message.sender, line.message.to) == (id, alice.full, bob.full)
    id = bob.say(alice.full, "Fine")
    line = await alice.sees(bob.jid, "Fine")
    assert (line.message.id, line.message.sender) == (id, bob.full)
    assert bob.texts(alice.jid) == ["How are you?"] and alice.texts(bob.jid) == ["Fine"]
