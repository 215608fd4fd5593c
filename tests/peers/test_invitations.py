"""Invitations, the first account, what a new one finds, and administration: the embedded server as people meet it."""

import asyncio
import json
import os
import re
import uuid
from pathlib import Path
from xml.etree import ElementTree as ET

import aiohttp
import pytest
import pytest_asyncio
import slixmpp

from bot import Bot
from browser import Browser
from models import Model
from moltis import Moltis
from person import Person
from servers import DOMAIN, PATIENCE, ROOMS
from stanza import CLIENT, escape
from stream import Ended, Stream
from world import PASSWORD

PREAUTH = "urn:xmpp:pars:0"
REGISTER = "jabber:iq:register"
COMMANDS = "http://jabber.org/protocol/commands"
ADMIN = "http://jabber.org/protocol/admin#"
FORMS = "jabber:x:data"
ROSTER = "jabber:iq:roster"
# Where to keep the picture: docs, when it is to be renewed.
SCREENSHOTS = os.environ.get("INVITATION_SCREENSHOTS")
WELCOME = "Welcome to our server!"


class House:
    """A server by invitation, with a bot that welcomes who is new, and an admin."""

    def __init__(self, directory: Path, authority):
        self.directory, self.authority = directory, authority
        self.model = Model()
        self.bot = f"helper@{DOMAIN}"
        self.people: list[Person] = []
        self.others: list[Bot] = []

    async def start(self) -> "House":
        await self.model.start()
        self.server = Moltis(self.directory / "server", self.authority, {
            "chat": {"model": "test/model-1"},
            "providers": {"test": {"kind": "openai", "base_url": self.model.base_url, "api_key": "key-of-test"}},
            "xmpp_server": {
                "limits": {"registrations_per_ip_per_hour": 1_000},
                "welcome": {"bot": "helper", "room": "lobby", "message": WELCOME},
                "bots": {"helper": {"allowlist": [f"*@{DOMAIN}"], "nick": "helper"}}}}).with_certificate()
        await self.server.start()
        return self

    async def stop(self) -> None:
        for bot in self.others:
            await asyncio.to_thread(bot.end)
        await asyncio.gather(*(person.logout() for person in self.people))
        await self.server.stop()
        await self.model.stop()

    @property
    def page(self) -> str:
        return f"http://localhost:{self.server.http_port}"

    async def person(self, name: str, **options) -> Person:
        user = self.server.unique(name)
        await self.server.add_user(user, PASSWORD)
        return await self.again(user, **options)

    async def admin(self) -> Person:
        if "admin" not in (await self.server.run("users")):
            await self.server.add_user("admin", PASSWORD)
        return await self.again("admin")

    async def again(self, user: str, **options) -> Person:
        person = Person(self.server, user, PASSWORD, resource=uuid.uuid4().hex, **options)
        self.people.append(person)
        return await person.login()

    async def invite(self, *arguments: str) -> dict:
        return json.loads(await self.server.run("invite", "--json", *arguments))


@pytest_asyncio.fixture
async def house(tmp_path, authority):
    house = House(tmp_path, authority)
    try:
        yield await house.start()
    finally:
        await house.stop()


def fields(command: ET.Element) -> dict[str, list[str]]:
    found = command.iter(f"{{{FORMS}}}field")
    return {field.get("var"): [value.text or "" for value in field.findall(f"{{{FORMS}}}value")] for field in found}


async def command(person: Person, node: str, **values: str | list[str]) -> ET.Element:
    """Runs one to its end, filling in its form; the <command/>, or the error as an assertion."""
    first = await person.iq("set", DOMAIN, f"<command xmlns='{COMMANDS}' node='{node}' action='execute'/>")
    assert first.type == "result", first
    found = first.payload(COMMANDS)
    if found.get("status") == "completed":
        return found
    assert values.keys() <= fields(found).keys(), fields(found)
    lists = {name: value if isinstance(value, list) else [value] for name, value in values.items()}
    filled = "".join(f"<field var='{name}'>{''.join(f'<value>{escape(value)}</value>' for value in all)}</field>"
                     for name, all in lists.items())
    second = await person.iq("set", DOMAIN, f"<command xmlns='{COMMANDS}' node='{node}' sessionid='{found.get('sessionid')}'>"
                             f"<x xmlns='{FORMS}' type='submit'>{filled}</x></command>")
    assert second.type == "result", second
    return second.payload(COMMANDS)


