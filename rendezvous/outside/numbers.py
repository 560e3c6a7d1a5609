"""Numbers that a person types: bounded before they are made, so that none takes long to read."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from typing import NoReturn

from .echo import cut, shown

LARGEST = (1 << 31) - 1
MAX_SECONDS = 366 * 86_400.0
_LONGEST = 32
"""Characters of a number: more would be a whole number of more than 64 bits."""
_MOST_SAID = 400
"""Characters of a complaint, which may hold a value and what it must be."""


def whole(text: str, low: int = 0, high: int = LARGEST, *, given: str = "it") -> int:
    """A whole number in decimal digits. Raises ValueError, which begins with `given`."""
    digits = text.strip()
    if len(digits) <= _LONGEST and re.fullmatch(r"[+-]?[0-9]+", digits):
        value = int(digits)
        if low <= value <= high:
            return value
    raise ValueError(f"{given} is {shown(text)}; it must be a whole number from {low} to {high}")


def decimal(text: str, low: float = 0.0, high: float = MAX_SECONDS, *, given: str = "it") -> float:
    """A number as Python writes it, finite. Raises ValueError, which begins with `given`."""
    try:
        value = float(text) if len(text) <= 2 * _LONGEST else math.nan
    except ValueError:
        value = math.nan
    if low <= value <= high:
        return value
    raise ValueError(f"{given} is {shown(text)}; it must be a number from {low:g} to {high:g}")


def whole_flag(low: int = -LARGEST, high: int = LARGEST) -> Callable[[str], int]:
    """For a parser: `type=whole_flag(1, 9)`."""

    def read(text: str) -> int:
        try:
            return whole(text, low, high)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def seconds_flag(low: float = 0.0, high: float = MAX_SECONDS) -> Callable[[str], float]:
    """For a parser: a number of seconds."""

    def read(text: str) -> float:
        try:
            return decimal(text, low, high)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


class BriefParser(argparse.ArgumentParser):
    """Says no more of a value than a person needs to know it again."""

    def error(self, message: str) -> NoReturn:
        super().error(cut(" ".join(message.split()), _MOST_SAID))
