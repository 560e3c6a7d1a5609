"""YAML as a job file needs it: lines kept, doubled keys refused, and YAML 1.2's plain scalars.

PyYAML follows YAML 1.1, in which `1:4` is the number 64, `1e-4` a text and `no` a boolean.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from trainer.errors import JobError

KeyPath = tuple[str | int, ...]

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
    lines: dict[KeyPath, int] = {}
    node = _compose(text, source)
    if node is None:
        raise JobError(f"{source}: the job file is empty")
    value = _convert(node, (), lines, source, 0)
    if not isinstance(value, dict):
        raise JobError(f"{source}:1: a job file is a mapping of sections, such as `model:`")
    return value, lines


def parse_value(text: str, source: str) -> Any:
    """The value of an override: a scalar, or YAML's `[a, b]` and `{a: 1}`."""
    node = _compose(text, source)
    return None if node is None else _convert(node, (), {}, source, 0)


def _compose(text: str, source: str) -> yaml.Node | None:
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{source}:{mark.line + 1}" if mark is not None else source
        raise JobError(f"{place}: no valid YAML: {getattr(error, 'problem', error)}") from None


def _convert(
    node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], source: str, depth: int
) -> Any:
    line = node.start_mark.line + 1
    if depth > 32:
        raise JobError(f"{source}:{line}: nested too deeply")
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*path, index)] = item.start_mark.line + 1
        return [
            _convert(item, (*path, index), lines, source, depth + 1)
            for index, item in enumerate(node.value)
        ]
    result: dict[str, Any] = {}
    for key_node, item in node.value:
        key_line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            raise JobError(f"{source}:{key_line}: a key must be a plain word")
        key = key_node.value
        if key in result:
            raise JobError(
                f"{source}:{key_line}: {'.'.join(map(str, (*path, key)))} is given twice; "
                "remove one"
            )
        lines[(*path, key)] = key_line
        result[key] = _convert(item, (*path, key), lines, source, depth + 1)
    return result


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    if node.style in ("'", '"', "|", ">") or node.tag == "tag:yaml.org,2002:binary":
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.match(text):
        digits = text.replace("_", "")
        return int(digits, 0 if digits.lstrip("+-")[:2] in ("0x", "0o") else 10)
    return float(text.replace("_", "")) if _FLOAT.match(text) else text