async def register(server: Moltis, user: str, token: str | None) -> str:
    """XEP-0445, step by step; `result`, or the condition of the error."""
    stream = await Stream(server).open()
    assert stream.features.find("{urn:xmpp:ibr-token:0}register") is not None
    steps = [] if token is None else [f"<preauth xmlns='{PREAUTH}' token='{token}'/>"]
    steps.append(f"<query xmlns='{REGISTER}'><username>{user}</username><password>{PASSWORD}</password></query>")
    outcome = ""
    for number, payload in enumerate(steps):
        stream.write(f"<iq type='set' id='{number}' to='{DOMAIN}'>{payload}</iq>")
        answer = await stream.next()
        error = answer.find(f"{{{CLIENT}}}error")
        outcome = answer.get("type") if error is None else next(iter(error)).tag.split("}")[1]
        if error is not None:
            break
    stream.cut()
    return outcome


# -- the first account


async def test_the_first_invitation_makes_the_admin_and_operator(house):
    """What `moltis` prints at its first start."""
    async with asyncio.timeout(PATIENCE):
        while not (printed := re.findall(r"/invite/([A-Za-z0-9]{24})", house.server.log())):
            await asyncio.sleep(0.05)
    assert await register(house.server, "owner", None) == "not-allowed"
    assert await register(house.server, "owner", printed[-1]) == "result"
    assert await register(house.server, "second", printed[-1]) != "result", "it is for one"
    owner = await house.again("owner")
    added = await command(owner, f"{ADMIN}add-user", accountjid=f"bob@{DOMAIN}", password=PASSWORD,
                          **{"password-verify": PASSWORD})
    assert added.get("status") == "completed"
    await owner.flush()
    owner.say(house.bot, "/whoami")
    await owner.sees(house.bot, "operator")
    assert "admin" in next(line for line in (await house.server.run("users")).splitlines() if line.startswith("owner@"))
    # Nobody who comes later is one.
    invited = await house.invite()
    assert not invited["operator"]
    assert await register(house.server, "third", invited["token"]) == "result"
    third = await house.again("third")
    refused = await third.iq("set", DOMAIN, f"<command xmlns='{COMMANDS}' node='{ADMIN}add-user'/>")
    assert refused.type == "error"
    await house.server.restart()
    owner = await house.again("owner")
    assert (await command(owner, f"{ADMIN}get-registered-users-num")).get("status") == "completed"


# -- what a new account finds


async def test_who_is_invited_finds_the_bot_a_room_a_message_and_the_inviter(house):
    """Registered by slixmpp with a token (XEP-0445), as a client does it."""
    romeo = await house.person("romeo")
    made = fields(await command(romeo, "urn:xmpp:invite#invite"))
    uri = made["uri"][0]
    token = re.fullmatch(rf"xmpp:{romeo.user}@{DOMAIN}\?roster;preauth=(\w+);ibr=y", uri)[1]
    juliet = Person(house.server, house.server.unique("juliet"), PASSWORD, nick="juliet")
    client = juliet._new_client()
    client.register_plugin("xep_0077")
    registered = asyncio.get_running_loop().create_future()

    async def fill_in(_) -> None:
        try:
            # It keeps back before a login what is no registration.
            client.send_raw(f"<iq type='set' id='token' to='{DOMAIN}'><preauth xmlns='{PREAUTH}' token='{token}'/></iq>")
            assert (await juliet.iqs.first(lambda iq: iq.id == "token")).type == "result"
            account = client.make_iq_set(ito=DOMAIN)
            account["register"]["username"] = juliet.user
            account["register"]["password"] = PASSWORD
            await account.send()
            registered.set_result(None)
        except (AssertionError, slixmpp.exceptions.IqError) as error:
            registered.set_exception(AssertionError(str(error)))
    client.add_event_handler("register", fill_in)
    client.connect("127.0.0.1", house.server.c2s_port)
    await asyncio.wait_for(registered, PATIENCE)
    await client.disconnect(wait=1.0)

    house.people.append(await juliet.login())
    await juliet.sees(house.bot, WELCOME)
    roster = (await juliet.iq("get", "", f"<query xmlns='{ROSTER}'/>")).payload(ROSTER)
    contacts = {item.get("jid"): item.get("subscription") for item in roster}
    assert contacts == {house.bot: "both", romeo.jid: "both"}
    lobby = f"lobby@{ROOMS}"
    items = await juliet.iq("get", "", "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:bookmarks:1'/></pubsub>")
    (item,) = items.payload("http://jabber.org/protocol/pubsub").iter("{http://jabber.org/protocol/pubsub}item")
    conference = item.find("{urn:xmpp:bookmarks:1}conference")
    assert item.get("id") == lobby and conference.get("autojoin") in ("true", "1")
    old = await juliet.iq("get", "", "<query xmlns='jabber:iq:private'><storage xmlns='storage:bookmarks'/></query>")
    assert lobby in str(old)
    # The inviter was told at once, and the two see each other.
    await romeo.iqs.first(lambda iq: iq.type == "set" and juliet.jid in str(iq), "a push of the new contact")
    await romeo.sees_presence(lambda p: p.sender.startswith(juliet.jid) and p.type == "", "Juliet online")
    # The bot answers.
    juliet.say(house.bot, "Hello")
    await juliet.sees(house.bot, "Answer number 1.")


