"""A state dict taken apart into named tensors and plain values, and put together again.

It nests dicts, lists and tuples. Whatever holds a tensor is gone through key by key; what holds
none is a plain value, whose inner dicts have names of their own. What is wrapped in `PerRank` is
this rank's own, and has a name of its own on each rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from trainer.checkpoint.paths import SEPARATOR, child, decode_key, of_rank
from trainer.checkpoint.values import decode_plain, encode_plain, is_named_tuple
from trainer.errors import CheckpointError

JSON = Any
State = MutableMapping[Any, Any]


class PerRank(dict[Any, Any]):
    """A dict that each rank has of its own: random numbers' state, a loader's place.

    Loaded on another number of ranks, each takes what the rank of its number had, and keeps what
    it has where there was none.
    """


@dataclass(frozen=True, slots=True)
class Flat:
    """A state dict's tensors and plain values (as JSON), by name.

    `afterwards` is to be called once the tensors have been filled: it brings those into their place
    of which torch can't have a view.
    """

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    values: dict[str, JSON] = field(default_factory=dict)
    afterwards: list[Callable[[], None]] = field(default_factory=list)


def flatten(state: Mapping[Any, Any], *, rank: int = 0, fill: bool = False) -> Flat:
    """Take it apart. With `fill`, its tensors are to be written to. Raises CheckpointError."""
    if not isinstance(state, Mapping):
        raise CheckpointError(f"the state is a {type(state).__qualname__}, and has to be a dict")
    flat = Flat()
    for name, item in _leaves(None, state, rank):
        if isinstance(item, np.ndarray):
            flat.tensors[name] = _of_array(name, item, flat.afterwards, fill=fill)
        elif isinstance(item, torch.Tensor):
            if fill and _overlaps(item):
                raise CheckpointError(
                    f"{name!r} has several elements in one place of memory (an expanded tensor) "
                    "and can't be filled: give a clone() of it"
                )
            flat.tensors[name] = item
        else:
            flat.values[name] = encode_plain(name, item)
    return flat


def _leaves(prefix: str | None, item: Any, rank: int) -> Iterator[tuple[str, Any]]:
    if isinstance(item, PerRank):
        prefix = of_rank(prefix, rank)
    pairs = _pairs(prefix, item)
    if pairs is None:
        assert prefix is not None
        yield prefix, item
        return
    for key, inner in pairs:
        yield from _leaves(child(prefix, key), inner, rank)


def _pairs(prefix: str | None, item: Any) -> list[tuple[Any, Any]] | None:
    """What it is gone through by; None for a leaf."""
    if isinstance(item, Mapping):
        by_key = bool(item) or prefix is None
        if by_key and not isinstance(item, Counter):
            return list(item.items())
    elif isinstance(item, (list, tuple)) and holds_tensor(item):
        return list(enumerate(item))
    return None


def holds_tensor(item: Any) -> bool:
    """Whether there is a tensor in it, or something that is a rank's own."""
    if isinstance(item, PerRank):
        return True
    if isinstance(item, Mapping):
        return any(holds_tensor(inner) for inner in item.values())
    if isinstance(item, (list, tuple)):
        return any(holds_tensor(inner) for inner in item)
    return isinstance(item, (torch.Tensor, np.ndarray))


def _of_array(
    name: str, array: np.ndarray[Any, Any], afterwards: list[Callable[[], None]], *, fill: bool
) -> torch.Tensor:
    if fill and not array.flags.writeable:
        raise CheckpointError(f"{name!r} is a read-only array and can't be filled: give a copy()")
    native = array
    if not array.dtype.isnative or any(stride < 0 for stride in array.strides):
        native = array.astype(array.dtype.newbyteorder("="), order="C")
        afterwards.append(lambda: np.copyto(array, native))
    elif not array.flags.writeable:
        native = array.copy()  # torch warns of memory that could not be written to
    try:
        tensor = torch.from_numpy(native)
    except TypeError as error:
        raise CheckpointError(
            f"{name!r} is an array of {array.dtype}, which has no place in a checkpoint: save "
            "numbers, or strings in a list"
        ) from error
    return tensor


