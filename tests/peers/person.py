"""A person with an XMPP client: slixmpp, and what they see on their screen."""

import asyncio
import ssl
import uuid
from collections.abc import Callable
from xml.etree import ElementTree as ET

import slixmpp
from slixmpp.xmlstream.handler import Callback
from slixmpp.xmlstream.matcher import MatchXPath

from servers import DOMAIN, PATIENCE, Server
from stanza import CLIENT, DATA, MUC, Iq, Line, Message, Presence, Stanza, bare, displayed, escape


RSM = "http://jabber.org/protocol/rsm"


class Arrivals(list):
    """Stanzas in order of arrival; waiting looks at those that are there first."""

    def __init__(self):
        super().__init__()
        self._news = asyncio.Event()

    def add(self, stanza) -> None:
        self.append(stanza)
        self.wake()

    def wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def until(self, ready: Callable[[], object], what: str, seconds: float = PATIENCE):
        """Waits until `ready` returns something true, and returns that."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := ready()):
                    await self._news.wait()
                return found
        except TimeoutError:
            seen = "\n  ".join(str(stanza)[:600] for stanza in self[-12:])
            raise AssertionError(f"{what} did not happen in {seconds:.0f} s; last seen:\n  {seen}") from None

    async def first(self, wanted: Callable[[Stanza], bool], what: str = "the expected stanza",
                    seconds: float = PATIENCE, start: int = 0):
        return await self.until(lambda: next((item for item in self[start:] if wanted(item)), None), what, seconds)


class Client(slixmpp.ClientXMPP):
    """slixmpp, on the machine of its server."""

    connector: Callable  # of the server: how to get to a port of its

    async def _attempt_connection(self, host, port, tls, server_hostname) -> bool:
        self.event_when_connected = "connected"
        self._connect_loop_wait += 1
        try:
            await self.loop.create_connection(lambda: self, sock=await self.connector(port))
        except OSError as error:
            self.event("connection_failed", error)
            return False
        self._connect_loop_wait = 0
        return True


class Person:
    def __init__(self, server: Server, user: str, password: str, *, nick: str = "", domain: str = DOMAIN,
                 resource: str = "client", corrections: bool = True):
        self.server, self.user, self.password, self.nick = server, user, password, nick or user
        self.domain, self.jid = domain, f"{user}@{domain}"
        self.full = f"{self.jid}/{resource}"
        self.corrections = corrections  # whether this client announces XEP-0308
        self.occupants: set[str] = set()  # who this person is in rooms
        self.messages, self.presences, self.iqs = Arrivals(), Arrivals(), Arrivals()
        self.client: Client | None = None

    def _new_client(self) -> Client:
        client = Client(self.full, self.password,
                        ssl_context=ssl.create_default_context(cafile=str(self.server.authority.root)))
        client.connector = self.server.connect
        client.enable_direct_tls = False
        client.roster.auto_subscribe = False
        for plugin in ("xep_0030", "xep_0115", "xep_0199", *(["xep_0308"] if self.corrections else [])):
            client.register_plugin(plugin)
        for name, kind, arrivals in (("message", Message, self.messages), ("presence", Presence, self.presences),
                                     ("iq", Iq, self.iqs)):
            client.register_handler(Callback(
                f"every {name}", MatchXPath(f"{{{CLIENT}}}{name}"),
                lambda stanza, kind=kind, arrivals=arrivals: arrivals.add(kind(stanza.xml))))
        return client

    async def login(self, *, available: bool = True) -> "Person":
        """Logs in, also again after the connection broke; what was seen stays seen."""
        self.client = self._new_client()
        started = asyncio.get_running_loop().create_future()

        def settle(result: Exception | None) -> None:
            if not started.done():
                started.set_exception(result) if result else started.set_result(None)
        self.client.add_event_handler("session_start", lambda _: settle(None))
        self.client.add_event_handler("failed_all_auth", lambda _: settle(PermissionError("login refused")))
        self.client.connect("127.0.0.1", self.server.c2s_port)
        await asyncio.wait_for(started, PATIENCE)
        # Without it the servers count this client as one that is not interested in subscriptions (RFC 6121, 2.2).
        await self.client.get_roster()
        if available:
            self.client.send_presence()
        return self

    async def logout(self) -> None:
        await self.client.disconnect(wait=1.0)

    def drop(self) -> None:
        self.client.abort()

    # -- sending

    def send(self, xml: str) -> None:
        self.client.send_raw(xml)

    def say(self, to: str, text: str, *, kind: str = "chat", extra: str = "", id: str | None = None) -> str:
        """Sends a message with what a modern client adds, and returns its id."""
        id = id or uuid.uuid4().hex
        request = "<request xmlns='urn:xmpp:receipts'/>" if kind == "chat" else ""
        self.send(f"<message to='{escape(to)}' type='{kind}' id='{id}'><body>{escape(text)}</body>{request}"
                  f"<markable xmlns='urn:xmpp:chat-markers:0'/><origin-id xmlns='urn:xmpp:sid:0' id='{id}'/>"
                  f"{extra}</message>")
        return id

    def say_in(self, room: str, text: str, *, extra: str = "", id: str | None = None) -> str:
        return self.say(room, text, kind="groupchat", extra=extra, id=id)

    def correct(self, to: str, id: str, text: str, *, kind: str = "chat") -> str:
        return self.say(to, text, kind=kind, extra=f"<replace xmlns='urn:xmpp:message-correct:0' id='{id}'/>")

    def retract(self, to: str, id: str, *, kind: str = "chat") -> None:
        self.send(f"<message to='{escape(to)}' type='{kind}' id='{uuid.uuid4().hex}'>"
                  f"<retract xmlns='urn:xmpp:message-retract:1' id='{id}'/>"
                  "<fallback xmlns='urn:xmpp:fallback:0' for='urn:xmpp:message-retract:1'/>"
                  "<body>I retracted a message.</body><store xmlns='urn:xmpp:hints'/></message>")

    def react(self, to: str, id: str, *emojis: str, kind: str = "chat") -> None:
        items = "".join(f"<reaction>{emoji}</reaction>" for emoji in emojis)
        self.send(f"<message to='{escape(to)}' type='{kind}' id='{uuid.uuid4().hex}'>"
                  f"<reactions xmlns='urn:xmpp:reactions:0' id='{id}'>{items}</reactions></message>")

    def subscribe(self, to: str) -> None:
        self.send(f"<presence to='{to}' type='subscribe' id='{uuid.uuid4().hex}'/>")

    async def befriend(self, other: "Person") -> None:
        """Both see each other's presence from now on."""
        for one, two in ((self, other), (other, self)):
            start = len(two.presences)
            one.subscribe(two.jid)
            await two.sees_presence(lambda p: (p.type, p.sender) == ("subscribe", one.jid), "a request", start=start)
            two.send(f"<presence to='{one.jid}' type='subscribed'/>")
            await one.sees_presence(lambda p: (p.type, p.sender) == ("subscribed", two.jid), "an approval")
            await one.sees_presence(lambda p: (p.type, p.sender) == ("", two.full), f"the presence of {two.jid}")

    async def iq(self, kind: str, to: str, payload: str, seconds: float = PATIENCE) -> Iq:
        id = uuid.uuid4().hex
        address = f" to='{escape(to)}'" if to else ""
        self.send(f"<iq type='{kind}' id='{id}'{address}>{payload}</iq>")
        return await self.iqs.first(lambda iq: iq.id == id and iq.type in ("result", "error"),
                                    f"an answer to the IQ {payload[:80]}", seconds)

    async def flush(self) -> None:
        """Returns once the server has handled all that this person has sent."""
        await self.iq("get", self.domain, "<ping xmlns='urn:xmpp:ping'/>")

    # -- seeing

    def lines(self, peer: str) -> list[Line]:
        """What others wrote in the conversation with `peer`: a contact, a room, or an occupant in private."""
        return [line for line in displayed(self.messages)
                if belongs(line.message, peer) and line.sender not in self.occupants]

    def texts(self, peer: str) -> list[str]:
        return [line.text for line in self.lines(peer)]

    async def sees(self, peer: str, text: str, seconds: float = PATIENCE) -> Line:
        """Waits until a line of `peer` holds `text`, after corrections."""
        return await self.messages.until(
            lambda: next((line for line in self.lines(peer) if text in line.text), None),
            f"{self.user}: a line with {text!r} from {peer}", seconds)

    async def sees_exactly(self, peer: str, text: str, seconds: float = PATIENCE) -> Line:
        return await self.messages.until(
            lambda: next((line for line in self.lines(peer) if line.text == text), None),
            f"{self.user}: the line {text!r} from {peer}", seconds)

    async def next_line(self, peer: str, seen: int, seconds: float = PATIENCE) -> Line:
        """Waits for a line beyond the first `seen` of this conversation."""
        return await self.messages.until(
            lambda: (self.lines(peer)[seen:] or [None])[0], f"{self.user}: another line from {peer}", seconds)

    async def command(self, peer: str, text: str, *, kind: str = "chat") -> str:
        """Says `text` and returns what the next line of `peer` says."""
        seen = len(self.lines(peer))
        self.say(peer, text, kind=kind)
        return (await self.next_line(peer, seen)).text

    async def sees_message(self, wanted: Callable[[Message], bool], what: str, seconds: float = PATIENCE,
                           start: int = 0) -> Message:
        return await self.messages.first(wanted, f"{self.user}: {what}", seconds, start)

    async def sees_presence(self, wanted: Callable[[Presence], bool], what: str, seconds: float = PATIENCE,
                            start: int = 0) -> Presence:
        return await self.presences.first(wanted, f"{self.user}: {what}", seconds, start)

    # -- rooms

    async def join(self, room: str, nick: str | None = None, *, password: str = "") -> str:
        """Joins without history and returns the occupant JID."""
        nick = nick or self.nick
        occupant, start = f"{room}/{nick}", len(self.presences)
        secret = f"<password>{escape(password)}</password>" if password else ""
        self.send(f"<presence to='{escape(occupant)}'><x xmlns='{MUC}'><history maxstanzas='0'/>{secret}</x></presence>")
        answer = await self.sees_presence(
            lambda p: p.sender == occupant and ("110" in p.status_codes or p.type == "error"),
            f"the answer to joining {room}", start=start)
        if answer.type == "error":
            raise PermissionError(str(answer))
        self.occupants.add(occupant)
        return occupant

    async def sees_occupant(self, room: str, nick: str, seconds: float = PATIENCE, start: int = 0) -> Presence:
        return await self.sees_presence(
            lambda p: p.sender == f"{room}/{nick}" and p.type == "", f"{nick} in {room}", seconds, start)

    async def sees_leaving(self, room: str, nick: str, seconds: float = PATIENCE, start: int = 0) -> Presence:
        return await self.sees_presence(
            lambda p: p.sender == f"{room}/{nick}" and p.type == "unavailable", f"{nick} leaving {room}", seconds,
            start)

    async def configure(self, room: str, **fields: str) -> None:
        """Sets `muc#roomconfig_<field>` of an own room."""
        items = "".join(f"<field var='muc#roomconfig_{name}'><value>{escape(value)}</value></field>"
                        for name, value in fields.items())
        form = (f"<query xmlns='{MUC}#owner'><x xmlns='{DATA}' type='submit'><field var='FORM_TYPE'>"
                f"<value>{MUC}#roomconfig</value></field>{items}</x></query>")
        await self.must("set", room, form)

    async def kick(self, room: str, nick: str) -> None:
        await self.must("set", room, f"<query xmlns='{MUC}#admin'><item nick='{escape(nick)}' role='none'/></query>")

    async def affiliate(self, room: str, jid: str, affiliation: str) -> None:
        await self.must("set", room, f"<query xmlns='{MUC}#admin'><item jid='{jid}' affiliation='{affiliation}'/></query>")

    async def destroy(self, room: str, alternate: str = "") -> None:
        venue = f" jid='{alternate}'" if alternate else ""
        await self.must("set", room, f"<query xmlns='{MUC}#owner'><destroy{venue}/></query>")

    async def must(self, kind: str, to: str, payload: str) -> Iq:
        answer = await self.iq(kind, to, payload)
        if answer.type != "result":
            raise RuntimeError(f"{to} refused {payload}: {answer}")
        return answer

    async def archive(self, *, peer: str = "", room: str = "") -> list[ET.Element]:
        """The messages that an archive holds: one's own with `peer`, or a room's. All pages of it."""
        query = uuid.uuid4().hex
        filter = (f"<x xmlns='{DATA}' type='submit'><field var='FORM_TYPE'><value>urn:xmpp:mam:2</value></field>"
                  f"<field var='with'><value>{peer}</value></field></x>") if peer else ""
        after, complete = "", False
        while not complete:
            page = f"<set xmlns='{RSM}'><max>100</max>{f'<after>{escape(after)}</after>' if after else ''}</set>"
            answer = await self.must("set", room, f"<query xmlns='urn:xmpp:mam:2' queryid='{query}'>{filter}{page}</query>")
            fin = answer.deep("fin", "urn:xmpp:mam:2")
            last = fin.findtext(f".//{{{RSM}}}last")
            complete, after = fin.get("complete") == "true" or not last, last
        found = []
        for message in self.messages:
            result = message.child("result", "urn:xmpp:mam:2")
            if result is not None and result.get("queryid") == query:
                found.append(result.find(f".//{{{CLIENT}}}message"))
        return found


def belongs(message: Message, peer: str) -> bool:
    """Whether a message was written in the conversation with `peer`: a contact, a room, or an occupant in private."""
    if "/" in peer:
        return message.sender == peer and message.type != "groupchat"
    is_room = "@conference." in peer
    return bare(message.sender) == peer and (message.type == "groupchat") == is_room
