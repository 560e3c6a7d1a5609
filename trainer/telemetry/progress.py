"""The progress of a run: one live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.live import Live

PLAIN_INTERVAL_SECONDS = 5.0
SMOOTHING = 0.2
NO_CURSOR = ("dumb", "unknown")
"""Terminals in which no line can be written over: an editor's shell, for one."""


def duration(seconds: float) -> str:
    """`75` → `1:15`, `3700` → `1:01:40`."""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def amount(value: float) -> str:
    """`1234567` → `1.23M`."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def mesh_text(mesh: Mapping[str, int] | str | None) -> str:
    """`{"pp": 2, "dp_shard": 2, "tp": 1}` → `pp2×dp_shard2`; sizes of 1 are left out."""
    if not mesh:
        return ""
    if isinstance(mesh, str):
        return mesh
    sizes = [f"{name}{size}" for name, size in mesh.items() if size != 1]
    return "×".join(sizes) or "1 rank"


class Meter:
    """Turns step reports into one line. Pure: the time is an argument."""

    def __init__(self, total_steps: int | None) -> None:
        self.total_steps = total_steps
        self.mesh = ""
        self.generation = 0
        self._step_seconds: float | None = None
        self._last: Mapping[str, Any] = {}

    def step(self, record: Mapping[str, Any]) -> None:
        """Take in one applied step (the fields of metrics.jsonl)."""
        still = float(record.get("stood_still") or 0.0)
        seconds = max(0.0, float(record.get("step_seconds", 0.0)) - still)
        if self._step_seconds is None or record.get("generation") != self._last.get("generation"):
            self._step_seconds = seconds
        self._step_seconds += SMOOTHING * (seconds - self._step_seconds)
        self._last = record

    def line(self) -> str:
        """step, loss, tokens/s, mesh, generation, ETA: those that are known."""
        record = self._last
        if not record:
            return f"generation {self.generation}  {self.mesh}".rstrip()
        total = f"/{self.total_steps}" if self.total_steps else ""
        parts = [f"step {record['step']}{total}"]
        if record.get("loss") is not None:
            parts.append(f"loss {record['loss']:.4f}")
        if self._step_seconds and record.get("tokens"):
            parts.append(f"{amount(record['tokens'] / self._step_seconds)} tokens/s")
        if self.mesh:
            parts.append(self.mesh)
        parts.append(f"generation {self.generation}")
        if self._step_seconds and self.total_steps:
            left = max(0, self.total_steps - record["step"]) * self._step_seconds
            parts.append(f"ETA {duration(left)}")
        return "  ".join(parts)


class Progress:
    """Shows a `Meter` and notices. `stream` is where a person looks, usually stdout."""

    def __init__(
        self,
        stream: TextIO,
        *,
        total_steps: int | None = None,
        live: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.meter = Meter(total_steps)
        self._stream = stream
        self._clock = clock
        self._shown_at = float("-inf")
        self._live: Live | None = None
        if live and stream.isatty() and os.environ.get("TERM") not in NO_CURSOR:
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(file=stream), refresh_per_second=4)
            self._live.start()

    def step(self, record: Mapping[str, Any]) -> None:
        """One applied step."""
        first = not self.meter._last
        self.meter.step(record)
        now = self._clock()
        last = record["step"] == self.meter.total_steps
        if self._live is not None:
            self._live.update(self.meter.line())
        elif first or last or now - self._shown_at >= PLAIN_INTERVAL_SECONDS:
            self._shown_at = now
            self._write(self.meter.line())

    def notice(self, text: str) -> None:
        """A line that stays: a generation began, a worker was lost, a drain."""
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            self._write(text)

    def close(self) -> None:
        """Leave the last line on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _write(self, text: str) -> None:
        self._stream.write(text + "\n")
        self._stream.flush()
