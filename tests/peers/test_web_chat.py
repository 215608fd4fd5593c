"""The web chat of the demo in Chromium: what a person sees who has just started it."""

import asyncio

import aiohttp
import pytest
from aiohttp import web

from browser import Browser
from demo import PERSON, Demo
from servers import free_port
from wire import Answer, Hold

TEXTAREA = ".chat-textarea"
# Texts of messages as they stand there; a correction replaces the text of its message.
MESSAGES = "JSON.stringify([...document.querySelectorAll('.chat-msg__text')].map(m => m.innerText.trim()))"


async def say(browser: Browser, text: str) -> None:
    await browser.type(TEXTAREA, text)
    await browser.press_enter()
    await browser.sees(text)


async def messages_with(browser: Browser, text: str) -> int:
    return (await browser.evaluate(MESSAGES)).count(text)


async def test_a_person_is_signed_in_chats_and_finds_the_history_again(demo, browsers):
    typing, writing = Hold(), Hold()
    demo.model.then(Answer(
        typing, "XMPP is an open standard for messaging, as e-mail is for letters. Three things make it last:\n\n",
        writing, "1. **Federation**: anyone can run a server, and all of them talk to each other.\n"
        "2. **Extensions**: a new feature is a document, not a new network.\n"
        "3. **Choice**: many clients, many servers, one address.\n\n"
        "This server is your own, and I live in it.\n"))
    browser = await browsers()
    await browser.open(demo.url)
    await say(browser, "Why would I use XMPP? Three points, please.")
    await asyncio.wait_for(typing.reached.wait(), 15)
    await browser.sees("is typing")
    typing.release()
    await browser.sees("Three things make it last")
    await browser.picture("web-chat-typing.png")
    writing.release()
    await browser.sees("I live in it")
    assert await messages_with(browser, "an open standard") == 1, "the answer was corrected in place"
    demo.model.then(Answer("`/help` lists my commands. In a room, mention my name and I answer there.\n"))
    await say(browser, "What else can you do?")
    await browser.sees("mention my name")
    await browser.picture("web-chat.png")

    await browser.reload()
    await browser.sees("I live in it")
    # A browser that has never been here has nothing but the archive.
    other = await browsers()
    await other.open(demo.url)
    await other.sees("I live in it")
    await other.sees("mention my name")
    assert await messages_with(other, "an open standard") == 1

    for seen in (browser, other):
        assert seen.complaints == []
        elsewhere = [address for address in seen.requests if demo.url.removeprefix("http") not in address]
        assert elsewhere == [], "a request has left the origin"


async def test_two_windows_see_the_same_chat(demo, browsers):
    first, second = await browsers(), await browsers()
    await asyncio.gather(first.open(demo.url), second.open(demo.url))
    # Converse.js shows the chat before it has asked for copies (XEP-0280): what is said in between is for the archive.
    await asyncio.gather(*(window.has_answer("urn:xmpp:carbons:2") for window in (first, second)))
    demo.model.then(Answer("Hello in both windows."))
    await say(first, "Is anybody there?")
    await asyncio.gather(*(window.sees("Hello in both windows.") for window in (first, second)))
    await second.sees("Is anybody there?")


async def open_as_a_stranger(browser: Browser, demo: Demo) -> None:
    """As through a proxy: it is not this machine that asks for the page. The connection then is not in question."""
    await browser.call("Network.setExtraHTTPHeaders", headers={"x-forwarded-host": "localhost"})
    await browser.open(demo.url)
    await browser.until("!!document.querySelector('input[name=jid]')", "the form")
    await browser.call("Network.setExtraHTTPHeaders", headers={})


async def log_in(browser: Browser, password: str) -> None:
    await browser.type("input[name=jid]", PERSON.split("@")[0])
    await browser.type("input[name=password]", password)
    await browser.press_enter()


async def test_who_is_not_at_this_machine_logs_in(demo, browsers):
    browser = await browsers()
    await open_as_a_stranger(browser, demo)
    await browser.picture("web-chat-login.png")
    assert not any("sign-in" in address for address in browser.requests)
    await log_in(browser, demo.password)
    demo.model.then(Answer("Welcome."))
    await say(browser, "I have logged in.")
    await browser.sees("Welcome.")
    assert browser.complaints == []


async def test_a_wrong_password_is_said_to_be_wrong(demo, browsers):
    browser = await browsers()
    await open_as_a_stranger(browser, demo)
    await log_in(browser, "something else")
    await browser.sees("address and/or password is incorrect")


async def test_nobody_logs_in_over_a_network_without_tls(demo, browsers):
    """Through a proxy that nobody has told us to trust: whether there is TLS in front is not known."""
    browser = await browsers()
    await browser.call("Network.setExtraHTTPHeaders", headers={"x-forwarded-proto": "https"})
    await browser.open(demo.url)
    await log_in(browser, demo.password)
    await browser.sees("no-auth-mech")


async def test_a_page_elsewhere_gets_neither_the_password_nor_a_connection(demo, browsers):
    """Another port of the same machine: the same site to a browser, and another origin."""
    async def page(_):
        return web.Response(text="<!doctype html><title>elsewhere</title>", content_type="text/html")
    app = web.Application()
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        browser = await browsers()
        await browser.open(f"http://localhost:{port}/")
        for mode in ("cors", "no-cors"):
            told = await browser.evaluate(
                f"fetch('{demo.url}/demo/sign-in', {{mode: '{mode}'}}).then(r => r.text()).catch(() => '')")
            assert told == "", mode
        opened = await browser.evaluate(f"""new Promise(done => {{
            const socket = new WebSocket('{demo.url.replace('http', 'ws')}/xmpp-websocket', 'xmpp');
            socket.onopen = () => done('open');
            socket.onerror = () => done('refused');
        }})""")
        assert opened == "refused"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("headers", [
    {}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-origin", "host": "evil.example"},
    {"sec-fetch-site": "same-origin", "x-forwarded-for": "192.0.2.1"}])
async def test_the_password_is_not_told_to(demo, headers):
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{demo.url}/demo/sign-in", headers=headers) as answer:
            assert answer.status == 403
            assert demo.password not in await answer.text()


async def test_host_meta_names_the_websocket_to_anyone(demo):
    address = demo.url.replace("http", "ws") + "/xmpp-websocket"
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{demo.url}/.well-known/host-meta.json") as answer:
            assert answer.headers["access-control-allow-origin"] == "*"
            links = (await answer.json())["links"]
        assert {"rel": "urn:xmpp:alt-connections:websocket", "href": address} in links
        async with session.get(f"{demo.url}/.well-known/host-meta") as answer:
            assert answer.content_type == "application/xrd+xml"
            assert address in await answer.text()
