"""The command that starts a run again, word for word as it can be typed."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

FRESH = "--fresh"
SHORTEST = len("--fr")
"""argparse takes any beginning of a flag that is no other flag's."""


def command_again(program: Sequence[str], arguments: Sequence[str], target: str) -> str:
    """`program run arguments` without --fresh, quoted for a shell.

    What follows `target` where it is a script is the script's own, and stays as it is.
    """
    words = list(arguments)
    end = len(words) if target.endswith((".yaml", ".yml")) else words.index(target)
    ours = [word for word in words[:end] if not _says_fresh(word)]
    return shlex.join([*program, "run", *ours, *words[end:]])


def as_typed() -> list[str]:
    """How this process was called: `remesh`, a path to it, or Python and a module."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return [sys.executable, "-m", "trainer.command"]
    found = shutil.which(called.name)
    known = found is not None and Path(found).resolve() == called.resolve()
    return [called.name if known else str(called)]


def _says_fresh(word: str) -> bool:
    return len(word) >= SHORTEST and FRESH.startswith(word)
