"""Replies in a direct chat: what a person sees from the message to the last word."""

import asyncio
import time

import pytest

from models import Refusal
from servers import soon
from stanza import MARKERS, RECEIPTS
from wire import Answer, Hold, Pause

BEGINNING = "The first thirty characters of it stand here. "


async def test_a_person_asks_and_gets_one_answer(world):
    alice = await world.person()
    world.model.then(Answer("Hello to you."))
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Good morning")
    line = await alice.sees(bot.jid, "Hello to you.")
    assert line.message.type == "chat"
    assert world.model.asked[0].last.strip() == "Good morning"
    assert "Answer number" in await alice.command(bot.jid, "And again")
    assert len(alice.lines(bot.jid)) == 2
    assert len(world.model.asked) == 2


async def test_the_model_is_told_what_was_said_before(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "My cat is called Tybalt")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.say(bot.jid, "What is its name?")
    await alice.sees(bot.jid, "Answer number 2.")
    second = world.model.asked[1]
    assert [role for role, _ in second.messages] == ["user", "assistant", "user"]
    assert "Tybalt" in second.messages[0][1]
    assert "Answer number 1." in second.messages[1][1]
    assert second.system


async def sees_the_last_version(person, peer: str, text: str):
    """The whole text may come before its end is known, as one more of the versions that are not archived."""
    await person.sees(peer, text)
    return await person.messages.until(
        lambda: next((line for line in person.lines(peer) if text in line.text and "no-store" not in line.versions[-1].hints),
                     None), f"the last version of {text!r}")


async def test_an_answer_grows_by_corrections_of_one_message(world):
    alice, first, second = await world.person(), Hold(), Hold()
    world.model.then(Answer(BEGINNING, first, "A middle. ", second, "An end."))
    bot = await world.bot(admit=[alice], edit_throttle_ms=100)
    alice.say(bot.jid, "Tell me")
    await alice.sees(bot.jid, BEGINNING.strip())
    first.release()
    await alice.sees(bot.jid, "A middle.")
    second.release()
    line = await sees_the_last_version(alice, bot.jid, "An end.")
    assert alice.texts(bot.jid) == [BEGINNING + "A middle. An end."]
    assert {version.replaces for version in line.versions[1:]} == {line.message.id}
    for version in line.versions[1:-1]:
        assert {"no-store", "no-copy"} <= version.hints, "an intermediate text is neither archived nor copied"
    assert not {"no-store", "no-copy"} & line.versions[-1].hints, "the last one is archived and pushed"


async def test_the_archive_holds_the_whole_answer(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer(BEGINNING, hold, "An end."))
    bot = await world.bot(admit=[alice], edit_throttle_ms=100)
    alice.say(bot.jid, "Tell me")
    await alice.sees(bot.jid, BEGINNING.strip())
    hold.release()
    await sees_the_last_version(alice, bot.jid, "An end.")
    bodies = [message.findtext("{jabber:client}body") for message in await alice.archive(peer=bot.jid)]
    assert bodies.count(BEGINNING + "An end.") == 1


async def test_corrections_come_no_faster_than_the_throttle(world):
    alice = await world.person()
    world.model.then(Answer(BEGINNING, *[part for n in range(60) for part in (f"word{n} ", Pause(0.03))], "the end"))
    bot = await world.bot(admit=[alice], edit_throttle_ms=600)
    began = time.monotonic()
    alice.say(bot.jid, "Tell me")
    line = await alice.sees(bot.jid, "the end")
    took = line.versions[-1].at - began
    assert len(line.versions) >= 3, "it streamed"
    # Counted over the whole time, as a busy machine delivers one late and the next in time. The last one need not wait.
    assert len(line.versions) - 2 <= took / 0.6, [version.at - began for version in line.versions]


