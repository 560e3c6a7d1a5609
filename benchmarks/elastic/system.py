"""What every measured system can be asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from benchmarks.elastic.crew import Crew
from benchmarks.elastic.tail import Tail
from benchmarks.elastic.timeline import Stamp

Event = Literal["worker", "loss", "return", "drain"]
"""A worker's death, a node's loss, its return, and its leaving with notice."""

PEERS = Path(__file__).resolve().parents[1] / "peers"


class System(ABC):
    """One run of the job. Two nodes of two ranks; the second node is the one things happen to.

    All times are of the machine's monotonic clock.
    """

    events: ClassVar[Sequence[Event]] = ("worker", "loss", "return", "drain")
    """What it can live through."""

    def __init__(self, crew: Crew, job: Path, python: str) -> None:
        self.crew, self.job, self.python = crew, job, python
        self._tails: dict[Path, Tail] = {}

    @abstractmethod
    def start(self) -> None:
        """Begin; returns at once."""

    @abstractmethod
    def kill_worker(self) -> float:
        """SIGKILL one worker of the second node; when."""

    @abstractmethod
    def kill_node(self) -> float:
        """SIGKILL the second node and its workers; when."""

    def return_node(self) -> None:
        """Start the second node again."""
        raise NotImplementedError

    def drain_node(self) -> float:
        """Give the second node notice; when."""
        raise NotImplementedError

    def stamps(self) -> list[Stamp]:
        """The steps done so far, in any order."""
        return [Stamp(s["time"], s["step"], s["world"], s["epoch"]) for s in self._said()]

    def spare_ready(self) -> bool:
        """Whether what the system keeps in reserve is there."""
        return True

    def stages(self, at: float) -> dict[str, float] | None:
        """Where the time since `at` went, for a system that tells."""
        return None

    def _said(self) -> list[dict[str, Any]]:
        files = (self.crew.room / "steps").glob("*.jsonl")
        return [line for path in files for line in self._lines(path)]

    def _lines(self, path: Path) -> list[dict[str, Any]]:
        return self._tails.setdefault(path, Tail(path)).lines()

    def _pids(self) -> dict[int, int]:
        """The process that last did a step as each rank."""
        said = sorted(self._said(), key=lambda line: line["time"])
        return {line["rank"]: line["pid"] for line in said}
