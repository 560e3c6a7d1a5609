"""Anyone's state dict: nested dicts and lists of tensors and plain values, and back.

A tensor's or value's name is the path to it, its keys joined by `/`. In a key, `~` is written
`~0`, `/` is `~1`, and the integer 3 is `~i3`, so that no two paths share a name.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from trainer.checkpoint.checkpointer import Checkpointer
from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.keep import Keep
from trainer.checkpoint.results import Commit, Loaded
from trainer.errors import CheckpointError, CheckpointMismatch

JSON = Any
PLAIN = "plain"
State = MutableMapping[Any, Any]


def save(
    directory: str | os.PathLike[str],
    state: Mapping[Any, Any],
    *,
    version: int = 0,
    identity: Mapping[str, JSON] | None = None,
    keep: Keep | None = None,
    group: dist.ProcessGroup | None = None,
    storage_options: Mapping[str, JSON] | None = None,
) -> Commit:
    """Save a state dict. Collective where torch.distributed is initialized.

    `state` nests dicts and lists of tensors, DTensors, numpy arrays, and plain values: None,
    bool, int, float, str, bytes, tuples. A plain tensor or value counts as the same on every rank
    that has it. `version` says how far the training is. Raises CheckpointError for a value that
    has no place in a checkpoint, and what `Checkpointer.save` raises.
    """
    tensors, values = flatten(state)
    exchange = _exchange(group)
    merged: dict[str, JSON] = {}
    for of_rank in reversed(exchange.gather(values) or []):
        merged |= of_rank
    checkpointer = _checkpointer(directory, exchange, group, identity, keep, storage_options)
    return checkpointer.save(version, tensors, {PLAIN: merged})


def load(
    directory: str | os.PathLike[str],
    state: State,
    *,
    version: int | None = None,
    identity: Mapping[str, JSON] | None = None,
    group: dist.ProcessGroup | None = None,
    storage_options: Mapping[str, JSON] | None = None,
) -> Loaded | None:
    """Load the newest whole checkpoint, or that of a version, into a state dict of its shape.

    Tensors are filled in place, in whatever mesh they are now; plain values are put where they
    were. Collective as `save`. None when there is no checkpoint. Raises CheckpointMismatch when
    the state is not of the saved one's names and shapes, and what `Checkpointer.load` raises.
    """
    tensors, values = flatten(state)
    exchange = _exchange(group)
    checkpointer = _checkpointer(
        directory, exchange, group, identity, None, storage_options, read_only=True
    )
    loaded = checkpointer.load(tensors, version=version)
    if loaded is None:
        return None
    plain = loaded.values.get(PLAIN, {})
    missing = sorted(values.keys() - plain.keys())
    if missing:
        raise CheckpointMismatch(f"{loaded.path} has no value {missing[0]!r}")
    for name in values:
        _put(state, name, decode_plain(plain[name]))
    return loaded


def flatten(state: Mapping[Any, Any]) -> tuple[dict[str, torch.Tensor], dict[str, JSON]]:
    """The tensors and the plain values (as JSON) of a state dict, by name."""
    tensors: dict[str, torch.Tensor] = {}
    values: dict[str, JSON] = {}
    for name, item in _leaves("", state):
        if isinstance(item, np.ndarray):
            item = torch.from_numpy(item)
        if isinstance(item, torch.Tensor):
            tensors[name] = item
        else:
            values[name] = encode_plain(name, item)
    return tensors, values


def _leaves(prefix: str, item: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(item, Mapping) and (item or not prefix):
        pairs = list(item.items())
    elif isinstance(item, list) and any(_holds_tensor(inner) for inner in item):
        pairs = list(enumerate(item))
    else:
        yield prefix, item
        return
    for key, inner in pairs:
        yield from _leaves(f"{prefix}/{encode_key(key)}" if prefix else encode_key(key), inner)


def _holds_tensor(item: Any) -> bool:
    if isinstance(item, Mapping):
        return any(_holds_tensor(inner) for inner in item.values())
    if isinstance(item, (list, tuple)):
        return any(_holds_tensor(inner) for inner in item)
    return isinstance(item, (torch.Tensor, np.ndarray))


def encode_key(key: Any) -> str:
    """A dict's key or a list's index as a part of a name. Raises CheckpointError."""
    if isinstance(key, str):
        return key.replace("~", "~0").replace("/", "~1")
    if isinstance(key, int) and not isinstance(key, bool):
        return f"~i{key}"
    raise CheckpointError(f"a key of the state is {key!r}: only strings and integers can be saved")


def decode_key(part: str) -> str | int:
    """The key again."""
    if part.startswith("~i"):
        return int(part[2:])
    return part.replace("~1", "/").replace("~0", "~")


def encode_plain(name: str, value: Any) -> JSON:
    """A plain value as JSON. Raises CheckpointError, naming it."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        items = [encode_plain(name, item) for item in value]
        return items if isinstance(value, list) else {"~tuple": items}
    if isinstance(value, bytes):
        return {"~bytes": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"~map": [[encode_key(k), encode_plain(name, v)] for k, v in value.items()]}
    raise CheckpointError(
        f"{name!r} is a {type(value).__qualname__}, which has no place in a checkpoint: save its "
        "state as tensors, numbers and strings"
    )


def decode_plain(value: JSON) -> Any:
    """The plain value again."""
    if isinstance(value, list):
        return [decode_plain(item) for item in value]
    if isinstance(value, dict):
        if "~tuple" in value:
            return tuple(decode_plain(item) for item in value["~tuple"])
        if "~bytes" in value:
            return base64.b64decode(value["~bytes"])
        return {decode_key(k): decode_plain(v) for k, v in value["~map"]}
    return value


def _put(state: Any, name: str, value: Any) -> None:
    *path, last = (decode_key(part) for part in name.split("/"))
    for key in path:
        state = state[key]
    state[last] = value


def _exchange(group: dist.ProcessGroup | None) -> Exchange:
    if dist.is_available() and dist.is_initialized():
        return Exchange(dist.get_rank(group), dist.get_world_size(group), group)
    return Exchange(0, 1, None)


def _checkpointer(
    directory: str | os.PathLike[str],
    exchange: Exchange,
    group: dist.ProcessGroup | None,
    identity: Mapping[str, JSON] | None,
    keep: Keep | None,
    storage_options: Mapping[str, JSON] | None,
    *,
    read_only: bool = False,
) -> Checkpointer:
    return Checkpointer(
        directory,
        identity=identity,
        rank=exchange.rank,
        world_size=exchange.world_size,
        generation=0,
        group=group,
        keep=keep,
        storage_options=storage_options,
        read_only=read_only,
    )
