"""The audit's checks over a record. Pure: each takes the record and returns what it found."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from trainer.audit.record import RunRecord
from trainer.job.learning_rate import learning_rate

SHOWN = 5
RATE_TOLERANCE = 1e-12
Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer. `problems` are empty unless it failed."""

    name: str
    status: Status
    text: str
    problems: tuple[str, ...] = ()


def verdict(name: str, text: str, problems: Iterable[str]) -> Check:
    """Failed when there is a problem, else ok with `text`."""
    found = list(problems)
    if not found:
        return Check(name=name, status="ok", text=text)
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return Check(name=name, status="failed", text=found[0], problems=(*found[:SHOWN], *more))


def check_steps(record: RunRecord) -> Check:
    """Every step from 1 to the last is counted once, in order, and the run ended where it says."""
    steps = [int(line["step"]) for line in record.metrics]
    counts = Counter(steps)
    problems = [f"line {number} of metrics.jsonl can't be read" for number in record.cut]
    problems += [f"step {step} is none: the first is step 1" for step in counts if step < 1]
    problems += [f"step {step} is counted {n} times" for step, n in counts.items() if n > 1]
    problems += _gaps(sorted(counts))
    problems += [
        f"step {after} comes after step {before}"
        for before, after in pairwise(steps)
        if after < before
    ]
    train, summary, last = record.job.train, record.summary, record.last_step
    if last > train.steps:
        problems.append(f"step {last} is past train.steps ({train.steps})")
    if summary is not None and summary.get("status") == "completed" and last != train.steps:
        problems.append(f"the run says it completed, at step {last} of {train.steps}")
    return verdict("steps", f"1 to {last}, each once and in order", problems)


def _gaps(steps: Sequence[int]) -> list[str]:
    found = []
    expected = 1
    for step in steps:
        if step > expected:
            missing = f"step {expected}" if step == expected + 1 else f"steps {expected}–{step - 1}"
            found.append(f"{missing} {'is' if step == expected + 1 else 'are'} missing")
        expected = step + 1
    return found


def check_tokens(record: RunRecord, pieces: int) -> Check:
    """Every step used the whole global batch."""
    train = record.job.train
    samples = pieces * train.microbatches * train.samples_per_microbatch(pieces)
    tokens = samples * record.job.data.seq_len
    problems = [
        f"step {line['step']} counts {line.get('tokens')} tokens, not {tokens}"
        for line in record.metrics
        if line.get("tokens") != tokens
    ]
    told = f"{samples:,} samples, {tokens:,} tokens a step; {tokens * len(record.metrics):,} in all"
    return verdict("batch", told, problems)


def check_learning_rate(record: RunRecord) -> Check:
    """Every step had the learning rate of its number."""
    problems = []
    for line in record.metrics:
        step = int(line["step"])
        if step < 1:
            continue  # No schedule has a rate for it; that it is there is said already.
        train = record.job.train.model_copy(update={"steps": record.steps_planned(step)})
        due = learning_rate(train, step - 1)
        rate = line.get("lr")
        if not isinstance(rate, float) or not math.isclose(rate, due, rel_tol=RATE_TOLERANCE):
            problems.append(f"step {line['step']} has learning rate {rate}, the schedule {due!r}")
    return verdict("learning rate", "of each step as the schedule has it", problems)


def check_generations(record: RunRecord) -> Check:
    """Generations only grow, and every step is of one that began, with ranks that it had."""
    begun = record.begun()
    numbers = [int(event["generation"]) for event in begun]
    problems = [
        f"generation {after} begins after generation {before}"
        for before, after in pairwise(numbers)
        if after <= before
    ]
    worlds = {int(event["generation"]): int(event.get("world_size") or 0) for event in begun}
    last = 0
    for line in record.metrics:
        step, number = line["step"], int(line.get("generation") or 0)
        if number < last:
            problems.append(f"step {step} is of generation {number}, the one before of {last}")
        if number not in worlds:
            problems.append(f"step {step} is of generation {number}, which never began")
        elif int(line.get("world_size") or 0) > worlds[number]:
            problems.append(
                f"step {step} has {line.get('world_size')} ranks, generation {number} has "
                f"{worlds[number]}"
            )
        last = max(last, number)
    starts = sum(event.get("event") == "run.begin" for event in record.events)
    text = f"{len(numbers)}, in {starts} start{'s' * (starts != 1)}, and each step is of one"
    return verdict("generations", text, problems)


def _counted_before(record: RunRecord, generation: int) -> int:
    """The last step that was counted when the generation began to train.

    A generation begins by telling again of the step before it, as the node that would have written
    it down may be the one that was lost; such a line has taken no time.
    """
    return max(
        (
            int(line["step"])
            for line in record.metrics
            if int(line.get("generation") or 0) < generation
            or (line.get("generation") == generation and line.get("step_seconds") == 0.0)
        ),
        default=0,
    )


def check_restores(record: RunRecord) -> Check:
    """Every generation went on from a version that the record reaches: nothing was left out.

    A step that was done again after going back is lost, and counted where it was done first.
    """
    problems, told = [], []
    least = most = 0
    restores = record.restores()
    for index, restore in enumerate(restores):
        if len(restore.told) > 1:
            words = ", ".join(f"{version} ({source})" for source, version in sorted(restore.told))
            problems.append(f"generation {restore.generation} began from several versions: {words}")
        last = _counted_before(record, restore.generation)
        if restore.version > last:
            problems.append(
                f"generation {restore.generation} went on from version {restore.version}, and "
                f"before it the steps up to {last} are counted"
            )
        if restore.version < last:
            reached = record.last_step
            if index + 1 < len(restores):
                reached = restores[index + 1].version
            least += max(0, min(last, reached) - restore.version)
            most += last - restore.version
            told.append(f"generation {restore.generation} went back {last - restore.version}")
    for event in record.rolled_back():
        # A job that goes back because of a step's numbers does so within a generation.
        most += int(event["step"]) - int(event["version"])
        told.append(f"step {event['step']} took the run back to version {event['version']}")
    lost = None if record.summary is None else record.summary.get("lost_steps")
    if isinstance(lost, int) and not least <= lost <= most:
        bounds = f"{least}" if least == most else f"{least} to {most}"
        problems.append(f"the summary says that {lost} steps were lost; the restores say {bounds}")
    text = "each generation went on from the last counted step"
    if told:
        text = f"{'; '.join(told)}: lost steps, counted once"
    return verdict("restores", text, problems)


def check_saves(record: RunRecord) -> Check:
    """No save has failed after the newest checkpoint: what was to outlive the run does.

    One that failed on the way is mended by the next that did not.
    """
    newest = max((int(event["version"]) for event in record.committed()), default=-1)
    failed = [event for event in record.unsaved() if int(event["version"]) > newest]
    have = f"the newest checkpoint is of version {newest}" if newest >= 0 else "there is none"
    problems = [
        f"version {event['version']} is not saved ({have}): {event.get('error')}"
        for event in failed[-1:]
    ]
    text = have if newest >= 0 else "none was made"
    return verdict("saves", text, problems)
