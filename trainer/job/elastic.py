"""The `elastic` section: who takes part, and how patient the job is."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema

from trainer.job.section import Duration, Section
from trainer.outside.echo import shown
from trainer.outside.numbers import whole

MAX_NODES = 65_536
"""Of one job, as the rendezvous service takes them."""
MAX_SLOTS = 1024
"""Ranks of a node, as the rendezvous service takes them."""
MAX_RANKS = 1 << 18
"""Of one job: so many have a mesh within a second or two."""

NODES_PATTERN = r"^\d+(:\d+)?$"


def _nodes(value: Any) -> str:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not re.fullmatch(NODES_PATTERN, text.strip()):
        raise ValueError(f'{shown(value)} is no number of nodes; write 2, or "1:4" for one to four')
    first, _, second = text.strip().partition(":")
    low = whole(first, high=MAX_NODES, given="the number of nodes")
    high = whole(second or first, high=MAX_NODES, given="the number of nodes")
    if low < 1 or high < low:
        raise ValueError(f"{shown(text)} is an empty range; write MIN:MAX with 1 ≤ MIN ≤ MAX")
    return text.strip()


Nodes = Annotated[
    str,
    BeforeValidator(_nodes),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": NODES_PATTERN}]}
    ),
]


class ProbeSection(Section):
    """How a node hears that its machine is about to go."""

    command: tuple[str, ...] | None = Field(
        None, description="A command that exits 0 when notice has been given."
    )
    file: str | None = Field(None, description="A file that appears when notice has been given.")
    every: Duration = Field(5.0, description="Time between two looks.")


class ElasticSection(Section):
    """Nodes, slots, spares, mirrors and timeouts."""

    nodes: Nodes = Field(
        "1", description="Number of nodes, or MIN:MAX; below the minimum the job waits."
    )
    nproc_per_node: Literal["auto", "gpu", "cpu"] | int = Field(
        "auto", description="Ranks of a node: a number, or one for each accelerator or core."
    )
    replan: Literal["data", "pipeline", "tensor"] = Field(
        "pipeline",
        description="The farthest dimension that may change when no whole group fits any more: "
        "data alone, pipeline too, or tensor too.",
    )
    mirror_every: int = Field(
        10, ge=0, description="Steps between two copies of the state to other nodes; 0 makes none."
    )
    standby_per_node: Literal["auto"] | int = Field(
        "auto",
        description="Spare processes that have imported torch; auto is 1 on a node of two or "
        "more ranks, otherwise 0.",
    )
    wait: Duration = Field(
        600.0, description="Time the job waits below the minimum before it saves and leaves."
    )
    join_timeout: Duration = Field(
        600.0, description="Time the first nodes wait until the minimum is there."
    )
    last_call: Duration = Field(
        3.0, description="Time that is left for more nodes once the minimum is there."
    )
    grow_interval: Duration = Field(
        30.0, description="Shortest time between two generations begun for a joining node."
    )
    reconnect_grace: Duration = Field(
        0.2, description="Time in which a broken connection may come back before its node is lost."
    )
    beat_timeout: Duration = Field(
        1.0, description="Silence after which a connected node is taken for lost."
    )
    interrupt_timeout: Duration = Field(
        5.0, description="Time an interrupted worker has before it is replaced."
    )
    hang_timeout: Literal["auto"] | Duration = Field(
        "auto",
        description="Time without a step after which the rank that is behind is replaced; auto "
        "is ten median steps and at least 30 s.",
    )
    collective_timeout: Duration = Field(
        600.0, description="Time after which torch itself gives up a collective."
    )
    max_restarts: int = Field(
        3, ge=0, description="Failures of the job's own making before it fails; preemption is none."
    )
    node_failures: int = Field(
        3, gt=0, description="Failures of one node after which it is set aside."
    )
    drain_grace: Duration = Field(
        30.0, description="Time a leaving node has to finish its step and hand over its state."
    )
    topology: str | None = Field(
        None,
        description="The node label that names the rack or zone; mirrors are put in another one.",
    )
    probe: ProbeSection = Field(ProbeSection(), description="How notice of a preemption is heard.")

    @property
    def min_nodes(self) -> int:
        return int(self.nodes.partition(":")[0])

    @property
    def max_nodes(self) -> int:
        return int(self.nodes.rpartition(":")[2])
