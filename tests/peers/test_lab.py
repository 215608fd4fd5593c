"""Two servers that federate, each pair in each order: what people on them do together."""

import base64
import hashlib

from person import Person
from stanza import MUC, MUC_USER, escape
from test_media import PNG, fetch, send_link, upload

AVATAR_DATA, AVATAR = "urn:xmpp:avatar:data", "urn:xmpp:avatar:metadata"
PUBSUB = "http://jabber.org/protocol/pubsub"
ERRORS = "urn:ietf:params:xml:ns:xmpp-stanzas"


async def people(lab, pair) -> list[Person]:
    return [await lab.person(peer, name) for peer, name in zip(pair, ("alice", "bob"), strict=True)]


def condition(stanza) -> str:
    """Of an error, and its text where it has one."""
    error = stanza.child("error")
    return error.find(f"{{{ERRORS}}}*").tag.split("}")[1]


async def error_of(person: Person, id: str, seconds: float = 30):
    return await person.sees_message(lambda m: m.id == id and m.type == "error", f"the return of {id}", seconds)


# -- messages


async def test_a_message_is_answered(lab, pair):
    alice, bob = await people(lab, pair)
    id = alice.say(bob.full, "How are you?")
    line = await bob.sees(alice.jid, "How are you?")
    assert (line.message.id, line.message.sender, line.message.to) == (id, alice.full, bob.full)
    id = bob.say(alice.full, "Fine")
    line = await alice.sees(bob.jid, "Fine")
    assert (line.message.id, line.message.sender) == (id, bob.full)
    assert bob.texts(alice.jid) == ["How are you?"] and alice.texts(bob.jid) == ["Fine"]


async def test_many_messages_keep_their_order(lab, pair):
    alice, bob = await people(lab, pair)
    wanted = [f"line {number} <&> “…” 👩‍🚀" for number in range(200)]
    for text in wanted:
        alice.say(bob.jid, text)
    await bob.messages.until(lambda: len(bob.texts(alice.jid)) >= len(wanted), "all of them")
    seen = [int(text.split()[1]) for text in bob.texts(alice.jid)]
    assert seen == list(range(200)) and bob.texts(alice.jid) == wanted


async def test_a_large_message_arrives_whole(lab, pair):
    alice, bob = await people(lab, pair)
    text = "0123456789abcde " * 8_000
    alice.say(bob.jid, f"{text}end")
    line = await bob.sees(alice.jid, "end")
    assert line.text == f"{text}end"


async def test_both_archives_have_it(lab, pair):
    alice, bob = await people(lab, pair)
    id = alice.say(bob.jid, "For the record")
    await bob.sees(alice.jid, "For the record")
    for person, peer in ((alice, bob), (bob, alice)):
        kept = await person.archive(peer=peer.jid)
        assert [(message.get("id"), message.findtext("{jabber:client}body")) for message in kept] == [(id, "For the record")]


async def test_who_is_away_gets_it_later(lab, pair):
    alice, bob = await people(lab, pair)
    await bob.logout()
    id = alice.say(bob.jid, "When you are back")
    # Answered after it, on the same stream.
    assert (await alice.iq("get", pair[1].domain, "<ping xmlns='urn:xmpp:ping'/>")).type == "result"
    await bob.login()
    line = await bob.sees(alice.jid, "When you are back")
    assert line.message.id == id and line.message.deep("delay", "urn:xmpp:delay") is not None
    assert bob.texts(alice.jid) == ["When you are back"]


async def test_nobody_of_that_name_is_said(lab, pair):
    alice, _ = await people(lab, pair)
    id = alice.say(f"nobody@{pair[1].domain}", "Anybody there?")
    error = await error_of(alice, id)
    assert condition(error) in ("service-unavailable", "item-not-found") and error.sender == f"nobody@{pair[1].domain}"


async def test_who_is_blocked_is_told_so_and_not_heard(lab, pair):
    alice, bob = await people(lab, pair)
    await bob.must("set", "", f"<block xmlns='urn:xmpp:blocking'><item jid='{alice.jid}'/></block>")
    id = alice.say(bob.jid, "You do not want this")
    error = await error_of(alice, id)
    assert condition(error) in ("service-unavailable", "not-acceptable")
    await bob.must("set", "", "<unblock xmlns='urn:xmpp:blocking'/>")
    alice.say(bob.jid, "And now?")
    await bob.sees(alice.jid, "And now?")
    assert bob.texts(alice.jid) == ["And now?"]


# -- presence


