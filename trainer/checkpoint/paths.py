"""Names of tensors and values: the keys on the way to them, joined by `/`. Pure.

In a key, `~` is written `~0`, `/` is `~1`, the integer 3 is `~i3`, the empty string `~e`; what is
rank 3's own lies under `~r3`. So no two paths share a name.
"""

from __future__ import annotations

import re
from typing import Any

from trainer.errors import CheckpointError

SEPARATOR = "/"
_EMPTY, _INTEGER, _RANK = "~e", "~i", "~r"
_OF_RANK = re.compile(r"(?:^|/)~r\d+(?:/|$)")


def child(prefix: str | None, key: Any) -> str:
    """The name of what lies under a key; `prefix` is None at the top. Raises CheckpointError."""
    part = encode_key(key)
    return part if prefix is None else f"{prefix}{SEPARATOR}{part}"


def of_rank(prefix: str | None, rank: int) -> str:
    """The name under which a rank's own lies."""
    part = f"{_RANK}{rank}"
    return part if prefix is None else f"{prefix}{SEPARATOR}{part}"


def is_of_rank(name: str) -> bool:
    """Whether it is one rank's own."""
    return _OF_RANK.search(name) is not None


def encode_key(key: Any) -> str:
    """A dict's key or a list's index as a part of a name. Raises CheckpointError."""
    if isinstance(key, str):
        return key.replace("~", "~0").replace("/", "~1") if key else _EMPTY
    if isinstance(key, int) and not isinstance(key, bool):
        return f"{_INTEGER}{int(key)}"
    raise CheckpointError(f"a key of the state is {key!r}: only strings and integers can be saved")


def decode_key(part: str) -> str | int:
    """The key again."""
    if part == _EMPTY:
        return ""
    if part.startswith(_INTEGER):
        return int(part.removeprefix(_INTEGER))
    return part.replace("~1", "/").replace("~0", "~")
