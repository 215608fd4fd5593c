"""Every way into a room and out of it."""

import asyncio
import uuid

import pytest

from person import Person
from stanza import MUC_USER
from world import NICK, PASSWORD


async def leaves(person, room: str, nick: str = NICK):
    return await person.sees_leaving(room, nick)


async def still_works(person, bot, number: int = 1) -> None:
    person.say(bot.jid, "Still there?")
    await person.sees(bot.jid, f"Answer number {number}.")


async def test_a_kicked_bot_says_so_and_does_not_storm_back(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice, operators=[alice])
    await alice.kick(room, bot.nick)
    await leaves(alice, room)
    await bot.logged("kick")
    await still_works(alice, bot)


async def test_a_banned_bot_says_so_and_stays_out(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice, operators=[alice])
    start = len(alice.presences)
    await alice.affiliate(room, bot.jid, "outcast")
    await leaves(alice, room)
    await bot.logged(r"\bban")
    await still_works(alice, bot)
    assert not any(p.type == "" and p.sender == f"{room}/{bot.nick}" for p in alice.presences[start:])


async def test_a_destroyed_room_is_reported_with_its_alternate_venue(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice, operators=[alice])
    await alice.destroy(room, alternate=f"elsewhere-{room}")
    await bot.logged("destroy")
    await bot.logged(f"elsewhere-{room}")
    await still_works(alice, bot)


async def test_a_password_protected_room_is_joined_with_its_password(world):
    alice = await world.person()
    room = await world.room(alice, passwordprotectedroom="1", roomsecret="sesame")
    bot = await world.bot(rooms=[room], group_policy="open", muc_rooms={room: {"password": "sesame"}})
    await alice.sees_occupant(room, bot.nick)
    assert "sesame" not in bot.log


async def test_a_missing_room_password_is_reported(world):
    alice = await world.person()
    room = await world.room(alice, passwordprotectedroom="1", roomsecret="sesame")
    bot = await world.bot(admit=[alice], rooms=[room])
    await bot.logged(rf"{room}.*password|password.*{room}")
    await still_works(alice, bot)


async def test_a_members_only_room_is_reported_and_joined_once_admitted(world):
    alice = await world.person()
    room = await world.room(alice, membersonly="1")
    bot = await world.bot(admit=[alice], operators=[alice.jid], rooms=[room], group_policy="open")
    await bot.logged("member")
    await alice.affiliate(room, bot.jid, "member")
    await alice.command(bot.jid, f"/join {room}")
    await alice.sees_occupant(room, bot.nick)


