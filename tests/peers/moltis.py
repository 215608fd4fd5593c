"""The embedded server of the built binary, as its users run it: a moltis.toml, accounts by `moltis adduser`."""

import asyncio
import subprocess
from pathlib import Path

from bot import BINARY, toml
from servers import DOMAIN, Authority, Server
from world import merge


class Moltis(Server):
    name = "moltis"
    program = str(BINARY)
    occupant_ids = True

    def __init__(self, directory: Path, authority: Authority, config: dict | None = None):
        """`config` goes over what every server of these tests has. Without a certificate in it the server makes its own."""
        self.config = config or {}
        super().__init__(directory, authority)

    def configure(self) -> None:
        (self.directory / "data").mkdir(exist_ok=True)
        base = {
            "data_dir": str(self.directory / "data"),
            "log": {"level": "info,moltis=debug", "format": "compact"},
            "server": {"port": self.http_port},
            "xmpp_server": {
                "enabled": True, "domain": DOMAIN, "bind": ["127.0.0.1"], "c2s_port": self.c2s_port,
                "c2s_tls_port": self.tls_port, "admins": [f"admin@{DOMAIN}"],
                # Every client of a run has this address.
                "limits": {"connections_per_ip": 10_000, "login_failures_per_ip": 10_000}}}
        (self.directory / "moltis.toml").write_text(toml(merge(base, self.config)))

    def with_certificate(self) -> "Moltis":
        """With one that the clients of these tests trust."""
        self.config = merge(self.config, {"xmpp_server": {"certificate": str(self.certificate), "key": str(self.key)}})
        self.configure()
        return self

    def ports(self) -> tuple[int, ...]:
        return self.c2s_port, self.tls_port, self.http_port

    def command(self) -> tuple[list[str], dict[str, str]]:
        return [self.program, "--config", str(self.directory / "moltis.toml")], {"RUST_BACKTRACE": "1"}

    @staticmethod
    def version() -> str:
        return subprocess.run([BINARY, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    async def add_user(self, user: str, password: str, domain: str = DOMAIN) -> None:
        file = self.directory / f"{user}.password"
        file.write_text(password + "\n")
        await self.run("adduser", f"{user}@{domain}", "--password-file", str(file))

    async def run(self, *arguments: str) -> str:
        """Another command of the binary, for this server."""
        process = await asyncio.create_subprocess_exec(
            *self.prefix, self.program, "--config", str(self.directory / "moltis.toml"), *arguments, cwd=self.directory,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        output = (await process.communicate())[0].decode()
        assert process.returncode == 0, f"moltis {' '.join(arguments)}: {output}"
        return output
