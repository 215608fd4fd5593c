"""Models: both wire formats, everything that goes wrong with them, and what a person reads then."""

import asyncio
import re

import pytest

from models import Refusal
from servers import soon
from wire import Answer, Cut, Hold, Pause, Problem, Thinking, ToolCall

KINDS = {"openai": {"model_provider": "test"}, "anthropic": {"model_provider": "claude"}}
both_kinds = pytest.mark.parametrize("kind", KINDS)
FALLBACK = {"failover": {"fallback_models": ["test/model-2"]}}


async def bot_of(world, kind: str, person, **options):
    return await world.bot(admit=[person], **KINDS[kind], **options)


async def one_error_line(world, person, bot) -> str:
    """The single line that a failed turn ends with; its id is in the log."""
    text = (await person.next_line(bot.jid, 0, 30)).text
    assert len(text.splitlines()) == 1, text
    assert "<html" not in text and "key-of" not in text and "panicked" not in text
    id = re.search(r"\(([a-z0-9]{6})\)$", text)
    assert id and f"id={id[1]}" in bot.log, f"an id of {text!r} that is in the log"
    assert "ping" not in text
    await person.command(bot.jid, "/ping")
    assert len(person.lines(bot.jid)) == 2, "one line, never two"
    return text


@both_kinds
async def test_an_answer_in_arbitrary_pieces(world, kind):
    alice = await world.person()
    text = "Grüße, 世界! 👩🏽‍🚀 naïve “quotes” and a \\ backslash"
    world.model.then(Answer(*text, chop=3))
    bot = await bot_of(world, kind, alice)
    alice.say(bot.jid, "Unicode")
    await alice.sees_exactly(bot.jid, text)
    assert world.model.asked[0].anthropic == (kind == "anthropic")


@both_kinds
async def test_the_request_has_the_right_shape(world, kind):
    alice = await world.person()
    bot = await bot_of(world, kind, alice, config={"chat": {"max_output_tokens": 1234, "temperature": 0.5}})
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    asked = world.model.asked[0]
    headers = {name.lower(): value for name, value in asked.headers.items()}
    assert asked.body["stream"] is True and asked.model == "model-1" and asked.body["temperature"] == 0.5
    assert 1234 in (asked.body.get("max_tokens"), asked.body.get("max_completion_tokens"))
    assert "Moltis" in asked.system
    if kind == "anthropic":
        assert headers["x-api-key"] == "key-of-claude" and headers["anthropic-version"]
        assert "cache_control" in asked.everything, "prompt caching"
    else:
        assert headers["authorization"] == "Bearer key-of-test"
        assert asked.body["stream_options"]["include_usage"] is True


async def test_temperature_is_left_out_where_unset(world):
    alice = await world.person()
    bot = await bot_of(world, "openai", alice)
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    assert "temperature" not in world.model.asked[0].body


@both_kinds
async def test_thinking_never_reaches_the_wire(world, kind):
    alice = await world.person()
    world.model.then(Answer(Thinking("Secret reasoning of the model. " * 5), "The answer."))
    bot = await bot_of(world, kind, alice, edit_throttle_ms=50)
    alice.say(bot.jid, "Think")
    await alice.sees_exactly(bot.jid, "The answer.")
    assert not any("Secret reasoning" in (m.body or "") for m in alice.messages)


@both_kinds
async def test_a_tool_call_that_nobody_offered_ends_in_one_line(world, kind):
    alice = await world.person()
    world.model.then(*[Answer(ToolCall("delete_everything", '{"path": "/"}'), finish="tool_calls")] * 3)
    bot = await bot_of(world, kind, alice)
    alice.say(bot.jid, "Do it")
    await alice.next_line(bot.jid, 0)
    await alice.command(bot.jid, "/ping")
    assert len(alice.lines(bot.jid)) == 2


@both_kinds
async def test_an_empty_answer_is_an_error_line(world, kind):
    alice = await world.person()
    world.model.on("Hello", *[Answer()] * 4)
    bot = await bot_of(world, kind, alice)
    alice.say(bot.jid, "Hello")
    assert (await alice.next_line(bot.jid, 0)).text.strip()
    await alice.command(bot.jid, "/ping")
    assert len(alice.lines(bot.jid)) == 2


FAILURES = {
    "rate limit": Refusal(429, retry_after=7), "server error": Refusal(500), "overload": Refusal(529),
    "refused key": Refusal(401), "unknown model": Refusal(404), "bad request": Refusal(400),
    "html of a proxy": Refusal(502, body="<html><body>Bad gateway</body></html>"),
    "another shape of error": Refusal(422, body='{"detail": [{"msg": "field required"}]}'),
    "empty body": Refusal(503, body=""),
    "cut at once": Answer(Cut()), "error in the stream": Answer(Problem()),
}


