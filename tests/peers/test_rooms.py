"""Rooms: which lines are for the bot, where its answers go, and what the model learns."""

import asyncio

import pytest

from models import Refusal
from servers import soon
from stanza import FALLBACK, REPLY
from world import NICK
from wire import Answer, Hold, Pause

MENTIONS = [
    ("nick and colon", "robin: hello", True),
    ("nick and comma", "robin, hello", True),
    ("at sign", "hello @robin", True),
    ("in the middle", "what does robin think?", True),
    ("other case", "ROBIN! hello", True),
    ("part of a word", "robinson was on an island", False),
    ("end of a word", "batrobin: hello", False),
    ("other word", "hello everyone", False),
    ("in the quote of another", "> robin: hello\nI saw that", False),
    ("before a letter of another script", "robiné: hello", False),
]


@pytest.mark.parametrize("text, answered", [row[1:] for row in MENTIONS], ids=[row[0] for row in MENTIONS])
async def test_a_mention_is_a_whole_word(world, text, answered):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    alice.say_in(room, text)
    if answered:
        await alice.sees(room, "Answer number 1.")
    else:
        alice.say_in(room, f"{NICK}: the real question")
        await alice.sees(room, "Answer number 1.")
        assert len(world.model.asked) == 1 and "the real question" in world.model.asked[0].last
        assert len(alice.texts(room)) == 1


async def test_bot_is_not_found_in_robot(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice, nick="bot")
    alice.say_in(room, "The robot, the bottle and the botanist are here")
    alice.say_in(room, "bot: hello")
    await alice.sees(room, "Answer number 1.")
    assert len(world.model.asked) == 1


async def test_the_jid_and_its_local_part_are_mentions(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    alice.say_in(room, f"{bot.jid}: hello")
    await alice.sees(room, "Answer number 1.")
    alice.say_in(room, f"hello {bot.jid.split('@')[0]}")
    await alice.sees(room, "Answer number 2.")


async def test_a_reference_is_a_mention(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    alice.say_in(room, "You there, hello", extra="<reference xmlns='urn:xmpp:reference:0' type='mention' begin='0' "
                 f"end='9' uri='xmpp:{room}/{bot.nick}'/>")
    await alice.sees(room, "Answer number 1.")


@pytest.mark.parametrize("counts", [True, False], ids=["counting", "not counting"])
async def test_a_reply_to_the_bot_counts_as_a_mention(world, counts):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice, reply_counts_as_mention=counts)
    alice.say_in(room, f"{bot.nick}: hello")
    line = await alice.sees(room, "Answer number 1.")
    id = line.versions[0].assigned_id(room)
    alice.say_in(room, "and why?", extra=f"<reply xmlns='urn:xmpp:reply:0' to='{room}/{bot.nick}' id='{id}'/>")
    if counts:
        await alice.sees(room, "Answer number 2.")
        assert "and why?" in world.model.asked[1].last
    else:
        alice.say_in(room, f"{bot.nick}: the next question")
        await alice.sees(room, "Answer number 2.")
        assert "the next question" in world.model.asked[1].last
        assert len(world.model.asked) == 2


async def test_a_reply_to_someone_else_is_none(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, bob)
    bob.say_in(room, "I like tea")
    line = await alice.sees(room, "I like tea")
    id = line.message.assigned_id(room)
    alice.say_in(room, f"> {bot.nick} said tea\nme too", extra=(
        f"<reply xmlns='urn:xmpp:reply:0' to='{room}/bob' id='{id}'/>"
        "<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:reply:0'><body start='0' end='17'/></fallback>"))
    alice.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number 1.")
    assert len(world.model.asked) == 1


@pytest.mark.parametrize("mode, mentioned, plain", [("mention", True, False), ("always", True, True),
                                                    ("none", False, False)])
async def test_mention_mode(world, mode, mentioned, plain):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice, admit=[alice], mention_mode=mode)
    alice.say_in(room, "a plain line")
    if plain:
        await alice.sees(room, "Answer number 1.")
    alice.say_in(room, f"{bot.nick}: a mention")
    if mentioned:
        await alice.sees(room, f"Answer number {1 + plain}.")
    await alice.flush()
    alice.say(bot.jid, "directly")
    await alice.sees(bot.jid, "Answer number")
    assert len(world.model.asked) == plain + mentioned + 1


async def test_a_room_may_not_require_a_mention(world):
    alice = await world.person()
    room = await world.room(alice)
    bot = await world.bot(rooms=[room], group_policy="open", muc_rooms={room: {"require_mention": False}})
    await alice.sees_occupant(room, bot.nick)
    alice.say_in(room, "a plain line")
    await alice.sees(room, "Answer number 1.")


