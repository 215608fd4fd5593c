"""One test's world: a server, a model, people, rooms, and the bot among them."""

import asyncio
from pathlib import Path

from bot import Bot
from models import Model
from person import Person
from proxy import Proxy
from servers import COMPONENT_SECRET, DOMAIN, ROOMS, Server

PASSWORD = "correct horse battery staple"
NICK = "robin"


class World:
    def __init__(self, server: Server, directory: Path):
        self.server, self.directory = server, directory
        self.model = Model()
        self.people: list[Person] = []
        self.bots: list[Bot] = []
        self.proxies: list[Proxy] = []
        self.helpers: list = []  # whatever else has a `stop`
        self._models: list[Model] = []
        self._watcher: Person | None = None

    async def start(self) -> "World":
        await self.model.start()
        return self

    async def close(self) -> None:
        await asyncio.gather(*(asyncio.to_thread(bot.end) for bot in self.bots))
        for helper in (*self.proxies, *self.helpers):
            await helper.stop()
        await asyncio.gather(*(person.logout() for person in self.people))
        for model in (self.model, *self._models):
            await model.stop()

    async def person(self, name: str = "alice", **options) -> Person:
        """Someone new, logged in. The nick in rooms is `name`."""
        user = self.server.unique(name)
        await self.server.add_user(user, PASSWORD, options.get("domain", DOMAIN))
        person = Person(self.server, user, PASSWORD, nick=name, **options)
        self.people.append(person)
        return await person.login()

    async def second_client(self, person: Person, **options) -> Person:
        """Another client of the same account."""
        other = Person(self.server, person.user, PASSWORD, nick=person.nick, domain=person.domain,
                       **{"resource": "second", **options})
        self.people.append(other)
        return await other.login()

    async def another_model(self) -> Model:
        model = Model()
        await model.start()
        self._models.append(model)
        return model

    async def proxy(self, *, tls: bool = False) -> Proxy:
        proxy = await Proxy(self.server.tls_port if tls else self.server.c2s_port).start()
        self.proxies.append(proxy)
        return proxy

    async def watcher(self) -> Person:
        """Who is told of the presence of every bot."""
        if self._watcher is None:
            self._watcher = await self.person("watcher")
        return self._watcher

    # -- the bot

    async def prepare(self, *, admit: tuple | list = (), operators: tuple | list = (), rooms: tuple | list = (),
                      config: dict | None = None, name: str = "bot", domain: str = DOMAIN, proxy: Proxy | None = None,
                      environment: dict | None = None, **account) -> Bot:
        """A bot with an account on the server, not started. `admit` and `operators` are people, or patterns."""
        user = self.server.unique(name)
        await self.server.add_user(user, PASSWORD, domain)
        await self.server.announce_to(user, (await self.watcher()).jid, domain)
        return self.configure_bot(user, admit=admit, operators=operators, rooms=rooms, config=config, domain=domain,
                                  proxy=proxy, environment=environment, **account)

    def configure_bot(self, user: str, *, admit=(), operators=(), rooms=(), config=None, domain: str = DOMAIN,
                      proxy: Proxy | None = None, environment: dict | None = None, **account) -> Bot:
        """The configuration alone: the account may not exist."""
        table = self.account(user, domain, proxy)
        table |= {"allowlist": jids((*admit, *operators)), "operators": jids(operators), "rooms": list(rooms)} | account
        table = {key: value for key, value in table.items() if value is not None}
        bot = Bot(self.directory / user, merge(self.settings(), config or {}), table, environment=environment)
        self.bots.append(bot)
        return bot

    def component_host(self) -> str:
        """A domain for a component that no other test uses."""
        return next(self.server.component_hosts)

    def configure_component(self, host: str, *, admit=(), **account) -> Bot:
        """A bot that is a XEP-0114 component."""
        table = {"jid": host, "component_secret": COMPONENT_SECRET, "nick": NICK, "model_provider": "test",
                 "model": "model-1", "server": f"127.0.0.1:{self.server.component_port}",
                 "allowlist": jids(admit)} | account
        bot = Bot(self.directory / host, self.settings(), table)
        self.bots.append(bot)
        return bot

    def account(self, user: str, domain: str = DOMAIN, proxy: Proxy | None = None) -> dict:
        """The keys that every account of these tests has."""
        port = self.server.c2s_port if proxy is None else proxy.port
        return {"jid": f"{user}@{domain}", "password": PASSWORD, "server": f"127.0.0.1:{port}",
                "tls_ca_file": str(self.server.authority.root), "nick": NICK, "model_provider": "test",
                "model": "model-1"}

    def settings(self) -> dict:
        """Everything but the account: one provider of each kind, and as little else as there can be."""
        return {"log": {"level": "info,moltis=debug", "format": "compact"}, "server": {"port": 0},
                "chat": {"model": "test/model-1"},
                "providers": {
                    "test": {"kind": "openai", "base_url": self.model.base_url, "api_key": "key-of-test"},
                    "claude": {"kind": "anthropic", "base_url": self.model.base_url, "api_key": "key-of-claude"}}}

    async def bot(self, **options) -> Bot:
        """A bot that is online, and in its rooms where there are any."""
        bot = await self.prepare(**options)
        await self.start_bot(bot)
        return bot

    async def start_bot(self, bot: Bot) -> None:
        """Starts it, also again, and waits until its presence is out."""
        watcher = await self.watcher()
        start = len(watcher.presences)
        bot.launch()
        await self.online(bot, start)

    async def online(self, bot: Bot, start: int = 0) -> None:
        watcher = await self.watcher()
        try:
            await watcher.sees_presence(
                lambda p: p.sender.split("/")[0] == bot.jid and p.type == "", f"{bot.jid} online", start=start)
        except AssertionError as error:
            raise AssertionError(f"{error}\nIts log:\n{bot.log[-4000:]}") from None

    async def offline(self, bot: Bot, start: int = 0) -> None:
        await (await self.watcher()).sees_presence(
            lambda p: p.sender.split("/")[0] == bot.jid and p.type == "unavailable", f"{bot.jid} offline", start=start)

    async def responds(self, address: str, asker: Person | None = None, seconds: float = 90) -> None:
        """Waits until an entity answers a ping (XEP-0199): where presence does not tell, as after a restart."""
        asker = asker or await self.watcher()
        async with asyncio.timeout(seconds):
            while (await asker.iq("get", address, "<ping xmlns='urn:xmpp:ping'/>")).type != "result":
                await asyncio.sleep(0.1)

    async def reopen(self) -> None:
        """After a restart of the server: everyone is back."""
        await asyncio.gather(*(person.login() for person in self.people))

    # -- rooms

    async def room(self, owner: Person, **fields: str) -> str:
        """A room with its owner in it; `fields` are muc#roomconfig names."""
        room = f"{self.server.unique('room')}@{ROOMS}"
        await owner.join(room)
        # Persistent, so that a restart of the server leaves it there.
        await owner.configure(room, **{"persistentroom": "1", **fields})
        return room

    async def room_with_bot(self, owner: Person, *others: Person, fields: dict | None = None,
                            **options) -> tuple[str, Bot]:
        """A room with its owner, `others` and a bot in it; everyone in it may talk to the bot."""
        room = await self.room(owner, **(fields or {}))
        for person in others:
            await person.join(room)
        bot = await self.bot(**{"rooms": [room], "group_policy": "open", **options})
        await asyncio.gather(*(person.sees_occupant(room, bot.nick) for person in (owner, *others)))
        return room, bot

    def report(self) -> str:
        """What helps to understand a failure."""
        logs = "\n".join(f"--- {bot.jid} ---\n{bot.log[-6000:]}" for bot in self.bots)
        asked = "\n".join(f"{asked.path} {asked.model} {asked.last[-200:]!r}" for asked in self.model.asked)
        return f"{logs}\n--- requests to the model ---\n{asked}"


def jids(people) -> list[str]:
    """Of people, or as they are written."""
    return [person if isinstance(person, str) else person.jid for person in people]


def merge(base: dict, over: dict) -> dict:
    """`over` on `base`, table by table."""
    return {**base, **{key: merge(base[key], value) if isinstance(value, dict) and isinstance(base.get(key), dict)
                       else value for key, value in over.items()}}