async def test_an_invitation_makes_contacts_of_people_who_have_accounts(house):
    """XEP-0379: the subscription is approved and returned."""
    romeo, juliet = await house.person("romeo"), await house.person("juliet")
    token = re.search(r"preauth=(\w+)", fields(await command(romeo, "urn:xmpp:invite#invite"))["uri"][0])[1]
    juliet.send(f"<presence to='{romeo.jid}' type='subscribed'/>")
    juliet.send(f"<presence to='{romeo.jid}' type='subscribe'><preauth xmlns='{PREAUTH}' token='{token}'/></presence>")
    await juliet.sees_presence(lambda p: p.sender == romeo.jid and p.type == "subscribed", "the approval")
    for one, other in ((romeo, juliet), (juliet, romeo)):
        await one.sees_presence(lambda p, other=other: p.sender.startswith(other.jid + "/") and p.type == "", "presence")
        roster = (await one.iq("get", "", f"<query xmlns='{ROSTER}'/>")).payload(ROSTER)
        assert {item.get("jid"): item.get("subscription") for item in roster}[other.jid] == "both"
    # It was for one.
    paris = await house.person("paris")
    paris.send(f"<presence to='{romeo.jid}' type='subscribe'><preauth xmlns='{PREAUTH}' token='{token}'/></presence>")
    await romeo.sees_presence(lambda p: p.sender == paris.jid and p.type == "subscribe", "a request like any other")


# -- registration


async def test_a_bot_elsewhere_registers_by_invitation(house):
    """Our own `registration_token` (XEP-0445 as a client) on our own server."""
    alice = await house.person("alice")
    invited = await house.invite("--name", "robin")
    assert invited["uri"] == f"xmpp:robin@{DOMAIN}?register;preauth={invited['token']}"
    account = {"jid": f"robin@{DOMAIN}", "server": f"127.0.0.1:{house.server.c2s_port}", "nick": "robin",
               "tls_ca_file": str(house.authority.root), "auto_register": True, "registration_token": invited["token"],
               "model_provider": "test", "model": "model-1", "allowlist": [alice.jid], "operators": [alice.jid]}
    bot = Bot(house.directory / "robin", {
        "server": {"port": 0}, "chat": {"model": "test/model-1"},
        "providers": {"test": {"kind": "openai", "base_url": house.model.base_url, "api_key": "key-of-test"}}}, account)
    house.others.append(bot)
    assert await register(house.server, "robin", None) == "not-allowed"
    bot.launch()
    async with asyncio.timeout(PATIENCE):
        while (await alice.iq("get", bot.full, "<ping xmlns='urn:xmpp:ping'/>")).type != "result":
            await asyncio.sleep(0.1)
    alice.say(bot.jid, "Hello")
    await alice.sees(bot.jid, "Answer number")
    # A bot that is a guest there does not administer the server of its own process: it has none.
    alice.say(bot.jid, "/invite")
    await alice.sees(bot.jid, "There is no embedded server")


async def test_tokens_are_for_what_they_say(house):
    await house.person("somebody")
    twice = await house.invite("--uses", "2")
    for user, expected in (("one", "result"), ("two", "result"), ("three", "item-not-found")):
        assert await register(house.server, house.server.unique(user), twice["token"]) == expected
    revoked = await house.invite()
    listed = await house.server.run("invite", "--list")
    assert revoked["id"] in listed and twice["id"] not in listed
    await house.server.run("invite", "--revoke", revoked["id"])
    assert await register(house.server, house.server.unique("four"), revoked["token"]) == "item-not-found"
    printed = await house.server.run("invite")
    assert "█" in printed and re.search(rf"xmpp:{DOMAIN}\?register;preauth=\w+", printed) and "/invite/" in printed


