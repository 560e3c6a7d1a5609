"""YAML as a job file needs it: lines kept, doubled keys refused, and YAML 1.2's plain scalars.

PyYAML follows YAML 1.1, in which `1:4` is the number 64, `1e-4` a text and `no` a boolean.

A file may be anybody's: its length, its depth, how many values it comes to (an alias counts each
time it is used) and how long its numbers are, is bounded before anything is made of them.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from trainer.errors import JobError
from trainer.outside.echo import cut, shown

KeyPath = tuple[str | int, ...]
MAX_CHARACTERS = 128 << 10
"""Of a document: a job file has a few thousand, and what follows takes a second at most."""
MAX_DEPTH = 32
MAX_VALUES = 50_000
MAX_DIGITS = 20
"""Of a whole number: 64 bits have so many."""

_INT = re.compile(r"^[-+]?(?:0x[0-9a-fA-F]+|0o[0-7]+|[0-9][0-9_]*)$")
_FLOAT = re.compile(r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$")
_WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip


def parse(text: str, source: str) -> tuple[dict[str, Any], dict[KeyPath, int]]:
    """A document and the line of each of its keys.

    Raises:
        JobError: it is no YAML, has a key twice, or is no mapping.
    """
    node = _compose(text, source)
    if node is None:
        raise JobError(f"{source}: the job file is empty")
    converter = _Converter(source)
    value = converter.convert(node, (), 0)
    if not isinstance(value, dict):
        raise JobError(f"{source}:1: a job file is a mapping of sections, such as `model:`")
    return value, converter.lines


def parse_value(text: str, source: str) -> Any:
    """The value of an override: a scalar, or YAML's `[a, b]` and `{a: 1}`."""
    node = _compose(text, source)
    return None if node is None else _Converter(source).convert(node, (), 0)


class _Loader(yaml.SafeLoader):
    """Stops before Python's own stack does."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH + 1:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _compose(text: str, source: str) -> yaml.Node | None:
    if len(text) > MAX_CHARACTERS:
        raise JobError(f"{source}: it has more than {MAX_CHARACTERS} characters")
    try:
        return yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise JobError(f"{place}: no valid YAML: {cut(problem)}") from None


class _Converter:
    """From nodes to plain values; `lines` are those of the keys and items."""

    def __init__(self, source: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._source = source
        self._values = 0

    def convert(self, node: yaml.Node, path: KeyPath, depth: int) -> Any:
        """Raises JobError."""
        line = node.start_mark.line + 1
        if depth > MAX_DEPTH:
            raise JobError(f"{self._source}:{line}: nested too deeply")
        self._values += 1
        if self._values > MAX_VALUES:
            raise JobError(
                f"{self._source}:{line}: it comes to more than {MAX_VALUES} values, aliases counted"
                " each time they are used"
            )
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
            return [
                self.convert(item, (*path, index), depth + 1)
                for index, item in enumerate(node.value)
            ]
        result: dict[str, Any] = {}
        for key_node, item in node.value:
            key_line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise JobError(f"{self._source}:{key_line}: a key must be a plain word")
            key = key_node.value
            if key in result:
                dotted = cut(".".join(map(str, (*path, key))))
                raise JobError(f"{self._source}:{key_line}: {dotted} is given twice; remove one")
            self.lines[(*path, key)] = key_line
            result[key] = self.convert(item, (*path, key), depth + 1)
        return result

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        value = _scalar(node)
        if value is _TOO_LONG:
            line = node.start_mark.line + 1
            raise JobError(
                f"{self._source}:{line}: {shown(node.value)} is too large a number; quote it if it "
                "is a text"
            )
        return value


_TOO_LONG = object()


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.style in ("'", '"', "|", ">") or node.tag == "tag:yaml.org,2002:binary":
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        digits = text.replace("_", "")
        if len(digits.lstrip("+-")) > MAX_DIGITS:
            return _TOO_LONG
        return int(digits, 0 if digits.lstrip("+-")[:2] in ("0x", "0o") else 10)
    if not _FLOAT.match(text):
        return text
    value = float(text.replace("_", ""))
    return value if math.isfinite(value) else _TOO_LONG
