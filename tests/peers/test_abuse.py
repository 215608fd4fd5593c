"""docs/abuse.md, seen from outside: what a stranger meets, what others notice of it, and what `/metrics` counts."""

import asyncio
import hashlib
import time
from pathlib import Path

import pytest_asyncio

from moltis import Moltis
from servers import DOMAIN, PATIENCE
from stream import SASL, Ended, Stream, encoded
from test_http import counter, get

PASSWORD = "correct horse battery staple"
PUBSUB = f"pubsub.{DOMAIN}"
NODE = "muc_bans_sha256"
NS = "http://jabber.org/protocol/pubsub"
UPGRADE = ("GET /xmpp-websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
           "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
           "Sec-WebSocket-Protocol: xmpp\r\n\r\n").encode()
# One address for each test, so that none has what another has left of its allowance.
ADDRESSES = (f"127.0.1.{number}" for number in range(1, 250))


@pytest_asyncio.fixture(scope="module")
async def strict(tmp_path_factory, authority):
    """A server with the limits that people have, and a block list in its own pubsub service."""
    server = Moltis(tmp_path_factory.mktemp("strict") / "server", authority, {"xmpp_server": {
        "limits": {"connections_per_ip": 10, "login_failures_per_ip": 8},
        "block_lists": [{"service": PUBSUB, "node": NODE}]}}).with_certificate()
    await server.start()
    for user in "keeper", "romeo", "juliet", "nurse":
        await server.add_user(user, PASSWORD)
    yield server
    await server.stop()


async def person(server: Moltis, user: str, source: str | None = None) -> Stream:
    stream = await Stream(server, source or next(ADDRESSES)).open()
    await stream.login(user, PASSWORD)
    stream.write("<presence/>")
    return stream


async def answer(stream: Stream, stanza: str, identity: str):
    stream.write(stanza)
    while (element := await stream.next()).get("id") != identity:
        pass
    return element


async def metric(server: Moltis, name: str, **labels: str) -> float:
    return counter((await get(server.http_port, "/metrics"))[1], name, **labels)


async def refused(server: Moltis, reason: str) -> float:
    return await metric(server, "moltis_server_refused_total", reason=reason)


async def test_metrics_show_what_has_happened_and_name_nobody(strict):
    before = await metric(strict, "moltis_server_logins_total", mechanism="SCRAM-SHA-1", outcome="ok")
    romeo, juliet = await person(strict, "romeo"), await person(strict, "juliet")
    romeo.write(f"<message to='juliet@{DOMAIN}' type='chat' id='hi'><body>Hi</body></message>")
    while (await juliet.next()).get("id") != "hi":
        pass
    _, text, _ = await get(strict.http_port, "/metrics")
    for name, labels, least in [
            ("moltis_server_connections_total", {"transport": "tls"}, 2),
            ("moltis_server_streams_open", {"transport": "tls"}, 2),
            ("moltis_server_sessions", {"transport": "tls"}, 2),
            ("moltis_server_stanzas_total", {"direction": "in", "kind": "message"}, 1),
            ("moltis_server_stanzas_total", {"direction": "out", "kind": "message"}, 1),
            ("moltis_server_logins_total", {"mechanism": "SCRAM-SHA-1", "outcome": "ok"}, before + 2)]:
        assert counter(text, name, **labels) >= least, (name, labels, text)
    assert "romeo" not in text and "127.0" not in text
    await romeo.close()
    await juliet.close()


