"""What the process shows of itself: over HTTP, to `moltis status`, and in its log."""

import asyncio
import json
import re

import aiohttp

from models import Refusal
from servers import free_port


async def get(port: int, path: str, **headers) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}{path}", headers=headers) as answer:
            return answer.status, await answer.text(), answer.content_type


def counter(text: str, name: str, **labels: str) -> float:
    """The value of a metric whose labels include these; 0 where there is none."""
    for line in text.splitlines():
        if match := re.fullmatch(rf"{name}(?:{{(.*)}})? (\S+)", line):
            if all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
                return float(match[2])
    return 0


async def test_the_status_page_shows_accounts_and_rooms_in_both_forms(world):
    alice = await world.person()
    port = free_port()
    room, bot = await world.room_with_bot(alice, config={"server": {"port": port}})
    status, text, kind = await get(port, "/status")
    assert (status, kind) == (200, "application/json")
    assert '"services":[{"name":"XMPP account bot","status":true' in text and room in text
    status, text, kind = await get(port, "/", Accept="text/html")
    assert (status, kind) == (200, "text/html") and bot.jid in text and room in text
    assert (await get(port, "/healthz"))[0] == 200
    assert (await get(port, "/readyz"))[0] == 200
    await world.server.stop()
    try:
        await bot.logged("Connection lost")
        assert (await get(port, "/readyz"))[0] == 503
        assert (await get(port, "/healthz"))[0] == 200
    finally:
        await world.server.start()


async def test_metrics_count_messages_turns_and_tokens(world):
    alice = await world.person()
    port = free_port()
    bot = await world.bot(admit=[alice], config={"server": {"port": port}})
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number 1.")
    world.model.on("fail", Refusal(400))
    alice.say(bot.jid, "fail")
    await alice.sees(bot.jid, "(")
    _, text, _ = await get(port, "/metrics")
    assert counter(text, "moltis_account_online", account="bot") == 1
    assert counter(text, "moltis_messages_accepted_total", account="bot") == 2
    assert counter(text, "moltis_turns_total", account="bot", outcome="answered") == 1
    assert counter(text, "moltis_turns_total", account="bot", outcome="failed") == 1
    assert counter(text, "moltis_tokens_total", model="test/model-1", kind="output") > 0
    assert counter(text, "moltis_conversations_open") == 1
    assert alice.user not in text, "no person is named"


async def test_metrics_can_be_switched_off(world):
    alice = await world.person()
    port = free_port()
    config = {"server": {"port": port}, "metrics": {"prometheus_endpoint": False}}
    await world.bot(admit=[alice], config=config)
    assert (await get(port, "/metrics"))[0] == 404
    assert (await get(port, "/status"))[0] == 200


async def test_a_claim_code_is_on_the_page_of_the_machine_alone(world):
    alice, port = await world.person(), free_port()
    bot = await world.bot(admit=[alice], config={"server": {"port": port}})
    code = (await bot.logged(r"/claim\s+([A-Za-z0-9-]{4,})")).group(1)
    assert code in (await get(port, "/", Accept="text/html"))[1]
    assert code not in (await get(port, "/", Accept="text/html", Host="evil.example"))[1]
    assert code not in (await get(port, "/", **{"X-Forwarded-For": "192.0.2.1"}))[1]
    await alice.command(bot.jid, f"/claim {code}")
    assert code not in (await get(port, "/", Accept="text/html"))[1]


async def test_a_port_that_is_taken_is_said_before_anything_starts(world):
    port = free_port()
    listener = await asyncio.start_server(lambda *_: None, "127.0.0.1", port)
    try:
        bot = await world.prepare(config={"server": {"port": port}})
        bot.launch()
        assert await bot.exited() == 1
        assert str(port) in bot.log and "server.port" in bot.log and "Online" not in bot.log
    finally:
        listener.close()


async def test_status_of_the_command_line(world):
    alice = await world.person()
    room, bot = await world.room_with_bot(alice, admit=[alice])
    shown = json.loads((await asyncio.to_thread(bot.run, "status", "--json")).stdout)
    assert [account["online"] for account in shown["accounts"]] == [True]
    outline = await asyncio.to_thread(bot.run, "status")
    assert outline.returncode == 0 and room in outline.stdout and bot.jid in outline.stdout
    assert await bot.stop() < 5
    after = await asyncio.to_thread(bot.run, "status")
    assert after.returncode == 1 and "moltis run" in after.stderr and "os error" not in after.stderr


async def test_the_log_is_the_life_of_the_process_and_has_no_colours(world):
    """At info nothing of what is said, and no line a message; `/log` shows an operator the same."""
    alice = await world.person()
    bot = await world.bot(operators=[alice], config={"log": {"level": "info"}})
    for text in ("First question", "Second question"):
        await alice.command(bot.jid, text)
    log = bot.log_path.read_text()
    assert "Online as" in log and "\x1b" not in log
    assert "question" not in log and alice.jid not in log, log
    shown = await alice.command(bot.jid, "/log 20")
    assert "Online as" in shown and "[3m" not in shown and "[0m" not in shown
