"""How the bot appears to others: subscriptions, disco, version, avatar, and answers to every IQ."""

import asyncio
import base64
import hashlib

import pytest

from servers import PATIENCE, soon
from stanza import STANZA_ID
from wire import Answer, Hold

DISCO = "http://jabber.org/protocol/disco#info"
PIXEL = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")


async def test_a_subscription_of_someone_admitted_is_accepted_and_returned(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.subscribe(bot.jid)
    await alice.sees_presence(lambda p: p.type == "subscribed" and p.sender == bot.jid, "accepted")
    await alice.sees_presence(lambda p: p.type == "subscribe" and p.sender == bot.jid, "returned")
    presence = await alice.sees_presence(lambda p: p.type == "" and p.sender == bot.full, "presence")
    assert "model-1" in (presence.child("status").text or ""), "the status text names the model"


async def test_a_subscription_of_a_stranger_goes_to_the_operators(world):
    stranger, operator = await asyncio.gather(world.person("stranger"), world.person("operator"))
    bot = await world.bot(operators=[operator])
    stranger.subscribe(bot.jid)
    request = await operator.sees(bot.jid, stranger.jid)
    assert f"/allow {stranger.jid}" in request.text
    assert not any(p.type == "subscribed" for p in stranger.presences)
    await operator.command(bot.jid, f"/allow {stranger.jid}")
    await stranger.sees_presence(lambda p: p.type == "subscribed" and p.sender == bot.jid, "accepted")


async def test_subscriptions_are_accepted_under_an_open_policy(world):
    alice = await world.person()
    bot = await world.bot(dm_policy="open")
    alice.subscribe(bot.jid)
    await alice.sees_presence(lambda p: p.type == "subscribed" and p.sender == bot.jid, "accepted")


async def test_a_stranger_learns_no_presence(world):
    stranger, alice = await asyncio.gather(world.person("stranger"), world.person("alice"))
    bot = await world.bot(admit=[alice], pairing=False)
    stranger.subscribe(bot.jid)
    await stranger.flush()
    await alice.command(bot.jid, "/ping")
    assert not any(p.sender.startswith(bot.jid) and p.type in ("", "subscribed") for p in stranger.presences)


async def test_disco_says_client_bot(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    answer = await alice.must("get", bot.full, f"<query xmlns='{DISCO}'/>")
    identity = answer.deep("identity", DISCO)
    features = {feature.get("var") for feature in answer.element.iter(f"{{{DISCO}}}feature")}
    assert (identity.get("category"), identity.get("type")) == ("client", "bot")
    assert {"urn:xmpp:ping", "jabber:iq:version", "urn:xmpp:time", DISCO, "http://jabber.org/protocol/commands",
            "urn:xmpp:message-correct:0", "urn:xmpp:receipts", "http://jabber.org/protocol/chatstates"} <= features


async def test_capabilities_of_presence_match_disco(world):
    bot = await world.bot()
    watcher = await world.watcher()
    presence = next(p for p in watcher.presences if p.sender == bot.full)
    caps = presence.child("c", "http://jabber.org/protocol/caps")
    node = f"{caps.get('node')}#{caps.get('ver')}"
    answer = await watcher.must("get", bot.full, f"<query xmlns='{DISCO}' node='{node}'/>")
    info = answer.child("query", DISCO)
    identities = sorted(f"{i.get('category')}/{i.get('type')}/"
                        f"{i.get('{http://www.w3.org/XML/1998/namespace}lang') or ''}/{i.get('name') or ''}<"
                        for i in info.iter(f"{{{DISCO}}}identity"))
    features = sorted(f"{f.get('var')}<" for f in info.iter(f"{{{DISCO}}}feature"))
    assert info.find("{jabber:x:data}x") is None, "extended forms are not computed here"
    digest = hashlib.sha1("".join(identities + features).encode()).digest()
    assert caps.get("hash") == "sha-1" and caps.get("ver") == base64.b64encode(digest).decode()


async def test_ping_version_time_and_last(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    await alice.must("get", bot.full, "<ping xmlns='urn:xmpp:ping'/>")
    version = await alice.must("get", bot.full, "<query xmlns='jabber:iq:version'/>")
    assert "moltis" in str(version).lower()
    time = await alice.must("get", bot.full, "<time xmlns='urn:xmpp:time'/>")
    assert time.deep("utc", "urn:xmpp:time") is not None
    last = "<query xmlns='jabber:iq:last'/>"
    # XEP-0012, 4: she may not see its presence. ejabberd keeps the question from the bot.
    assert (await alice.iq("get", bot.full, last)).condition in ("forbidden", "service-unavailable")
    alice.subscribe(bot.jid)
    await alice.sees_presence(lambda p: p.type == "" and p.sender == bot.full, "presence")
    assert (await alice.must("get", bot.full, last)).deep("query", "jabber:iq:last").get("seconds") == "0"


UNKNOWN = [("get", "<query xmlns='urn:example:unknown'/>"), ("set", "<query xmlns='urn:example:unknown'/>"),
           ("get", "<query xmlns='jabber:iq:roster'/>"), ("set", "<ping xmlns='urn:xmpp:ping'/>"),
           ("get", "<ping xmlns='urn:example:ping'/>"), ("get", f"<query xmlns='{DISCO}' node='no-such-node'/>")]


@pytest.mark.parametrize("kind, payload", UNKNOWN)
async def test_every_other_iq_gets_an_error(world, kind, payload):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    answer = await alice.iq(kind, bot.full, payload)
    assert answer.type == "error" and answer.condition


async def test_iqs_are_answered_while_a_turn_runs(world):
    alice, hold = await world.person(), Hold()
    world.model.then(Answer(hold, "Late."))
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "Hello")
    await soon(hold.reached)
    await alice.must("get", bot.full, "<ping xmlns='urn:xmpp:ping'/>")
    hold.release()
    await alice.sees(bot.jid, "Late.")


async def test_results_and_errors_that_nobody_asked_for_are_not_answered(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    start = len(alice.iqs)
    alice.send(f"<iq type='result' id='never-asked' to='{bot.full}'/>")
    alice.send(f"<iq type='error' id='never-asked-2' to='{bot.full}'><error type='cancel'>"
               "<item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>")
    await alice.must("get", bot.full, "<ping xmlns='urn:xmpp:ping'/>")
    assert not any(iq.id.startswith("never-asked") for iq in alice.iqs[start:])


async def test_vcard_and_avatar_are_published(world):
    alice = await world.person()
    bot = await world.prepare(admit=[alice], config={"identity": {"name": "Falstaff", "avatar": "face.png"}})
    (bot.directory / "face.png").write_bytes(PIXEL)
    await world.start_bot(bot)

    async def published() -> str:
        vcard = str(await alice.iq("get", bot.jid, "<vCard xmlns='vcard-temp'/>"))
        return vcard if "Falstaff" in vcard and "PHOTO" in vcard else ""
    async with asyncio.timeout(PATIENCE):
        while not (vcard := await published()):
            await asyncio.sleep(0.1)
    assert base64.b64encode(PIXEL).decode()[:40] in vcard.replace("\n", "")
    alice.subscribe(bot.jid)
    digest = hashlib.sha1(PIXEL).hexdigest()
    await alice.sees_presence(lambda p: p.sender == bot.full and digest in str(p), "XEP-0153 in presence")
    items = "<pubsub xmlns='http://jabber.org/protocol/pubsub'><items node='urn:xmpp:avatar:metadata'/></pubsub>"
    async with asyncio.timeout(PATIENCE):  # XEP-0084: the last of what is published
        while digest not in str(await alice.iq("get", bot.jid, items)):
            await asyncio.sleep(0.1)


async def test_error_stanzas_are_never_answered(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.send(f"<message to='{bot.jid}' type='error' id='e1'><body>Hello</body><error type='cancel'>"
               "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>")
    alice.send(f"<message to='{bot.full}' type='error' id='e2'><body>Hello</body></message>")
    await alice.command(bot.jid, "/ping")
    assert world.model.asked == [] and len(alice.lines(bot.jid)) == 1
    assert not any(m.id in ("e1", "e2") or m.type == "error" for m in alice.messages)


@pytest.mark.parametrize("kind", ["normal", "headline", "chat", "unheard-of"])
async def test_message_types(world, kind):
    """RFC 6121, 5.2.2: unknown types are normal ones; a headline wants no answer."""
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    attribute = "" if kind == "normal" else f" type='{kind}'"
    alice.send(f"<message to='{bot.full}'{attribute} id='m1'><body>A question</body></message>")
    if kind == "headline":
        await alice.command(bot.jid, "/ping")
        assert world.model.asked == []
    elif kind == "unheard-of":
        # A server may refuse it; the bot must be as before.
        await alice.flush()
        await alice.command(bot.jid, "/ping")
    else:
        await alice.sees(bot.jid, "Answer number 1.")


async def test_messages_without_text_start_no_turn(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    for payload in ("<composing xmlns='http://jabber.org/protocol/chatstates'/>", "<body/>", "<body>   </body>",
                    "<displayed xmlns='urn:xmpp:chat-markers:0' id='x'/>", "<subject>Only a subject</subject>",
                    "<received xmlns='urn:xmpp:receipts' id='x'/>"):
        alice.send(f"<message to='{bot.jid}' type='chat' id='n1'>{payload}</message>")
    await alice.command(bot.jid, "/ping")
    assert world.model.asked == [] and len(alice.lines(bot.jid)) == 1


async def test_an_encrypted_message_is_told_that_it_cannot_be_read(world):
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    alice.say(bot.jid, "This message is encrypted", extra="<encrypted xmlns='eu.siacs.conversations.axolotl'/>"
              "<encryption xmlns='urn:xmpp:eme:0' namespace='eu.siacs.conversations.axolotl'/>")
    await alice.sees(bot.jid, "cannot read encrypted")
    assert world.model.asked == []


async def test_a_forged_stanza_id_hides_no_message(world):
    """Ids `by` others are not trusted: two messages with the same forged one are two."""
    alice = await world.person()
    bot = await world.bot(admit=[alice])
    for number in (1, 2):
        alice.say(bot.jid, f"Question {number}", extra=f"<stanza-id xmlns='{STANZA_ID}' by='{bot.jid}' id='same'/>"
                  f"<stanza-id xmlns='{STANZA_ID}' by='evil.example' id='same'/>")
        await alice.sees(bot.jid, f"Answer number {number}.")