async def test_wrong_passwords_are_answered_slowly_then_refused_and_others_are_not_delayed(strict):
    address, waited = next(ADDRESSES), []
    wrong = f"<auth xmlns='{SASL}' mechanism='PLAIN'>{encoded(chr(0) + 'romeo' + chr(0) + 'wrong')}</auth>"
    for tries in (4, 4):
        stream = await Stream(strict, address).open()
        for _ in range(tries):
            begun = time.monotonic()
            stream.write(wrong)
            failure = await stream.next(30)
            assert failure.find(f"{{{SASL}}}not-authorized") is not None
            waited.append(time.monotonic() - begun)
        await stream.close()
    assert max(waited[:3]) < 2 and waited[7] >= 7, waited
    # With the right password too, and others log in meanwhile, at once.
    right = f"<auth xmlns='{SASL}' mechanism='PLAIN'>{encoded(chr(0) + 'romeo' + chr(0) + PASSWORD)}</auth>"
    stream = await Stream(strict, address).open()
    stream.write(right)
    while await metric(strict, "moltis_server_tarpit_held") < 1:
        await asyncio.sleep(0.05)
    begun = time.monotonic()
    juliet = await person(strict, "juliet")
    assert time.monotonic() - begun < 5
    failure = await stream.next(30)
    assert failure.find(f"{{{SASL}}}temporary-auth-failure") is not None
    assert await refused(strict, "login_failures") == 1
    assert await metric(strict, "moltis_server_logins_total", mechanism="PLAIN", outcome="failed") >= 9
    assert "An address with too many failed logins is not heard" in strict.log()
    await juliet.close()
    await stream.close()


