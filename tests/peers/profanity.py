"""Profanity in tmux: a person at a terminal, and what stands on their screen."""

import asyncio
import subprocess
from pathlib import Path

from demo import Demo
from servers import PATIENCE, Server

COLUMNS, ROWS = 100, 28


class Profanity:
    def __init__(self, server: Server | Demo, directory: Path, jid: str, password: str):
        self.server, self.directory, self.jid, self.password = server, directory, jid, password
        directory.mkdir(parents=True)
        self.socket = directory / "tmux"  # a tmux server of our own: others may run theirs

    def _tmux(self, *arguments: str) -> str:
        return subprocess.run(["tmux", "-S", str(self.socket), *arguments], check=True, capture_output=True,
                              text=True).stdout

    async def start(self) -> None:
        home = self.directory / "home"
        (home / "config/profanity").mkdir(parents=True)
        # No splash, no tips: the screen is the conversation. The locale is UTF-8 for the answers.
        (home / "config/profanity/profrc").write_text(
            "[ui]\nsplash=false\ntips=false\nbeep=false\nnotify=false\nmessage.correction=true\n[muc]\nbookmark.invite=false\n"
            "[notifications]\nmessage=false\nroom=off\n")
        environment = [f"{key}={value}" for key, value in {
            "HOME": home, "XDG_CONFIG_HOME": home / "config", "XDG_DATA_HOME": home / "data", "LANG": "C.UTF-8",
            "LC_ALL": "C.UTF-8", "TERM": "xterm-256color"}.items()]
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS), "env", *environment,
                   "profanity")
        await self.shows("Profanity")
        self.type(f"/connect {self.jid} server 127.0.0.1 port {self.server.c2s_port} tls trust")
        await self.shows("password")
        self.type(self.password)
        await self.shows("logged in")

    def type(self, text: str) -> None:
        self._tmux("send-keys", "-l", text)
        self._tmux("send-keys", "Enter")

    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    async def shows(self, text: str, seconds: float = PATIENCE) -> str:
        """Waits until the screen holds `text`, and returns the screen."""
        try:
            async with asyncio.timeout(seconds):
                while text not in (screen := self.screen()):
                    await asyncio.sleep(0.1)
                return screen
        except TimeoutError:
            raise AssertionError(f"Profanity does not show {text!r}:\n{self.screen()}") from None

    async def stop(self) -> None:
        subprocess.run(["tmux", "-S", str(self.socket), "kill-server"], check=False, capture_output=True)
