"""A real client: Profanity, in a room, shows an answer that is corrected in place.

With PROFANITY_CAPTURE=docs/profanity.txt the screens are kept, with PROFANITY_DEMO_CAPTURE=docs/profanity-demo.txt those
of the embedded server.
"""

import os
from pathlib import Path

from bot import REPOSITORY
from demo import BOT, PERSON, Demo
from profanity import Profanity
from world import PASSWORD
from wire import Answer, Hold

LOBBY = "lobby@conference.localhost"
FIRST = "The Matterhorn is 4,478 metres high"
LAST = ", and it was first climbed in 1865."


async def test_profanity_shows_one_answer_corrected_in_place(world):
    owner, hold = await world.person("owner"), Hold()
    user = world.server.unique("romeo")
    await world.server.add_user(user, PASSWORD)
    room, bot = await world.room_with_bot(owner, stream_mode="correction", edit_throttle_ms=200,
                                          stream_min_initial_chars=10)
    profanity = Profanity(world.server, world.directory / "profanity", f"{user}@localhost", PASSWORD)
    world.helpers.append(profanity)
    await profanity.start()
    profanity.type(f"/join {room} nick romeo")
    await owner.sees_occupant(room, "romeo")
    await profanity.shows(bot.nick)
    world.model.then(Answer(FIRST, hold, LAST))
    profanity.type(f"{bot.nick}: how high is the Matterhorn?")
    begun = await profanity.shows(FIRST)
    assert LAST.strip(", ") not in begun
    hold.release()
    ended = await profanity.shows("1865")
    assert ended.count("4,478 metres") == 1, ended
    if (path := os.environ.get("PROFANITY_CAPTURE")) and world.server.name == "prosody":
        save(REPOSITORY / path, begun, ended)


async def test_profanity_in_the_demo_chats_with_the_bot_and_joins_the_lobby(tmp_path):
    """The embedded server, from a terminal: the account that the demo has made, its bot, its room."""
    demo, hold = Demo(tmp_path / "demo"), Hold()
    await demo.start()
    profanity = Profanity(demo, tmp_path / "profanity", PERSON, demo.password)
    try:
        await profanity.start()
        profanity.type(f"/msg {BOT}")
        demo.model.then(Answer(FIRST, hold, LAST))
        profanity.type("How high is the Matterhorn?")
        begun = await profanity.shows(FIRST)
        assert LAST.strip(", ") not in begun
        hold.release()
        direct = await profanity.shows("1865")
        assert direct.count("4,478 metres") == 1, direct
        profanity.type(f"/join {LOBBY} nick romeo")
        await profanity.shows("Moltis")
        demo.model.then(Answer("The lobby is where everybody meets."))
        profanity.type("Moltis: what is this room for?")
        room = await profanity.shows("where everybody meets")
    finally:
        await profanity.stop()
        await demo.stop()
    if path := os.environ.get("PROFANITY_DEMO_CAPTURE"):
        (REPOSITORY / path).write_text(
            "Profanity on the embedded server, after its bot has answered:\n\n" + indent(direct)
            + "\n\nand in the lobby:\n\n" + indent(room) + "\n")


def save(path: Path, begun: str, ended: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("Profanity in a room, while the answer comes in:\n\n" + indent(begun)
                    + "\n\nand a moment later, the same line corrected (XEP-0308):\n\n" + indent(ended) + "\n")


def indent(screen: str) -> str:
    # The empty rows of the terminal say nothing.
    return "\n".join(f"    {line}".rstrip() for line in screen.splitlines() if line.strip())
