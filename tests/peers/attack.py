"""An attacker's tools: raw bytes into any state of a stream, on every transport of the embedded server.

No library stands in between: what a test says is what the server gets. Whatever the server says is kept as text, also where
it hangs up in the middle.
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
import re
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

from moltis import Moltis
from servers import DOMAIN, PATIENCE
from stanza import CLIENT
from stream import BIND, SASL, STREAMS, encoded

TLS = "urn:ietf:params:xml:ns:xmpp-tls"
FRAMING = "urn:ietf:params:xml:ns:xmpp-framing"
PASSWORD = "correct horse battery staple"
# What every attack test finds: who attacks, and who must not notice.
MALLORY, ALICE = "mallory", "alice"
HTTP_TRANSPORTS = ("websocket", "websocket over tls")
TRANSPORTS = ("starttls", "tls", *HTTP_TRANSPORTS)
CONDITION = re.compile(r"<(?:stream:)?error[^>]*>\s*<([a-z-]+)")


class Closed(Exception):
    """The server has closed the connection."""


def context(alpn: list[str] | None = None) -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if alpn:
        made.set_alpn_protocols(alpn)
    return made


class Line(asyncio.Protocol):
    """A connection, of which nothing that has come is lost when it breaks."""

    def __init__(self):
        self.data = bytearray()
        self.closed = False
        self.transport: asyncio.Transport | None = None
        self._moved = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    @classmethod
    async def open(cls, port: int, tls: ssl.SSLContext | None = None) -> "Line":
        named = {"ssl": tls, "server_hostname": DOMAIN} if tls else {}
        _, line = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port, **named)
        return line

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._moved.set()

    def connection_lost(self, _: Exception | None) -> None:
        self.closed = True
        self._moved.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def write(self, data: bytes) -> bool:
        """Whether the other side still listens."""
        if not self.closed:
            self.transport.write(data)
            # Also where there is room: it may be that the server has hung up.
            await asyncio.sleep(0)
            await self._writable.wait()
        return not self.closed

    async def until(self, done: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Waits until what has come makes it true; `Closed` where the server hangs up before."""
        async with asyncio.timeout(seconds):
            while not done():
                if self.closed:
                    raise Closed(bytes(self.data[-500:]))
                self._moved.clear()
                await self._moved.wait()

    async def end(self, seconds: float = PATIENCE) -> bytes:
        """All that came, when the server has hung up."""
        async with asyncio.timeout(seconds):
            while not self.closed:
                self._moved.clear()
                await self._moved.wait()
        return bytes(self.data)

    async def start_tls(self) -> None:
        self.data.clear()
        loop = asyncio.get_running_loop()
        self.transport = await loop.start_tls(self.transport, self, context(), server_hostname=DOMAIN)

    def cut(self) -> None:
        if self.transport is not None:
            self.transport.abort()


def frame(payload: bytes, opcode: int = 1, *, fin: bool = True, masked: bool = True, reserved: int = 0,
          length: int | None = None) -> bytes:
    """A frame of RFC 6455, 5.2, as wrong as it is asked for. `length`: what it says, whatever it has."""
    length = len(payload) if length is None else length
    bit = 0x80 if masked else 0
    head = bytes([(0x80 if fin else 0) | reserved << 4 | opcode])
    if length < 126:
        head += bytes([bit | length])
    elif length < 1 << 16:
        head += bytes([bit | 126]) + struct.pack(">H", length)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", length)
    # A mask of zeros is a mask.
    return head + (bytes(4) if masked else b"") + payload


def upgrade(path: str = "/xmpp-websocket", extra: str = "", host: str = "localhost", protocol: str = "xmpp") -> bytes:
    return (f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            f"Sec-WebSocket-Protocol: {protocol}\r\n{extra}\r\n").encode()


