"""The last exchange of a job: after it, every rank knows that all of them are done.

No rank can know that the others have heard this too. It need not: whoever has the answer knows
that all steps are done and that what was to be saved is in storage, and that does not change
any more, whoever is lost from here on.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.checkpoint.exchange import Exchange


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreedEnd:
    """What all ranks know of the end.

    `saved`: what was to be saved last is in storage. `digest` is the hash of all weights, None
    where they have none in common.
    """

    saved: bool
    digest: str | None


def agree_on_the_end(exchange: Exchange, *, saved: bool, digest: str | None) -> AgreedEnd:
    """Collective, after the last step and the last save. `digest` may be known to one rank only,
    and is empty on the others."""
    told = exchange.all_gather([saved, digest])
    return AgreedEnd(
        saved=all(saved for saved, _ in told),
        digest=next((digest for _, digest in told if digest), None),
    )
