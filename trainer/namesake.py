"""A user's file or folder called `trainer`, where it or our package can be had, but not both.

A plain script is not concerned: whatever it imports is its own affair. A worker never imports
`rendezvous`, so that a user's file of that name stands in nobody's way.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path

NAME = "trainer"
_SIGN = "channel.py"
"""In every copy of our package: one that PYTHONPATH leads to is no file of a user's."""


def namesake(path: Sequence[str]) -> Path | None:
    """What Python finds on `path` in place of our package; None where that is ours, or nothing.

    A folder without `__init__.py` counts where no package of that name is on the path: ours may
    be installed in a way that Python looks at later.
    """
    spec = PathFinder.find_spec(NAME, list(path))
    if spec is None:
        return None
    folders = list(spec.submodule_search_locations or ())
    found = Path(spec.origin if spec.has_location and spec.origin else folders[0])
    return None if (found.parent / _SIGN).exists() else found


def script_path(folder: str | Path, env: Mapping[str, str], installed: Sequence[str]) -> list[str]:
    """Where a script in `folder` looks for modules; `installed`: where every program here does."""
    first = [] if env.get("PYTHONSAFEPATH") else [str(folder)]
    listed = env.get("PYTHONPATH")
    return [*first, *(listed.split(os.pathsep) if listed else ()), *installed]


def hidden() -> str:
    """A sentence for whoever got our package and may have meant a file of theirs; else empty."""
    found = namesake(script_path(Path.cwd(), os.environ, ()))
    if found is None:
        return ""
    return f"{found} has the name of Remesh's own package `{NAME}`, and is not seen here; rename it"
