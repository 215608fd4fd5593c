"""ejabberd, as Debian ships it."""

import asyncio
import subprocess
from pathlib import Path

from servers import COMPONENT_SECRET, DOMAIN, OPEN_DOMAIN, ROOMS, UPLOAD_LIMIT, Server

CONFIGURATION = """
hosts: ["{domain}", "{open_domain}"]
loglevel: info
acme: {{auto: false}}
certfiles: ["{bundle}"]
auth_method: internal
auth_password_format: scram
auth_scram_hash: sha256
log_rotate_size: infinity
registration_timeout: infinity
listen:
  - {{port: {c2s_port}, ip: "127.0.0.1", module: ejabberd_c2s, starttls_required: true, backlog: 1024,
      max_stanza_size: 1000000}}
  - {{port: {tls_port}, ip: "127.0.0.1", module: ejabberd_c2s, tls: true, backlog: 1024}}
  - {{port: {component_port}, ip: "127.0.0.1", module: ejabberd_service, backlog: 1024, access: all,
      password: "{secret}"}}
  - {{port: {http_port}, ip: "127.0.0.1", module: ejabberd_http, backlog: 1024,
      request_handlers: {{/upload: mod_http_upload, /api: mod_http_api}}}}
api_permissions:
  tests: {{from: mod_http_api, who: all, what: "*"}}
acl:
  admin: {{user: "admin@{domain}"}}
access_rules:
  open_only: [{{allow: open}}]
  anyone: [allow]
modules:
  mod_adhoc: {{}}
  mod_admin_extra: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_disco: {{}}
  mod_last: {{}}
  mod_mam: {{default: always, assume_mam_usage: true, request_activates_archiving: false}}
  mod_muc:
    host: "{rooms}"
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
  mod_stream_mgmt: {{resend_on_timeout: if_offline, resume_timeout: 120}}
  mod_time: {{}}
  mod_vcard: {{}}
  mod_version: {{}}
append_host_config:
  "{domain}":
    modules:
      mod_http_upload:
        host: "upload.localhost"
        put_url: "http://localhost:{http_port}/upload"
        docroot: "{directory}/upload"
        max_size: {upload_limit}
        access: all
  "{open_domain}":
    modules:
      mod_register: {{ip_access: anyone, access: anyone, password_strength: 0}}
"""


class Ejabberd(Server):
    name = "ejabberd"
    program = "erl"
    occupant_ids = False

    def configure(self) -> None:
        (self.directory / "ejabberd.yml").write_text(CONFIGURATION.format(
            directory=self.directory, bundle=self.bundle, c2s_port=self.c2s_port, tls_port=self.tls_port,
            component_port=self.component_port, http_port=self.http_port, secret=COMPONENT_SECRET,
            domain=DOMAIN, open_domain=OPEN_DOMAIN, rooms=ROOMS, upload_limit=UPLOAD_LIMIT))

    def command(self) -> tuple[list[str], dict[str, str]]:
        # Not by ejabberdctl: as root it goes through `su`, which lowers the limit of open files and leaves a process
        # that is not our child. Without a node name there is no epmd either.
        environment = {
            "EJABBERD_CONFIG_PATH": str(self.directory / "ejabberd.yml"),
            "EJABBERD_LOG_PATH": str(self.directory / "ejabberd.log"),
            "ERL_LIBS": str(next(Path("/usr/lib").glob("*/ejabberd-*")).parent),
            "ERL_CRASH_DUMP": str(self.directory / "crash.dump"),
            "HOME": str(self.directory),
        }
        return ["erl", "-noshell", "-noinput", "+K", "true", "+P", "250000",
                "-mnesia", "dir", f'"{self.directory}/spool"', "-s", "ejabberd"], environment

    @staticmethod
    def version() -> str:
        folders = sorted(Path("/usr/lib").glob("*/ejabberd-*"))
        if not folders:
            raise RuntimeError("ejabberd is not installed")
        package = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "ejabberd"],
                                 capture_output=True, text=True, check=False)
        return f"ejabberd {package.stdout or folders[-1].name}"

    async def add_user(self, user: str, password: str, domain: str = DOMAIN) -> None:
        await self.api("register", user=user, host=domain, password=password)

    async def announce_to(self, user: str, watcher: str, domain: str = DOMAIN) -> None:
        name, host = watcher.split("@")
        await self.api("add_rosteritem", localuser=user, localhost=domain, user=name, host=host,
                       nick=name, group="", subs="from")

    async def kill(self) -> None:
        # Mnesia writes its log after two seconds: accounts of this test that die with the server are not what is tested.
        await asyncio.sleep(3)
        await super().kill()

    async def api(self, command: str, **arguments) -> object:
        async with self.session() as session:
            url = f"http://127.0.0.1:{self.http_port}/api/{command}"
            async with session.post(url, json=arguments) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"ejabberd {command}: {answer.status} {await answer.text()}")
                return await answer.json()
