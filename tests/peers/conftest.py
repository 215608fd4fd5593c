"""Fixtures: the server of a worker, and a fresh world for each test."""

import asyncio
import functools
import inspect
import logging
import os
import traceback
from pathlib import Path

import pytest
import pytest_asyncio

import attack
from browser import Browser
from demo import Demo
from ejabberd import Ejabberd
from hostile import HostileServer
from lab import PAIRS, Lab, Peer
from models import Model
from moltis import Moltis
from prosody import Prosody
from scene import PASSWORD, USER, Scene
from servers import Authority
from world import World

# slixmpp leaves tasks behind when it disconnects, and asyncio says so of each.
logging.getLogger("asyncio").setLevel(logging.CRITICAL)

HERE = Path(__file__).parent
# Seconds for one test; `@pytest.mark.limit` for those that need more.
LIMIT = 120
SERVERS = {"prosody": Prosody, "ejabberd": Ejabberd}
# How many tests the workers of pytest-xdist have.
COLLECTED = pytest.StashKey[int]()


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest_asyncio.fixture(scope="session", params=list(SERVERS))
async def server(request, tmp_path_factory, authority):
    """A running server: each test that asks for it runs on both."""
    for last in (False, True):
        server = SERVERS[request.param](tmp_path_factory.mktemp(request.param) / "server", authority)
        try:
            await server.start()
            break
        except RuntimeError:
            # Hundreds of tests are not to fail because somebody took one of its ports just now.
            await server.stop()
            if last:
                raise
    try:
        yield server
    finally:
        await server.stop()


@pytest_asyncio.fixture
async def world(server, tmp_path):
    world = World(server, tmp_path)
    try:
        yield await world.start()
    finally:
        await world.close()


@pytest_asyncio.fixture
async def scene(authority, tmp_path):
    server = await HostileServer(authority.issue("hostile", ["localhost"]), USER, PASSWORD).start()
    model = Model()
    await model.start()
    scene = Scene(server, model, tmp_path, authority)
    try:
        yield scene
    finally:
        await asyncio.to_thread(scene.bot.end)
        await server.stop()
        await model.stop()
        assert server.fault is None, repr(server.fault)


@pytest_asyncio.fixture(scope="session")
async def laboratory(tmp_path_factory, authority):
    lab = Lab(tmp_path_factory.mktemp("lab"), authority)
    try:
        yield await lab.start()
    finally:
        await lab.close()


@pytest_asyncio.fixture
async def lab(laboratory):
    """Servers that federate; what a test changes of their network is mended after it."""
    yield laboratory
    await laboratory.leave()


def pytest_generate_tests(metafunc):
    """A test with `pair` runs with each pair of servers that federate, in each order."""
    if "pair" in metafunc.fixturenames:
        metafunc.parametrize("pair", PAIRS, ids="-".join, indirect=True)


@pytest_asyncio.fixture
async def pair(request, lab) -> list[Peer]:
    """Two servers that run."""
    return list(await asyncio.gather(*(lab.peer(label) for label in request.param)))


@pytest_asyncio.fixture(scope="session")
async def attacked(tmp_path_factory, authority):
    """One for all attacks of a worker: what one of them breaks, the next notices. Nothing is slowed down."""
    limits = {"c2s_bytes_per_second": 0, "connections_per_ip": 100_000, "login_failures_per_ip": 1_000_000,
              "sessions_per_user": 10_000}
    server = Moltis(tmp_path_factory.mktemp("attacked") / "server", authority, {"xmpp_server": {"limits": limits}})
    await server.start()
    try:
        for user in (attack.MALLORY, attack.ALICE):
            await server.add_user(user, attack.PASSWORD)
        yield server
    finally:
        await server.stop()


@pytest_asyncio.fixture
async def attacked_server(attacked):
    """After each attack somebody honest, who was there all the time, is still served, and nothing has panicked."""
    honest = await attack.Wire(attacked, "tls").bound(attack.ALICE)
    noted = len(attacked.log())
    yield attacked
    await honest.ping()
    honest.cut()
    assert attacked.process.poll() is None, attacked.log()[-3000:]
    said = attacked.log()[noted:]
    assert "panicked" not in said and "ERROR" not in said, said[-3000:]


@pytest_asyncio.fixture
async def demo(tmp_path):
    demo = Demo(tmp_path / "demo")
    try:
        yield await demo.start()
    finally:
        await demo.stop()


@pytest_asyncio.fixture
async def browsers(tmp_path):
    """Opens browsers, each with a profile of its own."""
    opened = []

    async def browser() -> Browser:
        opened.append(Browser(tmp_path / f"browser-{len(opened)}"))
        return await opened[-1].start()

    yield browser
    for browser in opened:
        await browser.stop()


def pytest_collection_modifyitems(items):
    """A test that takes too long is cancelled like any coroutine: a signal would leave its task in the loop of the session."""
    for item in items:
        if inspect.iscoroutinefunction(item.obj):
            marker = item.get_closest_marker("limit")
            item.obj = limited(item.obj, marker.args[0] if marker else LIMIT)
        # One worker has the machines and the servers on them.
        if "lab" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("lab"))


def limited(test, seconds: float):
    @functools.wraps(test)
    async def run(*arguments, **named):
        try:
            async with asyncio.timeout(seconds) as limit:
                return await test(*arguments, **named)
        except TimeoutError:
            if limit.expired():
                raise AssertionError(f"not done within {seconds} s") from None
            raise
    return run


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows our frames alone, what the bots logged and what the model was asked."""
    report = (yield).get_result()
    if report.failed and call.excinfo is not None:
        frames = [frame for frame in traceback.extract_tb(call.excinfo.tb) if Path(frame.filename).parent == HERE]
        error = traceback.format_exception_only(call.excinfo.value)
        report.longrepr = "".join(traceback.format_list(frames) + error)
    lab = getattr(item, "funcargs", {}).get("lab")
    if report.when == "call" and report.failed and isinstance(lab, Lab):
        report.sections.append(("the servers", lab.report()))
    world = getattr(item, "funcargs", {}).get("world")
    if report.when == "call" and report.failed and isinstance(world, World):
        report.sections.append(("the bots and the model", world.report()))


def pytest_terminal_summary(terminalreporter):
    """What tests have to tell; and nothing is skipped: a skipped test is a failed run."""
    for report in (*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])):
        for name, text in report.user_properties:
            if name == "summary":
                terminalreporter.write_line(text)
    if terminalreporter.stats.get("skipped") and not os.environ.get("PYTEST_XDIST_WORKER"):
        terminalreporter.write_line("Tests were skipped; that counts as a failure.", red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished(node, ids):
    """Each worker collects all tests; the process that hands them out collects none."""
    node.config.stash[COLLECTED] = len(ids)


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("PYTEST_XDIST_WORKER"):
        return
    if reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    elif path := os.environ.get("PEERS_FAILED"):
        write_failed(Path(path), session, reporter.stats)


def write_failed(path: Path, session, stats: dict) -> None:
    """For `run`, which gives these another chance: only where every test has run."""
    failed = {report.nodeid for outcome in ("failed", "error") for report in stats.get(outcome, [])}
    ran = failed | {report.nodeid for report in stats.get("passed", [])}
    if len(ran) == session.config.stash.get(COLLECTED, session.testscollected):
        # pytest-xdist writes the group of a test behind its name.
        path.write_text("".join(f"{name.removesuffix('@lab')}\n" for name in sorted(failed)))
