"""`moltis chat` on a terminal: the answer grows in place, lines are edited, and those of before come back."""

from bot import BINARY
from demo import BOT, PERSON, Demo
from profanity import COLUMNS, ROWS, Profanity
from wire import Answer, Hold

FIRST = "The Matterhorn is 4,478 metres high"
LAST = ", and it was first climbed in 1865."


class Terminal(Profanity):
    """`moltis chat` in the demo's folder, in tmux."""

    def __init__(self, demo: Demo):
        super().__init__(demo, demo.directory / "terminal", PERSON, "")

    async def start(self) -> None:
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", str(ROWS),
                   "-c", str(self.server.directory), "sh")
        self.run()
        await self.shows(f"You are {PERSON} and talk to {BOT}")

    def run(self) -> None:
        settings = f"--set xmpp_server.c2s_port={self.server.c2s_port}"
        self.type(f"clear; HOME={self.server.directory} XDG_CONFIG_HOME={self.server.directory} LC_ALL=C.UTF-8 {BINARY} chat "
                  f"{settings}; echo ended with $?")

    def key(self, *names: str) -> None:
        self._tmux("send-keys", *names)


async def test_a_chat_on_a_terminal_shows_corrections_and_remembers_lines(tmp_path):
    demo, hold = await Demo(tmp_path / "demo").start(), Hold()
    terminal = Terminal(demo)
    try:
        await terminal.start()
        demo.model.then(Answer(FIRST, hold, LAST), Answer("Still 4,478."), Answer("It has not moved."))
        terminal.type("how high is the Matterhorn?")
        begun = await terminal.shows(FIRST)
        assert "1865" not in begun
        hold.release()
        whole = await terminal.shows("1865")
        assert whole.count("4,478 metres") == 1, whole
        # The line of before, with something in front of it.
        terminal.key("Up", "C-a")
        terminal.type("and now, ")
        await terminal.shows("Still 4,478.")
        assert "and now, how high is the Matterhorn?" in (await demo.model.request(2)).everything
        terminal.key("C-d")
        await terminal.shows("ended with 0")
        terminal.run()
        await terminal.shows(f"You are {PERSON}")
        terminal.key("Up", "Enter")
        await terminal.shows("It has not moved.")
        assert "and now, how high is the Matterhorn?" in (await demo.model.request(3)).everything
    finally:
        await terminal.stop()
        await demo.stop()
