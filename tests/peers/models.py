"""A model server that speaks the wire formats of OpenAI Chat Completions and Anthropic Messages.

A test says what comes: `model.on("weather", Answer("Sunny."))` for the next request whose last user text holds
"weather", `model.then(Refusal(429))` for the next request whatever it says. Without a script each request gets
"Answer number N.", so that two answers to one message, or one answer to two, show.

The parts of answers are in wire.py.
"""

import asyncio
import itertools
import json
from dataclasses import dataclass, field

from aiohttp import web

from namespaces import Machine
from servers import PATIENCE, free_port
from wire import Answer, Cut, Hold, Pause, anthropic_events, anthropic_whole, openai_events, openai_whole


@dataclass
class Refusal:
    status: int
    retry_after: int | None = None
    # The body; the default is the shape of the format asked in.
    body: str | None = None
    message: str = "the model server refuses"
    code: str | None = None


@dataclass
class Asked:
    """A request that came, and what became of it."""

    path: str
    body: dict
    headers: dict
    # Set when the client hung up before the answer was complete.
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    completed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def anthropic(self) -> bool:
        return self.path.endswith("/messages")

    @property
    def model(self) -> str:
        return self.body.get("model", "")

    @property
    def messages(self) -> list[tuple[str, str]]:
        """(role, text) without the system prompt."""
        return [(message["role"], text_of(message.get("content"))) for message in self.body["messages"]
                if message["role"] not in ("system", "developer")]

    @property
    def system(self) -> str:
        if self.anthropic:
            return text_of(self.body.get("system"))
        return "\n".join(text_of(message["content"]) for message in self.body["messages"]
                         if message["role"] in ("system", "developer"))

    @property
    def last(self) -> str:
        """The last user text."""
        return next((text for role, text in reversed(self.messages) if role == "user"), "")

    @property
    def everything(self) -> str:
        return json.dumps(self.body, ensure_ascii=False)

    @property
    def images(self) -> list[str]:
        """The image parts of the last message, as their media types."""
        content = self.body["messages"][-1].get("content")
        found = []
        for part in content if isinstance(content, list) else []:
            if part.get("type") == "image_url":
                found.append(part["image_url"]["url"].split(";")[0].removeprefix("data:"))
            if part.get("type") == "image":
                found.append(part["source"]["media_type"])
        return found


def text_of(content) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text", "") for part in content or [] if part.get("type") in ("text", "input_text"))


class Model:
    """The server; `base_url` for the openai kind, `anthropic_url` for the other."""

    def __init__(self, machine: Machine | None = None):
        """`machine`: of a network of its own (namespaces.py), where it is not the test's."""
        self.machine = machine
        self.port = 8081 if machine else free_port()
        self.asked: list[Asked] = []
        self.fetched: list[str] = []  # paths of plain GETs: nobody may follow links here
        self._queue: list = []
        self._rules: list[tuple[str, object]] = []
        self._numbers = itertools.count(1)
        self._news = asyncio.Event()

    @property
    def base_url(self) -> str:
        return f"http://{self.machine.ipv4 if self.machine else '127.0.0.1'}:{self.port}/v1"

    async def start(self) -> None:
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/{path:.*}", self._answer)
        app.router.add_get("/{path:.*}", self._file)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        if self.machine:
            await web.SockSite(self._runner, self.machine.bound(self.port)).start()
        else:
            await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        await self._runner.cleanup()

    # -- scripts

    def then(self, *reactions) -> None:
        """The next requests get these, in order."""
        self._queue += reactions

    def on(self, text: str, *reactions) -> None:
        """The next requests whose last user text holds `text` get these, in order."""
        self._rules += [(text, reaction) for reaction in reactions]

    async def request(self, number: int, seconds: float = PATIENCE) -> Asked:
        """Waits for the request with this number, from 1."""
        try:
            async with asyncio.timeout(seconds):
                while len(self.asked) < number:
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{len(self.asked)} of {number} requests reached the model") from None
        return self.asked[number - 1]

    def about(self, text: str) -> list[Asked]:
        """The requests whose last user text holds `text`."""
        return [asked for asked in self.asked if text in asked.last]

    def _choose(self, asked: Asked):
        for index, (text, reaction) in enumerate(self._rules):
            if text in asked.last:
                del self._rules[index]
                return reaction
        if self._queue:
            return self._queue.pop(0)
        return Answer(f"Answer number {next(self._numbers)}.")

    # -- HTTP

    async def _models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [
            {"id": name, "object": "model"} for name in ("model-1", "model-2", "other-3")]})

    async def _file(self, request: web.Request) -> web.Response:
        self.fetched.append(request.path)
        return web.Response(text="a secret of the internal network")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.path, await request.json(), dict(request.headers))
        self.asked.append(asked)
        news, self._news = self._news, asyncio.Event()
        news.set()
        reaction = self._choose(asked)
        try:
            if isinstance(reaction, Refusal):
                return refuse(asked, reaction)
            response = await self._stream(request, asked, reaction)
            asked.completed.set()
            return response
        except (asyncio.CancelledError, ConnectionResetError):
            asked.closed.set()
            raise

    async def _stream(self, request: web.Request, asked: Asked, answer: Answer) -> web.StreamResponse:
        form = anthropic_events if asked.anthropic else openai_events
        if not asked.body.get("stream"):
            whole = "".join(part for part in answer.parts if isinstance(part, str))
            return web.json_response(openai_whole(asked.model, answer, whole) if not asked.anthropic
                                     else anthropic_whole(asked.model, answer, whole))
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in form(asked.model, answer):
            if isinstance(event, Hold):
                await event.wait()
            elif isinstance(event, Pause):
                await asyncio.sleep(event.seconds)
            elif isinstance(event, Cut):
                request.transport.abort()
                return response
            else:
                data = event.encode()
                size = answer.chop or len(data)
                for at in range(0, len(data), size):
                    await response.write(data[at:at + size])
                    await asyncio.sleep(0)
        await response.write_eof()
        return response


def refuse(asked: Asked, refusal: Refusal) -> web.Response:
    headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
    if refusal.body is not None:
        return web.Response(status=refusal.status, headers=headers, text=refusal.body)
    names = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error", 529: "overloaded_error"}
    kind = names.get(refusal.status, "api_error")
    if asked.anthropic:
        error = {"type": "error", "error": {"type": kind, "message": refusal.message}}
    else:
        error = {"error": {"message": refusal.message, "type": kind, "param": None, "code": refusal.code}}
    return web.json_response(error, status=refusal.status, headers=headers)
