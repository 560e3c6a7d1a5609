"""Functions of the user's own that a job names as `package.module:function`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from trainer.errors import JobError
from trainer.namesake import NAME, hidden


def find_factory(address: str, key: str) -> Callable[..., Any]:
    """The function at `package.module:function`.

    Raises:
        JobError: there is none.
    """
    module_name, _, function_name = address.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        ours = (error.name or "").partition(".")[0] == NAME
        why = (ours and hidden()) or "is its directory on PYTHONPATH?"
        raise JobError(f"{key}: can't import {module_name}: {error}; {why}") from error
    found: Any = module
    for part in function_name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        told = f"{key}: {module_name} has no function {function_name}"
        ours = module_name.partition(".")[0] == NAME
        raise JobError(f"{told}; {why}" if ours and (why := hidden()) else told)
    function: Callable[..., Any] = found
    return function


def call_factory(factory: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> Any:
    """Call it with the job's arguments.

    Raises:
        JobError: the arguments don't fit its parameters.
    """
    check_arguments(factory, arguments, what)
    return factory(**arguments)


def check_arguments(factory: Callable[..., Any], arguments: Mapping[str, Any], what: str) -> None:
    """Raise JobError where the job's arguments don't fit its parameters."""
    try:
        inspect.signature(factory).bind(**arguments)
    except TypeError as error:
        raise JobError(f"{what}: its args don't fit: {error}") from None
