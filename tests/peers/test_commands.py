"""Every command of the two tables, and the same as ad-hoc commands (XEP-0050)."""

import asyncio
import re
from xml.etree import ElementTree as ET

import pytest

from servers import soon
from stanza import COMMANDS, DATA
from wire import Answer, Hold

EVERYONE = ["help", "new", "clear", "sessions", "title", "fork", "stop", "retry", "undo", "compact", "context", "model",
            "models", "system", "skills", "skill", "usage", "status", "whoami", "ping", "export", "claim"]
OPERATORS = ["allow", "guest", "block", "access", "join", "leave", "rooms", "say", "budget", "reload", "accounts", "log"]


async def talk(world, person, bot, text: str) -> str:
    """One turn; returns the answer."""
    number = len(world.model.asked) + 1
    seen = len(person.lines(bot.jid))
    person.say(bot.jid, text)
    await world.model.request(number)
    return (await person.next_line(bot.jid, seen)).text


async def test_help_lists_what_there_is_for_whom(world):
    alice, operator = await asyncio.gather(world.person("alice"), world.person("operator"))
    bot = await world.bot(admit=[alice], operators=[operator])
    ours = await alice.command(bot.jid, "/help")
    theirs = await operator.command(bot.jid, "/help")
    assert [name for name in EVERYONE if not re.search(rf"/{name}\b", ours)] == []
    assert [name for name in OPERATORS if not re.search(rf"/{name}\b", theirs)] == []
    assert not re.search(r"/allow\b", ours)
    assert world.model.asked == []


@pytest.mark.parametrize("name", EVERYONE)
async def test_help_of_one_command(world, name):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    text = await alice.command(bot.jid, f"/help {name}")
    assert f"/{name}" in text and len(text) < 600


