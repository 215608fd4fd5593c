"""hostile-input.md, column S: what comes over HTTP: WebSocket frames, paths, hosts, origins, uploads, and HTTP/2."""

import asyncio
import contextlib
import html
import re
import struct

import pytest

from attack import (ALICE, DOMAIN, HTTP_TRANSPORTS, MALLORY, Closed, Line, Wire, context, flat, frame, http, upgrade)
from moltis import Moltis
from stanza import CLIENT

OPEN = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>".encode()
PING = f"<iq xmlns='{CLIENT}' type='get' id='after'><ping xmlns='urn:xmpp:ping'/></iq>".encode()

# -- frames that RFC 6455 forbids, and sizes that nobody needs

BROKEN_FRAMES = {
    "not masked": frame(PING, masked=False),
    "a reserved bit": frame(PING, reserved=4),
    "all reserved bits": frame(PING, reserved=7),
    "an unknown opcode": frame(PING, 3),
    "an unknown control": frame(b"", 11),
    "binary": frame(PING, 2),
    "a continuation of nothing": frame(PING, 0),
    "a text within a text": frame(b"<a>", fin=False) + frame(b"</a>"),
    "a ping in fragments": frame(b"a", 9, fin=False) + frame(b"b", 0),
    "a ping of 126 bytes": frame(b"x" * 126, 9),
    "a close of one byte": frame(b"x", 8),
    "a close of no known code": frame(struct.pack(">H", 1), 8),
    "a close that is not UTF-8": frame(struct.pack(">H", 1000) + b"\xff", 8),
    "text that is not UTF-8": frame(b"<a>\xff</a>"),
    "half a character at the end": frame(b"<a>\xe2\x82", fin=False) + frame(b"</a>", 0),
    "2^63 bytes announced": frame(b"<a>", length=1 << 63),
    "2^62 bytes announced": frame(b"<a>", length=1 << 62),
    "1 GB announced": frame(b"<a>", length=1 << 30),
    "one byte too many announced": frame(b"<a>", length=262_145),
    "one byte too many in fragments": frame(b"x" * 200_000, fin=False) + frame(b"x" * 62_145, 0, fin=False),
    "a length that could be shorter, and more": frame(b"", fin=False) + frame(b"x" * 300_000, 0),
    "nothing": frame(b""),
    "white space": frame(b" \n"),
    "two elements": frame(PING + PING),
    "half an element": frame(PING[:-3]),
    "text behind an element": frame(PING + b"x"),
    "a stream header": frame(b"<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"),
    "HTTP again": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("transport", HTTP_TRANSPORTS)
@pytest.mark.parametrize("state", ["before the login", "in a session"])
async def test_frames_that_no_client_sends_end_the_websocket(attacked_server, transport, state):
    async def ends(name: str, frames: bytes) -> str | None:
        wire = Wire(attacked_server, transport)
        if state == "in a session":
            await wire.bound()
        else:
            await wire.secured()
            await wire.open()
        wire.forget()
        await wire.line.write(frames + frame(PING))
        try:
            await wire.line.end(10)
        except TimeoutError:
            return f"{name}: the WebSocket goes on"
        finally:
            wire.cut()
        return f"{name}: {wire.text}" if "after" in wire.text else None
    async with flat(attacked_server, most=30):
        wrong = await asyncio.gather(*(ends(name, frames) for name, frames in BROKEN_FRAMES.items()))
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize("transport", HTTP_TRANSPORTS)
async def test_a_character_may_be_split_over_fragments_with_pings_between_them(attacked_server, transport):
    """RFC 6455, 5.4: it is the message that is UTF-8, and controls may stand between its fragments."""
    alice = await Wire(attacked_server, "tls").bound(ALICE, "reader")
    await alice.send("<presence/>")
    wire = await Wire(attacked_server, transport).bound()
    text = f"<message xmlns='{CLIENT}' type='chat' to='{alice.jid}'><body>\u20ac\U0001f600\u00e9</body></message>".encode()
    for number in range(len(text)):
        await wire.line.write(frame(text[number:number + 1], 1 if number == 0 else 0, fin=number == len(text) - 1)
                              + frame(b"between", 9) + frame(b"", 10))
    await alice.until("\u20ac\U0001f600\u00e9")
    await wire.ping()
    wire.cut()
    alice.cut()


@pytest.mark.parametrize("transport", HTTP_TRANSPORTS)
async def test_floods_of_controls_and_empty_fragments_cost_nothing(attacked_server, transport):
    """100,000 pings whose answers nobody reads, pongs that nobody asked for, fragments of nothing: memory is flat, and the same
    connection is served."""
    for name, flood in [("pings", frame(b"x" * 125, 9)), ("pongs", frame(b"", 10))]:
        wire = await Wire(attacked_server, transport).bound()
        async with flat(attacked_server, most=6):
            for _ in range(100):
                assert await wire.line.write(flood * 1_000), name
            await wire.ping()
        wire.cut()
    wire = await Wire(attacked_server, transport).bound()
    async with flat(attacked_server, most=6):
        await wire.line.write(frame(b"<iq", fin=False))
        for _ in range(100):
            await wire.line.write(frame(b"", 0, fin=False) * 1_000)
        await wire.line.write(frame(PING[3:], 0))
        await wire.until("id=.after")
    wire.cut()


async def test_who_does_not_read_pongs_makes_no_queue_of_them(attacked_server):
    wire = await Wire(attacked_server, "websocket").bound()
    wire.line.transport.pause_reading()
    async with flat(attacked_server, most=8):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                for _ in range(300):
                    await wire.line.write(frame(b"x" * 125, 9) * 1_000)
    wire.cut()


async def test_a_websocket_is_opened_only_as_it_should_be(attacked_server):
    origin = f"http://localhost:{attacked_server.http_port}"
    for name, request, expected in [
        ("as it should", upgrade(), 101),
        ("from another site", upgrade(extra="Origin: https://evil.example\r\n"), 403),
        ("from a site with our name in front", upgrade(extra="Origin: http://localhost.evil.example\r\n"), 403),
        ("from our name on another port", upgrade(extra="Origin: http://localhost:1\r\n"), 403),
        ("from a sandbox", upgrade(extra="Origin: null\r\n"), 403),
        ("from two origins", upgrade(extra=f"Origin: {origin}\r\nOrigin: https://evil.example\r\n"), (400, 403)),
        ("from no origin", upgrade(extra="Origin: \r\n"), 403),
        ("from a file", upgrade(extra="Origin: file://localhost\r\n"), 403),
        ("another subprotocol", upgrade(protocol="chat"), 400),
        ("an old version", upgrade().replace(b"Version: 13", b"Version: 8"), 400),
        ("by POST", upgrade().replace(b"GET ", b"POST "), (400, 405)),
        ("without an upgrade", upgrade().replace(b"Upgrade: websocket\r\n", b""), 400),
        ("without a key", re.sub(rb"Sec-WebSocket-Key: .*?\r\n", b"", upgrade()), 400),
    ]:
        status, _, _ = await http(attacked_server, request)
        assert status in (expected if isinstance(expected, tuple) else (expected,)), f"{name}: {status}"


async def test_frames_in_one_packet_with_the_upgrade_are_frames(attacked_server):
    """Nothing of them is taken for HTTP, nor the reverse."""
    line = await Line.open(attacked_server.http_port)
    await line.write(upgrade() + frame(OPEN))
    await line.until(lambda: b"features" in line.data)
    line.cut()
    line = await Line.open(attacked_server.http_port)
    await line.write(upgrade() + b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answer = await line.end()
    assert b"services" not in answer


# -- requests

PATHS = ["/../../../../etc/passwd", "/..%2f..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/....//....//etc/passwd",
         "/..\\..\\etc\\passwd", "/%5c..%5c..%5cetc%5cpasswd", "//etc/passwd", "/./../moltis.toml", "/%00", "/%c0%ae%c0%ae/moltis.toml",
         "/dist/../../moltis.toml", "/dist/%2e%2e/%2e%2e/moltis.toml", "/dist/..%252f..%252fmoltis.toml", "/upload/../../data/moltis.db",
         "/upload/%2e%2e/%2e%2e/moltis.db", "/upload/..%2f..%2fmoltis.db", "/invite/../../moltis.toml",
         "/.well-known/acme-challenge/..%2f..%2f..%2fmoltis.toml", "/.well-known/acme-challenge/../../moltis.toml",
         "file:///etc/passwd", "http://evil.example/../../etc/passwd", "*", "/" + "../" * 5_000 + "etc/passwd"]
SECRETS = (b"root:", b"[xmpp_server]", b"SQLite format", b"PRIVATE KEY")


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
async def test_no_path_leads_to_a_file_that_is_nobodys_business(attacked_server, tls):
    for path in PATHS:
        for method in ("GET", "HEAD", "PUT"):
            request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            status, head, body = await http(attacked_server, request, tls=tls)
            assert not any(secret in body for secret in SECRETS), f"{method} {path}: {body[:200]}"
            assert status == 0 or 300 <= status < 500, f"{method} {path}: {status} {head}"


async def test_a_host_that_a_stranger_wrote_is_not_repeated(attacked_server):
    """What is made of `Host` goes into links: discovery, invitations, redirects. Cache poisoning begins there."""
    port = attacked_server.http_port
    for host in ("evil.example", "localhost@evil.example", "localhost:80@evil.example", "evil.example/localhost", "localhost.evil.example",
                 "localhost#evil.example", "127.0.0.1.evil.example", "evil.example%00localhost", "\xe9vil.example", "[::ffff:192.0.2.1]",
                 "localhost,evil.example", "'><script>alert(1)</script>"):
        for path in ("/.well-known/host-meta", "/.well-known/host-meta.json", "/", "/status", "/invite/nothing"):
            for headers in (f"Host: {host}", f"Host: localhost:{port}\r\nX-Forwarded-Host: {host}",
                            f"Host: localhost:{port}\r\nForwarded: host={host}"):
                status, head, body = await http(attacked_server, f"GET {path} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n".encode())
                for part in (head.encode(), body):
                    assert b"evil.example" not in part and b"<script>alert" not in part, f"{host} {path}: {status} {part[:500]}"
    # HTTP/1.1 wants one Host (RFC 9112, 3.2).
    for request in ("GET /status HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
                    "GET http://evil.example/.well-known/host-meta HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        _, head, body = await http(attacked_server, request)
        assert b"evil.example" not in body and "evil.example" not in head


# Two servers that read one of these differently are two requests for one, and one for the other (RFC 9112, 11.2).
SMUGGLED = "GET /status HTTP/1.1\r\nHost: localhost\r\nX-Smuggled: yes\r\n\r\n"
SMUGGLING = {
    "a length and chunks": f"Content-Length: {len(SMUGGLED) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "chunks and a length": f"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "two lengths": f"Content-Length: 0\r\nContent-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
    "a list of lengths": f"Content-Length: 0, {len(SMUGGLED)}\r\n\r\n{SMUGGLED}",
    "a length with a sign": f"Content-Length: +0\r\n\r\n{SMUGGLED}",
    "a negative length": f"Content-Length: -1\r\n\r\n{SMUGGLED}",
    "a length in hexadecimal": f"Content-Length: 0x0\r\n\r\n{SMUGGLED}",
    "a length that overflows": f"Content-Length: 18446744073709551616\r\n\r\n{SMUGGLED}",
    "another encoding": f"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "chunks that are not last": f"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "chunks with a tab": f"Transfer-Encoding:\tchunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "space before the colon": f"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{SMUGGLED}",
    "a folded header": f"X-A: b\r\n Transfer-Encoding: chunked\r\nContent-Length : 0\r\n\r\n{SMUGGLED}",
    "a chunk size that overflows": f"Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n\r\n{SMUGGLED}",
    "a chunk size with a sign": f"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n{SMUGGLED}",
    "a chunk longer than it says": f"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n{SMUGGLED}",
    "a byte 0 in a header": f"X-A: \0\r\n\r\n{SMUGGLED}",
    "a bare carriage return": f"X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: 0x\r\n\r\n{SMUGGLED}",
}


@pytest.mark.parametrize("name", SMUGGLING)
async def test_a_request_whose_length_is_in_doubt_is_the_last(attacked_server, name):
    """It is refused, or read as RFC 9112, 6.3 has it; what follows is not answered where there is a doubt."""
    for method in ("POST", "PUT"):
        line = await Line.open(attacked_server.http_port)
        await line.write(f"{method} /invite/nothing HTTP/1.1\r\nHost: localhost\r\n{SMUGGLING[name]}".encode("latin-1"))
        answers = await line.end()
        assert b"services" not in answers, f"{name}: what was smuggled in is answered: {answers}"
        assert answers.count(b"HTTP/1.1 ") <= 1, answers


async def test_a_head_that_is_too_large_or_too_slow_has_an_end(attacked_server):
    async with flat(attacked_server, most=12):
        for name, request in [
            ("a path without an end", b"GET /" + b"a" * 2_000_000),
            ("a header without an end", b"GET / HTTP/1.1\r\nX: " + b"a" * 2_000_000),
            ("100,000 headers", b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 100_000),
            ("no HTTP", b"\0" * 2_000_000),
            ("empty lines", b"\r\n" * 1_000_000),
            ("a version that is none", b"GET / HTTP/9.9\r\n\r\n"),
            ("a chunk extension without an end", b"POST /invite/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;"
             + b"a" * 2_000_000),
            ("trailers without an end", b"POST /invite/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
             + b"A: b\r\n" * 400_000),
        ]:
            line = await Line.open(attacked_server.http_port)
            await line.write(request)
            answer = await line.end()
            assert not answer.startswith(b"HTTP/1.1 2"), f"{name}: {answer[:300]}"
    # A byte now and then: the head has 20 seconds (`PATIENCE` of the server), and others do not wait for it.
    slow = [await Line.open(attacked_server.http_port) for _ in range(200)]
    for line in slow:
        await line.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
    for _ in range(3):
        status, _, _ = await http(attacked_server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", seconds=3)
        assert status == 200
        for line in slow:
            await line.write(b"a")
    for line in slow:
        assert await line.end(40) is not None, "it has ended"


async def test_pages_elsewhere_make_no_account_and_read_nothing(attacked_server):
    """CSRF: what changes something asks who asks; and there is no CORS but for files, whose names are secrets."""
    body = "name=evil&password=correct+horse+battery+staple"
    for origin in ("Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site", ""):
        for token in ("nothing", "a" * 5_000, "%2e%2e", "'%22><script>"):
            status, head, answer = await http(
                attacked_server, f"POST /invite/{token} HTTP/1.1\r\nHost: localhost:{attacked_server.http_port}\r\n{origin or 'X: y'}\r\n"
                f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}")
            assert status in (400, 403, 404, 414), f"{origin} {token}: {status}"
            assert "access-control-allow-origin" not in head.lower()
            assert b"<script>" not in answer
    for path in ("/", "/status", "/metrics", "/healthz", "/.well-known/host-meta.json", "/settings.json", "/invite/x"):
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: https://evil.example\r\n\r\n"
        _, head, _ = await http(attacked_server, request)
        allowed = re.search("(?im)^access-control-allow-origin: *(.*)$", head)
        # XEP-0156, 5: discovery is for everybody.
        assert allowed is None or "host-meta" in path, f"{path}: {allowed}"


def permission(slot: str) -> str:
    """The headers that a slot asks for (XEP-0363, 5)."""
    return "".join(f"{name}: {value}\r\n" for name, value in re.findall("<header[^>]*name=['\"]([^'\"]*)['\"]>([^<]*)<", slot))


async def test_what_was_uploaded_does_not_run_in_our_origin(attacked_server):
    """XSS: a page, a picture with a script, a style: names and types of the attacker's choice."""
    wire = await Wire(attacked_server, "tls").bound()
    scripts = [("page.html", "text/html"), ("picture.svg", "image/svg+xml"), ("page.xhtml", "application/xhtml+xml"),
               ("feed.xml", "text/xml"), ("script.js", "text/javascript"), ("none", "application/octet-stream"),
               ("picture.png", "image/png"), ("a\u202egnp.html", "image/png"), ("'\"><script>.png", "image/png"),
               ("line\nbreak.txt", "text/plain"), ("page.html", "text/html; charset=utf-7"), ("page.html", "IMAGE/PNG\r\nX-Evil: 1")]
    content = b"<html xmlns='http://www.w3.org/1999/xhtml'><script>alert(document.domain)</script></html>"
    for number, (name, kind) in enumerate(scripts):
        quoted = name.replace("&", "&amp;").replace("<", "&lt;").replace("'", "&apos;").replace("\n", "&#10;")
        typed = kind.replace("\r\n", "&#13;&#10;")
        await wire.send(f"<iq type='get' id='slot{number}' to='upload.{DOMAIN}'><request xmlns='urn:xmpp:http:upload:0' "
                        f"filename='{quoted}' size='{len(content)}' content-type='{typed}'/></iq>")
        answer = (await wire.until(rf"<iq[^>]*id=.slot{number}.*?</iq>"))[0]
        if "type='error'" in answer:
            continue
        put = html.unescape(re.search("<put[^>]*url=(['\"])(.*?)\\1", answer)[2])
        path = re.match("https?://[^/]*(/.*)", put)[1]
        assert "<" not in path and "\n" not in path, path
        sent = kind.split("\r")[0]
        status, head, _ = await http(attacked_server, (
            f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {sent}\r\n{permission(answer)}"
            f"Content-Length: {len(content)}\r\n\r\n").encode() + content)
        if status != 201:
            assert status in (400, 403, 415), f"{name}: {status} {head}"
            continue
        status, head, body = await http(attacked_server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status == 200 and body == content, f"{name}: {status}"
        head = head.lower()
        assert "x-content-type-options: nosniff" in head, head
        assert re.search("content-security-policy: [^\r]*(sandbox|default-src 'none')", head), head
        assert "x-evil" not in head
        if not kind.startswith("image/png"):
            assert "content-disposition: attachment" in head, f"{name} {kind}: {head}"
    wire.cut()


async def test_an_upload_of_another_size_name_or_method_is_refused(attacked_server):
    wire = await Wire(attacked_server, "tls").bound()
    await wire.send(f"<iq type='get' id='slot' to='upload.{DOMAIN}'><request xmlns='urn:xmpp:http:upload:0' filename='a.txt' size='10' "
                    "content-type='text/plain'/></iq>")
    answer = (await wire.until(r"<iq[^>]*id=.slot.*?</iq>"))[0]
    path = re.match("https?://[^/]*(/.*)", re.search("<put[^>]*url=['\"]([^'\"]*)", answer)[1])[1]
    may = permission(answer)
    assert may, answer
    for name, request in [
        ("without permission", f"PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\n{'x' * 10}"),
        ("with a wrong one", f"PUT {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\nContent-Type: text/plain\r\n"
         f"Content-Length: 10\r\n\r\n{'x' * 10}"),
        ("more", f"PUT {path} HTTP/1.1\r\nHost: a\r\n{may}Content-Type: text/plain\r\nContent-Length: 11\r\n\r\n{'x' * 11}"),
        ("chunks without an end", f"PUT {path} HTTP/1.1\r\nHost: a\r\n{may}Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
         + "ff\r\n" + "x" * 255 + "\r\n"),
        ("another name", f"PUT {path}x HTTP/1.1\r\nHost: a\r\n{may}Content-Type: text/plain\r\nContent-Length: 10\r\n\r\n{'x' * 10}"),
        ("another type", f"PUT {path} HTTP/1.1\r\nHost: a\r\n{may}Content-Type: text/html\r\nContent-Length: 10\r\n\r\n{'x' * 10}"),
        ("deleted", f"DELETE {path} HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("posted", f"POST {path} HTTP/1.1\r\nHost: a\r\n{may}Content-Length: 10\r\n\r\n{'x' * 10}"),
    ]:
        status, _, _ = await http(attacked_server, request)
        assert status == 0 or 400 <= status < 500, f"{name}: {status}"
    status, _, _ = await http(attacked_server, f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
    assert status == 404, "nothing was kept"
    wire.cut()


# -- HTTP/2

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING_2, GOAWAY, WINDOW, CONTINUATION = range(10)


def frame_2(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """RFC 9113, 4.1."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def literal(name: str, value: str) -> bytes:
    """A header without the tables of HPACK."""
    def text(part: str) -> bytes:
        assert len(part) < 127
        return bytes([len(part)]) + part.encode()
    return b"\0" + text(name) + text(value)


def get(path: str = "/healthz", more: bytes = b"") -> bytes:
    return (literal(":method", "GET") + literal(":scheme", "https") + literal(":authority", "localhost") + literal(":path", path) + more)


async def http_2(server: Moltis) -> Line:
    line = await Line.open(server.http_port, context(["h2"]))
    assert line.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    await line.write(PREFACE + frame_2(SETTINGS))
    return line


def odd(count: int, start: int = 1):
    return range(start, start + 2 * count, 2)


FLOODS = {
    "rapid reset (CVE-2023-44487)": lambda: b"".join(
        frame_2(HEADERS, get(), 5, stream) + frame_2(RST, struct.pack(">I", 8), 0, stream) for stream in odd(20_000)),
    "requests reset by our errors (CVE-2025-8671)": lambda: b"".join(
        frame_2(HEADERS, get(), 4, stream) + frame_2(WINDOW, bytes(4), 0, stream) for stream in odd(20_000)),
    "CONTINUATION without an end (CVE-2024-27316)": lambda: frame_2(HEADERS, get(), 1, 1) + b"".join(
        frame_2(CONTINUATION, literal("x-a", "b" * 100) * 100, 0, 1) for _ in range(500)),
    "empty CONTINUATIONs": lambda: frame_2(HEADERS, get(), 1, 1) + frame_2(CONTINUATION, b"", 0, 1) * 100_000,
    "SETTINGS (CVE-2019-9515)": lambda: frame_2(SETTINGS) * 100_000,
    "PING (CVE-2019-9512)": lambda: frame_2(PING_2, bytes(8)) * 100_000,
    "PRIORITY (CVE-2019-9513)": lambda: b"".join(frame_2(PRIORITY, bytes(5), 0, stream) for stream in odd(50_000)),
    "empty DATA (CVE-2019-9518)": lambda: frame_2(HEADERS, get().replace(b"GET", b"PUT"), 4, 1) + frame_2(DATA, b"", 0, 1) * 100_000,
    "empty headers (CVE-2019-9516)": lambda: frame_2(HEADERS, get(more=(b"\0\0\0") * 4_000), 5, 1),
    "a window that overflows": lambda: frame_2(WINDOW, struct.pack(">I", 0x7fffffff)) * 2,
    "HPACK of 4 GB": lambda: frame_2(HEADERS, b"\x3f\xff\xff\xff\xff\x0f" + get(), 5, 1),
    "an HPACK bomb": lambda: frame_2(HEADERS, get() + b"\x40\x01a" + b"\x7f\x81\x1e" + b"b" * 4_000 + b"\xbe" * 10_000, 5, 1),
    "a frame of 16 MB": lambda: b"\xff\xff\xff" + bytes([DATA, 0]) + bytes(4) + bytes(100_000),
    "WINDOW_UPDATE": lambda: frame_2(WINDOW, struct.pack(">I", 1)) * 100_000,
    "a push": lambda: frame_2(PUSH, bytes(4) + get(), 4, 1),
    "frames of no known kind": lambda: frame_2(99, b"x" * 100) * 10_000,
}


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.limit(60)
async def test_floods_of_http_2_cost_next_to_nothing(attacked_server, name):
    """The connection ends or goes on; memory is flat, and others are served meanwhile."""
    flood = FLOODS[name]()
    async with flat(attacked_server, most=24):
        line = await http_2(attacked_server)
        for offset in range(0, len(flood), 16_384):
            if not await line.write(flood[offset:offset + 16_384]):
                break
        status, _, body = await http(attacked_server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", tls=True, seconds=5)
        assert (status, body) == (200, b"ok\n")
        line.cut()


async def test_a_peer_of_http_2_that_does_not_read_gets_a_bounded_queue(attacked_server):
    """CVE-2019-9517: windows are wide open, and the socket is not read."""
    async with flat(attacked_server, most=16):
        lines = []
        for _ in range(10):
            line = await http_2(attacked_server)
            line.transport.pause_reading()
            await line.write(frame_2(WINDOW, struct.pack(">I", 0x7fff0000)))
            for stream in odd(32):
                await line.write(frame_2(HEADERS, get("/status"), 5, stream))
            lines.append(line)
        status, _, _ = await http(attacked_server, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", tls=True, seconds=5)
        assert status == 200
        for line in lines:
            line.cut()
