"""Which samples the counted steps used, computed anew from the job: each exactly once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trainer.audit.checks import Check, verdict
from trainer.audit.record import RunRecord
from trainer.data import Batches, Samples, open_batches, open_samples
from trainer.errors import JobError

MOST_ITEMS = 2_000_000


def check_order(record: RunRecord, pieces: int) -> Check:
    """The stream's sample numbers of all counted steps together: 0, 1, 2 … each once."""
    try:
        batches = open_batches(record.job, pieces=pieces)
    except (JobError, OSError) as error:
        return Check(name="order", status="skipped", text=f"the data can't be read here: {error}")
    problems = list(order_problems(batches, (int(line["step"]) for line in record.metrics), pieces))
    last = record.last_step * batches.samples_per_step - 1
    return verdict(
        "order", f"samples 0 to {last:,} of the stream, each once and in order", problems
    )


def order_problems(batches: Batches, steps: Iterable[int], pieces: int) -> Iterator[str]:
    """What is wrong with the sample numbers of these steps, in the order of the record."""
    expected = 0
    for step in steps:
        first = batches.indices(step - 1, 0).start
        if first != expected:
            yield f"step {step} takes samples from {first} on, and {expected} comes next"
        for piece in range(pieces):
            indices = batches.indices(step - 1, piece)
            if indices.start != first:
                yield f"piece {piece} of step {step} takes samples from {indices.start} on"
            first = indices.stop
        expected = first


def check_epochs(record: RunRecord, pieces: int) -> Check:
    """Within an epoch no item of the data is used twice, and a whole epoch uses all of them."""
    try:
        samples = open_samples(record.job)
        used = record.last_step * open_batches(record.job, pieces=pieces).samples_per_step
    except (JobError, OSError) as error:
        return Check(name="epochs", status="skipped", text=f"the data can't be read here: {error}")
    looked_at = min(used, MOST_ITEMS)
    size = samples.epoch_size
    text = f"{used / size:.2f} epochs of {size:,} items, none twice within one"
    if looked_at < used:
        text += f" (the first {looked_at:,} samples were looked at)"
    return verdict("epochs", text, epoch_problems(samples, looked_at))


def epoch_problems(samples: Samples, count: int) -> Iterator[str]:
    """What is wrong with the items that the first `count` samples stand for."""
    size = samples.epoch_size
    for first in range(0, count, size):
        last = min(first + size, count)
        seen = bytearray(size)
        for index in range(first, last):
            item = samples.item(index)
            if not 0 <= item < size:
                yield f"sample {index} is item {item}, of {size}"
                continue
            if seen[item]:
                yield f"item {item} is used twice in epoch {first // size}"
            seen[item] = 1
