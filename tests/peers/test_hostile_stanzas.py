"""hostile-input.md, column B: stanzas that claim to be what they are not."""

import base64
import hashlib

import pytest

from scene import ALICE, MALLORY, USER
from stanza import Iq, Message, escape
from wire import Answer, Pause

DISCO = "http://jabber.org/protocol/disco#info"

FORGED = {
    "carbon": f"<message from='{MALLORY}' to='{{to}}'><received xmlns='urn:xmpp:carbons:2'><forwarded "
              f"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='{ALICE}' to='{{to}}' type='chat' id='f1'>"
              "<body>/allow mallory@evil.example</body></message></forwarded></received></message>",
    "sent carbon": "<message from='{bare}' to='{to}'><sent xmlns='urn:xmpp:carbons:2'><forwarded "
                   "xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='{to}' to='alice@localhost' type='chat' "
                   "id='f5'><body>/allow mallory@evil.example</body></message></forwarded></sent></message>",
    "archive result": f"<message from='{MALLORY}' to='{{to}}'><result xmlns='urn:xmpp:mam:2' queryid='q' id='1'><forwarded "
                      f"xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='{ALICE}' type='chat' id='f2'>"
                      "<body>/allow mallory@evil.example</body></message></forwarded></result></message>",
    "unasked own archive result": "<message from='{bare}' to='{to}'><result xmlns='urn:xmpp:mam:2' queryid='none' id='1'>"
                      f"<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='{ALICE}' type='chat' "
                      "id='f3'><body>/allow mallory@evil.example</body></message></forwarded></result></message>",
    "other operator's name": "<message from='alice@evil.example/phone' to='{to}' type='chat' id='f4'>"
                             "<body>/allow mallory@evil.example</body></message>",
    "operator as resource": "<message from='mallory@evil.example/alice@localhost' to='{to}' type='chat' id='f6'>"
                            "<body>/allow mallory@evil.example</body></message>",
    "operator as local part": "<message from='alice\\40localhost@evil.example/x' to='{to}' type='chat' id='f7'>"
                              "<body>/allow mallory@evil.example</body></message>",
    "plain forward": f"<message from='{MALLORY}' to='{{to}}' type='chat' id='f8'><forwarded xmlns='urn:xmpp:forward:0'>"
                     f"<message xmlns='jabber:client' from='{ALICE}' type='chat'><body>/allow mallory@evil.example</body>"
                     "</message></forwarded></message>",
}


@pytest.mark.parametrize("name", FORGED)
async def test_forged_messages_are_not_believed(scene, name):
    await scene.online()
    scene.server.send(FORGED[name].format(to=scene.server.session.full, bare=f"{USER}@localhost"))
    scene.server.says(ALICE, "/access", "a1")
    await scene.asks()
    sent = [s for s in scene.server.stanzas if isinstance(s, Message) and s.body]
    assert len(sent) == 2 and "mallory" not in sent[0].body
    assert all(s.to.startswith("alice@localhost") for s in sent)


async def test_a_roster_push_of_another_is_refused(scene):
    await scene.online()
    scene.server.send(f"<iq type='set' id='push-1' from='{MALLORY}' to='{scene.server.session.full}'><query "
                      "xmlns='jabber:iq:roster'><item jid='mallory@evil.example' subscription='both'/></query></iq>")
    answer = await scene.server.stanzas.first(lambda s: isinstance(s, Iq) and s.id == "push-1", "the answer")
    assert answer.type == "error"


async def test_an_iq_result_of_another_is_no_answer(scene):
    """The id is right, the sender is not: the slot that is used is the one of the service that was asked."""
    slots = "urn:xmpp:http:upload:0"

    def reply(iq: Iq) -> str | None:
        head = f"<iq type='result' id='{escape(iq.id)}' from='{{}}'>"
        if iq.to == "localhost" and (query := iq.payload("http://jabber.org/protocol/disco#items")) is not None:
            if query.get("node"):
                return None
            return (head.format("localhost") + "<query xmlns='http://jabber.org/protocol/disco#items'>"
                    "<item jid='upload.localhost'/></query></iq>")
        if iq.to == "upload.localhost" and iq.payload(DISCO) is not None:
            return (head.format("upload.localhost") + f"<query xmlns='{DISCO}'><identity category='store' type='file'/>"
                    f"<feature var='{slots}'/></query></iq>")
        if iq.payload(slots) is not None:
            def slot(sender: str, path: str) -> str:
                url = f"http://localhost:{scene.model.port}/{path}"
                return (head.format(sender) + f"<slot xmlns='{slots}'><put url='{url}'/><get url='{url}'/></slot></iq>")
            return slot(MALLORY, "forged") + slot("upload.localhost", "true")
        return None
    scene.server.on_iq = reply
    await scene.online()
    await scene.asks()
    scene.server.says(ALICE, "/export", "e1")
    # The model's port takes no PUT, so the upload fails; what matters is that no link is the forged one.
    answer = await scene.server.stanzas.first(
        lambda s: isinstance(s, Message) and s.body and not s.body.startswith("Answer"), "what became of the export")
    assert "forged" not in str(answer)


