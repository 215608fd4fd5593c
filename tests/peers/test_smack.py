"""Smack's integration tests, which try a server from outside: none fails, and no fewer pass than there were."""

from pathlib import Path

import pytest

from smack import Outcome, Smack, SmackServer

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/xeps.md"
# As many as pass now: with a newer Smack, or a server that can do more, they become more.
AT_LEAST = 131
# They fail whatever the server does; docs/xeps.md says why.
NEVER = ["FileTransferIntegrationTest.fileTransferTest", "OmemoMamDecryptionTest.mamDecryptionTest"]
# It inherits the listeners that the one before it leaves behind.
ALONE = ["FileTransferIntegrationTest.ibbFileTransferTest"]
# They lose a race within Smack now and then, the last every other time. `MultiUserChat.enter` returns, or takes its
# listeners away, once the room has answered, but these run in another thread, and tests look at what they have seen.
# And `join` waits with a lock on the room that a listener of `leave` needs, for which nothing else is read meanwhile.
RACES = ["MultiUserChatOccupantIntegrationTest.mucJoinPresenceInformationTest",
         "MultiUserChatOccupantIntegrationTest.mucLeaveTest",
         "MultiUserChatOccupantIntegrationTest.mucMaxUsersLimitJoinRoomTest"]
TRIES = 8


@pytest.mark.limit(900)
@pytest.mark.timeout(1000)
async def test_smacks_integration_tests(authority, tmp_path, record_property):
    server = SmackServer(tmp_path / "server", authority)
    try:
        await server.start()
        outcome = await everything(Smack(tmp_path / "smack", authority, server))
    finally:
        await server.stop()
    record_property("summary", outcome.report())
    assert not outcome.failed, outcome.failed
    assert len(outcome.passed) >= AT_LEAST, f"{len(outcome.passed)} passed"
    explained = DOCUMENT.read_text()
    unexplained = [name for name in (*outcome.impossible, *NEVER) if f"`{name}`" not in explained]
    assert not unexplained, f"docs/xeps.md says nothing of {unexplained}"


async def everything(smack: Smack) -> Outcome:
    # Of a disabled method Smack 4.5.0-beta5 takes the whole class.
    disabled = {test.split(".")[0] for test in (*ALONE, *NEVER)}
    outcome = await smack.run("all", disabledTests=",".join(disabled))
    for test in ALONE:
        outcome.add(await smack.run(test, enabledTests=test))
    for number in range(TRIES):
        again = [test for test in outcome.failed if number == 0 or test in RACES]
        if not again:
            break
        enabled = {test.split(" ")[0] for test in again}
        # Who waits for what a lost race has taken need not wait long.
        outcome.add(await smack.run(f"again-{number}", enabledTests=",".join(enabled), replyTimeout="10000"))
    return outcome
