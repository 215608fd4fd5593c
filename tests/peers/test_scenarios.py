"""Plays tests/scenarios/*.txt on the embedded server, and what is standard on Prosody too: so the scripts are known to
be right."""

import pytest
import pytest_asyncio

from bot import REPOSITORY
from moltis import Moltis
from prosody import Prosody
from script import read
from stage import Stage

SCRIPTS = [read(path) for path in sorted((REPOSITORY / "tests/scenarios").glob("**/*.txt"))]
PLAYS = [(name, script) for name in ("moltis", "prosody") for script in SCRIPTS if name == "moltis" or script.standard]


@pytest_asyncio.fixture(scope="session")
async def playhouse(tmp_path_factory, authority):
    """The servers, each started when the first script is played on it."""
    kinds, running = {"moltis": Moltis, "prosody": Prosody}, {}

    async def server(name: str):
        if name not in running:
            running[name] = kinds[name](tmp_path_factory.mktemp(f"{name}-scenarios") / "server", authority)
            await running[name].start()
        return running[name]

    yield server
    for started in running.values():
        await started.stop()


@pytest.mark.parametrize(("name", "script"), PLAYS, ids=[f"{name}-{script.path.stem}" for name, script in PLAYS])
async def test_scenario(playhouse, name, script):
    await Stage(await playhouse(name), script).play()