async def test_guessing_tokens_ends_the_stream(house):
    stream = await Stream(house.server).open()
    with pytest.raises(Ended):
        for number in range(20):
            stream.write(f"<iq type='set' id='{number}'><preauth xmlns='{PREAUTH}' token='x{number}'/></iq>")
            answer = await stream.next()
            assert answer.get("type") == "error" or "error" in answer.tag
    stream.cut()


# -- the page


async def test_the_page_makes_an_account_on_a_phone(house, tmp_path):
    await house.server.add_user("alice", PASSWORD)
    alice = await house.again("alice")
    invited = await house.invite("--contact", alice.jid)
    browser = await Browser(tmp_path / "browser", 390, 844).start()
    try:
        await browser.open(f"{house.page}/invite/{invited['token']}")
        await browser.sees(f"{alice.jid} invites you to chat")
        assert await browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "nothing is cut off"
        assert await browser.evaluate("document.querySelector('a.button').href") == invited["uri"]
        assert await browser.evaluate("!!document.querySelector('.qr svg')")
        assert not browser.complaints, browser.complaints
        assert all(address.startswith(house.page) for address in browser.requests), browser.requests
        if SCREENSHOTS:
            await browser.screenshot(Path(SCREENSHOTS) / "invitation.png")
        user = house.server.unique("juliet")
        await browser.type("#name", user)
        await browser.type("#password", PASSWORD)
        await browser.type("#again", "another")
        await browser.press_enter()
        await browser.sees("The passwords differ.")
        assert await browser.evaluate("document.querySelector('#name').value") == user, "it need not be written again"
        for field in ("#password", "#again"):
            await browser.type(field, PASSWORD)
        await browser.press_enter()
        await browser.sees(f"Your address is {user}@{DOMAIN}.")
        await browser.evaluate("document.querySelector('a.button').click()")
        await browser.until("location.pathname == '/'", "the web chat")
        await browser.open(f"{house.page}/invite/{invited['token']}")
        await browser.sees("This invitation is over")
    finally:
        await browser.stop()
    juliet = await house.again(user)
    roster = (await juliet.iq("get", "", f"<query xmlns='{ROSTER}'/>")).payload(ROSTER)
    assert {item.get("jid") for item in roster} == {house.bot, alice.jid}


async def test_the_page_is_not_for_forms_of_others(house):
    """CSRF, unknown tokens, and what the headers promise."""
    await house.person("somebody")
    invited = await house.invite()
    page = f"{house.page}/invite/{invited['token']}"
    form = {"name": "mallory", "password": "a", "again": "a"}
    async with aiohttp.ClientSession() as session:
        async with session.get(page) as response:
            assert response.status == 200
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "form-action 'self'" in policy and "unsafe" not in policy
            assert response.headers["Cache-Control"] == "no-store"
            assert response.headers["Referrer-Policy"] == "same-origin"
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert "<script" not in await response.text()
        for headers in ({}, {"Origin": "https://evil.example"}, {"Origin": "null"},
                        {"Sec-Fetch-Site": "cross-site", "Origin": house.page}):
            async with session.post(page, data=form, headers=headers) as response:
                assert response.status == 403, headers
        async with session.post(page, data={**form, "name": "x" * 10_000}, headers={"Origin": house.page}) as response:
            assert response.status == 413
        async with session.get(f"{house.page}/invite/{'x' * 24}") as response:
            assert response.status == 404 and "over" in await response.text()
        async with session.get(page, headers={"X-Forwarded-For": "192.0.2.1"}) as response:
            assert "not encrypted" in await response.text(), "through a proxy without TLS no password is asked for"
    assert "mallory" not in await house.server.run("users")


# -- administration


async def login(server: Moltis, user: str, mechanism: str, payload: str) -> str:
    """`success`, or the condition of the failure, of a login by SASL2."""
    stream = await Stream(server).open()
    stream.write(f"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='{mechanism}'>{payload}"
                 "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/></authenticate>")
    answer = await stream.next()
    stream.cut()
    return answer.tag.split("}")[1] if answer.tag.endswith("success") else next(iter(answer)).tag.split("}")[1]


