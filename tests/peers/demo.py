"""The demo: the binary in an empty folder, with a model of the test's, in the place of one that it would find."""

import asyncio
import os
import socket
import subprocess
from pathlib import Path
from types import SimpleNamespace

import aiohttp

from bot import BINARY
from models import Model
from servers import connected, free_port, wait_for_port

BOT = "moltis@localhost"
PERSON = "you@localhost"


class Demo:
    def __init__(self, directory: Path):
        self.directory, self.model = directory, Model()
        self.http_port, self.c2s_port, self.tls_port = free_port(), free_port(), free_port()
        self.url = f"http://localhost:{self.http_port}"
        self.process: subprocess.Popen | None = None
        directory.mkdir(parents=True, exist_ok=True)

    async def start(self, **environment: str) -> "Demo":
        """`environment`: further variables, as `MOLTIS_SERVER__TRUSTED_PROXIES`."""
        await self.model.start()
        self._launch(environment)
        await wait_for_port(self.http_port, self.process)
        async with asyncio.timeout(20), aiohttp.ClientSession() as session:
            while True:
                async with session.get(f"{self.url}/readyz") as answer:
                    if answer.status == 200:
                        return self
                await asyncio.sleep(0.05)

    def _launch(self, environment: dict[str, str]) -> None:
        own = {key: value for key, value in os.environ.items()
               if not key.lower().endswith("_proxy") and not key.endswith("_API_KEY") and not key.startswith("MOLTIS_")}
        settings = {
            "MOLTIS_SERVER__PORT": str(self.http_port), "MOLTIS_XMPP_SERVER__C2S_PORT": str(self.c2s_port),
            "MOLTIS_XMPP_SERVER__C2S_TLS_PORT": str(self.tls_port), "MOLTIS_CHAT__MODEL": "test/model-1",
            "MOLTIS_PROVIDERS__TEST__KIND": "openai", "MOLTIS_PROVIDERS__TEST__BASE_URL": self.model.base_url,
            "MOLTIS_PROVIDERS__TEST__API_KEY": "key-of-test", "MOLTIS_LOG__LEVEL": "info,moltis=debug",
            # Corrections as they come: a test holds the model, not the clock.
            "MOLTIS_XMPP_SERVER__BOTS__MOLTIS__EDIT_THROTTLE_MS": "300",
        }
        with (self.directory / "moltis.log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(BINARY)], cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**own, "HOME": str(self.directory), "XDG_CONFIG_HOME": str(self.directory / "config"),
                     "RUST_BACKTRACE": "1", **settings, **environment})

    async def connect(self, port: int) -> socket.socket:
        """As of any server."""
        return await connected(port)

    async def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                await asyncio.to_thread(self.process.wait, 6)
            except subprocess.TimeoutExpired:
                self.process.kill()
                await asyncio.to_thread(self.process.wait)
        await self.model.stop()

    @property
    def log(self) -> str:
        return (self.directory / "moltis.log").read_text(errors="replace")

    @property
    def authority(self) -> SimpleNamespace:
        """For clients: the certificate is its own root."""
        return SimpleNamespace(root=self.directory / "moltis-data" / "certificates" / "self-signed" / "localhost.pem")

    @property
    def password(self) -> str:
        """Of the person: it is kept for the next start."""
        lines = iter((self.directory / "moltis-data" / "secrets.toml").read_text().splitlines())
        next(line for line in lines if PERSON in line)
        return next(line for line in lines if line.startswith("password")).split('"')[1]
