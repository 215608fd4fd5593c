"""The server of another domain, played by the test: it does as servers do (RFC 6120, XEP-0220), or whatever a test wants.

It believes everyone. What reaches it is in `stanzas`; `accept` may be another behaviour, for a whole connection.
"""

import asyncio
import itertools
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

from lab import Lab, Peer
from namespaces import Machine
from person import Arrivals
from servers import PATIENCE, connected
from stanza import Iq, Message, Presence, escape

STREAMS = "http://etherx.jabber.org/streams"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
SERVER, CLIENT = "jabber:server", "jabber:client"
DIALBACK, DIALBACK_FEATURE = "jabber:server:dialback", "urn:xmpp:features:dialback"
BIDI, BIDI_FEATURE = "urn:xmpp:bidi", "urn:xmpp:features:bidi"
KINDS = {f"{{{CLIENT}}}message": Message, f"{{{CLIENT}}}presence": Presence, f"{{{CLIENT}}}iq": Iq}


class Ended(Exception):
    """The other side has closed the stream."""


class Link:
    """One connection between two servers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.reader, self.writer = reader, writer
        self.header: dict[str, str] = {}  # of the other side's stream
        self.authenticated: set[str] = set()  # the domains that the other side speaks for
        self.renew()

    def renew(self) -> None:
        """A new stream over the same connection."""
        self._parser, self._depth, self._events = ET.XMLPullParser(("start", "end")), 0, []
        self.header = {}

    def write(self, text: str | bytes) -> None:
        self.writer.write(text if isinstance(text, bytes) else text.encode())

    def open(self, sender: str, to: str, id: str = "") -> None:
        identity = f" id='{id}'" if id else ""
        self.write(f"<?xml version='1.0'?><stream:stream xmlns='{SERVER}' xmlns:stream='{STREAMS}' xmlns:db='{DIALBACK}' "
                   f"from='{sender}' to='{to}' version='1.0'{identity}>")

    async def opened(self) -> None:
        """Returns when the header of the other side is there."""
        while not self.header:
            await self._take()

    async def next(self, seconds: float = PATIENCE) -> ET.Element:
        """The next child of the stream; stanzas as if they were a client's."""
        async with asyncio.timeout(seconds):
            while not self._events:
                await self._take()
        return self._events.pop(0)

    async def _take(self) -> None:
        data = await self.reader.read(65536)
        if not data:
            raise Ended
        self._parser.feed(data)
        for event, element in self._parser.read_events():
            self._depth += 1 if event == "start" else -1
            if event == "start" and self._depth == 1:
                self.header = dict(element.attrib) or {"nothing": ""}
            elif event == "end" and self._depth == 1:
                for part in element.iter():
                    part.tag = part.tag.replace(f"{{{SERVER}}}", f"{{{CLIENT}}}")
                self._events.append(element)
            elif event == "end" and self._depth == 0:
                raise Ended

    async def features(self) -> ET.Element:
        features = await self.next()
        assert features.tag == f"{{{STREAMS}}}features", ET.tostring(features, encoding="unicode")
        return features

    async def external(self, sender: str, to: str) -> bool:
        """Says by SASL EXTERNAL that it is the server of a domain; the other side has offered it, or not."""
        self.write(f"<auth xmlns='{SASL}' mechanism='EXTERNAL'>=</auth>")
        if (await self.next()).tag != f"{{{SASL}}}success":
            return False
        self.renew()
        self.open(sender, to)
        await self.features()
        return True

    async def dialback(self, sender: str, to: str, key: str) -> str:
        """Asks for a domain to be believed; returns `valid`, `invalid` or `error`."""
        self.write(f"<db:result from='{sender}' to='{to}'>{key}</db:result>")
        while (answer := await self.next()).tag != f"{{{DIALBACK}}}result":
            pass
        return answer.get("type", "")

    async def settled(self) -> str:
        """Returns when the other side has handled what it was sent, or has had enough; the last thing it said."""
        last = ""
        try:
            self.write("<db:verify from='settled.example' to='settled.example' id='settled'>key</db:verify>")
            while not last.startswith(f"{{{DIALBACK}}}"):
                last = (await self.next(10)).tag
        except (Ended, OSError, TimeoutError, ssl.SSLError):
            pass
        return last

    def close(self) -> None:
        self.writer.transport.abort()


