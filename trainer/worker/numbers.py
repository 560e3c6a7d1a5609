"""Which steps have bad numbers, and what is remembered to tell them.

It grows by verdicts alone and travels with the state, so every rank, also one that has just
taken another's place, comes to the same judgement.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Self

REMEMBERED_STEPS = 64
LEAST_STEPS = 8
"""Good steps that have to be known before one can stick out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """The last good steps' losses and norms, and what became of the bad ones.

    `skipped` counts the steps that updated nothing, `streak` those of them that came last in a
    row. `condemned` is the step (counted from 1) for which the state still has to go back,
    `passed_over` are the steps for which it has; `rollbacks` counts how often.
    """

    losses: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()
    skipped: int = 0
    streak: int = 0
    condemned: int | None = None
    passed_over: tuple[int, ...] = ()
    rollbacks: int = 0

    def judge(self, step: int, loss: float, norm: float, spike: float | None) -> str | None:
        """Why the step's update has to be left out; None for a good step.

        `spike` is how many times the running median loss and norm may be.
        """
        if step in self.passed_over:
            return "the state went back because of it"
        for name, value, before in (("loss", loss, self.losses), ("norm", norm, self.norms)):
            if not math.isfinite(value):
                return f"its {name} is {value}"
            usual = median(before) if len(before) >= LEAST_STEPS else 0.0
            if spike is not None and usual > 0 and value > spike * usual:
                return f"its {name} of {value:.4g} is {value / usual:.1f} × the usual {usual:.4g}"
        return None

    def after_good(self, loss: float, norm: float, *, remember: bool) -> Self:
        """A step was applied. Without `remember` nobody will ask what is usual."""
        losses, norms = (_newest(self.losses, loss), _newest(self.norms, norm))
        return replace(
            self, losses=losses if remember else (), norms=norms if remember else (), streak=0
        )

    def after_bad(self, step: int, *, condemn: bool) -> Self:
        """A step updated nothing; `condemn`: the state has to go back, once for each step."""
        again = step in self.passed_over
        return replace(
            self,
            skipped=self.skipped + 1,
            streak=self.streak + 1,
            condemned=step if condemn and not again else None,
        )

    def gone_back(self, before: Numbers) -> Self:
        """These numbers are an earlier version's; `before` are those that it went back from."""
        assert before.condemned is not None
        return replace(
            self,
            condemned=None,
            passed_over=tuple(sorted({*before.passed_over, before.condemned})),
            rollbacks=before.rollbacks + 1,
        )

    def acquitted(self) -> Self:
        """There was nothing to go back to."""
        return replace(self, condemned=None)

    def plain(self) -> dict[str, Any]:
        """As JSON; empty where nothing is remembered."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name in self.__slots__
            if (value := getattr(self, name))
        }

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Self:
        """From what `plain` gave."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in plain.items()
            if name in cls.__slots__
        }
        return cls(**known)


def latest(values: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Of the values that were kept beside one version: those of its last time around."""
    return max(values, key=lambda kept: int(kept.get("numbers", {}).get("rollbacks", 0)))


def _newest(values: tuple[float, ...], value: float) -> tuple[float, ...]:
    return (*values, value)[-REMEMBERED_STEPS:]
