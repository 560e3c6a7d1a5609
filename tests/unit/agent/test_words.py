"""What a worker says is what its agent hears: every message, and every key of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trainer.agent.words import SHAPES, heard
from trainer.worker.outcome import Finished, Left, Spared

WORKER = Path(__file__).parents[3] / "trainer/worker"
FREE = ("event",)
"""Kinds of which every key is written down as it is."""


def keys_in(node: ast.AST) -> Iterator[str]:
    """What is put into mappings below: the keys of literals, and those that are set by name."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Dict):
            keys = [key for key in inner.keys if key is not None]
        elif isinstance(inner, ast.Subscript) and isinstance(inner.ctx, ast.Store):
            keys = [inner.slice]
        else:
            continue
        yield from (k.value for k in keys if isinstance(k, ast.Constant) and type(k.value) is str)


def said() -> Iterator[tuple[str, frozenset[str]]]:
    """The kind and the keys of each message in the worker's source."""
    for path in sorted(WORKER.rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                match node:
                    case ast.Call(
                        func=ast.Attribute(attr="say"), args=[ast.Constant(value=str(kind))]
                    ):
                        keys = {keyword.arg for keyword in node.keywords if keyword.arg}
                        if any(keyword.arg is None for keyword in node.keywords):
                            keys |= set(keys_in(function))
                        yield kind, frozenset(keys | {"generation"})
                    case ast.Dict(keys=[ast.Constant(value="type"), *_]):
                        if isinstance(node.values[0], ast.Constant):
                            keys = {k.value for k in node.keys if isinstance(k, ast.Constant)}
                            yield str(node.values[0].value), frozenset(keys - {"type"})


def test_every_key_of_every_message_has_a_kind() -> None:
    found = set(said())
    assert {kind for kind, _ in found} == set(SHAPES)
    for kind, keys in found:
        if kind not in FREE:
            assert keys <= set(SHAPES[kind].kinds), kind


SENT: list[dict[str, Any]] = [
    Left(generation=2, version=7, reason="boundary", detail="", stopped="asked").message(),
    Left(generation=2, version=7, reason="peer", detail="Connection closed\n" * 9000).message(),
    Finished(
        generation=2,
        status="completed",
        summary={"steps": 7, "final_loss": float("nan"), "weights_sha256": None},
        agreed=True,
    ).message(),
    Spared(generation=2).message(),
    {"type": "failed", "category": "job", "message": "m"},
    {"type": "failed", "category": "worker", "message": "m", "traceback": "t", "error": "e"},
    {"type": "step", "generation": 2, "step": 7, "again": True, "skipped": "loss is nan"},
    {"type": "step", "generation": 2, "step": 7, "loss": float("inf"), "lr": None, "tokens": 5},
    {"type": "event", "event": "step.skipped", "generation": 2, "step": 7, "reason": "r"},
    {"type": "staged", "generation": 2, "version": 7, "path": "/dev/shm/x"},
    {"type": "entered", "generation": 2, "version": -1, "mesh": {"dp": 2}, "seconds": {"a": 0.1}},
    {"type": "of a later version", "anything": []},
]


@pytest.mark.parametrize("message", SENT, ids=lambda message: message["type"])
def test_a_message_is_heard_as_it_was_said(message: dict[str, Any]) -> None:
    assert heard({**message, "later": 1}) == {**message, "later": 1}


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": 5},
        {"type": "left", "generation": 2, "version": 7, "stopped": ["x"]},
        {"type": "left", "generation": -1, "version": 7},
        {"type": "finished", "generation": 2, "status": "completed", "agreed": 1},
        {"type": "finished", "generation": 2, "status": "completed", "summary": {"steps": "7"}},
        {"type": "failed", "error": {"a": 1}},
        {"type": "step", "generation": 2},
        {"type": "step", "generation": 2, "step": 1 << 64},
    ],
    ids=str,
)
def test_what_an_agent_could_not_act_on_is_refused(message: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="message"):
        heard(message)
