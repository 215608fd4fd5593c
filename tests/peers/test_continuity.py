"""Nothing lost, nothing doubled: restarts, cut and frozen connections, kill -9, SIGTERM, time away."""

import asyncio

import pytest

from person import Person
from servers import soon
from world import PASSWORD
from wire import Answer, Hold

BEGINNING = "The first thirty characters of it stand here. "


async def exactly(person, peer: str, texts: list[str], bot, seconds: float = 60) -> None:
    """Waits for these texts from `peer`, then for one more answer, and checks that there was nothing else."""
    for text in texts:
        await person.sees(peer, text, seconds)
    sentinel = await person.command(bot.jid, "/ping")
    expected = sorted(texts + ([sentinel] if peer == bot.jid else []))
    assert sorted(person.texts(peer)) == expected


async def test_a_message_from_before_the_start_is_answered_once(world):
    alice = await world.person()
    bot = await world.prepare(admit=[alice])
    alice.say(bot.jid, "While you were away")
    await alice.flush()
    await world.start_bot(bot)
    await exactly(alice, bot.jid, ["Answer number 1."], bot)
    assert len(world.model.asked) == 1


async def test_messages_of_a_time_away_are_answered_and_none_twice(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Before")
    await alice.sees(bot.jid, "Answer number 1.")
    bot.kill()
    alice.say(bot.jid, "First of two")
    alice.say(bot.jid, "Second of two")
    await alice.flush()
    await world.start_bot(bot)
    await alice.sees(bot.jid, "Answer number 2.", 60)
    await alice.messages.until(
        lambda: any("Second of two" in asked.last for asked in world.model.asked), "the second message answered")
    await alice.command(bot.jid, "/ping")
    assert len(world.model.about("First of two")) <= 2 and "First of two" in world.model.asked[-1].everything
    assert len(world.model.about("Before")) == 1
    assert len([text for text in alice.texts(bot.jid) if "Answer" in text]) == len(world.model.asked) <= 3


async def test_a_room_is_caught_up_after_a_time_away(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    alice.say_in(room, f"{bot.nick}: before")
    await alice.sees(room, "Answer number 1.")
    bot.kill()
    alice.say_in(room, "chatter")
    alice.say_in(room, f"{bot.nick}: while away")
    await alice.flush()
    await world.start_bot(bot)
    await alice.sees(room, "Answer number 2.", 60)
    alice.say_in(room, f"{bot.nick}: after")
    await alice.sees(room, "Answer number 3.")
    assert len(alice.lines(room)) == 3 == len(world.model.asked)
    assert "while away" in world.model.asked[1].last


async def test_kill_9_before_the_turn_begins(world):
    """The message has reached the bot's server but the bot is dead."""
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    bot.process.kill()
    alice.say(bot.jid, "A question")
    bot.process.wait()
    await alice.flush()
    await world.start_bot(bot)
    await exactly(alice, bot.jid, ["Answer number 1."], bot)


async def test_kill_9_while_the_model_thinks(world):
    alice, hold = await world.person(), Hold()
    world.model.on("A question", Answer(hold, "Too late."))
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "A question")
    await soon(hold.reached)
    bot.kill()
    await world.start_bot(bot)
    await exactly(alice, bot.jid, ["Answer number 1."], bot)
    assert len(world.model.about("A question")) == 2


async def test_kill_9_in_the_middle_of_an_answer(world):
    alice, hold = await world.person(), Hold()
    world.model.on("A question", Answer(BEGINNING, hold, "Too late."))
    bot = await world.bot(admit=[alice], edit_throttle_ms=100)
    alice.say(bot.jid, "A question")
    await alice.sees(bot.jid, BEGINNING.strip())
    bot.kill()
    await world.start_bot(bot)
    await alice.sees(bot.jid, "Answer number 1.", 60)
    await alice.command(bot.jid, "/ping")
    # The half of an answer is corrected to the whole one, and does not stand beside it.
    assert len(alice.lines(bot.jid)) == 2, alice.texts(bot.jid)


async def test_kill_9_between_the_model_and_the_person(world):
    """The answer is complete and stored but has not left."""
    alice, hold = await world.person(), Hold()
    proxy = await world.proxy()
    world.model.on("A question", Answer(hold, "The answer."))
    bot = await world.bot(admit=[alice], proxy=proxy)
    alice.say(bot.jid, "A question")
    await soon(hold.reached)
    proxy.freeze()
    hold.release()
    await soon(world.model.asked[0].completed)
    bot.kill()
    proxy.cut()
    proxy.thaw()
    await world.start_bot(bot)
    await alice.next_line(bot.jid, 0, 60)
    await alice.command(bot.jid, "/ping")
    assert len(alice.lines(bot.jid)) == 2, alice.texts(bot.jid)


async def test_kill_9_after_the_answer(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "A question")
    await alice.sees(bot.jid, "Answer number 1.")
    bot.kill()
    await world.start_bot(bot)
    await exactly(alice, bot.jid, ["Answer number 1."], bot)
    assert len(world.model.asked) == 1


async def test_kill_9_in_a_room(world):
    alice, hold = await world.person(), Hold()
    world.model.on("A question", Answer(hold, "Too late."))
    room, bot = await world.room_with_bot(alice, admit=[alice])
    alice.say_in(room, f"{bot.nick}: A question")
    await soon(hold.reached)
    bot.kill()
    await world.start_bot(bot)
    await exactly(alice, room, ["Answer number 1."], bot)


@pytest.mark.limit(280)
async def test_kill_9_again_and_again(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    for number in range(1, 5):
        alice.say(bot.jid, f"Question {number}")
        await alice.flush()
        bot.kill()
        await world.start_bot(bot)
        await alice.messages.until(lambda n=number: len(alice.lines(bot.jid)) >= n, f"answer {number}", 60)
    await alice.command(bot.jid, "/ping")
    assert len(alice.lines(bot.jid)) == 5, alice.texts(bot.jid)


@pytest.mark.limit(280)
async def test_a_cut_connection_is_resumed_and_nobody_sees_it(world):
    alice = await world.person()
    proxy = await world.proxy()
    room, bot = await world.room_with_bot(alice, admit=[alice], proxy=proxy)
    watcher = await world.watcher()
    start, seen = len(watcher.presences), len(alice.presences)
    for number in range(1, 4):
        connections = proxy.accepted
        proxy.cut()
        alice.say(bot.jid, f"Question {number}")
        await alice.sees(bot.jid, f"Answer number {number}.", 60)
        assert proxy.accepted > connections
    assert not any(p.type == "unavailable" for p in watcher.presences[start:] if p.sender.startswith(bot.jid))
    assert not any(p.type == "unavailable" for p in alice.presences[seen:] if p.sender == f"{room}/{bot.nick}")
    alice.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number 4.")


async def test_cuts_with_messages_under_way_lose_and_double_none(world):
    people = await asyncio.gather(*(world.person(f"person{n}") for n in range(4)))
    proxy = await world.proxy()
    bot = await world.bot(admit=people, proxy=proxy, config={"budget": {"turns_per_jid_per_minute": 0}})

    async def talk(person) -> None:
        for number in range(8):
            person.say(bot.jid, f"{person.user} asks {number}")
            await asyncio.sleep(0.05)  # spreads the messages over the cuts
    talking = asyncio.gather(*(talk(person) for person in people))
    for _ in range(3):
        await asyncio.sleep(0.12)
        proxy.cut()
    await talking
    for person in people:
        await person.messages.until(lambda p=person: len(p.lines(bot.jid)) >= 8, f"eight answers to {person.user}", 60)
    for person in people:
        await person.command(bot.jid, "/ping")
        texts = person.texts(bot.jid)
        assert len(texts) == 9 and len(set(texts)) == 9, texts
    assert len(world.model.asked) == 32


async def test_a_cut_while_an_answer_streams(world):
    alice, hold = await world.person(), Hold()
    proxy = await world.proxy()
    world.model.then(Answer(BEGINNING, hold, "An end."))
    bot = await world.bot(admit=[alice], proxy=proxy, edit_throttle_ms=100)
    alice.say(bot.jid, "Tell me")
    await alice.sees(bot.jid, BEGINNING.strip())
    proxy.cut()
    hold.release()
    await alice.sees(bot.jid, "An end.", 60)
    await alice.command(bot.jid, "/ping")
    assert alice.texts(bot.jid)[0] == BEGINNING + "An end." and len(alice.lines(bot.jid)) == 2


async def test_a_frozen_connection_delivers_once_it_thaws(world):
    alice = await world.person()
    proxy = await world.proxy()
    bot = await world.bot(admit=[alice], proxy=proxy)
    proxy.freeze()
    alice.say(bot.jid, "A question")
    await alice.flush()
    await asyncio.sleep(1)  # long enough that bytes lie in the proxy
    proxy.thaw()
    await exactly(alice, bot.jid, ["Answer number 1."], bot)


@pytest.mark.limit(240)
async def test_a_dead_link_is_noticed(world):
    alice = await world.person()
    proxy = await world.proxy()
    bot = await world.bot(admit=[alice], proxy=proxy)
    connections = proxy.accepted
    proxy.blackhole()
    alice.say(bot.jid, "A question")
    await alice.sees(bot.jid, "Answer number 1.", 180)
    assert proxy.accepted > connections
    await exactly(alice, bot.jid, ["Answer number 1."], bot)


async def test_the_server_may_be_down_when_the_bot_starts(world):
    alice = await world.person()
    proxy = await world.proxy()
    proxy.refuse()
    bot = await world.prepare(admit=[alice], proxy=proxy)
    bot.launch()
    await bot.logged(r"connect")
    assert bot.process.poll() is None
    await proxy.start()
    await world.online(bot)
    alice.say(bot.jid, "A question")
    await alice.sees(bot.jid, "Answer number 1.")


@pytest.mark.limit(280)
async def test_a_server_restart_loses_and_doubles_nothing(world):
    alice, hold = await world.person(), Hold()
    world.model.on("during", Answer(hold, "The answer to it."))
    room, bot = await world.room_with_bot(alice, admit=[alice])
    alice.say(bot.jid, "before")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.say(bot.jid, "during")
    await soon(hold.reached)
    await world.server.stop()
    hold.release()
    await world.server.start()
    await world.reopen()
    await alice.sees(bot.jid, "The answer to it.", 120)
    await world.responds(bot.full)
    await exactly(alice, bot.jid, ["Answer number 1.", "The answer to it."], bot)
    start = len(alice.presences)
    await alice.join(room)
    await alice.sees_occupant(room, bot.nick, seconds=120, start=start)
    alice.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number 2.", 60)


@pytest.mark.limit(280)
async def test_a_killed_server_comes_back(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "before")
    await alice.sees(bot.jid, "Answer number 1.")
    await world.server.kill()
    await world.server.start()
    await world.reopen()
    await world.responds(bot.full)
    alice.say(bot.jid, "after")
    await alice.sees(bot.jid, "Answer number 2.", 60)
    assert len(world.model.asked) == 2


async def test_the_same_message_twice_is_answered_once(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    id = alice.say(bot.jid, "A question")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.say(bot.jid, "A question", id=id)
    await exactly(alice, bot.jid, ["Answer number 1."], bot)


async def test_the_same_id_of_two_people_is_two_messages(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    bot = await world.bot(admit=[alice, bob])
    alice.say(bot.jid, "A question", id="the-same-id")
    await alice.sees(bot.jid, "Answer number 1.")
    bob.say(bot.jid, "A question", id="the-same-id")
    await bob.sees(bot.jid, "Answer number 2.")


async def test_an_identical_text_with_another_id_is_another_message(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Again")
    await alice.sees(bot.jid, "Answer number 1.")
    alice.say(bot.jid, "Again")
    await alice.sees(bot.jid, "Answer number 2.")


async def test_sigterm_ends_within_five_seconds_and_says_stopped(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer(hold, "Never said."))
    bot = await world.bot(admit=[alice])
    start = len((await world.watcher()).presences)
    alice.say(bot.jid, "A question")
    await soon(hold.reached)
    assert await bot.stop() < 5
    assert bot.process.returncode == 0
    line = await alice.next_line(bot.jid, 0)
    assert "stop" in line.text.lower()
    await world.offline(bot, start)
    await soon(world.model.asked[0].closed)
    await world.start_bot(bot)
    await alice.command(bot.jid, "/ping")
    assert len(alice.lines(bot.jid)) == 2, "what was stopped is not taken up again"


async def test_sigterm_while_the_server_is_gone(world):
    proxy = await world.proxy()
    bot = await world.bot(proxy=proxy)
    proxy.freeze()
    assert await bot.stop() < 6
    assert bot.process.returncode == 0


async def test_sigterm_closes_the_stream(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    start = len((await world.watcher()).presences)
    assert await bot.stop() < 5
    await world.offline(bot, start)


async def test_bot_restarts_keep_the_conversation(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "My cat is called Tybalt")
    await alice.sees(bot.jid, "Answer number 1.")
    await bot.stop()
    await world.start_bot(bot)
    alice.say(bot.jid, "What is its name?")
    await alice.sees(bot.jid, "Answer number 2.")
    assert "Tybalt" in world.model.asked[1].everything


async def test_another_resource_with_the_same_name_is_not_fought(world):
    """`conflict`: the bot takes another resource and leaves the other session alone."""
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    rival = Person(world.server, bot.jid.split("@")[0], PASSWORD, resource="moltis")
    world.people.append(rival)
    await rival.login(available=False)
    alice.say(bot.jid, "Are you there?")
    await alice.sees(bot.jid, "Answer number 1.", 60)
    await rival.must("get", rival.domain, "<ping xmlns='urn:xmpp:ping'/>")
