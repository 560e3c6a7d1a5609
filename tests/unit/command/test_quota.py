"""`--nproc-per-node auto` where a container may use fewer processors than it sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.command import slots
from trainer.command.quota import quota


def tree(root: Path, files: dict[str, str], membership: str) -> int | None:
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    (root / "membership").write_text(membership + "\n")
    return quota(root / "cgroup", root / "membership")


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({"cpu.max": "max 100000"}, "0::/", None),
        ({"cpu.max": "200000 100000"}, "0::/", 2),
        ({"cpu.max": "250000 100000"}, "0::/", 3),
        ({"cpu.max": "10000 100000"}, "0::/", 1),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 3),
        ({"a/cpu.max": "300000 100000", "a/b/cpu.max": "100000 100000"}, "0::/a/b", 1),
        ({"cpu.max": "200000 100000"}, "0::/../../other", 2),
        (
            {"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"},
            "4:memory:/x\n3:cpu,cpuacct:/a",
            4,
        ),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "1:cpu:/", None),
        ({"cpu.max": "what"}, "what", None),
        ({}, "0::/", None),
    ],
)
def test_the_tightest_quota_counts(
    tmp_path: Path, files: dict[str, str], membership: str, expected: int | None
) -> None:
    assert tree(tmp_path, files, membership) == expected


def test_auto_is_bounded_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(slots, "_accelerator_possible", lambda: False)
    for given, expected in ((2, 2), (100, 64), (None, 64)):
        monkeypatch.setattr(slots, "quota", lambda given=given: given)
        assert slots.worker_count("auto") == slots.worker_count("cpu") == expected
