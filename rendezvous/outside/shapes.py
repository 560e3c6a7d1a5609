"""Documents by their keys: which type and which bounds each has, declared in one table a document.

    PART = Shape({"pid": count, "state": word})
    part = checked(loads(data), PART, "agents/a.json")

Every key may be missing or null, but for those that a shape needs; keys that no shape names are
nobody's affair. Whatever is not as it must be raises ValueError, which says where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .fields import Fields
from .names import ENDPOINT, NODE, RUN_ID, named

Kind = Callable[[Fields, str], object]
"""Raises ValueError where the key is not of it."""

LAST_MOMENT = 253_402_300_799.0
"""The last second of the year 9999: what lies past it has no date that could be shown."""
LONGEST = 1e12
"""Seconds of a duration: thirty thousand years."""
MOST = 1 << 53
"""Of steps, tokens and generations: JSON's numbers are exact up to here."""
SHORT = 4096
"""Characters of a text that is shown in a line."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Kinds by key; `needed` are the keys without which the document says nothing."""

    kinds: Mapping[str, Kind]
    needed: frozenset[str] = frozenset()


ANY = Shape({})
"""Some object."""


def checked(value: object, shape: Shape, where: str) -> dict[str, Any]:
    """The document itself. Raises ValueError, which names where it lies."""
    fields = Fields(value, where)
    for key, kind in shape.kinds.items():
        if fields.has(key):
            kind(fields, key)
        elif key in shape.needed:
            raise ValueError(f"{where}: {key} is missing")
    return fields.value


def fits(value: object, shape: Shape) -> bool:
    """Whether `checked` would take it."""
    try:
        checked(value, shape, "it")
    except ValueError:
        return False
    return True


# Kinds


def count(fields: Fields, key: str) -> None:
    fields.whole(key, 0, MOST)


def any_whole(fields: Fields, key: str) -> None:
    fields.whole(key, -MOST, MOST)


def real(fields: Fields, key: str) -> None:
    """A loss may be no number, or endless: that is what a bad step's looks like."""
    fields.real(key)


def moment(fields: Fields, key: str) -> None:
    fields.number(key, 0.0, LAST_MOMENT)


def seconds(fields: Fields, key: str) -> None:
    fields.number(key, 0.0, LONGEST)


def long_text(fields: Fields, key: str) -> None:
    fields.text(key, 1 << 24)


def text(fields: Fields, key: str) -> None:
    fields.text(key)


def word(fields: Fields, key: str) -> None:
    fields.text(key, SHORT)


def flag(fields: Fields, key: str) -> None:
    fields.flag(key)


def words(fields: Fields, key: str) -> None:
    fields.each_text(key, longest=SHORT)


def files(fields: Fields, key: str) -> None:
    fields.texts(key, longest=SHORT)


def mapping(fields: Fields, key: str) -> None:
    fields.fields(key)


def run_id(fields: Fields, key: str) -> None:
    fields.name(key, RUN_ID)


def node(fields: Fields, key: str) -> None:
    fields.name(key, NODE)


def endpoints(fields: Fields, key: str) -> None:
    for endpoint in fields.each_text(key):
        named(ENDPOINT, endpoint, given=f"{fields.where}: one of {key}")


def mesh(fields: Fields, key: str) -> None:
    """In words, or sizes by dimension."""
    if not fields.is_text(key):
        sizes = fields.fields(key)
        for name in sizes.value:
            count(sizes, name)


def inside(shape: Shape) -> Kind:
    """An object of this shape."""

    def kind(fields: Fields, key: str) -> None:
        inner = fields.fields(key)
        checked(inner.value, shape, inner.where)

    return kind


def each(shape: Shape) -> Kind:
    """A list of objects of this shape."""

    def kind(fields: Fields, key: str) -> None:
        for inner in fields.each(key):
            checked(inner.value, shape, inner.where)

    return kind
