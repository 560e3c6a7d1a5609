"""`docs/job.md`, written from the declarations of the job's sections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from trainer.job.reading import section_of
from trainer.job.schema import Job
from trainer.job.section import Section

_HEAD = """\
# The job file

One YAML file describes one job. A job either trains a model (`model`, `data`, `train` and what
goes with them) or starts a program of your own (`entrypoint`). An unknown key is an error.
`--set section.key=value` overrides a key and is checked like the file. Durations are seconds, or
a number with `ms`, `s`, `m`, `h` or `d`.

Factories are found in the folder in which `remesh run` is typed, and on `PYTHONPATH`. Their modules
may be called anything but `trainer`, which is the name of a package of Remesh's own.

This page is written from the declarations in `trainer/job` by `remesh schema --markdown`.
"""


def render_docs() -> str:
    """The page, as Markdown."""
    return "\n".join([_HEAD, *_section(Job, ())]).rstrip() + "\n"


def _section(model: type[Section], path: tuple[str, ...]) -> Iterator[str]:
    yield f"## `{'.'.join(path)}`" if path else "## The whole"
    yield ""
    yield (model.__doc__ or "").strip()
    yield ""
    yield "| key | values | default | meaning |"
    yield "|---|---|---|---|"
    schema = model.model_json_schema()
    for name, field in model.model_fields.items():
        values = _values(schema["properties"][name], schema.get("$defs", {}))
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{name}` | {values} | {_default(field)} | {meaning} |"
    yield ""
    for name, field in model.model_fields.items():
        inner = section_of(field.annotation)
        if inner is not None:
            yield from _section(inner, (*path, name))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is PydanticUndefined or isinstance(value, Section) or value in ((), {}):
        return ""
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _values(schema: dict[str, Any], known: dict[str, Any]) -> str:
    if "$ref" in schema:
        return "a section"
    if "anyOf" in schema:
        return ", ".join(dict.fromkeys(_values(option, known) for option in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any")
    if kind == "array":
        inner: dict[str, Any] = schema.get("items") or schema["prefixItems"][0]
        return f"list of {_values(inner, known)}"
    names = {"object": "mapping", "boolean": "`true`, `false`", "string": "text"}
    return str(names.get(kind, kind)) + _bounds(schema)


def _bounds(schema: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    shown = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    return " " + ", ".join(shown) if shown and schema.get("maximum", 0) < 2**60 else ""
