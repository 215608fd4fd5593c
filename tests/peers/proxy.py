"""A TCP proxy between the bot and its server, which cuts, freezes and tampers."""

import asyncio
from collections.abc import Callable

from servers import free_port


class Proxy:
    def __init__(self, upstream_port: int):
        self.port, self.upstream_port = free_port(), upstream_port
        self.accepted = 0
        self.closed = 0  # connections that the client closed
        # Sees and may change what the server sends; for the time before TLS.
        self.tamper: Callable[[bytes], bytes] = lambda data: data
        self.sent = bytearray()  # what the client sent, whole
        self._writers: list[asyncio.StreamWriter] = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> "Proxy":
        self._server = await asyncio.start_server(self._connection, "127.0.0.1", self.port)
        return self

    async def stop(self) -> None:
        self.refuse()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def refuse(self) -> None:
        """Ends all connections and takes no new ones."""
        if self._server is not None:
            self._server.close()
            self._server = None
        self.cut()

    def cut(self) -> None:
        """Breaks every connection, both sides, without a word."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def blackhole(self) -> None:
        """The connections there are pass nothing any more; new ones do."""
        self._writers.clear()
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def freeze(self) -> None:
        """Nothing passes, and nobody is told."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        flowing = self._flowing  # that of this connection: `blackhole` gives new ones another
        task = asyncio.current_task()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.append(writer)
        try:
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        except OSError:
            writer.transport.abort()
            return
        self._writers.append(server_writer)
        await asyncio.gather(self._pump(reader, server_writer, flowing, self._record),
                             self._pump(server_reader, writer, flowing, lambda data: self.tamper(data)),
                             return_exceptions=True)

    def _record(self, data: bytes) -> bytes:
        self.sent += data
        return data

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event,
                    change: Callable[[bytes], bytes]) -> None:
        try:
            while data := await reader.read(65536):
                await flowing.wait()
                writer.write(change(data))
                await writer.drain()
        except OSError:
            pass
        self.closed += 1
        writer.close()
