"""Addresses as the agent and its workers tell them to each other. Imports no torch."""

from __future__ import annotations


def split_endpoint(endpoint: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port`. Raises ValueError for anything else."""
    host, separator, port = endpoint.rpartition(":")
    if not separator or not port.isdigit():
        raise ValueError(f"{endpoint!r} is not host:port")
    return host.removeprefix("[").removesuffix("]"), int(port)
