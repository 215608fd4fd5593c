"""Who may talk here: policies, pairing, guests, claim."""

import asyncio
import re

import pytest

from person import Person
from wire import Answer

DIRECT = [
    # policy, sender, admitted
    ("open", "listed", True), ("open", "unlisted", True), ("open", "operator", True),
    ("allowlist", "listed", True), ("allowlist", "unlisted", False), ("allowlist", "operator", True),
    ("disabled", "listed", False), ("disabled", "unlisted", False), ("disabled", "operator", True),
]


@pytest.mark.parametrize("policy, sender, admitted", DIRECT, ids=[f"{p}-{s}" for p, s, _ in DIRECT])
async def test_direct_policy(world, policy, sender, admitted):
    person, witness = await asyncio.gather(world.person("person"), world.person("witness"))
    lists = {"listed": {"allowlist": [person.jid]}, "unlisted": {"allowlist": ["someone@else.example"]},
             "operator": {"allowlist": [], "operators": [person.jid]}}[sender]
    room = await world.room(witness)
    bot = await world.bot(dm_policy=policy, group_policy="open", rooms=[room], pairing=False, **lists)
    await witness.sees_occupant(room, bot.nick)
    person.say(bot.jid, "Am I in?")
    if admitted:
        await person.sees(bot.jid, "Answer number 1.")
        return
    await person.flush()
    witness.say_in(room, f"{bot.nick}: and me?")
    await witness.sees(room, "Answer number 1.")
    assert [asked for asked in world.model.asked if "Am I in?" in asked.everything] == []
    assert not any("Answer" in text for text in person.texts(bot.jid))


async def test_an_empty_allowlist_admits_nobody(world):
    alice, operator = await asyncio.gather(world.person(), world.person("operator"))
    bot = await world.bot(dm_policy="allowlist", allowlist=[], operators=[operator.jid], pairing=False)
    alice.say(bot.jid, "Let me in")
    await alice.flush()
    operator.say(bot.jid, "Hello")
    await operator.sees(bot.jid, "Answer number 1.")
    assert len(world.model.asked) == 1 and alice.lines(bot.jid) == []


PATTERNS = [("*@localhost", True), ("localhost", False), ("*@*.localhost", False), ("*", True), ("ALICE-*@LOCALHOST", True),
            ("lice-*@localhost", False), ("alice-*@localhos", False)]


@pytest.mark.parametrize("pattern, admitted", PATTERNS, ids=[p for p, _ in PATTERNS])
async def test_patterns_match_the_whole_prepared_jid(world, pattern, admitted):
    alice, operator = await asyncio.gather(world.person(), world.person("operator"))
    bot = await world.bot(allowlist=[pattern], operators=[operator.jid], pairing=False)
    alice.say(bot.jid, "Let me in")
    if admitted:
        await alice.sees(bot.jid, "Answer number 1.")
    else:
        await alice.flush()
        operator.say(bot.jid, "Hello")
        await operator.sees(bot.jid, "Answer number 1.")
        assert alice.lines(bot.jid) == []


async def test_pairing_asks_the_operators_and_allow_admits(world):
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    stranger.say(bot.jid, "May I?")
    request = await operator.sees(bot.jid, stranger.jid)
    for command in (f"/allow {stranger.jid}", f"/guest {stranger.jid} 24h", f"/block {stranger.jid}"):
        assert command in request.text
    await stranger.next_line(bot.jid, 0)
    stranger.say(bot.jid, "Hello?")
    await stranger.flush()
    assert stranger.jid in await operator.command(bot.jid, f"/allow {stranger.jid}")
    assert len(stranger.lines(bot.jid)) <= 2, "the polite line comes once a day"
    assert len([text for text in operator.texts(bot.jid) if "/guest" in text]) == 1, "operators are asked once"
    stranger.say(bot.jid, "Now then")
    await stranger.sees(bot.jid, "Answer number")
    assert world.model.about("Now then")
    assert stranger.jid in await operator.command(bot.jid, "/access")


async def test_the_polite_line_comes_once(world):
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    for number in range(4):
        stranger.say(bot.jid, f"Knock {number}")
    await stranger.next_line(bot.jid, 0)
    await stranger.flush()
    operator.say(bot.jid, "Hello")
    await operator.sees(bot.jid, "Answer number 1.")
    assert len(stranger.lines(bot.jid)) == 1
    assert len(world.model.asked) == 1


