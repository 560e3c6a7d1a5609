"""The `entrypoint` section: a program of the user's own in place of model, data and train."""

from __future__ import annotations

from pydantic import Field

from trainer.job.section import Section


class EntrypointSection(Section):
    """Exactly one of script, module and command."""

    script: str | None = Field(None, description="A Python file that every rank runs.")
    module: str | None = Field(None, description="A Python module, run as `python -m` does.")
    command: str | None = Field(None, description="Any program, found as a shell would find it.")
    args: tuple[str, ...] = Field((), description="Arguments of the program.")
    elastic: bool = Field(
        False,
        description="Whether the program calls `trainer.elastic`: its processes then stay alive "
        "over generations, and checkpoints and mirrors are made of what it hands over.",
    )
    env: dict[str, str] = Field(
        default_factory=dict, description="Environment variables of every rank."
    )