async def test_friends_see_each_other_come_and_go(lab, pair):
    alice, bob = await people(lab, pair)
    await alice.befriend(bob)
    start = len(bob.presences)
    alice.send("<presence><show>away</show><status>At lunch</status></presence>")
    seen = await bob.sees_presence(lambda p: p.sender == alice.full and p.child("show") is not None, "a change", start=start)
    assert (seen.child("show").text, seen.child("status").text) == ("away", "At lunch")
    start = len(bob.presences)
    await alice.logout()
    await bob.sees_presence(lambda p: (p.sender, p.type) == (alice.full, "unavailable"), "her leaving", start=start)


async def test_who_logs_in_learns_who_is_there(lab, pair):
    alice, bob = await people(lab, pair)
    await alice.befriend(bob)
    await alice.logout()
    start = len(alice.presences)
    await alice.login()
    await alice.sees_presence(lambda p: (p.sender, p.type) == (bob.full, ""), "bob, by a probe", start=start)


async def test_a_subscription_ends(lab, pair):
    alice, bob = await people(lab, pair)
    await alice.befriend(bob)
    bob.send(f"<presence to='{alice.jid}' type='unsubscribe'/>")
    await alice.sees_presence(lambda p: (p.sender, p.type) == (bob.jid, "unsubscribe"), "the end of it")
    await alice.flush()
    start = len(bob.presences)
    alice.send("<presence><status>Not for bob</status></presence>")
    alice.say(bob.jid, "Something later.")
    await bob.sees(alice.jid, "Something later.")
    # That she is gone for him is said, or not (RFC 6121, 3.3.3).
    told = [str(p) for p in bob.presences[start:] if p.sender == alice.full and p.type != "unavailable"]
    # ejabberd goes on for a while, to Prosody too: what it was told it has heard, and more is its own affair.
    assert not told or pair[0].label == "ejabberd"


async def test_presence_may_be_for_one_alone(lab, pair):
    alice, bob = await people(lab, pair)
    alice.send(f"<presence to='{bob.full}'><status>Only you</status></presence>")
    await bob.sees_presence(lambda p: p.sender == alice.full and p.type == "", "directed presence")
    start = len(bob.presences)
    await alice.logout()
    await bob.sees_presence(lambda p: (p.sender, p.type) == (alice.full, "unavailable"), "her leaving", start=start)


# -- questions