async def test_an_approval_survives_a_restart(world):
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    stranger.say(bot.jid, "May I?")
    await operator.sees(bot.jid, f"/allow {stranger.jid}")
    await operator.command(bot.jid, f"/allow {stranger.jid}")
    bot.kill()
    await world.start_bot(bot)
    stranger.say(bot.jid, "Me again")
    await stranger.sees(bot.jid, "Answer number")


async def test_a_blocked_stranger_is_not_heard_again(world):
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    stranger.say(bot.jid, "Buy this")
    await operator.sees(bot.jid, f"/block {stranger.jid}")
    await operator.command(bot.jid, f"/block {stranger.jid}")
    before = len(stranger.lines(bot.jid))
    stranger.say(bot.jid, "Buy that")
    await stranger.flush()
    operator.say(bot.jid, "Hello")
    await operator.sees(bot.jid, "Answer number 1.")
    assert len(stranger.lines(bot.jid)) == before
    assert len([text for text in operator.texts(bot.jid) if stranger.jid in text and "/guest" in text]) == 1


async def test_block_revokes_an_approval(world):
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    await operator.command(bot.jid, f"/allow {stranger.jid}")
    stranger.say(bot.jid, "Hello")
    await stranger.sees(bot.jid, "Answer number 1.")
    await operator.command(bot.jid, f"/block {stranger.jid}")
    stranger.say(bot.jid, "Hello again")
    await stranger.flush()
    operator.say(bot.jid, "Hello")
    await operator.sees(bot.jid, "Answer number 2.")
    assert not world.model.about("Hello again")


async def test_a_guest_is_admitted_and_listed_as_one(world):
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    await operator.command(bot.jid, f"/guest {stranger.jid} 24h")
    stranger.say(bot.jid, "Hello")
    await stranger.sees(bot.jid, "Answer number 1.")
    listed = next(line for line in (await operator.command(bot.jid, "/access")).splitlines() if stranger.jid in line)
    assert "guest" in listed.lower()
    assert not world.model.asked[0].body.get("tools")


@pytest.mark.limit(100)
async def test_a_guest_is_admitted_for_a_time_only(world):
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    await operator.command(bot.jid, f"/guest {stranger.jid} 1m")
    stranger.say(bot.jid, "Hello")
    await stranger.sees(bot.jid, "Answer number 1.")
    await asyncio.sleep(61)  # the time itself is what is tested
    stranger.say(bot.jid, "Too late")
    await stranger.flush()
    operator.say(bot.jid, "Hello")
    await operator.sees(bot.jid, "Answer number 2.")
    assert not world.model.about("Too late")