class Foreign:
    """A domain, and the machine of its server."""

    def __init__(self, lab: Lab, machine: Machine, domain: str, certificate: tuple[Path, Path]):
        self.lab, self.machine, self.domain, self.certificate = lab, machine, domain, certificate
        self.stanzas = Arrivals()
        self.links: list[Link] = []
        self.accept: Callable = self.serve
        # What it offers after TLS, and says of who asks by dialback.
        self.external = self.starttls = True
        self.bidi = False
        self.believes = "valid"
        self.keys: set[str] = set()  # what it has sent itself, as dialback keys
        self.offered: list[str] = []  # the application protocols of TLS (RFC 7301) that were agreed on
        self.names: list[str] = []  # that TLS handshakes asked for
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task] = set()
        self._numbers = itertools.count(1)

    async def listen(self, port: int = 5269, *addresses: str, direct: bool = False) -> "Foreign":
        """`direct`: with TLS from the first byte."""
        for address in addresses or (self.machine.ipv4, self.machine.ipv6):
            self._servers.append(await asyncio.start_server(
                self._connection, sock=self.machine.bound(port, address), ssl=self.context() if direct else None))
        return self

    def zone(self, *lines: str) -> None:
        """`4` and `6` stand for its addresses."""
        self.lab.dns.zone(self.domain, *(line.replace(" A 4", f" A {self.machine.ipv4}")
                                         .replace(" AAAA 6", f" AAAA {self.machine.ipv6}") for line in lines))

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
        for link in self.links:
            link.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.certificate)
        context.set_alpn_protocols(["xmpp-server"])
        context.sni_callback = lambda _, name, __: self.names.append(name or "")
        return context

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(reader, writer)
        self.links.append(link)
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            await self.accept(link)
        except (Ended, OSError, ssl.SSLError, ET.ParseError, TimeoutError):
            pass  # the other side has had enough
        finally:
            link.close()

    async def serve(self, link: Link) -> None:
        """As a server does it that has nothing to hide."""
        while True:
            await link.opened()
            link.open(self.domain, link.header.get("from", ""), os.urandom(8).hex())
            link.write(self.features(link))
            while not await self.handle(link, await link.next(600)):
                pass
            link.renew()

    def features(self, link: Link) -> str:
        secure = link.writer.get_extra_info("ssl_object") is not None
        offers = ""
        if not secure and self.starttls:
            offers += f"<starttls xmlns='{TLS}'><required/></starttls>"
        if secure and self.external and not link.authenticated:
            offers += f"<mechanisms xmlns='{SASL}'><mechanism>EXTERNAL</mechanism></mechanisms>"
        if secure:
            offers += f"<dialback xmlns='{DIALBACK_FEATURE}'><errors/></dialback>"
        if secure and self.bidi:
            offers += f"<bidi xmlns='{BIDI_FEATURE}'/>"
        return f"<stream:features>{offers}</stream:features>"

    async def handle(self, link: Link, element: ET.Element) -> bool:
        """Whether a new stream begins."""
        peer = element.get("from", "")
        if element.tag == f"{{{TLS}}}starttls":
            link.write(f"<proceed xmlns='{TLS}'/>")
            await link.writer.start_tls(self.context())
            self.offered.append(link.writer.get_extra_info("ssl_object").selected_alpn_protocol() or "")
            return True
        if element.tag == f"{{{SASL}}}auth":
            link.authenticated.add(link.header.get("from", ""))
            link.write(f"<success xmlns='{SASL}'/>")
            return True
        if element.tag == f"{{{DIALBACK}}}result":
            link.authenticated.add(peer)
            link.write(f"<db:result from='{element.get('to')}' to='{peer}' type='{self.believes}'/>")
        elif element.tag == f"{{{DIALBACK}}}verify":
            answer = "valid" if element.text in self.keys else "invalid"
            link.write(f"<db:verify from='{element.get('to')}' to='{peer}' id='{element.get('id')}' type='{answer}'/>")
        elif element.tag in KINDS:
            self.stanzas.add(KINDS[element.tag](element))
        return False

    # -- its own connections to others

    async def connect(self, peer: Peer, *, sender: str = "", certificate: bool = True, port: int = 5269) -> Link:
        """A stream to a server, with TLS; its features have come. `certificate`: whether it shows one."""
        sender = sender or self.domain
        opened = await connected(port, peer.machine.ipv4, self.machine.open())
        link = Link(*await asyncio.open_connection(sock=opened))
        self.links.append(link)
        link.open(sender, peer.domain)
        await link.features()
        link.write(f"<starttls xmlns='{TLS}'/>")
        assert (await link.next()).tag == f"{{{TLS}}}proceed"
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if certificate:
            context.load_cert_chain(*self.certificate)
        await link.writer.start_tls(context, server_hostname=peer.domain)
        link.renew()
        link.open(sender, peer.domain)
        return link

    async def authenticated(self, peer: Peer) -> Link:
        """A connection on which it may speak for its domain."""
        link = await self.connect(peer)
        await link.features()
        assert await link.external(self.domain, peer.domain), "EXTERNAL was refused"
        return link

    def key(self) -> str:
        """A dialback key that it will say is its own."""
        key = os.urandom(16).hex()
        self.keys.add(key)
        return key

    def message(self, to: str, text: str, sender: str = "") -> str:
        id = f"m{next(self._numbers)}"
        return (f"<message from='{sender or f'someone@{self.domain}'}' to='{to}' type='chat' id='{id}'>"
                f"<body>{escape(text)}</body></message>")

    async def sees(self, text: str, seconds: float = PATIENCE) -> Message:
        return await self.stanzas.first(lambda s: isinstance(s, Message) and s.type != "error" and s.body == text,
                                        f"{text!r} at {self.domain}", seconds)


async def foreign(lab: Lab, *, name: str = "", listening: bool = True, **certificate) -> Foreign:
    """A domain that nothing else has, with a server on a machine of its own."""
    number = lab.number()
    name = name or f"foreign{number}"
    domain = f"{name}.example"
    hosts = certificate.pop("hosts", [domain])
    files = lab.authority.issue(f"{name}-{number}", hosts, **certificate)
    other = Foreign(lab, lab.network.add(f"f{number}", number), domain, files)
    lab.helpers.append(other)
    other.zone("_xmpp-server._tcp IN SRV 0 0 5269 xmpp.{}.".format(domain), "xmpp IN A 4", "xmpp IN AAAA 6")
    return await other.listen() if listening else other
