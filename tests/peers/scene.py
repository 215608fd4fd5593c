"""A bot alone with a model and a hostile server."""

import asyncio

from bot import Bot
from hostile import HostileServer
from models import Model

USER, PASSWORD = "robin", "a password that must not leak"
ALICE, MALLORY = "alice@localhost/phone", "mallory@evil.example/x"


class Scene:
    """A bot, a model, and a hostile server."""

    def __init__(self, server: HostileServer, model: Model, directory, authority):
        self.server, self.model = server, model
        self.bot = Bot(directory / "bot", {
            "log": {"level": "info,moltis=debug", "format": "compact"}, "server": {"port": 0},
            "chat": {"model": "test/model-1"},
            "providers": {"test": {"kind": "openai", "base_url": model.base_url, "api_key": "key-of-test"}}},
            {"jid": f"{USER}@localhost", "password": PASSWORD, "server": f"127.0.0.1:{server.port}",
             "tls_ca_file": str(authority.root), "allowlist": ["alice@localhost"], "operators": ["alice@localhost"],
             "pairing": False, "model_provider": "test", "model": "model-1", "stream_mode": "off"})

    async def online(self, times: int = 1) -> None:
        if self.bot.process is None:
            self.bot.launch()
        await self.server.online(times)

    async def asks(self, text: str = "A question") -> None:
        """The bot still does its work, in whatever session it has now; alice asks until a session carries it."""
        number = len(self.model.asked)
        async with asyncio.timeout(60):
            while len(self.model.asked) == number:
                session = self.server.session
                if session is not None and session.available and not session.writer.transport.is_closing():
                    self.server.says(ALICE, text, f"q-{number}")  # the same id: at most one answer
                await asyncio.sleep(0.3)
        await self.server.answer(f"Answer number {number + 1}.", "alice@localhost", 30)

    async def asks_alone(self) -> None:
        """As `asks`, where other messages may have been answered too."""
        self.server.says(ALICE, "The last question", "last")
        async with asyncio.timeout(60):
            while not self.model.about("The last question"):
                await asyncio.sleep(0.1)

    def memory(self) -> float:
        """Resident memory in MB."""
        status = open(f"/proc/{self.bot.process.pid}/status").read()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def peak(self) -> float:
        status = open(f"/proc/{self.bot.process.pid}/status").read()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024
