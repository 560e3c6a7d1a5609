"""JSON from outside, as text: from a wire, a store or a file that somebody may have written to."""

from __future__ import annotations

import json
from typing import Any


def loads(data: bytes | str) -> Any:
    """What the text says. Raises ValueError alone, also for text that is nested too deeply."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
