"""Names that come from outside (a wire, a file, a flag) and become a path or a key here.

Each has one form: what its writer makes, and nothing else. `named` is the only way in. A name that
passes is one part of a path (or, for a form that says so, a fixed number of parts), begins with a
letter or a digit and so is never `.` or `..`, and fits into a file system's 255 bytes together with
what is put around it. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .echo import shown


@dataclass(frozen=True, slots=True)
class Form:
    """How a kind of name looks: what it is called, its pattern (matched whole), and in words."""

    what: str
    pattern: str
    words: str

    def fits(self, text: object) -> bool:
        """Whether it is a name of this form."""
        return isinstance(text, str) and re.fullmatch(self.pattern, text, re.ASCII) is not None


RUN_ID = Form(
    "run id",
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}",
    "a letter or digit, then at most 127 letters, digits, `.`, `_` or `-`",
)
"""Names a run's directory, and its keys in the store."""
NODE = Form(
    "node name",
    r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}",
    "a letter or digit, then at most 199 letters, digits, `.`, `_`, `:` or `-`",
)
"""Names a node's part of the status, its mirrors, and what it writes of them."""
HOST = Form("host", r"[A-Za-z0-9._:\[\]%-]{1,253}", "a host's name or address")
ENDPOINT = Form("endpoint", rf"{HOST.pattern}:[0-9]{{1,5}}", "HOST:PORT")


def named(form: Form, text: object, *, given: str = "") -> str:
    """`text`, if it has the form. Raises ValueError, which begins with `given` (or what it is)."""
    if not form.fits(text):
        raise ValueError(f"{given or form.what} is {shown(text)}; it must be {form.words}")
    assert isinstance(text, str)
    return text
