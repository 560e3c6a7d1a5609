"""What a worker brings from the generation before: state, and perhaps a step that was agreed on.

A step commits with its verdict: who has it knows that every rank has whole gradients. So when
any survivor has it, applied or not, all survivors apply it here; when none has, all forget the
gradients. Either way they come out with one version. A verdict is about the gradients of one
generation: who comes back after having been given up holds others, and applies nothing.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from trainer.checkpoint.exchange import Exchange
from trainer.worker.ballot import Verdict
from trainer.worker.state import ModelState


def roll_forward(past: ModelState | None, exchange: Exchange) -> tuple[int, Verdict] | None:
    """Bring all survivors to one version; collective over all ranks, with or without a past.

    Returns that version and the verdict that made it, where some survivor knows it.
    """
    reports = exchange.all_gather(None if past is None else _report(past))
    found = newest_verdict([report for report in reports if report is not None])
    if found is None:
        return None
    version, verdict = found
    if past is not None and _waits_for(past, version, verdict):
        past.apply(verdict)
    return found


def _waits_for(past: ModelState, version: int, verdict: Verdict) -> bool:
    """Whether the verdict is about the gradients that it holds."""
    next_one = (past.version + 1, past.generation)
    return past.gradients_whole and next_one == (version, verdict.generation)


def newest_verdict(reports: list[dict[str, Any]]) -> tuple[int, Verdict] | None:
    """The newest version that a verdict makes or made, and that verdict. Pure."""
    known = [
        (report["version"] + ahead, report[key])
        for report in reports
        for key, ahead in (("verdict", 1), ("made_by", 0))
        if report[key] is not None
    ]
    if not known:
        return None
    version, verdict = max(known, key=lambda found: (found[0], found[1]["generation"]))
    return version, Verdict(**verdict)


def _report(past: ModelState) -> dict[str, Any]:
    def plain(verdict: Verdict | None) -> dict[str, Any] | None:
        return None if verdict is None else asdict(verdict)

    return {
        "version": past.version,
        "verdict": plain(past.verdict),
        "made_by": plain(past.made_by),
    }
