"""Run a reader over many inputs: whatever is no answer, and no error of its own, fails.

What a trial found is written to `REMESH_FUZZ_FIGURES`, where that is set: a line of JSON each.
"""

from __future__ import annotations

import json
import os
import random
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TypeVar

import pytest

PATIENCE = 60.0
"""Seconds for one input. What takes longer hangs: the slowest takes a fraction of one."""
T = TypeVar("T")
SHOWN = 3
"""Of the inputs that went wrong."""
MORE = 30
"""So many times the inputs, and others, in the slow suite."""
ROUNDS = pytest.mark.parametrize(
    "rounds", [pytest.param(1, id="few"), pytest.param(MORE, id="many", marks=pytest.mark.slow)]
)


class Hang(BaseException):
    """One input took longer than anybody would wait."""


def trial(
    name: str,
    make: Callable[[random.Random], T],
    read: Callable[[T], object],
    own: type[Exception] | tuple[type[Exception], ...],
    *,
    count: int,
    rounds: int,
) -> None:
    """`make` `count * rounds` inputs and `read` each.

    Raises AssertionError with the first inputs that went wrong.
    """
    seen: Counter[str] = Counter()
    wrong: list[str] = []
    first = 0 if rounds == 1 else count
    for index in range(first, first + count * rounds):
        rng = random.Random(f"{name}/{index}")
        given = make(rng)
        try:
            with _bounded():
                read(given)
            seen["read"] += 1
        except own:
            seen["refused"] += 1
        except Hang:
            seen["hangs"] += 1
            wrong.append(f"input {index} takes more than {PATIENCE:.0f} s: {given!r:.500}")
        except Exception:  # noqa: BLE001 - that there is any other is what is looked for
            seen["tracebacks"] += 1
            wrong.append(f"input {index}: {given!r:.500}\n{traceback.format_exc()[-1500:]}")
    figures = {"trial": name, "inputs": count * rounds, "tracebacks": 0, "hangs": 0} | dict(seen)
    if path := os.environ.get("REMESH_FUZZ_FIGURES"):
        with Path(path).open("a") as file:
            file.write(json.dumps(figures) + "\n")
    assert not wrong, f"{figures}\n" + "\n".join(wrong[:SHOWN])
    assert seen["refused"], f"nothing was wrong with any input: {figures}"


@contextmanager
def _bounded() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
