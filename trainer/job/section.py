"""What every section of a job file has in common, and the values with a syntax of their own."""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, field_validator

from trainer.outside.echo import shown
from trainer.outside.numbers import MAX_SECONDS

DURATION_PATTERN = r"^\s*(\d+(?:\.\d*)?|\.\d+)\s*(ms|s|m|h|d)?\s*$"
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}


class Section(BaseModel):
    """Frozen, keyword-only, and closed to keys it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        coerce_numbers_to_str=True,
        protected_namespaces=(),
    )
    largest: ClassVar[int] = 1 << 53
    """The largest whole number that a key of the section may hold, if it says no smaller one."""

    @field_validator("*", mode="before")
    @classmethod
    def _of_this_world(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > cls.largest:
            raise ValueError(f"{shown(value)} is too large a number")
        return value


def seconds(value: Any) -> float:
    """Read a duration: a number of seconds, or a number with ms, s, m, h or d.

    Raises:
        ValueError: the text is no duration.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("expected a duration such as 30s, 5m or a number of seconds")
    if isinstance(value, str):
        match = re.fullmatch(DURATION_PATTERN, value)
        if match is None:
            raise ValueError(f"{shown(value)} is no duration; write 30s, 5m, 1.5h or seconds")
        value = float(match[1]) * _SECONDS[match[2]]
    if not 0 <= value <= MAX_SECONDS:
        raise ValueError("a duration can't be negative, or longer than a year")
    return float(value)


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": DURATION_PATTERN},
            ]
        }
    ),
]
