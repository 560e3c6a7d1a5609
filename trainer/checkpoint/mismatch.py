"""Why a checkpoint does not fit what it is loaded into: the first differences, in words. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.checkpoint.manifest import Manifest

JSON = Any
SHOWN = 3
MODEL, MOMENTS = "model/", "optim/"
"""What a job's tensors are named by: the model's, and the optimizer's."""
ADDED = "args"
"""Of a factory; what was saved by earlier releases does not have it."""
REMEDY = (
    "Give the job the model that wrote it, or another checkpoint.directory "
    "(an empty one starts from scratch)."
)

BUFFERS_REMEDY = (
    "Where the model's own code gives them the right values, register them with persistent=False; "
    "otherwise give the job another checkpoint.directory (an empty one starts from scratch)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """In what a checkpoint may differ from what it is loaded into.

    `untrained` names the tensors that no optimizer knows of: moments of theirs may be in it, and
    are passed over. `buffers` are those of them of which earlier releases have saved none. Without
    `strict`, what only one of the two has is left alone.
    """

    untrained: Collection[str] = ()
    buffers: Collection[str] = ()
    strict: bool = True


NONE_BUT_RANKS_OWN = Allowance()
"""What is one rank's own may be missing, and left over, in any case."""


def identity_fault(saved: Mapping[str, JSON], wanted: Mapping[str, JSON]) -> str | None:
    """The first differences between two identities, or None."""
    wanted = {key: value for key, value in wanted.items() if key in saved or key != ADDED}
    lines = list(_differences("", dict(saved), dict(wanted)))
    return _message("it was written by another job", lines)


def _differences(path: str, saved: JSON, wanted: JSON) -> Iterable[str]:
    if isinstance(saved, dict) and isinstance(wanted, dict):
        for key in sorted(saved.keys() | wanted.keys()):
            name = f"{path}.{key}" if path else str(key)
            if key not in wanted:
                yield f"{name} is {saved[key]!r} there and absent here"
            elif key not in saved:
                yield f"{name} is {wanted[key]!r} here and absent there"
            else:
                yield from _differences(name, saved[key], wanted[key])
    elif _plain(saved) != _plain(wanted):
        yield f"{path} is {saved!r} there and {wanted!r} here"


def _plain(value: JSON) -> JSON:
    return list(value) if isinstance(value, tuple) else value


def kind_fault(
    manifest: Manifest,
    wanted: Mapping[str, tuple[str, tuple[int, ...]]],
    buffers: Collection[str] = (),
    optional: Collection[str] = (),
) -> str | None:
    """The first tensors that are missing there, or of another shape or element type, or None.

    `buffers` are among them: a checkpoint that has none of these, but all else, was written when
    none were saved. `optional` may be missing.
    """
    lines = []
    wanted = {n: kind for n, kind in wanted.items() if n in manifest.tensors or n not in optional}
    missing = sorted(wanted.keys() - manifest.tensors.keys())
    if missing and set(missing) == set(buffers):
        return _message("it was written without the model's buffers", missing, BUFFERS_REMEDY)
    for name, (dtype, shape) in sorted(wanted.items()):
        saved = manifest.tensors.get(name)
        if saved is None:
            lines.append(f"{name} is not in it")
        elif saved.shape != shape:
            lines.append(f"{name} is {list(saved.shape)} there and {list(shape)} here")
        elif saved.dtype != dtype:
            lines.append(f"{name} is {saved.dtype} there and {dtype} here")
    return _message("it holds another model", lines)


def names_fault(unwanted: Iterable[str]) -> str | None:
    """The first tensors that nothing here takes, or None."""
    return _message("it holds another model", [f"{n} has no place here" for n in sorted(unwanted)])


def is_moment_of(name: str, untrained: Collection[str]) -> bool:
    """Whether it is a moment (`optim/<tensor>/<moment>`) of one of these (`model/<tensor>`)."""
    tensor, _, moment = name.removeprefix(MOMENTS).rpartition("/")
    return name.startswith(MOMENTS) and bool(moment) and f"{MODEL}{tensor}" in untrained


def _message(why: str, lines: list[str], remedy: str = REMEDY) -> str | None:
    if not lines:
        return None
    more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
    return f"{why}: {'; '.join(lines[:SHOWN])}{more}. {remedy}"
