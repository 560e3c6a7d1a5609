"""What ranks do in the tests of state dicts that are not alike on all of them."""

from __future__ import annotations

import random
import time
from typing import Any

import torch

import trainer.checkpoint as checkpoint
from trainer.errors import CheckpointError


def _odd(kind: str) -> Any:
    """Something that has no place in a checkpoint."""
    return {
        "a set": {1, 2},
        "a sparse tensor": torch.eye(2).to_sparse(),
        "strings": __import__("numpy").array(["s"]),
        "a key": {None: 1},
        "no values": torch.empty(2, device="meta"),
    }[kind]


def save_with_one_odd(rank: int, world: int, *, directory: str, kind: str) -> list[Any]:
    """Rank 1 alone has something that can't be saved. What each raises, and after how long."""
    state: dict[str, Any] = {"w": torch.ones(4), "x": torch.ones(1)}
    if rank == 1:
        state["x"] = _odd(kind)
    return _raised(lambda: checkpoint.save(directory, state, version=1))


def save_with_an_odd_version(rank: int, world: int, *, directory: str) -> list[Any]:
    """Rank 1 alone gives a version that is none."""
    state = {"w": torch.ones(4)}
    return _raised(lambda: checkpoint.save(directory, state, version=1 if rank != 1 else -1))


def load_with_one_odd(rank: int, world: int, *, directory: str) -> list[Any]:
    """Rank 1 alone gives a tensor that can't be filled."""
    checkpoint.save(directory, {"w": torch.ones(4)}, version=1)
    target = torch.zeros(1).expand(4) if rank == 1 else torch.zeros(4)
    return _raised(lambda: checkpoint.load(directory, {"w": target}))


def _raised(act: Any) -> list[Any]:
    began = time.monotonic()
    try:
        act()
    except CheckpointError as error:
        return [type(error).__name__, str(error), time.monotonic() - began]
    return ["nothing", "", time.monotonic() - began]


def differ(rank: int, world: int, *, directory: str) -> list[Any]:
    """Tensors and values that each rank has otherwise, and one that only two of them have."""
    state: dict[str, Any] = {
        "same": torch.arange(3_000_000.0),
        "big": torch.full((3_000_000,), float(rank)),
        "rng": torch.full((5_000,), rank, dtype=torch.uint8),
        "seed": rank,
    }
    if rank > 0:
        state["late"] = torch.full((3,), float(rank))
    checkpoint.save(directory, state, version=1)
    found = {name: torch.zeros_like(item) for name, item in state.items() if name != "seed"}
    found |= {"seed": None}
    found.setdefault("late", torch.zeros(3))
    checkpoint.load(directory, found)
    names = ("big", "rng", "late")
    return [found["seed"], *(sorted(set(found[name].tolist())) for name in names)]


def save_own(rank: int, world: int, *, directory: str) -> list[Any]:
    """What each rank has of its own: random numbers of two kinds, and a place in its data."""
    torch.manual_seed(100 + rank)
    random.seed(rank)
    own = checkpoint.PerRank(
        torch=torch.get_rng_state(), python=random.getstate(), place={"file": f"part-{rank}"}
    )
    checkpoint.save(directory, {"w": torch.ones(4), "own": own}, version=1)
    return [torch.rand(1).item(), random.random()]


def load_own(rank: int, world: int, *, directory: str) -> list[Any]:
    """The same again, on any number of ranks; what they would draw next, and what they lack."""
    torch.manual_seed(7)
    random.seed(7)
    own = checkpoint.PerRank(torch=torch.get_rng_state(), python=random.getstate(), place={})
    state = {"w": torch.zeros(4), "own": own}
    loaded = checkpoint.load(directory, state)
    assert loaded is not None
    assert state["w"].tolist() == [1.0] * 4
    torch.set_rng_state(own["torch"])
    random.setstate(own["python"])
    return [torch.rand(1).item(), random.random(), own["place"], list(loaded.missing)]
