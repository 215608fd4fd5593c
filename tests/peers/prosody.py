"""Prosody, as Debian ships it."""

import shutil
import subprocess
from xml.etree import ElementTree as ET

from servers import COMPONENT_HOSTS, COMPONENT_SECRET, DOMAIN, OPEN_DOMAIN, ROOMS, UPLOAD_LIMIT, Server

CONFIGURATION = """
run_as_root = true
daemonize = false
pidfile = "{directory}/prosody.pid"
data_path = "{directory}/data"
certificates = "{certificate_directory}"
log = {{ info = "{directory}/prosody.log" }}
plugin_paths = {{ "{directory}/plugins" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {c2s_port} }}
c2s_direct_tls_ports = {{ {tls_port} }}
component_interfaces = {{ "127.0.0.1" }}
component_ports = {{ {component_port} }}
http_interfaces = {{ "127.0.0.1" }}
http_ports = {{ {http_port} }}
https_ports = {{}}
http_external_url = "http://localhost:{http_port}/"
-- Files are read by the bot from `localhost`, and Prosody picks the host by the Host header.
http_default_host = "upload.localhost"
ssl = {{ certificate = "{certificate}"; key = "{key}" }}
c2s_require_encryption = true
-- Keeps SCRAM-SHA-1 and SCRAM-SHA-256 both on offer, and users can be written as files.
authentication = "internal_plain"
storage = "internal"
archive_expires_after = "never"
smacks_hibernation_time = 120
modules_disabled = {{ "s2s" }}
modules_enabled = {{
    "roster"; "saslauth"; "tls"; "disco"; "carbons"; "pep"; "private"; "blocklist"; "vcard4"; "vcard_legacy";
    "version"; "uptime"; "time"; "ping"; "mam"; "smacks"; "offline"; "register"; "lastactivity"; "bookmarks"; "admin_adhoc"; "announce";
}}

VirtualHost "{domain}"
    allow_registration = false
    admins = {{ "admin@{domain}" }}

VirtualHost "{open_domain}"
    allow_registration = true

Component "{rooms}" "muc"
    modules_enabled = {{ "muc_mam" }}
    muc_log_by_default = true
    muc_room_locking = false
    muc_room_default_public_jids = false
    muc_tombstones = false

Component "pubsub.localhost" "pubsub"
    modules_enabled = {{ "pubsub_for_all" }}

Component "upload.localhost" "http_file_share"
    http_host = "localhost"
    http_file_share_size_limit = {upload_limit}

{components}
"""

# Whoever has an account creates nodes, as on the embedded server; Prosody 0.12 knows only administrators.
PUBSUB_FOR_ALL = """
local service = module:depends("pubsub").get_service();
service.config.capabilities.none.create = true;
service.config.capabilities.member.create = true;
"""
COMPONENT = 'Component "{}"\n    component_secret = "{}"\n'
COMPONENTS = [*COMPONENT_HOSTS, f"files.{OPEN_DOMAIN}"]


class Prosody(Server):
    name = "prosody"
    program = "prosody"
    occupant_ids = True

    def configure(self) -> None:
        components = "".join(COMPONENT.format(host, COMPONENT_SECRET) for host in COMPONENTS)
        plugins = self.directory / "plugins"
        plugins.mkdir(exist_ok=True)
        (plugins / "mod_pubsub_for_all.lua").write_text(PUBSUB_FOR_ALL)
        (self.directory / "prosody.cfg.lua").write_text(CONFIGURATION.format(
            directory=self.directory, c2s_port=self.c2s_port, tls_port=self.tls_port,
            component_port=self.component_port, http_port=self.http_port, certificate=self.certificate, certificate_directory=self.authority.directory,
            key=self.key, domain=DOMAIN, open_domain=OPEN_DOMAIN, rooms=ROOMS, upload_limit=UPLOAD_LIMIT,
            components=components))

    def command(self) -> tuple[list[str], dict[str, str]]:
        return ["prosody", "--config", str(self.directory / "prosody.cfg.lua"), "-F"], {}

    def is_noise(self, stanza: ET.Element) -> bool:
        # It acknowledges each request for a subscription so.
        return (stanza.tag.endswith("}presence") and stanza.get("type") == "unavailable"
                and "/" not in stanza.get("from", "/"))

    @staticmethod
    def version() -> str:
        if shutil.which("prosodyctl") is None:
            raise RuntimeError("prosodyctl is not installed")
        about = subprocess.run(["prosodyctl", "--root", "about"], capture_output=True, text=True, check=False)
        return about.stdout.splitlines()[0]

    async def add_user(self, user: str, password: str, domain: str = DOMAIN) -> None:
        self._write(domain, "accounts", user, f'return {{ ["password"] = "{password}"; }};\n')

    async def announce_to(self, user: str, watcher: str, domain: str = DOMAIN) -> None:
        self._write(domain, "roster", user, f'return {{ [false] = {{ ["version"] = 1; }}; ["{watcher}"] = '
                    '{ ["subscription"] = "from"; ["groups"] = {}; }; };\n')

    def _write(self, domain: str, store: str, user: str, text: str) -> None:
        """As Prosody's internal storage encodes names: every byte but letters and digits as %xx."""
        def encode(name: str) -> str:
            return "".join(c if c.isascii() and c.isalnum() else "".join(f"%{b:02x}" for b in c.encode())
                           for c in name)
        folder = self.directory / "data" / encode(domain) / store
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{encode(user)}.dat").write_text(text)