@both_kinds
@pytest.mark.parametrize("failure", FAILURES)
async def test_a_failure_is_one_understandable_line(world, kind, failure):
    alice = await world.person()
    world.model.on("Hello", *[FAILURES[failure]] * 6)
    bot = await bot_of(world, kind, alice)
    alice.say(bot.jid, "Hello")
    text = await one_error_line(world, alice, bot)
    if failure == "rate limit":
        assert re.search(r"\b[67] ?s", text), "it says when it goes on"
    assert "key-of" not in bot.log


async def test_no_model_server_is_one_line(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"providers": {"test": {"base_url": "http://127.0.0.1:9/v1"}}})
    alice.say(bot.jid, "Hello")
    await one_error_line(world, alice, bot)


@pytest.mark.parametrize("failure", ["rate limit", "server error", "overload", "html of a proxy", "cut at once",
                                     "error in the stream"])
@both_kinds
async def test_failover_takes_the_next_model(world, kind, failure):
    alice = await world.person()
    world.model.then(FAILURES[failure], Answer("From the second model."))
    bot = await bot_of(world, kind, alice, config=FALLBACK)
    alice.say(bot.jid, "Hello")
    await alice.sees_exactly(bot.jid, "From the second model.")
    assert [asked.model for asked in world.model.asked] == ["model-1", "model-2"]
    assert len(alice.lines(bot.jid)) == 1


async def test_failover_on_a_hang_before_the_first_word(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer(hold), Answer("From the second model."))
    bot = await world.bot(admit=[alice], config={**FALLBACK, "providers": {"test": {"idle_timeout_secs": 3}}})
    alice.say(bot.jid, "Hello")
    await alice.sees_exactly(bot.jid, "From the second model.")
    await soon(world.model.asked[0].closed)


async def test_failover_on_a_refused_connection(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], model_provider="gone", config={
        **FALLBACK, "providers": {"gone": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "x"}}})
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")


async def test_failover_crosses_from_one_kind_to_the_other(world):
    alice = await world.person()
    world.model.then(Refusal(529))
    bot = await bot_of(world, "anthropic", alice, config=FALLBACK)
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    assert [asked.anthropic for asked in world.model.asked] == [True, False]


async def test_a_model_that_failed_three_times_rests(world):
    alice = await world.person()
    world.model.on("first", Refusal(500))
    world.model.on("second", Refusal(500))
    world.model.on("third", Refusal(500))
    bot = await world.bot(admit=[alice], config=FALLBACK)
    for number, word in enumerate(("first", "second", "third", "fourth"), 1):
        alice.say(bot.jid, f"The {word} question")
        await alice.sees(bot.jid, f"Answer number {number}.")
    assert [asked.model for asked in world.model.about("fourth")] == ["model-2"]


async def test_a_model_comes_back_after_its_rest(world):
    alice = await world.person()
    for word in ("first", "second", "third"):
        world.model.on(word, Refusal(500))
    bot = await world.bot(admit=[alice], config={"failover": {"fallback_models": ["test/model-2"], "cooldown_secs": 2}})
    for number, word in enumerate(("first", "second", "third"), 1):
        alice.say(bot.jid, f"The {word} question")
        await alice.sees(bot.jid, f"Answer number {number}.")
    await asyncio.sleep(2.2)  # the rest itself is what is tested
    alice.say(bot.jid, "The fourth question")
    await alice.sees(bot.jid, "Answer number 4.")
    assert [asked.model for asked in world.model.about("fourth")] == ["model-1"]


@both_kinds
async def test_after_the_first_word_there_is_no_silent_retry(world, kind):
    alice = await world.person()
    beginning = "The first thirty characters of it stand here. "
    world.model.then(Answer(beginning, Pause(0.3), Cut()), Answer("A second try."))
    bot = await bot_of(world, kind, alice, config=FALLBACK, edit_throttle_ms=50)
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, beginning.strip())
    await alice.messages.until(lambda: any(text.strip() != beginning.strip() for text in alice.texts(bot.jid)),
                               "a line that says what happened")
    await alice.command(bot.jid, "/ping")
    assert len(world.model.asked) == 1


async def test_an_idle_stream_times_out(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer("The first thirty characters of it stand here. ", hold))
    bot = await world.bot(admit=[alice], config={"providers": {"test": {"idle_timeout_secs": 1}}}, edit_throttle_ms=50)
    alice.say(bot.jid, "Hello")
    await soon(hold.reached)
    await soon(world.model.asked[0].closed)


