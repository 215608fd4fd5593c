"""Scenario scripts: tests/scenarios/README.md says how they are written. Here they are read."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree as ET

from stanza import CLIENT

SCANSION = "https://matthewwild.co.uk/projects/scansion"
ENVELOPE = (f"<x xmlns='{CLIENT}' xmlns:stream='http://etherx.jabber.org/streams' xmlns:scansion='{SCANSION}'>"
            "{}</x>")
ONLY = "# moltis only:"
STEPS = [(kind, re.compile(pattern)) for kind, pattern in (
    ("connects", r"(?P<who>\w+) connects"),
    ("online", r"(?P<who>\w+) comes online(?: with priority (?P<number>-?\d+))?"),
    ("opens", r"(?P<who>\w+) opens a stream"),
    ("disconnects", r"(?P<who>\w+) disconnects"),
    ("lost", r"(?P<who>\w+)'s connection is lost"),
    ("ends", r"(?P<who>\w+)'s stream ends"),
    ("sends", r"(?P<who>\w+) sends:"),
    ("receives", r"(?P<who>\w+) receives:"),
    ("nothing", r"(?P<who>\w+) receives nothing"),
    ("ignores", r"(?P<who>\w+) ignores what came"),
    ("announces", r"(?P<who>\w+) announces what (?:he|she) wants"),
    ("befriend", r"(?P<who>\w+) and (?P<other>\w+) are contacts"),
)]


@dataclass
class Actor:
    """Who takes part: a section of the head."""

    name: str
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def user(self) -> str:
        return self.settings["jid"].split("@")[0]

    @property
    def resource(self) -> str:
        return self.settings["jid"].partition("/")[2]

    @property
    def has_account(self) -> bool:
        return self.settings.get("account") != "none"


@dataclass
class Step:
    line: int
    text: str
    kind: str
    who: str
    other: str = ""
    number: str = "0"
    xml: str = ""


@dataclass
class Script:
    path: Path
    standard: bool
    actors: dict[str, Actor]
    steps: list[Step]


def read(path: Path) -> Script:
    """Reads a script, or says which line is wrong."""
    actors: dict[str, Actor] = {}
    steps: list[Step] = []
    standard, actor, body = True, None, False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        where = f"{path.name}:{number}: {line}"
        if line.startswith("#"):
            standard = standard and not line.startswith(ONLY)
        elif re.fullmatch("-{5,}", line):
            body = True
        elif not line.strip():
            continue
        elif not body and (section := re.fullmatch(r"\[Client\] (\w+)", line)):
            actor = actors[section[1]] = Actor(section[1])
        elif not body:
            assert actor is not None and ":" in line, where
            key, value = line.split(":", 1)
            actor.settings[key.strip()] = value.strip()
        elif line[0] in " \t":
            assert steps and steps[-1].kind in ("sends", "receives"), where
            steps[-1].xml += line + "\n"
        else:
            steps.append(step(number, line, actors, where))
    for found in steps:
        assert bool(found.xml) == (found.kind in ("sends", "receives")), f"{path.name}:{found.line}: {found.text}"
    return Script(path, standard, actors, steps)


def step(number: int, line: str, actors: dict[str, Actor], where: str) -> Step:
    for kind, pattern in STEPS:
        if match := pattern.fullmatch(line.strip()):
            named = {key: value for key, value in match.groupdict().items() if value is not None}
            assert all(named[key] in actors for key in ("who", "other") if key in named), f"{where}: who is this?"
            return Step(number, line.strip(), kind, **named)
    raise AssertionError(f"{where}: no such step")


# What servers may add to any stanza, so that only a script that names it asks for it.
FREE_ATTRIBUTES = {"to", "by", "{http://www.w3.org/XML/1998/namespace}lang"}
FREE_CHILDREN = {
    "{urn:xmpp:sid:0}stanza-id", "{urn:xmpp:occupant-id:0}occupant-id", "{vcard-temp:x:update}x",
    "{urn:ietf:params:xml:ns:xmpp-stanzas}text", "{urn:ietf:params:xml:ns:xmpp-streams}text",
    "{urn:ietf:params:xml:ns:xmpp-sasl}text"}
# Presence may say when it was sent (XEP-0203); of a message it says what happened to it.
FREE_IN_PRESENCE = {"{urn:xmpp:delay}delay"}
# What a server answers for an account may come from the account or from nobody (RFC 6120, 8.1.2.1).
FREE_IN_IQ = {"from"}
PLACEHOLDER = re.compile(r"\{(scansion:any|keep:\w+)\}")


def differs(expected: ET.Element, actual: ET.Element, kept: dict[str, str]) -> str | None:
    """Why `actual` is not what the script says, or None; what the script keeps is added to `kept`."""
    found = dict(kept)
    reason = _differs(expected, actual, found)
    if reason is None:
        kept.update(found)
    return reason


def _differs(expected: ET.Element, actual: ET.Element, kept: dict[str, str]) -> str | None:
    if expected.tag != actual.tag:
        return f"<{actual.tag}> instead of <{expected.tag}>"
    name = expected.tag.split("}")[-1]
    strict = expected.get(f"{{{SCANSION}}}strict") != "false"
    attributes = {key: value for key, value in expected.items() if not key.startswith(f"{{{SCANSION}}}")}
    for key, value in attributes.items():
        if not same(value, actual.get(key), kept):
            return f"{name}: {key} is {actual.get(key)!r}, not {value!r}"
    free = FREE_ATTRIBUTES | (FREE_IN_IQ if expected.tag == f"{{{CLIENT}}}iq" else set())
    if strict and (extra := actual.keys() - attributes.keys() - free):
        return f"{name}: has {', '.join(f'{key}={actual.get(key)!r}' for key in sorted(extra))}"
    if not same((expected.text or "").strip(), (actual.text or "").strip(), kept):
        if strict or (expected.text or "").strip():
            return f"{name}: the text is {actual.text!r}, not {expected.text!r}"
    return _children_differ(expected, actual, kept, strict)


def _children_differ(expected: ET.Element, actual: ET.Element, kept: dict[str, str], strict: bool) -> str | None:
    """In any order: it means something to few payloads, and their scripts ask for one after the other."""
    left = list(actual)
    for child in expected:
        reasons = []
        for candidate in left:
            reason = differs(child, candidate, kept)
            if reason is None:
                left.remove(candidate)
                break
            if candidate.tag == child.tag:
                reasons.append(reason)
        else:
            return "; ".join(reasons) or f"<{child.tag}> is missing"
    free = FREE_CHILDREN | (FREE_IN_PRESENCE if expected.tag == f"{{{CLIENT}}}presence" else set())
    free -= {child.tag for child in expected}
    extra = [child.tag for child in left if child.tag not in free]
    return f"there is also <{extra[0]}>" if strict and extra else None


def same(expected: str, actual: str | None, kept: dict[str, str]) -> bool:
    if actual is None:
        return False
    if not PLACEHOLDER.search(expected):
        return expected == actual
    pattern = ""
    for index, part in enumerate(PLACEHOLDER.split(expected)):
        if index % 2 == 0:
            pattern += re.escape(part)
        else:
            pattern += "(.*)" if part == "scansion:any" else f"(?P<{part.removeprefix('keep:')}>.+)"
    match = re.fullmatch(pattern, actual, re.DOTALL)
    if match is not None:
        kept.update(match.groupdict())
    return match is not None
