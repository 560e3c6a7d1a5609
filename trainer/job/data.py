"""The `data` section: where the samples come from."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema

from trainer.job.model import FACTORY_PATTERN
from trainer.job.section import Section


def _paths(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Paths = Annotated[
    tuple[str, ...] | None,
    BeforeValidator(_paths),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string"}},
                {"type": "null"},
            ]
        }
    ),
]


class DataSection(Section):
    """An index-addressed stream: sample i depends on `run.seed` and i alone."""

    path: Paths = Field(
        None,
        description="Files, directories or globs, read as bytes; by default the source text of "
        "the Python standard library.",
    )
    seq_len: int = Field(128, gt=0, description="Tokens of a sample that are predicted.")
    shuffle: bool = Field(True, description="Whether each epoch has an order of its own.")
    factory: str | None = Field(
        None,
        pattern=FACTORY_PATTERN,
        description="A function `package.module:function` that returns an object with `__len__` "
        "and `__getitem__`, each item `seq_len + 1` token numbers, in place of `path`.",
    )
    args: dict[str, Any] = Field(
        default_factory=dict, description="Keyword arguments of the factory."
    )
