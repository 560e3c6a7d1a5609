"""The environment of a script's worker: what torchrun would give it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template

from trainer.agent.launch import Script
from trainer.rank_environment import RankPosition, rank_variables


def script_environment(
    base: Mapping[str, str],
    script: Script,
    position: RankPosition,
    *,
    run_id: str,
    max_restarts: int,
    error_file: str,
) -> dict[str, str]:
    """`base` with torchrun's variables. What Slurm and MPI say stays, as it does with torchrun."""
    env = dict(base)
    env.update(script.env)
    env |= rank_variables(
        position,
        run_id=run_id,
        max_restarts=max_restarts,
        error_file=error_file,
        store_is_served=False,
        role=script.role,
    )
    master, port = script.master
    env |= {"MASTER_ADDR": master} if master else {}
    env |= {"MASTER_PORT": str(port)} if port else {}
    env.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1")
    if position.local_world_size > 1:
        env.setdefault("OMP_NUM_THREADS", "1")
    if script.virtual_local_rank:
        visible = base.get("CUDA_VISIBLE_DEVICES")
        devices = visible.split(",") if visible is not None else []
        own = devices[position.local_rank].strip() if devices else str(position.local_rank)
        env |= {"LOCAL_RANK": "0", "CUDA_VISIBLE_DEVICES": own}
    return env


def fill_arguments(argv: Sequence[str], local_rank: int) -> list[str]:
    """`${local_rank}` filled in, and `$$` made one, as torchrun does; other dollars stay."""
    return [Template(word).safe_substitute(local_rank=str(local_rank)) for word in argv]
