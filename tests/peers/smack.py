"""Smack's integration tests: a run of them against the embedded server, and what it tells.

Smack connects to port 5222 and asks `https://<domain>/.well-known/host-meta` for the WebSocket; neither port can be
set. So the server listens on a loopback address of its own, and for that one question Java goes through `HostMeta`.
"""

import asyncio
import functools
import itertools
import os
import random
import re
import socket
import ssl
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from moltis import Moltis
from servers import DOMAIN, Authority, connected, free_port, wait_for_port

C2S_PORT = 5222
ADMIN, PASSWORD = "admin", "password-of-the-admin"
# One line for each record of java.util.logging, before what a thrown exception has to say.
LOG_FORMAT = "%4$s %5$s%6$s%n"
MAIN = "org.igniterealtime.smack.inttest.smack_omemo_signal.SmackOmemoSignalIntegrationTestFramework"


def loopback_host() -> str:
    """An address of this machine where port 5222 is free."""
    while True:
        host = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
        with socket.socket() as probe:
            try:
                probe.bind((host, C2S_PORT))
            except OSError:
                continue
            return host


class SmackServer(Moltis):
    """The embedded server, without TLS and without limits that a hundred clients of one address would meet."""

    def __init__(self, directory: Path, authority: Authority):
        self.host = loopback_host()
        super().__init__(directory, authority, {"xmpp_server": {
            "bind": [self.host], "c2s_port": C2S_PORT, "c2s_tls_port": 0, "allow_plaintext": True,
            "limits": {"connections_per_ip": 10_000, "login_failures_per_ip": 10_000, "sessions_per_user": 100,
                       "c2s_bytes_per_second": 100_000_000}}})

    def ports(self) -> tuple[int, ...]:
        return (self.http_port,)

    async def start(self) -> None:
        await super().start()
        await wait_for_port(C2S_PORT, self.process, functools.partial(connected, host=self.host))
        await self.add_user(ADMIN, PASSWORD)


class HostMeta:
    """A proxy that leads every connection to host-meta of the server, over TLS."""

    def __init__(self, authority: Authority, server: Moltis):
        self.server, self.port = server, free_port()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*authority.issue("host-meta", [DOMAIN]))

    async def __aenter__(self) -> "HostMeta":
        self.listener = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_) -> None:
        self.listener.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")  # CONNECT
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await writer.start_tls(self.context)
            await reader.readuntil(b"\r\n\r\n")  # GET
            async with aiohttp.ClientSession() as session:
                address = f"http://127.0.0.1:{self.server.http_port}/.well-known/host-meta"
                async with session.get(address) as response:
                    body = await response.read()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/xrd+xml\r\nConnection: close\r\n"
                         b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        except (OSError, EOFError):
            pass  # Whoever asked has gone.
        finally:
            writer.close()


@dataclass
class Outcome:
    """Names are Smack's, without the package; low-level tests run once for each kind of connection, which they name."""
    passed: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    # Single tests, and classes that found something missing at once; with what is missing.
    impossible: dict[str, str] = field(default_factory=dict)
    finished: bool = False

    @classmethod
    def read(cls, log: str) -> "Outcome":
        """From the summary at the end of what Smack logs."""
        outcome = cls()
        for line in log.splitlines():
            if found := re.fullmatch(r"INFO (\S+\.\S+ \(.+\)) ✔", line):
                outcome.passed.add(short(found[1]))
            elif found := re.fullmatch(r"SEVERE (.+) failed: (.*)", line):
                outcome.failed[short(found[1])] = found[2]
            elif found := re.fullmatch(r"INFO Could not run (.+?) because: (.*)", line):
                outcome.impossible[short(found[1])] = found[2]
            elif re.fullmatch(r"INFO SmackIntegrationTestFramework\[\w+] finished: .*", line):
                outcome.finished = True
        return outcome

    def add(self, again: "Outcome") -> None:
        """What a further run tells is what counts."""
        for name in [*again.passed, *again.impossible]:
            self.failed.pop(name, None)
        self.passed = (self.passed | again.passed) - set(again.failed)
        self.failed |= again.failed
        self.impossible |= again.impossible

    def report(self) -> str:
        lines = [f"Smack: {len(self.passed)} passed, {len(self.failed)} failed, {len(self.impossible)} impossible"]
        for kind in ("failed", "impossible"):
            lines += [f"  {kind}: {name}: {reason}" for name, reason in sorted(getattr(self, kind).items())]
        tests = [name.split(".", 1) for name in sorted(self.passed)]
        for test_class, group in itertools.groupby(tests, key=lambda test: test[0]):
            lines.append(f"  passed: {test_class}: {', '.join(test for _, test in group)}")
        return "\n".join(lines)


def short(name: str) -> str:
    """Classes come with their package, tests with what kind of test they are."""
    name = name.removesuffix(" (Normal)")
    return name if " " in name or not name.startswith("org.") else name.rsplit(".", 1)[1]


class Smack:
    """Runs of the tests against one server. Each has a folder with its log and every stanza."""

    def __init__(self, directory: Path, authority: Authority, server: SmackServer):
        self.directory, self.authority, self.server = directory, authority, server
        directory.mkdir()
        self.trust = directory / "trust.p12"
        subprocess.run(["keytool", "-importcert", "-noprompt", "-file", str(authority.root), "-keystore",
                        str(self.trust), "-storetype", "PKCS12", "-storepass", "public"],
                       check=True, capture_output=True)

    async def run(self, name: str, **settings: str) -> Outcome:
        """`settings`: those of Smack's framework, as `enabledTests`."""
        directory = self.directory / name
        directory.mkdir()
        settings = {
            "service": DOMAIN, "host": self.server.host, "securityMode": "disabled", "dnsResolver": "javax",
            "adminAccountUsername": ADMIN, "adminAccountPassword": PASSWORD, "debugger": "console",
            # All there are: MAIN alone would take those of OMEMO.
            "testPackages": "org.jivesoftware,org.igniterealtime"} | settings
        (directory / "properties").write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        log, stanzas = directory / "smack.log", directory / "stanzas.log"
        async with HostMeta(self.authority, self.server) as host_meta:
            with log.open("wb") as errors, stanzas.open("wb") as output:
                process = await asyncio.create_subprocess_exec(
                    "java", *self._options(directory, host_meta), "-cp", class_path(), MAIN, cwd=directory,
                    stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=errors)
            try:
                await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        outcome = Outcome.read(log.read_text())
        assert outcome.finished, log.read_text()[-3000:]
        return outcome

    def _options(self, directory: Path, host_meta: HostMeta) -> list[str]:
        properties = {
            "https.proxyHost": "127.0.0.1", "https.proxyPort": host_meta.port, "http.nonProxyHosts": "",
            "javax.net.ssl.trustStore": self.trust, "javax.net.ssl.trustStorePassword": "public",
            "java.util.logging.SimpleFormatter.format": LOG_FORMAT, "file.encoding": "UTF-8",
            "java.io.tmpdir": directory}
        return [f"-D{key}={value}" for key, value in properties.items()]


def class_path() -> str:
    file = os.environ.get("MOLTIS_SMACK")
    if file is None:
        raise RuntimeError("MOLTIS_SMACK is not set: tests/peers/run has Maven write the class path")
    return Path(file).read_text().strip()