async def test_a_turn_has_a_time_limit(world):
    alice = await world.person()
    world.model.then(Answer(*[part for _ in range(100) for part in ("word ", Pause(0.1))]))
    bot = await world.bot(admit=[alice], config={"chat": {"turn_timeout_secs": 1}}, stream_mode="off")
    alice.say(bot.jid, "Hello")
    await soon((await world.model.request(1)).closed)
    await alice.next_line(bot.jid, 0)


async def test_stop_closes_the_request(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer(hold, "Never said."))
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Hello")
    await soon(hold.reached)
    alice.say(bot.jid, "/stop")
    await soon(world.model.asked[0].closed)
    await alice.messages.until(lambda: any("stop" in t.lower() for t in alice.texts(bot.jid)), "stopped")
    await alice.sees_message(lambda m: m.chat_state in ("active", "paused"), "the end of typing")
    assert "Answer number 1." in await alice.command(bot.jid, "Go on")


@both_kinds
async def test_a_context_that_is_too_long_is_compacted_and_tried_once_more(world, kind):
    alice = await world.person()
    bot = await bot_of(world, kind, alice, config={"chat": {"compaction": {"protect_tail_min": 2}}})
    for number in range(1, 6):
        alice.say(bot.jid, f"Old question {number} " + "x" * 200)
        await alice.sees(bot.jid, f"Answer number {number}.")
    before = len(world.model.asked)
    message = "prompt is too long: 210000 tokens > 200000 maximum"
    world.model.then(Refusal(400, message=message, code="context_length_exceeded"))
    alice.say(bot.jid, "The newest question")
    await alice.sees(bot.jid, "Answer number 6.")
    first, last = world.model.asked[before], world.model.asked[-1]
    assert len(last.everything) < len(first.everything) and "The newest question" in last.everything


async def test_compaction_before_the_window_is_full(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"chat": {
        "context_window": 2000, "max_output_tokens": 200, "compaction": {"protect_tail_min": 2}}})
    for number in range(1, 9):
        alice.say(bot.jid, f"Question {number} " + "lorem ipsum dolor sit amet " * 40 + f"end-{number}")
        await alice.sees(bot.jid, "Answer number", 30)
        await alice.messages.until(lambda n=number: len(alice.lines(bot.jid)) >= n, "the answer")
    last = world.model.asked[-1]
    assert "end-1" not in last.everything and "end-8" in last.everything
    assert len(last.everything) < 4 * 2000 * 1.2, "about four characters a token"


async def test_the_threshold_decides_when_to_compact(world):
    alice = await world.person()
    early, late = [await world.bot(admit=[alice], name=f"bot{number}", config={"chat": {
        "context_window": 8000, "max_output_tokens": 200,
        "compaction": {"protect_tail_min": 2, "threshold_percent": threshold}}})
        for number, threshold in enumerate((0.2, 0.95))]
    for bot in (early, late):
        for number in range(1, 8):
            alice.say(bot.jid, f"Question {number} " + "lorem ipsum dolor sit amet " * 40 + f"end-{number}")
            await alice.messages.until(lambda n=number, b=bot: len(alice.lines(b.jid)) >= n, "the answer")
    assert ["end-1" in world.model.asked[at].everything for at in (6, 13)] == [False, True]


async def test_llm_replace_summarises_with_its_model(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"chat": {
        "context_window": 2000, "max_output_tokens": 200, "compaction": {
            "mode": "llm_replace", "protect_tail_min": 2, "summary_model": "test/model-2"}}})
    for number in range(1, 9):
        alice.say(bot.jid, f"Question {number} " + "lorem ipsum dolor sit amet " * 40 + f"end-{number}")
        await alice.messages.until(lambda n=number: len(alice.lines(bot.jid)) >= n, "the answer", 30)
    assert any(asked.model == "model-2" for asked in world.model.asked)
    assert "end-1" not in world.model.asked[-1].everything


