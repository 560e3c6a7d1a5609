"""Where what a command says is written in an encoding that may lack some of it."""

from __future__ import annotations

import io
import sys


def show_what_can_be_shown() -> None:
    """In a locale that has no × and no …, a mark stands for what can't be written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")
