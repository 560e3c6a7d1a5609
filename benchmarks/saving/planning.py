"""Plan the save of a model of a trillion parameters with AdamW over thousands of ranks."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from trainer.checkpoint.geometry import Box, Cut, local_parts
from trainer.checkpoint.plan import Group, assign, group_of


def planning(ranks: int = 4096) -> dict[str, float]:
    """Plan the save of a model of a trillion parameters with AdamW, as rank 0 does."""
    payloads = list(simulated_layouts(ranks))
    begin, worked = time.perf_counter(), time.process_time()
    layouts = [[group_of(row) for row in json.loads(text)] for text in payloads]
    plan = assign(layouts)
    answers = [json.dumps(groups) for groups in plan]
    cold, worked = time.perf_counter() - begin, time.process_time() - worked
    row = json.dumps([True, False, "", None])
    begin = time.perf_counter()
    agreed = all(json.loads(row)[0] for _ in range(ranks))
    cached = time.perf_counter() - begin
    assert agreed
    assert len(answers) == ranks
    return {"ranks": ranks, "seconds": cold, "cpu_seconds": worked, "cached_seconds": cached}


def simulated_layouts(ranks: int) -> Iterator[str]:
    stages, tensor, replicas = 16, 8, 2
    shards = ranks // (stages * tensor * replicas)
    dim, inner, vocab, layers, keys = 25600, 84480, 128256, 128, 2048
    column, row, whole = (
        (None, Cut(0, tensor), Cut(0)),
        (None, Cut(0), Cut(1)),
        (None, Cut(0), None),
    )
    kinds: dict[str, tuple[tuple[int, ...], Sequence[Cut | None]]] = {
        "attention_norm": ((dim,), whole),
        "ffn_norm": ((dim,), whole),
        "wq": ((dim, dim), column),
        "wk": ((keys, dim), column),
        "wv": ((keys, dim), column),
        "wo": ((dim, dim), row),
        "w1": ((inner, dim), column),
        "w2": ((dim, inner), row),
        "w3": ((inner, dim), column),
    }
    ends = {0: "tok_embeddings", stages - 1: "output"}
    mesh = (replicas, shards, tensor)
    for coordinate in itertools.product(*map(range, mesh)):
        boxes: dict[str, tuple[Box, ...]] = {
            kind: tuple(box for box, _ in local_parts(shape, mesh, coordinate, cuts))
            for kind, (shape, cuts) in kinds.items()
        }
        head = tuple(box for box, _ in local_parts((vocab, dim), mesh, coordinate, column))
        for stage in range(stages):
            span = range(stage * layers // stages, (stage + 1) * layers // stages)
            groups = [
                Group("float32", shape, boxes[kind], named(f"layers.{i}.{kind}" for i in span))
                for kind, (shape, _) in kinds.items()
            ]
            if stage in ends:
                groups.append(Group("float32", (vocab, dim), head, named([ends[stage]])))
            yield json.dumps(groups)


def named(weights: Any) -> tuple[str, ...]:
    forms = ("model/{}", "optim/{}/exp_avg", "optim/{}/exp_avg_sq")
    return tuple(form.format(weight) for weight in weights for form in forms)
