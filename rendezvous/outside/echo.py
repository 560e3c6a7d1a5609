"""What a complaint shows of a value that came from outside, and what of a text travels on."""

from __future__ import annotations

import re
import reprlib

MOST = 200
"""Characters: enough to know one's own value again, too few to fill a terminal or a log."""

_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
"""What a terminal takes for an order, and not for text."""


class _Short(reprlib.Repr):
    """`repr` of no more than a value's ends: it may be far larger than its text in a file."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 2, 120, 120, 40

    def repr_int(self, x: int, level: int) -> str:
        # Python refuses to write more than 4,300 digits, and takes quadratic time for fewer.
        return repr(x) if x.bit_length() < 128 else f"a number of {x.bit_length()} bits"


_short = _Short()


def shown(value: object) -> str:
    """The value about as Python writes it, on one line, of at most 200 characters."""
    return cut(_short.repr(value))


def cut(text: str, most: int = MOST) -> str:
    """The text, or its beginning and `…` for the rest."""
    return text if len(text) <= most else text[: most - 1] + "…"


def plain(text: str, most: int = MOST) -> str:
    """The text without colours, in at most `most` characters that can all be printed.

    New lines and tabs stay; any other character that can't be shown, or written as UTF-8, is
    written as Python does. What a program says of its failure may hold anything.
    """
    # The rest is not looked at: a text may be far longer than what is kept of it.
    clean = _COLOURS.sub("", text[: 8 * most])[:most]
    if clean.isprintable():
        return clean
    return "".join(map(_printable, clean))[:most]


def _printable(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode()
