"""The command line and the configuration's errors: no server needed."""

import os
import pty
import re
import select
import subprocess

import pytest

from bot import BINARY, REPOSITORY, Bot

ACCOUNT = {"jid": "bot@localhost", "password": "secret of the bot", "server": "127.0.0.1:9"}
CONFIG = {"server": {"port": 0}, "chat": {"model": "test/model-1"},
          "providers": {"test": {"kind": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "key-of-test"}}}


@pytest.fixture
def bot(tmp_path):
    bot = Bot(tmp_path / "bot", dict(CONFIG), dict(ACCOUNT))
    bot.write()
    return bot


COMMANDS = [[], ["run"], ["check"], ["config"], ["config", "show"], ["init"], ["register"], ["reload"],
            ["status"], ["completions"]]


@pytest.mark.parametrize("command", COMMANDS, ids=[" ".join(c) or "moltis" for c in COMMANDS])
def test_every_command_has_help(bot, command):
    result = bot.run(*command, "--help")
    assert result.returncode == 0 and "Usage" in result.stdout
    if command and command != ["config"]:
        assert "moltis " + command[0] in result.stdout


def test_wrong_usage_ends_with_2(bot):
    assert bot.run("no-such-command").returncode == 2
    assert bot.run("run", "--no-such-flag").returncode == 2
    assert bot.run("register").returncode == 2


def test_check_config_is_content(bot):
    result = bot.run("check", "config")
    assert result.returncode == 0 and "ok" in result.stdout.lower()


