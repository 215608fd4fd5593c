"""Pebble, the ACME test server of Let's Encrypt, and its DNS server: a certificate authority of one's own.

Names resolve to 127.0.0.1 unless `point` says otherwise, and Pebble looks at `http_port` and `tls_port` there in place
of 80 and 443.
"""

import asyncio
import json
import os
import signal
import ssl
import subprocess
import urllib.request
from pathlib import Path

from servers import Authority, free_port, wait_for_port

PROGRAMS = Path(os.environ.get("MOLTIS_PEBBLE", ""))


class Pebble:
    def __init__(self, directory: Path, authority: Authority, lifetime: int = 7776000, blocked: tuple[str, ...] = ()):
        self.directory = directory
        self.authority = authority
        self.http_port, self.tls_port = free_port(), free_port()
        self.port, self.management_port = free_port(), free_port()
        self.dns_port, self.dns_management_port = free_port(), free_port()
        self.processes: list[subprocess.Popen] = []
        directory.mkdir(parents=True)
        certificate, key = authority.issue("pebble", ["localhost"])
        (directory / "pebble.json").write_text(json.dumps({"pebble": {
            "listenAddress": f"127.0.0.1:{self.port}",
            "managementListenAddress": f"127.0.0.1:{self.management_port}",
            "certificate": str(certificate), "privateKey": str(key),
            "httpPort": self.http_port, "tlsPort": self.tls_port,
            "domainBlocklist": list(blocked),
            "retryAfter": {"authz": 1, "order": 1},
            "profiles": {"default": {"description": "of the test", "validityPeriod": lifetime}},
        }}))

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/dir"

    async def start(self) -> "Pebble":
        await self._run("pebble-challtestsrv", "-dnsserver", f"127.0.0.1:{self.dns_port}",
                        "-management", f"127.0.0.1:{self.dns_management_port}", "-defaultIPv6", "",
                        "-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "", port=self.dns_management_port)
        await self._run("pebble", "-config", "pebble.json", "-dnsserver", f"127.0.0.1:{self.dns_port}", port=self.port)
        return self

    async def _run(self, program: str, *arguments: str, port: int) -> None:
        # Every order is proven anew, and at once.
        environment = {**os.environ, "PEBBLE_VA_NOSLEEP": "1", "PEBBLE_AUTHZREUSE": "0"}
        with (self.directory / f"{program}.log").open("ab") as output:
            process = subprocess.Popen([str(PROGRAMS / program), *arguments], env=environment, cwd=self.directory,
                                       stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        self.processes.append(process)
        await wait_for_port(port, process)

    async def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            await asyncio.to_thread(process.wait)
        self.processes = []

    async def root(self) -> str:
        """The root under which certificates are issued: another one at every start."""
        def fetch() -> str:
            trust = ssl.create_default_context(cafile=str(self.authority.root))
            with urllib.request.urlopen(f"https://localhost:{self.management_port}/roots/0", context=trust) as answer:
                return answer.read().decode()
        return await asyncio.to_thread(fetch)

    async def point(self, name: str, address: str) -> None:
        """Lets DNS say that a name is at an address."""
        def post() -> None:
            body = json.dumps({"host": f"{name}.", "addresses": [address]}).encode()
            urllib.request.urlopen(f"http://127.0.0.1:{self.dns_management_port}/add-a", data=body).close()
        await asyncio.to_thread(post)
