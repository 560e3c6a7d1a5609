"""The language model's loss."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def summed_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum, in nats, of the token losses; targets of -100 count nothing.

    logits: [batch, sequence, vocab]; targets: [batch, sequence] int64.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), reduction="sum")
