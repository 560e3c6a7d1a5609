"""torchrun's environment variables: which rank a process is, told to the libraries in it. Pure.

A script's process is born with them. A loop's process lives over generations and may be another
rank in each: it is born without them, and its worker sets all of them anew before the code of a
generation runs. Agent and worker both ask here, so that there is one answer. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trainer.address import split_endpoint

DEFAULT_ROLE = "default"
"""torchrun's name for workers that were given none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPosition:
    """A rank's position in a generation; a group is a node, as torchrun calls it.

    `store` (host:port) is where the generation's store is served; `restarts` counts the failures
    so far.
    """

    rank: int
    local_rank: int
    group_rank: int
    world_size: int
    local_world_size: int
    group_world_size: int
    store: str
    restarts: int


def rank_variables(
    position: RankPosition,
    *,
    run_id: str,
    max_restarts: int,
    error_file: str,
    store_is_served: bool,
    role: str = DEFAULT_ROLE,
) -> dict[str, str]:
    """Always the same keys, so that one generation's leave nothing of an earlier one's behind.

    Ranks of one role are the global ranks. `store_is_served`: at MASTER_ADDR:MASTER_PORT a store
    answers already, and whoever asks torch for one is its client; otherwise rank 0 serves it.
    """
    host, port = split_endpoint(position.store)
    return {
        "RANK": str(position.rank),
        "LOCAL_RANK": str(position.local_rank),
        "GROUP_RANK": str(position.group_rank),
        "ROLE_RANK": str(position.rank),
        "ROLE_NAME": role,
        "WORLD_SIZE": str(position.world_size),
        "LOCAL_WORLD_SIZE": str(position.local_world_size),
        "GROUP_WORLD_SIZE": str(position.group_world_size),
        "ROLE_WORLD_SIZE": str(position.world_size),
        "MASTER_ADDR": host,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RESTART_COUNT": str(position.restarts),
        "TORCHELASTIC_MAX_RESTARTS": str(max_restarts),
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_USE_AGENT_STORE": str(store_is_served),
        "TORCHELASTIC_ERROR_FILE": error_file,
    }


VARIABLES = frozenset(
    rank_variables(
        RankPosition(
            rank=0,
            local_rank=0,
            group_rank=0,
            world_size=1,
            local_world_size=1,
            group_world_size=1,
            store="localhost:0",
            restarts=0,
        ),
        run_id="",
        max_restarts=0,
        error_file="",
        store_is_served=False,
    )
)
"""The names of all of them."""

OTHER_LAUNCHERS = frozenset(
    {
        *(f"SLURM_{what}" for what in ("PROCID", "LOCALID", "NODEID", "GTIDS", "NNODES")),
        *(f"SLURM_{what}" for what in ("NTASKS", "NPROCS", "NTASKS_PER_NODE", "TASKS_PER_NODE")),
        *(f"SLURM_STEP_{what}" for what in ("NUM_NODES", "NUM_TASKS", "TASKS_PER_NODE")),
        *(f"PMI_{what}" for what in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")),
        *(f"PMIX_{what}" for what in ("RANK",)),
        *(
            f"{mpi}_COMM_WORLD_{what}"
            for mpi in ("OMPI", "MV2")
            for what in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "NODE_RANK")
        ),
        *(f"MPI_{what}" for what in ("LOCALRANKID", "LOCALNRANKS")),
        *(f"JSM_NAMESPACE_{what}" for what in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE")),
    }
)
"""With these Slurm and MPI number what *they* have started: agents, one a node. Libraries take
them for ranks, some before torchrun's own (accelerate asks for PMI_SIZE first)."""


def without_position(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment in which nothing claims to be a rank, whoever started the agent."""
    return {
        name: value
        for name, value in environ.items()
        if name not in VARIABLES and name not in OTHER_LAUNCHERS
    }
