"""How a generation ends for one rank, and how its agent is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch.distributed as dist

from trainer.channel import Message
from trainer.errors import ContactLost

LOST_CONTACT = ("gloo", "NCCL", "Connection", "Broken pipe", "Socket")
"""Words of the messages with which torch's collectives tell that a peer is gone."""

BROKEN_GROUP = (ContactLost, dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """The generation ended before the job did.

    `stopped`: why all ranks have agreed to go no further, once they had saved; else empty.
    """

    generation: int
    version: int
    reason: str
    detail: str
    stopped: str = ""

    def message(self) -> Message:
        """What the agent is told."""
        return {
            "type": "left",
            "generation": self.generation,
            "version": self.version,
            "reason": self.reason,
            "error": self.detail,
            "stopped": self.stopped,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The job is done (`completed`), or has come to `train.stop_at` (`stopped`).

    `agreed`: all ranks of the generation know that all of them have come so far, and that what was
    to be saved is. Nobody else has to be heard for the job to be over.
    """

    generation: int
    status: str
    summary: dict[str, Any]
    agreed: bool = False

    def message(self) -> Message:
        """What the agent is told."""
        return {
            "type": "finished",
            "generation": self.generation,
            "status": self.status,
            "summary": self.summary,
            "agreed": self.agreed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Spared:
    """This rank has no place in the mesh and waits as a spare."""

    generation: int

    def message(self) -> Message:
        """What the agent is told."""
        return {"type": "spare", "generation": self.generation}


Outcome = Left | Finished | Spared


def lost_contact(error: BaseException) -> bool:
    """Whether a collective or the store failed because a peer is gone.

    The pipeline wraps what its stages raise, so causes are looked at too.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BROKEN_GROUP):
            return True
        if isinstance(cause, RuntimeError) and any(word in str(cause) for word in LOST_CONTACT):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
