"""Conversations: messages that come while a turn runs, corrections, retractions, reactions."""

import asyncio
import time

import pytest

from servers import soon
from stanza import REACTIONS
from wire import Answer, Hold


async def busy(world, person, bot, peer: str = "") -> Hold:
    """Starts a turn that waits; returns what lets it go on."""
    hold = Hold()
    world.model.on("The first question", Answer(hold, "The first answer."))
    person.say(peer or bot.jid, "The first question")
    await soon(hold.reached)
    return hold


async def test_followup_answers_in_order(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    hold = await busy(world, alice, bot)
    for word in ("second", "third"):
        world.model.on(f"The {word} question", Answer(f"The {word} answer."))
        alice.say(bot.jid, f"The {word} question")
    await alice.command(bot.jid, "/ping")
    assert len(world.model.asked) == 1
    hold.release()
    await alice.sees(bot.jid, "The third answer.")
    answers = [text for text in alice.texts(bot.jid) if "answer." in text]
    assert answers == ["The first answer.", "The second answer.", "The third answer."]
    assert len(world.model.asked) == 3


async def test_collect_joins_what_came_in(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"chat": {"message_queue_mode": "collect"}})
    hold = await busy(world, alice, bot)
    alice.say(bot.jid, "The second question")
    alice.say(bot.jid, "The third question")
    await alice.command(bot.jid, "/ping")
    hold.release()
    await alice.sees(bot.jid, "Answer number 1.")
    assert len(world.model.asked) == 2
    assert "second question" in world.model.asked[1].everything and "third question" in world.model.asked[1].last
    assert "The first answer." in alice.texts(bot.jid)


async def test_interrupt_stops_and_goes_on_with_the_new_text(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"chat": {"message_queue_mode": "interrupt"}})
    await busy(world, alice, bot)
    alice.say(bot.jid, "The second question")
    await soon(world.model.asked[0].closed)
    await alice.sees(bot.jid, "Answer number 1.")
    assert "second question" in world.model.asked[1].last
    assert not any("The first answer" in text for text in alice.texts(bot.jid))


