"""What several ranks hold alike is compared: after a generation's first step, before each copy of
the state that outlives its process, after a recovery from memory, and at the end.

Everywhere else one rank's copy is taken for all. A loop that wraps nothing trains as many models as
there are ranks; a mirror, a checkpoint or a lost rank's successor would put them together from
parts of several, and the hash of one would be the run's.

One exchange of a few hundred bytes each time, and one pass over what is held more than once. What
may differ (running statistics of a batch norm, a loader's place) is told once, and what is kept of
it is rank 0's.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from trainer.checkpoint.exchange import Exchange
from trainer.checkpoint.fingerprint import digest_of, fingerprint
from trainer.checkpoint.tensors import LocalTensor, host_bytes, put_bytes
from trainer.errors import ReplicasDiffer
from trainer.worker.replicas.held import (
    Difference,
    Group,
    Named,
    difference,
    differing,
    digests,
    grouped,
    held_once,
    holders_of,
    layout_fault,
    layout_signature,
    named_tensors,
    rows_of,
    split_settings,
)

SETTINGS, LOOSE_SETTINGS = "settings", "loose settings"
"""The signatures of two groups that every rank has: plain values, and those that may differ."""
SETTINGS_REMEDY = "give every rank the same (a rate, a schedule)"


class Compared(Protocol):
    """What is needed of a state; see trainer/worker/state.py."""

    version: int

    @property
    def local(self) -> Mapping[str, LocalTensor]:
        """The parts that this rank holds."""

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor, a DTensor where ranks share it out."""

    def values(self) -> dict[str, Any]:
        """Plain values."""

    def may_differ(self) -> Collection[str]:
        """Tensors, and paths of values (`own/extra/loader`), of which rank 0's count."""

    def take_values(self, values: Mapping[str, Any]) -> None:
        """Rank 0's, by their paths, of those that may differ."""


