"""The names of a run's and a checkpoint's files that are also read: from a listing, a manifest, a
description, a peer. What each writer makes, and nothing else; `named` (see `trainer.outside.names`)
takes them in. Pure.
"""

from __future__ import annotations

from trainer.outside.names import NODE, RUN_ID, Form, named

__all__ = ["NODE", "RUN_ID", "Form", "attempt_name", "named"]

STDIN = "-"
"""In place of a job file's path: the standard input."""
_ATTEMPT = r"v[0-9]{8,19}-g[0-9]{5,19}-[0-9a-f]{8}"
_RANK = r"[0-9]{5,9}"

ATTEMPT = Form(
    "attempt",
    _ATTEMPT,
    "v, 8 digits, -g, 5 digits, - and 8 hexadecimal digits, as in v00000100-g00001-5f3a90c1",
)
"""Names a directory below a checkpoint directory's `data/`."""
DATA_PATH = Form(
    "data file",
    rf"data/{_ATTEMPT}/{_RANK}(\.{NODE.pattern})?\.safetensors",
    "data/ATTEMPT/RANK.safetensors, or RANK.NODE.safetensors for what a node wrote of a mirror",
)
"""Where a rank's data file lies in a checkpoint directory: three parts."""
RECORD = Form("record", r"[0-9]{8}\.json", "8 digits and .json")
"""A record's file in `log/`."""
RECEIPT = Form("receipt", rf"{_RANK}\.receipt\.json", "a rank's 5 digits and .receipt.json")
"""Beside the data files of an attempt that is on its way."""
FAILURE = Form("failure", rf"{_RANK}\.failed\.json", "a rank's 5 digits and .failed.json")
"""The same for a part that will never come."""
READER = Form("reader", rf"{_ATTEMPT}\.[0-9a-f]{{8}}", "an attempt, `.` and 8 hexadecimal digits")
"""A file in `readers/`: somebody reads that attempt."""
MIRROR = Form("mirror", rf"{NODE.pattern}-own-[0-9]{{1,5}}", "NODE-own-LOCAL_RANK")
"""Whose staged state it is that another node's agent sends."""
SAFETENSORS_FILE = Form(
    "safetensors file",
    r"[A-Za-z0-9_][A-Za-z0-9 ._+=@-]{0,200}\.safetensors",
    "a plain file name that ends in .safetensors",
)
"""A part of a foreign checkpoint, by its index: it lies beside the index."""
DCP_FILE = Form("part", r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.distcp", "as in __0_0.distcp")
"""A part of torch's distributed checkpoint, by its metadata: it lies beside the metadata."""


def attempt_name(version: int, generation: int, token: str) -> str:
    """A new attempt's. Raises ValueError for numbers that no attempt can have."""
    given = f"the attempt of version {version} in generation {generation}"
    return named(ATTEMPT, f"v{version:08d}-g{generation:05d}-{token}", given=given)
