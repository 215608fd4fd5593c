"""A client that sends much and counts: stream management (XEP-0198) by hand, no TLS, next to no work for each stanza.

For an embedded server with `allow_plaintext`. It keeps what it has sent, what of that the server has acknowledged, and
what has come.
"""

import asyncio
import base64
import itertools
import os
from xml.etree import ElementTree as ET

from servers import DOMAIN, PATIENCE
from stanza import CLIENT
from stream import SASL, STREAMS, decoded, encoded, scram_proof

SM = "urn:xmpp:sm:3"
MAM = "urn:xmpp:mam:2"
SID = "urn:xmpp:sid:0"
RSM = "http://jabber.org/protocol/rsm"
FORWARD = "urn:xmpp:forward:0"
CORRECT = "urn:xmpp:message-correct:0"
STANZAS = {f"{{{CLIENT}}}{name}" for name in ("message", "presence", "iq")}


class Gone(Exception):
    """The server has gone away."""


class Courier:
    def __init__(self, port: int, user: str, password: str):
        self.port, self.user, self.password = port, user, password
        self.jid = f"{user}@{DOMAIN}"
        self.sent: list[str] = []  # the ids of the messages of this stream, in their order
        self.acknowledged = 0  # how many stanzas of this stream the server has taken
        self.arrived: list[ET.Element] = []  # messages
        self.errors: dict[str, ET.Element] = {}  # by the id of the message that was refused
        self._stanzas: list[str | None] = []  # of each stanza sent since XEP-0198 was on: a message's id
        self._handled = 0
        self._answers: dict[str, asyncio.Future] = {}
        self._numbers = itertools.count(1)
        self._moved = asyncio.Event()
        self._other: asyncio.Queue[ET.Element | None] = asyncio.Queue()
        self._task: asyncio.Task | None = None
        self._gone = False

    async def login(self, presence: bool = False) -> "Courier":
        """Logs in, binds and turns on stream management; `presence`: is available."""
        try:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            raise Gone from None
        self._task = asyncio.create_task(self._read())
        await self._open()
        await self._authenticate()
        await self._open()
        self.write("<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>"
                   f"<enable xmlns='{SM}'/>")
        await self._next()
        await self._next()
        self._handled = 0
        if presence:
            self.stanza("<presence/>")
        return self

    async def _open(self) -> None:
        self._parser, self._depth = ET.XMLPullParser(("start", "end")), 0
        self.write(f"<?xml version='1.0'?><stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}' to='{DOMAIN}' "
                   "version='1.0'>")
        await self._next()

    async def _authenticate(self) -> None:
        first = f"n={self.user},r={base64.b64encode(os.urandom(12)).decode()}"
        self.write(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-1'>{encoded('n,,' + first)}</auth>")
        challenge = decoded((await self._next()).text)
        given = dict(part.split("=", 1) for part in challenge.split(","))
        without_proof = f"c=biws,r={given['r']}"
        proof = scram_proof(self.password, base64.b64decode(given["s"]), int(given["i"]),
                            ",".join((first, challenge, without_proof)))
        self.write(f"<response xmlns='{SASL}'>{encoded(f'{without_proof},p={proof}')}</response>")
        assert (await self._next()).tag == f"{{{SASL}}}success"

    async def _next(self) -> ET.Element:
        element = await asyncio.wait_for(self._other.get(), PATIENCE)
        if element is None:
            raise Gone
        return element

    # -- sending

    def write(self, text: str) -> None:
        if not self._gone:
            self._writer.write(text.encode())

    def stanza(self, text: str, id: str | None = None) -> None:
        self._stanzas.append(id)
        self.write(text)

    def message(self, to: str, id: str, body: str | None = None) -> None:
        self.sent.append(id)
        self.stanza(f"<message to='{to}' type='chat' id='{id}'><body>{body or id}</body></message>", id)

    def request(self) -> None:
        """Asks for an acknowledgement."""
        self.write(f"<r xmlns='{SM}'/>")

    async def settle(self) -> None:
        """Returns when everything that was sent is acknowledged."""
        self.request()
        await self.until(lambda: self.unacknowledged == 0)

    @property
    def unacknowledged(self) -> int:
        return len(self._stanzas) - self.acknowledged

    @property
    def accepted(self) -> list[str]:
        """The messages that the server has acknowledged and not refused."""
        return [id for id in self._stanzas[:self.acknowledged] if id is not None and id not in self.errors]

    async def until(self, condition, seconds: float = PATIENCE) -> None:
        """Waits until something that came makes it true; `Gone` if the server goes first."""
        async with asyncio.timeout(seconds):
            while not condition():
                if self._gone:
                    raise Gone
                self._moved.clear()
                await self._moved.wait()

    async def iq(self, kind: str, payload: str, to: str = "") -> ET.Element:
        id = f"q{next(self._numbers)}"
        self._answers[id] = asyncio.get_running_loop().create_future()
        address = f" to='{to}'" if to else ""
        self.stanza(f"<iq type='{kind}' id='{id}'{address}>{payload}</iq>")
        return await asyncio.wait_for(self._answers[id], PATIENCE)

    async def ping(self) -> None:
        await self.iq("get", "<ping xmlns='urn:xmpp:ping'/>")

    async def archive(self, after: str = "") -> list[tuple[str, ET.Element]]:
        """What the archive holds after this id: ids and messages."""
        found = []
        while True:
            start, self.arrived = len(found), []
            fin = (await self.iq("set", f"<query xmlns='{MAM}'><set xmlns='{RSM}'><max>250</max><after>{after}</after>"
                                 "</set></query>" if after else
                                 f"<query xmlns='{MAM}'><set xmlns='{RSM}'><max>250</max></set></query>"))
            for message in self.arrived:
                result = message.find(f"{{{MAM}}}result")
                if result is not None:
                    found.append((result.get("id"), result.find(f"{{{FORWARD}}}forwarded/{{{CLIENT}}}message")))
            if fin.find(f"{{{MAM}}}fin").get("complete") == "true" or len(found) == start:
                return found
            after = found[-1][0]

    async def close(self) -> None:
        """Politely, with everything that came acknowledged."""
        self.write(f"<a xmlns='{SM}' h='{self._handled}'/></stream:stream>")
        if self._task is not None:
            await asyncio.wait([self._task], timeout=PATIENCE)
        self.cut()

    def cut(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._writer.transport.abort()

    # -- what comes

    async def _read(self) -> None:
        try:
            while data := await self._reader.read(65536):
                self._parser.feed(data)
                for event, element in self._parser.read_events():
                    self._depth += 1 if event == "start" else -1
                    if event == "end" and self._depth == 1:
                        self._take(element)
        except (OSError, ET.ParseError):
            pass  # the server was killed while it wrote
        finally:
            self._gone = True
            self._moved.set()
            self._other.put_nowait(None)
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(Gone())
                    answer.exception()

    def _take(self, element: ET.Element) -> None:
        if element.tag == f"{{{SM}}}a":
            self.acknowledged = int(element.get("h"))
        elif element.tag == f"{{{SM}}}r":
            self.write(f"<a xmlns='{SM}' h='{self._handled}'/>")
        elif element.tag not in STANZAS:
            self._other.put_nowait(element)
        else:
            self._handled += 1
            self._stanza(element)
        self._moved.set()

    def _stanza(self, element: ET.Element) -> None:
        answer = self._answers.pop(element.get("id", ""), None)
        if answer is not None:
            answer.set_result(element)
        elif element.get("id") == "bind":
            self._other.put_nowait(element)
        elif element.tag == f"{{{CLIENT}}}message" and element.get("type") == "error":
            self.errors[element.get("id")] = element
        elif element.tag == f"{{{CLIENT}}}message":
            self.arrived.append(element)
