"""What a run directory holds, as the audit sees it: one immutable value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import JobError
from trainer.job import Job, load
from trainer.outside.shapes import fits
from trainer.telemetry import RunDirectory
from trainer.telemetry.documents import METRIC, SUMMARY, checked_event
from trainer.telemetry.files import numbered_lines, read_document

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restore:
    """How a generation came by its state, as its ranks told: (source, version) of each."""

    generation: int
    told: frozenset[tuple[str, int]]

    @property
    def version(self) -> int:
        """What it went on from; the lowest where its ranks disagree."""
        return min(version for _source, version in self.told)

    @property
    def source(self) -> str:
        return ", ".join(sorted({source for source, _version in self.told}))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The job as it was resolved, the counted steps, what happened, and how it ended (if it has).

    `cut`: lines of metrics that can't be read or are not as they must be, by their number from 1.
    """

    root: Path
    job: Job
    metrics: Sequence[Line]
    events: Sequence[Line]
    summary: Line | None = None
    cut: Sequence[int] = ()

    @property
    def last_step(self) -> int:
        return max((int(line["step"]) for line in self.metrics), default=0)

    def begun(self) -> list[Line]:
        """Where each generation began, in the order of the file."""
        return [event for event in self.events if event.get("event") == "generation.begin"]

    def rolled_back(self) -> list[Line]:
        """Where a step's numbers made the run take back an earlier version."""
        return [event for event in self.events if event.get("event") == "state.rolled_back"]

    def steps_planned(self, step: int) -> int:
        """The `train.steps` by which `step` (from 1) was done: they may have grown since."""
        for event in self.events:
            if event.get("event") == "run.extended" and step <= int(event.get("step") or 0):
                return int(event["before"])
        return self.job.train.steps

    def committed(self) -> list[Line]:
        """Where a checkpoint became visible."""
        return self._saves("checkpoint.commit")

    def unsaved(self) -> list[Line]:
        """Where a save failed."""
        return self._saves("checkpoint.failed")

    def _saves(self, name: str) -> list[Line]:
        return [
            e for e in self.events if e.get("event") == name and isinstance(e.get("version"), int)
        ]

    def restores(self) -> list[Restore]:
        """By generation; those that nobody entered are left out."""
        told: dict[int, set[tuple[str, int]]] = {}
        for event in self.events:
            if event.get("event") == "state.restored":
                restored = str(event.get("source")), int(event.get("version") or 0)
                told.setdefault(int(event["generation"]), set()).add(restored)
        return [
            Restore(generation=number, told=frozenset(of_ranks))
            for number, of_ranks in sorted(told.items())
        ]


def read_record(root: Path) -> RunRecord:
    """Raises JobError when the directory holds no run, or one whose steps nobody counts."""
    directory = RunDirectory(root)
    if not directory.job.is_file():
        raise JobError(f"{root} holds no job.yaml; give the directory of a run")
    job = load(directory.job)
    try:
        lines = list(numbered_lines(directory.metrics))
        metrics = [line for _number, line in lines if fits(line, METRIC)]
        if not metrics:
            raise JobError(f"{root} has no counted step yet: there is nothing to audit")
        return RunRecord(
            root=root,
            job=job,
            metrics=metrics,
            events=list(_events(directory.events)),
            summary=read_document(directory.summary, SUMMARY),
            cut=[number for number, line in lines if not fits(line, METRIC)],
        )
    except ValueError as error:
        raise JobError(str(error)) from None


def _events(path: Path) -> Iterator[Line]:
    """What happened; a line that was cut short as its writer died is left out."""
    for number, value in numbered_lines(path):
        if value is not None:
            yield checked_event(value, f"{path}:{number}")
