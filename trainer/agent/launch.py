"""What one agent is asked to run. Made by the command, read by the agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from pathlib import Path
from typing import Any

from rendezvous.generation import Generation


class Stream(IntFlag):
    """Output streams of a worker, as torchrun numbers them."""

    NONE = 0
    OUT = 1
    ERR = 2
    BOTH = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What of the workers' output reaches the console; the log files always get all of it.

    `redirects` and `tee` map a local rank to streams; ranks that are missing have none.
    `ranks`: local ranks shown at all; None means every one.
    """

    redirects: Mapping[int, Stream] = field(default_factory=dict)
    tee: Mapping[int, Stream] = field(default_factory=dict)
    ranks: frozenset[int] | None = None
    prefix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Workers that live for one generation: a program of the user's, with torchrun's environment.

    `${local_rank}` in an argument is filled in. `master` overrides the address and port that
    rank 0 listens on.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    role: str = "default"
    virtual_local_rank: bool = False
    master: tuple[str | None, int | None] = (None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """Workers that stay alive over generations and speak `trainer.channel`.

    `own`: it is a program of the user's, whose output is for the console too. `mirrors`: each
    node also keeps another one's state. `storage_options` are those of the job's checkpoints.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    standby: int = 0
    interrupt_seconds: float = 5.0
    hang_seconds: float | None = None
    total_steps: int | None = None
    topology: str | None = None
    own: bool = False
    mirrors: bool = False
    storage_options: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """How notice of a preemption is heard: looked for every `every` seconds.

    The command may take `patience` seconds; later it is taken for a no.
    """

    command: tuple[str, ...] = ()
    file: Path | None = None
    every: float = 5.0
    patience: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """What the rendezvous is told; `endpoints` empty means a service inside this agent.

    `options` are further fields of the job's spec; `files` are the paths of tls_ca, tls_cert,
    tls_key and token_file, those that are given.
    """

    endpoints: tuple[str, ...] = ()
    min_nodes: int = 1
    max_nodes: int = 1
    max_restarts: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def credentials(self) -> dict[str, str]:
        """`files` by the names that `Security.from_files` has for them."""
        return {key.removeprefix("tls_"): path for key, path in self.files.items()}

    @property
    def token(self) -> str:
        """What opens the job at its service; empty where it needs nothing. Raises OSError."""
        token_file = self.files.get("token_file")
        return Path(token_file).read_text().strip() if token_file else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One node's share of a job.

    `private`: nobody but this user is to read `job_text`, or how the run was started.
    `mesh` names the mesh of a generation, for people to read; `plan` says what would follow from
    the loss of one of its nodes; `kept` is how many bytes of state a rank of it copies to shared
    memory, None where that is not known before.
    """

    run_id: str
    directory: Path
    job_text: str
    private: bool = False
    slots: int
    workers: Script | Loop
    membership: Membership
    logs: Path | None = None
    console: Console = field(default_factory=Console)
    node: str | None = None
    local_address: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    signals: tuple[int, ...] = ()
    shutdown_seconds: float = 30.0
    drain_seconds: float = 30.0
    probe: Probe | None = None
    mesh: Callable[[Generation], str] | None = None
    plan: Callable[[Generation, str], dict[str, Any]] | None = None
    kept: Callable[[Generation], int | None] = lambda generation: None
