"""The laboratory of federation: servers on machines of their own, a DNS server and a certificate authority for all.

`ours`, `ours2`, `prosody` and `ejabberd` are each `<name>.example`, on the ports of the standards. They are started by the
first test that asks for them and live until the session ends.
"""

import asyncio
import itertools
import socket
import ssl
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver

from bot import toml
from ejabberd import Ejabberd
from models import Model
from moltis import Moltis
from namespaces import Machine, Network
from nameserver import TTL, Nameserver
from person import Person
from prosody import Prosody
from servers import Authority, Server, connected
from world import PASSWORD, merge

SERVICES = ("conference", "upload", "pubsub")
ADMIN = "admin"

PROSODY = """
run_as_root = true
daemonize = false
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/data"
certificates = "{certificates}"
log = {{ {level} = "{directory}/prosody.log" }}
s2s_ports = {{ 5269 }}
s2s_direct_tls_ports = {{ 5270 }}
http_ports = {{ 5280 }}
http_interfaces = {{ "*", "::" }}
https_ports = {{}}
http_external_url = "http://upload.{domain}:5280/"
http_default_host = "upload.{domain}"
ssl = {{ certificate = "{certificate}"; key = "{key}"; cafile = "{root}" }}
s2s_require_encryption = true
s2s_secure_auth = {secure}
s2s_timeout = 5
authentication = "internal_plain"
storage = "internal"
archive_expires_after = "never"
modules_disabled = {{ {disabled} }}
modules_enabled = {{
    "roster"; "saslauth"; "tls"; "disco"; "carbons"; "pep"; "private"; "blocklist"; "vcard4"; "vcard_legacy"; "version";
    "time"; "ping"; "mam"; "smacks"; "offline"; "dialback"; "s2s"; "s2s_auth_certs"; "s2s_bidi"; "admin_shell";
}}

VirtualHost "{domain}"

Component "conference.{domain}" "muc"
    modules_enabled = {{ "muc_mam" }}
    muc_log_by_default = true
    muc_room_locking = false
    muc_room_default_public_jids = false

Component "upload.{domain}" "http_file_share"
"""

EJABBERD = """
hosts: ["{domain}"]
loglevel: {level}
acme: {{auto: false}}
certfiles: ["{bundle}"]
ca_file: "{root}"
s2s_cafile: "{root}"
auth_method: internal
auth_password_format: scram
log_rotate_size: infinity
registration_timeout: infinity
s2s_use_starttls: {tls}
s2s_timeout: 20
outgoing_s2s_timeout: 5
outgoing_s2s_families: [ipv4, ipv6]
s2s_dns_timeout: 5
s2s_dns_retries: 1
s2s_max_retry_delay: 3
listen:
  - {{port: 5222, ip: "::", module: ejabberd_c2s, starttls: true, starttls_required: true, max_stanza_size: 1000000, shaper: none}}
  - {{port: 5269, ip: "::", module: ejabberd_s2s_in, max_stanza_size: 1000000, shaper: none}}
  - {{port: 5270, ip: "::", module: ejabberd_s2s_in, tls: true, max_stanza_size: 1000000, shaper: none}}
  - {{port: 5280, ip: "::", module: ejabberd_http, request_handlers: {{/upload: mod_http_upload, /api: mod_http_api}}}}
api_permissions:
  tests: {{from: mod_http_api, who: all, what: "*"}}
modules:
  mod_adhoc: {{}}
  mod_admin_extra: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_disco: {{}}
  mod_http_upload:
    put_url: "http://upload.{domain}:5280/upload"
    docroot: "{directory}/upload"
    access: all
  mod_last: {{}}
  mod_mam: {{default: always, assume_mam_usage: true, request_activates_archiving: false}}
  mod_muc:
    access: all
    access_create: all
    access_persistent: all
    access_mam: all
    default_room_options: {{mam: true, persistent: false}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_pubsub: {{plugins: [flat, pep]}}
  mod_roster: {{}}
  {dialback}
  mod_stream_mgmt: {{}}
  mod_time: {{}}
  mod_vcard: {{}}
  mod_version: {{}}
"""