async def test_the_first_operator_claims_with_the_code_of_the_log(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    bot = await world.bot(admit=[alice, bob])
    code = (await bot.logged(r"/claim\s+([A-Za-z0-9-]{4,})")).group(1)
    await bob.command(bot.jid, "/claim WRONG-CODE")
    assert bot.jid not in await bob.command(bot.jid, "/accounts"), "a wrong code makes no operator"
    await alice.command(bot.jid, f"/claim {code}")
    assert bot.jid in await alice.command(bot.jid, "/accounts")
    await bob.command(bot.jid, f"/claim {code}")
    assert bot.jid not in await bob.command(bot.jid, "/accounts"), "the code is used up"
    bot.kill()
    await world.start_bot(bot)
    assert bot.jid in await alice.command(bot.jid, "/accounts"), "the claim is stored"


async def test_five_wrong_codes_end_the_claim(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    code = (await bot.logged(r"/claim\s+([A-Za-z0-9-]{4,})")).group(1)
    for number in range(5):
        await alice.command(bot.jid, f"/claim WRONG-{number}")
    await alice.command(bot.jid, f"/claim {code}")
    assert bot.jid not in await alice.command(bot.jid, "/accounts")


async def test_no_claim_code_where_there_are_operators(world):
    operator = await world.person("operator")
    bot = await world.bot(operators=[operator])
    await operator.command(bot.jid, "/ping")
    assert not re.search(r"/claim\s+[A-Z0-9-]{4,}", bot.log)


async def test_a_privileged_command_of_someone_else_does_nothing(world):
    alice, stranger, operator = await asyncio.gather(
        world.person("alice"), world.person("stranger"), world.person("operator"))
    bot = await world.bot(admit=[alice], operators=[operator], pairing=False)
    await alice.command(bot.jid, f"/allow {stranger.jid}")
    stranger.say(bot.jid, "Hello")
    await stranger.flush()
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    assert not any("Answer" in text for text in stranger.texts(bot.jid))


async def test_an_operator_of_the_same_name_on_another_domain_is_nobody(world):
    operator = await world.person("operator")
    await world.server.add_user(operator.user, "pw", "open.localhost")
    double = Person(world.server, operator.user, "pw", domain="open.localhost")
    world.people.append(double)
    await double.login()
    bot = await world.bot(operators=[operator], dm_policy="open")
    assert bot.jid not in await double.command(bot.jid, "/accounts")
    assert bot.jid in await operator.command(bot.jid, "/accounts")


ROOM_POLICIES = [("open", False, True), ("open", True, True), ("allowlist", True, True), ("allowlist", False, False),
                 ("disabled", True, False), ("disabled", False, False)]


@pytest.mark.parametrize("policy, listed, answered", ROOM_POLICIES,
                         ids=[f"{p}-{'listed' if listed else 'unlisted'}" for p, listed, _ in ROOM_POLICIES])
async def test_room_policy(world, policy, listed, answered):
    alice = await world.person()
    room = await world.room(alice)
    bot = await world.bot(admit=[alice], rooms=[room], group_policy=policy,
                          group_allowlist=[room] if listed else ["other@conference.localhost"])
    if answered:
        await alice.sees_occupant(room, bot.nick)
    alice.say_in(room, f"{bot.nick}: are you there?")
    if answered:
        await alice.sees(room, "Answer number 1.")
    else:
        await alice.flush()
        alice.say(bot.jid, "And here?")
        await alice.sees(bot.jid, "Answer number 1.")
        assert alice.lines(room) == []


async def test_users_of_a_room_are_real_jids(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room = await world.room(alice, whois="anyone")
    await bob.join(room)
    bot = await world.bot(rooms=[room], group_policy="open", muc_rooms={room: {"users": [alice.jid]}})
    await alice.sees_occupant(room, bot.nick)
    bob.say_in(room, f"{bot.nick}: Bob asks")
    await alice.sees(room, "Bob asks")
    alice.say_in(room, f"{bot.nick}: Alice asks")
    await alice.sees(room, "Answer number 1.")
    assert len(world.model.asked) == 1 and "Alice asks" in world.model.asked[0].last


async def test_where_the_room_hides_real_jids_nobody_is_on_its_list(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room = await world.room(alice, whois="moderators")
    bot = await world.bot(admit=[bob], rooms=[room], group_policy="open",
                          muc_rooms={room: {"users": [alice.jid, room]}})
    await alice.sees_occupant(room, bot.nick)
    alice.say_in(room, f"{bot.nick}: Alice asks")
    await alice.flush()
    bob.say(bot.jid, "Bob asks")
    await bob.sees(bot.jid, "Answer number 1.")
    assert len(world.model.asked) == 1 and alice.lines(room) == []


async def test_a_nick_that_looks_like_an_operator_is_none(world):
    alice, mallory = await asyncio.gather(world.person("alice"), world.person("mallory"))
    room = await world.room(alice)
    await mallory.join(room, alice.jid)
    bot = await world.bot(operators=[alice], rooms=[room], group_policy="open")
    await alice.sees_occupant(room, bot.nick)
    occupant = f"{room}/{bot.nick}"
    assert "online" not in (await mallory.command(occupant, "/accounts")).lower()


async def test_guests_and_rooms_see_no_other_session(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, bob, admit=[alice, bob])
    world.model.on("secret", Answer("I keep it: the word is Xyzzy."))
    alice.say(bot.jid, "A secret")
    await alice.sees(bot.jid, "Xyzzy")
    bob.say_in(room, f"{bot.nick}: what did Alice say?")
    await bob.sees(room, "Answer number 1.")
    assert "Xyzzy" not in world.model.asked[1].everything
    assert "A secret" not in world.model.asked[1].everything
