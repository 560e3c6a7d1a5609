"""Plain values as JSON, and back: what comes back is of the type that was given."""

from __future__ import annotations

import base64
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping
from typing import Any

import numpy as np

from trainer.checkpoint.paths import decode_key, encode_key
from trainer.errors import CheckpointError

JSON = Any
_MAPS: Mapping[str, type[Any]] = {"Counter": Counter, "OrderedDict": OrderedDict}
"""Dicts of another class that come back as such; all others come back as a dict."""


def encode_plain(name: str, value: Any) -> JSON:
    """A plain value as JSON. Raises CheckpointError, naming it."""
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {"~numpy": [value.dtype.name, value.item()]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)) and not is_named_tuple(value):
        items = [encode_plain(name, item) for item in value]
        return items if isinstance(value, list) else {"~tuple": items}
    if isinstance(value, deque):
        return {"~deque": [[encode_plain(name, item) for item in value], value.maxlen]}
    if isinstance(value, bytes):
        return {"~bytes": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        rows = [[encode_key(key), encode_plain(name, inner)] for key, inner in value.items()]
        kind = next((kind for kind, made in _MAPS.items() if type(value) is made), None)
        return {"~map": rows} if kind is None else {"~map": rows, "~type": kind}
    hint = "its _asdict()" if is_named_tuple(value) else "its state as tensors, numbers and strings"
    raise CheckpointError(
        f"{name!r} is a {type(value).__qualname__}, which has no place in a checkpoint: save {hint}"
    )


def decode_plain(value: JSON) -> Any:
    """The plain value again."""
    if isinstance(value, list):
        return [decode_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "~tuple" in value:
        return tuple(decode_plain(item) for item in value["~tuple"])
    if "~bytes" in value:
        return base64.b64decode(value["~bytes"])
    if "~numpy" in value:
        kind, item = value["~numpy"]
        return np.dtype(kind).type(item)
    if "~deque" in value:
        items, most = value["~deque"]
        return deque((decode_plain(item) for item in items), most)
    rows = {decode_key(key): decode_plain(inner) for key, inner in value["~map"]}
    made = _MAPS.get(value.get("~type", ""))
    return rows if made is None else made(rows)


def is_named_tuple(value: Any) -> bool:
    """Whether it is a tuple whose fields have names: read back, it would be a bare one."""
    return isinstance(value, tuple) and hasattr(value, "_fields")
