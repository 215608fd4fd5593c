"""The built binary, with a moltis.toml of the test's, as a child process."""

import asyncio
import os
import re
import signal
import subprocess
import time
from pathlib import Path

from servers import PATIENCE

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = Path(os.environ.get("MOLTIS_EXAMPLES") or REPOSITORY / "target/debug/examples")
BINARY = Path(os.environ.get("MOLTIS_BIN") or REPOSITORY / "target/debug/moltis")


def toml(table: dict, path: tuple[str, ...] = ()) -> str:
    """Writes nested tables; values are strings, numbers, booleans and lists of them, or of tables."""
    scalars = {key: value for key, value in table.items() if not isinstance(value, dict)}
    text = ""
    if path and (scalars or not table):
        text += "[" + ".".join(quoted(name) for name in path) + "]\n"
    text += "".join(f"{quoted(key)} = {literal(value)}\n" for key, value in scalars.items())
    return text + "".join("\n" + toml(value, (*path, key)) for key, value in table.items() if isinstance(value, dict))


def quoted(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_-]+", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def literal(value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(key)} = {literal(item)}" for key, item in value.items()) + "}"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


class Bot:
    """One process of `moltis run`. `account` is the table [channels.xmpp.bot], `config` everything else."""

    def __init__(self, directory: Path, config: dict, account: dict, *, environment: dict | None = None):
        self.directory, self.config, self.account = directory, config, account
        self.environment = environment or {}
        self.binary = BINARY
        self.accounts: dict[str, dict] = {}  # further accounts, by id
        self.jid = account["jid"]
        self.full = f"{self.jid}/{account.get('resource', 'moltis')}"
        self.nick = account.get("nick", "")
        self.process: subprocess.Popen | None = None
        self.log_path = directory / "moltis.log"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "data").mkdir(exist_ok=True)

    @property
    def config_path(self) -> Path:
        return self.directory / "moltis.toml"

    @property
    def log(self) -> str:
        """Without colours, and without the folder: it holds the name of the test, and thereby words that tests look for."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return re.sub(r"\x1b\[[0-9;]*m", "", text).replace(str(self.directory), "")

    def text(self) -> str:
        return toml({"data_dir": str(self.directory / "data"), **self.config,
                     "channels": {"xmpp": {"bot": self.account, **self.accounts}}})

    def write(self) -> None:
        self.config_path.write_text(self.text())

    def launch(self) -> None:
        """Starts the process and returns at once."""
        self.write()
        if not self.binary.exists():
            raise RuntimeError(f"{self.binary} is missing: cargo build, or set MOLTIS_BIN")
        # Now, because a new name of a file is a change that a watch is told of.
        self._other_name.parent.mkdir(exist_ok=True)
        self._other_name.unlink(missing_ok=True)
        os.link(self.config_path, self._other_name)
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen([str(self.binary), "run"], cwd=self.directory, env=self._environment(),
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _environment(self) -> dict[str, str]:
        # Keys and proxies of whoever runs the tests are none of the bot's business.
        own = {key: value for key, value in os.environ.items()
               if not key.lower().endswith("_proxy") and not key.endswith("_API_KEY")}
        return {**own, "MOLTIS_CONFIG": str(self.config_path), "RUST_BACKTRACE": "1", **self.environment}

    def run(self, *arguments: str, input: str | None = None, seconds: float = 20) -> subprocess.CompletedProcess:
        """Runs a subcommand on this configuration."""
        return subprocess.run([str(BINARY), *arguments], cwd=self.directory, env=self._environment(), input=input,
                              stdin=subprocess.DEVNULL if input is None else None, capture_output=True, text=True,
                              timeout=seconds, check=False)

    def write_unseen(self) -> None:
        """As `write`, by another name of the same file in another folder, so that no watch of its own folder tells."""
        self._other_name.write_text(self.text())

    @property
    def _other_name(self) -> Path:
        return self.directory.with_name(f"{self.directory.name}-other") / "moltis.toml"

    async def reload(self) -> None:
        """Writes the changed configuration and has it applied."""
        self.write()
        result = await asyncio.to_thread(self.run, "reload")
        assert result.returncode == 0, f"moltis reload: {result.stdout}{result.stderr}"

    def kill(self) -> None:
        """As kill -9: nothing is finished, nothing is said."""
        self.process.kill()
        self.process.wait()

    async def stop(self, seconds: float = 10) -> float:
        """SIGTERM, and how long it took to end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(self.process.wait, seconds)
        return time.monotonic() - began

    def end(self) -> None:
        """Whatever the test did: afterwards nothing runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(6)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    async def exited(self, seconds: float = 10) -> int:
        return await asyncio.to_thread(self.process.wait, seconds)

    async def logged(self, pattern: str, seconds: float = PATIENCE) -> re.Match:
        """Waits until the log, standard output or error, matches."""
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self.log, re.IGNORECASE)) is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"the log has no {pattern!r}:\n{self.log[-3000:]}")
            await asyncio.sleep(0.05)
        return found
