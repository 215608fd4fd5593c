"""Dino on a desktop of its own: a person with a window, and what it shows and keeps."""

import asyncio
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from desktop import Desktop
from servers import PATIENCE, Server

PROGRAM = "dino-im"
APPLICATION = "im.dino.Dino"
INPUT = "GtkTextView"
CONVERSATION = "DinoUiConversationSummaryConversationView"


class Dino:
    def __init__(self, server: Server, directory: Path, jid: str, password: str):
        self.server, self.jid, self.password = server, jid, password
        self.directory = directory
        self.desktop = Desktop(directory)

    async def start(self) -> "Dino":
        await self.desktop.start()
        await self._set_up()
        self._launch(LD_PRELOAD=str(self._library()))
        await self.desktop.sees("You have no open chats")
        return self

    async def stop(self) -> None:
        await self.desktop.stop()

    def _launch(self, **environment: str) -> subprocess.Popen:
        return self.desktop.launch(PROGRAM, "--print-xmpp=all", PEER_PORT=str(self.server.c2s_port),
                                   PEER_ROOT=str(self.server.authority.root), **environment)

    def _library(self) -> Path:
        library = self.directory / "dino.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-Wall", "-Werror", "-o", library, Path(__file__).with_name("dino.c")],
                       check=True)
        return library

    async def _set_up(self) -> None:
        """The account, as the dialog for a new one would leave it. The tables are made by Dino when it starts."""
        first = self._launch()
        await self.desktop.sees("Welcome to Dino!")
        await self.desktop.quit(APPLICATION)
        await asyncio.wait_for(asyncio.to_thread(first.wait), PATIENCE)
        with closing(sqlite3.connect(self._database)) as database, database:
            database.execute("INSERT INTO account (bare_jid, resourcepart, password, alias, enabled) VALUES (?, ?, ?, '', 1)",
                             (self.jid, "dino", self.password))

    @property
    def _database(self) -> Path:
        return self.directory / "home" / "data" / "dino" / "dino.db"

    # -- what the person does

    async def join(self, room: str) -> None:
        """By a link, as on a web page. The nick is the name of the account."""
        await self.desktop.open(APPLICATION, f"xmpp:{room}?join")
        await self.desktop.sees(room, within="Join Channel")
        await self.desktop.press("Join", within="Join Channel")
        await self.desktop.is_gone("Join Channel")
        await self.desktop.sees(room)

    async def say(self, text: str) -> None:
        await self._write(text)
        await self.desktop.key("Return")
        await self.sees(text)

    async def _write(self, text: str) -> None:
        """Puts this into the field for messages. Keys go where the focus is, and that may just be on its way there."""
        async with asyncio.timeout(PATIENCE):
            while await self._field() != text:
                await self._focus()
                await self.desktop.key("ctrl+a", "BackSpace")
                await self.desktop.type(text)

    async def _field(self) -> str:
        """What stands there once no more keys arrive."""
        text, before = await self.desktop.text(INPUT), None
        while text != before:
            await asyncio.sleep(0.2)
            before, text = text, await self.desktop.text(INPUT)
        return text

    async def _focus(self) -> None:
        # There is no window manager to do it.
        window = await self.desktop.x("xdotool", "search", "--onlyvisible", "--name", "Dino")
        await self.desktop.x("xdotool", "windowfocus", "--sync", window.split()[0])

    async def send_picture(self, picture: Path) -> None:
        """One that is on the clipboard."""
        self.desktop.launch("xclip", "-selection", "clipboard", "-t", "image/png", "-quiet", "-i", str(picture))
        async with asyncio.timeout(PATIENCE):
            while not await self.desktop.appears("Send a file", seconds=3):
                await self._focus()
                await self.desktop.key("ctrl+v")
        await self.desktop.press("Send")
        await self.desktop.is_gone("Send a file")
        # xclip gives a picture to whoever asks for text, too.
        await self._write("")

    # -- what is there

    async def sees(self, text: str) -> None:
        """In the conversation that is open."""
        await self.desktop.sees(text, role="label", within=CONVERSATION)

    def shown(self, counterpart: str) -> list[tuple[str, str]]:
        """(nick, text) of each thing that a conversation shows, in order; of what was sent from here without a nick, and of
        a file that is complete with its media type."""
        query = """
            SELECT COALESCE(message.counterpart_resource, file.counterpart_resource, ''),
                   COALESCE(message.body, file.mime_type)
            FROM content_item AS item
            JOIN conversation ON conversation.id = item.conversation_id
            JOIN jid ON jid.id = conversation.jid_id
            LEFT JOIN message ON item.content_type = 1 AND message.id = item.foreign_id
            LEFT JOIN file_transfer AS file ON item.content_type = 2 AND file.id = item.foreign_id AND file.state = 0
            WHERE jid.bare_jid = ? AND NOT item.hide ORDER BY item.time, item.id"""
        with closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True)) as database:
            return database.execute(query, (counterpart,)).fetchall()
