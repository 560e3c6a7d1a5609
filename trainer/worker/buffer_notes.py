"""What to tell the user of buffers that forwards change. Pure."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from trainer.worker.buffer_sharing import Change, Why

SHOWN = 3
"""So many names are told; a network has hundreds of batch norms, all alike."""


class Note(NamedTuple):
    """One sentence about buffers of one kind: the first `names` of `total`."""

    why: Why
    names: tuple[str, ...]
    total: int
    text: str


def notes_on(changes: Sequence[Change], *, data_size: int, compiled: Set[str]) -> list[Note]:
    """A note for each kind of change there is.

    `data_size` is the number of data-parallel ranks; `compiled` names the buffers in compiled code.
    """
    notes = []
    for why in ("ranks", "forwards", "passing"):
        names = [change.name for change in changes if change.why == why]
        if names:
            text = f"{_listed(names)} {_meaning(why, data_size, several=len(names) > 1)}"
            if why != "passing" and not compiled.isdisjoint(names):
                text += (
                    "; compiled code may take a buffer's new value for its old one in the backward "
                    "pass, where the forward reads what it changes (pytorch/pytorch#197039)"
                )
            notes.append(Note(why, tuple(names[:SHOWN]), len(names), text))
    return notes


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    if len(names) > SHOWN:
        return f"buffers {shown} and {len(names) - SHOWN} more"
    return f"buffer{'s' if len(names) > 1 else ''} {shown}"


def _meaning(why: Why, data_size: int, *, several: bool) -> str:
    does, they, are = ("", "they", "are") if several else ("s", "it", "is")
    match why:
        case "ranks":
            return (
                f"depend{does} on what each rank sees: all go on with the first rank's, and the "
                f"bits hold on meshes with the same data-parallel size only (here {data_size})"
            )
        case "forwards":
            return (
                f"change{does} with every forward, and how many of them a rank does depends on the "
                f"mesh: the bits hold on meshes with the same data-parallel size only "
                f"(here {data_size})"
            )
        case "passing":
            return (
                f"{are} changed by the forward, but not persistent: {they} begin{does} anew at "
                "every restart and every change of the mesh. Register with persistent=True what "
                "has to last"
            )