class Wire:
    """A stream, as far as its attacker has brought it."""

    def __init__(self, server: Moltis, transport: str):
        self.server, self.transport = server, transport
        self.websocket = transport in HTTP_TRANSPORTS
        self.line = Line()
        self.user = ""
        self.jid = ""
        self.close_code: int | None = None
        self._seen = 0
        self._text = ""  # of a WebSocket: what its frames held

    async def connect(self) -> "Wire":
        port = {"starttls": self.server.c2s_port, "tls": self.server.tls_port}.get(self.transport, self.server.http_port)
        self.line = await Line.open(port, context() if self.transport in ("tls", "websocket over tls") else None)
        if self.websocket:
            await self.line.write(upgrade())
            await self.line.until(lambda: b"\r\n\r\n" in self.line.data)
            assert b" 101 " in self.line.data, bytes(self.line.data)
            del self.line.data[:self.line.data.index(b"\r\n\r\n") + 4]
        return self

    @property
    def text(self) -> str:
        """What the stream has brought since the last restart."""
        if not self.websocket:
            return self.line.data.decode(errors="replace")
        data = self.line.data
        while len(data) >= 2:
            length, start = data[1] & 127, 2
            if length > 125:
                size = 2 if length == 126 else 8
                if len(data) < 2 + size:
                    break
                length, start = int.from_bytes(data[2:2 + size], "big"), 2 + size
            if len(data) < start + length:
                break
            payload, opcode = bytes(data[start:start + length]), data[0] & 15
            del data[:start + length]
            if opcode == 1:
                self._text += payload.decode()
            elif opcode == 8:
                self.close_code = int.from_bytes(payload[:2], "big")
        return self._text

    async def raw(self, data: bytes | str) -> bool:
        """As they are; on a WebSocket as one message."""
        data = data.encode() if isinstance(data, str) else data
        return await self.line.write(frame(data) if self.websocket else data)

    async def send(self, xml: str) -> bool:
        """A stanza, with the namespace that a message of RFC 7395 needs of itself."""
        if self.websocket:
            xml = re.sub(r"^<(message|presence|iq)", rf"<\1 xmlns='{CLIENT}'", xml)
        return await self.raw(xml)

    async def until(self, pattern: str, seconds: float = PATIENCE) -> re.Match:
        """The next thing that looks like this."""
        found: list[re.Match] = []

        def look() -> bool:
            match = re.compile(pattern, re.DOTALL).search(self.text, self._seen)
            found.extend([match] if match else [])
            return bool(match)
        try:
            await self.line.until(look, seconds)
        except TimeoutError:
            raise AssertionError(f"no {pattern} on {self.transport}, but {self.text[self._seen:]!r}") from None
        except Closed:
            raise Closed(f"before {pattern}: {self.text[self._seen:]!r}") from None
        self._seen = found[0].end()
        return found[0]

    async def condition(self, seconds: float = PATIENCE) -> str:
        """What the stream ends with; nothing: the server has just hung up."""
        await self.line.end(seconds)
        match = CONDITION.search(self.text)
        return match[1] if match else ""

    async def ping(self) -> None:
        """Still served."""
        id = os.urandom(4).hex()
        await self.send(f"<iq type='get' id='{id}'><ping xmlns='urn:xmpp:ping'/></iq>")
        await self.until(rf"<iq[^>]*id=.{id}[^>]*>")

    # -- from state to state

    def header(self, to: str = DOMAIN, more: str = "") -> str:
        if self.websocket:
            return f"<open xmlns='{FRAMING}' to='{to}' version='1.0'{more}/>"
        return (f"<?xml version='1.0'?><stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAMS}' to='{to}' "
                f"version='1.0'{more}>")

    async def open(self) -> str:
        """A header, and the features that come back."""
        await self.raw(self.header())
        return (await self.until(r"<(stream:)?features.*?</(stream:)?features>"))[0]

    def forget(self) -> None:
        """What came before the restart."""
        if self.websocket:
            assert self.text is not None
            self._text = ""
        else:
            self.line.data.clear()
        self._seen = 0

    async def secured(self) -> "Wire":
        """Connected, with TLS where it is not a browser's."""
        await self.connect()
        if self.transport == "starttls":
            await self.open()
            await self.raw(f"<starttls xmlns='{TLS}'/>")
            await self.until("<proceed")
            await self.line.start_tls()
            self._seen = 0
        return self

    async def challenged(self, user: str = MALLORY) -> tuple[str, str, bytes, int]:
        """SCRAM-SHA-256 up to the challenge: the client's message, the server's, its salt and iterations."""
        first = f"n={user},r={base64.b64encode(os.urandom(12)).decode()}"
        await self.raw(f"<auth xmlns='{SASL}' mechanism='SCRAM-SHA-256'>{encoded('n,,' + first)}</auth>")
        challenge = base64.b64decode((await self.until(r"<challenge[^>]*>([^<]*)</challenge>"))[1]).decode()
        given = dict(part.split("=", 1) for part in challenge.split(","))
        return first, challenge, base64.b64decode(given["s"]), int(given["i"])

    async def login(self, user: str = MALLORY, password: str = PASSWORD) -> "Wire":
        """From features to the features after the login."""
        first, challenge, salt, iterations = await self.challenged(user)
        nonce = challenge.split(",")[0][2:]
        final = f"c=biws,r={nonce}"
        proof = scram_256(password, salt, iterations, ",".join((first, challenge, final)))
        await self.raw(f"<response xmlns='{SASL}'>{encoded(f'{final},p={proof}')}</response>")
        await self.until("<success")
        self.user = user
        self.forget()
        await self.open()
        return self

    async def bound(self, user: str = MALLORY, resource: str = "") -> "Wire":
        """A session, from nothing."""
        await self.secured()
        await self.open()
        await self.login(user)
        wanted = f"<resource>{resource}</resource>" if resource else ""
        await self.send(f"<iq type='set' id='bind'><bind xmlns='{BIND}'>{wanted}</bind></iq>")
        self.jid = (await self.until("<jid>([^<]*)</jid>"))[1]
        return self

    def cut(self) -> None:
        self.line.cut()