async def test_a_taken_nick_makes_the_next_free_variant(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room = await world.room(alice)
    await bob.join(room, NICK)
    start = len(alice.presences)
    bot = await world.bot(rooms=[room], group_policy="open")
    presence = await alice.sees_presence(
        lambda p: p.type == "" and p.sender.startswith(f"{room}/{NICK}") and p.sender != f"{room}/{NICK}",
        "a variant of the nick", start=start)
    nick = presence.sender.split("/", 1)[1]
    alice.say_in(room, f"{nick}: hello")
    line = await alice.sees(room, "Answer number 1.")
    assert line.sender == f"{room}/{nick}"
    bob.say_in(room, "I am not the bot")
    alice.say_in(room, f"{nick}: again")
    await alice.sees(room, "Answer number 2.")
    assert len(world.model.asked) == 2
    assert bot.process.poll() is None


async def test_rooms_are_joined_with_the_nick_of_their_entry(world):
    alice = await world.person()
    room = await world.room(alice)
    await world.bot(rooms=[f"{room}/parrot"], group_policy="open")
    await alice.sees_occupant(room, "parrot")


@pytest.mark.parametrize("how", ["mediated", "direct"])
@pytest.mark.parametrize("policy, listed, joins", [
    ("always", False, True), ("allowlist", True, True), ("allowlist", False, False), ("off", True, False)])
async def test_invitations(world, how, policy, listed, joins):
    alice = await world.person()
    room = await world.room(alice)
    # A room that hides real JIDs also hides who invites: then it is the room that must be listed.
    bot = await world.bot(admit=[alice] if listed else [], dm_policy="allowlist" if listed else "open",
                          group_allowlist=[room] if listed and how == "mediated" else [],
                          auto_join_invites=policy, group_policy="open", pairing=False)
    if how == "direct":
        alice.send(f"<message to='{bot.jid}' id='{uuid.uuid4().hex}'>"
                   f"<x xmlns='jabber:x:conference' jid='{room}' reason='come'/></message>")
    else:
        alice.send(f"<message to='{room}' id='{uuid.uuid4().hex}'><x xmlns='{MUC_USER}'>"
                   f"<invite to='{bot.jid}'><reason>come</reason></invite></x></message>")
    if joins:
        await alice.sees_occupant(room, bot.nick)
        alice.say_in(room, f"{bot.nick}: hello")
        await alice.sees(room, "Answer number 1.")
    else:
        await alice.iq("get", alice.domain, "<ping xmlns='urn:xmpp:ping'/>")
        alice.say(bot.jid, "Did you join?")
        await alice.sees(bot.jid, "Answer number 1.")
        assert not any(p.sender == f"{room}/{bot.nick}" for p in alice.presences)


async def test_an_invitation_is_kept_over_a_restart(world):
    alice = await world.person()
    room = await world.room(alice)
    bot = await world.bot(admit=[alice], auto_join_invites="allowlist", group_policy="open")
    alice.send(f"<message to='{bot.jid}' id='i1'><x xmlns='jabber:x:conference' jid='{room}'/></message>")
    await alice.sees_occupant(room, bot.nick)
    start = len(alice.presences)
    bot.kill()
    await world.start_bot(bot)
    await alice.sees_occupant(room, bot.nick, seconds=60, start=start)


async def test_an_invitation_with_a_password_uses_it(world):
    alice = await world.person()
    room = await world.room(alice, passwordprotectedroom="1", roomsecret="sesame")
    bot = await world.bot(admit=[alice], auto_join_invites="always", group_policy="open")
    alice.send(f"<message to='{bot.jid}' id='i1'><x xmlns='jabber:x:conference' jid='{room}' password='sesame'/>"
               "</message>")
    await alice.sees_occupant(room, bot.nick)


async def test_join_leave_and_rooms(world):
    alice = await world.person()
    room = await world.room(alice)
    bot = await world.bot(operators=[alice], group_policy="open")
    await alice.command(bot.jid, f"/join {room} starling")
    await alice.sees_occupant(room, "starling")
    assert room in await alice.command(bot.jid, "/rooms")
    await alice.command(bot.jid, f"/leave {room}")
    await leaves(alice, room, "starling")
    assert room not in await alice.command(bot.jid, "/rooms")


async def test_a_join_that_fails_says_why(world):
    alice = await world.person()
    room = await world.room(alice, membersonly="1")
    bot = await world.bot(operators=[alice])
    alice.say(bot.jid, f"/join {room}")
    await alice.messages.until(lambda: any("member" in text.lower() for text in alice.texts(bot.jid)),
                               "the reason of the failure")


@pytest.mark.limit(280)
async def test_a_room_that_forgot_the_bot_is_noticed_and_joined_again(world):
    """XEP-0410: the room's server lost the occupant; a second session of the account leaves in the bot's name."""
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    start = len(alice.presences)
    # A room that is destroyed and made again by its owner does not know the bot any more, and a kick with 307 would
    # be told; what is not told is that the conference service was restarted.
    await world.server.restart()
    await alice.login()
    await alice.join(room)
    await (await world.watcher()).login()
    await alice.sees_occupant(room, bot.nick, seconds=120, start=start)
    alice.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number")


async def test_a_message_to_a_room_that_refuses_it_is_no_loop(world):
    """A moderated room answers the bot's words with an error; errors are never answered."""
    alice = await world.person()
    room, bot = await world.room_with_bot(alice, admit=[alice], fields={"moderatedroom": "1"})
    await alice.must("set", room, "<query xmlns='http://jabber.org/protocol/muc#admin'>"
                     f"<item nick='{bot.nick}' role='visitor'/></query>")
    alice.say_in(room, f"{bot.nick}: hello")
    await world.model.request(1)
    await still_works(alice, bot, 2)
    assert len(world.model.asked) == 2


async def test_a_second_session_of_the_account_is_not_answered(world):
    """The owner of the bot's account may log in with a client; what is said there is no message for the bot."""
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    owner = Person(world.server, bot.jid.split("@")[0], PASSWORD, resource="phone")
    world.people.append(owner)
    await owner.login()
    await owner.must("set", "", "<enable xmlns='urn:xmpp:carbons:2'/>")
    owner.say(alice.jid, "Typed by the owner")
    await alice.sees(bot.jid, "Typed by the owner")
    owner.say(bot.full, "A note to myself")
    await owner.iq("get", owner.domain, "<ping xmlns='urn:xmpp:ping'/>")
    await still_works(alice, bot)
    assert len(world.model.asked) == 1