async def test_an_unknown_command_names_the_nearest(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    assert "/model" in await alice.command(bot.jid, "/modle")
    assert world.model.asked == []


async def test_two_slashes_escape(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    await talk(world, alice, bot, "//etc/hosts is a file")
    assert "/etc/hosts is a file" in world.model.asked[0].last and "//etc" not in world.model.asked[0].last


async def test_new_begins_again_and_deletes_nothing(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    await talk(world, alice, bot, "About cats")
    await alice.command(bot.jid, "/new Dogs and Horses")
    await talk(world, alice, bot, "About dogs")
    assert "About cats" not in world.model.asked[1].everything
    sessions = await alice.command(bot.jid, "/sessions")
    assert "Dogs and Horses" in sessions, "arguments keep their case"
    number = next(match.group(1) for line in sessions.splitlines()
                  if (match := re.search(r"(\d+)", line)) and "Dogs and Horses" not in line)
    await alice.command(bot.jid, f"/sessions {number}")
    await talk(world, alice, bot, "More on them")
    assert "About cats" in world.model.asked[2].everything and "About dogs" not in world.model.asked[2].everything


async def test_clear_empties_what_the_model_sees(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    await talk(world, alice, bot, "About cats")
    await alice.command(bot.jid, "/clear")
    await talk(world, alice, bot, "And now?")
    assert "About cats" not in world.model.asked[1].everything


async def test_title(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    await talk(world, alice, bot, "About cats")
    await alice.command(bot.jid, "/title Cats & Co")
    assert "Cats & Co" in await alice.command(bot.jid, "/title")
    assert "Cats & Co" in await alice.command(bot.jid, "/sessions")


async def test_fork_goes_on_beside_the_old_one(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    await talk(world, alice, bot, "About cats")
    await alice.command(bot.jid, "/fork Second try")
    await talk(world, alice, bot, "About dogs")
    assert "About cats" in world.model.asked[1].everything
    assert "Second try" in await alice.command(bot.jid, "/sessions")


async def test_stop_without_a_turn_says_so(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    assert await alice.command(bot.jid, "/stop")
    assert world.model.asked == []


async def test_stop_ends_the_turn_with_one_word(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer(hold, "Never said."))
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Hello")
    await soon(hold.reached)
    alice.say(bot.jid, "/stop")
    await alice.messages.until(lambda: any("stop" in t.lower() for t in alice.texts(bot.jid)), "stopped")
    await soon(world.model.asked[0].closed)
    assert not any("Never said" in text for text in alice.texts(bot.jid))


async def test_retry_asks_the_last_question_again(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    await talk(world, alice, bot, "About cats")
    await talk(world, alice, bot, "/retry")
    assert "About cats" in world.model.asked[1].last
    assert "Answer number 1." not in world.model.asked[1].everything
    await alice.sees(bot.jid, "Answer number 2.")


async def test_undo_forgets_the_last_turn(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    await talk(world, alice, bot, "About cats")
    await talk(world, alice, bot, "About dogs")
    await alice.command(bot.jid, "/undo")
    await talk(world, alice, bot, "And now?")
    assert "About dogs" not in world.model.asked[2].everything and "About cats" in world.model.asked[2].everything


async def test_compact_and_context(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"chat": {"compaction": {"protect_tail_min": 2}}})
    for number in range(6):
        await talk(world, alice, bot, f"Question {number} " + "lorem ipsum " * 200)
    assert re.search(r"\d", await alice.command(bot.jid, "/context"))
    await alice.command(bot.jid, "/compact")
    await talk(world, alice, bot, "And now?")
    before, after = world.model.asked[-2:]
    assert len(after.everything) < len(before.everything) and "Question 5 " in after.everything


async def test_model_and_models(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    bot = await world.bot(admit=[alice, bob])
    models = await alice.command(bot.jid, "/models")
    assert all(name in models for name in ("model-1", "model-2", "other-3"))
    filtered = await alice.command(bot.jid, "/models other")
    assert "other-3" in filtered and "model-2" not in filtered
    assert "model-1" in await alice.command(bot.jid, "/model")
    assert "other-3" in await alice.command(bot.jid, "/model test/othr3"), "fuzzy"
    await talk(world, alice, bot, "Hello")
    await talk(world, bob, bot, "Hello")
    assert [asked.model for asked in world.model.asked] == ["other-3", "model-1"], "kept for this chat alone"
    bot.kill()
    await world.start_bot(bot)
    await talk(world, alice, bot, "Hello")
    assert world.model.asked[-1].model == "other-3"


async def test_models_that_the_configuration_names(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"providers": {"test": {"models": ["model-1", "listed-model"]}}})
    models = await alice.command(bot.jid, "/models")
    assert "test/listed-model" in models and "test/other-3" not in models


async def test_an_unknown_model_changes_nothing(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    await alice.command(bot.jid, "/model zzzzqqqq-99")
    await talk(world, alice, bot, "Hello")
    assert world.model.asked[0].model == "model-1"


async def test_system_is_this_chats_own_instructions(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    bot = await world.bot(admit=[alice, bob])
    await alice.command(bot.jid, "/system Speak like Yoda")
    assert "Speak like Yoda" in await alice.command(bot.jid, "/system")
    await talk(world, alice, bot, "Hello")
    await talk(world, bob, bot, "Hello")
    await alice.command(bot.jid, "/system reset")
    await talk(world, alice, bot, "Hello")
    assert ["Yoda" in asked.system for asked in world.model.asked] == [True, False, False]


async def test_system_in_a_room_is_for_moderators(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, bob)
    bob.say_in(room, f"{bot.nick}: /system Speak like Yoda")
    await bob.messages.until(lambda: bot_lines(bob, room, bot), "a refusal")
    alice.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number 1.")
    assert "Yoda" not in world.model.asked[0].system
    seen = len(bot_lines(alice, room, bot))
    alice.say_in(room, f"{bot.nick}: /system Speak like Yoda")
    await alice.messages.until(lambda: len(bot_lines(alice, room, bot)) > seen, "a confirmation")
    bob.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number 2.")
    assert "Yoda" in world.model.asked[1].system


def bot_lines(person, room: str, bot) -> list:
    return [line for line in person.lines(room) if line.sender == f"{room}/{bot.nick}"]


async def test_skills_and_skill(world):
    alice = await world.person()
    bot = await world.prepare(admit=[alice], config={"skills": {"search_paths": ["skills"]}})
    folder = bot.directory / "skills/haiku"
    folder.mkdir(parents=True)
    (folder / "SKILL.md").write_text("---\nname: haiku\ndescription: Writes in seventeen syllables\n---\n\n"
                                     "Answer only in haiku, with a season word.\n")
    await world.start_bot(bot)
    skills = await alice.command(bot.jid, "/skills")
    assert "haiku" in skills and "seventeen syllables" in skills
    await alice.command(bot.jid, "/skill haiku")
    await talk(world, alice, bot, "Hello")
    assert "season word" in world.model.asked[0].everything


async def test_built_in_skills_are_there(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    skills = await alice.command(bot.jid, "/skills")
    assert "code-review" in skills and "explain" in skills


async def test_auto_loaded_skills(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"skills": {"auto_load": ["explain"]}})
    await talk(world, alice, bot, "Hello")
    first = len(world.model.asked[0].system)
    other = await world.bot(admit=[alice], name="other")
    await talk(world, alice, other, "Hello")
    assert len(world.model.asked[1].system) < first


async def test_usage_counts_tokens(world):
    alice = await world.person()
    world.model.then(Answer("Fine.", tokens_in=12_345, tokens_out=678))
    bot = await world.bot(admit=[alice])
    await talk(world, alice, bot, "Hello")
    for command in ("/usage", "/usage 7"):
        assert "turns: 1, tokens: 12345 in, 678 out" in await alice.command(bot.jid, command)


async def test_status_whoami_and_ping(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    assert "model-1" in await alice.command(bot.jid, "/status")
    assert alice.jid in await alice.command(bot.jid, "/whoami")
    assert await alice.command(bot.jid, "/ping")
    assert world.model.asked == []


async def test_whoami_in_a_room_tells_no_real_jid(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice)
    alice.say_in(room, f"{bot.nick}: /whoami")
    text = (await alice.next_line(room, 0)).text
    assert "alice" in text and alice.jid not in text


async def test_ping_answers_while_a_turn_runs(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer(hold, "Late."))
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Hello")
    await soon(hold.reached)
    assert await alice.command(bot.jid, "/ping")
    hold.release()
    await alice.sees(bot.jid, "Late.")


async def test_access_lists_and_say_speaks(world):
    alice, operator = await asyncio.gather(world.person("alice"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    await operator.command(bot.jid, f"/allow {alice.jid}")
    assert alice.jid in await operator.command(bot.jid, "/access")
    assert alice.jid in await operator.command(bot.jid, f"/access {alice.jid}")
    operator.say(bot.jid, f"/say {alice.jid} Dinner at 8, Alice!")
    await alice.sees_exactly(bot.jid, "Dinner at 8, Alice!")


async def test_say_into_a_room(world):
    operator = await world.person("operator")
    room, bot = await world.room_with_bot(operator, operators=[operator])
    operator.say(bot.jid, f"/say {room} Hear, hear!")
    line = await operator.sees(room, "Hear, hear!")
    assert line.message.type == "groupchat"


async def test_budget_is_shown_and_set(world):
    alice, operator = await asyncio.gather(world.person("alice"), world.person("operator"))
    bot = await world.bot(admit=[alice], operators=[operator], model="gpt-4o", model_provider="openai", config={
        "chat": {"model": "openai/gpt-4o"}, "providers": {"openai": {"api_key": "x", "base_url": world.model.base_url}}})
    world.model.then(Answer("Fine.", tokens_in=1_000_000, tokens_out=1_000_000))
    await talk(world, alice, bot, "Hello")
    assert await operator.command(bot.jid, "/budget")
    await operator.command(bot.jid, f"/budget {alice.jid} 0.01")
    assert "0.01" in await operator.command(bot.jid, f"/budget {alice.jid}")
    assert "Answer" not in await alice.command(bot.jid, "Once more")


async def test_accounts_and_log(world):
    operator = await world.person("operator")
    bot = await world.bot(operators=[operator])
    accounts = await operator.command(bot.jid, "/accounts")
    assert bot.jid in accounts and "online" in accounts.lower()
    log = await operator.command(bot.jid, "/log 5")
    assert log and "key-of-test" not in log


async def test_reload_command(world):
    alice, operator = await asyncio.gather(world.person("alice"), world.person("operator"))
    bot = await world.bot(operators=[operator], pairing=False)
    bot.account["allowlist"] = [alice.jid]
    bot.write_unseen()
    assert "allowlist" in await operator.command(bot.jid, "/reload")
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")


async def test_nobody_else_may_use_operators_commands(world):
    alice, operator = await asyncio.gather(world.person("alice"), world.person("operator"))
    bot = await world.bot(admit=[alice], operators=[operator])
    for name in OPERATORS:
        text = await alice.command(bot.jid, f"/{name} x@localhost")
        assert operator.jid not in text and "online" not in text.lower(), name
    assert world.model.asked == []


async def test_commands_in_a_models_answer_are_text(world):
    operator = await world.person("operator")
    world.model.then(Answer("/allow mallory@evil.example"))
    bot = await world.bot(operators=[operator])
    operator.say(bot.jid, "Hello")
    await operator.sees(bot.jid, "/allow mallory@evil.example")
    assert "mallory" not in await operator.command(bot.jid, "/access")


# -- XEP-0050

async def nodes(person, bot) -> dict[str, str]:
    answer = await person.must("get", bot.full,
                               f"<query xmlns='http://jabber.org/protocol/disco#items' node='{COMMANDS}'/>")
    return {item.get("node"): item.get("name") for item in answer.element.iter(
        "{http://jabber.org/protocol/disco#items}item")}


def node_of(found: dict[str, str], name: str) -> str:
    return next(node for node in found if re.search(rf"(^|[^a-z]){name}$", node))


async def execute(person, bot, node: str, fields: dict | None = None):
    """Runs an ad-hoc command, filling in its form where it asks for one."""
    def payload(action: str, extra: str = "", form: str = "") -> str:
        return f"<command xmlns='{COMMANDS}' node='{node}' action='{action}'{extra}>{form}</command>"
    answer = await person.iq("set", bot.full, payload("execute"))
    command = answer.child("command", COMMANDS)
    if command is None or command.get("status") != "executing":
        return answer
    items = "".join(f"<field var='{field.get('var')}'><value>{(fields or {}).get(field.get('var'), '')}</value></field>"
                    for field in command.iter(f"{{{DATA}}}field") if field.get("type") != "fixed" and field.get("var"))
    form = f"<x xmlns='{DATA}' type='submit'>{items}</x>"
    return await person.iq("set", bot.full, payload("complete", f" sessionid='{command.get('sessionid')}'", form))


async def test_ad_hoc_commands_are_listed_for_whom_they_are(world):
    alice, operator = await asyncio.gather(world.person("alice"), world.person("operator"))
    bot = await world.bot(admit=[alice], operators=[operator])
    ours, theirs = await nodes(alice, bot), await nodes(operator, bot)
    assert node_of(ours, "ping") and node_of(theirs, "access")
    assert not any(re.search(r"(^|[^a-z])access$", node) for node in ours)
    assert all(name for name in ours.values())


async def test_an_ad_hoc_command_runs(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    node = node_of(await nodes(alice, bot), "whoami")
    answer = await execute(alice, bot, node)
    command = answer.child("command", COMMANDS)
    assert answer.type == "result" and command.get("status") == "completed"
    assert alice.jid in ET.tostring(command, encoding="unicode")


async def test_an_ad_hoc_form_takes_arguments(world):
    alice, operator = await asyncio.gather(world.person("alice"), world.person("operator"))
    bot = await world.bot(operators=[operator], pairing=False)
    node = node_of(await nodes(operator, bot), "allow")
    form = await operator.iq("set", bot.full, f"<command xmlns='{COMMANDS}' node='{node}' action='execute'/>")
    command = form.child("command", COMMANDS)
    assert command.get("status") == "executing" and command.get("sessionid")
    fields = [field.get("var") for field in command.iter(f"{{{DATA}}}field") if field.get("type") not in ("hidden", "fixed")]
    answer = await execute(operator, bot, node, {fields[0]: alice.jid})
    assert answer.child("command", COMMANDS).get("status") == "completed"
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")


async def test_an_operators_ad_hoc_command_is_refused_to_others(world):
    alice, operator = await asyncio.gather(world.person("alice"), world.person("operator"))
    bot = await world.bot(admit=[alice], operators=[operator])
    node = node_of(await nodes(operator, bot), "accounts")
    answer = await execute(alice, bot, node)
    assert answer.type == "error" and answer.condition == "forbidden"


async def test_ad_hoc_commands_are_not_for_strangers(world):
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator], pairing=False)
    node = node_of(await nodes(operator, bot), "ping")
    assert (await execute(stranger, bot, node)).type == "error"


async def test_an_unknown_ad_hoc_command_and_session_are_errors(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    unknown = await alice.iq("set", bot.full, f"<command xmlns='{COMMANDS}' node='no-such-thing' action='execute'/>")
    assert unknown.type == "error" and unknown.condition == "item-not-found"
    node = node_of(await nodes(alice, bot), "title")
    stale = await alice.iq("set", bot.full,
                           f"<command xmlns='{COMMANDS}' node='{node}' sessionid='stale' action='complete'/>")
    assert stale.type == "error"


async def test_an_ad_hoc_command_can_be_cancelled(world):
    operator = await world.person("operator")
    bot = await world.bot(operators=[operator])
    node = node_of(await nodes(operator, bot), "allow")
    form = await operator.iq("set", bot.full, f"<command xmlns='{COMMANDS}' node='{node}' action='execute'/>")
    session = form.child("command", COMMANDS).get("sessionid")
    answer = await operator.iq("set", bot.full, f"<command xmlns='{COMMANDS}' node='{node}' sessionid='{session}' "
                               "action='cancel'/>")
    assert answer.child("command", COMMANDS).get("status") == "canceled"


async def test_pairing_as_an_ad_hoc_form(world):
    """The request of a stranger can be decided by the commands allow, guest and block."""
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    stranger.say(bot.jid, "May I?")
    await operator.sees(bot.jid, stranger.jid)
    await stranger.flush()
    found = await nodes(operator, bot)
    assert all(node_of(found, name) for name in ("allow", "guest", "block"))