async def test_a_disabled_account_is_shut_out_whatever_it_logs_in_with(house):
    import base64
    import hmac

    admin, user = await house.admin(), house.server.unique("romeo")
    await house.server.add_user(user, PASSWORD)
    plain = base64.b64encode(f"\0{user}\0{PASSWORD}".encode()).decode()
    stream = await Stream(house.server).open()
    stream.write(f"<authenticate xmlns='urn:xmpp:sasl:2' mechanism='PLAIN'><initial-response>{plain}</initial-response>"
                 "<user-agent id='d4565fa7-4d72-4749-b3d3-740edbf87770'/><bind xmlns='urn:xmpp:bind:0'/>"
                 "<request-token xmlns='urn:xmpp:fast:0' mechanism='HT-SHA-256-NONE'/></authenticate>")
    token = (await stream.next()).find("{urn:xmpp:fast:0}token").get("token")
    await command(admin, f"{ADMIN}disable-user", accountjids=f"{user}@{DOMAIN}")
    # The session ends with the error that RFC 6120, 4.9.3.12 has for it.
    while (element := await stream.next()).tag != "{http://etherx.jabber.org/streams}error":
        pass
    assert element.find("{urn:ietf:params:xml:ns:xmpp-streams}not-authorized") is not None, ET.tostring(element)
    stream.cut()
    proof = hmac.new(token.encode(), b"Initiator", "sha256").digest()
    fast = base64.b64encode(f"{user}\0".encode() + proof).decode()
    initial = "<initial-response>{}</initial-response>"
    for mechanism, payload in (("PLAIN", initial.format(plain)),
                               ("HT-SHA-256-NONE", initial.format(fast) + "<fast xmlns='urn:xmpp:fast:0'/>")):
        assert await login(house.server, user, mechanism, payload) != "success", mechanism
    scram = await Stream(house.server).open()
    with pytest.raises(AssertionError, match="not <success/>|not <challenge/>"):
        await scram.authenticate(user, PASSWORD)
    scram.cut()
    assert fields(await command(admin, f"{ADMIN}get-disabled-users-list"))["disableduserjids"] == [f"{user}@{DOMAIN}"]
    await command(admin, f"{ADMIN}reenable-user", accountjids=f"{user}@{DOMAIN}")
    assert await login(house.server, user, "PLAIN", initial.format(plain)) == "success"


async def test_a_message_of_the_day_is_shown_once_to_each(house):
    admin, romeo = await house.admin(), await house.person("romeo")
    await command(admin, f"{ADMIN}set-motd", motd=["The theatre is closed", "on Monday"])
    (shown,) = [await romeo.messages.first(lambda m: "on Monday" in (m.body or ""), "the message of the day")]
    assert shown.sender == DOMAIN
    await romeo.logout()
    late = await house.person("juliet")
    await late.messages.first(lambda m: "on Monday" in (m.body or ""), "the message of the day")
    await romeo.login()
    await romeo.flush()
    assert sum("on Monday" in (m.body or "") for m in romeo.messages) == 1
    await command(admin, f"{ADMIN}delete-motd")


# -- the gateway's commands


async def test_operators_administer_the_server_in_a_chat_with_its_bot(house):
    made = await house.invite()
    assert made["operator"], "nobody has an account yet"
    assert await register(house.server, "owner", made["token"]) == "result"
    owner = await house.again("owner")
    await owner.sees(house.bot, WELCOME)

    async def asks(text: str, expected: str) -> str:
        before = len(owner.messages)
        owner.say(house.bot, text)
        answer = await owner.messages.first(lambda m: expected in (m.body or ""), expected, start=before)
        return answer.body
    added = await asks("/adduser bob", "has an account now")
    password = re.search(r"once: `?(\w{16})`?", added)[1]
    bob = Person(house.server, "bob", password)
    house.people.append(await bob.login())
    await asks("/adduser bob", "exists already")
    await asks(f"/adduser alice@elsewhere.example", "not of this server")
    link = await asks("/invite carol", "For one account, until")
    token = re.search(rf"xmpp:carol@{DOMAIN}\?register;preauth=(\w+)", link)[1]
    assert await register(house.server, "carol", token) == "result"
    before = len(bob.messages)
    await asks("/announce Tea at five", "Told to")
    await bob.messages.first(lambda m: (m.body or "") == "Tea at five" and m.sender == DOMAIN, "the announcement", start=before)
    await asks("/deluser helper", "is a bot of moltis.toml")
    await asks("/deluser carol", "has been deleted")
    await asks("/deluser carol", "There is no account")
    # Nobody else may, and no room is the place for it.
    bob.say(house.bot, "/invite")
    await bob.sees(house.bot, "is for my operators")
