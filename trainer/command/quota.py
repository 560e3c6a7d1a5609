"""How many processors a container may keep busy: its cgroups' quota of time, not what it can see.

A container with a quota of two processors on a machine of 64 sees all of them. As many workers as
it sees would stand still for most of every period.
"""

from __future__ import annotations

import math
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def quota(root: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Processors, rounded up to whole ones; None where nothing bounds them.

    `root` is where cgroups are mounted, of either version; `membership` says which are ours. Those
    above ours count as well: inside a container the way to the root may be cut, and the root be the
    container's own.
    """
    shares = [share for folder in _folders(root, membership) if (share := _share(folder))]
    return max(1, math.ceil(min(shares))) if shares else None


def _folders(root: Path, membership: Path) -> list[Path]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    found = [root, root / "cpu", root / "cpu,cpuacct"]
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number != "0" and "cpu" not in controllers.split(","):
            continue
        tops = [root] if number == "0" else [root / "cpu", root / controllers]
        parts = [part for part in path.split("/") if part]
        for top in tops:
            # Of a path that leads out of what is mounted here ("/..") the root is all there is.
            if ".." not in parts:
                found += [top.joinpath(*parts[:depth]) for depth in range(1, len(parts) + 1)]
    return found


def _share(folder: Path) -> float | None:
    """Processors that one cgroup may use; None for as many as there are."""
    try:
        first, _, period = (folder / "cpu.max").read_text().strip().partition(" ")
    except OSError:
        try:
            first = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not first.isdigit() or not period.isdigit() or int(first) == 0 or int(period) == 0:
        return None
    return int(first) / int(period)
