"""What ranks hold alike, and where what they say of it differs. Pure.

A rank's tensors fall into groups. Those of one group are held, part for part, by the same ranks,
so that one fingerprint speaks for all of them: two ranks that have a group of one signature have
the same parts of the same tensors. A plain tensor is whole on each rank that has it; a DTensor says
by its placements who else has its part; and where not all ranks have the same tensors, they tell
each other their names.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.distributed.tensor import DTensor

from trainer.checkpoint.fingerprint import digest_of
from trainer.checkpoint.tensors import LocalTensor

WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""What DDP, torch.compile, FSDP1 and checkpointing put into the names of what they wrap."""
SHOWN_CHARACTERS = 200
"""Of a name in a message; who wrote the model may have made it any length."""
SHOWN_NAMES = 3
"""Of things that differ: a network has hundreds of batch norms, all alike."""


@dataclass(frozen=True, slots=True)
class Named:
    """A tensor by what all ranks that have it have to say alike.

    `kind` is its element type and whole shape, `placed` how ranks share it out (empty: each has
    all of it); `loose` that it may have another value on each.
    """

    name: str
    kind: str
    placed: str
    loose: bool


@dataclass(frozen=True, slots=True)
class Group:
    """Tensors of a rank that the same ranks hold, in the state's order. See the module."""

    signature: str
    names: tuple[str, ...]
    loose: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Things of one group of which `other` has not what `rank` has: the first few, and how many.

    `group` is its signature; `loose`: they may differ.
    """

    group: str
    names: tuple[str, ...]
    count: int
    rank: int
    other: int
    loose: bool

    @property
    def shown(self) -> str:
        """The first one's name, as it can be shown."""
        return self.names[0][:SHOWN_CHARACTERS]


def named_tensors(tensors: Mapping[str, torch.Tensor], loose: Collection[str]) -> list[Named]:
    """In the state's order. `loose` names those that may differ."""
    return [
        Named(
            name=name,
            kind=f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}",
            placed=f"{tuple(tensor.device_mesh.shape)} {tensor.placements}"
            if isinstance(tensor, DTensor)
            else "",
            loose=name in loose,
        )
        for name, tensor in tensors.items()
    ]


def layout_signature(tensors: Sequence[Named]) -> str:
    """Equal on ranks that have tensors of the same names, kinds and placements."""
    return digest_of(sorted(rows_of(tensors)))


def rows_of(tensors: Sequence[Named]) -> list[list[Any]]:
    """As JSON."""
    return [[item.name, item.kind, item.placed, item.loose] for item in tensors]


def grouped(
    tensors: Sequence[Named],
    local: Mapping[str, LocalTensor],
    holders: Mapping[str, Sequence[int]],
) -> list[Group]:
    """This rank's groups. `holders` numbers, by name, the layouts that have a tensor, where there
    are several layouts; without it all ranks have all names."""
    groups: dict[tuple[bool, str, tuple[int, ...]], list[Named]] = defaultdict(list)
    for item in tensors:
        if local[item.name].parts:
            key = (item.loose, item.placed, tuple(holders.get(item.name, ())))
            groups[key].append(item)
    return [
        Group(
            signature=digest_of(
                sorted(
                    [item.name, item.kind, [part.box for part in local[item.name].parts]]
                    for item in of_key
                )
            ),
            names=tuple(item.name for item in of_key),
            loose=loose,
        )
        for (loose, _placed, _holders), of_key in groups.items()
    ]


