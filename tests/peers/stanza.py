"""Reading stanzas: an element with names for what the tests ask of it."""

import time
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

CLIENT = "jabber:client"
CORRECT = "urn:xmpp:message-correct:0"
CHAT_STATES = "http://jabber.org/protocol/chatstates"
MARKERS = "urn:xmpp:chat-markers:0"
RECEIPTS = "urn:xmpp:receipts"
REACTIONS = "urn:xmpp:reactions:0"
REPLY = "urn:xmpp:reply:0"
FALLBACK = "urn:xmpp:fallback:0"
HINTS = "urn:xmpp:hints"
STANZA_ID = "urn:xmpp:sid:0"
DELAY = "urn:xmpp:delay"
OOB = "jabber:x:oob"
FILE_SHARING = "urn:xmpp:sfs:0"
MUC = "http://jabber.org/protocol/muc"
MUC_USER = "http://jabber.org/protocol/muc#user"
RETRACT = "urn:xmpp:message-retract:1"
CARBONS = "urn:xmpp:carbons:2"
FORWARD = "urn:xmpp:forward:0"
MAM = "urn:xmpp:mam:2"
COMMANDS = "http://jabber.org/protocol/commands"
DATA = "jabber:x:data"


def escape(text: str) -> str:
    for plain, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;"), ("'", "&apos;")):
        text = text.replace(plain, entity)
    return text


def bare(jid: str) -> str:
    return jid.split("/", 1)[0]


@dataclass
class Stanza:
    """A stanza as it arrived."""

    element: ET.Element
    at: float = field(default_factory=time.monotonic)

    def __getattr__(self, name: str) -> str:
        if name in ("id", "type", "to"):
            return self.element.get(name, "")
        raise AttributeError(name)

    def __str__(self) -> str:
        return ET.tostring(self.element, encoding="unicode")

    @property
    def sender(self) -> str:
        return self.element.get("from", "")

    def child(self, name: str, namespace: str = CLIENT) -> ET.Element | None:
        return self.element.find(f"{{{namespace}}}{name}")

    def deep(self, name: str, namespace: str) -> ET.Element | None:
        return self.element.find(f".//{{{namespace}}}{name}")

    def payload(self, namespace: str) -> ET.Element | None:
        """The first child in a namespace."""
        return next((child for child in self.element if child.tag.startswith(f"{{{namespace}}}")), None)

    def local_payload(self, namespace: str) -> str:
        """The local name of the first child in a namespace, as in chat states and markers."""
        found = self.payload(namespace)
        return "" if found is None else found.tag.split("}")[1]


class Message(Stanza):
    @property
    def body(self) -> str | None:
        found = self.child("body")
        return None if found is None else found.text or ""

    @property
    def replaces(self) -> str | None:
        found = self.child("replace", CORRECT)
        return None if found is None else found.get("id")

    @property
    def chat_state(self) -> str:
        return self.local_payload(CHAT_STATES)

    @property
    def marker(self) -> str:
        return self.local_payload(MARKERS)

    @property
    def hints(self) -> set[str]:
        return {child.tag.split("}")[1] for child in self.element if child.tag.startswith(f"{{{HINTS}}}")}

    @property
    def reactions(self) -> list[str] | None:
        found = self.child("reactions", REACTIONS)
        return None if found is None else [item.text or "" for item in found]

    @property
    def delayed(self) -> bool:
        return self.child("delay", DELAY) is not None

    @property
    def link(self) -> str | None:
        found = self.child("x", OOB)
        return None if found is None else found.findtext(f"{{{OOB}}}url")

    def assigned_id(self, by: str) -> str | None:
        """The XEP-0359 id that `by` gave it."""
        for found in self.element.findall(f"{{{STANZA_ID}}}stanza-id"):
            if found.get("by") == by:
                return found.get("id")
        return None


class Presence(Stanza):
    @property
    def status_codes(self) -> set[str]:
        return {found.get("code", "") for found in self.element.iter(f"{{{MUC_USER}}}status")}


class Iq(Stanza):
    @property
    def condition(self) -> str:
        """The error's defined condition."""
        error = self.child("error")
        return "" if error is None else next(
            (child.tag.split("}")[1] for child in error if "xmpp-stanzas" in child.tag), "")


def without_quote(message: Message) -> str:
    """The body as a client shows it that knows XEP-0461: without what is there for those that do not (XEP-0428)."""
    body = message.body or ""
    fallback = message.child("fallback", FALLBACK)
    if fallback is None or fallback.get("for") != REPLY or message.child("reply", REPLY) is None:
        return body
    span = fallback.find(f"{{{FALLBACK}}}body")
    if span is None:
        return ""
    # Offsets count Unicode code points, as Python does.
    return body[:int(span.get("start", 0))] + body[int(span.get("end", len(body))):]


@dataclass
class Line:
    """A message as a client shows it: the last text, after corrections."""

    message: Message
    text: str
    # The text and every correction of it, in order.
    versions: list[Message]
    retracted: bool = False

    @property
    def sender(self) -> str:
        return self.message.sender


def displayed(messages: list[Message]) -> list[Line]:
    """What a client shows of these messages: XEP-0308 applied by the rules of its section 4 (same sender, by id)."""
    lines: list[Line] = []
    for message in messages:
        if message.type == "error" or message.body is None:
            continue
        if message.replaces is not None:
            own = (line for line in lines
                   if line.message.id == message.replaces and line.sender == message.sender)
            if (line := next(own, None)) is not None:
                line.text = without_quote(message)
                line.versions.append(message)
                continue
        lines.append(Line(message, without_quote(message), [message]))
    return lines
