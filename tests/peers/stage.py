"""Plays a scenario script on a server, with accounts and rooms of its own."""

import asyncio
import itertools
import re
from xml.etree import ElementTree as ET

from script import ENVELOPE, Actor, Script, Step, differs
from servers import DOMAIN, PATIENCE, ROOMS, Server
from stream import Ended, Stream

PASSWORD = "correct horse battery staple"
# How long what should not come may take to come.
SILENCE = 0.1
# Whom the servers' configurations know by name: the same in every play.
KNOWN = {"admin"}
NUMBERS = itertools.count(1)


class Stage:
    def __init__(self, server: Server, script: Script):
        self.server, self.script = server, script
        # Each play has names of its own, so that all can share one server: romeo@localhost is romeo-7@localhost.
        self.suffix = f"-{next(NUMBERS)}"
        self.users = {actor.user for actor in script.actors.values()} - KNOWN
        self.streams: dict[str, Stream] = {}
        self.kept: dict[str, str] = {}

    async def play(self) -> None:
        users = {self._name(actor.user) for actor in self.script.actors.values() if actor.has_account}
        new = users - self.server.known
        self.server.known |= new & KNOWN
        await asyncio.gather(*(self.server.add_user(user, PASSWORD) for user in new))
        try:
            for step in self.script.steps:
                try:
                    await self._step(step)
                except AssertionError as error:
                    raise AssertionError(f"{self.script.path.name}:{step.line}: {step.text}\n{error}") from None
                except Ended:
                    raise AssertionError(
                        f"{self.script.path.name}:{step.line}: {step.text}\nThe server has closed the stream") from None
        finally:
            for stream in self.streams.values():
                stream.cut()

    def _name(self, user: str) -> str:
        return user if user in KNOWN else user + self.suffix

    def localized(self, text: str) -> str:
        """With the names of this play, and what was kept."""
        users = "|".join(map(re.escape, self.users)) or "(?!)"
        text = re.sub(rf"\b({users})@{DOMAIN}\b", rf"\1{self.suffix}@{DOMAIN}", text)
        text = re.sub(rf"\b([\w-]+)@{ROOMS}\b", rf"\1{self.suffix}@{ROOMS}", text)
        return re.sub(r"\$\{(\w+)\}", lambda match: self.kept[match[1]], text)

    async def _step(self, step: Step) -> None:
        actor = self.script.actors[step.who]
        match step.kind:
            case "connects":
                await self._connects(actor)
            case "online":
                await self._connects(actor)
                self.streams[step.who].write(f"<presence><priority>{step.number}</priority></presence>")
                await self._settle()
                for stream in self.streams.values():
                    stream.waiting()
            case "opens":
                self.streams[step.who] = await Stream(self.server).open(actor.settings.get("to", DOMAIN))
            case "disconnects":
                await self.streams[step.who].close()
            case "lost":
                self.streams[step.who].cut()
            case "ends":
                await self._ends(self.streams[step.who])
            case "sends":
                self.streams[step.who].write(self.localized(step.xml).strip())
            case "receives":
                await self._receives(self.streams[step.who], step)
            case "nothing":
                await self._nothing(self.streams[step.who])
            case "ignores":
                await self._settle()
                self.streams[step.who].waiting()
            case "announces":
                self.streams[step.who].announce(actor.settings["wants"].split())
            case "befriend":
                await self._befriend(actor, self.script.actors[step.other])

    async def _connects(self, actor: Actor) -> None:
        stream = await Stream(self.server).open()
        password = actor.settings.get("password", PASSWORD)
        self.streams[actor.name] = await stream.login(self._name(actor.user), password, actor.resource)

    async def _receives(self, stream: Stream, step: Step) -> None:
        """The next stanzas, in whichever order where a step names several."""
        expected = list(ET.fromstring(ENVELOPE.format(self.localized(step.xml))))
        while expected:
            try:
                actual = await stream.next()
            except TimeoutError:
                raise AssertionError(f"nothing came within {PATIENCE} s") from None
            reasons = []
            for candidate in expected:
                reason = differs(candidate, actual, self.kept)
                if reason is None:
                    expected.remove(candidate)
                    break
                reasons.append(reason)
            else:
                raise AssertionError("\n".join((*reasons, shown(actual))))

    async def _nothing(self, stream: Stream) -> None:
        await self._settle()
        if waiting := stream.waiting():
            raise AssertionError("\n".join("the end of the stream" if it is None else shown(it) for it in waiting))

    async def _ends(self, stream: Stream) -> None:
        try:
            element = await stream.next()
        except Ended:
            return
        except TimeoutError:
            raise AssertionError("it does not end") from None
        raise AssertionError(f"before that: {shown(element)}")

    async def _settle(self, silence: float = SILENCE) -> None:
        """Whatever anyone has sent has been handled, and has arrived: each client's stanzas are handled in their order.

        `silence` is for what a server does on its own, as rooms do."""
        live = [stream for stream in self.streams.values() if stream.jid and not stream.closed]
        for pause in (0, silence):
            await asyncio.sleep(pause)
            await asyncio.gather(*(stream.barrier() for stream in live))

    async def _befriend(self, one: Actor, other: Actor) -> None:
        """Both see each other's presence (RFC 6121, 3.1)."""
        for asker, asked in ((one, other), (other, one)):
            for who, whom, kind in ((asker, asked, "subscribe"), (asked, asker, "subscribed")):
                address = f"{self._name(whom.user)}@{DOMAIN}"
                self.streams[who.name].write(f"<presence to='{address}' type='{kind}'/>")
                await self._settle(silence=0)
        await self._settle()
        for actor in (one, other):
            self.streams[actor.name].waiting()


def shown(element: ET.Element) -> str:
    return ET.tostring(element, encoding="unicode")