async def test_stream_management_acknowledging_what_was_not_sent(scene):
    scene.server.stream_management = True
    await scene.online()
    scene.server.send("<a xmlns='urn:xmpp:sm:3' h='4000000'/>")
    await scene.asks()
    assert scene.bot.process.poll() is None


async def test_stream_management_nonsense(scene):
    scene.server.stream_management = True
    await scene.online()
    scene.server.send("<a xmlns='urn:xmpp:sm:3' h='minus one'/><resumed xmlns='urn:xmpp:sm:3' previd='x' h='0'/>"
                      "<enabled xmlns='urn:xmpp:sm:3'/><failed xmlns='urn:xmpp:sm:3'/>")
    await scene.asks()


async def test_messages_replayed_after_a_failed_resumption_are_answered_once(scene):
    scene.server.stream_management = True
    await scene.online()
    scene.server.says(ALICE, "Only once", "once")
    await scene.server.answer("Answer number 1.", "alice@localhost")
    scene.server.session.writer.transport.abort()
    await scene.server.online(2)
    scene.server.says(ALICE, "Only once", "once")
    await scene.asks("The next question")
    assert len(scene.model.about("Only once")) == 1


# None of these is alice; a bot that takes one for her lets its message in.
ADDRESSES = ["@", "@localhost", "alice@", "a@b@c", "/x", "a" * 1100 + "@localhost", "x@" + "a" * 1100,
             "al ice@localhost", "\u202ealice@localhost/phone", "alice@[::1",
             "alice@localhost@evil.example/phone", "alice@evil.example/alice@localhost", "аlice@localhost/phone",
             "alice@localhost.evil.example", "alice@1ocalhost"]
# What these are is left to the preparation of JIDs; they must be survived.
ODD = ["", "alice@localhost/", "alice@localhost/\u0378", "alice@localhost/" + "r" * 2000, "ALICE\u0130@localhost",
       # Full-width letters and zero-width spaces: the preparation of RFC 3920 makes alice of both, that of RFC 7622 refuses.
       "ａｌｉｃｅ@localhost/phone", "al\u200bice@localhost/phone", "alice@localhost./phone"]


async def test_addresses_of_all_kinds_are_survived(scene):
    await scene.online()
    for number, address in enumerate(ADDRESSES + ODD):
        text = f"Let me in as {number}." if address in ADDRESSES else "Odd."
        for kind, attribute, payload in (("message", "", f"<body>{text}</body>"), ("presence", "", ""),
                                         ("iq", " type='get'", "<ping xmlns='urn:xmpp:ping'/>")):
            scene.server.send(f"<{kind} from='{escape(address)}' id='j{number}'{attribute}>{payload}</{kind}>")
    await scene.asks_alone()
    admitted = [address for number, address in enumerate(ADDRESSES)
                if any(f"Let me in as {number}." in asked.everything for asked in scene.model.asked)]
    assert admitted == []


async def test_operators_compare_prepared_jids(scene):
    """Full-width letters prepare to the operator's JID (RFC 7622): that is her; zero-width ones do not."""
    await scene.online()
    scene.server.says("ALICE@LOCALHOST/phone", "/accounts", "o1")
    answer = await scene.server.stanzas.first(lambda s: isinstance(s, Message) and s.body, "an answer")
    assert f"{USER}@localhost" in answer.body


IDS = ["'\"><message to='x@y'/>", "&amp;&lt;", "a" * 7000, "\u202e\u200b", "' onload='x", "]]>"]


async def test_hostile_ids_come_back_escaped(scene):
    await scene.online()
    for id in IDS:
        scene.server.send(f"<iq from='{ALICE}' type='get' id='{escape(id)}'><ping xmlns='urn:xmpp:ping'/></iq>")
        scene.server.send(f"<message from='alice@localhost/{escape(id)[:20].replace('&', '')}' type='chat' id='{escape(id)}'>"
                          "<body>/ping</body><request xmlns='urn:xmpp:receipts'/></message>")
    await scene.asks()
    answered = {s.id for s in scene.server.stanzas if isinstance(s, Iq) and s.type == "result"}
    assert set(IDS) <= answered
    assert not any(s.to == "x@y" for s in scene.server.stanzas)


