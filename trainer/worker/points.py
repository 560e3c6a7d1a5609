"""The named points of a step: where a generation may end, and where a fault may strike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.job import Fault
from trainer.worker.faults import POINTS, Faults, Here
from trainer.worker.seat import Seat


class Points:
    """Called with the name of each point that a step passes.

    `version` tells the state's; `poison` makes a gradient not a number.
    """

    def __init__(
        self,
        seat: Seat,
        faults: Sequence[Fault],
        *,
        seed: int,
        version: Callable[[], int],
        poison: Callable[[], None],
    ) -> None:
        self._seat = seat
        self._version = version
        self._faults: Faults | None = None
        if faults:
            self._faults = Faults(
                faults,
                seed=seed,
                marks=Path(seat.order.run_directory) / "faults",
                poison=poison,
                disconnect=seat.interruption.disconnect,
            )

    def __call__(self, point: str) -> None:
        """Raise GenerationOver if the generation has ended."""
        self._seat.check()
        self.strike(point)

    def strike(self, point: str) -> None:
        """Let a fault strike where the generation must not end."""
        if self._faults is not None:
            self._faults.at(self._here(point))

    def _here(self, point: str) -> Here:
        return Here(
            rank=self._seat.rank,
            world_size=self._seat.size,
            node=self._seat.order.node,
            generation=self._seat.generation,
            step=self._version() + (0 if point in ("applied", "saving") else 1),
            point=POINTS[point],
        )
