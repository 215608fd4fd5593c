"""The servers that the bot is tried on: what Prosody and ejabberd have in common here.

Each runs as a child of the test process, on free loopback ports, with its own configuration and data in a
temporary directory. Debian's policy denies service starts in a container, so nothing goes through init scripts.

Two virtual hosts: `localhost` has everything; `open.localhost` lets anyone register (XEP-0077) and has no upload
service, so that a component of a test can be one. Components connect with `COMPONENT_SECRET`.
"""

import asyncio
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DOMAIN = "localhost"
OPEN_DOMAIN = "open.localhost"
ROOMS = "conference.localhost"
COMPONENT_SECRET = "component-secret"
UPLOAD_LIMIT = 5_000_000
# What a public authority puts into a certificate: no clientAuth, which some servers want of servers.
SERVER_AUTH, CLIENT_AUTH = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
LIFETIME = (timedelta(hours=-1), timedelta(days=2))
# How long something may take that should come at once; slow machines may need more.
PATIENCE = float(os.environ.get("PEERS_PATIENCE", "30"))
# Prosody takes only the components that its configuration names: one for each test that is one.
COMPONENT_HOSTS = [f"bots{number}.localhost" for number in range(20)]


async def soon(event: asyncio.Event) -> None:
    """Waits for what should come at once."""
    await asyncio.wait_for(event.wait(), PATIENCE)


def _ports() -> Iterator[int]:
    """Below those that the system gives to outgoing connections: one of these would take the port of a server that is
    not listening yet, or is being restarted. Each worker has a share of its own."""
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    first, shares = 10_000, 16
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % shares
    share = range(first, end)[worker::shares]
    # Another run on this machine begins elsewhere.
    start = random.randrange(len(share))
    return itertools.cycle([*share[start:], *share[:start]])


PORTS = _ports()


def free_port() -> int:
    for port in itertools.islice(PORTS, 1000):
        with socket.socket() as probe:
            # As servers do it: a connection that has ended is no hindrance.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


async def wait_for_port(port: int, process: subprocess.Popen, connect=None) -> None:
    """Returns once something listens; fails at once when the process has ended. `connect`: how to get there."""
    while True:
        try:
            with await (connect or connected)(port):
                return
        except OSError:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args[0]} ended with {process.returncode}") from None
            await asyncio.sleep(0.05)


async def connected(port: int, host: str = "127.0.0.1", opened: socket.socket | None = None) -> socket.socket:
    """A connection, from the machine on which `opened` was made where that is another."""
    opened = opened or socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    opened.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(opened, (host, port))
    except BaseException:
        opened.close()
        raise
    return opened


class Authority:
    """A certificate authority of this run; `tls_ca_file` of the bot is its root."""

    def __init__(self, directory: Path):
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root of this test run")])
        self._key = ec.generate_private_key(ec.SECP256R1())
        certificate = (_certificate(self._name, self._name, self._key, LIFETIME)
                       .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
                       .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
                       .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
                       .sign(self._key, hashes.SHA256()))
        self.root = directory / "root.pem"
        self.root.write_bytes(certificate.public_bytes(Encoding.PEM))

    def issue(self, name: str, hosts: list[str], *, usages: tuple = (SERVER_AUTH,), lifetime: tuple = LIFETIME,
              self_signed: bool = False) -> tuple[Path, Path]:
        """A certificate for `hosts`, and its key. `lifetime`: from and until when, seen from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        certificate = (_certificate(subject, subject if self_signed else self._name, key, lifetime)
                       .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
                       .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
                       .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=False)
                       .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(
                           (key if self_signed else self._key).public_key()), critical=False)
                       .sign(key if self_signed else self._key, hashes.SHA256()))
        files = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
        files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return files


def _certificate(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey,
                 lifetime: tuple) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now + lifetime[0]).not_valid_after(now + lifetime[1]))


def _usage(**allowed: bool) -> x509.KeyUsage:
    names = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
             "key_cert_sign", "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


class Server:
    """One server process. Subclasses write its configuration and know its tools."""

    name: str
    program: str
    prefix: list[str] = []  # what runs a command where the server is
    # What differs between the servers and tests must know.
    occupant_ids: bool

    def __init__(self, directory: Path, authority: Authority):
        self.directory = directory
        self.authority = authority
        self.process: subprocess.Popen | None = None
        self.c2s_port = free_port()
        self.tls_port = free_port()
        self.component_port = free_port()
        self.http_port = free_port()
        self.component_hosts = iter(COMPONENT_HOSTS)
        self._numbers = itertools.count(1)
        self.known: set[str] = set()  # accounts that every scenario shares and that have been made
        directory.mkdir(parents=True)
        hosts = [DOMAIN, OPEN_DOMAIN, ROOMS, "upload.localhost"]
        self.certificate, self.key = authority.issue(self.name, hosts)
        # ejabberd wants both in one file; Prosody does not mind.
        self.bundle = directory / "bundle.pem"
        self.bundle.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())
        self.configure()

    def configure(self) -> None:
        raise NotImplementedError

    def command(self) -> tuple[list[str], dict[str, str]]:
        """What to run, and its additional environment."""
        raise NotImplementedError

    def is_noise(self, stanza: ET.Element) -> bool:
        """Whether it is a habit of this server that no standard asks for and none forbids."""
        return False

    def ports(self) -> tuple[int, ...]:
        """What listens once it has started."""
        return self.c2s_port, self.component_port, self.http_port

    @staticmethod
    def version() -> str:
        raise NotImplementedError

    async def add_user(self, user: str, password: str, domain: str = DOMAIN) -> None:
        raise NotImplementedError

    async def announce_to(self, user: str, watcher: str, domain: str = DOMAIN) -> None:
        """Puts `watcher` on the roster of `user`, who is offline, with a subscription to its presence."""
        raise NotImplementedError

    async def start(self) -> None:
        if shutil.which(self.program) is None:
            raise RuntimeError(f"{self.program} is not installed: tests/peers/run installs it")
        command, environment = self.command()
        with (self.directory / "output.log").open("ab") as output:
            self.process = subprocess.Popen([*self.prefix, *command], env={**os.environ, **environment}, cwd=self.directory,
                                            stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            # Several may start at once, each with all its modules.
            async with asyncio.timeout(3 * PATIENCE):
                for port in self.ports():
                    await wait_for_port(port, self.process, self.connect)
        except (RuntimeError, TimeoutError) as error:
            raise RuntimeError(f"{self.name} did not start: {error!r}\n{self.log()[-3000:]}") from None

    async def stop(self, number: int = signal.SIGTERM) -> None:
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        try:
            await asyncio.to_thread(process.wait, 15)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)

    async def kill(self) -> None:
        await self.stop(signal.SIGKILL)

    async def restart(self) -> None:
        await self.stop()
        await self.start()

    async def connect(self, port: int) -> socket.socket:
        """A connection to one of its ports."""
        return await connected(port)

    def session(self) -> aiohttp.ClientSession:
        """An HTTP client that reaches it."""
        return aiohttp.ClientSession()

    def unique(self, name: str) -> str:
        """A local part that no other test uses."""
        return f"{name}-{next(self._numbers)}"

    def log(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))
