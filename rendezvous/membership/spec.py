"""What a job asks of its membership; the first node to join fixes it for the job's life."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from rendezvous.bounds import MAX_COUNT, MAX_SECONDS
from rendezvous.outside.fields import Fields


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """Bounds and waiting times of one job. All times are in seconds.

    Raises ValueError, naming the field, when a value is out of range or two are out of order.
    """

    min_nodes: int = 1
    """Below so many nodes no generation begins."""
    max_nodes: int = 1
    """At most so many nodes are in a generation; the others wait as spares."""
    node_multiple: int = 1
    """The number of nodes in a generation is a multiple of this."""
    max_restarts: int = 3
    """Failures that the job itself causes before it ends as failed; lost nodes don't count."""
    node_failures: int = 3
    """A node on which workers fail so often is set aside."""
    step_failures: int = 3
    """A step that fails so often, on different nodes where there are several, fails the job."""
    join_timeout: float = 600.0
    """How long the first generation may wait for `min_nodes`."""
    last_call: float = 1.0
    """How long the first generation waits for more nodes once there are `min_nodes`."""
    beat_timeout: float = 1.0
    """A node that was silent so long is lost."""
    reconnect_grace: float = 0.2
    """A node whose stream broke and did not come back so long is lost."""
    leader_grace: float = 5.0
    """How long a new leader waits for the members to come back before it misses any."""
    boundary_timeout: float = 60.0
    """How long the members may take to leave at the next step boundary."""
    grow_interval: float = 30.0
    """The job grows (or begins, or begins again) at most once in this time."""
    wait: float = 600.0
    """How long a job that has lost too many nodes waits for others before it stops."""

    def __post_init__(self) -> None:
        for name in ("min_nodes", "max_nodes", "node_multiple", "node_failures", "step_failures"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.max_restarts < 0:
            raise ValueError(f"max_restarts is {self.max_restarts}, it must not be negative")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not 0 <= value < float("inf"):
                raise ValueError(f"{field.name} is {value}, it must be zero or more seconds")
        if self.beat_timeout <= 0:
            raise ValueError("beat_timeout must be more than 0 s")
        if self.max_nodes < self.min_nodes:
            raise ValueError(f"max_nodes ({self.max_nodes}) is below min_nodes ({self.min_nodes})")
        if self.fitting(self.max_nodes) == 0:
            raise ValueError(
                f"no number of nodes from {self.min_nodes} to {self.max_nodes} "
                f"is a multiple of {self.node_multiple}"
            )
        if self.reconnect_grace > self.beat_timeout:
            raise ValueError(
                f"reconnect_grace ({self.reconnect_grace} s) is longer than "
                f"beat_timeout ({self.beat_timeout} s)"
            )
        if self.beat_timeout > self.leader_grace:
            raise ValueError(
                f"beat_timeout ({self.beat_timeout} s) is longer than "
                f"leader_grace ({self.leader_grace} s)"
            )

    def fitting(self, nodes: int) -> int:
        """The largest number of nodes that a generation can have out of `nodes`; 0 if none."""
        count = min(nodes, self.max_nodes)
        count -= count % self.node_multiple
        return count if count >= self.min_nodes else 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, said: Fields) -> JobSpec:
        """Reads what `to_dict` wrote; missing keys take the default. Raises ValueError."""
        given: dict[str, Any] = {
            field.name: said.number(field.name, 0, MAX_SECONDS)
            if isinstance(field.default, float)
            else said.whole(field.name, 0, MAX_COUNT)
            for field in fields(cls)
            if said.has(field.name)
        }
        return cls(**given)
