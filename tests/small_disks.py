"""File systems of a few megabytes, seen by one command alone: full disks, containers' /dev/shm."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest


def on_small_disks(
    command: Sequence[str], disks: Mapping[Path, str], *, copied: Mapping[Path, Path] | None = None
) -> list[str]:
    """The command with a tmpfs of each size (`3m`) on each path, which nobody else sees.

    `copied`: what lies on them is to be had elsewhere once the command has ended.
    """
    lines = [
        f"mount -t tmpfs -o size={size} tmpfs '{path}' || exit 99" for path, size in disks.items()
    ]
    if copied:
        lines += ['"$@"', "code=$?"]
        lines += [f"cp -a '{there}/.' '{here}'" for there, here in copied.items()]
        lines += ["exit $code"]
    else:
        lines += ['exec "$@"']
    script = "\n".join(lines)
    return ["unshare", "--mount", "sh", "-c", script, "sh", *command]


@cache
def _refused() -> str:
    if shutil.which("unshare") is None:
        return "there is no unshare here"
    tried = subprocess.run(
        on_small_disks(["true"], {Path("/dev/shm"): "1m"}), capture_output=True, text=True
    )
    return "" if tried.returncode == 0 else f"no right to mount a tmpfs: {tried.stderr.strip()}"


needs_small_disks = pytest.mark.skipif(bool(_refused()), reason=_refused() or "they can be had")
