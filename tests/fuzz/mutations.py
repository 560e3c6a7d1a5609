"""From a good document to many bad ones. The same seed makes the same ones."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

DEEP = 3000
"""Levels: more than Python's own stack has."""


def _deep() -> Any:
    value: Any = 1
    for _ in range(200):
        value = [value]
    return value


VALUES: tuple[Callable[[random.Random], Any], ...] = (
    lambda r: None,
    lambda r: r.choice([True, False]),
    lambda r: r.choice([0, 1, -1, 2, 7, 255, 65_536]),
    lambda r: (
        r.choice([1, -1]) * 2 ** r.choice([31, 32, 53, 62, 63, 64, 65, 128, 4096])
        + r.choice([0, -1, 1])
    ),
    lambda r: r.choice([0.5, -0.0, 1e300, -1e300, 5e-324, float("inf"), -float("inf")]),
    lambda r: float("nan"),
    lambda r: r.choice(["", ".", "..", "/", "../..", "/etc/passwd", "a/../../b", "~", "\0", "\n"]),
    lambda r: r.choice(["0", "1", "-1", "1e9", "true", "null", "nan", "0x10", "9" * 5000]),
    lambda r: r.choice(["é", "\ud800", "\u202e", "\U0001f600", "٣", "a" * 300, "a" * 70_000]),
    lambda r: [],
    lambda r: {},
    lambda r: [r.choice([None, 0, "a", [], {}])] * r.choice([1, 2, 5, 1000]),
    lambda r: {r.choice(["", "a", "..", "\0", "node"]): r.choice([None, 0, "a", [], {}])},
    lambda r: _deep(),
)


def paths(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where each value inside lies, the whole first."""
    yield at
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*at, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from paths(value[index], (*at, index))


def altered(value: Any, rng: random.Random) -> Any:
    """A copy with one to three things in it replaced, removed, doubled or exchanged."""
    made = copy.deepcopy(value)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        every = list(paths(made))
        path = rng.choice(every)
        if not path:
            if rng.random() < 0.05:
                return rng.choice(VALUES)(rng)
            continue
        holder = made
        for key in path[:-1]:
            holder = holder[key]
        key = path[-1]
        match rng.randrange(6):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 1:
                holder[rng.choice(["", "x", "..", str(key) * 2])] = holder.pop(key)
            case 2:
                other = made
                for step in rng.choice(every):
                    try:
                        other = other[step]
                    except (KeyError, IndexError, TypeError):
                        break
                holder[key] = copy.deepcopy(other)
            case 3 if type(holder[key]) is int:
                holder[key] += rng.choice([-1, 1, 1000, -holder[key], 1 << 40])
            case 3 if isinstance(holder[key], str) and holder[key]:
                holder[key] = torn(holder[key].encode("utf-8", "surrogatepass"), rng).decode(
                    "utf-8", "replace"
                )
            case _:
                holder[key] = rng.choice(VALUES)(rng)
    return made


def torn(data: bytes, rng: random.Random) -> bytes:
    """The bytes with something flipped, cut off, left out, put in or said twice."""
    made = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(len(made) + 1)
        to = min(len(made), at + rng.choice([1, 2, 8, 64, 1000]))
        match rng.randrange(7):
            case 0 if at < len(made):
                made[at] ^= 1 << rng.randrange(8)
            case 1:
                del made[at:]
            case 2:
                del made[at:to]
            case 3:
                made[at:at] = rng.randbytes(rng.choice([1, 2, 8, 64]))
            case 4:
                made[at:at] = made[at:to]
            case 5 if at < len(made):
                made[at] = rng.choice(b'\x00\xff{}[]",:0-9.eE\n\\')
            case 6:
                made[at:to] = rng.choice([b"[" * DEEP, b"9" * 5000, b"\x00" * 16, b"\xff" * 16])
    return bytes(made)


def broken_json(value: Any, rng: random.Random) -> bytes:
    """The text of a document in which something is wrong: mostly its values, else its bytes."""
    if rng.random() < 0.75:
        # Lone surrogates are written as escapes, as any JSON may have them.
        return json.dumps(altered(value, rng)).encode()
    return torn(json.dumps(value).encode(), rng)