_SALTED: dict[tuple[bytes, int], bytes] = {}


def scram_256(password: str, salt: bytes, iterations: int, message: str) -> str:
    """ClientProof of RFC 5802, 3."""
    key = (password.encode() + salt, iterations)
    if key not in _SALTED:
        _SALTED[key] = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(_SALTED[key], b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client).digest(), message.encode(), "sha256")
    return base64.b64encode(bytes(a ^ b for a, b in zip(client, signature, strict=True))).decode()


# -- states of a stream, each from a wire that is not connected


async def before_the_header(wire: Wire) -> None:
    await wire.connect()


async def before_tls(wire: Wire) -> None:
    await wire.connect()
    await wire.open()


async def before_the_login(wire: Wire) -> None:
    await wire.secured()
    await wire.open()


async def during_sasl(wire: Wire) -> None:
    await before_the_login(wire)
    await wire.challenged()


async def after_the_login(wire: Wire) -> None:
    await before_the_login(wire)
    await wire.login()


async def in_a_session(wire: Wire) -> None:
    await wire.bound()


STATES: dict[str, Callable[[Wire], Awaitable[None]]] = {
    "before the header": before_the_header, "before TLS": before_tls, "before the login": before_the_login,
    "during SASL": during_sasl, "after the login": after_the_login, "in a session": in_a_session}


def memory(server: Moltis, key: str = "VmRSS") -> float:
    """Megabytes that are resident; `VmHWM`: at the most."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", status)[1]) / 1024


def forget_the_peak(server: Moltis) -> None:
    """From here on `VmHWM` counts anew (proc(5), clear_refs)."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


@contextlib.asynccontextmanager
async def flat(server: Moltis, most: float, at_rest: float | None = None):
    """What happens here takes no more than so many megabytes at its worst, and leaves no more than `at_rest` behind."""
    before = memory(server)
    forget_the_peak(server)
    yield
    peak = memory(server, "VmHWM")
    assert peak - before <= most, f"memory rose by {peak - before:.1f} MB, from {before:.1f}; it may by {most}"
    if at_rest is not None:
        for _ in range(100):
            left = memory(server) - before
            if left <= at_rest:
                break
            await asyncio.sleep(0.1)
        assert left <= at_rest, f"{left:.1f} MB stayed, of {peak - before:.1f}"


async def http(server: Moltis, request: bytes | str, *, tls: bool = False, seconds: float = PATIENCE) -> tuple[int, str, bytes]:
    """A raw request over a connection of its own: status, head and body. 0: the server hung up."""
    line = await Line.open(server.http_port, context(["http/1.1"]) if tls else None)
    try:
        await line.write(request.encode() if isinstance(request, str) else request)
        try:
            await line.until(lambda: b"\r\n\r\n" in line.data, seconds)
        except Closed:
            return 0, "", bytes(line.data)
        head, _, body = bytes(line.data).partition(b"\r\n\r\n")
        text = head.decode("latin-1")
        length = re.search(r"(?im)^content-length: *(\d+)", text)
        wanted = int(length[1]) if length else 0
        with contextlib.suppress(Closed):
            await line.until(lambda: len(line.data) >= len(head) + 4 + wanted, seconds)
        return int(text.split(" ")[1]), text, bytes(line.data[len(head) + 4:])
    finally:
        line.cut()
