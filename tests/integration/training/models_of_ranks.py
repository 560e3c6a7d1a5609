"""Factories that are not the same function on every rank, as users write them by mistake."""

from __future__ import annotations

import os

import torch
from torch import nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from tests.unit.models.models_of_users import Bigram


def begun_by_rank() -> nn.Module:
    model = Bigram()
    with torch.no_grad():
        model.body[2].bias += float(os.environ["RANK"])
    return model


def updated_by_rank() -> nn.Module:
    """It begins alike; but what its author hangs on to the optimizer knows the rank."""
    model = Bigram()

    def push(optimizer: torch.optim.Optimizer, *_: object) -> None:
        optimizer.param_groups[0]["params"][0].add_(float(os.environ["RANK"]))

    register_optimizer_step_post_hook(push)
    return model
