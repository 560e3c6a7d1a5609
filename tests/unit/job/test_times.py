"""Every time that a job may give has a test that shows what ends by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.job.elastic import ElasticSection, ProbeSection

TESTS = Path(__file__).parents[2]
SHOWN = {
    "wait": [
        ("unit/membership/test_drains.py", "a_job_that_all_have_left_stops_after_a_while"),
        ("unit/agent/test_patience.py", "a_service_that_never_answers_is_given_up"),
        ("integration/launcher/test_waiting.py", "who_waits_in_vain_saves_and_leaves"),
    ],
    "join_timeout": [
        ("unit/membership/test_forming.py", "too_few_nodes_wait_until_the_join_timeout"),
        ("unit/agent/test_patience.py", "a_service_that_never_answers_is_given_up"),
        ("integration/launcher/test_meeting.py", "a_service_that_never_comes_is_given_up"),
    ],
    "last_call": [("unit/membership/test_forming.py", "enough_nodes_wait_for_a_last_call")],
    "grow_interval": [
        ("unit/membership/test_growth.py", "growth_is_not_repeated_within_the_interval")
    ],
    "reconnect_grace": [
        ("unit/membership/test_losses.py", "a_broken_connection_is_believed_after_the_grace")
    ],
    "beat_timeout": [
        ("unit/membership/test_losses.py", "a_silent_node_is_lost_after_the_beat_timeout")
    ],
    "interrupt_timeout": [
        ("unit/agent/test_state.py", "a_worker_that_does_not_come_back_is_dumped_killed")
    ],
    "hang_timeout": [("unit/agent/test_hangs.py", "a_hang_ends_the_generation")],
    "collective_timeout": [
        ("unit/worker/test_forming.py", "a_store_that_does_not_answer_is_given_up")
    ],
    "drain_grace": [
        ("unit/membership/test_drains.py", "the_grace_ends_although_the_others_do_not_run")
    ],
    "probe.every": [("integration/launcher/test_notice.py", "a_file_that_appears")],
}
"""By key of `elastic`: where it is shown, and how the test's name begins."""


def durations() -> set[str]:
    keys = set()
    for section, prefix in ((ElasticSection, ""), (ProbeSection, "probe.")):
        for name, schema in section.model_json_schema()["properties"].items():
            kinds = schema.get("anyOf", [])
            if any("ms|s|m|h|d" in kind.get("pattern", "") for kind in kinds):
                keys.add(prefix + name)
    return keys


def test_none_is_left_out() -> None:
    assert durations() == SHOWN.keys()


@pytest.mark.parametrize("key", SHOWN)
def test_what_shows_it_is_there(key: str) -> None:
    for path, name in SHOWN[key]:
        assert f"def test_{name}" in (TESTS / path).read_text(), path