async def test_a_disabled_room_is_left_alone(world):
    alice = await world.person()
    first, second = await world.room(alice), await world.room(alice)
    bot = await world.bot(rooms=[first, second], group_policy="open", muc_rooms={first: {"enabled": False}})
    await alice.sees_occupant(second, bot.nick)
    alice.say_in(first, f"{bot.nick}: hello")
    await alice.flush()
    alice.say_in(second, f"{bot.nick}: hello")
    await alice.sees(second, "Answer number 1.")
    assert alice.lines(first) == [] and len(world.model.asked) == 1


async def test_the_model_sees_the_last_lines_and_who_said_them(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, bob, history_limit=3)
    for number in range(5):
        bob.say_in(room, f"line number {number}")
        await alice.sees(room, f"line number {number}")
    alice.say_in(room, f"{bot.nick}: what do you say?")
    await alice.sees(room, "Answer number 1.")
    asked = world.model.asked[0]
    assert "line number 1" not in asked.everything and "line number 2" in asked.everything
    assert "line number 4" in asked.everything
    assert "bob" in asked.everything and "alice" in asked.everything
    assert "what do you say?" in asked.last
    assert f"{bot.nick}: what" not in asked.last, "the mention is stripped"


async def test_a_bare_mention_answers_the_lines_before_it(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, bob)
    bob.say_in(room, "How high is the Matterhorn?")
    await alice.sees(room, "Matterhorn")
    alice.say_in(room, f"@{bot.nick}")
    await alice.sees(room, "Answer number 1.")
    assert "Matterhorn" in world.model.asked[0].everything


