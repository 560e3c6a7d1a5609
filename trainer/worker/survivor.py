"""What a worker brings from the generation before: state, and perhaps a step that was agreed on.

A step commits with its verdict: who has it knows that every rank has whole gradients. So when
any survivor has it, applied or not, all survivors apply it here; when none has, all forget the
gradients. Either way they come out with one version.
"""

from __future__ import annotations

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
    if past is not None and past.version == version - 1 and past.gradients_whole:
        past.apply(verdict)
    return found


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
    version, (loss, norm, bad) = max(known, key=lambda found: found[0])
    return version, Verdict(loss=loss, norm=norm, bad=bad)


def _report(past: ModelState) -> dict[str, Any]:
    def plain(verdict: Verdict | None) -> list[float | str | None] | None:
        return None if verdict is None else [verdict.loss, verdict.norm, verdict.bad]

    return {
        "version": past.version,
        "verdict": plain(past.verdict),
        "made_by": plain(past.made_by),
    }