def test_the_config_flag_and_the_environment(bot, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(bot.config_path.read_text().replace("bot@localhost", "other@localhost"))
    assert "other@localhost" in bot.run("--config", str(other), "config", "show").stdout
    bot.environment["MOLTIS_CHANNELS__XMPP__BOT__NICK"] = "from-environment"
    bot.environment["MOLTIS_IDENTITY__NAME"] = "Environmental"
    shown = bot.run("config", "show")
    assert "Environmental" in shown.stdout and "from-environment" in shown.stdout


def test_an_unknown_key_names_file_line_and_the_nearest(bot):
    bot.account["alowlist"] = []
    bot.write()
    line = next(n for n, text in enumerate(bot.config_path.read_text().splitlines(), 1) if "alowlist" in text)
    result = bot.run("check", "config")
    output = result.stdout + result.stderr
    assert result.returncode == 1
    assert f"moltis.toml:{line}: unknown key \"alowlist\" in [channels.xmpp.bot]; did you mean \"allowlist\"?" in output


ERRORS = {
    "policy": ("dm_policy", "everyone", "allowlist"), "jid": ("jid", "@@", "jid"), "room": ("rooms", ["@@"], "rooms"),
    "file": ("tls_ca_file", "/no/such/file.pem", "/no/such/file.pem"),
    "type": ("max_bot_rounds", "three", "max_bot_rounds"), "negative": ("text_chunk_limit", -1, "text_chunk_limit"),
    "variable": ("nick", "${NO_SUCH_VARIABLE}", "NO_SUCH_VARIABLE"), "stream mode": ("stream_mode", "fast", "correction"),
    "omemo": ("omemo", "auto", "not in this version"), "queue": ("mention_mode", "sometimes", "mention"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_a_wrong_value_is_said_with_its_line(bot, name):
    key, value, expected = ERRORS[name]
    bot.account[key] = value
    bot.write()
    line = next(n for n, text in enumerate(bot.config_path.read_text().splitlines(), 1) if text.startswith(key))
    result = bot.run("check", "config")
    output = result.stdout + result.stderr
    assert result.returncode == 1 and expected in output and f":{line}:" in output
    assert bot.run("run").returncode == 1, "it does not start either"


@pytest.mark.parametrize("section", ["tools", "mcp", "voice"])
def test_what_is_not_in_this_version_is_refused(bot, section):
    bot.config_path.write_text(bot.config_path.read_text() + f"\n[{section}]\n")
    result = bot.run("check", "config")
    assert result.returncode == 1 and "not in this version" in result.stdout + result.stderr


def test_all_errors_are_told_at_once(bot):
    bot.account |= {"alowlist": [], "dm_policy": "everyone", "pasword": "x"}
    bot.write()
    output = bot.run("check", "config")
    text = output.stdout + output.stderr
    assert all(word in text for word in ("alowlist", "everyone", "pasword"))


def test_secrets_from_files_and_variables(bot, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("secret in a file\n")
    del bot.account["password"]
    bot.account["password_file"] = str(secret)
    bot.config = {**CONFIG, "providers": {"test": {**CONFIG["providers"]["test"], "api_key": "${MY_KEY}"}},
                  "identity": {"name": "${MY_NAME:-Fallback}"}}
    bot.environment["MY_KEY"] = "key-of-variable"
    bot.write()
    shown = bot.run("config", "show")
    assert shown.returncode == 0, shown.stderr
    assert "secret in a file" not in shown.stdout and "key-of-variable" not in shown.stdout and "Fallback" in shown.stdout


def test_config_show_masks_and_says_where_from(bot):
    result = bot.run("config", "show")
    assert "secret of the bot" not in result.stdout and "key-of-test" not in result.stdout
    assert "****" in result.stdout and "default" in result.stdout.lower()


def test_init_writes_what_check_accepts(bot):
    bot.config_path.unlink()
    flags = bot.run("init", "--help").stdout
    assert "--jid" in flags
    result = bot.run("init", "--jid", "bot@example.org", "--password-file", "-", input="hunter2\n")
    assert result.returncode == 0, result.stdout + result.stderr
    checked = bot.run("check", "config")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_check_llm_says_what_is_wrong(bot):
    result = bot.run("check", "llm", seconds=60)
    assert result.returncode == 1 and "test" in result.stdout + result.stderr


def test_reload_without_a_process_says_so(bot):
    result = bot.run("reload")
    assert result.returncode == 1 and len((result.stdout + result.stderr).strip().splitlines()) == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(bot, shell):
    result = bot.run("completions", shell)
    assert result.returncode == 0 and "moltis" in result.stdout


def test_the_example_has_the_keys():
    text = (REPOSITORY / "moltis.toml.example").read_text()
    for key in ("dm_policy", "edit_throttle_ms", "fallback_models", "history_retention_days", "usd_per_day"):
        assert re.search(rf"^#?\s*{key}\s*=", text, re.MULTILINE), key


def test_init_asks_on_a_terminal(bot):
    """Every question answered at a terminal; the password is not shown on it."""
    bot.config_path.unlink()
    controller, terminal = pty.openpty()
    process = subprocess.Popen([str(BINARY), "init", "--config", str(bot.config_path)], cwd=bot.directory,
                               stdin=terminal, stdout=terminal, stderr=terminal, close_fds=True, start_new_session=True)
    os.close(terminal)
    shown = ""
    for question, answer in (("account", "bot@example.org"), ("password", "hunter2"), ("provider", "offline"),
                             ("Your own address", "alice@example.org"), ("room", "team@conference.example.org")):
        shown += read_until(controller, question)
        os.write(controller, f"{answer}\n".encode())
    shown += read_until(controller, "Wrote")
    assert process.wait(10) == 0 and "hunter2" not in shown, shown
    os.close(controller)
    written = bot.config_path.read_text()
    assert all(text in written for text in ("bot@example.org", "hunter2", "alice@example.org", "team@conference"))
    assert bot.config_path.stat().st_mode & 0o077 == 0
    assert bot.run("check", "config").returncode == 0


def read_until(terminal: int, text: str, seconds: float = 10) -> str:
    """What is shown up to this text and the pause behind it, or the end of the process."""
    shown = ""
    while select.select([terminal], [], [], 0.3 if text in shown else seconds)[0]:
        try:
            shown += os.read(terminal, 4096).decode()
        except OSError:
            break  # the process has ended
    assert text in shown, f"no {text!r} in {shown!r}"
    return shown