async def test_questions_are_answered_across(lab, pair):
    alice, bob = await people(lab, pair)
    assert (await alice.iq("get", pair[1].domain, "<ping xmlns='urn:xmpp:ping'/>")).type == "result"
    assert (await alice.iq("get", bob.full, "<ping xmlns='urn:xmpp:ping'/>")).type == "result"
    version = await alice.iq("get", pair[1].domain, "<query xmlns='jabber:iq:version'/>")
    assert version.deep("name", "jabber:iq:version").text
    info = await alice.iq("get", pair[1].domain, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    assert ("server", "im") in [(i.get("category"), i.get("type")) for i in info.element.iter() if i.tag.endswith("}identity")]
    rooms = await alice.iq("get", pair[1].rooms, "<query xmlns='http://jabber.org/protocol/disco#info'/>")
    assert "conference" in [i.get("category") for i in rooms.element.iter() if i.tag.endswith("}identity")]
    unknown = await alice.iq("get", pair[1].domain, "<query xmlns='urn:example:nothing'/>")
    assert unknown.type == "error" and condition(unknown) in ("service-unavailable", "feature-not-implemented")
    absent = await alice.iq("get", f"{bob.jid}/absent", "<query xmlns='urn:example:nothing'/>")
    assert absent.type == "error" and condition(absent) in ("service-unavailable", "recipient-unavailable")


async def test_a_card_is_read_across(lab, pair):
    alice, bob = await people(lab, pair)
    await bob.must("set", "", "<vCard xmlns='vcard-temp'><FN>Bob the Builder</FN></vCard>")
    card = await alice.must("get", bob.jid, "<vCard xmlns='vcard-temp'/>")
    assert card.deep("FN", "vcard-temp").text == "Bob the Builder"


async def test_a_picture_of_oneself_is_announced_to_friends(lab, pair):
    alice, bob = await people(lab, pair)
    await alice.befriend(bob)
    start = len(alice.presences)
    bob.client.plugin["xep_0030"].add_feature(f"{AVATAR}+notify")
    await bob.client.plugin["xep_0115"].update_caps()
    # Her server may first have to ask what this means (XEP-0115); then it tells him what it has.
    await alice.sees_presence(lambda p: p.sender == bob.full, "his presence", start=start)
    id = hashlib.sha1(PNG).hexdigest()

    def publish(node: str, payload: str) -> str:
        return (f"<pubsub xmlns='{PUBSUB}'><publish node='{node}'><item id='{id}'>{payload}</item></publish></pubsub>")
    data = base64.b64encode(PNG).decode()
    await alice.must("set", "", publish(AVATAR_DATA, f"<data xmlns='{AVATAR_DATA}'>{data}</data>"))
    await alice.must("set", "", publish(AVATAR, f"<metadata xmlns='{AVATAR}'><info bytes='{len(PNG)}' id='{id}' "
                                                "type='image/png'/></metadata>"))
    news = await bob.sees_message(lambda m: m.deep("metadata", AVATAR) is not None, "the news of a picture")
    assert news.sender == alice.jid and news.deep("info", AVATAR).get("id") == id
    item = await bob.must("get", alice.jid, f"<pubsub xmlns='{PUBSUB}'><items node='{AVATAR_DATA}'><item id='{id}'/></items>"
                                            "</pubsub>")
    assert base64.b64decode(item.deep("data", AVATAR_DATA).text) == PNG


async def test_a_file_of_one_server_is_read_from_the_other(lab, pair):
    alice, bob = await people(lab, pair)
    link = await upload(alice, "cat.png", PNG, "image/png")
    send_link(alice, bob.jid, link)
    message = await bob.sees_message(lambda m: m.link, "a link")
    assert message.link == link
    assert await fetch(link, bob.server.session()) == (PNG, "image/png")


# -- rooms


async def room_of(owner: Person) -> str:
    room = f"{owner.server.unique('room')}@{owner.server.rooms}"
    await owner.join(room)
    await owner.configure(room, persistentroom="1")
    return room


async def test_a_room_of_the_other_server(lab, pair):
    alice, bob = await people(lab, pair)
    room = await room_of(bob)
    await alice.join(room)
    await bob.sees_occupant(room, "alice")
    await alice.sees_occupant(room, "bob")
    alice.say_in(room, "Hello from afar")
    await bob.sees(room, "Hello from afar")
    bob.say_in(room, "Hello from here")
    await alice.sees(room, "Hello from here")
    # Oneself is an occupant too.
    await alice.sees_message(lambda m: m.sender == f"{room}/alice" and m.body == "Hello from afar", "her own line")
    alice.say(f"{room}/bob", "Between us")
    line = await bob.sees(f"{room}/alice", "Between us")
    assert line.message.type == "chat"
    start = len(bob.presences)
    alice.send(f"<presence to='{room}/alice' type='unavailable'/>")
    await bob.sees_leaving(room, "alice", start=start)


async def test_who_enters_a_room_of_the_other_server_reads_what_was_said(lab, pair):
    alice, bob = await people(lab, pair)
    room = await room_of(bob)
    bob.say_in(room, "Before she came")
    await bob.sees_message(lambda m: m.sender == f"{room}/bob" and m.body, "his own line")
    alice.send(f"<presence to='{escape(room)}/alice'><x xmlns='{MUC}'><history maxstanzas='5'/></x></presence>")
    line = await alice.sees(room, "Before she came")
    assert line.message.deep("delay", "urn:xmpp:delay") is not None
    kept = await alice.archive(room=room)
    assert "Before she came" in [message.findtext("{jabber:client}body") for message in kept]


async def test_a_room_of_the_other_server_sends_one_away(lab, pair):
    alice, bob = await people(lab, pair)
    room = await room_of(bob)
    await alice.join(room)
    await bob.sees_occupant(room, "alice")
    await bob.kick(room, "alice")
    assert "307" in (await alice.sees_leaving(room, "alice")).status_codes
    await alice.join(room)
    await bob.affiliate(room, alice.jid, "outcast")
    await alice.sees_presence(lambda p: p.sender == f"{room}/alice" and "301" in p.status_codes, "a ban")
    alice.send(f"<presence to='{room}/alice'><x xmlns='{MUC}'/></presence>")
    refused = await alice.sees_presence(lambda p: p.sender.startswith(room) and p.type == "error", "a refusal")
    assert condition(refused) == "forbidden"


async def test_an_invitation_to_a_room_reaches_the_other_server(lab, pair):
    alice, bob = await people(lab, pair)
    room = await room_of(bob)
    bob.send(f"<message to='{room}'><x xmlns='{MUC_USER}'><invite to='{alice.jid}'><reason>Come in</reason></invite></x></message>")
    invitation = await alice.sees_message(lambda m: m.deep("invite", MUC_USER) is not None, "an invitation")
    assert invitation.sender == room and invitation.deep("reason", MUC_USER).text == "Come in"


async def test_an_occupant_who_is_gone_leaves_the_room_of_the_other_server(lab, pair):
    alice, bob = await people(lab, pair)
    room = await room_of(bob)
    await alice.join(room)
    await bob.sees_occupant(room, "alice")
    start = len(bob.presences)
    await alice.logout()
    await bob.sees_leaving(room, "alice", start=start)