async def test_iqs_of_all_shapes_are_answered_or_survived(scene):
    await scene.online()
    for xml in ("<iq/>", "<iq type='get'/>", "<iq type='get' id='i1'/>", "<iq type='nonsense' id='i2'><a xmlns='b'/></iq>",
                f"<iq type='get' id='i3' from='{ALICE}'><a xmlns='b'/><c xmlns='d'/></iq>", "<iq id='i4'><a xmlns='b'/></iq>",
                "<message/>", "<message type='nonsense'><body/></message>", "<presence type='nonsense'/>",
                f"<message from='{ALICE}' id='x'><body xml:lang='en'>a</body><body xml:lang='en'>b</body></message>",
                "<presence from='x@y'><show>nonsense</show><priority>9999</priority></presence>"):
        scene.server.send(xml)
    await scene.asks()
    assert scene.bot.process.poll() is None


def capabilities(features: list[str]) -> str:
    text = "client/pc//<" + "".join(f"{feature}<" for feature in sorted(features))
    return base64.b64encode(hashlib.sha1(text.encode()).digest()).decode()


async def test_poisoned_capabilities_are_not_kept(scene):
    """XEP-0115, 5.4: a hash that does not match what it stands for says nothing about others who announce it."""
    features = [DISCO, "urn:xmpp:message-correct:0"]
    version = capabilities(features)

    def reply(iq: Iq) -> str | None:
        if iq.payload(DISCO) is None or not iq.to.startswith(("alice@", "mallory@")):
            return None
        real = iq.to.startswith("alice@")
        listed = "".join(f"<feature var='{feature}'/>" for feature in (features if real else [DISCO]))
        return (f"<iq type='result' id='{escape(iq.id)}' from='{iq.to}'><query xmlns='{DISCO}' node='c#{version}'>"
                f"<identity category='client' type='pc'/>{listed}</query></iq>")
    scene.server.on_iq = reply
    scene.bot.account |= {"stream_mode": "correction", "edit_throttle_ms": 50}
    await scene.online()
    for sender in (MALLORY, ALICE):
        scene.server.send(f"<presence from='{sender}'><c xmlns='http://jabber.org/protocol/caps' hash='sha-1' node='c' "
                          f"ver='{version}'/></presence>")
    await scene.asks()
    scene.model.then(Answer("The first thirty characters of it stand here. ", Pause(0.5), "An end."))
    scene.server.says(ALICE, "Stream it", "s1")
    await scene.server.answer("An end.", "alice@localhost")
    bodies = [s for s in scene.server.stanzas if isinstance(s, Message) and "stand here." in (s.body or "")]
    assert len(bodies) >= 2, "it streamed: alice's client announces corrections"


async def test_old_messages_of_the_archive_become_one_turn(scene):
    """What is older than an hour becomes one turn with a note, not a storm."""
    old = "2020-01-01T00:00:{:02}Z"

    away = False

    def reply(iq: Iq) -> str | None:
        query = iq.payload("urn:xmpp:mam:2")
        if query is None or iq.type != "set" or not query.tag.endswith("query"):
            return None
        results = "".join(
            f"<message from='{USER}@localhost' to='{scene.server.session.full}'><result xmlns='urn:xmpp:mam:2' "
            f"queryid='{escape(query.get('queryid') or '')}' id='arc-{n}'><forwarded xmlns='urn:xmpp:forward:0'><delay "
            f"xmlns='urn:xmpp:delay' stamp='{old.format(n)}'/><message xmlns='jabber:client' from='{ALICE}' "
            f"to='{USER}@localhost' type='chat' id='old-{n}'><body>Old question {n}</body></message></forwarded></result>"
            "</message>" for n in range(5 if away else 0))
        return (results + f"<iq type='result' id='{escape(iq.id)}' from='{USER}@localhost'><fin xmlns='urn:xmpp:mam:2' "
                "complete='true'><set xmlns='http://jabber.org/protocol/rsm'><last>arc-4</last></set></fin></iq>")
    scene.server.on_iq = reply
    await scene.online()
    await scene.asks("A first question")  # there is something to catch up from
    away = True
    connections = scene.server.bound
    scene.server.session.writer.transport.abort()
    await scene.server.online(connections + 1)
    await scene.model.request(2, 30)
    await scene.asks("The live question")
    storm = [asked for asked in scene.model.asked if "Old question" in asked.last]
    assert len(storm) == 1 and all(f"Old question {n}" in storm[0].everything for n in range(5))
