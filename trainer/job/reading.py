"""From a YAML file to a job, with every complaint at its file, line and key."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from trainer.errors import JobError
from trainer.job.faults import parse_fault
from trainer.job.schema import Job
from trainer.job.section import Section
from trainer.job.yaml12 import MAX_CHARACTERS, MAX_DEPTH, KeyPath, parse, parse_value
from trainer.names import STDIN
from trainer.outside.echo import cut, shown

MAX_COMPLAINTS = 20
"""More would scroll the first ones away."""
MAX_LINE = 500
"""Characters of what one complaint says: it may tell several things that would do."""
_OVERRIDE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def load(path: str | Path, overrides: Sequence[str] = (), *, faults: Sequence[str] = ()) -> Job:
    """Read and check a job file; `-` is the standard input.

    `overrides` are `a.b=value` texts, `faults` are `step=30,rank=2,kind=kill` texts; both
    are checked as if they stood in the file.

    Raises:
        JobError: the file can't be read or says what can't be done; one line a complaint,
            each with file, line and key.
    """
    path = Path(path)
    text = read_text(path)
    data, lines = parse(text, str(path))
    data.setdefault("name", _name_of(path))
    if not {"model", "entrypoint"} & data.keys() and not any(
        override.startswith(("model.", "entrypoint.")) for override in overrides
    ):
        raise JobError(
            f"{path}: nothing to train; give a `model` section (preset: debug, for one) "
            "or an `entrypoint`"
        )
    return from_mapping(data, overrides, faults=faults, source=str(path), lines=lines)


def read_text(path: Path) -> str:
    """A job file's text, of one that is too long its beginning alone. Raises JobError."""
    try:
        if str(path) == STDIN:
            return sys.stdin.read(MAX_CHARACTERS + 1)
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_CHARACTERS + 1)
    except OSError as error:
        raise JobError(f"{path}: can't read the job file: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise JobError(f"{path}: the job file is not UTF-8 text") from None


def from_mapping(
    data: Mapping[str, Any],
    overrides: Sequence[str] = (),
    *,
    faults: Sequence[str] = (),
    source: str = "job",
    lines: Mapping[KeyPath, int] | None = None,
) -> Job:
    """Check a job that is already in memory; `lines` maps key paths to line numbers."""
    merged: dict[str, Any] = _copy(data)
    origins: dict[KeyPath, str] = {}
    for override in overrides:
        origins[_apply(merged, override)] = f"--set {cut(override)}"
    for text in faults:
        listed = merged.setdefault("faults", [])
        if not isinstance(listed, list):
            raise JobError(f"{source}: faults is no list; write one fault an item")
        origins["faults", len(listed)] = f"--fault {cut(text)}"
        listed.append(parse_fault(text))
    try:
        return Job.model_validate(merged)
    except ValidationError as error:
        complaints = _complaints(error, merged, source, lines or {}, origins)
        raise JobError("\n".join(complaints)) from None


def _name_of(path: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:53].strip("-")
    return name or "job"


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _apply(data: dict[str, Any], override: str) -> KeyPath:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not _OVERRIDE.fullmatch(key):
        raise JobError(f"--set {cut(override)}: write --set section.key=value")
    keys = tuple(key.split("."))
    if len(keys) > MAX_DEPTH:
        raise JobError(f"--set {cut(override)}: nested too deeply")
    at = data
    for depth, part in enumerate(keys[:-1]):
        inner = at.get(part)
        if inner is None:
            inner = at[part] = {}
        if not isinstance(inner, dict):
            inside = cut(".".join(keys[: depth + 1]))
            raise JobError(f"--set {cut(override)}: {inside} holds no further keys")
        at = inner
    at[keys[-1]] = parse_value(text, f"--set {cut(override)}")
    return keys


def _complaints(
    error: ValidationError,
    data: Mapping[str, Any],
    source: str,
    lines: Mapping[KeyPath, int],
    origins: Mapping[KeyPath, str],
) -> list[str]:
    found: dict[str, list[str]] = {}
    every = error.errors(include_url=False, include_context=True)
    for item in every[:MAX_COMPLAINTS]:
        location = tuple(item["loc"])
        keep = location if item["type"] == "missing" else _known_part(location, data)
        if item["type"] == "job":
            keep = location
        if item["type"] == "extra_forbidden":
            text = _unknown(keep)
        elif item["type"] == "string_pattern_mismatch":
            text = f"{shown(item['input'])} has not the right form; {_meaning(keep)}"
        else:
            text = _wording(item["type"], item["msg"])
        where = f"{_place(keep, source, lines, origins)}: {_dotted(keep)}: "
        texts = found.setdefault(where, [])
        if text not in texts:
            texts.append(text)
    lines_of = [where + cut(", or ".join(texts), MAX_LINE) for where, texts in found.items()]
    if len(every) > MAX_COMPLAINTS:
        lines_of.append(f"{source}: and {len(every) - MAX_COMPLAINTS} more complaints")
    return lines_of


def _known_part(location: KeyPath, data: Any) -> KeyPath:
    """The part of a location that is in the data: pydantic appends the branch of a union."""
    at = data
    for depth, key in enumerate(location):
        try:
            at = at[key]
        except (KeyError, IndexError, TypeError):
            return location[:depth] or location
    return location


def _place(
    path: KeyPath, source: str, lines: Mapping[KeyPath, int], origins: Mapping[KeyPath, str]
) -> str:
    for depth in range(len(path), 0, -1):
        if path[:depth] in origins:
            return origins[path[:depth]]
        if path[:depth] in lines:
            return f"{source}:{lines[path[:depth]]}"
    return source


def _dotted(path: KeyPath) -> str:
    return cut(".".join(str(part) for part in path))


def _wording(kind: str, message: str) -> str:
    if kind == "missing":
        return "is required"
    message = message.partition(", unable to parse")[0].partition(", got a number")[0]
    text = message.removeprefix("Value error, ").removeprefix("Input should be ")
    if text != message and kind not in ("value_error", "job"):
        return f"should be {text}".replace("valid integer", "whole number")
    return text[0].lower() + text[1:] if kind not in ("value_error", "job") else text


def _meaning(path: KeyPath) -> str:
    """What a key is for, as its section describes it."""
    section: type[Section] = Job
    meaning = ""
    for part in path:
        field = section.model_fields.get(str(part))
        if field is not None:
            meaning = field.description or meaning
            section = section_of(field.annotation) or section
    return meaning[:1].lower() + meaning[1:].rstrip(".")


def _unknown(path: KeyPath) -> str:
    nearest = nearest_key(path)
    return "unknown key" + (f"; did you mean {nearest}?" if nearest else "")


def nearest_key(path: KeyPath) -> str | None:
    """The known key most like an unknown one: in its own section first, then anywhere."""
    *section, name = (cut(str(part)) for part in path)
    every = ["".join(f".{part}" for part in known)[1:] for known in known_keys()]
    prefix = ".".join(part for part in section if not part.isdigit())
    siblings = {key.rpartition(".")[2]: key for key in every if key.rpartition(".")[0] == prefix}
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.6)
    if close:
        return siblings[close[0]]
    elsewhere: dict[str, str] = {}
    for key in every:
        elsewhere.setdefault(key.rpartition(".")[2], key)
    close = difflib.get_close_matches(name, elsewhere, n=1, cutoff=0.8)
    return elsewhere[close[0]] if close else None


def known_keys(model: type[Section] = Job) -> Iterator[tuple[str, ...]]:
    """Every key of a job file, outermost first."""
    for name, field in model.model_fields.items():
        yield (name,)
        inner = section_of(field.annotation)
        if inner is not None:
            for rest in known_keys(inner):
                yield (name, *rest)


def section_of(annotation: Any) -> type[Section] | None:
    """The section inside an annotation such as `Section | None` or `tuple[Section, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = section_of(inner)
        if found is not None:
            return found
    return None