def holders_of(layouts: Sequence[Sequence[Sequence[Any]]]) -> dict[str, list[int]]:
    """By name, the numbers of the layouts (as `rows_of` gives them) that have the tensor."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, layout in enumerate(layouts):
        for name, *_ in layout:
            found[name].append(number)
    return dict(found)


def layout_fault(layouts: Sequence[Sequence[Sequence[Any]]], ranks: Sequence[int]) -> str | None:
    """Why ranks of these layouts can't be training one model; None where they may.

    `ranks` has one rank of each layout. They may have different tensors, but not tensors of one
    name that are not the same, or the same model under other names.
    """
    seen: dict[str, tuple[list[Any], int]] = {}
    for rank, layout in zip(ranks, layouts, strict=True):
        for name, *kind in layout:
            known, first = seen.setdefault(name, (kind, rank))
            if known[:2] != kind[:2]:
                return (
                    f"{name[:SHOWN_CHARACTERS]} is {_described(known)} on rank {first} and "
                    f"{_described(kind)} on rank {rank}: build the same model, and shard it the "
                    "same way, on every rank"
                )
    names = [{row[0] for row in layout} for layout in layouts]
    bare = [{_unwrapped(name): name for name in sorted(of_layout)} for of_layout in names]
    for number, rank in enumerate(ranks):
        for short, name in bare[number].items():
            other = bare[0].get(short, name)
            if name not in names[0] and other not in names[number]:
                return (
                    f"rank {ranks[0]} has {other[:SHOWN_CHARACTERS]} where rank {rank} has "
                    f"{name[:SHOWN_CHARACTERS]}: wrap the model on every rank, or on none"
                )
    return None


def _described(kind: Sequence[Any]) -> str:
    return f"{kind[0]}, placed {kind[1]}" if kind[1] else str(kind[0])


def _unwrapped(name: str) -> str:
    """The name without what wrappers add to it."""
    paths = (path.split(".") for path in name.split("/"))
    return "/".join(".".join(word for word in path if word not in WRAPPERS) for path in paths)


def differing(rows: Sequence[Mapping[str, str]]) -> list[str]:
    """The signatures for which not all ranks that have one have one fingerprint.

    `rows[rank]`: its groups' fingerprints by their signatures.
    """
    found: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        for signature, fingerprint in row.items():
            found[signature].add(fingerprint)
    return [signature for signature, prints in found.items() if len(prints) > 1]


def held_once(rows: Sequence[Mapping[str, str]]) -> set[str]:
    """The signatures that a single rank has: there is nothing to compare them with."""
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        for signature in row:
            counts[signature] += 1
    return {signature for signature, count in counts.items() if count == 1}


def difference(
    details: Sequence[Mapping[str, str] | None], *, group: str, loose: bool
) -> Difference | None:
    """Where ranks differ that hold the same group; None where they don't.

    `details[rank]`: a digest of each thing, by name and in order; None for a rank that has not got
    the group. What only some of them name differs as well.
    """
    holders = [(rank, found) for rank, found in enumerate(details) if found is not None]
    if not holders:
        return None
    first, reference = holders[0]
    others: dict[str, int] = {}
    for rank, found in holders[1:]:
        for name in dict.fromkeys([*reference, *found]):
            if reference.get(name) != found.get(name):
                others.setdefault(name, rank)
    if not others:
        return None
    places = {name: place for place, name in enumerate(reference)}
    names = sorted(others, key=lambda name: places.get(name, len(places)))
    return Difference(
        group=group,
        names=tuple(names[:SHOWN_NAMES]),
        count=len(names),
        rank=first,
        other=others[names[0]],
        loose=loose,
    )


def split_settings(
    values: Mapping[str, Any], loose: Collection[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values by their paths, two keys deep: those that have to be alike, and the others."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= {f"{key}/{inner}": held for inner, held in value.items()}
        else:
            flat[key] = value
    strict = {name: value for name, value in flat.items() if name not in loose}
    return strict, {name: value for name, value in flat.items() if name in loose}


def digests(settings: Mapping[str, Any]) -> dict[str, str]:
    """Of each innermost value, by its path, as the user knows it."""
    return {
        path: digest_of(value)
        for name, setting in settings.items()
        for path, value in _leaves(name.removeprefix("own/"), setting)
    }


def _leaves(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and "~map" in value:  # as checkpoint/statedict.py writes dicts
        value = dict(value["~map"])
    if isinstance(value, Mapping) and value:
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and value:
        pairs = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        yield path, value
        return
    for key, inner in pairs:
        yield from _leaves(f"{path}/{key}", inner)