class Peer(Server):
    """A server of the lab, on a machine of its own."""

    def __init__(self, lab: "Lab", label: str, number: int):
        self.lab, self.label, self.domain = lab, label, f"{label}.example"
        self.machine: Machine = lab.network.add(label, number)
        self.prefix = self.machine.command
        self.directory, self.authority, self.process = lab.directory / label, lab.authority, None
        self.c2s_port, self.s2s_port, self.s2s_tls_port, self.http_port = 5222, 5269, 5270, 5280
        self.rooms = f"conference.{self.domain}"
        self._numbers = itertools.count(1)
        self.settings: dict = {}
        self.directory.mkdir(parents=True)
        self.bundle = self.directory / "bundle.pem"
        self.certified(lab.authority.issue(label, self.hosts))
        self.publish()
        self.configure()

    @property
    def hosts(self) -> list[str]:
        return [self.domain, *(f"{service}.{self.domain}" for service in SERVICES)]

    def certified(self, files: tuple[Path, Path]) -> None:
        """Which certificate it shows from its next start on."""
        self.certificate, self.key = files
        self.bundle.write_bytes(self.certificate.read_bytes() + self.key.read_bytes())

    def publish(self, *, service: str = "_xmpp-server", port: int = 5269) -> None:
        """Says in DNS where it is, as administrators do."""
        where = ["@", *SERVICES]
        self.lab.dns.zone(
            self.domain,
            *(f"{service}._tcp{'' if host == '@' else '.' + host} IN SRV 5 0 {port} xmpp.{self.domain}." for host in where),
            *(f"{host} IN A {self.machine.ipv4}\n{host} IN AAAA {self.machine.ipv6}" for host in (*where, "xmpp")))

    def ports(self) -> tuple[int, ...]:
        return self.c2s_port, self.s2s_port, self.http_port

    async def connect(self, port: int) -> socket.socket:
        return await connected(port, opened=self.machine.open())

    def session(self) -> aiohttp.ClientSession:
        return browse(self.machine, self.lab)

    async def change(self, **settings) -> None:
        """Starts it anew with other settings; without any, with those that it had at first."""
        self.settings = settings
        self.configure()
        await self.restart()

    def federated(self) -> str:
        """What it says of its connections, for a report."""
        return self.log()[-6000:]


class LabProsody(Peer, Prosody):
    def configure(self) -> None:
        settings = {"level": "debug", "secure": self.label == "prosody", "dialback": True} | self.settings
        disabled = [] if settings["dialback"] else ["dialback"]
        (self.directory / "prosody.cfg.lua").write_text(PROSODY.format(
            directory=self.directory, certificates=self.authority.directory, domain=self.domain, level=settings["level"],
            certificate=self.certificate, key=self.key, root=self.authority.root, secure=str(settings["secure"]).lower(),
            disabled="; ".join(f'"{name}"' for name in disabled)))

    async def add_user(self, user: str, password: str, domain: str = "") -> None:
        await super().add_user(user, password, domain or self.domain)


class LabEjabberd(Peer, Ejabberd):
    def configure(self) -> None:
        settings = {"level": "info", "tls": "required", "dialback": True} | self.settings
        (self.directory / "ejabberd.yml").write_text(EJABBERD.format(
            directory=self.directory, domain=self.domain, bundle=self.bundle, root=self.authority.root, level=settings["level"],
            tls=settings["tls"], dialback="mod_s2s_dialback: {}" if settings["dialback"] else ""))

    async def add_user(self, user: str, password: str, domain: str = "") -> None:
        await super().add_user(user, password, domain or self.domain)


class LabMoltis(Peer, Moltis):
    def configure(self) -> None:
        (self.directory / "data").mkdir(exist_ok=True)
        base = {
            "data_dir": str(self.directory / "data"),
            "log": {"level": "info,moltis=debug", "format": "compact"},
            "server": {"bind": self.machine.ipv4, "port": self.http_port},
            "chat": {"model": "test/model-1"},
            "providers": {"test": {"kind": "openai", "base_url": self.lab.model.base_url, "api_key": "key-of-test"}},
            "xmpp_server": {
                "enabled": True, "domain": self.domain, "certificate": str(self.certificate), "key": str(self.key),
                "admins": [f"{ADMIN}@{self.domain}"],
                "federation": {"authentication": "certificate" if self.label == "ours" else "dialback"},
                "bots": {"helper": {"allowlist": ["*.example"], "nick": "helper"}},
                "limits": {"connections_per_ip": 10_000, "login_failures_per_ip": 10_000}}}
        (self.directory / "moltis.toml").write_text(toml(merge(base, self.settings)))

    def ports(self) -> tuple[int, ...]:
        return self.c2s_port, self.s2s_port

    def command(self) -> tuple[list[str], dict[str, str]]:
        command, environment = super().command()
        return command, {**environment, "SSL_CERT_FILE": str(self.authority.root)}

    async def add_user(self, user: str, password: str, domain: str = "") -> None:
        await super().add_user(user, password, domain or self.domain)


