"""Every time that a user can set has a test, with real processes, that shows what ends by it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.command import ON_A_CLUSTER, SUBCOMMANDS, options
from trainer.command.parsers import parsers_of, subcommands_of
from trainer.job import Job

TESTS = Path(__file__).parents[2]
WAITS = "integration/launcher/test_waits.py"
CLUSTER = "integration/deploy/test_cluster_commands.py"
COME_AND_GO = (WAITS, "who_comes_goes_and_falls_silent")
NOT_HANDED_OVER = (WAITS, "a_node_that_does_not_hand_over")
LEADERS = (
    "integration/rendezvous/test_replicas.py",
    "who_is_not_back_after_a_change_of_leader_is_lost",
)
SHOWN = {
    "elastic.wait": [
        (WAITS, "too_few_for_the_next_generation"),
        ("integration/launcher/test_waiting.py", "who_waits_in_vain_saves_and_leaves"),
    ],
    "elastic.join_timeout": [
        (WAITS, "too_few_for_the_first_generation"),
        ("integration/launcher/test_meeting.py", "a_service_that_never_comes_is_given_up"),
    ],
    "elastic.last_call": [COME_AND_GO],
    "elastic.grow_interval": [COME_AND_GO],
    "elastic.reconnect_grace": [COME_AND_GO],
    "elastic.beat_timeout": [COME_AND_GO],
    "elastic.interrupt_timeout": [(WAITS, "a_rank_that_hangs_and_does_not_come_out")],
    "elastic.hang_timeout": [(WAITS, "a_rank_that_hangs_and_does_not_come_out")],
    "elastic.collective_timeout": [(WAITS, "a_collective_that_nobody_joins")],
    "elastic.drain_grace": [NOT_HANDED_OVER],
    "elastic.probe.every": [(WAITS, "a_probe_that_says_so_at_its_second_look")],
    "faults[].seconds": [("chaos/training/test_rehearsals.py", "a_night_of_faults_costs_no_bits")],
    "kubernetes.grace_period": [
        (
            "integration/deploy/test_cluster_of_processes.py",
            "an_evicted_pod_that_does_not_go_is_killed",
        )
    ],
    "kubernetes.deadline": [
        ("integration/deploy/test_coordinator.py", "the_deadline_counts_from_the_first_agent")
    ],
    "--rdzv-conf boundary_timeout": [(WAITS, "a_boundary_that_is_not_reached")],
    "--rdzv-conf leader_grace": [LEADERS],
    "run --shutdown-timeout": [(WAITS, "a_script_that_does_not_leave")],
    "drain --grace": [NOT_HANDED_OVER],
    "rendezvous drain --grace": [NOT_HANDED_OVER],
    "rendezvous serve --lease": [LEADERS],
    "rendezvous serve --store-timeout": [
        ("integration/rendezvous/test_store_trouble.py", "a_port_that_is_silent")
    ],
    "submit --wait": [(CLUSTER, "a_start_that_takes_too_long_is_watched_no_longer")],
    "checkpoint prune --leftovers": [("integration/checkpoint/test_command.py", "prune")],
} | {
    f"{name} --timeout": [(CLUSTER, "a_slow_answer_is_waited_for_and_then_asked_for_again")]
    for name in ("submit", "status", "logs", "scale", "drain", "delete")
}
"""By key of the job, or flag: where its end is shown, and how the test's name begins."""
NOBODYS = {
    "run --monitor-interval": "has no effect, and says so",
    "kubernetes.ttl_after_finished": "the cluster itself waits, when nothing of ours is left",
}
REAL = ("integration/", "chaos/")
"""Where tests start processes."""


def durations(schema: dict[str, Any], definitions: dict[str, Any], at: str = "") -> Iterator[str]:
    """The keys of a schema, and of all that is in it, that are times."""
    if (reference := schema.get("$ref")) is not None:
        yield from durations(definitions[reference.rpartition("/")[2]], definitions, at)
    if "ms|s|m|h|d" in schema.get("pattern", ""):
        yield at
    for inner in (*schema.get("anyOf", ()), *schema.get("allOf", ())):
        yield from durations(inner, definitions, at)
    if isinstance(schema.get("items"), dict):
        yield from durations(schema["items"], definitions, f"{at}[]")
    for name, inner in schema.get("properties", {}).items():
        yield from durations(inner, definitions, f"{at}.{name}" if at else name)


def flags(parser: argparse.ArgumentParser, at: str) -> Iterator[str]:
    """The flags of a parser, and of its subcommands, that are times by kind or by name."""
    for action in parser._actions:
        for flag in action.option_strings:
            timed = "seconds_flag" in getattr(action.type, "__qualname__", "")
            named = flag.endswith(("timeout", "grace", "wait", "interval")) and action.nargs != 0
            if flag.startswith("--") and "_" not in flag and (timed or named):
                yield f"{at} {flag}"
    for name, inner in subcommands_of(parser).items():
        yield from flags(inner, f"{at} {name}")


def every_time() -> set[str]:
    schema = Job.model_json_schema()
    found = set(durations(schema, schema["$defs"]))
    # The others are keys of the job under the same name.
    conf = set(options.DURATIONS.values())
    found |= {f"--rdzv-conf {key}" for key in conf if f"elastic.{key}" not in found}
    for command in SUBCOMMANDS | ON_A_CLUSTER:
        for parser in parsers_of(command):
            found |= set(flags(parser, command))
    return found


def test_none_is_left_out() -> None:
    assert every_time() == SHOWN.keys() | NOBODYS.keys()


@pytest.mark.parametrize("key", SHOWN)
def test_what_shows_it_is_there(key: str) -> None:
    for path, name in SHOWN[key]:
        assert f"def test_{name}" in (TESTS / path).read_text(), path
    assert any(path.startswith(REAL) for path, _ in SHOWN[key])
