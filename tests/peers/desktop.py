"""A desktop without a screen: an X server, a session bus, and what assistive technology sees of the windows there.

Programs are driven as a screen reader would do it (AT-SPI, over D-Bus): by the names of their buttons, never by places
on the screen. Only keys go through the X server.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from dbus_fast import Message, MessageType
from dbus_fast.aio import MessageBus

from servers import PATIENCE

ATSPI = "org.a11y.atspi"
ROOT = "/org/a11y/atspi/accessible/root"


@dataclass
class Widget:
    """One object of the accessibility tree, as it was when it was looked at."""

    owner: str
    path: str
    role: str
    name: str
    # The names of what it is in, the window first.
    within: tuple[str, ...]


class Desktop:
    def __init__(self, directory: Path, width: int = 1200, height: int = 700):
        self.directory, self.size = directory, (width, height)
        self.environment: dict[str, str] = {}
        self._processes: list[subprocess.Popen] = []
        self._buses: list[MessageBus] = []

    async def start(self) -> "Desktop":
        home, run = self.directory / "home", self.directory / "run"
        home.mkdir(parents=True)
        run.mkdir(mode=0o700)
        self.environment = {
            "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config"), "XDG_DATA_HOME": str(home / "data"),
            "XDG_CACHE_HOME": str(home / "cache"), "XDG_RUNTIME_DIR": str(run), "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8",
            "GDK_BACKEND": "x11", "GSK_RENDERER": "cairo", "GTK_A11Y": "atspi"}
        width, height = self.size
        # Without -noreset it begins anew when its first client leaves, and the next finds nobody.
        display = await self._announced("Xvfb", "-displayfd", "{}", "-screen", "0", f"{width}x{height}x24", "-noreset",
                                        "-nolisten", "tcp")
        self.environment["DISPLAY"] = f":{display}"
        # Out of the way: what is under the pointer looks different.
        await self.x("xdotool", "mousemove", str(width // 2), "0")
        address = await self._announced("dbus-daemon", "--session", "--nofork", "--print-address={}")
        self.environment["DBUS_SESSION_BUS_ADDRESS"] = address
        self._session = await self._connect(address)
        (accessibility,) = await self.call(self._session, "org.a11y.Bus", "/org/a11y/bus", "org.a11y.Bus", "GetAddress")
        self._accessibility = await self._connect(accessibility)
        return self

    async def stop(self) -> None:
        for bus in self._buses:
            bus.disconnect()
        # The last that was started goes first. Each has a session of its own: what it has started goes with it.
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
                try:
                    await asyncio.to_thread(process.wait, 10)
                except subprocess.TimeoutExpired:
                    pass
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            await asyncio.to_thread(process.wait)

    def launch(self, *command: str, files: tuple[int, ...] = (), **environment: str) -> subprocess.Popen:
        """Starts a program of this desktop; its output is in a file of its name."""
        own = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
        with (self.directory / f"{command[0]}.log").open("ab") as output:
            process = subprocess.Popen(
                command, env={**own, **self.environment, **environment}, cwd=self.directory, stdin=subprocess.DEVNULL,
                stdout=output, stderr=output, pass_fds=files, start_new_session=True)
        self._processes.append(process)
        return process

    async def _announced(self, *command: str) -> str:
        """Starts a server, and returns the line that it writes to the descriptor `{}` when it is ready."""
        reader, writer = os.pipe()
        try:
            self.launch(*(part.format(writer) for part in command), files=(writer,))
        finally:
            os.close(writer)
        with os.fdopen(reader) as pipe:
            line = (await asyncio.wait_for(asyncio.to_thread(pipe.readline), PATIENCE)).strip()
        if not line:
            raise RuntimeError(f"{command[0]} did not start: {self.log(command[0])}")
        return line

    def log(self, program: str) -> str:
        return (self.directory / f"{program}.log").read_text(errors="replace")

    # -- D-Bus

    async def _connect(self, address: str) -> MessageBus:
        bus = await MessageBus(bus_address=address).connect()
        self._buses.append(bus)
        return bus

    async def call(self, bus: MessageBus, owner: str, path: str, interface: str, member: str, signature: str = "",
                   *body) -> list:
        message = Message(destination=owner, path=path, interface=interface, member=member, signature=signature,
                          body=list(body))
        # Not wait_for: in CPython 3.11 it may lose a cancellation (gh-86296), and with it the time limit of who calls.
        async with asyncio.timeout(PATIENCE):
            answer = await bus.call(message)
        if answer.message_type is MessageType.ERROR:
            raise LookupError(f"{member} of {path}: {answer.error_name} {answer.body}")
        return answer.body

    async def open(self, application: str, address: str) -> None:
        """Has a program open an address, as a click on a link anywhere does."""
        await self._application(application, "Open", "asa{sv}", [address], {})

    async def quit(self, application: str) -> None:
        await self._application(application, "ActivateAction", "sava{sv}", "quit", [], {})

    async def _application(self, name: str, member: str, signature: str, *body) -> None:
        path = "/" + name.replace(".", "/")
        await self.call(self._session, name, path, "org.freedesktop.Application", member, signature, *body)

    # -- seeing

    async def widgets(self) -> list[Widget]:
        """Everything in all windows, in the order in which it is read."""
        found: list[Widget] = []
        for owner, path in await self._children("org.a11y.atspi.Registry", ROOT):
            for window_owner, window in await self._children(owner, path):
                await self._read(window_owner, window, (), found)
        return found

    async def _children(self, owner: str, path: str) -> list:
        """None of what has gone since its parent was read: of a program that is ending, too."""
        try:
            return (await self._ask(owner, path, "Accessible", "GetChildren"))[0]
        except LookupError:
            return []

    async def _ask(self, owner: str, path: str, interface: str, member: str, signature: str = "", *body) -> list:
        return await self.call(self._accessibility, owner, path, f"{ATSPI}.{interface}", member, signature, *body)

    async def _read(self, owner: str, path: str, within: tuple[str, ...], found: list[Widget]) -> None:
        try:
            (name,) = await self.call(self._accessibility, owner, path, "org.freedesktop.DBus.Properties", "Get", "ss",
                                      f"{ATSPI}.Accessible", "Name")
            (role,) = await self._ask(owner, path, "Accessible", "GetRoleName")
        except LookupError:
            return
        found.append(Widget(owner, path, role, name.value, within))
        for child_owner, child in await self._children(owner, path):
            await self._read(child_owner, child, (*within, name.value), found)

    async def sees(self, text: str, *, role: str = "", within: str = "", seconds: float = PATIENCE) -> Widget:
        """Waits until something, in what has the name `within`, has `text` in its name: a label has all it says there."""
        return await self._until(lambda: self._find(text, role, within), f"not on the screen: {text!r}", seconds)

    async def appears(self, text: str, seconds: float) -> bool:
        """Whether it does within this time: where one tries again what the focus was not ready for."""
        end = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < end:
            if await self._find(text):
                return True
            await asyncio.sleep(0.2)
        return False

    async def is_gone(self, text: str) -> None:
        async def gone() -> bool:
            return await self._find(text) is None
        await self._until(gone, f"still on the screen: {text!r}", PATIENCE)

    async def text(self, field: str) -> str:
        """What stands in a field."""
        widget = await self.sees(field, role="text")
        return (await self._ask(widget.owner, widget.path, "Text", "GetText", "ii", 0, -1))[0]

    async def _until(self, ready: Callable[[], Awaitable], fault: str, seconds: float):
        """Waits until `ready` returns something true, and returns that."""
        try:
            async with asyncio.timeout(seconds):
                while not (found := await ready()):
                    await asyncio.sleep(0.2)
                return found
        except TimeoutError:
            raise AssertionError(f"{fault}\n{await self.description()}") from None

    async def _find(self, text: str, role: str = "", within: str = "") -> Widget | None:
        for widget in await self.widgets():
            if (text in widget.name and role in widget.role and (not within or within in widget.within)
                    and await self._has_a_place(widget)):
                return widget
        return None

    async def description(self) -> str:
        """What can be read, for who looks at a failure; `screen.png` is what could be seen."""
        await self.screenshot(self.directory / "screen.png")
        return "\n".join([f"{widget.role}: {widget.name}" for widget in await self.widgets()
                          if widget.role in ("label", "button", "window", "dialog") and await self._has_a_place(widget)])

    async def _has_a_place(self, widget: Widget) -> bool:
        """Not so what is on a page that does not show."""
        try:
            ((_, _, width, height),) = await self._ask(widget.owner, widget.path, "Component", "GetExtents", "u", 1)
        except LookupError:
            return False
        return width > 0 and height > 0

    async def screenshot(self, path: Path) -> None:
        await self.x("import", "-silent", "-window", "root", str(path))

    # -- doing

    async def press(self, name: str, *, within: str = "") -> None:
        """Presses the button with this name."""
        button = await self.sees(name, role="button", within=within)
        await self._ask(button.owner, button.path, "Action", "DoAction", "i", 0)

    async def x(self, *command: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **self.environment}, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        try:
            async with asyncio.timeout(PATIENCE):
                output = (await process.communicate())[0].decode()
        finally:
            if process.returncode is None:
                process.kill()
        if process.returncode != 0:
            raise RuntimeError(f"{' '.join(command)}: {output}")
        return output.strip()

    async def key(self, *keys: str) -> None:
        await self.x("xdotool", "key", *keys)

    async def type(self, text: str) -> None:
        await self.x("xdotool", "type", "--delay", "5", text)
