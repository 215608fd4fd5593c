"""The certificate of the server, from Pebble: proven by TLS-ALPN-01 and HTTP-01, renewed, and kept when it is not."""

import asyncio
import re
import ssl
import subprocess
import time

import pytest
import pytest_asyncio

from bot import EXAMPLES
from pebble import Pebble
from servers import free_port, wait_for_port

DOMAIN = "chat.moltis.org"
ROOMS = f"conference.{DOMAIN}"
# Where nobody listens.
NOWHERE = "127.0.0.9"


class Listener:
    """A TLS listener with our certificate. Ports that are not given are such as Pebble does not look at."""

    def __init__(self, pebble: Pebble, directory, names: str, tls_port: int | None = None, http_port: int | None = None):
        self.pebble = pebble
        self.tls_port, self.http_port = tls_port or free_port(), http_port or free_port()
        self.data_dir = directory / "data"
        self.log_file = directory / "listener.log"
        self.command = [str(EXAMPLES / "certificate"), names, str(self.data_dir), f"127.0.0.1:{self.tls_port}",
                        f"127.0.0.1:{self.http_port}", pebble.url, str(pebble.authority.root)]
        self.process: subprocess.Popen | None = None

    async def start(self) -> "Listener":
        with self.log_file.open("ab") as output:
            self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        await wait_for_port(self.tls_port, self.process)
        return self

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        return self.log_file.read_text()

    async def logs(self, pattern: str, times: int = 1, seconds: float = 30) -> list[str]:
        """Waits until the log has so many lines of a kind."""
        until = time.monotonic() + seconds
        while len(found := re.findall(pattern, self.log())) < times:
            assert time.monotonic() < until, f"not {times} times {pattern!r} in:\n{self.log()}"
            await asyncio.sleep(0.05)
        return found

    async def certificate(self, name: str = DOMAIN, trusted: bool = True) -> dict | bytes:
        """What a client sees: verified against Pebble's root, else the bare certificate."""
        root = await self.pebble.root()

        def handshake():
            trust = ssl.create_default_context(cadata=root)
            if not trusted:
                trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
            with ssl.create_connection(("127.0.0.1", self.tls_port)) as connection, \
                    trust.wrap_socket(connection, server_hostname=name) as stream:
                assert stream.recv(6) == b"Hello\n"
                return stream.getpeercert() if trusted else stream.getpeercert(binary_form=True)
        return await asyncio.to_thread(handshake)


@pytest_asyncio.fixture
async def acme(authority, tmp_path):
    """Starts authorities and listeners, and ends them."""
    started = []

    class Acme:
        async def pebble(self, **settings) -> Pebble:
            pebble = Pebble(tmp_path / "pebble", authority, **settings)
            started.append(pebble.stop)
            return await pebble.start()

        async def listener(self, pebble: Pebble, names: str = f"{DOMAIN},{ROOMS}", **ports: int) -> Listener:
            directory = tmp_path / f"listener{len(started)}"
            directory.mkdir()
            listener = Listener(pebble, directory, names, **ports)
            started.append(lambda: asyncio.to_thread(listener.end))
            return await listener.start()

    try:
        yield Acme()
    finally:
        for stop in reversed(started):
            await stop()


def names(certificate: dict) -> set[str]:
    return {name for _, name in certificate["subjectAltName"]}


ISSUED = r'The certificate of the server names="?([^"\n]*?)"? issuer="?Pebble Intermediate'


@pytest.mark.parametrize("port", ["tls_port", "http_port"])
async def test_a_certificate_is_issued_for_either_proof(acme, port):
    pebble = await acme.pebble()
    listener = await acme.listener(pebble, **{port: getattr(pebble, port)})
    assert await listener.certificate(trusted=False), "a self-signed one serves until then"
    await listener.logs(ISSUED)
    for name in (DOMAIN, ROOMS):
        assert names(await listener.certificate(name)) == {DOMAIN, ROOMS}
    kept = sorted(listener.data_dir.rglob("*"))
    assert {f"localhost-{pebble.port}-dir"} == {path.parent.name for path in kept if path.name == "account.json"}
    for path in kept:
        assert oct(path.stat().st_mode)[-2:] == "00", path


async def test_a_restart_serves_the_kept_certificate_and_orders_none(acme):
    pebble = await acme.pebble()
    listener = await acme.listener(pebble, tls_port=pebble.tls_port)
    await listener.logs(ISSUED)
    before = await listener.certificate(trusted=False)
    listener.end()
    await listener.start()
    assert await listener.certificate(trusted=False) == before
    assert listener.log().count("A certificate is ordered") == 1


@pytest.mark.limit(90)
async def test_a_certificate_is_renewed_in_time_and_kept_when_that_is_refused(acme):
    # Two thirds of a lifetime are 12 seconds.
    pebble = await acme.pebble(lifetime=18)
    listener = await acme.listener(pebble, tls_port=pebble.tls_port)
    await listener.logs(ISSUED)
    first = await listener.certificate()
    assert first["notAfter"]
    await listener.logs(ISSUED, times=2)
    second = await listener.certificate(trusted=False)
    assert names(await listener.certificate()) == names(first)
    assert (await listener.certificate())["serialNumber"] != first["serialNumber"]

    await pebble.point(DOMAIN, NOWHERE)
    [problem] = await listener.logs(r"ERROR .*No certificate for .*")
    # Pebble calls this "unauthorized", where others say "connection".
    assert f"answers at port 443 of {DOMAIN}" in problem, problem
    assert f"cannot reach port 80 of {DOMAIN}; open it in the firewall" in problem, problem
    assert re.search(r"next try in \d+ min", problem), problem
    assert await listener.certificate(trusted=False) == second
    assert listener.process.poll() is None


async def test_a_stranger_at_the_port_is_named_and_the_self_signed_certificate_goes_on(acme):
    pebble = await acme.pebble()
    # The challenge is asked of a listener that has no answer to it.
    await acme.listener(pebble, names="localhost", tls_port=pebble.tls_port, http_port=pebble.http_port)
    listener = await acme.listener(pebble)
    [problem] = await listener.logs(r"ERROR .*No certificate for .*")
    assert f"something else than moltis answers at port 80 of {DOMAIN}" in problem, problem
    assert await listener.certificate(trusted=False)
    assert not re.search(ISSUED, listener.log())


async def test_a_service_that_cannot_be_proven_does_not_cost_the_domain_its_certificate(acme):
    pebble = await acme.pebble()
    await pebble.point(ROOMS, NOWHERE)
    listener = await acme.listener(pebble, tls_port=pebble.tls_port)
    await listener.logs(ISSUED)
    assert names(await listener.certificate()) == {DOMAIN}
    await listener.logs(f"The certificate is not for {re.escape(ROOMS)}")
    assert listener.process.poll() is None


async def test_a_name_that_the_authority_refuses_is_said(acme):
    pebble = await acme.pebble(blocked=(DOMAIN,))
    listener = await acme.listener(pebble, names=DOMAIN, tls_port=pebble.tls_port)
    [problem] = await listener.logs(r"ERROR .*No certificate for .*")
    assert "does not issue for this name" in problem, problem


async def test_an_authority_that_forgot_the_account_gets_a_new_one(acme):
    pebble = await acme.pebble(lifetime=18)
    listener = await acme.listener(pebble, tls_port=pebble.tls_port)
    await listener.logs(ISSUED)
    # It keeps nothing on disk.
    await pebble.stop()
    await pebble.start()
    await listener.logs(ISSUED, times=2)
    assert listener.log().count("An account with the certificate authority was made") == 2
    assert names(await listener.certificate()) == {DOMAIN, ROOMS}