def _overlaps(tensor: torch.Tensor) -> bool:
    local = getattr(tensor, "_local_tensor", tensor)
    if local.layout is not torch.strided:
        return False
    strides = zip(local.shape, local.stride(), strict=True)
    return local.numel() > 0 and any(size > 1 and stride == 0 for size, stride in strides)


class Saved:
    """Plain values as they were saved, by name, and their subtrees."""

    def __init__(self, plain: Mapping[str, JSON]) -> None:
        self._root: dict[str, Any] = {}
        """Nested by the parts of the names; at the ends lie 1-tuples of JSON."""
        for name, value in plain.items():
            *parts, last = name.split(SEPARATOR)
            node = self._root
            for part in parts:
                node = node.setdefault(part, {})
            node[last] = (value,)

    def at(self, name: str) -> Any:
        """The value, or the dict of values, of that name. Raises KeyError."""
        node: Any = self._root
        for part in name.split(SEPARATOR):
            if not isinstance(node, dict):
                raise KeyError(name)
            node = node[part]
        return _rebuilt(node)


def _rebuilt(node: Any) -> Any:
    if isinstance(node, tuple):
        return decode_plain(node[0])
    return {decode_key(part): _rebuilt(inner) for part, inner in node.items()}


def missing_values(state: Mapping[Any, Any], saved: Saved, *, rank: int = 0) -> list[str]:
    """The names of the plain values that the state has and were not saved."""
    found: list[str] = []
    for name, value in _plain(None, state, rank):
        try:
            found += _keys_missing(name, value, saved.at(name))
        except KeyError:
            found.append(name)
    return found


def put_back(state: MutableMapping[Any, Any], saved: Saved, *, rank: int = 0) -> None:
    """Put the saved values where the state has plain ones; what was not saved stays.

    Dicts of plain values also get what they had when they were saved and have not now.
    """
    _filled(None, state, rank, saved)


def _plain(prefix: str | None, item: Any, rank: int) -> Iterator[tuple[str, Any]]:
    """The topmost of what holds no tensor, by name."""
    if isinstance(item, (torch.Tensor, np.ndarray)):
        return
    if prefix is not None and not holds_tensor(item):
        yield prefix, item
        return
    if isinstance(item, PerRank):
        prefix = of_rank(prefix, rank)
    for key, inner in item.items() if isinstance(item, Mapping) else enumerate(item):
        yield from _plain(child(prefix, key), inner, rank)


def _filled(prefix: str | None, item: Any, rank: int, saved: Saved) -> Any:
    """The item with the saved values in it: itself, but for what can't be changed."""
    if isinstance(item, (torch.Tensor, np.ndarray)):
        return item
    if prefix is not None and not holds_tensor(item):
        try:
            return _merged(item, saved.at(prefix))
        except KeyError:
            return item
    if isinstance(item, PerRank):
        prefix = of_rank(prefix, rank)
    if isinstance(item, tuple):
        parts = [_filled(child(prefix, n), inner, rank, saved) for n, inner in enumerate(item)]
        made: Any = type(item)
        return made._make(parts) if is_named_tuple(item) else tuple(parts)
    for key, inner in list(item.items()) if isinstance(item, Mapping) else list(enumerate(item)):
        put = _filled(child(prefix, key), inner, rank, saved)
        if put is not inner:
            item[key] = put
    return item


def _keys_missing(name: str, value: Any, found: Any) -> list[str]:
    if not isinstance(value, Mapping) or not isinstance(found, Mapping):
        return []
    missing = []
    for key, inner in value.items():
        if key not in found:
            missing.append(child(name, key))
        else:
            missing += _keys_missing(child(name, key), inner, found[key])
    return missing


def _merged(value: Any, found: Any) -> Any:
    if not isinstance(value, MutableMapping) or not isinstance(found, Mapping):
        return found
    for key, inner in found.items():
        value[key] = _merged(value[key], inner) if key in value else inner
    return value
