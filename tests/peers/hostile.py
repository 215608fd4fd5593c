"""An XMPP server that misbehaves on demand: what no real one can be made to do.

It speaks STARTTLS, SCRAM-SHA-256 and PLAIN, binding, roster and, if told, stream management, for one account. All
else is up to the test: what it offers, what it appends, what it sends in a session, how it answers IQs.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import ssl
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

from servers import PATIENCE, free_port
from stanza import CLIENT, Iq, Message, Presence, Stanza, escape
from person import Arrivals

STREAMS = "http://etherx.jabber.org/streams"
SASL = "urn:ietf:params:xml:ns:xmpp-sasl"
TLS = "urn:ietf:params:xml:ns:xmpp-tls"
BIND = "urn:ietf:params:xml:ns:xmpp-bind"
SM = "urn:xmpp:sm:3"
CERTIFICATE = tuple[Path, Path]


class HostileServer:
    def __init__(self, certificate: CERTIFICATE, user: str, password: str):
        self.port = free_port()
        self.user, self.password = user, password
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate)
        # What it does; a test changes these before the bot connects.
        self.offers_starttls = True
        self.mechanisms_in_clear: list[str] = []
        self.mechanisms = ["SCRAM-SHA-256", "PLAIN"]
        self.behind_proceed = b""
        self.wrong_signature = False
        self.stream_management = False
        self.registration = False
        self.on_iq: Callable[[Iq], str | None] = lambda iq: None
        # What it saw.
        self.fault: Exception | None = None
        self.connections = 0
        self.handshakes = 0
        self.auths: list[tuple[str, bool]] = []  # mechanism, and whether inside TLS
        self.bound = 0
        self.stanzas = Arrivals()
        self.session: Session | None = None

    async def start(self) -> "HostileServer":
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        return self

    async def stop(self) -> None:
        self._server.close()
        if self.session is not None:
            self.session.writer.transport.abort()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await Session(self, reader, writer).run()
        except (OSError, ssl.SSLError, ET.ParseError, EOFError):
            pass  # the bot has hung up, or was made to
        except Exception as error:  # a fault of this server, which must not look like one of the bot
            self.fault = error
        finally:
            writer.transport.abort()
            self.stanzas.wake()

    async def online(self, times: int = 1, seconds: float = 30) -> None:
        """Waits until the bot has sent its presence in its session number `times`."""
        await self.stanzas.until(lambda: self.bound >= times and self.session is not None
                                 and self.session.available, f"session {times} of the bot", seconds)

    def send(self, xml: str | bytes) -> None:
        """Raw bytes into the session."""
        self.session.send(xml)

    def says(self, sender: str, text: str, id: str) -> None:
        self.send(f"<message from='{sender}' to='{self.session.full}' type='chat' id='{id}'>"
                  f"<body>{escape(text)}</body>"
                  f"<stanza-id xmlns='urn:xmpp:sid:0' by='{self.user}@localhost' id='archived-{id}'/></message>")

    async def answer(self, text: str, to: str, seconds: float = PATIENCE) -> Message:
        return await self.stanzas.first(
            lambda s: isinstance(s, Message) and s.to.startswith(to) and text in (s.body or ""),
            f"{text!r} to {to}", seconds)


class Session:
    """One connection of the bot."""

    def __init__(self, server: HostileServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.server, self.reader, self.writer = server, reader, writer
        self.secure = self.authenticated = self.available = False
        self.full = ""
        self.handled = 0

    def send(self, xml: str | bytes) -> None:
        self.writer.write(xml if isinstance(xml, bytes) else xml.encode())

    async def run(self) -> None:
        while True:
            await self._stream()

    async def _stream(self) -> None:
        """One stream, from its header to a restart."""
        parser = ET.XMLPullParser(("start", "end"))
        depth = 0
        while True:
            data = await self.reader.read(65536)
            if not data:
                raise EOFError
            parser.feed(data)
            for event, element in parser.read_events():
                depth += 1 if event == "start" else -1
                if event == "start" and depth == 1:
                    self._open()
                elif event == "end" and depth == 1 and await self._handle(element):
                    return
                elif event == "end" and depth == 0:
                    raise EOFError

    def _open(self) -> None:
        server = self.server
        if self.authenticated:
            features = f"<bind xmlns='{BIND}'/>" + (f"<sm xmlns='{SM}'/>" if server.stream_management else "")
        else:
            names = server.mechanisms if self.secure else server.mechanisms_in_clear
            features = f"<starttls xmlns='{TLS}'><required/></starttls>" if not self.secure and server.offers_starttls else ""
            if names:
                offered = "".join(f"<mechanism>{name}</mechanism>" for name in names)
                features += f"<mechanisms xmlns='{SASL}'>{offered}</mechanisms>"
            if server.registration and self.secure:
                features += "<register xmlns='http://jabber.org/features/iq-register'/><register xmlns='urn:xmpp:invite'/>"
        self.send(f"<?xml version='1.0'?><stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}' from='localhost' "
                  f"id='{os.urandom(4).hex()}' version='1.0'><stream:features>{features}</stream:features>")

    async def _handle(self, element: ET.Element) -> bool:
        """Handles a child of the stream; true: the stream restarts."""
        namespace, name = element.tag[1:].split("}")
        if namespace == TLS:
            self.send(f"<proceed xmlns='{TLS}'/>".encode() + self.server.behind_proceed)
            await self.writer.drain()
            await self.writer.start_tls(self.server.context)
            self.secure = True
            self.server.handshakes += 1
            return True
        if namespace == SASL:
            return await self._authenticate(element)
        if namespace == SM:
            self._manage(element, name)
            return False
        self.handled += 1
        stanza = {"message": Message, "presence": Presence, "iq": Iq}.get(name, Stanza)(element)
        if name == "presence" and not stanza.to and not stanza.type:
            self.available = True
        self.server.stanzas.add(stanza)
        if name == "iq" and stanza.type in ("get", "set"):
            self.send(self._reply(stanza))
        return False

    def _manage(self, element: ET.Element, name: str) -> None:
        if name == "enable":
            self.handled = 0
            self.send(f"<enabled xmlns='{SM}' id='resume-me' resume='true'/>")
        elif name == "r":
            self.send(f"<a xmlns='{SM}' h='{self.handled}'/>")
        elif name == "resume":
            self.send(f"<failed xmlns='{SM}'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>")

    def _reply(self, iq: Iq) -> str:
        sender = f" from='{escape(iq.to)}'" if iq.to else ""
        head = f"<iq type='result' id='{escape(iq.id)}'{sender}"
        bind = iq.child("bind", BIND)
        if bind is not None:
            self.full = f"{self.server.user}@localhost/{bind.findtext(f'{{{BIND}}}resource') or 'moltis'}"
            self.server.bound += 1
            self.server.session = self
            return f"{head}><bind xmlns='{BIND}'><jid>{self.full}</jid></bind></iq>"
        if (special := self.server.on_iq(iq)) is not None:
            return special
        if iq.payload("jabber:iq:roster") is not None:
            return f"{head}><query xmlns='jabber:iq:roster'/></iq>"
        if iq.type == "set" and iq.payload("urn:xmpp:carbons:2") is not None:
            return f"{head}/>"
        return (f"<iq type='error' id='{escape(iq.id)}'{sender}><error type='cancel'>"
                "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")

    # -- SASL

    async def _authenticate(self, auth: ET.Element) -> bool:
        mechanism = auth.get("mechanism")
        if mechanism is None:
            return False
        self.server.auths.append((mechanism, self.secure))
        data = base64.b64decode(auth.text or "")
        if mechanism == "PLAIN":
            _, user, password = data.split(b"\0")
            right, final = (user.decode(), password.decode()) == (self.server.user, self.server.password), b""
        else:
            right, final = await self._scram(data)
        if not right:
            self.send(f"<failure xmlns='{SASL}'><not-authorized/></failure>")
            return False
        self.send(f"<success xmlns='{SASL}'>{base64.b64encode(final).decode()}</success>")
        self.authenticated = True
        return True

    async def _scram(self, first: bytes) -> tuple[bool, bytes]:
        """RFC 5802 with SHA-256, the server's side."""
        bare = first.split(b",", 2)[2]
        nonce = dict(part.split(b"=", 1) for part in bare.split(b","))[b"r"] + base64.b64encode(os.urandom(12))
        salt = os.urandom(16)
        challenge = b"r=" + nonce + b",s=" + base64.b64encode(salt) + b",i=4096"
        self.send(f"<challenge xmlns='{SASL}'>{base64.b64encode(challenge).decode()}</challenge>")
        final = base64.b64decode(await self._response())
        without_proof, proof = final.rsplit(b",p=", 1)
        salted = hashlib.pbkdf2_hmac("sha256", self.server.password.encode(), salt, 4096)

        def mac(key: bytes, text: bytes) -> bytes:
            return hmac.new(key, text, "sha256").digest()
        client_key = mac(salted, b"Client Key")
        message = b",".join((bare, challenge, without_proof))
        expected = bytes(a ^ b for a, b in zip(client_key, mac(hashlib.sha256(client_key).digest(), message), strict=True))
        signature = mac(mac(salted, b"Server Key"), message)
        if self.server.wrong_signature:
            signature = bytes(32)
        return base64.b64decode(proof) == expected, b"v=" + base64.b64encode(signature)

    async def _response(self) -> str:
        """The text of the <response/> that comes next."""
        data = b""
        while b"</" not in data and b"/>" not in data:
            more = await self.reader.read(65536)
            if not more:
                raise EOFError
            data += more
        return ET.fromstring(data).text or ""
