"""Which layers lie on which pipeline stage."""

from __future__ import annotations

from itertools import accumulate, pairwise


def stage_layers(
    layers: int, stages: int, *, first_weight: float = 0.0, last_weight: float = 0.0
) -> tuple[range, ...]:
    """Cut `layers` blocks into `stages` runs of about equal weight, none of them empty.

    `first_weight` and `last_weight` are what the embedding and the head weigh, in layers. Of
    the stages between, later ones take the odd layers: earlier ones hold more microbatches.

    Raises:
        ValueError: there are fewer layers than stages.
    """
    if not 1 <= stages <= layers:
        raise ValueError(f"{layers} layers can't fill {stages} stages")
    if stages == 1:
        return (range(layers),)
    ideal = (layers + first_weight + last_weight) / stages
    between = stages - 2
    last = _within(round(ideal - last_weight), 1, layers - between - 1)
    first = (
        layers - last
        if not between
        else _within(round(ideal - first_weight), 1, layers - last - between)
    )
    counts = [first]
    if between:
        each, odd = divmod(layers - first - last, between)
        counts += [each + (1 if index >= between - odd else 0) for index in range(between)]
    counts.append(last)
    cuts = accumulate(counts, initial=0)
    return tuple(range(begin, end) for begin, end in pairwise(cuts))


def _within(value: int, low: int, high: int) -> int:
    return max(low, min(value, high))
