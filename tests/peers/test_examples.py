"""The programs of examples/, which stand on the library's public API, on real servers."""

import asyncio
import os
import subprocess

from bot import EXAMPLES
from servers import OPEN_DOMAIN, PATIENCE
from world import PASSWORD


def start(world, name: str, *arguments: str) -> subprocess.Popen:
    environment = {**os.environ, "SSL_CERT_FILE": str(world.server.authority.root)}
    return subprocess.Popen([str(EXAMPLES / name), *arguments], cwd=world.directory, env=environment, text=True,
                            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


async def test_the_echo_bot_echoes(world):
    alice = await world.person()
    user = world.server.unique("echo")
    await world.server.add_user(user, PASSWORD)
    (world.directory / "password").write_text(PASSWORD)
    bot = start(world, "echo_bot", f"{user}@localhost", "password", f"127.0.0.1:{world.server.c2s_port}")
    try:
        line = await asyncio.wait_for(asyncio.to_thread(bot.stdout.readline), PATIENCE)
        assert line.startswith("Online as"), line
        alice.say(f"{user}@localhost", "Is anybody there?")
        await alice.sees(f"{user}@localhost", "Is anybody there?")
    finally:
        bot.kill()
        bot.wait()


async def test_an_account_is_registered_by_the_first_run_and_known_to_the_second(world):
    jid = f"{world.server.unique('example')}@{OPEN_DOMAIN}"
    secrets = world.directory / "example-data" / "secrets.toml"
    secrets.parent.mkdir()
    kept = []
    for _ in range(2):
        run = start(world, "register_account", jid, str(secrets.parent), f"127.0.0.1:{world.server.c2s_port}")
        output, _ = await asyncio.to_thread(run.communicate, None, 30)
        assert run.returncode == 0 and f"Online as {jid}" in output, output
        kept.append(secrets.read_text())
    assert kept[0] == kept[1] and oct(secrets.stat().st_mode)[-3:] == "600"


async def test_a_command_of_ones_own_is_listed_and_answers(world):
    alice = await world.person()
    bot = await world.prepare(admit=[alice])
    bot.binary = EXAMPLES / "custom_command"
    await world.start_bot(bot)
    assert "/dice" in await alice.command(bot.jid, "/help")
    assert "shows" in await alice.command(bot.jid, "/dice 20")
    assert "two sides" in await alice.command(bot.jid, "/dice none")
