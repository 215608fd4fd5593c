"""Chromium without a window, driven through its DevTools protocol."""

import asyncio
import base64
import itertools
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import aiohttp

from bot import REPOSITORY
from servers import PATIENCE

PROGRAM = "chromium"
# Where to keep pictures: docs, when they are to be renewed.
SCREENSHOTS = os.environ.get("WEB_CHAT_SCREENSHOTS")


class Browser:
    """One browser with a profile of its own, and one page."""

    def __init__(self, directory: Path, width: int = 1280, height: int = 800):
        self.directory, self.size = directory, (width, height)
        self.requests: list[str] = []  # every address asked for, data: and blob: left out
        self.complaints: list[str] = []  # errors of scripts, of the network, of the content security policy
        self.sent: list[str] = []  # messages of WebSockets
        self.received: list[str] = []
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future] = {}
        self._loaded = asyncio.Event()

    @staticmethod
    def version() -> str:
        return subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.strip()

    async def start(self) -> "Browser":
        if shutil.which(PROGRAM) is None:
            raise RuntimeError(f"{PROGRAM} is not installed: tests/peers/run installs it")
        self.directory.mkdir(parents=True, exist_ok=True)
        width, height = self.size
        with (self.directory / "chromium.log").open("ab") as output:
            self.process = subprocess.Popen(
                [PROGRAM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
                 "--lang=en-US", "--force-color-profile=srgb", f"--window-size={width},{height}",
                 "--remote-debugging-port=0", f"--user-data-dir={self.directory / 'profile'}", "about:blank"],
                env={**os.environ, "LANGUAGE": "en"}, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output,
                stderr=output, start_new_session=True)
        port = await self._port()
        self._session = aiohttp.ClientSession()
        async with self._session.get(f"http://127.0.0.1:{port}/json/list") as response:
            page = next(target for target in await response.json() if target["type"] == "page")
        self._socket = await self._session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        self._reader = asyncio.create_task(self._read())
        for domain in ("Page", "Runtime", "Network", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                        mobile=False)
        return self

    async def _port(self) -> int:
        """The browser writes it when it listens."""
        file = self.directory / "profile" / "DevToolsActivePort"
        async with asyncio.timeout(30):
            while not (file.exists() and file.read_text().count("\n")):
                if self.process.poll() is not None:
                    raise RuntimeError(f"{PROGRAM} ended with {self.process.returncode}; see {self.directory}")
                await asyncio.sleep(0.05)
        return int(file.read_text().split()[0])

    async def stop(self) -> None:
        process = getattr(self, "process", None)
        if process is None:
            return
        if hasattr(self, "_reader"):
            self._reader.cancel()
            await self._session.close()
        # Its helpers are in its group.
        os.killpg(process.pid, signal.SIGKILL)
        await asyncio.to_thread(process.wait)

    # -- the protocol

    async def call(self, method: str, **parameters) -> dict:
        number = next(self._numbers)
        future = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        answer = await asyncio.wait_for(future, 30)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    async def _read(self) -> None:
        async for message in self._socket:
            document = message.json()
            if "id" in document:
                future = self._answers.pop(document["id"])
                if not future.done():
                    future.set_result(document)
            else:
                self._heed(document["method"], document.get("params", {}))

    def _heed(self, event: str, parameters: dict) -> None:
        match event:
            case "Page.loadEventFired":
                self._loaded.set()
            case "Network.requestWillBeSent":
                self._asked(parameters["request"]["url"])
            case "Network.webSocketCreated":
                self._asked(parameters["url"])
            case "Network.webSocketFrameSent":
                self.sent.append(parameters["response"]["payloadData"])
            case "Network.webSocketFrameReceived":
                self.received.append(parameters["response"]["payloadData"])
            case "Log.entryAdded" if parameters["entry"]["level"] == "error":
                entry = parameters["entry"]
                self.complaints.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
            case "Runtime.exceptionThrown":
                details = parameters["exceptionDetails"]
                self.complaints.append(details.get("exception", {}).get("description") or details["text"])

    def _asked(self, address: str) -> None:
        if not address.startswith(("data:", "blob:")):
            self.requests.append(address)

    # -- what a person does

    async def open(self, address: str) -> None:
        self._loaded.clear()
        await self.call("Page.navigate", url=address)
        await asyncio.wait_for(self._loaded.wait(), 30)

    async def reload(self) -> None:
        self._loaded.clear()
        await self.call("Page.reload")
        await asyncio.wait_for(self._loaded.wait(), 30)

    async def evaluate(self, expression: str):
        """The value of a JavaScript expression; a promise is awaited."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            details = result["exceptionDetails"]
            raise RuntimeError(details.get("exception", {}).get("description") or details["text"])
        return result["result"].get("value")

    async def until(self, expression: str, what: str, seconds: float = PATIENCE):
        """Waits until the expression is true, and returns its value."""
        try:
            async with asyncio.timeout(seconds):
                while not (value := await self.evaluate(expression)):
                    await asyncio.sleep(0.05)
                return value
        except TimeoutError:
            raise AssertionError(f"not seen: {what}\n{await self.text()}\n{self.complaints}") from None

    async def text(self) -> str:
        """What can be read on the page."""
        return await self.evaluate("document.body?.innerText ?? ''")

    async def sees(self, text: str, seconds: float = PATIENCE) -> None:
        await self.until(f"(document.body?.innerText ?? '').includes({text!r})", repr(text), seconds)

    async def has_answer(self, to: str) -> None:
        """Waits until a request of the page that holds `to` is answered by the server."""
        async with asyncio.timeout(PATIENCE):
            while True:
                asked = [re.search(r'id="([^"]+)"', text)[1] for text in self.sent if text.startswith("<iq") and to in text]
                if any(id in text for id in asked for text in self.received):
                    return
                await asyncio.sleep(0.05)

    async def type(self, selector: str, text: str) -> None:
        await self.until(f"!!document.querySelector({selector!r})", selector)
        await self.evaluate(f"document.querySelector({selector!r}).focus()")
        await self.call("Input.insertText", text=text)

    async def click(self, selector: str) -> None:
        await self.until(f"!!document.querySelector({selector!r})", selector)
        await self.evaluate(f"document.querySelector({selector!r}).click()")

    async def choose_file(self, selector: str, path: Path) -> None:
        """As in the dialog that a click on a field for files opens."""
        await self.until(f"!!document.querySelector({selector!r})", selector)
        found = await self.call("Runtime.evaluate", expression=f"document.querySelector({selector!r})")
        await self.call("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    async def press_enter(self) -> None:
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
                            windowsVirtualKeyCode=13)

    async def picture(self, name: str) -> None:
        """Keeps what is to be seen, where that is asked for."""
        if SCREENSHOTS:
            await asyncio.sleep(1)  # Avatars and shades move for a moment.
            await self.screenshot(REPOSITORY / SCREENSHOTS / name)

    async def screenshot(self, path: Path) -> None:
        result = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(result["data"]))