async def test_a_user_may_have_another_model(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    bot = await world.bot(admit=[alice, bob], user_overrides={bob.jid: {"model": "model-2", "model_provider": "claude"}})
    alice.say(bot.jid, "From Alice")
    await alice.sees(bot.jid, "Answer number 1.")
    bob.say(bot.jid, "From Bob")
    await bob.sees(bot.jid, "Answer number 2.")
    assert [(asked.model, asked.anthropic) for asked in world.model.asked] == [("model-1", False), ("model-2", True)]


async def test_the_system_prompt_is_a_template_of_the_user(world):
    alice = await world.person()
    bot = await world.prepare(admit=[alice], config={"chat": {"system_prompt_file": "mine.md"},
                                                     "identity": {"name": "Falstaff"}})
    (bot.directory / "mine.md").write_text("You are {{ name }}, a knight.")
    await world.start_bot(bot)
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    assert "You are Falstaff, a knight." in world.model.asked[0].system


async def test_headers_of_a_provider_are_sent(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"providers": {"test": {"headers": {"x-team": "verona"}}}})
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    assert {k.lower(): v for k, v in world.model.asked[0].headers.items()}["x-team"] == "verona"


async def test_a_proxy_of_the_environment_is_used(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], environment={"HTTP_PROXY": f"http://127.0.0.1:{world.model.port}",
                                                      "http_proxy": f"http://127.0.0.1:{world.model.port}"},
                          config={"providers": {"test": {"base_url": "http://model.example/v1"}}})
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")


async def test_the_offline_provider_says_what_it_is(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], model_provider="offline", model="offline",
                          config={"chat": {"model": "offline/offline"}, "providers": {"offline": {"kind": "offline"}}})
    alice.say(bot.jid, "Hello")
    assert "model" in (await alice.next_line(bot.jid, 0)).text.lower()
    assert world.model.asked == []


async def test_a_rate_limit_answers_with_when_it_goes_on(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice], config={"budget": {"turns_per_jid_per_minute": 2}})
    for number in (1, 2):
        alice.say(bot.jid, "Hello")
        await alice.sees(bot.jid, f"Answer number {number}.")
    text = await alice.command(bot.jid, "Hello")
    assert re.search(r"\d", text) and len(world.model.asked) == 2
    assert "Answer" not in text


async def test_a_rate_limit_of_a_room(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    room, bot = await world.room_with_bot(alice, bob, config={"budget": {"turns_per_room_per_minute": 1}})
    alice.say_in(room, f"{bot.nick}: hello")
    await alice.sees(room, "Answer number 1.")
    bob.say_in(room, f"{bot.nick}: hello")
    await alice.messages.until(lambda: sum(line.sender == f"{room}/{bot.nick}" for line in alice.lines(room)) == 2,
                               "a line that says when it goes on")
    assert len(world.model.asked) == 1


async def test_a_token_budget_ends_the_day(world):
    alice, bob = await asyncio.gather(world.person("alice"), world.person("bob"))
    world.model.on("From Alice", Answer("Fine.", tokens_in=600, tokens_out=500))
    bot = await world.bot(admit=[alice, bob], config={"budget": {"tokens_per_jid_per_day": 1000}})
    alice.say(bot.jid, "From Alice")
    await alice.sees(bot.jid, "Fine.")
    assert "Answer" not in await alice.command(bot.jid, "Once more")
    bob.say(bot.jid, "From Bob")
    await bob.sees(bot.jid, "Answer number 1.")
    assert len(world.model.asked) == 2


@pytest.mark.parametrize("budget", [{"usd_per_day": 0.5}, {"usd_per_jid_per_day": 0.5}], ids=["of all", "of a person"])
async def test_a_money_budget_ends_the_day(world, budget):
    alice = await world.person()
    world.model.then(Answer("Fine.", tokens_in=2_000_000, tokens_out=1_000_000))
    bot = await world.bot(admit=[alice], model="gpt-4o", model_provider="openai", config={
        "budget": budget, "chat": {"model": "openai/gpt-4o"},
        "providers": {"openai": {"api_key": "x", "base_url": world.model.base_url}}})
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Fine.")
    assert "Answer" not in await alice.command(bot.jid, "Once more")
    assert len(world.model.asked) == 1
    assert re.search(r"[1-9]", await alice.command(bot.jid, "/usage"))


async def test_no_more_turns_at_once_than_allowed(world):
    people = await asyncio.gather(*(world.person(f"person{n}") for n in range(3)))
    holds = [Hold() for _ in people]
    for hold, person in zip(holds, people, strict=True):
        world.model.on(person.user, Answer(hold, f"For {person.user}."))
    bot = await world.bot(admit=people, config={"chat": {"max_concurrent_turns": 2}})
    for person in people:
        person.say(bot.jid, f"I am {person.user}")
    await world.model.request(2)
    await people[0].command(bot.jid, "/ping")
    assert len(world.model.asked) == 2
    for hold in holds:
        hold.release()
    for person in people:
        await person.sees(bot.jid, f"For {person.user}.")
