"""What the command line says of a server's DNS, its certificate, and the way to another server."""

import asyncio
import hashlib
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from namespaces import ETC

DIRECT = "_xmpps-server"


@pytest.fixture
async def ours(lab):
    return await lab.peer("ours")


async def moltis(peer, *arguments: str, code: int = 0) -> str:
    """A command of the binary on the server's machine, and what it prints."""
    command, environment = peer.command()
    settings = [f"{name}={value}" for name, value in environment.items()]
    process = await asyncio.create_subprocess_exec(
        *peer.machine.command, "env", *settings, *command, *arguments, cwd=peer.directory, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    output = (await asyncio.wait_for(process.communicate(), 60))[0].decode()
    assert process.returncode == code, output
    return output


async def check(peer, part: str, code: int = 0) -> dict[str, str]:
    """Messages with their levels."""
    findings = json.loads(await moltis(peer, "check", part, "--json", code=code))
    return {finding["message"]: finding["level"] for finding in findings}


def association(certificate) -> str:
    """The TLSA data of a certificate's key."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


# -- moltis check


async def test_a_zone_that_lacks_records_is_told_which_and_then_is_right(lab, ours):
    lab.dns.zone(ours.domain, f"@ IN A {ours.machine.ipv4}")
    printed = await moltis(ours, "check", "dns", code=1)
    assert (f"problem  _xmpp-server._tcp.conference.{ours.domain} has no SRV record and conference.{ours.domain} no address, "
            "so other servers do not find it; add the record") in printed
    head, zone = printed.split("The lines of the zone (TLSA with DNSSEC only):\n")
    assert f"_5269._tcp.{ours.domain}. 3600 IN TLSA 3 1 1 {association(ours.certificate)}" in zone.splitlines()
    # Copied as they are.
    lab.dns.zone(ours.domain, *zone.splitlines())
    findings = await check(ours, "dns")
    amiss = [message for message, level in findings.items() if level != "ok"]
    # Its web is on another port, which is not the zone's business.
    assert len(amiss) == 1 and amiss[0].startswith("Clients in browsers look at https://"), findings
    assert findings[f"{ours.domain}: {ours.machine.ipv4}, this machine"] == "ok"
    assert findings[f"_5269._tcp.{ours.domain} fits the certificate"] == "ok"


async def test_records_that_lead_nowhere_are_told(lab, ours):
    lab.dns.zone(ours.domain, f"_xmpp-server._tcp IN SRV 0 0 5269 alias.{ours.domain}.", f"alias IN CNAME host.{ours.domain}.",
                 f"host IN A {ours.machine.ipv4}", "_xmpps-server._tcp IN SRV 0 0 0 .",
                 f"_xmpp-client._tcp IN SRV 0 0 5299 gone.{ours.domain}.")
    findings = await check(ours, "dns", code=1)
    expected = {
        f"alias.{ours.domain} is an alias of host.{ours.domain}, which the target of an SRV record must not be (RFC 2782); "
        f"name host.{ours.domain} in the SRV record": "warning",
        f"{DIRECT}._tcp.{ours.domain} says that there is no such service, so other servers do not come to port 5270; "
        "replace the record": "problem",
        f"_xmpp-client._tcp.{ours.domain} names gone.{ours.domain}:5299, and c2s_port is 5222; replace the record unless "
        "something in front passes that port on": "warning",
        f"gone.{ours.domain} has no address, so nobody reaches it; add an A or AAAA record": "problem"}
    assert expected.items() <= findings.items(), findings


async def test_name_servers_that_fail_are_told_soon(lab, ours):
    lab.dns.fail(ours.domain, "servfail")
    findings = await check(ours, "dns", code=1)
    assert (f"_xmpp-server._tcp.{ours.domain} cannot be looked up: its name servers fail, or its DNSSEC signatures are wrong "
            "(SERVFAIL); check the name servers of the domain") in findings


async def test_a_resolver_that_says_nothing_is_given_up(lab, ours):
    lab.dns.fail("example", "silent")
    # Within a minute, or the command is at fault.
    findings = await check(ours, "dns", code=1)
    assert (f"_xmpp-server._tcp.{ours.domain} cannot be looked up: the resolver does not answer; check the name servers of the "
            "domain") in findings


async def test_the_certificate_is_that_of_the_ports(ours):
    findings = await check(ours, "certs")
    assert {"The roots of this system vouch for it": "ok", "Port 5222 shows it": "ok", "Port 5223 shows it": "ok"}.items() \
        <= findings.items(), findings


async def test_ports_that_show_another_certificate_are_told(lab, ours):
    fresh = lab.authority.issue("fresh", [ours.domain])
    settings = [f"xmpp_server.certificate={fresh[0]}", f"xmpp_server.key={fresh[1]}"]
    printed = await moltis(ours, *(word for setting in settings for word in ("--set", setting)), "check", "certs")
    assert f"warning  The certificate is not for conference.{ours.domain}" in printed
    assert "warning  Port 5222 shows another certificate, for" in printed


# -- moltis s2s test


async def walk(peer, *arguments: str, code: int = 0) -> tuple[dict, dict[str, tuple[bool, str]]]:
    """The whole, and the last of each step."""
    told = json.loads(await moltis(peer, "s2s", "test", *arguments, "--json", code=code))
    return told, {step["name"]: (step["ok"], step["text"]) for step in told["steps"]}


async def test_the_way_to_prosody(lab, ours):
    prosody = await lab.peer("prosody")
    told, steps = await walk(ours, prosody.domain)
    assert told["ok"] and told["from"] == ours.domain and told["failure"] is None
    assert list(steps) == ["dns", "tcp", "stream", "tls", "certificate", "features", "external"]
    assert steps["dns"] == (True, f"xmpp.{prosody.domain}:5269 (STARTTLS)")
    assert steps["certificate"] == (True, f"is for {prosody.domain}: an authority that this server trusts has signed it")
    assert steps["external"] == (True, f"we are known as {ours.domain}")
    printed = await moltis(ours, "s2s", "test", prosody.domain, "--from", f"conference.{ours.domain}")
    assert printed.endswith(f"conference.{ours.domain} can talk to {prosody.domain}\n")


async def test_the_way_to_a_server_that_calls_back(lab):
    ours, other = await lab.peer("ours2"), await lab.peer("prosody2")
    before = ours.certificate, ours.key
    ours.certified(lab.authority.issue("unknown", ours.hosts, self_signed=True))
    await ours.change()
    try:
        told, steps = await walk(ours, other.domain)
        assert told["ok"] and "external" not in steps
        assert steps["dialback"] == (True, f"we are known as {ours.domain}")
        # Who believes certificates alone does not.
        strict = await lab.peer("prosody")
        printed = await moltis(ours, "s2s", "test", strict.domain, code=1)
        assert f"{ours.domain} cannot talk to {strict.domain}: " in printed
    finally:
        ours.certified(before)
        await ours.change()


async def test_the_way_to_nowhere(lab, ours):
    _, steps = await walk(ours, "nowhere.example", code=1)
    assert steps["dns"] == (False, "There is no domain nowhere.example in the DNS; check how it is written")
    lab.dns.zone("dead.example", "_xmpp-server._tcp IN SRV 0 0 5999 host.dead.example.", f"host IN A {ours.machine.ipv4}")
    told, steps = await walk(ours, "dead.example", code=1)
    assert f"Cannot connect to host.dead.example:5999 ({ours.machine.ipv4}): Connection refused" in steps["host"][1]
    assert told["failure"]["obstacle"] == "unreachable"
    assert "check that this machine may connect" in told["steps"][-1]["remedy"]


async def test_a_domain_that_is_not_ours_is_no_beginning(ours):
    printed = await moltis(ours, "s2s", "test", "prosody.example", "--from", "other.example", code=1)
    assert printed == f"other.example is not of this server, whose domain is {ours.domain}\n"


# -- DANE


@pytest.fixture
def signed(lab, ours):
    """The DNS is validated, and ours believes what the resolver says of that."""
    file = ETC / ours.machine.namespace / "resolv.conf"
    before = file.read_text()
    file.write_text(f"{before}options trust-ad\n")
    lab.dns.authentic = True
    yield
    file.write_text(before)


def publish(lab, peer, data: str) -> None:
    """The server's zone, with the TLSA record of its port."""
    lab.dns.zone(peer.domain, f"_xmpp-server._tcp IN SRV 5 0 5269 xmpp.{peer.domain}.", f"xmpp IN A {peer.machine.ipv4}",
                 f"_5269._tcp.xmpp IN TLSA 3 1 1 {data}")


async def test_the_signed_dns_vouches_for_a_certificate_that_nobody_else_does(lab, ours, signed):
    prosody = await lab.peer("prosody")
    before = prosody.certificate, prosody.key
    prosody.certified(lab.authority.issue("dane", prosody.hosts, self_signed=True))
    await prosody.change()
    try:
        told, steps = await walk(ours, prosody.domain, code=1)
        assert steps["certificate"][1].endswith("is signed by nobody whom this server trusts"), told
        publish(lab, prosody, association(prosody.certificate))
        # The zone's TTL is a second, and so is what there was not.
        await asyncio.sleep(2)
        _, steps = await walk(ours, prosody.domain)
        assert steps["certificate"] == (True, f"is for {prosody.domain}: its DNS says so (DANE)")
    finally:
        prosody.certified(before)
        await prosody.change()


async def test_the_signed_dns_refutes_a_certificate_that_an_authority_has_signed(lab, ours, signed):
    prosody = await lab.peer("prosody")
    publish(lab, prosody, "00" * 32)
    await asyncio.sleep(2)
    told, steps = await walk(ours, prosody.domain, code=1)
    assert steps["certificate"] == (False, f"The certificate of {prosody.domain} is another one than its DNS says (DANE)")
    assert told["failure"]["obstacle"] == "untrusted"
