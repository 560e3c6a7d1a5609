"""A JSON object from outside, read key by key: each in the type and within the bounds it must have.

    fields = Fields(loads(data), "the record")
    member = Member(node=fields.name("node", NODE), slots=fields.whole("slots", 1, 1024))

Whatever is not as it must be raises ValueError, which says where: `the record: members[3].slots is
'2'; it must be a whole number from 1 to 1024`. Keys that nobody asks for are ignored.
"""

from __future__ import annotations

import math
from typing import Any

from .echo import shown
from .names import Form, named

MOST_TEXT = 1 << 16
"""Characters of a text; who needs more, or has room for less, says so."""
MOST_ITEMS = 1 << 20
"""Of a list or mapping."""
LARGEST = 1 << 62
"""Of a whole number: one more still fits into 64 bits, signed or not."""


class Fields:
    """The object in `value`; `where` it lies begins every complaint. Raises ValueError."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise ValueError(f"{where} is {shown(value)}; it must be a mapping")
        self.value: dict[str, Any] = value
        self.where = where

    def has(self, key: str) -> bool:
        """Whether there is such a key with anything but null."""
        return self.value.get(key) is not None

    def whole(self, key: str, low: int = 0, high: int = LARGEST, default: int | None = None) -> int:
        """A whole number from `low` to `high`; without a `default` it has to be there."""
        value = self._get(key, default)
        if type(value) is not int or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}")
        return value

    def number(
        self,
        key: str,
        low: float = -math.inf,
        high: float = math.inf,
        default: float | None = None,
    ) -> float:
        """A finite number from `low` to `high`."""
        value = _finite(self._get(key, default))
        if value is None or not low <= value <= high:
            bounds = "" if math.isinf(low) and math.isinf(high) else f" from {low:g} to {high:g}"
            raise self._wrong(key, f"a number{bounds}")
        return value

    def real(self, key: str) -> float:
        """A number that may be endless, or none (NaN), but no whole number beyond all floats."""
        value = self._get(key, None)
        if isinstance(value, float):
            return value
        number = _finite(value)
        if number is None:
            raise self._wrong(key, "a number")
        return number

    def is_text(self, key: str) -> bool:
        """Whether it is a text, where it may be something else."""
        return isinstance(self.value.get(key), str)

    def each_text(self, key: str, most: int = MOST_ITEMS, longest: int = MOST_TEXT) -> list[str]:
        """A list of texts."""
        items = self.items(key, most)
        if not all(isinstance(item, str) and len(item) <= longest for item in items):
            raise self._wrong(key, f"a list of texts of at most {longest} characters")
        return [str(item) for item in items]

    def flag(self, key: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self._get(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false")
        return value

    def text(self, key: str, most: int = MOST_TEXT, default: str | None = None) -> str:
        """At most `most` characters."""
        value = self._get(key, default)
        if not isinstance(value, str) or len(value) > most:
            raise self._wrong(key, f"a text of at most {most} characters")
        return value

    def name(self, key: str, form: Form) -> str:
        """A name of this form."""
        return named(form, self._get(key, None), given=f"{self.where}: {key}")

    def items(self, key: str, most: int = MOST_ITEMS, *, required: bool = True) -> list[object]:
        """At most `most` items of any kind; none where it need not be there and is not."""
        value = self._get(key, None if required else [])
        if not isinstance(value, list) or len(value) > most:
            raise self._wrong(key, f"a list of at most {most} items")
        return value

    def each(self, key: str, most: int = MOST_ITEMS, *, required: bool = True) -> list[Fields]:
        """A list of objects."""
        items = self.items(key, most, required=required)
        return [Fields(item, self._inside(f"{key}[{i}]")) for i, item in enumerate(items)]

    def fields(self, key: str, *, required: bool = True) -> Fields:
        """An object; an empty one where it need not be there and is not."""
        return Fields(self._get(key, None if required else {}), self._inside(key))

    def under(self, key: str, most: int = MOST_ITEMS) -> dict[str, Fields]:
        """An object of objects, by their keys; none where it is not there."""
        inner = self.fields(key, required=False)
        if len(inner.value) > most:
            raise self._wrong(key, f"a mapping of at most {most} entries")
        return {name: inner.fields(name) for name in inner.value}

    def texts(self, key: str, most: int = MOST_ITEMS, longest: int = MOST_TEXT) -> dict[str, str]:
        """An object of texts; none where it is not there."""
        inner = self.fields(key, required=False)
        if len(inner.value) > most:
            raise self._wrong(key, f"a mapping of at most {most} entries")
        return {name: inner.text(name, longest) for name in inner.value}

    def _get(self, key: str, default: object) -> object:
        value = self.value.get(key, default)
        if value is None and key not in self.value:
            raise ValueError(f"{self.where}: {key} is missing")
        return value

    def _inside(self, key: str) -> str:
        return f"{self.where}.{key}" if ": " in self.where else f"{self.where}: {key}"

    def _wrong(self, key: str, wanted: str) -> ValueError:
        shows = shown(self.value.get(key))
        return ValueError(f"{self._inside(key)} is {shows}; it must be {wanted}")


def _finite(value: object) -> float | None:
    """The number; None for what is none, and for one of 400 digits, which no float can be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
