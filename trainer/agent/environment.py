"""The environment of a script's worker: what torchrun would give it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Template

from trainer.agent.endpoint import split_endpoint
from trainer.agent.launch import Script


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A worker's place in a generation."""

    rank: int
    local_rank: int
    group_rank: int
    world_size: int
    local_world_size: int
    group_world_size: int
    store: str
    restarts: int


def script_environment(
    base: Mapping[str, str],
    script: Script,
    place: Place,
    *,
    run_id: str,
    max_restarts: int,
    error_file: str,
) -> dict[str, str]:
    """`base` with torchrun's variables. Ranks of one role are the global ranks."""
    host, port = split_endpoint(place.store)
    env = dict(base)
    env.update(script.env)
    env |= {
        "RANK": str(place.rank),
        "LOCAL_RANK": str(place.local_rank),
        "GROUP_RANK": str(place.group_rank),
        "ROLE_RANK": str(place.rank),
        "ROLE_NAME": script.role,
        "WORLD_SIZE": str(place.world_size),
        "LOCAL_WORLD_SIZE": str(place.local_world_size),
        "GROUP_WORLD_SIZE": str(place.group_world_size),
        "ROLE_WORLD_SIZE": str(place.world_size),
        "MASTER_ADDR": script.master[0] or host,
        "MASTER_PORT": str(script.master[1] or port),
        "TORCHELASTIC_RESTART_COUNT": str(place.restarts),
        "TORCHELASTIC_MAX_RESTARTS": str(max_restarts),
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCHELASTIC_ERROR_FILE": error_file,
    }
    env.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    if place.local_world_size > 1:
        env.setdefault("OMP_NUM_THREADS", "1")
    if script.virtual_local_rank:
        visible = base.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible is not None else []
        own = devices[place.local_rank].strip() if devices else str(place.local_rank)
        env |= {"LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": own}
    return env


def fill_arguments(argv: Sequence[str], local_rank: int) -> list[str]:
    """`${local_rank}` filled in; other dollars stay."""
    return [Template(word).safe_substitute(local_rank=str(local_rank)) for word in argv]