# ours2 and prosody2 believe in dialback alone, whatever a certificate says.
KINDS = {"ours": (LabMoltis, 11), "ours2": (LabMoltis, 12), "prosody": (LabProsody, 21), "prosody2": (LabProsody, 22),
         "ejabberd": (LabEjabberd, 31)}
# Servers that federate, each pair in each order.
PAIRS = [*itertools.permutations(("ours", "prosody", "ejabberd"), 2), ("ours", "ours2")]


class Lab:
    def __init__(self, directory: Path, authority: Authority):
        self.directory, self.authority = directory, authority
        self.network = Network()
        self.dns = Nameserver(self.network.add("dns", 2))
        self.model = Model(self.network.add("model", 3))
        self.peers: dict[str, Peer] = {}
        self.people: list[Person] = []
        self.helpers: list = []  # whatever else a test has started: has a `stop`
        self._numbers = itertools.count(100)
        self._starting = asyncio.Lock()

    async def start(self) -> "Lab":
        await self.dns.start()
        await self.model.start()
        return self

    async def close(self) -> None:
        await asyncio.gather(*(peer.stop() for peer in self.peers.values()))
        await self.model.stop()
        self.dns.stop()
        self.network.close()

    async def peer(self, label: str) -> Peer:
        """A server that runs, started now where it is not."""
        async with self._starting:
            if label not in self.peers:
                kind, number = KINDS[label]
                self.peers[label] = kind(self, label, number)
            if self.peers[label].process is None:
                await self.peers[label].start()
        return self.peers[label]

    async def person(self, peer: Peer, name: str, **options) -> Person:
        """Someone new with an account there, logged in."""
        user = peer.unique(name)
        await peer.add_user(user, PASSWORD)
        person = Person(peer, user, PASSWORD, nick=name, domain=peer.domain)
        self.people.append(person)
        await person.login(**options)
        # Now the server knows of the presence: for ejabberd, what comes just before it is for the time of the next login.
        await person.flush()
        return person

    async def leave(self) -> None:
        """After a test: its people are gone, and DNS and the network are as they were."""
        people, self.people = self.people, []
        helpers, self.helpers = self.helpers, []
        await asyncio.gather(*(person.logout() for person in people if person.client), return_exceptions=True)
        for helper in helpers:
            await helper.stop()
        self.dns.mend()
        self.network.heal(*(peer.machine for peer in self.peers.values()))
        for peer in self.peers.values():
            peer.publish()

    async def forgets(self) -> None:
        """Until what DNS has said is kept by nobody any more."""
        await asyncio.sleep(TTL + 0.2)

    def number(self) -> int:
        """For a further machine, or a domain that no other test has."""
        return next(self._numbers)

    def report(self, *labels: str) -> str:
        return "\n".join(f"--- {label} ---\n{peer.federated()}" for label, peer in self.peers.items()
                         if not labels or label in labels)


class Names(AbstractResolver):
    """What the lab's DNS says, for HTTP clients that live in the test's process."""

    def __init__(self, lab: Lab):
        self.lab = lab

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[dict]:
        address = "127.0.0.1" if host == "localhost" else self.lab.dns.address(host)
        return [{"hostname": host, "host": address, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}]

    async def close(self) -> None:
        pass


def browse(machine: Machine, lab: Lab) -> aiohttp.ClientSession:
    """HTTP from a machine of the lab."""
    trust = ssl.create_default_context(cafile=str(lab.authority.root))
    connector = aiohttp.TCPConnector(resolver=Names(lab), ssl=trust, use_dns_cache=False,
                                     socket_factory=lambda info: machine.open(info[0], info[1]))
    return aiohttp.ClientSession(connector=connector)
