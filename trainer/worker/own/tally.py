"""The all-reduce at which a step of a user's loop commits, and what it carries."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import SupportsIndex

from torch import Tensor

from trainer.checkpoint.exchange import Exchange
from trainer.exact import sum_of, whole_numbers
from trainer.worker.ballot import Wish

MOST_TOKENS = 1 << 40
"""Of one rank in one step: the sum over thousands of ranks is still exact in JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one rank has logged of a step; `loss` is None where it logged none."""

    loss: float | None = None
    tokens: int = 0


def loss_of(value: Tensor | float | None) -> Tensor | float | None:
    """The loss without its graph, left on its device. Raises ValueError where it is not one number.

    Not a number, or endless, is a number here: that is what a bad step's loss looks like.
    """
    if isinstance(value, Tensor):
        if value.numel() != 1:
            shape = list(value.shape)
            raise ValueError(f"log(loss=) takes one number, and got a tensor of shape {shape}")
        return value.detach()
    return None if value is None else float(value)


def tokens_of(value: SupportsIndex) -> int:
    """The count. Raises ValueError for what is none."""
    try:
        tokens = operator.index(value)
    except TypeError:
        tokens = -1
    if not 0 <= tokens <= MOST_TOKENS:
        raise ValueError(f"log(tokens=) takes how many there were, and got {str(value)[:200]}")
    return tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What all ranks agree on: the mean of the losses that were logged, and all tokens.

    Who has it knows that every rank has whole gradients.
    """

    loss: float | None = None
    tokens: int = 0
    leave: bool = False
    save: bool = False


def count(share: Share, wish: Wish, exchange: Exchange) -> Tally:
    """Collective over the world. Raises what the exchange raises where it can't be believed."""
    losses, tokens, leaving, saving, *loss = exchange.sum(
        [
            share.loss is not None,
            share.tokens,
            wish.leave,
            wish.save,
            *whole_numbers(share.loss or 0.0),
        ]
    )
    return Tally(
        loss=sum_of(loss) / losses if losses else None,
        tokens=tokens,
        leave=leaving > 0,
        save=saving > 0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What a survivor knows at the beginning of a generation.

    `version` is its state's, `tally` what made it.
    """

    version: int
    tally: Tally | None = None


def newest(accounts: Sequence[Account]) -> Account | None:
    """The newest version there is, and what made it. Pure."""
    known = [account for account in accounts if account.version > 0]
    return max(known, key=lambda a: (a.version, a.tally is not None), default=None)
