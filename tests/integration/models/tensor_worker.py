"""One of two tensor-parallel ranks: the decoder cut every way, against the whole decoder.

    python tensor_worker.py RANK STORE_FILE

Prints one JSON object a case on rank 0: the difference of the losses, and the largest relative
difference of a gradient.
"""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from itertools import product

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.distributed.tensor.parallel import loss_parallel, parallelize_module

from trainer.job import from_mapping
from trainer.models import Stage, build_spec, initial_value

CPU = torch.device("cpu")


def main(rank: int, store: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("tp",))
    job = from_mapping(
        {"model": {"preset": "debug", "layers": 2, "dropout": 0.1}, "data": {"seq_len": 32}}
    )
    spec = build_spec(job)
    tokens = torch.randint(0, 256, (3, 32), generator=torch.Generator().manual_seed(1))
    keys = torch.arange(3)

    whole = build(spec)
    expected = spec.loss(whole(tokens, keys), tokens)
    expected.backward()
    for sequence, loss_is_cut in product((True, False), repeat=2):
        cut = build(spec, mesh, sequence, loss_is_cut)
        with loss_parallel() if loss_is_cut else nullcontext():
            loss = spec.loss(cut(tokens, keys), tokens)
            loss.backward()
        full = loss.full_tensor() if isinstance(loss, DTensor) else loss
        worst = 0.0
        for (_, one), (_, other) in zip(
            cut.named_parameters(), whole.named_parameters(), strict=True
        ):
            difference = (one.grad.full_tensor() - other.grad).abs().max()
            worst = max(worst, (difference / other.grad.abs().max()).item())
        if rank == 0:
            relative = abs(full.item() / expected.item() - 1)
            case = {"sequence": sequence, "loss_is_cut": loss_is_cut}
            print(json.dumps({**case, "loss": relative, "gradient": worst}), flush=True)
    dist.destroy_process_group()


def build(spec, mesh=None, sequence=False, loss_is_cut=False):
    with torch.device("meta"):
        model = spec.build(Stage(index=0, count=1))
    if mesh is not None:
        plan = spec.tensor_plan(model, sequence, loss_is_cut)
        assert plan.loss_is_cut == loss_is_cut
        parallelize_module(model, mesh, dict(plan.styles))
        if sequence:
            spec.shard_sequence(model, mesh.get_local_rank(), mesh.size())
    model.to_empty(device=CPU)
    spec.after_materialize(model, CPU)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            value = initial_value(spec.init_rule(name), name, parameter.shape, 0)
            if mesh is not None:
                assert isinstance(parameter, DTensor), f"{name} is not on the tp mesh"
                value = distribute_tensor(value, mesh, parameter.placements)
            parameter.copy_(value)
    return model


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