async def test_stream_mode_off_sends_one_message(world):
    alice = await world.person()
    world.model.then(Answer(BEGINNING, Pause(0.5), "An end."))
    bot = await world.bot(admit=[alice], stream_mode="off", edit_throttle_ms=100)
    alice.say(bot.jid, "Tell me")
    line = await alice.sees(bot.jid, "An end.")
    assert len(line.versions) == 1
    assert alice.texts(bot.jid) == [BEGINNING + "An end."]


async def test_a_client_without_corrections_gets_one_message(world):
    alice = await world.person(corrections=False)
    bot = await world.bot(admit=[alice], edit_throttle_ms=100)
    alice.subscribe(bot.jid)
    await alice.sees_presence(lambda p: p.sender == bot.full and p.type == "", "the bot's presence")
    # The capabilities are known once the bot has asked for them: a first answer gives it the time.
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    world.model.then(Answer(BEGINNING, Pause(0.5), "An end."))
    alice.say(bot.jid, "Tell me")
    line = await alice.sees(bot.jid, "An end.")
    assert len(line.versions) == 1 and len(alice.lines(bot.jid)) == 2


async def test_short_beginnings_wait_for_more_text(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer("Ten chars.", hold, " And so much more that it is worth to be shown."))
    bot = await world.bot(admit=[alice], stream_min_initial_chars=30, edit_throttle_ms=50)
    alice.say(bot.jid, "Tell me")
    await soon(hold.reached)
    await alice.must("get", bot.full, "<ping xmlns='urn:xmpp:ping'/>")
    assert alice.lines(bot.jid) == []
    hold.release()
    await alice.sees(bot.jid, "worth to be shown.")


async def test_life_shows_within_a_second(world):
    """Where other tests take the processor, the best of some questions counts."""
    alice = await world.person()
    bot = await world.bot(admit=[alice], ack_reaction="👀")
    took: list[float] = []
    while not took or (min(took) >= 1 and len(took) < 5):
        hold, seen, start, began = Hold(), len(alice.lines(bot.jid)), len(alice.messages), time.monotonic()
        world.model.then(Answer(hold, f"Done with {seen}."))
        id = alice.say(bot.jid, "Slow question")
        signs = [
            await alice.sees_message(lambda m: m.marker == "displayed", "the displayed marker", start=start),
            await alice.sees_message(lambda m: m.child("received", RECEIPTS) is not None, "the receipt", start=start),
            await alice.sees_message(lambda m: m.chat_state == "composing", "composing", start=start),
            await alice.sees_message(lambda m: m.reactions == ["👀"], "the reaction", start=start)]
        assert signs[0].child("displayed", MARKERS).get("id") == id
        assert signs[1].child("received", RECEIPTS).get("id") == id
        assert len(alice.lines(bot.jid)) == seen, "before the answer"
        took.append(max(sign.at for sign in signs) - began)
        hold.release()
        await alice.sees(bot.jid, f"Done with {seen}.")
    assert min(took) < 1, took


async def test_an_acknowledging_reaction_is_off_by_default(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    assert not any(m.reactions for m in alice.messages)


@pytest.mark.parametrize("reaction", [Answer("Fine."), Answer(), Refusal(400), Refusal(500, body="<html>broken</html>")],
                         ids=["answer", "empty answer", "refusal", "broken server"])
async def test_typing_ends_however_the_turn_ends(world, reaction):
    alice = await world.person()
    world.model.on("Hello", *[reaction] * 5)
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Hello")
    await alice.sees_message(lambda m: m.chat_state == "composing", "composing")
    await alice.next_line(bot.jid, 0)
    await alice.messages.until(lambda: last_chat_state(alice) in ("active", "paused"), "the end of typing")
    assert len(alice.lines(bot.jid)) == 1


def last_chat_state(person) -> str:
    return next((m.chat_state for m in reversed(person.messages) if m.chat_state), "")


async def test_chat_states_markers_and_receipts_can_be_off(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], chat_states=False, chat_markers=False)
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.say(bot.jid, "Again")
    await alice.sees(bot.jid, "Answer number 2.")
    assert not any(m.chat_state or m.marker or m.child("received", RECEIPTS) is not None
                   for m in alice.messages if m.sender == bot.full)


