"""The optimizer over named parameters, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from trainer.job import OptimizerSection

MOMENTS = ("exp_avg", "exp_avg_sq")


def make_optimizer(
    section: OptimizerSection, parameters: Mapping[str, nn.Parameter], device: torch.device
) -> torch.optim.AdamW:
    """AdamW; matrices decay, vectors (norms, biases) don't. Its state exists from the start."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    fused = device.type == "cuda" if section.fused == "auto" else section.fused
    optimizer = torch.optim.AdamW(
        [
            {"params": group, "weight_decay": decay}
            for group, decay in ((matrices, section.weight_decay), (vectors, 0.0))
            if group
        ],
        lr=section.lr,
        betas=section.betas,
        eps=section.eps,
        fused=fused,
        foreach=None if fused else True,
    )
    for parameter in parameters.values():
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=device if fused else "cpu"),
            **{moment: torch.zeros_like(parameter) for moment in MOMENTS},
        }
    return optimizer


def optimizer_tensors(
    optimizer: torch.optim.AdamW, parameters: Mapping[str, nn.Parameter]
) -> Iterator[tuple[str, Tensor]]:
    """The moments, named after their parameter, so that no mesh can mix them up."""
    for name, parameter in parameters.items():
        for moment in MOMENTS:
            yield f"{name}/{moment}", optimizer.state[parameter][moment]


def set_optimizer_step(optimizer: torch.optim.AdamW, step: int) -> None:
    """Every parameter has seen as many steps as the state has versions."""
    for state in optimizer.state.values():
        state["step"].fill_(float(step))
