"""What becomes of a save whose parts several ranks write: it waits, is committed, or ends. Pure.

A save ends as soon as it is known that a part will never come, or that nobody needs it any more:
who waited for the lost part of an old version would hold up what comes after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field

SHOWN = 8
"""As many ranks are named where more are missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What is known of one save, at the agent that is to commit it.

    `writers` are the ranks that owe a part, `there` those whose parts are durable, `failed` those
    of which it is known why they never will be. `waited` is for how many seconds nothing came,
    which may be `patience` at most; `whole_for`, for how many all parts have been there, which may
    be `turn` at most while an earlier save is on its way.
    """

    version: int
    writers: Set[int]
    there: Set[int]
    failed: Mapping[int, str] = field(default_factory=dict)
    newest: int = -1
    """The newest committed version."""
    earlier: bool = False
    """Whether a save that was asked for before is still on its way."""
    overtaken: bool = False
    """Whether its agent leaves, and has a later save to wait for."""
    given_up: bool = False
    """Whether parts are waited for no longer."""
    waited: float = 0.0
    patience: float = 0.0
    whole_for: float = 0.0
    turn: float = 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """For a part, or for its turn."""


@dataclass(frozen=True, slots=True)
class Commit:
    """All parts are there."""


@dataclass(frozen=True, slots=True)
class End:
    """It will not be committed. `for_good`: nobody else will do so either, and its files may go."""

    reason: str
    for_good: bool


def fate(parts: Parts) -> Wait | Commit | End:
    """What follows from what is known now."""
    missing = sorted(parts.writers - parts.there)
    if not missing:
        held = parts.earlier and not (parts.overtaken or parts.given_up)
        return Wait() if held and parts.whole_for < parts.turn else Commit()
    hopeless = [parts.failed[rank] for rank in missing if rank in parts.failed]
    if hopeless:
        return End("; ".join(hopeless[:3]), for_good=True)
    if parts.newest > parts.version:
        told = f"no part came from rank {_named(missing)} before version {parts.newest}"
        return End(f"{told} was committed", for_good=True)
    if parts.overtaken or parts.given_up or parts.waited > parts.patience:
        # The others may still write theirs, and whoever opens the directory next commits it then.
        return End(f"no part came from rank {_named(missing)}", for_good=False)
    return Wait()


def _named(ranks: list[int]) -> str:
    return ", ".join(map(str, ranks[:SHOWN])) + (" …" if len(ranks) > SHOWN else "")