async def test_no_receipt_for_a_message_that_wants_none(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.send(f"<message to='{bot.jid}' type='chat' id='plain-1'><body>Hello</body></message>")
    await alice.sees(bot.jid, "Answer number 1.")
    assert not any(m.child("received", RECEIPTS) is not None or m.marker for m in alice.messages)


STYLES = [
    ("strong and emphasis", "This is **strong** and *soft* and ~~gone~~.", "This is *strong* and _soft_ and ~gone~."),
    ("inside words", "The snake_case_name and 2*3*4 stay.", "The snake_case_name and 2*3*4 stay."),
    ("heading", "# Title\n\nText.", "*Title*\n\nText."),
    ("link", "See [the manual](https://example.org/m).", "See the manual (https://example.org/m)."),
    ("code", "```rust\nlet a = **b;\n```", "```rust\nlet a = **b;\n```"),
    ("inline code", "Call `a*b*c` now.", "Call `a*b*c` now."),
]


@pytest.mark.parametrize("name, markdown, shown", STYLES, ids=[style[0] for style in STYLES])
async def test_markdown_becomes_message_styling(world, name, markdown, shown):
    alice = await world.person()
    world.model.then(Answer(markdown))
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Tell me")
    await alice.sees_exactly(bot.jid, shown)


async def test_a_table_becomes_an_aligned_preformatted_block(world):
    alice = await world.person()
    world.model.then(Answer("| name | age |\n|---|---|\n| Ann | 7 |\n| Bartholomew | 42 |\n"))
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Tell me")
    text = (await sees_the_last_version(alice, bot.jid, "Bartholomew")).text
    rows = [line for line in text.splitlines() if "Ann" in line or "Bartholomew" in line]
    assert text.strip().startswith("```") and text.strip().endswith("```")
    assert rows[0].index("7") == rows[1].index("42"), text


async def test_styling_off_leaves_markdown_alone(world):
    alice = await world.person()
    world.model.then(Answer("This is **strong**."))
    bot = await world.bot(admit=[alice], styling=False)
    alice.say(bot.jid, "Tell me")
    await alice.sees_exactly(bot.jid, "This is **strong**.")


async def test_a_long_answer_comes_in_chunks_in_order_and_complete(world):
    alice = await world.person()
    words = [f"word{n:04}" for n in range(400)]
    world.model.then(Answer(*(" ".join(words[at:at + 20]) + " " for at in range(0, 400, 20))))
    bot = await world.bot(admit=[alice], text_chunk_limit=1500, edit_throttle_ms=100)
    alice.say(bot.jid, "Tell me")
    await sees_the_last_version(alice, bot.jid, words[-1])
    texts = alice.texts(bot.jid)
    assert len(texts) == 3
    assert " ".join(texts).split() == words, "two or three chunks carry no number"
    assert all(len(text) <= 1500 for text in texts)


async def test_more_than_three_chunks_are_numbered(world):
    alice = await world.person()
    words = [f"word{n:04}" for n in range(400)]
    world.model.then(Answer(" ".join(words)))
    bot = await world.bot(admit=[alice], text_chunk_limit=500)
    alice.say(bot.jid, "Tell me")
    await sees_the_last_version(alice, bot.jid, words[-1])
    texts = alice.texts(bot.jid)
    assert len(texts) > 3
    assert [word for word in " ".join(texts).split() if word.startswith("word")] == words
    assert all(str(number) in text.replace("word", " ")[:12] + text[-12:] for number, text in enumerate(texts, 1))


async def test_text_is_never_cut_inside_a_character(world):
    family = "👨‍👩‍👧‍👦"
    alice = await world.person()
    world.model.then(Answer(family * 300, chop=3))
    bot = await world.bot(admit=[alice], text_chunk_limit=110, stream_min_initial_chars=5, edit_throttle_ms=50)
    alice.say(bot.jid, "Families")
    await alice.messages.until(lambda: sum(t.count("👦") for t in alice.texts(bot.jid)) >= 300, "all families")
    for message in alice.messages:
        if message.body and message.sender == bot.full:
            assert message.body.count("👨") == message.body.count(family), message.body[-20:]
            assert message.body.strip()


async def test_a_split_code_fence_is_closed_and_reopened(world):
    alice = await world.person()
    code = "\n".join(f"line_{n:03} = {n}" for n in range(60))
    world.model.then(Answer(f"Look:\n\n```python\n{code}\n```\n"))
    bot = await world.bot(admit=[alice], text_chunk_limit=500)
    alice.say(bot.jid, "Code")
    await alice.sees(bot.jid, "line_059")
    for text in alice.texts(bot.jid):
        assert sum(line.startswith("```") for line in text.splitlines()) % 2 == 0, text


async def test_two_clients_of_a_person_both_see_the_conversation(world):
    alice = await world.person()
    other = await world.second_client(alice)
    for client in (alice, other):
        await client.must("set", "", "<enable xmlns='urn:xmpp:carbons:2'/>")
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    await other.sees_message(lambda m: "Answer number 1." in str(m), "the answer or its carbon")
    await alice.command(bot.jid, "Again")
    assert len(world.model.asked) == 2


async def test_each_thread_is_a_conversation_of_its_own(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "About cats", extra="<thread>cats</thread>")
    first = await alice.sees(bot.jid, "Answer number 1.")
    assert first.message.child("thread").text == "cats"
    alice.say(bot.jid, "About dogs", extra="<thread>dogs</thread>")
    await alice.sees(bot.jid, "Answer number 2.")
    assert "cats" not in world.model.asked[1].everything
    alice.say(bot.jid, "More on those", extra="<thread>cats</thread>")
    await alice.sees(bot.jid, "Answer number 3.")
    assert "About cats" in world.model.asked[2].everything and "dogs" not in world.model.asked[2].everything


async def test_the_answers_of_two_people_do_not_mix(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    hold = Hold()
    world.model.on("from Alice", Answer(hold, "For Alice."))
    world.model.on("from Bob", Answer("For Bob."))
    bot = await world.bot(admit=[alice, bob])
    alice.say(bot.jid, "A question from Alice")
    await soon(hold.reached)
    bob.say(bot.jid, "A question from Bob")
    await bob.sees(bot.jid, "For Bob.")  # while the other turn still runs
    hold.release()
    await alice.sees(bot.jid, "For Alice.")
    assert alice.texts(bot.jid) == ["For Alice."] and bob.texts(bot.jid) == ["For Bob."]
    assert "Alice" not in world.model.about("from Bob")[0].everything.replace("alice", "")


async def test_hostile_answers_are_only_text(world):
    alice = await world.person()
    nasty = "<message/> &amp; ]]> <b>x</b> \u0000\u0007\ufffe /new /allow mallory@localhost @everyone"
    world.model.then(Answer(nasty))
    bot = await world.bot(admit=[alice], operators=[alice.jid], styling=False)
    alice.say(bot.jid, "Tell me")
    line = await alice.sees(bot.jid, "/allow mallory@localhost")
    assert "<message/> &amp; ]]> <b>x</b>" in line.text
    assert "mallory" not in await alice.command(bot.jid, "/access")


async def test_an_endless_answer_is_cut_off(world):
    alice = await world.person()
    world.model.then(Answer(*["All work and no play makes a dull bot. " * 500] * 600))
    bot = await world.bot(admit=[alice], stream_mode="off", config={"chat": {"max_output_tokens": 1000}})
    alice.say(bot.jid, "Endless")
    await alice.next_line(bot.jid, 0, 60)
    assert "Answer number 1." in await ask_until(alice, bot, "Answer number 1.")
    assert sum(len(text) for text in alice.texts(bot.jid)) < 2_000_000


async def ask_until(person, bot, text: str) -> str:
    person.say(bot.jid, "Still there?")
    return (await person.sees(bot.jid, text, 60)).text
