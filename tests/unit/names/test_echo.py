"""What of a text from outside is shown, and travels on."""

from __future__ import annotations

import sys

import pytest

from rendezvous.bounds import MAX_TEXT
from rendezvous.outside.echo import MOST, plain
from rendezvous.service import checks


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("as it is: é × 語", "as it is: é × 語"),
        ("two\n\tlines", "two\n\tlines"),
        ("\x1b[1;31mred\x1b[0m", "red"),
        ("a\xa0b\r\u2028c", "a b  c"),
        ("\x00\x1b\u202e\udc80", "\\x00\\x1b\\u202e\\udc80"),
        ("x" * 1000, "x" * MOST),
        ("\x00" * 1000, ("\\x00" * 1000)[:MOST]),
    ],
)
def test_what_is_left_of_a_text(text: str, shown: str) -> None:
    assert plain(text) == shown


def test_a_service_takes_every_character_that_a_failure_may_be_told_in() -> None:
    every = map(chr, range(sys.maxunicode + 1))
    while piece := "".join(next(every, "") for _ in range(4096)):
        told = plain(piece, MAX_TEXT)
        told.encode()
        checks.reason(told)