async def closes(port: int, source: str, sent: bytes = b"") -> bool:
    """Whether the server hangs up by itself, without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    writer.write(sent)
    try:
        return not await asyncio.wait_for(reader.read(1), 0.5)
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    finally:
        writer.close()


async def test_an_address_has_so_many_connections_at_once_and_in_a_minute(strict):
    address, open_ones = next(ADDRESSES), []
    for _ in range(10):
        open_ones.append(await asyncio.open_connection("127.0.0.1", strict.c2s_port, local_addr=(address, 0)))
    assert await closes(strict.c2s_port, address)
    assert await refused(strict, "connections_per_ip") == 1
    for _, writer in open_ones:
        writer.close()
    other = next(ADDRESSES)
    for _ in range(100):
        _, writer = await asyncio.open_connection("127.0.0.1", strict.c2s_port, local_addr=(other, 0))
        writer.close()
        await asyncio.sleep(0)
    while await refused(strict, "connections_per_minute") < 1:
        assert await closes(strict.c2s_port, other)
    assert not await closes(strict.c2s_port, next(ADDRESSES)), "others come in"


async def test_a_websocket_pays_for_its_frames_before_the_login(strict):
    for frame in (b"\x89\x81\0\0\0\0?", b"\x00\x81\0\0\0\0x", b"\x00\x80\0\0\0\0"):
        reader, writer = await asyncio.open_connection("127.0.0.1", strict.http_port)
        writer.write(UPGRADE)
        assert b"101" in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x01\x81\0\0\0\0<" + frame * 6_000)

        async def until_the_end() -> None:
            try:
                while await reader.read(65536):
                    pass
            except ConnectionResetError:
                pass

        await asyncio.wait_for(until_the_end(), PATIENCE)
        writer.close()
    juliet = await person(strict, "juliet")
    await juliet.barrier()
    await juliet.close()


async def test_a_flood_of_white_space_is_read_slowly_and_others_do_not_notice(strict):
    romeo, juliet = await person(strict, "romeo"), await person(strict, "juliet")
    await romeo.barrier()
    begun = time.monotonic()
    romeo.write(" " * 100_000)
    romeo.write(f"<iq type='get' id='late' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>")
    own = asyncio.create_task(answer(romeo, "", "late"))
    for number in range(10):
        asked = time.monotonic()
        await answer(juliet, f"<iq type='get' id='{number}' to='{DOMAIN}'><ping xmlns='urn:xmpp:ping'/></iq>", str(number))
        assert time.monotonic() - asked < 2
    await asyncio.wait_for(own, 30)
    assert time.monotonic() - begun > 2
    assert await metric(strict, "moltis_server_read_pauses_total") > 0
    await romeo.close()
    await juliet.close()


async def test_who_is_on_a_block_list_reaches_no_stranger_and_enters_no_room(strict):
    keeper = await person(strict, "keeper")
    created = await answer(keeper, f"<iq type='set' id='c' to='{PUBSUB}'><pubsub xmlns='{NS}'><create node='{NODE}'/>"
                                   "</pubsub></iq>", "c")
    assert created.get("type") == "result"

    async def publish(jid: str) -> None:
        item = hashlib.sha256(jid.encode()).hexdigest()
        published = await answer(keeper, f"<iq type='set' id='p' to='{PUBSUB}'><pubsub xmlns='{NS}'><publish node='{NODE}'>"
                                         f"<item id='{item}'><report xmlns='urn:xmpp:reporting:1' reason="
                                         "'urn:xmpp:reporting:spam'/></item></publish></pubsub></iq>", "p")
        assert published.get("type") == "result"

    await publish("spammer@example.net")
    await keeper.close()
    # A list is read at the start.
    await strict.restart()
    while await metric(strict, "moltis_server_block_list_entries") < 1:
        await asyncio.sleep(0.1)
    keeper, nurse, juliet = [await person(strict, user) for user in ("keeper", "nurse", "juliet")]
    message = f"<message to='juliet@{DOMAIN}' type='chat' id='m'><body>Buy!</body></message>"
    nurse.write(message)
    while (await juliet.next()).get("id") != "m":
        pass
    # And followed.
    await publish(f"nurse@{DOMAIN}")
    condition = "{urn:ietf:params:xml:ns:xmpp-stanzas}"
    bounced = await answer(nurse, message, "m")
    assert bounced.find(f".//{condition}policy-violation") is not None
    bounced = await answer(nurse, f"<presence id='j' to='den@conference.{DOMAIN}/n'>"
                                  "<x xmlns='http://jabber.org/protocol/muc'/></presence>", "j")
    assert bounced.find(f".//{condition}forbidden") is not None
    assert await refused(strict, "block_list") == 2
    assert "Somebody on a block list was refused" in strict.log()
    for stream in (keeper, nurse, juliet):
        await stream.close()


def memory(server: Moltis) -> int:
    """The most that the server has ever had, in megabytes."""
    for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) // 1024
    raise AssertionError("the server is gone")


async def test_namespaces_take_no_more_memory_than_a_stanza_may(strict):
    """Every element of a tree has a copy of its namespace."""
    before = memory(strict)
    for namespace, children in ("x" * 200_000, 8_000), ("x" * 1_000, 8_000), ("x" * 60, 8_000):
        romeo = await person(strict, "romeo")
        romeo.write(f"<message to='{romeo.jid}' id='big'><a xmlns='{namespace}'>{'<b/>' * children}</a></message>")
        try:
            element = await romeo.next(60)
            while element.get("id") != "big" and not element.tag.endswith("error"):
                element = await romeo.next(60)
            outcome = "arrived" if element.get("id") == "big" else element[0].tag.split("}")[1]
        except Ended:
            outcome = "ended"
        assert outcome == ("arrived" if len(namespace) == 60 else "policy-violation"), len(namespace)
        await romeo.close()
    assert memory(strict) - before < 64


class Narrow(Moltis):
    """With few descriptors."""

    def command(self):
        command, environment = super().command()
        return ["sh", "-c", 'ulimit -n 256; exec "$0" "$@"', *command], environment


async def test_where_descriptors_end_sessions_and_the_control_socket_live_on(tmp_path, authority):
    server = Narrow(tmp_path / "server", authority, {}).with_certificate()
    await server.start()
    try:
        await server.add_user("romeo", PASSWORD)
        romeo = await person(server, "romeo", "127.0.0.1")
        held, closed = [], 0
        for number in range(400):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.c2s_port,
                                                           local_addr=(f"127.0.2.{number % 250 + 1}", 0))
            held.append((reader, writer))
        for reader, _ in held:
            try:
                closed += not await asyncio.wait_for(reader.read(1), 0.01)
            except (TimeoutError, ConnectionResetError):
                pass
        assert 150 < closed < 400, closed
        await romeo.barrier()
        assert "XMPP Server" in await server.run("status")
        await server.add_user("juliet", PASSWORD)
        for _, writer in held:
            writer.close()
        await asyncio.sleep(0.5)
        juliet = await person(server, "juliet", "127.0.0.1")
        await juliet.barrier()
        assert await refused(server, "descriptors") >= closed
        await juliet.close()
        await romeo.close()
    except Ended:
        raise AssertionError(server.log()) from None
    finally:
        await server.stop()
