"""A XEP-0363 upload service of the tests' own, as a component: it does what real ones do not."""

import asyncio
import zlib

import slixmpp
from aiohttp import web
from slixmpp.xmlstream import ET
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from servers import COMPONENT_SECRET, PATIENCE, Server, free_port

SLOTS = "urn:xmpp:http:upload:0"
DISCO = "http://jabber.org/protocol/disco#info"
# XEP-0363, 5 allows three header names; the last is not one of them.
HEADERS = (("Authorization", "Basic Zm9v"), ("Cookie", "a=b"), ("X-Evil", "yes"))


class FakeUpload:
    def __init__(self, server: Server, host: str, *, put_status: int = 201, refuse_slots: bool = False,
                 max_file_size: int = 1_000_000):
        self.server, self.host, self.port = server, host, free_port()
        self.put_status, self.refuse_slots, self.max_file_size = put_status, refuse_slots, max_file_size
        self.received: list[tuple[str, dict, bytes]] = []
        self.sent = 0  # bytes of endless bodies
        self.secret_url = ""

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    async def start(self) -> None:
        app = web.Application(client_max_size=2**26)
        app.router.add_put("/{path:.*}", self._put)
        app.router.add_get("/{path:.*}", self._get)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self._component = slixmpp.ComponentXMPP(self.host, COMPONENT_SECRET, "127.0.0.1", self.server.component_port)
        for namespace, handler in ((DISCO, self._info), (SLOTS, self._slot)):
            name = "query" if namespace == DISCO else "request"
            self._component.register_handler(Callback(
                namespace, MatchXPath(f"{{jabber:component:accept}}iq/{{{namespace}}}{name}"), handler))
        started = asyncio.get_running_loop().create_future()
        self._component.add_event_handler("session_start", lambda _: started.done() or started.set_result(None))
        self._component.connect()
        await asyncio.wait_for(started, PATIENCE)

    async def stop(self) -> None:
        await self._component.disconnect(wait=1.0)
        await self._runner.cleanup()

    def _info(self, request) -> None:
        reply = request.reply()
        query = ET.SubElement(reply.xml, f"{{{DISCO}}}query")
        ET.SubElement(query, f"{{{DISCO}}}identity", category="store", type="file", name="Files")
        ET.SubElement(query, f"{{{DISCO}}}feature", var=SLOTS)
        form = ET.SubElement(query, "{jabber:x:data}x", type="result")
        for name, value in (("FORM_TYPE", SLOTS), ("max-file-size", str(self.max_file_size))):
            item = ET.SubElement(form, "{jabber:x:data}field", var=name)
            ET.SubElement(item, "{jabber:x:data}value").text = value
        reply.send()

    def _slot(self, request) -> None:
        wanted = request.xml.find(f"{{{SLOTS}}}request")
        reply = request.reply()
        if self.refuse_slots or int(wanted.get("size")) > self.max_file_size:
            reply["type"] = "error"
            reply["error"]["condition"] = "not-acceptable"
            reply["error"]["text"] = "No room"
            reply.send()
            return
        slot = ET.SubElement(reply.xml, f"{{{SLOTS}}}slot")
        url = f"{self.url}/{len(self.received)}/{wanted.get('filename')}"
        put = ET.SubElement(slot, f"{{{SLOTS}}}put", url=url)
        for name, value in HEADERS:
            ET.SubElement(put, f"{{{SLOTS}}}header", name=name).text = value
        ET.SubElement(slot, f"{{{SLOTS}}}get", url=url)
        reply.send()

    async def _put(self, request: web.Request) -> web.Response:
        self.received.append((request.path, dict(request.headers), await request.read()))
        return web.Response(status=self.put_status)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        name = request.path.strip("/")
        if name == "redirect-to-secret":
            raise web.HTTPFound(self.secret_url)
        if name == "loop":
            raise web.HTTPFound(f"{self.url}/loop")
        if name == "bomb":
            packer = zlib.compressobj(9, zlib.DEFLATED, 31)
            packed = b"".join(packer.compress(b" " * 1_000_000) for _ in range(200)) + packer.flush()
            return web.Response(body=packed, headers={"content-type": "text/plain", "content-encoding": "gzip"})
        response = web.StreamResponse(headers={"content-type": "text/plain"})
        await response.prepare(request)
        while True:
            await response.write(b"all work and no play " * 1000)
            self.sent += 21_000