async def test_a_room_answer_is_a_reply_with_a_fallback(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    id = alice.say_in(room, f"{bot.nick}: a question")
    answer = (await alice.sees(room, "Answer number 1.")).message
    own = await alice.sees_message(lambda m: m.id == id and m.type == "groupchat", "the own line")
    reply = answer.child("reply", REPLY)
    assert answer.type == "groupchat"
    assert reply is not None and reply.get("id") == own.assigned_id(room)
    assert reply.get("to") == f"{room}/alice"
    fallback = answer.child("fallback", FALLBACK)
    assert fallback is not None and fallback.get("for") == REPLY
    span = fallback.find(f"{{{FALLBACK}}}body")
    start, end = int(span.get("start")), int(span.get("end"))
    rest = answer.body[:start] + answer.body[end:]
    assert rest.strip() == "Answer number 1.", "without the quoted fallback the answer remains"


async def test_no_streaming_in_rooms_by_default(world):
    alice = await world.person()
    world.model.then(Answer("The first thirty characters of it stand here. ", Pause(0.6), "An end."))
    room, bot = await world.room_with_bot(alice, edit_throttle_ms=100)
    alice.say_in(room, f"{bot.nick}: tell")
    line = await alice.sees(room, "An end.")
    assert len(line.versions) == 1


async def test_streaming_in_rooms_when_configured(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer("The first thirty characters of it stand here. ", hold, "An end."))
    room, bot = await world.room_with_bot(alice, edit_throttle_ms=100, stream_mode="correction")
    alice.say_in(room, f"{bot.nick}: tell")
    await alice.sees(room, "stand here.")
    hold.release()
    line = await alice.sees(room, "An end.")
    assert len(line.versions) >= 2 and len(alice.lines(room)) == 1


async def test_a_private_answer_never_enters_the_room(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, bob)
    occupant = f"{room}/{bot.nick}"
    alice.say(occupant, "Between us", extra="<x xmlns='http://jabber.org/protocol/muc#user'/>")
    answer = await alice.sees(occupant, "Answer number 1.")
    assert answer.message.type == "chat"
    bob.say_in(room, f"{bot.nick}: and aloud")
    await bob.sees(room, "Answer number 2.")
    assert bob.texts(room) == [text for text in bob.texts(room) if "Answer number 1." not in text]
    assert "Between us" not in world.model.asked[1].everything
    assert all(m.sender != occupant or m.type == "groupchat" for m in bob.messages if m.body)


async def test_an_error_of_a_private_turn_stays_private(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    world.model.on("Between us", *[Refusal(400)] * 3)
    room, bot = await world.room_with_bot(alice, bob)
    occupant = f"{room}/{bot.nick}"
    alice.say(occupant, "Between us", extra="<x xmlns='http://jabber.org/protocol/muc#user'/>")
    await alice.next_line(occupant, 0)
    bob.say_in(room, f"{bot.nick}: hello")
    await bob.sees(room, "Answer number")
    assert len(bob.lines(room)) == 1


async def test_a_command_works_after_a_mention_and_answers_in_the_room(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    alice.say_in(room, f"{bot.nick}: /ping")
    await alice.next_line(room, 0)
    assert world.model.asked == []


async def test_a_privileged_command_in_a_room_is_refused_with_where_to_use_it(world):
    operator = await world.person("operator")
    room, bot = await world.room_with_bot(operator, operators=[operator])
    operator.say_in(room, f"{bot.nick}: /accounts")
    line = await operator.next_line(room, 0)
    assert "online" not in line.text.lower() and "direct" in line.text.lower()


async def test_ones_own_lines_are_known_by_more_than_the_nick(world):
    """Someone who takes the bot's nick after a change is a person, and the bot does not answer its own echo."""
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, mention_mode="always")
    alice.say_in(room, "hello")
    await alice.sees(room, "Answer number 1.")
    start = len(alice.presences)
    # The bot is moved aside: kicked, it comes back or not; its nick is free in between.
    await alice.kick(room, bot.nick)
    await alice.sees_leaving(room, bot.nick, start=start)
    await bob.join(room, bot.nick)
    assert len(world.model.asked) == 1, "its own echo was not answered"


async def test_two_bots_stop_after_max_bot_rounds(world):
    alice = await world.person()
    room = await world.room(alice)
    first = await world.bot(name="first", nick="ping", rooms=[room], group_policy="open", mention_mode="always",
                            max_bot_rounds=3)
    second = await world.bot(name="second", nick="pong", rooms=[room], group_policy="open", mention_mode="always",
                             max_bot_rounds=3)
    for bot in (first, second):
        await alice.sees_occupant(room, bot.nick)
    alice.say_in(room, "go")
    await alice.messages.until(lambda: len(alice.lines(room)) >= 2, "both bots answering")
    asked = await settled(world)
    # The person's line and three rounds each.
    assert 2 <= asked <= 2 * (3 + 1)
    alice.say_in(room, "go on")
    await alice.messages.until(lambda: len(world.model.asked) >= asked + 1, "a person starts it again")


async def settled(world, quiet: float = 3.0) -> int:
    """Returns once the model was not asked for a while: what cannot be awaited, the absence of a loop."""
    while True:
        before = len(world.model.asked)
        await asyncio.sleep(quiet)
        if len(world.model.asked) == before:
            return before


async def test_nick_changes_are_followed(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, bob)
    bob.say_in(room, "I am Bob")
    await alice.sees(room, "I am Bob")
    bob.send(f"<presence to='{room}/benvolio'/>")
    await alice.sees_occupant(room, "benvolio")
    bob.occupants.add(f"{room}/benvolio")
    bob.say_in(room, f"{bot.nick}: who am I?")
    await bob.sees(room, "Answer number 1.")
    assert "benvolio" in world.model.asked[0].everything


async def test_a_room_has_its_own_prompt_model_and_skills(world):
    alice = await world.person()
    room = await world.room(alice)
    bot = await world.bot(rooms=[room], group_policy="open", muc_rooms={room: {
        "system_prompt": "Answer as a pirate would.", "model": "model-2", "model_provider": "test",
        "skills": ["code-review"]}})
    await alice.sees_occupant(room, bot.nick)
    alice.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number 1.")
    asked = world.model.asked[0]
    assert "as a pirate would" in asked.system and asked.model == "model-2"
    assert "review" in asked.system.lower()


async def test_the_history_of_a_room_is_not_new(world):
    """Lines from before the bot came, and history that a room replays against its wish, start no turn."""
    alice = await world.person()
    room = await world.room(alice)
    for number in range(3):
        alice.say_in(room, f"{NICK}: old question {number}")
    await alice.flush()
    bot = await world.bot(rooms=[room], group_policy="open")
    await alice.sees_occupant(room, bot.nick)
    alice.say_in(room, f"{bot.nick}: new question")
    await alice.sees(room, "Answer number 1.")
    assert len(world.model.asked) == 1 and "new question" in world.model.asked[0].last
    assert len(alice.lines(room)) == 1


async def test_people_in_a_room_may_not_correct_each_other(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    hold = Hold()
    world.model.on("the true question", Answer(hold, "The true answer."))
    room, bot = await world.room_with_bot(alice, bob)
    id = alice.say_in(room, f"{bot.nick}: the true question")
    await soon(hold.reached)
    bob.correct(room, id, f"{bot.nick}: a forged question", kind="groupchat")
    bob.retract(room, id, kind="groupchat")
    await bob.flush()
    hold.release()
    await alice.sees(room, "The true answer.")
    assert not world.model.asked[0].closed.is_set()
    assert not any("the true question" not in asked.everything for asked in world.model.asked)


async def test_room_turns_have_no_tools(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    alice.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number 1.")
    assert not world.model.asked[0].body.get("tools")