async def test_a_correction_runs_the_turn_again(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    id = alice.say(bot.jid, "How high is the Matterhron?")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.correct(bot.jid, id, "How high is the Matterhorn?")
    await alice.sees(bot.jid, "Answer number 2.")
    second = world.model.asked[1]
    assert "Matterhorn" in second.last and "Matterhron" not in second.everything
    assert "Answer number 1." not in second.everything


async def test_a_correction_of_the_running_turn_stops_it(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    hold = Hold()
    world.model.on("wrong", Answer(hold, "The wrong answer."))
    id = alice.say(bot.jid, "The wrong question")
    await soon(hold.reached)
    alice.correct(bot.jid, id, "The right question")
    await soon(world.model.asked[0].closed)
    await alice.sees(bot.jid, "Answer number 1.")
    assert "The right question" in world.model.asked[1].last
    assert not any("The wrong answer" in text for text in alice.texts(bot.jid))


async def test_a_correction_of_an_older_message_starts_no_turn(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    id = alice.say(bot.jid, "The first question")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.say(bot.jid, "The second question")
    await alice.sees(bot.jid, "Answer number 2.")
    alice.correct(bot.jid, id, "The first question, polished")
    await alice.command(bot.jid, "/ping")
    assert len(world.model.asked) == 2


async def test_a_correction_in_a_room(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    id = alice.say_in(room, f"{bot.nick}: the Matterhron?")
    await alice.sees(room, "Answer number 1.")
    alice.correct(room, id, f"{bot.nick}: the Matterhorn?", kind="groupchat")
    await alice.sees(room, "Answer number 2.")
    assert "Matterhorn" in world.model.asked[1].last


async def test_a_retraction_stops_the_turn_and_drops_the_text(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    hold = Hold()
    world.model.on("my password", Answer(hold, "Never said."))
    id = alice.say(bot.jid, "Here is my password: hunter2")
    await soon(hold.reached)
    alice.retract(bot.jid, id)
    await soon(world.model.asked[0].closed)
    alice.say(bot.jid, "What did I say?")
    await alice.sees(bot.jid, "Answer number 1.")
    assert "hunter2" not in world.model.asked[-1].everything
    assert not any("Never said" in text for text in alice.texts(bot.jid))


async def test_a_retraction_after_the_answer_drops_the_text(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    id = alice.say(bot.jid, "Here is my password: hunter2")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.retract(bot.jid, id)
    alice.say(bot.jid, "What did I say?")
    await alice.sees(bot.jid, "Answer number 2.")
    assert "hunter2" not in world.model.asked[1].everything


async def test_nobody_retracts_anothers_message(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    bot = await world.bot(admit=[alice, bob])
    id = alice.say(bot.jid, "My cat is called Tybalt")
    await alice.sees(bot.jid, "Answer number 1.")
    bob.retract(bot.jid, id)
    bob.correct(bot.jid, id, "My cat is called Bello")
    await bob.command(bot.jid, "/ping")
    # A correction of what its sender did not write is at most a message of his own (XEP-0308, 3).
    await alice.command(bot.jid, "What is its name?")
    assert "Tybalt" in world.model.about("What is its name?")[0].everything


async def test_a_moderation_by_an_occupant_is_not_believed(world):
    """XEP-0425: only the room moderates. Someone else's message is stopped by nobody who merely says so."""
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, bob)
    hold = Hold()
    world.model.on("a question", Answer(hold, "An answer."))
    alice.say_in(room, f"{bot.nick}: a question")
    await soon(hold.reached)
    line = await bob.sees_message(lambda m: m.type == "groupchat" and "a question" in (m.body or ""), "the line")
    id = line.assigned_id(room)
    moderated = f"<moderated xmlns='urn:xmpp:message-moderate:{{}}' by='{room}/alice'>"
    bob.send(f"<message to='{room}' type='groupchat' id='m0'><apply-to xmlns='urn:xmpp:fasten:0' id='{id}'>"
             + moderated.format(0) + "<retract xmlns='urn:xmpp:message-retract:0'/></moderated></apply-to></message>")
    bob.send(f"<message to='{room}' type='groupchat' id='m1'><retract xmlns='urn:xmpp:message-retract:1' id='{id}'>"
             + moderated.format(1) + "</moderated></retract></message>")
    await bob.iq("get", f"{room}/{bot.nick}", "<ping xmlns='urn:xmpp:ping'/>")
    hold.release()
    await alice.sees(room, "An answer.")


async def reacted(world, person, bot, emoji: str) -> None:
    line = person.lines(bot.jid)[-1]
    person.react(bot.jid, line.message.id, emoji)


async def test_reaction_again(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "A question")
    await alice.sees(bot.jid, "Answer number 1.")
    await reacted(world, alice, bot, "🔁")
    await alice.sees(bot.jid, "Answer number 2.")
    assert "A question" in world.model.asked[1].last


async def test_reaction_stop(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer("The first thirty characters of it stand here. ", hold, "Never said."))
    bot = await world.bot(admit=[alice], edit_throttle_ms=50)
    alice.say(bot.jid, "A question")
    await alice.sees(bot.jid, "stand here.")
    await reacted(world, alice, bot, "⏹")
    await soon(world.model.asked[0].closed)


async def test_reaction_forget(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "My cat is called Tybalt")
    await alice.sees(bot.jid, "Answer number 1.")
    await reacted(world, alice, bot, "🗑")
    alice.say(bot.jid, "What is its name?")
    await alice.sees(bot.jid, "Answer number 2.")
    assert "Answer number 1." not in world.model.asked[1].everything


async def test_thumbs_are_stored_and_answer_nothing(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "A question")
    await alice.sees(bot.jid, "Answer number 1.")
    await reacted(world, alice, bot, "👍")
    await alice.command(bot.jid, "/ping")
    assert len(alice.lines(bot.jid)) == 2 and len(world.model.asked) == 1


async def test_reactions_of_others_do_nothing_to_ones_answer(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    bot = await world.bot(admit=[alice, bob])
    alice.say(bot.jid, "My cat is called Tybalt")
    line = await alice.sees(bot.jid, "Answer number 1.")
    for emoji in ("🔁", "🗑"):
        bob.react(bot.jid, line.message.id, emoji)
    await bob.command(bot.jid, "/ping")
    assert len(world.model.asked) == 1
    alice.say(bot.jid, "What is its name?")
    await alice.sees(bot.jid, "Answer number 2.")
    assert "Answer number 1." in world.model.asked[1].everything


async def test_a_reaction_taken_back_does_nothing(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "A question")
    line = await alice.sees(bot.jid, "Answer number 1.")
    alice.send(f"<message to='{bot.jid}' type='chat' id='r1'><reactions xmlns='{REACTIONS}' id='{line.message.id}'/>"
               "</message>")
    alice.react(bot.jid, "no-such-message", "🔁")
    await alice.command(bot.jid, "/ping")
    assert len(world.model.asked) == 1


@pytest.mark.limit(280)
async def test_a_flood_is_bounded_and_told(world):
    """The inbound queue is bounded; whoever is put off is told, and others are still served."""
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    bot = await world.bot(admit=[alice, bob], config={"budget": {"turns_per_jid_per_minute": 5}})
    began = time.monotonic()
    for number in range(300):
        alice.say(bot.jid, f"Flood {number}")
    bob.say(bot.jid, "A quiet question")
    await bob.sees(bot.jid, "Answer number", 120)
    assert (await alice.iq("get", bot.full, "<ping xmlns='urn:xmpp:ping'/>", 120)).type == "result"
    await alice.messages.until(lambda: any("Answer number" not in text for text in alice.texts(bot.jid)), "she is told why")
    minutes = 1 + int((time.monotonic() - began) / 60)  # that have begun
    assert len(world.model.about("Flood")) <= 5 * minutes + 1
