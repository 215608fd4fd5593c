"""Accepted keys that do nothing: each key of an account is set by some test of this folder, which sees its effect."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
TESTS = "\n".join(path.read_text() for path in HERE.glob("*.py") if path.name != Path(__file__).name)

# From configuration.md, [channels.xmpp.<id>] and the tables below it; `omemo` is refused in this version.
ACCOUNT = """enabled jid password resource server direct_tls tls_verify tls_ca_file auto_register component_secret
    rooms nick auto_join_invites dm_policy group_policy mention_mode reply_counts_as_mention allowlist group_allowlist
    operators pairing max_bot_rounds text_chunk_limit media_max_mb blocked_media_types upload_long_replies_over
    stream_mode edit_throttle_ms stream_min_initial_chars ack_reaction chat_states chat_markers styling history_limit
    model model_provider muc_rooms user_overrides registration_token""".split()
ROOM = "require_mention system_prompt skills users".split()
OTHER = """name avatar system_prompt_file message_queue_mode context_window max_output_tokens temperature
    turn_timeout_secs max_concurrent_turns mode threshold_percent protect_tail_min summary_model
    fallback_models cooldown_secs usd_per_day usd_per_jid_per_day tokens_per_jid_per_day turns_per_jid_per_minute
    turns_per_room_per_minute base_url kind models idle_timeout_secs headers search_paths auto_load level format""".split()


# `history_retention_days` needs a day to pass: it is tested with a paused clock, in the crate.


@pytest.mark.parametrize("key", ACCOUNT + ROOM + OTHER)
def test_every_key_of_an_account_has_a_test(key):
    assert re.search(rf"[\"']{key}[\"']\s*:|\b{key}=|\[[\"']{key}[\"']\]", TESTS), f"no test sets {key}"
