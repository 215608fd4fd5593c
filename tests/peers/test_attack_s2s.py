"""hostile-input.md, column S, between servers: XML, sizes and numbers on the ports for other servers. Who may speak for whom is
in `src/server/s2s/tests` and in the lab (`test_lab_hostile.py`)."""

import asyncio
import base64
import ssl

import pytest
import pytest_asyncio

from attack import ALICE, CONDITION, PASSWORD, Closed, Line, Wire, context, flat
from moltis import Moltis
from servers import free_port
from stream import SASL, STREAMS
from test_attack_login import HALF_A_HELLO, TLS
from test_attack_xml import ENDLESS, MALFORMED, NOT_UTF_8, REFUSED, RESTRICTED, pour

OURS, THEIRS = "attacked.example", "evil.example"
SERVER = "jabber:server"
PORTS = ("s2s", "s2s over tls")


class Federating(Moltis):
    """With a domain that others could find; it believes the authority of this run."""

    def command(self):
        command, environment = super().command()
        return command, environment | {"SSL_CERT_FILE": str(self.authority.root)}


class Link(Wire):
    """A stream of evil.example, which has a certificate of its own."""

    def certified(self) -> ssl.SSLContext:
        made = context()
        made.load_cert_chain(*self.server.theirs)
        return made

    async def connect(self) -> "Link":
        direct = self.transport == "s2s over tls"
        self.line = await Line.open(self.server.s2s_tls_port if direct else self.server.s2s_port, self.certified() if direct else None)
        return self

    def header(self, to: str = OURS, more: str = f" from='{THEIRS}'") -> str:
        return (f"<?xml version='1.0'?><stream:stream xmlns='{SERVER}' xmlns:stream='{STREAMS}' xmlns:db='jabber:server:dialback' "
                f"to='{to}' version='1.0'{more}>")

    async def secured(self) -> "Link":
        await self.connect()
        if self.transport == "s2s":
            await self.open()
            await self.raw(f"<starttls xmlns='{TLS}'/>")
            await self.until("<proceed")
            self.line.data.clear()
            loop = asyncio.get_running_loop()
            self.line.transport = await loop.start_tls(self.line.transport, self.line, self.certified(), server_hostname=OURS)
            self._seen = 0
        return self

    async def authenticated(self) -> "Link":
        await self.secured()
        await self.open()
        name = base64.b64encode(THEIRS.encode()).decode()
        await self.raw(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>{name}</auth>")
        await self.until("<success")
        self.forget()
        await self.open()
        return self


async def before_the_header(link: Link) -> None:
    await link.connect()


async def before_tls(link: Link) -> None:
    await link.connect()
    await link.open()


async def before_the_login(link: Link) -> None:
    await link.secured()
    await link.open()


async def authenticated(link: Link) -> None:
    await link.authenticated()


STATES = {"before the header": before_the_header, "before TLS": before_tls, "before the login": before_the_login,
          "authenticated": authenticated}


@pytest_asyncio.fixture(scope="module")
async def federating(tmp_path_factory, authority):
    s2s, tls = free_port(), free_port()
    server = Federating(tmp_path_factory.mktemp("federating") / "server", authority, {"xmpp_server": {
        "domain": OURS, "s2s_port": s2s, "s2s_tls_port": tls, "admins": [f"{ALICE}@{OURS}"],
        "limits": {"connections_per_ip": 100_000, "s2s_bytes_per_second": 0, "c2s_bytes_per_second": 0}}})
    certificate, key = authority.issue("attacked", [OURS])
    server.config["xmpp_server"] |= {"certificate": str(certificate), "key": str(key)}
    server.configure()
    server.s2s_port, server.s2s_tls_port = s2s, tls
    server.theirs = authority.issue("evil", [THEIRS])
    await server.start()
    try:
        await server.add_user(ALICE, PASSWORD, OURS)
        yield server
    finally:
        await server.stop()


@pytest_asyncio.fixture
async def victim(federating):
    """A good server is served before and after."""
    noted = len(federating.log())
    yield federating
    link = await Link(federating, "s2s").authenticated()
    await link.raw(f"<iq type='get' id='alive' from='{THEIRS}' to='{OURS}'><ping xmlns='urn:xmpp:ping'/></iq><x xmlns='urn:x'/>")
    await link.condition()
    assert federating.process.poll() is None
    said = federating.log()[noted:]
    assert "panicked" not in said and "ERROR" not in said, said[-3000:]


@pytest.mark.parametrize(("port", "state"), [(port, state) for port in PORTS for state in STATES if state != "before TLS" or port == "s2s"])
async def test_forbidden_xml_ends_a_stream_of_servers_in_every_state(victim, port, state):
    async def ends(name: str, payload: bytes) -> str | None:
        link = Link(victim, port)
        try:
            await STATES[state](link)
            link.forget()
            await link.raw(payload)
            condition = await link.condition(10)
        except (TimeoutError, Closed) as error:
            return f"{name}: {error!r}"
        finally:
            link.cut()
        early = state == "before the header" and name not in RESTRICTED and condition == "invalid-namespace"
        return None if condition in REFUSED or early else f"{name}: {condition or 'no condition'}"
    everything = RESTRICTED | MALFORMED | NOT_UTF_8
    if state == "before the header":
        everything.pop("a second declaration")
    wrong = await asyncio.gather(*(ends(*payload) for payload in everything.items()))
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize("port", PORTS)
async def test_forbidden_xml_ends_a_stream_of_servers_inside_a_stanza(victim, port):
    for name, payload in (RESTRICTED | MALFORMED | NOT_UTF_8).items():
        if name == "a section outside of an element":
            continue
        link = await Link(victim, port).authenticated()
        await link.raw(f"<message from='a@{THEIRS}' to='{ALICE}@{OURS}'><body>".encode() + payload + b"</body></message>")
        condition = await link.condition(10)
        assert condition in REFUSED, f"{name}: {condition}"


@pytest.mark.parametrize("state", ["before the login", "authenticated"])
@pytest.mark.parametrize("port", PORTS)
@pytest.mark.limit(60)
async def test_a_stanza_without_an_end_of_a_server_meets_bounded_memory(victim, port, state):
    links = {name: Link(victim, port) for name in ENDLESS}
    for link in links.values():
        await STATES[state](link)
    async with flat(victim, most=len(links) * 2, at_rest=len(links) * 1.5):
        for name, link in links.items():
            start, more, times = ENDLESS[name]
            sent = await pour(link, start, more, times)
            await link.line.end()
            assert sent < 16 << 20, f"{name}: the server has taken {sent} bytes"
            found = CONDITION.search(link.text)
            assert found is None or found[1] in ("policy-violation", "not-well-formed"), f"{name}: {found}"


@pytest.mark.parametrize("port", PORTS)
async def test_before_a_server_is_known_there_are_8_kib_and_32_elements(victim, port):
    for attack in (b"<a>" + b"<b/>" * 32 + b"</a>", b"<a>" + b"x" * 8_192 + b"</a>", b" " * 8_193):
        link = Link(victim, port)
        await STATES["before the login"](link)
        await link.raw(attack)
        assert await link.condition() == "policy-violation", attack[:20]
    for stanza in (f"<message from='a@{THEIRS}' to='{ALICE}@{OURS}'/>", "<a xmlns='urn:xmpp:sm:3' h='0'/>", f"<success xmlns='{SASL}'/>",
                   f"<starttls xmlns='{TLS}'/>", "<enable xmlns='urn:xmpp:sm:3'/>"):
        link = Link(victim, port)
        await STATES["before the login"](link)
        await link.raw(stanza)
        assert await link.condition() == "not-authorized", stanza


@pytest.mark.limit(90)
async def test_servers_that_come_and_go_leave_memory_where_it_was(victim):
    """At every stage, dialback among them; half-open ones are held in little memory. 4,000 a round, three rounds."""
    head = Link(victim, "s2s").header().encode()
    stages = [(victim.s2s_port, [], b""), (victim.s2s_port, [head], b"features>"), (victim.s2s_tls_port, [HALF_A_HELLO], b""),
              (victim.s2s_port, [head + b"<a>" + b"x" * 7_000], b"features>")]

    async def come(number: int) -> Line:
        port, sent, awaited = stages[number % len(stages)]
        line = await Line.open(port)
        for data in sent:
            await line.write(data)
        await line.until(lambda: awaited in line.data)
        return line

    async def a_round(count: int) -> None:
        for start in range(0, count, 500):
            lines = await asyncio.gather(*(come(number) for number in range(start, start + 500)))
            # With TLS, a key that nobody can confirm.
            for _ in range(5):
                link = await Link(victim, "s2s").secured()
                await link.open()
                await link.raw(f"<db:result from='{THEIRS}' to='{OURS}'>{'0' * 64}</db:result>")
                lines.append(link.line)
            for line in lines:
                line.cut()
    await a_round(4_000)
    async with flat(victim, most=16, at_rest=10):
        await a_round(4_000)
        await a_round(4_000)
