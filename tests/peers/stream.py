"""A client without opinions: it logs in, sends what it is told, and keeps what arrives.

Libraries answer, reorder and drop stanzas as they see fit; a scenario wants to see every one.
"""

import asyncio
import base64
import hashlib
import hmac
import itertools
import os
import ssl
from xml.etree import ElementTree as ET

from servers import DOMAIN, PATIENCE, Server
from stanza import CLIENT

STREAMS = "http://etherx.jabber.org/streams"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
DISCO = "http://jabber.org/protocol/disco#info"
SM = "urn:xmpp:sm:3"
REQUEST = f"{{{SM}}}r"
BARRIER = "barrier-"


class Ended(Exception):
    """The server has closed the stream."""


class Stream:
    """One connection, with TLS from the first byte."""

    def __init__(self, server: Server, source: str = "127.0.0.1"):
        """`source`: the address that the server sees; on loopback any of 127.0.0.0/8."""
        self.server, self.source = server, source
        self.jid = ""
        self.features: ET.Element | None = None
        self._instead: ET.Element | None = None
        self._arrived: asyncio.Queue[ET.Element | None] = asyncio.Queue()
        self._barriers: dict[str, asyncio.Event] = {}
        self._numbers = itertools.count(1)
        # What it says of itself when it is asked; None: the questions are for the script.
        self._capabilities: list[str] | None = None
        self._parser: ET.XMLPullParser | None = None
        self._depth = 0
        self._task: asyncio.Task | None = None

    async def open(self, to: str = DOMAIN) -> "Stream":
        """Connects and opens a stream; its features are in `features`. What comes instead of them is the next."""
        context = ssl.create_default_context()
        # Neither server has a certificate that the system knows; other tests verify it.
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self.server.tls_port, ssl=context, server_hostname=DOMAIN, local_addr=(self.source, 0))
        self._task = asyncio.create_task(self._read())
        await self.restart(to)
        return self

    async def restart(self, to: str = DOMAIN) -> None:
        """A new stream over the same connection."""
        # An empty document begins: what arrives before our header is answered is not of it.
        self._parser, self._depth = ET.XMLPullParser(("start", "end")), 0
        self.write(f"<?xml version='1.0'?><stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}' to='{to}' "
                   "version='1.0'>")
        first = await self.next()
        if first.tag == f"{{{STREAMS}}}features":
            self.features = first
        else:
            self._instead = first

    async def login(self, user: str, password: str, resource: str = "") -> "Stream":
        await self.authenticate(user, password)
        await self.restart()
        wanted = f"<resource>{resource}</resource>" if resource else ""
        self.write(f"<iq type='set' id='bind'><bind xmlns='{BIND}'>{wanted}</bind></iq>")
        bound = (await self.next()).find(f".//{{{BIND}}}jid")
        assert bound is not None, "the resource was not bound"
        self.jid = bound.text
        return self

    async def authenticate(self, user: str, password: str) -> None:
        """SCRAM-SHA-1 (RFC 5802): what every server here offers."""
        nonce = base64.b64encode(os.urandom(12)).decode()
        first = f"n={user},r={nonce}"
        self.write(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{encoded('n,,' + first)}</auth>")
        challenge = decoded(await self._sasl("challenge"))
        given = dict(part.split("=", 1) for part in challenge.split(","))
        without_proof = f"c=biws,r={given['r']}"
        proof = scram_proof(password, base64.b64decode(given["s"]), int(given["i"]),
                            ",".join((first, challenge, without_proof)))
        self.write(f"<response xmlns='{SASL}'>{encoded(f'{without_proof},p={proof}')}</response>")
        await self._sasl("success")

    async def _sasl(self, wanted: str) -> str:
        answer = await self.next()
        assert answer.tag == f"{{{SASL}}}{wanted}", f"not <{wanted}/>: {ET.tostring(answer, encoding='unicode')}"
        return answer.text or ""

    def write(self, text: str) -> None:
        self._writer.write(text.encode())

    @property
    def closed(self) -> bool:
        return self._task is None or self._task.done()

    async def next(self, seconds: float = PATIENCE) -> ET.Element:
        """The next child of the stream, in the order of arrival."""
        if self._instead is not None:
            element, self._instead = self._instead, None
            return element
        element = await asyncio.wait_for(self._arrived.get(), seconds)
        if element is None:
            self._arrived.put_nowait(None)
            raise Ended
        return element

    def waiting(self) -> list[ET.Element]:
        """What has arrived and was not asked for yet."""
        found = []
        while not self._arrived.empty():
            found.append(self._arrived.get_nowait())
        return found

    async def barrier(self) -> None:
        """Returns when everything sent before has been handled, and everything sent to this client has arrived."""
        id = f"{BARRIER}{next(self._numbers)}"
        passed = self._barriers[id] = asyncio.Event()
        self.write(f"<iq type='get' id='{id}'><ping xmlns='urn:xmpp:ping'/></iq>")
        await asyncio.wait_for(passed.wait(), PATIENCE)

    async def close(self) -> None:
        """Politely."""
        if not self._writer.is_closing():
            self.write("</stream:stream>")
            try:
                await asyncio.wait_for(asyncio.shield(self._task), PATIENCE)
            except TimeoutError:
                pass
        self.cut()

    def cut(self) -> None:
        """The connection is gone, as where a cable is pulled."""
        self._writer.transport.abort()
        if self._task is not None:
            self._task.cancel()

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65536):
                self._parser.feed(data)
                for event, element in self._parser.read_events():
                    self._depth += 1 if event == "start" else -1
                    if event == "end" and self._depth == 1:
                        self._take(element)
                    elif event == "end" and self._depth == 0:
                        return
        except (OSError, ET.ParseError):
            pass
        finally:
            self._arrived.put_nowait(None)

    def _take(self, element: ET.Element) -> None:
        passed = self._barriers.pop(element.get("id", ""), None)
        if passed is not None:
            passed.set()
        elif self._capabilities is not None and (query := element.find(f"{{{DISCO}}}query")) is not None:
            self._say_capabilities(element, query.get("node", ""))
        # When a server asks for an acknowledgement is its own affair (XEP-0198, 4).
        elif element.tag != REQUEST and not self.server.is_noise(element):
            if element.tag == f"{{{CLIENT}}}message" and self.jid and "from" not in element.attrib:
                # RFC 6120, 8.1.2.1: it is of the own account.
                element.set("from", self.jid.split("/")[0])
            self._arrived.put_nowait(element)

    def announce(self, wanted: list[str]) -> None:
        """Presence whose capabilities (XEP-0115) say that it wants these nodes (XEP-0163, 4.3)."""
        self._capabilities = sorted([DISCO, *(f"{node}+notify" for node in wanted)])
        text = "client/bot//Scenario<" + "".join(f"{feature}<" for feature in self._capabilities)
        version = base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()
        self.write("<presence><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='urn:example:scenario' "
                   f"ver='{version}'/></presence>")

    def _say_capabilities(self, iq: ET.Element, node: str) -> None:
        features = "".join(f"<feature var='{feature}'/>" for feature in self._capabilities)
        self.write(f"<iq type='result' id='{iq.get('id')}' to='{iq.get('from', '')}'><query xmlns='{DISCO}' node='{node}'>"
                   f"<identity category='client' type='bot' name='Scenario'/>{features}</query></iq>")


def scram_proof(password: str, salt: bytes, iterations: int, message: str) -> str:
    """ClientProof of RFC 5802, 3, with SHA-1."""
    def mac(key: bytes, text: bytes) -> bytes:
        return hmac.new(key, text, "sha1").digest()
    client_key = mac(hashlib.pbkdf2_hmac("sha1", password.encode(), salt, iterations), b"Client Key")
    signature = mac(hashlib.sha1(client_key).digest(), message.encode())
    return base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature, strict=True))).decode()


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def decoded(text: str) -> str:
    return base64.b64decode(text).decode()