class ReplicaCheck:
    """One rank's part in the comparisons of one generation; every method is collective."""

    def __init__(
        self, exchange: Exchange, *, remedy: str, report: Callable[[Difference], None]
    ) -> None:
        """`remedy` ends the error. `report` is called, on rank 0, for what differs and may."""
        self._exchange = exchange
        self._remedy = remedy
        self._report = report
        self._local: Mapping[str, LocalTensor] | None = None
        """The state's, from which `_tensors`, `_signature` and `_groups` were made."""
        self._tensors: list[Named] = []
        self._signature = ""
        self._groups: list[Group] = []
        self._signatures: list[str] = []
        """Of all ranks, when it was last agreed on who has which tensors."""
        self._holders: dict[str, list[int]] = {}
        """By tensor, the layouts that have it; empty while all ranks have one layout."""
        self._lonely: set[str] = set()
        """The signatures of groups that no other rank has: nothing is hashed of these again."""
        self._told: set[str] = set()
        """The signatures of groups of which it is known that they differ, and may."""
        self._alike: int | None = None
        """The version at which all was found to be alike last, in this generation."""

    def compare(self, state: Compared) -> None:
        """Return once all ranks are known to hold alike what they have to.

        Raises ReplicasDiffer, on every rank, where they don't. What may differ is rank 0's
        afterwards in all that is kept of the state.
        """
        if self._exchange.world_size == 1:
            return  # nobody to compare with, and nothing is said of others
        self._look(state)
        loose = state.may_differ()
        rows = self._exchange.all_gather(self._row(state, loose))
        signatures = [row["layout"] for row in rows]
        if len(set(signatures)) > 1 and signatures != self._signatures:
            self._agree(signatures, state)
            rows = self._exchange.all_gather(self._row(state, loose))
        found = [row["groups"] for row in rows]
        self._lonely |= held_once(found)
        if odd := differing(found):
            self._resolve(odd, state, loose)
        self._alike = state.version

    def _look(self, state: Compared) -> None:
        """Take note of the tensors, where they are others than before."""
        if state.local is self._local:
            return
        self._local = state.local
        self._tensors = named_tensors(state.tensors(), state.may_differ())
        self._signature = layout_signature(self._tensors)
        self._groups = grouped(self._tensors, state.local, self._holders)

    def _agree(self, signatures: list[str], state: Compared) -> None:
        """Hear who has which tensors: one rank speaks for all of one layout."""
        speakers = [signatures.index(signature) for signature in dict.fromkeys(signatures)]
        layouts = [
            self._exchange.broadcast(
                rows_of(self._tensors) if self._exchange.rank == speaker else None, source=speaker
            )
            for speaker in speakers
        ]
        if fault := layout_fault(layouts, speakers):
            raise ReplicasDiffer(fault)
        self._signatures = signatures
        self._holders = holders_of(layouts)
        self._groups = grouped(self._tensors, state.local, self._holders)

    def _row(self, state: Compared, loose: Collection[str]) -> dict[str, Any]:
        prints = {
            group.signature: fingerprint(_views(group, state.local))
            for group in self._groups
            if group.signature not in self._lonely
        }
        strict, may_differ = split_settings(state.values(), loose)
        prints |= {SETTINGS: digest_of(strict), LOOSE_SETTINGS: digest_of(may_differ)}
        return {"layout": self._signature, "groups": prints}

    def _resolve(self, odd: Sequence[str], state: Compared, loose: Collection[str]) -> None:
        """Find out what it is that differs in these groups."""
        mine = {group.signature: group for group in self._groups if group.signature in odd}
        if not self._told.issuperset(odd):
            found = self._differences(odd, mine, state, loose)
            if different := [item for item in found if not item.loose]:
                raise ReplicasDiffer(self._text(different, state.version))
            self._told.update(odd)
            if self._exchange.rank == 0:
                for item in found:
                    self._report(item)
        self._take_first(mine, state, loose)

    def _differences(
        self,
        odd: Sequence[str],
        mine: Mapping[str, Group],
        state: Compared,
        loose: Collection[str],
    ) -> list[Difference]:
        strict, may_differ = split_settings(state.values(), loose)
        details: dict[str, Any] = {
            signature: [group.loose, _prints(group, state.local)]
            for signature, group in mine.items()
        }
        details |= {SETTINGS: [False, digests(strict)], LOOSE_SETTINGS: [True, digests(may_differ)]}
        told = self._exchange.all_gather({key: details[key] for key in odd if key in details})
        found = []
        for key in odd:
            rows = [row.get(key) for row in told]
            may = next(bool(row[0]) for row in rows if row is not None)
            of_ranks = [None if row is None else row[1] for row in rows]
            if different := difference(of_ranks, group=key, loose=may):
                found.append(different)
        return found

    def _text(self, found: Sequence[Difference], version: int) -> str:
        first, count = found[0], sum(item.count for item in found)
        what = first.shown if count == 1 else f"{first.shown} and {count - 1} more"
        before = "" if self._alike is None else f" (but not after step {self._alike})"
        return (
            f"{what} {'differs' if count == 1 else 'differ'} between ranks {first.rank} and "
            f"{first.other} after step {version}{before}, and one rank's would be taken for all: "
            f"{SETTINGS_REMEDY if first.group == SETTINGS else self._remedy}"
        )

    def _take_first(
        self, mine: Mapping[str, Group], state: Compared, loose: Collection[str]
    ) -> None:
        """Take rank 0's, in what is kept of the state. What is live is the user's."""
        names = [name for group in mine.values() if group.loose for name in group.names]
        given = None
        if self._exchange.rank == 0:
            given = {
                "tensors": {name: _packed(state.local[name]) for name in names},
                "settings": split_settings(state.values(), loose)[1],
            }
        given = self._exchange.broadcast(given)
        if self._exchange.rank > 0:
            for name, parts in given["tensors"].items():
                if name in names:
                    _unpack(state.local[name], parts)
            state.take_values(given["settings"])


def _views(group: Group, local: Mapping[str, LocalTensor]) -> list[Tensor]:
    return [part.local for name in group.names for part in local[name].parts]


def _prints(group: Group, local: Mapping[str, LocalTensor]) -> dict[str, str]:
    """Of each tensor by itself."""
    return {
        name: fingerprint([part.local.cpu() for part in local[name].parts]) for name in group.names
    }


def _packed(tensor: LocalTensor) -> list[str]:
    return [base64.b64encode(host_bytes(part.local).tobytes()).decode() for part in tensor.parts]


def _unpack(tensor: LocalTensor, parts: Sequence[str]) -> None:
    for part, data in zip(tensor.parts, parts, strict=True):
        # A copy, as torch wants memory that it could write to.
        put_bytes(part.local, np.frombuffer(bytearray(base64.b64decode(data)), dtype=np.uint8))
