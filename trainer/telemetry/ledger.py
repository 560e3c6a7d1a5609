"""Which steps counted: one line a step, steps done twice, and what the time was spent on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trainer.telemetry.shares import Shares
from trainer.telemetry.standstill import Standstill, StepTime

METRIC_FIELDS = (
    "step",
    "loss",
    "grad_norm",
    "lr",
    "tokens",
    "step_seconds",
    "cpu_seconds",
    "waited_seconds",
    "stood_still",
    "generation",
    "world_size",
    "time",
)
HEAD_FIELDS = ("type", "again")
REMEMBERED_STEPS = 256


@dataclass(slots=True)
class Ledger:
    """Pure: what was written so far decides what a report of a step means.

    The agent of rank 0 writes the lines. Another agent may take its place in any generation,
    so every agent remembers the last steps its own workers reported: a step that was applied
    everywhere while its writer died is written by the next one.
    """

    last_step: int = 0
    lost_steps: int = 0
    tokens: int = 0
    counted_seconds: float = 0.0
    last_loss: float | None = None
    seen_still: float = 0.0
    """Seconds in which the writers' nodes saw that they stood still, within steps or not."""
    _within: float = 0.0
    """Seconds of that which the lines tell of: they lay within steps that count."""
    _standstill: Standstill = field(default_factory=Standstill)
    """In which of the counted steps the run stood still."""
    _remembered: dict[int, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def resume(cls, lines: Iterable[Mapping[str, Any]]) -> Ledger:
        """Carry on from the lines of an existing metrics file."""
        ledger = cls()
        for line in lines:
            ledger._count(line)
        return ledger

    def renewed(self, lines: Iterable[Mapping[str, Any]]) -> Ledger:
        """Another agent has written meanwhile: its lines, and our own memory of steps.

        What the lines do not tell stays as we know it.
        """
        ledger = Ledger.resume(lines)
        ledger._remembered = self._remembered
        ledger.lost_steps, ledger.seen_still = self.lost_steps, self.seen_still
        return ledger

    def remember(self, record: Mapping[str, Any]) -> None:
        """Keep a local worker's report of a step in case its writer is lost."""
        if "loss" in record:
            self._remembered[record["step"]] = dict(record)
            self._remembered.pop(record["step"] - REMEMBERED_STEPS, None)

    def offer(self, record: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The lines to append for a step that rank 0 reported as applied, in step order.

        Empty when the step was done before; it is then counted as lost, unless the record only
        tells of the same step `again`.
        """
        step = record["step"]
        if step <= self.last_step:
            self.lost_steps += not record.get("again", False)
            return []
        missing = range(self.last_step + 1, step)
        records = [self._remembered[k] for k in missing if k in self._remembered]
        lines = [
            {name: line[name] for name in METRIC_FIELDS if name in line}
            | {
                name: value
                for name, value in line.items()
                if name not in (*METRIC_FIELDS, *HEAD_FIELDS)
            }
            for line in (*records, dict(record))
        ]
        for line in lines:
            self._count(line)
        return lines

    def shares(self, wall_seconds: float) -> Shares:
        """What became of `wall_seconds`, in which the run was up."""
        return Shares.of(
            wall_seconds,
            counted=self.counted_seconds,
            inside=self._standstill.seconds,
            between=max(0.0, self.seen_still - self._within),
        )

    def tokens_per_second(self, wall_seconds: float) -> float:
        """Tokens of the counted steps over all of the time."""
        return self.tokens / wall_seconds if wall_seconds > 0 else 0.0

    def _count(self, line: Mapping[str, Any]) -> None:
        self.last_step = max(self.last_step, int(line.get("step") or 0))
        self.tokens += int(line.get("tokens") or 0)
        time = StepTime.of(line)
        self.counted_seconds += time.seconds
        self._within += time.seen
        self._standstill.add(time)
        loss = line.get("loss")
        self.last_loss = float(loss) if loss is not None else self.last_loss
