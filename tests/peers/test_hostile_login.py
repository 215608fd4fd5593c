"""hostile-input.md, column B: TLS, certificates, SASL and registration with a hostile server."""

import asyncio

import pytest

from hostile import HostileServer
from scene import PASSWORD
from bot import Bot
from servers import PATIENCE, Authority
from stanza import Iq, escape


async def tries(server: HostileServer, number: int, seconds: float = PATIENCE) -> None:
    """Waits for that many connections."""
    async with asyncio.timeout(seconds):
        while server.connections < number:
            await asyncio.sleep(0.05)


async def test_the_hostile_server_can_be_kind(scene):
    """The ground of the other tests: a session over this server works."""
    await scene.online()
    await scene.asks()
    assert scene.server.auths == [("SCRAM-SHA-256", True)], "SCRAM is preferred to PLAIN"


@pytest.mark.parametrize("mechanisms", [["PLAIN"], ["SCRAM-SHA-256", "PLAIN"], ["EXTERNAL", "ANONYMOUS", "PLAIN"]])
async def test_no_credentials_without_tls(scene, mechanisms):
    scene.server.offers_starttls = False
    scene.server.mechanisms_in_clear = mechanisms
    scene.bot.launch()
    await tries(scene.server, 1)
    await scene.bot.logged("TLS")
    assert scene.server.auths == [] and scene.server.handshakes == 0


async def test_mechanisms_beside_starttls_are_not_used(scene):
    scene.server.mechanisms_in_clear = ["PLAIN", "SCRAM-SHA-256"]
    await scene.online()
    assert all(secure for _, secure in scene.server.auths)


@pytest.mark.parametrize("extra", [
    b"<stream:features/>", b" ", b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' "
    b"xmlns:stream='http://etherx.jabber.org/streams' version='1.0'><stream:features><mechanisms "
    b"xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>"],
    ids=["features", "space", "stream"])
async def test_bytes_behind_proceed_are_fatal(scene, extra):
    scene.server.behind_proceed = extra
    scene.bot.launch()
    await tries(scene.server, 2)
    assert scene.server.handshakes == 0 and scene.server.auths == []


@pytest.mark.parametrize("hosts", [["evil.example"], ["localhost.evil.example"], ["127.0.0.1"]])
async def test_a_certificate_for_another_host_is_refused(scene, authority, hosts):
    scene.server.context.load_cert_chain(*authority.issue("other", hosts))
    scene.bot.launch()
    await scene.bot.logged("certificate")
    assert scene.server.auths == []


async def test_a_certificate_of_an_unknown_authority_is_refused(scene, tmp_path):
    scene.server.context.load_cert_chain(*Authority(tmp_path / "other").issue("localhost", ["localhost"]))
    scene.bot.launch()
    await scene.bot.logged("certificate")
    assert scene.server.auths == []


async def test_tls_verify_off_is_a_decision_of_the_user(scene, tmp_path):
    scene.server.context.load_cert_chain(*Authority(tmp_path / "other").issue("localhost", ["localhost"]))
    scene.bot.account["tls_verify"] = False
    await scene.online()
    await scene.asks()


async def test_a_server_that_does_not_know_the_password_is_refused(scene):
    """RFC 5802: the server's signature proves that it knows the password too."""
    scene.server.wrong_signature = True
    scene.bot.launch()
    await tries(scene.server, 1)
    await scene.bot.logged("signature|verif|SCRAM|authenti")
    assert scene.server.bound == 0


async def test_a_weaker_mechanism_than_last_time_is_refused(scene):
    await scene.online()
    assert scene.server.auths == [("SCRAM-SHA-256", True)]
    scene.server.mechanisms = ["PLAIN"]
    connections = scene.server.connections
    scene.server.session.writer.transport.abort()
    await tries(scene.server, connections + 1)
    await scene.bot.logged("weaker than SCRAM-SHA-256 of last time")
    assert ("PLAIN", True) not in scene.server.auths


async def test_a_weaker_mechanism_is_refused_after_a_restart_too(scene):
    await scene.online()
    scene.server.mechanisms = ["PLAIN"]
    await scene.bot.stop()
    connections = scene.server.connections
    scene.bot.launch()
    await tries(scene.server, connections + 1)
    await scene.bot.logged("weaker than SCRAM-SHA-256 of last time")
    assert ("PLAIN", True) not in scene.server.auths


async def test_plain_inside_tls_serves_where_there_is_nothing_else(scene):
    scene.server.mechanisms = ["PLAIN"]
    await scene.online()
    await scene.asks()


@pytest.mark.parametrize("token", ["the-token", ""], ids=["with a token", "without"])
async def test_registration_by_invitation(scene, token):
    """XEP-0445: the token is shown before the registration; without one the error says that an invitation is needed."""
    register = "jabber:iq:register"
    scene.server.registration = True
    shown = []

    def reply(iq: Iq) -> str | None:
        head = f"<iq type='result' id='{escape(iq.id)}'"
        if (preauth := iq.payload("urn:xmpp:pars:0")) is not None:
            shown.append(preauth.get("token"))
            return f"{head}/>"
        query = iq.payload(register)
        if query is None:
            return None
        if iq.type == "get":
            return f"{head}><query xmlns='{register}'><username/><password/></query></iq>"
        if shown != ["the-token"]:
            return (f"<iq type='error' id='{escape(iq.id)}'><error type='auth'>"
                    "<not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
        scene.server.password = query.findtext(f"{{{register}}}password")
        return f"{head}/>"
    scene.server.on_iq = reply
    del scene.bot.account["password"]
    scene.bot.account |= {"auto_register": True} | ({"registration_token": token} if token else {})
    if token:
        await scene.online()
        await scene.asks()
        assert len(scene.server.password) == 24
    else:
        scene.bot.launch()
        await scene.bot.logged("invit|not allowed")
        assert scene.server.bound == 0


def test_the_password_is_nowhere_in_the_open(authority, tmp_path):
    """`config show` and `Debug` mask secrets."""
    bot = Bot(tmp_path / "bot", {}, {"jid": "a@localhost", "password": PASSWORD})
    bot.write()
    result = bot.run("config", "show")
    assert result.returncode == 0 and PASSWORD not in result.stdout + result.stderr
    assert "a@localhost" in result.stdout
